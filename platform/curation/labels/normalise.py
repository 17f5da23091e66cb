"""A label as somebody typed it → the text that it is compared by.

"Coca-Cola® Logo", "COCA COLA" and "Cocá_cola Inc." are one text after the rules below. They are applied in their order;
each takes a text and gives a text, so that one can be left out, or measured alone (`benchmarks.labels`).
"""

import html
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ftfy
from anyascii import anyascii

WORDS: dict[str, Any] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
LONGEST = 200  # characters of a label that are compared; nobody names a class with more

_JOINERS = "\u200c\u200d"  # they stand within words of Persian and of Indian scripts, and within emoji
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,31}\d{0,2});", re.IGNORECASE)
_STYLES = "\ufe0e\ufe0f"  # of emoji: drawn or written
_SIGNS = re.compile(r"[®™℠©Ⓡ🄬]|(?<=\S)\s*\((?:r|tm|c)\)", re.IGNORECASE)
_MARKS = re.compile(r"(?<=[a-z\u0370-\u03ff\u0400-\u052f])[\u0300-\u036f\u0483-\u0487]+")  # not those of other scripts
_LATIN = re.compile(r"[\u00c0-\u02af\u1e00-\u1eff]")
_TO_LATIN = {ord(letter): latin for letter, latin in WORDS["lookalikes"]}
_TO_CYRILLIC = {ord(latin): letter for letter, latin in WORDS["lookalikes"] if letter >= "\u0400"}
_LATIN_LETTER, _GREEK_CYRILLIC = re.compile("[A-Za-z]"), re.compile("[\u0370-\u03ff\u0400-\u052f]")
_NOT_CYRILLIC = re.compile("[A-Za-z\u0370-\u03ff]")
_WORD = re.compile(r"[\w\u0300-\u036f]+")
_OPEN, _SHUT = re.escape(WORDS["open"]), re.escape(WORDS["shut"])
_BRACKETS = re.compile(f"[{_OPEN}][^{_OPEN}{_SHUT}]*[{_SHUT}]")
_GAP, _END = r"[\s.,;:_/|([\-–—]+", r"[\s.,;:!?)\]'\"»”]*"


class Rule(NamedTuple):
    """One step on the way from a label to its key."""

    name: str
    apply: Callable[[str], str]


class _Characters(dict[str, str]):
    """What becomes of a character, asked once."""

    def __init__(self, of: Callable[[str], str]) -> None:
        self.of = of

    def __missing__(self, char: str) -> str:
        self[char] = self.of(char)
        return self[char]


def _seen(char: str) -> str:
    kind = unicodedata.category(char)
    if kind in ("Cc", "Cs", "Zl", "Zp", "Zs"):
        return " "
    hidden = kind in ("Cf", "Co", "Cn") and char not in _JOINERS
    return "" if hidden or char in _STYLES else char


def _kept(char: str) -> str:
    if char in _JOINERS or char in WORDS["quotes"]:
        return ""
    kind = unicodedata.category(char)
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    return char if kind[0] in "LMN" or kind == "So" or char in "&+#" else " "


_SEEN, _KEPT = _Characters(_seen), _Characters(_kept)


