"""Normalisation of typed labels: a label's key, and the forms of the key that are compared.

"Coca-Cola® Logo", "COCA COLA" and "Cocá_cola Inc." have the same key after the rules below, which are applied in their
order; each takes a text and returns a text. `benchmarks.labels` measures what each contributes.
"""

import html
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ftfy
from anyascii import anyascii

WORDS: dict[str, Any] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
LONGEST = 200  # characters of a label that are compared; no class name is longer

_JOINERS = "\u200c\u200d"  # they occur within words of Persian and of Indian scripts, and within emoji
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,31}\d{0,2});", re.IGNORECASE)
_STYLES = "\ufe0e\ufe0f"  # variation selectors of emoji
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
    """Step of the normalisation of a label."""

    name: str
    apply: Callable[[str], str]


@cache
def _visible(char: str) -> str:
    kind = unicodedata.category(char)
    if kind in ("Cc", "Cs", "Zl", "Zp", "Zs"):
        return " "
    hidden = kind in ("Cf", "Co", "Cn") and char not in _JOINERS
    return "" if hidden or char in _STYLES else char


@cache
def _kept(char: str) -> str:
    if char in _JOINERS or char in WORDS["quotes"]:
        return ""
    kind = unicodedata.category(char)
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    return char if kind[0] in "LMN" or kind == "So" or char in "&+#" else " "


def _any_of(words: Sequence[str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join(re.escape(word).replace(r"\.", r"\.\s?") for word in longest_first)


def _ends(
    last: Sequence[str], first: Sequence[str], glued: Sequence[str], links: Sequence[str] = ()
) -> Callable[[str], str]:
    """Return a rule that removes words from the ends of a text, but never all of its letters.

    `glued` words have no blank before them; `links` stand between one of `first` and the rest, as in "logo of".
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
    Rule("unseen characters", lambda text: "".join(map(_visible, text))),
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
    Rule("punctuation", lambda text: "".join(map(_kept, text))),
    Rule("words for and", _joining),
    Rule("articles", _articles),
)


def key(label: str) -> str:
    """Return the words that a label is compared by, with single blanks; "" if it has none."""
    *_, words = steps(label, RULES)
    return words if any(char.isalnum() or unicodedata.category(char) == "So" for char in words) else ""


def steps(label: str, rules: Sequence[Rule]) -> Iterator[str]:
    """Yield the label after each of the rules, and at last with single blanks."""
    text = label.strip(" \t\r\n")[:LONGEST]  # other blanks may be part of a character in the wrong encoding
    for rule in rules:
        text = rule.apply(text)
        yield text
    yield " ".join(text.split())


def bare(label: str) -> str:
    """Return the key without the text in brackets; the whole key if there is no other text."""
    return key(_BRACKETS.sub(" ", label[:LONGEST])) or key(label)


def tidy(label: str) -> str:
    """Return the label as a class name: visible characters in NFC, no trademark signs, single blanks; may be ""."""
    *_, text = steps(label, TIDY)
    return unicodedata.normalize("NFC", text).strip(f" {_JOINERS}")


def difference(one: str, other: str) -> str:
    """Return the last rule that two labels need to have the same key; "blanks" if only blanks differ."""
    if one.split() == other.split():
        return "blanks"
    for rule, left, right in zip(RULES, steps(one, RULES), steps(other, RULES), strict=False):
        if left.split() == right.split():
            return rule.name
    return "blanks"


_SPELLINGS, _SOUNDS = ([pair.split("=") for pair in WORDS[table]] for table in ("spellings", "sounds"))
_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}  # Japanese mixes them within a word
_COMMON = frozenset(WORDS["common"])
_NUMBERS = re.compile(r"(?<![^\W\d_])\d+|\d+(?![^\W\d_])")  # not the digits within a word: "micr0soft"
_DOUBLED = re.compile(r"(.)\1+")


class LabelKey(NamedTuple):
    """Key of a label with the forms that are compared."""

    words: tuple[str, ...]  # of the key, in order
    core: tuple[str, ...]  # words without those that many names contain (`common` in words.toml)
    letters: str  # the key without blanks
    bare: str  # the letters without the text in brackets
    latin: str  # the letters in Latin script
    spelled: str  # `latin` with one spelling of each sound: "coca cola" and "Koka-Cola" are "kokakola"
    sounds: str  # `spelled` without differences that other alphabets do not make: "コカ・コーラ" is "kokakora"
    numbers: tuple[str, ...]  # in order, without digits between letters
    scripts: frozenset[str]  # of the letters; Chinese and Japanese are one

    @property
    def chinese(self) -> bool:
        """True if the name has Chinese characters, where words of different meaning sound the same."""
        return _CHINESE.search(self.letters) is not None


def name(key: str, bare: str) -> LabelKey:
    """Return the compared forms of a key; `bare` is the key without the text in brackets, see `bare`."""
    words, in_latin = tuple(key.split()), latin(key)
    return LabelKey(
        words=words,
        core=tuple(word for word in words if word not in _COMMON),
        letters="".join(words),
        bare=bare.replace(" ", ""),
        latin=in_latin,
        spelled=_spelled(in_latin),
        sounds=heard(key),
        numbers=tuple(_NUMBERS.findall(key)),
        scripts=scripts(key),
    )


def latin(text: str) -> str:
    """Return a text in Latin letters and digits, without blanks."""
    return "".join(char for char in anyascii(text).lower() if char.isalnum() or char in "+#")


def heard(text: str) -> str:
    """Return the sounds of a text in Latin letters."""
    return _spelled(_replaced(latin(text), _SOUNDS))


def scripts(text: str) -> frozenset[str]:
    """Return the scripts of a text's letters, e.g. {"LATIN", "CYRILLIC"}."""
    return frozenset(map(_script, text)) - {""}


def _spelled(text: str) -> str:
    return undoubled(_replaced(text, _SPELLINGS))


def undoubled(text: str) -> str:
    """Return a text without doubled letters: "acmee" is "acme"."""
    return _DOUBLED.sub(r"\1", text)


def _replaced(text: str, table: list[list[str]]) -> str:
    for written, instead in table:
        text = text.replace(written, instead)
    return text


@cache
def _script(char: str) -> str:
    first = unicodedata.name(char, "?").split()[0].split("-")[0] if char.isalpha() else ""
    return _ONE_SCRIPT.get(first, first)
