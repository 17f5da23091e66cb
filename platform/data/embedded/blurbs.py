"""Embedded text data: generated lines of book blurbs and reviews, each with a genre and a sentiment.

A seeded grammar writes them from the words in blurbs.yaml. Nothing is downloaded or copied. Learning them is not easy:

- Genre: persons, things, places and deeds are drawn from a genre's own words, some of which another genre has, too (a
  knife in cookery and crime), from words of any book, and sometimes from another genre. The row's genre always has more
  words than any other. Words are drawn by rank, so many are rare.
- Sentiment: most verdicts are direct ("a gem"); 16 % deny the opposite ("it is not dull at all") or contrast both
  ("what begins dull ends enchanting"), where the order of the words decides.
- Labels: 15 % of the rows lack one of their two labels. 5 % of the training labels are wrong; those of the validation
  and test splits are all correct, so that a perfect model scores 1.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from platform.errors import Fault, InputError
from platform.storage import atomic

COUNT = 2200  # 1,200 for training, 400 for validation, 600 for the test
GENRES = ("cookery", "crime", "romance", "science fiction", "travel")
SENTIMENTS = ("negative", "positive")
WORDS = (8, 25)  # least and greatest number in a sentence
NOISE = 0.05  # of the training labels
PARTIAL = 0.15  # of the rows

_SHARES = {"train": 6, "val": 2, "test": 3}  # of eleven
_SOURCE = (0.5, 0.32, 0.18)  # shares of a slot's words: the genre's own, any book's, another genre's
_VERDICT = (0.84, 0.09, 0.07)  # shares: direct, opposite denied, both contrasted
_SLOTS = ("who", "does", "what", "where")
_TAIL = 0.7  # a word of rank r is drawn in proportion to r ** -_TAIL


@dataclass(frozen=True)
class Blurb:
    """Sentence with its labels; a missing label is empty."""

    text: str
    genre: str
    sentiment: str
    split: str


def _tuples(words: Any) -> Any:
    """Return the words of blurbs.yaml as tuples, by their keys."""
    if isinstance(words, dict):
        return {key: _tuples(value) for key, value in words.items()}
    return tuple(words if isinstance(words, list) else words.split(", "))


_WORDS = _tuples(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text()))


def write(path: Path, seed: int, count: int = COUNT) -> Path:
    """Write the sentences as CSV with the columns text, genre, sentiment and split, unless the same file exists.

    The file appears whole or not at all, and the same arguments give the same bytes.

    Args:
        path: File to write.
        seed: Seed of all random choices.
        count: Number of sentences in all splits.

    Returns:
        `path`.

    Raises:
        InputError: `path` holds something else, or `count` is too small for three splits.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("text", "genre", "sentiment", "split"))
    writer.writerows((blurb.text, blurb.genre, blurb.sentiment, blurb.split) for blurb in blurbs(seed, count))
    content = table.getvalue().encode()
    if path.exists():
        if not path.is_file() or path.read_bytes() != content:
            rule = f"{path} must hold these sentences or not exist"
            raise InputError(Fault(rule, "other content", "Remove it or choose another place."))
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, content)  # also if another process was faster, with the same bytes
    return path


def blurbs(seed: int, count: int = COUNT) -> list[Blurb]:
    """Return distinct sentences, ordered by split, with genres and sentiments in nearly equal numbers in each split.

    Raises:
        InputError: `count` leaves a split without all genres and sentiments.
    """
    least = 10 * sum(_SHARES.values()) // min(_SHARES.values())
    if count < least:
        raise InputError(Fault(f"there must be at least {least} sentences", str(count), f"Try {COUNT}."))
    random, made, used = Random(seed), [], set()
    val, test = (count * _SHARES[split] // sum(_SHARES.values()) for split in ("val", "test"))
    for split, number in (("train", count - val - test), ("val", val), ("test", test)):
        for index in range(number):
            genre, sentiment = GENRES[index % 5], index // 5 % 2
            while (text := sentence(random, genre, sentiment)) in used:
                pass
            used.add(text)
            labels = [genre, SENTIMENTS[sentiment]]
            for head, names in enumerate((GENRES, SENTIMENTS)):
                if random.random() < NOISE and split == "train":
                    labels[head] = random.choice([name for name in names if name != labels[head]])
            if random.random() < PARTIAL:
                labels[random.randrange(2)] = ""
            made.append(Blurb(text, labels[0], labels[1], split))
    return made


def sentence(random: Random, genre: str, sentiment: int) -> str:
    """Return a sentence of a genre and of a sentiment, 0 for negative and 1 for positive."""
    own = _WORDS["own"]
    while True:
        text = random.choice(_WORDS["forms"])
        speaks_of: Counter[str] = Counter()  # genres, by how many of the words they have
        for slot in _SLOTS:
            while f"{{{slot}}}" in text:
                source = random.choices((genre, "", random.choice(GENRES)), _SOURCE)[0]
                word = _ranked(random, own[source][slot] if source else _WORDS["any"][slot])
                speaks_of.update(name for name in GENRES if word in own[name][slot])
                text = text.replace(f"{{{slot}}}", word, 1)
        while "{verdict}" in text:
            text = text.replace("{verdict}", _verdict(random, sentiment), 1)
        text = text.replace("{filler}", random.choice(_WORDS["fillers"])).replace(
            "{book}", random.choice(_WORDS["books"])
        )
        most = max(speaks_of.values(), default=0)
        if [name for name in GENRES if most and speaks_of[name] == most] != [genre]:
            continue  # another genre, several or none would have the most words
        if WORDS[0] <= len(text.split()) <= WORDS[1]:
            return text[0].upper() + text[1:] + "."


def _verdict(random: Random, sentiment: int) -> str:
    text = random.choice(random.choices(tuple(_WORDS["verdicts"].values()), _VERDICT)[0])
    same, opposite = SENTIMENTS[sentiment], SENTIMENTS[1 - sentiment]
    words = {
        "{a}": _WORDS["adjectives"][same],
        "{o}": _WORDS["adjectives"][opposite],
        "{n}": _WORDS["nouns"][same],
        "{p}": _WORDS["nouns"][opposite],
        "{adv}": _WORDS["adverbs"],
    }
    for slot, choice in words.items():
        while slot in text:
            text = text.replace(slot, _ranked(random, choice), 1)
    return re.sub(r"\ba (?=[aeio]|honest)", "an ", text)


def _ranked(random: Random, words: tuple[str, ...]) -> str:
    return random.choices(words, [(rank + 1) ** -_TAIL for rank in range(len(words))])[0]