def _any_of(words: Sequence[str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join(re.escape(word).replace(r"\.", r"\.\s?") for word in longest_first)


def _ends(
    last: Sequence[str], first: Sequence[str], glued: Sequence[str], links: Sequence[str] = ()
) -> Callable[[str], str]:
    """A rule that takes words off a text's ends; never all that it says.

    Args:
        last: Words to take off its end.
        first: Words to take off its beginning.
        glued: Words to take off its end without a blank before them.
        links: Words between one of `first` and the rest, that go with it: "logo of".
    """
    ends = [
        re.compile(rf"(?<=\S){_GAP}(?:{_any_of(last)}){_END}$"),
        re.compile(rf"^[\s(\[«\"]*(?:{_any_of(first)})(?:\s+(?:{_any_of(links)}))*{_GAP}(?=\S)"),
        re.compile(rf"(?<=\w\w)(?:{_any_of(glued)})$"),
    ]

    def apply(text: str) -> str:
        before = None
        while before != text:
            before = text
            for end in ends:
                rest = end.sub("", text)
                text = rest if any(map(str.isalnum, rest)) else text
        return text

    return apply


def _mojibake(text: str) -> str:
    text = text if text.isascii() else ftfy.fix_encoding(text)
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _one_alphabet(text: str) -> str:
    return text if text.isascii() else _WORD.sub(lambda word: _unmixed(word[0]), unicodedata.normalize("NFD", text))


def _unmixed(word: str) -> str:
    latin, other = len(_LATIN_LETTER.findall(word)), len(_GREEK_CYRILLIC.findall(word))
    if not latin or not other:
        return word
    in_latin, in_cyrillic = word.translate(_TO_LATIN), word.translate(_TO_CYRILLIC)
    can_be_latin, can_be_cyrillic = not _GREEK_CYRILLIC.search(in_latin), not _NOT_CYRILLIC.search(in_cyrillic)
    if can_be_latin and (latin >= other or not can_be_cyrillic):
        return in_latin
    return in_cyrillic if can_be_cyrillic else word


def _accents(text: str) -> str:
    text = _MARKS.sub("", unicodedata.normalize("NFD", text))
    return _LATIN.sub(lambda letter: anyascii(letter[0]).lower(), unicodedata.normalize("NFC", text))


def _punctuation(text: str) -> str:
    return "".join(_KEPT[char] for char in text)


_LAST = [*WORDS["filler"], *WORDS["filler_last"]]
_JOINING = frozenset(WORDS["joining"])


def _joining(text: str) -> str:
    words = text.split()
    return " ".join(["&" if 0 < i < len(words) - 1 and w in _JOINING else w for i, w in enumerate(words)])


def _articles(text: str) -> str:
    first, _, rest = text.strip().partition(" ")
    return rest if first in WORDS["articles"] and rest else text


TIDY = (
    Rule("broken text", _mojibake),
    Rule("unseen characters", lambda text: "".join(_SEEN[char] for char in text)),
    Rule("trademark signs", lambda text: _SIGNS.sub(" ", text)),
)
RULES = (
    *TIDY,
    Rule("Unicode form", lambda text: unicodedata.normalize("NFKC", text)),
    Rule("look-alike letters", _one_alphabet),
    Rule("case", str.casefold),
    Rule("accents", _accents),
    Rule("filler words", _ends(_LAST, WORDS["filler"], WORDS["filler_endings"], WORDS["filler_links"])),
    Rule("legal forms", _ends(WORDS["legal"], WORDS["legal_first"], WORDS["legal_endings"])),
    Rule("punctuation", _punctuation),
    Rule("words for and", _joining),
    Rule("articles", _articles),
)


def key(label: str, rules: Sequence[Rule] = RULES) -> str:
    """The words that a label is compared by, with single blanks; "" if it has none."""
    *_, words = steps(label, rules)
    return words if any(char.isalnum() or unicodedata.category(char) == "So" for char in words) else ""


def steps(label: str, rules: Sequence[Rule] = RULES) -> Iterator[str]:
    """The label after each of the rules, and last with single blanks."""
    text = label.strip(" \t\r\n")[:LONGEST]  # other blanks may be half of a character in the wrong encoding
    for rule in rules:
        text = rule.apply(text)
        yield text
    yield " ".join(text.split())


def bare(label: str, rules: Sequence[Rule] = RULES) -> str:
    """The key without what stands in brackets; the key if all does."""
    return key(_BRACKETS.sub(" ", label[:LONGEST]), rules) or key(label, rules)


def tidy(label: str) -> str:
    """The label as a class's name: characters that are seen, NFC, no trademark signs, single blanks; may be ""."""
    *_, text = steps(label, TIDY)
    return unicodedata.normalize("NFC", text).strip(f" {_JOINERS}")


def difference(one: str, other: str, rules: Sequence[Rule] = RULES) -> str:
    """The last rule that two labels of the same key need to be the same; "blanks" if they are told apart by those."""
    if one.split() == other.split():
        return "blanks"
    for rule, left, right in zip(rules, steps(one, rules), steps(other, rules), strict=False):
        if left.split() == right.split():
            return rule.name
    return "blanks"
