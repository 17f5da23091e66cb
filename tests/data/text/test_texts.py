"""Tests of text data sets: encodings, several files, faults with line numbers, splits without leaks."""

import csv
import io
from collections import Counter
from pathlib import Path

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform.data.embedded import blurbs
from platform.data.text import dataset as texts
from platform.data.text.dataset import Kind
from platform.errors import InputError

HEADS = ("genre", "sentiment")
GENRES = ("crime", "romance")


def plain(count: int = 40, start: int = 0) -> list[dict[str, str]]:
    return [
        {"text": f"story number {n}", "genre": GENRES[n % 2], "sentiment": ("bad", "good")[n // 2 % 2]}
        for n in range(start, start + count)
    ]


def write(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8", delimiter: str = ",") -> Path:
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(dict.fromkeys(key for row in rows for key in row)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(table.getvalue().encode(encoding))
    return path


def read(*sources: Path, heads=HEADS, encoding="detect", seed=0) -> texts.TextDataset:
    return texts.read(sources, heads, encoding, seed)


def faults(*sources: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        read(*sources, **options)
    return str(caught.value)


def kinds(dataset: texts.TextDataset) -> Counter:
    return Counter(repair.kind for repair in dataset.found.repairs)


def named(dataset: texts.TextDataset) -> dict[str, dict[str, str | None]]:
    """The labels by text, as they were written."""
    names = dataset.classes
    return {
        e.text: {head: None if n is None else names[head][n] for head, n in e.labels.items()} for e in dataset.examples
    }


def test_the_embedded_sentences_are_read_as_written(tmp_path):
    path = blurbs.write(tmp_path / "blurbs.csv", seed=1)
    dataset = read(path)
    rows = blurbs.blurbs(1)
    assert [(e.text, e.split) for e in dataset.examples] == [(row.text, row.split) for row in rows]
    assert list(named(dataset).values()) == [
        {"genre": row.genre or None, "sentiment": row.sentiment or None} for row in rows
    ]
    assert dataset.classes == {"genre": blurbs.GENRES, "sentiment": blurbs.SENTIMENTS}
    assert dataset.splits_given
    assert dataset.findings() == []
    assert dataset.examples[4].where == "blurbs.csv line 6"


@pytest.mark.parametrize(
    ("encoding", "name", "delimiter"),
    [
        ("utf-8", "a.csv", ","), ("utf-8-sig", "a.csv", ";"), ("utf-16", "a.csv", ","), ("utf-32", "a.csv", "\t"),
        ("latin-1", "a.csv", ","), ("cp1252", "a.tsv", "\t"), ("utf-8", "a.tab", "\t"), ("utf-8", "A.CSV", ","),
    ],
)  # fmt: skip
def test_encodings_and_delimiters_are_found_out(tmp_path, encoding, name, delimiter):
    rows = plain()
    rows[3]["text"] = 'Café, crème brûlée;\tà la "carte"'
    dataset = read(write(tmp_path / name, rows, encoding, delimiter))
    assert dataset.examples[3].text == rows[3]["text"]
    assert named(dataset) == {row["text"]: {head: row[head] for head in HEADS} for row in rows}
    guessed = encoding in ("latin-1", "cp1252")
    assert [f"{name} is not UTF-8 and was read as cp1252" in note for note in dataset.found.warnings] == [
        True
    ] * guessed


def test_a_given_encoding_is_obeyed_or_refused_with_the_line(tmp_path):
    rows = plain()
    rows[3]["text"] = "Эта книга"
    path = write(tmp_path / "a.csv", rows, "koi8-r")
    dataset = read(path, encoding="koi8-r")
    assert dataset.examples[3].text == "Эта книга"
    assert dataset.findings() == []
    assert "a.csv line 5" in faults(path, encoding="utf-8")
    assert "'klingon'" in faults(path, encoding="klingon")


def test_a_damaged_line_does_not_make_it_another_encoding(tmp_path):
    rows = plain()
    for n in range(5):
        rows[n]["text"] = f"Café {n}"
    path = write(tmp_path / "a.csv", rows)
    path.write_bytes(path.read_bytes().replace("Café 3".encode(), b"Caf\x81 3"))
    dataset = read(path)
    assert [e.text for e in dataset.examples[:5]] == ["Café 0", "Café 1", "Café 2", "Caf\ufffd 3", "Café 4"]
    assert dataset.findings() == ["bytes that are not UTF-8: a.csv line 5 (read as \ufffd)"]


def test_parquet_gives_what_csv_gives(tmp_path):
    rows = plain()
    for n, row in enumerate(rows):
        row["sentiment"] = "" if n % 5 == 0 else str(n % 3)
    frame = pandas.DataFrame(rows)
    frame["sentiment"] = pandas.to_numeric(frame["sentiment"])  # 0.0, 1.0, 2.0 and NaN
    frame["genre"] = frame["genre"].astype("category")
    frame.to_parquet(tmp_path / "a.parquet")
    dataset = read(tmp_path / "a.parquet")
    assert dataset.fingerprint == read(write(tmp_path / "a.csv", rows)).fingerprint
    assert dataset.classes["sentiment"] == ("0", "1", "2")
    assert dataset.examples[7].where == "a.parquet row 8"
    frame.to_csv(tmp_path / "b.csv", index=False)  # pandas writes 1.0 where a value is missing
    assert read(tmp_path / "b.csv").fingerprint == dataset.fingerprint


def test_parquet_faults_are_reported(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really PAR1")
    pandas.DataFrame({"text": [1, 2], "genre": [["a"], ["b"]]}).to_parquet(tmp_path / "b.parquet")
    message = faults(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert "a.parquet" in message
    assert "int64 in b.parquet" in message
    assert "list" in message


def test_all_faults_of_all_files_are_reported_at_once_with_their_lines(tmp_path):
    good = "text,genre\n" + "".join(f"story {n},crime\n" for n in range(3))
    contents = {
        "fields.csv": good + "one, two,crime\nfine,crime\nalone\n",
        "quote.csv": good + '"never closed,crime\nmore,crime\n',
        "stray.csv": good + '"closed" too early,crime\n',
        "zero.csv": good + "a\0b,crime\n",
        "header.csv": "titel,genre\na,crime\n",
        "twice.csv": "text,genre,genre\na,crime,crime\n",
        "empty.csv": "",
        "wide.csv": good + '"' + 200_000 * "x" + '",crime\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    lines = faults(tmp_path).splitlines()
    found = {name: next(line for line in lines if name in line) for name in contents}
    assert len(lines) == len(contents) + 1  # the header lacks a name, and no file has labels
    assert "line 5, 7" in found["fields.csv"]
    assert "quote.csv line 5" in found["quote.csv"]
    assert "stray.csv line 5" in found["stray.csv"]
    assert "zero.csv line 5" in found["zero.csv"]
    assert "titel, genre" in found["header.csv"]
    assert "genre twice" in found["twice.csv"]


def test_lines_are_counted_over_line_breaks_in_fields(tmp_path):
    rows = plain()
    rows[0]["text"] = "two\nlines"
    rows[1]["text"] = ""
    dataset = read(write(tmp_path / "a.csv", rows))
    assert dataset.examples[0].text == "two\nlines"
    assert dataset.findings() == [f"{Kind.EMPTY}: a.csv line 4 (left out)"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.csv", "no "),
        (lambda folder: folder, "none in"),
        (lambda folder: write(folder / "a.xlsx", plain()), "a.xlsx"),
        (lambda folder: write(folder / "a.csv", [{"text": "a", "mood": "x"}]), "mood"),
        (lambda folder: write(folder / "a.csv", plain(4)), "at least 10 different texts"),
        (lambda folder: write(folder / "a.csv", [{"text": "", "genre": "x"}] * 20), "20 x empty text"),
        (
            lambda folder: write(folder / "a.csv", [r | {"genre": "crime"} for r in plain()]),
            "genre must have two classes",
        ),
        (lambda folder: write(folder / "a.csv", [r | {"split": "holdout"} for r in plain()]), "'holdout' in a.csv"),
        (lambda folder: write(folder / "a.csv", [r | {"split": "test"} for r in plain()]), "training split"),
        (
            lambda folder: write(folder / "a.csv", [r | {"genre": "", "sentiment": ""} for r in plain()]),
            "none for genre, sentiment",
        ),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, make, message):
    assert message in faults(make(tmp_path))


def test_no_source_is_reported():
    assert "no file" in faults()


def test_partial_labels_are_kept_and_none_left_out(tmp_path):
    rows = plain()
    rows[0]["genre"] = ""
    rows[1]["sentiment"] = " "
    rows[2] |= {"genre": "", "sentiment": ""}
    dataset = read(write(tmp_path / "a.csv", rows))
    assert named(dataset)["story number 0"] == {"genre": None, "sentiment": "bad"}
    assert named(dataset)["story number 1"] == {"genre": "romance", "sentiment": None}
    assert "story number 2" not in named(dataset)
    assert dataset.findings() == [f"{Kind.NO_LABEL}: a.csv line 4 (left out)"]
    counts = [split["unlabelled"] for split in dataset.summary()["splits"].values()]
    assert sum(count["genre"] for count in counts) == sum(count["sentiment"] for count in counts) == 1
    assert any("(1 without)" in line for line in dataset.lines().values())


def test_two_files_with_a_head_each(tmp_path):
    genres = write(tmp_path / "genres.csv", [{"text": f"g {n}", "genre": GENRES[n % 2]} for n in range(30)])
    moods = write(
        tmp_path / "moods.tsv", [{"text": f"s {n}", "sentiment": "ab"[n % 2]} for n in range(30)], "utf-8", "\t"
    )
    dataset = read(genres, moods)
    assert dataset.name == "genres.csv + moods.tsv"
    assert Counter(tuple(n is None for n in e.labels.values()) for e in dataset.examples) == {
        (False, True): 30,
        (True, False): 30,
    }
    for head, names in dataset.classes.items():
        for split in texts.SPLITS:
            assert {e.labels[head] for e in dataset.examples if e.split == split} == {None, *range(len(names))}
    folder = read(tmp_path)
    assert folder.fingerprint == dataset.fingerprint
    assert folder.name == tmp_path.name
    assert folder.examples[0].where == f"{tmp_path.name}/genres.csv line 2"
    assert [e.text for e in read(tmp_path, genres).examples] == [e.text for e in folder.examples]


def test_labels_of_one_text_in_two_files_are_joined(tmp_path):
    genres = write(tmp_path / "genres.csv", [{"text": f"story {n}", "genre": GENRES[n % 2]} for n in range(30)])
    moods = write(tmp_path / "moods.csv", [{"text": f"Story  {n}", "sentiment": "ab"[n % 2]} for n in range(20)])
    dataset = read(genres, moods)
    assert len(dataset.examples) == 30
    assert named(dataset)["story 5"] == {"genre": "romance", "sentiment": "b"}
    assert kinds(dataset) == {Kind.JOINED: 20}
    assert dataset.findings()[0] == f"{Kind.JOINED}: moods.csv line 2 (joined to genres.csv line 2)"


def test_duplicates_count_once_and_contradictions_not_at_all(tmp_path):
    rows = plain()
    rows.append(rows[4] | {"text": " Story NUMBER  4"})  # equal but for blanks and capitals
    rows.append(rows[5] | {"genre": "crime"})
    rows.append(rows[6] | {"genre": ""})
    dataset = read(write(tmp_path / "a.csv", rows))
    assert [e.text for e in dataset.examples] == [f"story number {n}" for n in range(40) if n != 5]
    assert dataset.findings() == [
        f"{Kind.DUPLICATE}: a.csv line 42 (left out, the same as a.csv line 6)",
        f"{Kind.CONTRADICTION}: a.csv line 7 (left out)",
        f"{Kind.CONTRADICTION}: a.csv line 43 (left out)",
        f"{Kind.DUPLICATE}: a.csv line 44 (left out, the same as a.csv line 8)",
    ]


def test_equal_texts_in_given_splits_are_kept_and_listed(tmp_path):
    rows = [row | {"split": split} for split in ("Training", "valid", "test") for row in plain(12)]
    for n, row in enumerate(rows[12:]):
        row["text"] += " again" if n else ""
    rows[24]["text"] = "another"
    dataset = read(write(tmp_path / "a.csv", rows))
    assert dataset.splits_given
    assert Counter(e.split for e in dataset.examples) == {"train": 12, "val": 12, "test": 12}
    assert dataset.found.leaks[0] == ("train: a.csv line 2", "val: a.csv line 14")
    assert len(dataset.found.leaks) == 12
    assert dataset.findings()[0] == "equal texts across splits: train: a.csv line 2, val: a.csv line 14"


def test_rows_in_no_split_are_left_out_where_there_are_splits(tmp_path):
    rows = [row | {"split": ("train", "val", "test", "")[n % 4]} for n, row in enumerate(plain(80))]
    for n, row in enumerate(rows):
        row |= {"genre": GENRES[n // 4 % 2], "sentiment": "ab"[n // 8 % 2]}
    dataset = read(write(tmp_path / "a.csv", rows))
    assert kinds(dataset) == {Kind.NO_SPLIT: 20}
    assert len(dataset.examples) == 60


def test_a_test_split_is_made_where_none_is_given(tmp_path):
    rows = [row | {"split": "train"} for row in plain(60)]
    dataset = read(write(tmp_path / "a.csv", rows))
    assert Counter(e.split for e in dataset.examples) == {"train": 42, "val": 9, "test": 9}
    assert "no val and no test split" in dataset.found.warnings[0]


def test_files_called_by_splits_are_those_splits(tmp_path):
    for n, name in enumerate(("train-00000-of-00001", "validation", "test")):
        write(tmp_path / f"{name}.csv", plain(12, start=100 * n))
    dataset = read(tmp_path)
    assert {e.where.split("/")[1][:4] + " " + e.split for e in dataset.examples} == {
        "trai train",
        "vali val",
        "test test",
    }
    assert "the splits are those in the files' names" in dataset.found.warnings[0]
    assert not read(tmp_path / "test.csv").splits_given  # one file is not a split of anything


def test_a_split_column_in_some_files_only_is_reported(tmp_path):
    write(tmp_path / "a.csv", [row | {"split": "train"} for row in plain()])
    write(tmp_path / "b.csv", plain(start=100))
    assert "none in" in faults(tmp_path)


def test_a_head_that_cannot_be_trained_is_left_out_with_a_note(tmp_path):
    rows = [row | {"split": ("train", "val", "test")[n // 20]} for n, row in enumerate(plain(60))]
    for row in rows:
        if row["split"] == "train":
            row["sentiment"] = ""
        if row["split"] == "test":
            row["genre"] = row["genre"] if row["text"].endswith(("2", "3")) else ""
    dataset = read(write(tmp_path / "a.csv", rows), heads=("mood", "sentiment", "genre"))
    assert list(dataset.classes) == ["genre"]
    assert dataset.found.warnings == tuple(
        f"the head {h} is left out, as it has no labels in training" for h in ("mood", "sentiment")
    )
    assert kinds(dataset) == {Kind.NO_LABEL: 16}


def test_given_splits_must_hold_what_is_learned_and_scored(tmp_path):
    rows = [row | {"split": ("train", "val", "test")[n // 20]} for n, row in enumerate(plain(60))]
    rows[45]["genre"] = "travel"
    for row in rows[20:40]:
        row["sentiment"] = ""
    message = faults(write(tmp_path / "a.csv", rows))
    assert "every class of genre must be in the training split; found no travel" in message
    assert "the val split must have a label of the head sentiment" in message


def test_classes_missing_in_a_split_or_alike_are_noted(tmp_path):
    rows = plain(60)
    rows[0]["genre"] = "Crime"
    notes = " | ".join(read(write(tmp_path / "a.csv", rows)).found.warnings)
    assert "genre Crime has no text in val" in notes
    assert "genre Crime and crime are different classes" in notes


def test_other_columns_are_noted_and_likely_labels_reported(tmp_path):
    rows = [row | {"id": str(n), "mood": "abc"[n % 3], "source": "web"} for n, row in enumerate(plain(60))]
    notes = read(write(tmp_path / "a.csv", rows)).found.warnings
    assert "the column 'id' of a.csv is ignored" in notes
    assert "the column 'source' of a.csv is ignored" in notes
    likely = next(note for note in notes if "mood" in note)
    assert "3 different values" in likely
    assert "declare a head of this name" in likely


def test_columns_are_found_whatever_their_capitals_and_numbers_are_names(tmp_path):
    rows = [
        {" Text": f"story {n}", "GENRE ": str(n % 2), "Sentiment": "e\u0301" if n % 2 else "\u00e9"} for n in range(40)
    ]
    rows += [{" Text": f"more {n}", "GENRE ": "1.0", "Sentiment": "x"} for n in range(9)]
    dataset = read(write(tmp_path / "a.csv", rows))
    assert dataset.classes == {"genre": ("0", "1"), "sentiment": ("x", "é")}  # one é, however composed


def test_splits_follow_the_seed_and_keep_shares_of_all_heads(tmp_path):
    path = write(tmp_path / "a.csv", plain(400))
    first, again, other = read(path, seed=1), read(path, seed=1), read(path, seed=2)
    assert first.examples == again.examples
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert Counter(e.split for e in first.examples) == {"train": 280, "val": 60, "test": 60}
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        for head in HEADS:
            counts = Counter(e.labels[head] for e in first.examples if e.split == split)
            assert all(abs(counts[n] / 200 - share) < 0.02 for n in (0, 1))


def test_the_fingerprint_is_of_the_content(tmp_path):
    rows = [row | {"split": ("train", "val", "test")[n % 3]} for n, row in enumerate(plain(60))]
    wanted = read(write(tmp_path / "a.csv", rows)).fingerprint
    assert read(write(tmp_path / "b.tsv", rows, "utf-16", "\t")).fingerprint == wanted
    for n, change in enumerate(({"text": "other"}, {"genre": "crime"}, {"genre": ""}, {"split": "train"})):
        changed = [rows[0], rows[1] | change, *rows[2:]]
        assert read(write(tmp_path / f"{n}.csv", changed)).fingerprint != wanted
    assert read(write(tmp_path / "r.csv", rows[::-1])).fingerprint != wanted


LETTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff")
TEXTS = st.text(LETTERS | st.sampled_from(',;"\t\n '), min_size=1, max_size=20).map(lambda text: f"a{text}z")
NAMES = st.sampled_from(["crime", "science fiction", "a,b", 'so "called"', "é", "x;y", "<1>"])


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(TEXTS, NAMES | st.just(""), st.sampled_from(["0", "1"])),
        min_size=10,
        max_size=30,
        unique_by=lambda row: " ".join(row[0].split()).casefold(),
    ),
    st.sampled_from([("a.csv", ",", "utf-8"), ("a.csv", ";", "utf-8-sig"), ("a.tsv", "\t", "utf-16")]),
)
def test_what_is_written_is_read(tmp_path, drawn, layout):
    name, delimiter, encoding = layout
    rows = [{"text": text, "genre": genre, "sentiment": mood} for text, genre, mood in drawn]
    rows += [
        {"text": f"b {n} {g} {m}", "genre": g, "sentiment": m} for n in range(5) for g in ("crime", "é") for m in "01"
    ]
    dataset = read(write(tmp_path / name, rows, encoding, delimiter))
    assert dataset.found.repairs == ()
    assert named(dataset) == {row["text"]: {head: row[head] or None for head in HEADS} for row in rows}
    assert {e.split for e in dataset.examples} == set(texts.SPLITS)
