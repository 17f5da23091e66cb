"""Labels and addresses as a page can show them: whatever they hold, a person sees it, and the page stays whole."""

import re
import unicodedata

LONGEST = 80  # characters that are shown
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # Unicode categories without a look of their own
_EDGE = re.compile(r"^\s+|\s+$")


def visible(text: str, longest: int = LONGEST) -> str:
    """A text with all that cannot be seen in it, or that turns others around, told as its code point.

    Spellings differ by such characters: "Cola" and "Cola⟨U+200B⟩" are two, and look like one. Blanks at either end are
    shown as "␣", and of a long text the beginning with its length.
    """
    rest = f"… ({len(text):,} characters)" if len(text) > longest else ""
    edged = _EDGE.sub(lambda blanks: "␣" * len(blanks[0]), text[:longest])
    return "".join(_told(character) for character in edged) + rest


def counted(n: int, one: str, many: str) -> str:
    """So many of something, e.g. "1 class", "1,200 classes"."""
    return f"{n:,} {one if n == 1 else many}"


def _told(character: str) -> str:
    category = unicodedata.category(character)
    plain = category not in _HIDDEN and (category != "Zs" or character == " ")
    return character if plain else f"⟨U+{ord(character):04X}⟩"
