"""Invented brands, and the ways in which many people spell them.

Nothing here knows how labels are cleaned: the spellings come from what crowd workers type, keyboards of other scripts,
spreadsheets that open a file in the wrong encoding, and haste.
"""

import unicodedata
from collections.abc import Callable

import ftfy.bad_codecs  # noqa: F401  registers sloppy-windows-1252
from numpy.random import Generator
from rapidfuzz import fuzz, process

ONSETS = ("b", "br", "c", "d", "dr", "f", "fl", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "pr", "r", "s", "st",
          "t", "tr", "v", "w", "z")  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u", "ia", "ea", "ou")
CODAS = ("", "", "", "l", "m", "n", "r", "s", "t", "x", "nd", "rk")
SECOND = ("Foods", "Motors", "Sport", "Cola", "Air", "& Sons", "Bank", "Coffee", "Energy", "Labs")
UNLIKE = 75  # at most; rapidfuzz's ratio of two brands that are not meant to look alike
LOOKALIKES = 0.04  # of the brands: one more or other letter than another's, or a word more
SAYS_NOTHING = ("logo", "???", "n/a", "unknown brand")

CYRILLIC = str.maketrans("abcdefghiklmnoprstuvwyz", "абкдефгхиклмнопрстуввйз") | {ord("x"): "кс"}
GREEK = str.maketrans("abcdefghiklmnoprstuvwxyz", "αβκδεφγχικλμνοπρστυββξυζ")
LOOKS_SAME = str.maketrans("aceopxyACEHKMOPTX", "асеорхуАСЕНКМОРТХ")  # noqa: RUF001 (Cyrillic letters, as meant)
ACCENTS = str.maketrans("aeioucnAEIOU", "áéíóúçñÁÉÍÓÚ")
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}


def brands(count: int, rng: Generator) -> list[str]:
    """Return different names, a few of which are similar on purpose."""
    names: list[str] = []
    while len(names) < count:
        alike = names and rng.random() < LOOKALIKES
        name = _lookalike(str(rng.choice(names)), rng) if alike else _name(rng)
        known = {each.casefold() for each in names}
        if name.casefold() in known or not (alike or _is_unlike(name, names)):
            continue
        names.append(name)
    return names


def spellings(name: str, count: int, rng: Generator) -> list[str]:
    """Return up to `count` spellings of a brand besides its own."""
    ways = list(WAYS.values())
    found = dict[str, None]()
    for _ in range(3 * count):
        text = name
        for place in rng.choice(len(ways), size=1 + int(rng.random() < 0.3), replace=False):
            text = ways[place](text, rng)
        if text != name and text.strip() and len(found) < count:
            found[text] = None
    return list(found)


def _name(rng: Generator) -> str:
    syllables = ["".join(str(rng.choice(part)) for part in (ONSETS, VOWELS, CODAS)) for _ in range(rng.integers(2, 4))]
    name = "".join(syllables).capitalize()
    return f"{name} {rng.choice(SECOND)}" if rng.random() < 0.2 else name


def _lookalike(name: str, rng: Generator) -> str:
    if rng.random() < 0.5 and " " not in name:
        return f"{name} {rng.choice(SECOND)}"
    place = int(rng.integers(1, len(name)))
    return name[:place] + str(rng.choice(list("aeiolnrst"))) + name[place + int(rng.integers(2)) :]


def _is_unlike(name: str, names: list[str]) -> bool:
    return process.extractOne(name, names, scorer=fuzz.ratio, score_cutoff=UNLIKE) is None


def _one(*texts: str) -> Callable[[str, Generator], str]:
    """Return a text from one of some templates."""
    return lambda name, rng: str(rng.choice(texts)).replace("*", name)


def _apart(name: str, rng: Generator) -> str:
    return name.replace(" ", str(rng.choice(["-", "_", ".", ""]))) if " " in name else f"{name}."


def _typo(name: str, rng: Generator) -> str:
    """Return a name with a letter omitted, doubled or swapped; short names are unchanged."""
    if len(name) < 7:
        return name.upper()
    place = int(rng.integers(1, len(name) - 1))
    return (
        name[:place] + name[place + 1 :],
        name[:place] + name[place] + name[place:],
        name[:place] + name[place + 1] + name[place] + name[place + 2 :],
    )[rng.integers(3)]


def _accented(name: str, rng: Generator) -> str:
    place = int(rng.integers(len(name)))
    return name[:place] + name[place:].translate(ACCENTS)


def _mojibake(name: str, rng: Generator) -> str:
    """Return UTF-8 decoded as Windows-1252, as spreadsheets do."""
    return unicodedata.normalize("NFC", _accented(name, rng)).encode().decode("sloppy-windows-1252")


WAYS: dict[str, Callable[[str, Generator], str]] = {
    "case": lambda name, rng: (name.lower(), name.upper(), name.swapcase())[rng.integers(3)],
    "accents": _accented,
    "decomposed": lambda name, rng: unicodedata.normalize("NFD", _accented(name, rng)),
    "marks": _one("*®", "*™", "* (R)", "*\u00a9"),
    "filler": _one("* logo", "logo *", "* Logo", "the * brand", "* (logo)", "brand: *"),
    "punctuation": _apart,
    "quotes": _one('"*"', "'*'", "«*»", "*!"),
    "blanks": _one(" *", "*  ", "*\u00a0", "*\u200b", "\ufeff*"),
    "typo": _typo,
    "Cyrillic": lambda name, rng: name.lower().translate(CYRILLIC).title(),
    "Greek": lambda name, rng: name.lower().translate(GREEK).title(),
    "other letters of the same look": lambda name, rng: name.translate(LOOKS_SAME),
    "mojibake": _mojibake,
    "full width": lambda name, rng: name.translate(WIDE),
}
