"""The embedded sentences: same bytes for a seed, no leak, labels as promised, and neither trivial nor hopeless."""

import csv
import hashlib
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from platform.data.embedded import blurbs
from platform.errors import InputError


@pytest.fixture(scope="module")
def rows() -> list[blurbs.Blurb]:
    return blurbs.blurbs(0)


def score(rows: list[blurbs.Blurb], head: str, words: int) -> float:
    parts = {
        s: [(r.text, getattr(r, head)) for r in rows if r.split == s and getattr(r, head)] for s in ("train", "test")
    }
    vectorizer = TfidfVectorizer(ngram_range=(1, words))
    texts, labels = zip(*parts["train"], strict=True)
    model = LogisticRegression(C=3, max_iter=1000).fit(vectorizer.fit_transform(texts), labels)
    texts, labels = zip(*parts["test"], strict=True)
    return model.score(vectorizer.transform(texts), labels)


def test_same_seed_gives_same_bytes_and_another_seed_others(tmp_path):
    first = blurbs.write(tmp_path / "a.csv", seed=3, count=100)
    again = blurbs.write(tmp_path / "deeper" / "b.csv", seed=3, count=100)
    other = blurbs.write(tmp_path / "c.csv", seed=4, count=100)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_the_bytes_stay_what_they_are(tmp_path):
    """Else the starter has to be made anew: it must not have read the sentences that are validated and tested on."""
    written = blurbs.write(tmp_path / "blurbs.csv", seed=0).read_bytes()
    assert hashlib.sha256(written).hexdigest() == "2dfc35b8491bf7e2e86b5a7b7eff10331ed90243ff4e71b8dc02bee633618efb"


def test_a_file_that_is_there_is_reused_and_another_one_not_touched(tmp_path):
    path = blurbs.write(tmp_path / "blurbs.csv", seed=3, count=100)
    before = path.stat().st_mtime_ns
    assert blurbs.write(path, seed=3, count=100).stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other content"):
        blurbs.write(path, seed=4, count=100)
    assert path.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == [path]


def test_too_few_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 55"):
        blurbs.write(tmp_path / "blurbs.csv", seed=0, count=54)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_what_the_generator_gives(tmp_path, rows):
    with blurbs.write(tmp_path / "blurbs.csv", seed=0).open(encoding="utf-8", newline="") as file:
        assert [blurbs.Blurb(**row) for row in csv.DictReader(file)] == rows


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**63), st.integers(55, 400))
def test_any_seed_and_count_keeps_the_promises(seed, count):
    rows = blurbs.blurbs(seed, count)
    assert len(rows) == count == len({row.text for row in rows})
    assert all(blurbs.WORDS[0] <= len(row.text.split()) <= blurbs.WORDS[1] for row in rows)
    assert all(row.genre or row.sentiment for row in rows)
    assert not any(re.search(r"[{}]|\ba [aeio]", row.text) for row in rows)
    for split in ("train", "val", "test"):
        assert {row.genre for row in rows if row.split == split} - {""} <= set(blurbs.GENRES)


def test_sizes_and_shares(rows):
    assert Counter(row.split for row in rows) == {"train": 1200, "val": 400, "test": 600}
    assert 0.12 < sum(not row.genre or not row.sentiment for row in rows) / len(rows) < 0.18
    for split in ("val", "test"):
        genres = Counter(row.genre for row in rows if row.split == split and row.genre)
        assert set(genres) == set(blurbs.GENRES)
        assert max(genres.values()) < 1.3 * min(genres.values())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_only_labels_of_training_are_wrong(rows, split):
    part = [row for row in rows if row.split == split]  # what a row is written to be goes by its place
    genres = [row.genre != blurbs.GENRES[place % 5] for place, row in enumerate(part) if row.genre]
    sentiments = [row.sentiment != blurbs.SENTIMENTS[place // 5 % 2] for place, row in enumerate(part) if row.sentiment]
    for wrong in (genres, sentiments):
        assert (0.03 < sum(wrong) / len(wrong) < 0.07) if split == "train" else not any(wrong)


def test_the_sentence_says_its_genre(rows):
    """In validation and test no other genre has as many of the words."""
    for row in rows:
        if row.split == "train" or not row.genre:
            continue
        text = row.text.lower()
        found = {
            g: sum(bool(re.search(rf"\b{re.escape(w)}\b", text)) for k in blurbs._WORDS["own"][g].values() for w in k)
            for g in blurbs.GENRES
        }
        assert found[row.genre] == max(found.values()), row


def test_words_alone_say_much_but_not_all(rows):
    for head, words in (("genre", 1), ("genre", 2), ("sentiment", 1), ("sentiment", 2)):
        assert 0.78 < score(rows, head, words) < 0.94, (head, words)


def test_where_order_decides_words_fail(rows, monkeypatch):
    """On sentences that deny the opposite, or set both against each other, the words alone mislead."""
    train = [row for row in rows if row.split == "train"]
    monkeypatch.setattr(blurbs, "_VERDICT", (0.0, 0.5, 0.5))
    hard = [replace(row, split="test") for row in blurbs.blurbs(1, 600)]
    assert score(train + hard, "sentiment", 1) < 0.6
