"""Table cleaning/labels.csv, which people edit and give back with --decisions, and the table of --aliases.

    label,boxes,images,class,reason,score,matched,suggestion,suggestion_score,decision      # one line per raw label

Only the column decision is read back: a class's name, or "-" to leave the label's boxes out.
"""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from platform.curation.labels.grouping import DROP, LabelDecision
from platform.curation.labels.normalise import LONGEST, key
from platform.curation.steps import read_table
from platform.data import sheets
from platform.data.files import printable
from platform.errors import Fault, raise_if_any

COLUMNS = (
    "label", "boxes", "images", "class", "reason", "score", "matched", "suggestion", "suggestion_score", "decision"
)  # fmt: skip
DECISION_COLUMNS, ALIAS_COLUMNS = ("label", "decision"), ("alias", "class")

GONE = "no longer there"  # reason of a label with a decision that the data no longer has
_CELL = 1000  # characters of a label that are written: a spreadsheet's cell holds 32,767
_DASHES = ("-", "–", "—", "−")  # spreadsheets replace a minus by these  # noqa: RUF001
_EXAMPLES = 3  # examples in a fault


class Decisions(NamedTuple):
    """Decisions of a person."""

    of: dict[str, str | None]  # class by raw label; None leaves its boxes out
    gone: dict[str, str | None]  # the same for labels that no longer exist, as the table writes them

    def by_cell(self) -> dict[str, str | None]:
        """Return all decisions by label as the table writes it."""
        return {cell(label): cls for label, cls in self.of.items()} | self.gone


NO_DECISIONS = Decisions({}, {})


def write(
    file: Path,
    verdicts: Iterable[LabelDecision],
    boxes: Mapping[str, int],
    images: Mapping[str, int],
    decisions: Decisions = NO_DECISIONS,
) -> None:
    """Write the table atomically, with a line for each verdict, and the numbers of boxes and images of its label.

    Given decisions are kept in their column for further editing.
    """
    rows = [
        verdict._asdict()
        | {"label": cell(verdict.label), "boxes": boxes.get(verdict.label, 0), "images": images.get(verdict.label, 0)}
        | {"class": verdict.cls, "matched": cell(verdict.matched)}
        for verdict in verdicts
    ]
    rows += [{"label": label, "boxes": 0, "images": 0, "reason": GONE} for label in sorted(decisions.gone)]
    decided = {label: DROP if cls is None else cls for label, cls in decisions.by_cell().items()}
    rows = [row | {"decision": decided.get(str(row["label"]))} for row in rows]
    sheets.write(file, COLUMNS, ({column: row.get(column) for column in COLUMNS} for row in rows))


def read_decisions(file: Path, labels: Collection[str]) -> Decisions:
    """Read the decisions about these labels.

    Raises:
        InputError: There is no such table, a label has two decisions, or a class is not valid.
    """
    option = "--decisions"
    written = [(row["label"], _class(row["decision"])) for row in _rows(file, option, DECISION_COLUMNS)]
    decided: dict[str, set[str]] = defaultdict(set)
    for shown, cls in written:
        decided[shown] |= {cls} - {""}
    decided = {shown: classes for shown, classes in decided.items() if classes}
    raise_if_any(_class_faults(option, {cls for classes in decided.values() for cls in classes}))
    raise_if_any(_one_class_each(option, decided, "label"))
    classes = {shown: None if cls == DROP else cls for shown, (cls,) in decided.items()}
    of = {label: classes[cell(label)] for label in labels if cell(label) in classes}
    there = {cell(label) for label in labels}
    return Decisions(of, {shown: cls for shown, cls in classes.items() if shown not in there})


def read_aliases(file: Path) -> dict[str, str]:
    """Read classes by alias.

    Raises:
        InputError: There is no such table, a line is incomplete, or aliases with the same key have two classes.
    """
    option = "--aliases"
    lines = [(row["alias"].strip(), _class(row["class"])) for row in _rows(file, option, ALIAS_COLUMNS)]
    half = [alias or cls for alias, cls in lines if not alias or not cls or cls == DROP]
    nothing = [alias for alias, _ in lines if alias and not key(alias)]
    keyed: dict[str, set[str]] = defaultdict(set)
    for alias, cls in lines:
        keyed[key(alias).replace(" ", "")].add(cls)
    raise_if_any(
        [
            *_fault(f"each line of {option} needs an alias and a class", half, "Complete or remove the line."),
            *_fault(f"an alias in {option} needs letters or digits", nothing, "Remove the line."),
            *_class_faults(option, {cls for _, cls in lines}),
            *_one_class_each(option, {name: classes for name, classes in keyed.items() if name}, "alias"),
        ]
    )
    return dict(lines)


def cell(label: str) -> str:
    """Return a raw label as the table writes it: one line without control characters, truncated if very long."""
    text = "".join(" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in label[:_CELL])
    if len(label) <= _CELL:
        return text
    return f"{text}… {hashlib.sha256(label.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _class(text: str) -> str:
    name = " ".join(printable(text).split())
    return DROP if name in _DASHES else name


def _rows(file: Path, option: str, needed: Collection[str]) -> list[dict[str, str]]:
    rule = f"{option} needs a table with the columns {', '.join(needed)}"
    return read_table(file, needed, rule, "Give a CSV file with the names of the columns in its first line.")


def _class_faults(option: str, classes: Iterable[str]) -> Iterator[Fault]:
    long = sorted(cls for cls in classes if len(cls) > LONGEST)
    yield from _fault(f"a class in {option} has at most {LONGEST} characters", long, "Shorten it.")


def _one_class_each(option: str, classes: Mapping[str, Collection[str]], what: str) -> Iterator[Fault]:
    several = [f"{name}: {', '.join(sorted(of))}" for name, of in sorted(classes.items()) if len(of) > 1]
    yield from _fault(f"a {what} in {option} has one class", several, "Keep one of them.")


def _fault(rule: str, values: Collection[str], remedy: str) -> Iterator[Fault]:
    if values:
        examples = "; ".join(value[:80] for value in [*values][:_EXAMPLES])
        yield Fault(rule, f"{len(values)} that do not: {examples}", remedy)
