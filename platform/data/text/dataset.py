"""Data sets of texts with a label for each of several heads, checked row by row, and split in three.

They are CSV, TSV or Parquet files with the column `text`, a column of labels for each head and, if there are splits,
`split`; or files called train, val and test. Rows may lack some labels, and files may have labels of different heads.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from platform.data import tables
from platform.data.datasets import CheckedDataset, absent
from platform.data.files import absolute, is_file, is_folder, place, printable, split_of
from platform.data.findings import Findings, Repair, counted, leaks, summarise
from platform.data.splits import SPLITS, complete
from platform.errors import Fault, InputError, raise_if_any

TEXT, SPLIT = "text", "split"
FEWEST = 10  # least number of texts in a data set

_MAX_CLASSES = 50  # most different values of a column whose values could be classes
_MAX_NAMES = 12  # classes that a line names
_INTEGER = re.compile(r"(-?\d+)\.0+")  # integers of a column with missing values, as pandas writes them


class Kind(StrEnum):
    """Kinds of problems for which texts are left out or joined."""

    EMPTY = "empty text"
    NO_LABEL = "text without any label"
    NO_SPLIT = "text in no split"
    DUPLICATE = "duplicate text"
    JOINED = "labels of one text in several rows"
    CONTRADICTION = "text with contradicting labels"


@dataclass(frozen=True, slots=True)
class Example:
    """Text and its labels.

    Attributes:
        text: Text without blanks around it.
        labels: Index of the class by head, or None where it is not known.
        split: "train", "val" or "test".
        where: File and line, e.g. "reviews.csv line 12".
    """

    text: str
    labels: Mapping[str, int | None]
    split: str
    where: str


@dataclass(frozen=True)
class TextDataset(CheckedDataset):
    """Checked data set of texts.

    Attributes:
        name: Name of the folder, or names of the files.
        classes: Sorted names of the classes by head, in the given order of heads.
        examples: Examples in the order of the files and rows.
    """

    name: str
    classes: Mapping[str, tuple[str, ...]]
    examples: tuple[Example, ...]
    splits_given: bool
    found: Findings

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over texts, labels, splits and classes, in the examples' order, independent of the files."""
        digest = hashlib.sha256(json.dumps(list(self.classes.items())).encode())
        for example in self.examples:
            digest.update(json.dumps([example.text, list(example.labels.values()), example.split]).encode())
        return digest.hexdigest()

    def _facts(self) -> dict[str, Any]:
        return {"classes": {head: list(names) for head, names in self.classes.items()}}

    def _line(self, counts: Mapping[str, Any]) -> str:
        heads = []
        for head, labels in counts["labels"].items():
            lack = counts["unlabelled"][head]
            heads.append(f"{head}: {counted(labels)}{f' ({lack} without)' if lack else ''}")
        return f"{counts['texts']} texts; {'; '.join(heads)}"

    def _counts(self, examples: Sequence[Example]) -> dict[str, Any]:
        counts = {head: Counter(example.labels[head] for example in examples) for head in self.classes}
        return {
            "texts": len(examples),
            "labels": {
                head: {name: counts[head][label] for label, name in enumerate(names)}
                for head, names in self.classes.items()
            },
            "unlabelled": {head: counts[head][None] for head in self.classes},
        }


@dataclass(frozen=True, slots=True)
class _Row:
    """Text as written, with its labels by head."""

    text: str
    labels: Mapping[str, str]
    split: str | None
    where: str

    @property
    def key(self) -> str:
        """Text in lower case with single blanks, which is the same for texts that count as equal."""
        return " ".join(self.text.split()).casefold()


