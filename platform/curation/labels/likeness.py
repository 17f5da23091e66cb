"""Likeness of names: the pairs that grouping merges or asks about, with score and reason.

There are two kinds: names that are equal in some respect other than spelling (word order, script, initials, …), and
names that are nearly equal, by the share of letters in common (rapidfuzz's ratio).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import combinations, groupby
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz, process

from platform.curation.labels.normalise import WORDS, LabelKey, heard, scripts, undoubled

SPELLING, BRACKETS = "same spelling", "without the brackets"
MOVED, ORDER, PLURAL, ONE_PLURAL = "a common word moved", "another word order", "plural", "plural of one word"
CHINESE, SCRIPT, SOUNDS = "traditional and simplified characters", "another script", "sounds the same"
HALF, TOGETHER = "one of its two scripts", "both in one label"
COMMON, LONGER, INITIALS, TYPING = "differs by common words", "begins alike", "initials", "typing error"

# Score of each kind of likeness. These are not probabilities: each was set above or below the score to merge at, 0.92,
# by its errors on one half of `benchmarks.labels`.
SURE = {
    SPELLING: 1.0,
    MOVED: 0.97,
    CHINESE: 0.97,
    BRACKETS: 0.96,
    HALF: 0.96,
    SCRIPT: 0.95,
    PLURAL: 0.95,
    SOUNDS: 0.94,
    TOGETHER: 0.93,
    ONE_PLURAL: 0.91,
    ORDER: 0.9,
    COMMON: 0.9,
    LONGER: 0.86,
    INITIALS: 0.82,
    TYPING: 0.98,  # times the share of letters in common; the first letter must be the same
}
_LESS = 0.97  # factor where the difference may be no typing error
_UNSURE = 0.9  # highest score where a person has to decide

_COMMON, _SMALL = frozenset(WORDS["common"]), frozenset(WORDS["small"])
_STAR = 16  # of many names equal in one respect, the most frequent ones that the others are compared with
_NEAREST = 32  # names that each is compared with for typing errors
_ROWS = 256  # names compared with all others at a time, which bounds the memory
_NAMES = 8  # different texts beside one half of a label, above which the half is no name


class Similarity(NamedTuple):
    """Likeness of two names, 0 to 1, with its reason."""

    score: float
    reason: str


class Comparison(NamedTuple):
    """Rule by which names are alike that share a value of `of` and fit; if `alone`, only if no third name has it."""

    reason: str
    of: Callable[[LabelKey], Iterable[str]]
    fit: Callable[[LabelKey, LabelKey], bool] = lambda one, other: True
    alone: bool = False


def pairs(names: Sequence[LabelKey], least: float) -> dict[tuple[int, int], Similarity]:
    """Return the highest likeness of pairs of names, the most frequent first, by their indices, the lower first.

    Names with different numbers are never alike. Each name has at most some dozens of pairs. No score is below `least`.
    """
    found: dict[tuple[int, int], Similarity] = {}
    for kind in (_equal, _two_scripts, _longer, _mistyped):
        for i, j, like in kind(names, least):
            pair = (min(i, j), max(i, j))
            known = found.get(pair)
            if like.score < least or (known and known.score >= like.score):
                continue
            if i != j and names[i].numbers == names[j].numbers:
                found[pair] = like
    return found


# Names that are equal in some respect.


def _singular(name: LabelKey) -> Iterable[str]:
    *first, last = name.words or ("",)
    plural = len(last) > (3 if first else 4) and last.isascii() and last.endswith("s") and not last.endswith("ss")
    return ["".join([*first, last[:-1] if plural else last])]


def _sounds(name: LabelKey) -> Iterable[str]:
    """Return the sounds of a name; only the Latin letters where Chinese characters or few letters would mislead."""
    core = heard("".join(name.core))
    if len(core) > 3:
        return [name.latin] if name.chinese else {name.latin, name.sounds}
    return [name.latin] if len(core) != 1 and len(name.latin) > 3 else []


def _another_script(one: LabelKey, other: LabelKey) -> bool:
    return one.scripts != other.scripts and (one.latin == other.latin or not (one.chinese or other.chinese))


def _spelled(name: LabelKey) -> Iterable[str]:
    return [name.spelled] if len(heard("".join(name.core))) > 4 and not name.chinese else []


def _core(name: LabelKey) -> Iterable[str]:
    return [" ".join(name.core)] if len("".join(name.core)) > 2 else []


def _initials(name: LabelKey) -> Iterable[str]:
    if len(name.words) == 1:
        return [name.letters] if 2 < len(name.letters) < 7 else []
    large = [word for word in name.words if word not in _SMALL]
    return {"".join(word[0] for word in words) for words in (name.words, large) if len(words) > 2}


def _one_in_brackets(one: LabelKey, other: LabelKey) -> bool:
    return one.bare == other.bare and (one.letters == one.bare) != (other.letters == other.bare)


@cache
def _in(char: str, charset: str) -> bool:
    return bool(char.encode(charset, "ignore"))


def _two_chinese_scripts(one: LabelKey, other: LabelKey) -> bool:
    """Return whether one name is the other in simplified characters.

    The old character sets tell the scripts apart: GB 2312 has simplified characters, Big5 traditional ones. All
    characters that differ must be in the one set and not in the other, and at least one in no other script.
    """
    if not len(one.letters) == len(other.letters) > 1:
        return False
    differ = [(a, b) for a, b in zip(one.letters, other.letters, strict=True) if a != b]
    for pairs in (differ, [(b, a) for a, b in differ]):
        sure = any(not _in(a, "big5") and _in(b, "big5") for a, b in pairs)
        if sure and all(_in(a, "gb2312") and not _in(b, "gb2312") for a, b in pairs):
            return True
    return False


COMPARISONS = (
    Comparison(SPELLING, lambda n: [n.letters]),
    Comparison(MOVED, lambda n: [" ".join(sorted(n.words))], lambda a, b: a.core == b.core),
    Comparison(ORDER, lambda n: [" ".join(sorted(n.words))]),
    Comparison(PLURAL, _singular, lambda a, b: len(a.words) > 1),
    Comparison(ONE_PLURAL, _singular),
    Comparison(BRACKETS, lambda n: [heard(n.bare)], _one_in_brackets, alone=True),
    Comparison(CHINESE, lambda n: [n.latin] if n.chinese else [], _two_chinese_scripts),
    Comparison(SCRIPT, _sounds, _another_script),
    Comparison(SOUNDS, _spelled),
    Comparison(COMMON, _core),
    Comparison(INITIALS, _initials, lambda a, b: (len(a.words) == 1) != (len(b.words) == 1), alone=True),
)


def _equal(names: Sequence[LabelKey], least: float) -> Iterator[tuple[int, int, Similarity]]:
    for comparison in COMPARISONS:
        like = Similarity(SURE[comparison.reason], comparison.reason)
        having: dict[str, list[int]] = defaultdict(list)
        for index, one in enumerate(names):
            for what in set(comparison.of(one)):
                having[what].append(index)
        for same in having.values():
            if comparison.alone and len({names[i].letters for i in same}) > 2:
                continue
            for place, i in enumerate(same):
                fitting = (j for j in same[: min(place, _STAR)] if comparison.fit(names[i], names[j]))
                yield from ((i, j, like) for j in fitting)


# Names that contain another name.


def _halves(name: LabelKey) -> tuple[str, ...]:
    """Return the halves of a name that is written in two scripts, as "貢茶 Gong Cha"; () for other names."""
    if len(name.scripts) != 2:
        return ()
    runs = [(one, [*words]) for one, words in groupby(name.words, scripts) if one]
    if [len(one) for one, _ in runs] != [1, 1]:
        return ()
    short = any(len("".join(words)) < (2 if "CJK" in one else 3) for one, words in runs)
    common = any(_COMMON.issuperset(words) for _, words in runs)
    return () if short or common else tuple("".join(words) for _, words in runs)


def _two_scripts(names: Sequence[LabelKey], least: float) -> Iterator[tuple[int, int, Similarity]]:
    """Yield names in two scripts with their halves, and the halves with each other.

    Names are left out that occur elsewhere as a whole in one script ("Алло MAX", "allo max"), and so are halves that
    occur beside different texts ("OTP Bank (Україна)", "Eldorado (Україна)").
    """
    elsewhere = {one.sounds for one in names if len(one.scripts) == 1}
    written = {i: halves for i, one in enumerate(names) if one.sounds not in elsewhere and (halves := _halves(one))}
    beside: dict[str, set[str]] = defaultdict(set)
    for one, other in written.values():
        beside[one].add(other)
        beside[other].add(one)
    is_name = {half: _one_name(others) for half, others in beside.items()}
    index = {one.letters: i for i, one in reversed([*enumerate(names)])}
    for i, halves in written.items():
        there = [half for half in halves if is_name[half] and half in index]
        yield from ((i, index[half], Similarity(SURE[HALF], HALF)) for half in there)
        if len(there) == 2:
            yield index[there[0]], index[there[1]], Similarity(SURE[TOGETHER], TOGETHER)


def _one_name(texts: Collection[str]) -> bool:
    if len(texts) > _NAMES:
        return False
    return all(a in b or b in a or fuzz.ratio(a, b) > 80 for a, b in combinations(map(heard, texts), 2))


def _longer(names: Sequence[LabelKey], least: float) -> Iterator[tuple[int, int, Similarity]]:
    """Yield names with those that they begin: "popeyes", "popeyes louisiana kitchen"."""
    like = Similarity(SURE[LONGER], LONGER)
    index = {one.words: i for i, one in reversed([*enumerate(names)])}
    for i, one in enumerate(names):
        for end in range(1, len(one.words)):
            first = one.words[:end]
            if first in index and len("".join(first)) > 4 and not _COMMON.issuperset(first):
                yield i, index[first], like


# Names that are nearly equal.


def _mistyped(names: Sequence[LabelKey], least: float) -> Iterator[tuple[int, int, Similarity]]:
    for i, j in _near(names, least):
        if _sound_otherwise(names[i], names[j]) and (score := _typing(names[i], names[j])):
            yield i, j, Similarity(min(score, _UNSURE) if _is_asked(names[i], names[j]) else score, TYPING)


def _sound_otherwise(one: LabelKey, other: LabelKey) -> bool:
    """Return whether two names sound different, or differ only by a doubled letter of the Latin spelling."""
    return one.sounds != other.sounds or (one.latin != other.latin and undoubled(one.latin) == undoubled(other.latin))


def _is_asked(one: LabelKey, other: LabelKey) -> bool:
    """Return whether a difference may be on purpose: other digits ("b2b", "b2c"), or short names of one sound."""
    return one.sounds == other.sounds or _digits(one) != _digits(other)


def _digits(name: LabelKey) -> str:
    return "".join(filter(str.isdigit, name.letters))


def _near(names: Sequence[LabelKey], least: float) -> Iterator[tuple[int, int]]:
    """Yield pairs that sound nearly alike: each name with the nearest ones that are not shorter."""
    order = sorted((i for i, one in enumerate(names) if len(one.sounds) > 3), key=lambda i: len(names[i].sounds))
    texts = [names[i].sounds for i in order]
    lengths = np.array([len(text) for text in texts])
    for start in range(0, len(order), _ROWS):
        rows = texts[start : start + _ROWS]
        end = int(np.searchsorted(lengths, len(rows[-1]) * (2 - least) / least, side="right"))
        like = process.cdist(rows, texts[start:end], scorer=fuzz.ratio, score_cutoff=100 * least, dtype=np.uint8)
        for row, scores in enumerate(like):
            near = np.flatnonzero(scores[row + 1 :]) + row + 1
            best = near[np.argsort(-scores[near].astype(int), kind="stable")][:_NEAREST]
            yield from ((order[start + row], order[start + int(column)]) for column in best)


def _typing(one: LabelKey, other: LabelKey) -> float:
    """Return the lowest share of letters in common among the words that differ; 0 if some begin differently.

    The score is lower where the difference may be no error: one word continues another, words are split differently,
    or one of two scripts has no alphabet.
    """
    left, right = _rest(one, other), _rest(other, one)
    if not left or not right:
        return 0
    same = one.scripts == other.scripts
    doubtful = len(left) != len(right) or not (same or "CJK" not in one.scripts | other.scripts)
    if len(left) != len(right):
        left, right = ["".join(left)], ["".join(right)]
    if not same:
        left, right = [*map(heard, left)], [*map(heard, right)]
    words = [*zip(left, right, strict=True)]
    if any(a[:1] != b[:1] for a, b in words):
        return 0
    doubtful |= any(a.startswith(b) or b.startswith(a) for a, b in words)
    worst = min(fuzz.ratio(a, b) for a, b in words) / 100
    if not same:
        worst = (worst + fuzz.ratio(one.sounds, other.sounds) / 100) / 2
    return round(SURE[TYPING] * (_LESS if doubtful else 1) * worst, 4)


def _rest(one: LabelKey, other: LabelKey) -> list[str]:
    return [*(Counter(one.words) - Counter(other.words)).elements()]
