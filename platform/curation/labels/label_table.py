"""cleaning/labels.csv, which people edit and hand back with --decisions, and the table of --aliases.

label,boxes,images,class,reason,score,matched,suggestion,suggestion_score,decision      a line for each raw label

Only the column decision is read back: a class's name, or "-" to leave the label's boxes out. The rest is information.
"""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from platform.curation.labels.grouping import DROP, Verdict
from platform.curation.labels.normalise import LONGEST, key
from platform.data import sheets
from platform.data.files import printable
from platform.errors import Fault, InputError, raise_if_any

COLUMNS = (
    "label", "boxes", "images", "class", "reason", "score", "matched", "suggestion", "suggestion_score", "decision"
)  # fmt: skip
DECISION_COLUMNS, ALIAS_COLUMNS = ("label", "decision"), ("alias", "class")

GONE = "no longer there"  # a reason: of a label that was decided about
_CELL = 1000  # characters of a label that are written: a spreadsheet's cell holds 32,767
_DASHES = ("-", "–", "—", "−")  # what spreadsheets make of a minus  # noqa: RUF001
_TOLD = 3  # examples in a fault

_Rows = list[dict[str, str]]


class Decisions(NamedTuple):
    """What a person wrote.

    Attributes:
        of: Class by raw label; None leaves its boxes out.
        gone: The same by labels that are no longer there, as the table has them.
    """

    of: dict[str, str | None]
    gone: dict[str, str | None]

    def shown(self) -> dict[str, str | None]:
        """All, by label as the table has it."""
        return {cell(label): cls for label, cls in self.of.items()} | self.gone


NO_DECISIONS = Decisions({}, {})


def write(
    file: Path,
    verdicts: Iterable[Verdict],
    boxes: Mapping[str, int],
    images: Mapping[str, int],
    decisions: Decisions = NO_DECISIONS,
) -> None:
    """Writes a line for each label, whole or not at all.

    Args:
        file: In an existing folder.
        verdicts: Of `grouping.group`.
        boxes: How many each raw label has.
        images: On how many it is.
        decisions: That were given: they stay in their column, so that the table can be edited further.
    """
    rows = [
        verdict._asdict()
        | {"label": cell(verdict.label), "boxes": boxes.get(verdict.label, 0), "images": images.get(verdict.label, 0)}
        | {"class": verdict.cls, "matched": cell(verdict.matched)}
        for verdict in verdicts
    ]
    rows += [{"label": label, "boxes": 0, "images": 0, "reason": GONE} for label in sorted(decisions.gone)]
    decided = {label: DROP if cls is None else cls for label, cls in decisions.shown().items()}
    told = (row | {"decision": decided.get(str(row["label"]))} for row in rows)
    sheets.write(file, COLUMNS, ({column: row.get(column) for column in COLUMNS} for row in told))


def read_decisions(file: Path, labels: Collection[str]) -> Decisions:
    """Reads what a person decided about some of these labels.

    Raises:
        InputError: No such table, or a label is decided in two ways, or for a class that cannot be.
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
    """Reads classes by alias.

    Raises:
        InputError: No such table, or a line lacks one of both, or aliases that read the same have two classes.
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
    """A raw label as the table shows it: one line of characters that a file can hold, cut if very long."""
    text = "".join(" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in label[:_CELL])
    if len(label) <= _CELL:
        return text
    return f"{text}… {hashlib.sha256(label.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _class(text: str) -> str:
    name = " ".join(printable(text).split())
    return DROP if name in _DASHES else name


def _rows(file: Path, option: str, needed: Collection[str]) -> _Rows:
    rule = f"{option} needs a table with the columns {', '.join(needed)}"
    try:
        columns, rows = sheets.read(file)
    except (OSError, ValueError) as error:
        raise InputError(Fault(rule, f"{file} ({error})", "Give a CSV file that can be read.")) from error
    if missing := [column for column in needed if column not in columns]:
        raise InputError(Fault(rule, f"no {', '.join(missing)} in {file}", "Name the columns in the first line."))
    return rows


def _class_faults(option: str, classes: Iterable[str]) -> Iterator[Fault]:
    long = sorted(cls for cls in classes if len(cls) > LONGEST)
    yield from _fault(f"a class in {option} has at most {LONGEST} characters", long, "Shorten it.")


def _one_class_each(option: str, classes: Mapping[str, Collection[str]], what: str) -> Iterator[Fault]:
    several = [f"{name}: {', '.join(sorted(of))}" for name, of in sorted(classes.items()) if len(of) > 1]
    yield from _fault(f"a {what} in {option} has one class", several, "Keep one of them.")


def _fault(rule: str, values: Collection[str], remedy: str) -> Iterator[Fault]:
    if values:
        examples = "; ".join(value[:80] for value in [*values][:_TOLD])
        yield Fault(rule, f"{len(values)} that do not: {examples}", remedy)