def read(sources: Sequence[Path], heads: Sequence[str], encoding: str, seed: int) -> TextDataset:
    """Read files, or folders of them, as one data set.

    Splits that the data gives are kept; missing ones are made, stratified over the labels of all heads, with equal
    texts kept together: see `splits.complete`. A text that occurs twice in a split counts once, with all its labels.

    Args:
        sources: CSV, TSV and Parquet files, and folders that contain such files.
        heads: Names of the columns with labels.
        encoding: Encoding of CSV and TSV by Python's name, or "detect", see `tables`.
        seed: Seed of the splits made here.

    Raises:
        InputError: Files cannot be read, or there is nothing to train, validate or test on.
    """
    sources = [absolute(source) for source in sources]
    notes: list[str] = []
    repairs: list[Repair] = []
    rows = _placed(_rows(_files(sources), heads, encoding, notes, repairs), repairs)
    rows = _labelled(_distinct(rows, repairs), heads, notes, repairs)
    if len(rows) < FEWEST:
        rule = f"there must be at least {FEWEST} different texts with a label"
        raise InputError(Fault(rule, str(len(rows)), summarise(repairs) or "Add some."))
    names = [{f"{head}={label}" for head, label in row.labels.items()} for row in rows]
    splits, made = complete([row.split for row in rows], names, [row.key for row in rows], seed)
    classes = {head: tuple(sorted({row.labels[head] for row in rows if head in row.labels})) for head in heads}
    classes = {head: names for head, names in classes.items() if names}
    numbers: dict[str, dict[str | None, int]] = {
        head: {name: number for number, name in enumerate(names)} for head, names in classes.items()
    }
    examples = tuple(
        Example(row.text, {head: n.get(row.labels.get(head)) for head, n in numbers.items()}, split, row.where)
        for row, split in zip(rows, splits, strict=True)
    )
    raise_if_any(_class_faults(examples, classes, repairs))
    return TextDataset(
        name=" + ".join(dict.fromkeys(printable(source.name) for source in sources)),
        classes=classes,
        examples=examples,
        splits_given=any(row.split for row in rows),
        found=Findings(
            repairs=tuple(repairs),
            leaks=leaks((row.key, row.split, row.where) for row in rows if row.split),
            warnings=(*notes, *made, *_class_notes(examples, classes)),
            items="texts",
        ),
    )


def _files(sources: Sequence[Path]) -> dict[Path, str]:
    """Return every data file and its name in messages."""
    files: dict[Path, str] = {}
    faults = []
    known = ", ".join(tables.SUFFIXES)
    for source in sources:
        rule = f"the data must be files or folders of files that end in {known}"
        if is_folder(source):
            inside = [path for path in sorted(source.iterdir()) if _is_data(path)]
            files |= {path: place(source.parent, path) for path in inside if path not in files}
            if not inside:
                faults.append(Fault(rule, f"none in {source}", "Put them there."))
        elif not is_file(source):
            faults.append(Fault(rule, f"no {source}", "Check the path."))
        elif source.suffix.lower() not in tables.SUFFIXES:
            faults.append(Fault(rule, str(source), "Convert it."))
        else:
            files.setdefault(source, printable(source.name))
    if not sources:
        faults.append(Fault("there must be data to read", "no file", "Name one."))
    raise_if_any(faults)
    return files


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in tables.SUFFIXES and not path.name.startswith(".") and path.is_file()


def _rows(
    files: Mapping[Path, str], heads: Sequence[str], encoding: str, notes: list[str], repairs: list[Repair]
) -> list[_Row]:
    """Read every row of every file; only the split is checked."""
    read: dict[str, tables.Table] = {}
    faults: list[Fault] = []
    for file, name in files.items():
        try:
            read[name] = tables.read(file, name, (TEXT, SPLIT, *(head.lower() for head in heads)), encoding)
        except InputError as error:
            faults += error.faults
    raise_if_any([*faults, *_column_faults(read, heads)])
    by_name = _splits_by_name(read)
    if by_name:
        named = ", ".join(f"{name} {split}" for name, split in by_name.items())
        notes.append(f"the splits are those in the files' names: {named}")
    rows: list[_Row] = []
    for name, table in read.items():
        notes += [*table.notes, *(_ignored(name, *other) for other in table.others.items())]
        repairs += table.repairs
        given = table.columns.get(SPLIT, [by_name.get(name)] * len(table.places))
        meant = {value: split_of(value) for value in set(given) if value}
        unknown = sorted(value for value, split in meant.items() if split is None)
        if unknown:
            rule, found = "a split must be train, val or test", f"{', '.join(map(repr, unknown[:5]))} in {name}"
            faults.append(Fault(rule, found, "Rename it."))
        labels = {head: table.columns[head.lower()] for head in heads if head.lower() in table.columns}
        for number, (at, text, split) in enumerate(zip(table.places, table.columns[TEXT], given, strict=True)):
            known = {head: _label(value) for head, values in labels.items() if (value := values[number])}
            rows.append(_Row(text or "", known, meant[split] if split else None, f"{name} {at}"))
    raise_if_any(faults)
    return rows


def _column_faults(read: Mapping[str, tables.Table], heads: Sequence[str]) -> list[Fault]:
    faults = []
    if not any(head.lower() in table.columns for table in read.values() for head in heads):
        others = ", ".join(sorted({column for table in read.values() for column in table.others})) or "none"
        rule = f"the data must have a column of labels for a head: {', '.join(heads)}"
        faults.append(Fault(rule, f"the other columns {others}", "Name one of them as a head, or rename it."))
    without = [name for name, table in read.items() if SPLIT not in table.columns]
    if 0 < len(without) < len(read):
        rule, found = "all files must have a column split, or none", f"none in {', '.join(without)}"
        faults.append(Fault(rule, found, "Add it there."))
    return faults


