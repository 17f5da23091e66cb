"""Tests of the tables of labels and aliases: they return what was written, whatever the labels contain."""

import csv

import pytest
from hostile_labels import LABELS
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.labels.grouping import DROP, group
from platform.curation.labels.label_table import (  # fmt: skip
    COLUMNS,
    GONE,
    NO_DECISIONS,
    Decisions,
    cell,
    read_aliases,
    read_decisions,
    write,
)
from platform.data import sheets
from platform.errors import InputError

COUNTS = {"Coca Cola": 40, "coca-cola®": 9, "Axis Bank": 4, "axis": 2, "logo": 1, "=1+1": 1}
HARD = st.dictionaries(st.one_of(st.sampled_from([*COUNTS]), LABELS), st.integers(1, 5), max_size=8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("cleaning") / "labels.csv"


def written(file, counts, decisions=NO_DECISIONS):
    write(file, group(counts, decisions=decisions.of), counts, counts, decisions)
    return sheets.read(file)[1]


def edit(file, decisions):
    """Write decisions by the label as the table has it."""
    columns, rows = sheets.read(file)
    sheets.write(file, columns, [row | {"decision": decisions.get(row["label"], row["decision"])} for row in rows])


def by_label(verdicts):
    return {verdict.label: verdict.cls for verdict in verdicts}


def test_a_line_for_each_label(file):
    rows = written(file, COUNTS)
    assert tuple(rows[0]) == COLUMNS
    shown = {row["label"]: row for row in rows}
    assert list(shown["coca-cola®"].values()) == [
        *("coca-cola®", "9", "9", "Coca Cola", "same but for punctuation", "1.0", "Coca Cola", "", "", ""),
    ]
    assert (shown["axis"]["suggestion"], shown["axis"]["suggestion_score"]) == ("Axis Bank", "0.9")
    assert shown["logo"]["suggestion"] == DROP


def test_no_cell_is_a_formula(file):
    written(file, {'=HYPERLINK("http://a.b")': 1, "+1+1": 1, "@SUM(A1)": 1, "-2+3": 1, "\t=1": 1})
    with file.open(newline="") as stream:
        cells = [text for row in csv.reader(stream) for text in row]
    assert not [text for text in cells if text.startswith(("=", "+", "-", "@", "\t"))]


@given(HARD)
def test_an_unedited_table_changes_nothing(file, counts):
    written(file, counts)
    decisions = read_decisions(file, counts)
    assert decisions == NO_DECISIONS
    assert group(counts, decisions=decisions.of) == group(counts)


@given(HARD, st.sampled_from(["Coke", "Кола", "a class, with a comma", DROP]), st.data())
def test_an_edited_table_gives_what_was_written(file, counts, cls, data):
    rows = written(file, counts)
    chosen = data.draw(st.sets(st.sampled_from([row["label"] for row in rows]))) if rows else set()
    edit(file, dict.fromkeys(chosen, cls))
    decisions = read_decisions(file, counts)
    meant = {label for label in counts if cell(label) in chosen}
    assert decisions == Decisions(dict.fromkeys(meant, None if cls == DROP else cls), {})
    found = by_label(group(counts, decisions=decisions.of))
    assert all(found[label] == decisions.of[label] for label in meant)
    written(file, counts, decisions)
    assert read_decisions(file, counts) == decisions


def test_decisions_about_labels_that_are_gone_stay_for_when_they_are_back(file):
    written(file, COUNTS)
    edit(file, {"axis": "Axis Bank", "logo": "–"})
    left = {label: count for label, count in COUNTS.items() if label != "axis"}
    decisions = read_decisions(file, left)
    assert decisions == Decisions({"logo": None}, {"axis": "Axis Bank"})
    rows = written(file, left, decisions)
    assert [(row["label"], row["decision"]) for row in rows if row["reason"] == GONE] == [("axis", "Axis Bank")]
    assert read_decisions(file, COUNTS) == Decisions({"logo": None, "axis": "Axis Bank"}, {})


def test_very_long_labels_are_reported_apart(file):
    counts = {"x" * 3000 + str(number): 1 for number in range(2)}
    first, second = written(file, counts)
    assert len(first["label"]) < 1100
    assert first["label"] != second["label"]
    edit(file, {first["label"]: "Long"})
    assert len(read_decisions(file, counts).of) == 1


def faults(read, file, text, *arguments):
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(file, *arguments)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,class\na,b\n", "no decision in"),
        ("", "no label, decision in"),
        ("label,decision\na,X\na,Y\n", "a: X, Y"),
        (f"label,decision\na,{'X' * 201}\n", "at most 200 characters"),
    ],
)
def test_faults_of_decisions(tmp_path, text, message):
    (fault,) = faults(read_decisions, tmp_path / "labels.csv", text, ["a"])
    assert message in fault


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="--aliases needs a table with the columns alias, class"):
        read_aliases(tmp_path / "none.csv")


def test_aliases_are_read_as_spreadsheets_save_them(tmp_path):
    file = tmp_path / "aliases.csv"
    file.write_text("\ufeffClass;Alias;note\nCoca-Cola;Coke;x\nCoca-Cola; coke ;\n;;\n", encoding="utf-8")
    assert read_aliases(file) == {"Coke": "Coca-Cola", "coke": "Coca-Cola"}


def test_all_faults_of_aliases_are_reported_at_once(tmp_path):
    text = "alias,class\nCoke,Coca-Cola\ncoke!,Pepsi\n???,Sign\nLidl,\n,Aldi\n"
    messages = faults(read_aliases, tmp_path / "aliases.csv", text)
    assert len(messages) == 3
    assert "coke: Coca-Cola, Pepsi" in " ".join(messages)
    assert "2 that do not: Lidl; Aldi" in " ".join(messages)
    assert "???" in " ".join(messages)
