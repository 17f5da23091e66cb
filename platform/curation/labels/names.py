"""What a label's key is compared by: words, letters, letters in Latin script, sounds, numbers, scripts."""

import re
import unicodedata
from functools import cache
from typing import NamedTuple

from anyascii import anyascii

from platform.curation.labels.normalise import WORDS

_SPELLINGS, _SOUNDS = ([pair.split("=") for pair in WORDS[table]] for table in ("spellings", "sounds"))
_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}  # Japanese mixes them within a word
_COMMON = frozenset(WORDS["common"])
_NUMBERS = re.compile(r"(?<![^\W\d_])\d+|\d+(?![^\W\d_])")  # not the digits within a word: "micr0soft"
_DOUBLED = re.compile(r"(.)\1+")


class Name(NamedTuple):
    """A key, and what it is compared by.

    Attributes:
        words: Of the key, in order.
        core: The words that are not said of many places or firms (`common` in words.toml).
        letters: The key without blanks.
        bare: The letters without what stood in brackets.
        latin: The letters in Latin script.
        spelled: Of `latin`, those written for the same sound as one: "coca cola" and "Koka-Cola" are "kokakola".
        sounds: Of `latin`, those that other alphabets hold for the same as one, too: "コカ・コーラ" is "kokakora".
        numbers: In order, but for digits between letters.
        scripts: Of the letters; Chinese and Japanese are one.
    """

    words: tuple[str, ...]
    core: tuple[str, ...]
    letters: str
    bare: str
    latin: str
    spelled: str
    sounds: str
    numbers: tuple[str, ...]
    scripts: frozenset[str]

    @property
    def chinese(self) -> bool:
        """Whether there are Chinese characters, in which words of different meaning sound the same."""
        return _CHINESE.search(self.letters) is not None


def name(key: str, bare: str) -> Name:
    """What a key is compared by; `bare` is the key without what stood in brackets (`normalise.bare`)."""
    words, in_latin = tuple(key.split()), latin(key)
    return Name(
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
    """The text in Latin letters and digits, without blanks."""
    return "".join(char for char in anyascii(text).lower() if char.isalnum() or char in "+#")


def heard(text: str) -> str:
    """The text by its sounds, in Latin letters."""
    return _spelled(_replaced(latin(text), _SOUNDS))


def scripts(text: str) -> frozenset[str]:
    """The scripts of a text's letters, e.g. {"LATIN", "CYRILLIC"}."""
    return frozenset(map(_script, text)) - {""}


def _spelled(text: str) -> str:
    return undoubled(_replaced(text, _SPELLINGS))


def undoubled(text: str) -> str:
    """The text with each letter once where it stands twice: "acmee" is "acme"."""
    return _DOUBLED.sub(r"\1", text)


def _replaced(text: str, table: list[list[str]]) -> str:
    for written, instead in table:
        text = text.replace(written, instead)
    return text


@cache
def _script(char: str) -> str:
    first = unicodedata.name(char, "?").split()[0].split("-")[0] if char.isalpha() else ""
    return _ONE_SCRIPT.get(first, first)