def _splits_by_name(read: Mapping[str, tables.Table]) -> dict[str, str]:
    """Return the split in every file's name, such as train.csv; empty if a column has it or a name has none."""
    if any(SPLIT in table.columns for table in read.values()):
        return {}
    named = {name: split_of(Path(name).stem) for name in read}
    splits = {name: split for name, split in named.items() if split}
    return splits if len(splits) == len(read) and len(set(splits.values())) > 1 else {}


def _ignored(name: str, column: str, values: int) -> str:
    note = f"the column {column!r} of {name} is ignored"
    if not 1 < values <= _MAX_CLASSES:
        return note
    return f"{note}: if its {values} different values are classes, declare a head of this name in the search space"


def _label(value: str) -> str:
    integer = _INTEGER.fullmatch(value)
    return integer[1] if integer else unicodedata.normalize("NFC", value)


def _placed(rows: Sequence[_Row], repairs: list[Repair]) -> list[_Row]:
    """Leave out rows without text and, if there are splits, rows in none."""
    splits = any(row.split for row in rows)
    kept = []
    for row in rows:
        if not row.text or (splits and not row.split):
            repairs.append(Repair(Kind.NO_SPLIT if row.text else Kind.EMPTY, row.where))
        else:
            kept.append(row)
    return kept


def _distinct(rows: Iterable[_Row], repairs: list[Repair]) -> list[_Row]:
    """Join the rows that have the same text in the same split; leave all out if their labels differ."""
    groups: dict[tuple[str, str | None], list[_Row]] = defaultdict(list)
    for row in rows:
        groups[row.key, row.split].append(row)
    kept = []
    for first, *others in groups.values():
        labels = dict(first.labels)
        found = []
        for row in others:
            kind = Kind.JOINED if row.labels.keys() - labels.keys() else Kind.DUPLICATE
            action = "joined to" if kind == Kind.JOINED else "left out, the same as"
            found.append(Repair(kind, row.where, f"{action} {first.where}"))
            labels |= {head: label for head, label in row.labels.items() if head not in labels}
        if any(labels[head] != label for row in others for head, label in row.labels.items()):
            repairs += [Repair(Kind.CONTRADICTION, row.where) for row in (first, *others)]
            continue
        repairs += found
        kept.append(replace(first, labels=labels))
    return kept


def _labelled(rows: Sequence[_Row], heads: Sequence[str], notes: list[str], repairs: list[Repair]) -> list[_Row]:
    """Leave out the labels of heads that cannot be trained, and rows without other labels."""
    trained = {head for row in rows if row.split in (None, "train") for head in row.labels}
    notes += [f"the head {head} is left out, as it has no labels in training" for head in heads if head not in trained]
    if rows and not trained:
        rule, found = "a head must have labels in the training split", f"none for {', '.join(heads)}"
        raise InputError(Fault(rule, found, summarise(repairs) or "Add labels."))
    rows = [replace(row, labels={h: label for h, label in row.labels.items() if h in trained}) for row in rows]
    repairs += [Repair(Kind.NO_LABEL, row.where) for row in rows if not row.labels]
    return [row for row in rows if row.labels]


def _class_faults(
    examples: Sequence[Example], classes: Mapping[str, Sequence[str]], repairs: Sequence[Repair]
) -> list[Fault]:
    faults = []
    for head, names in classes.items():
        if len(names) == 1:
            rule, found = f"the head {head} must have two classes at least", f"only {names[0]}"
            faults.append(Fault(rule, found, f"Leave the head out, or add others. {summarise(repairs)}".strip()))
        for split in SPLITS:
            present = {example.labels[head] for example in examples if example.split == split} - {None}
            missing = absent(names, present)
            if split == "train" and missing:
                rule, found = f"every class of {head} must be in the training split", f"no {', '.join(missing)}"
                faults.append(Fault(rule, found, "Move some there, or remove these labels."))
            elif not present:
                rule = f"the {split} split must have a label of the head {head}"
                faults.append(Fault(rule, "none", f"Label some, or leave the head out. {summarise(repairs)}".strip()))
    return faults


def _class_notes(examples: Sequence[Example], classes: Mapping[str, Sequence[str]]) -> list[str]:
    notes = []
    for head, names in classes.items():
        for split in ("val", "test"):
            missing = absent(names, (example.labels[head] for example in examples if example.split == split))
            if missing:
                notes.append(f"{head} {', '.join(missing[:_MAX_NAMES])} has no text in {split}")
        spelt: dict[str, list[str]] = defaultdict(list)
        for name in names:
            spelt[" ".join(name.split()).casefold()].append(name)
        notes += [f"{head} {' and '.join(same)} are different classes" for same in spelt.values() if len(same) > 1]
    return notes
