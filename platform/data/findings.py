"""Findings of a reader: what it repaired in the data or left out, leaks between splits, and warnings."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_PLACES = 3  # that a line names for one kind of repair
_MAX_CLASSES = 12  # that a line names
_MAX_WARNINGS = 8  # that have a line each


@dataclass(frozen=True)
class Repair:
    """One thing repaired or left out.

    Attributes:
        kind: Description of the problem; repairs of the same kind are counted together.
        where: File below the root and the entry in it, e.g. "Annotations/x.xml object 3".
        action: How the reader dealt with it.
        image: Image that lost an annotation by it, or None.
    """

    kind: str
    where: str
    action: str = "left out"
    image: Path | None = None


@dataclass(frozen=True)
class Findings:
    """Everything about the data that its user should know.

    Attributes:
        repairs: Everything that was repaired or left out.
        leaks: Items of equal content that lie in different splits, each as "split: where".
        warnings: Whatever else the user should know.
        items: Plural name of the examples, used in the title of the leaks.
    """

    repairs: tuple[Repair, ...] = ()
    leaks: tuple[tuple[str, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    items: str = "images"

    def lines(self) -> dict[str, str]:
        """Return lines for the console by title: one a kind of repair, one for all leaks, one a warning."""
        lines = {}
        for kind, count in self._kinds().items():
            places = [f"{r.where} ({r.action})" for r in self.repairs if r.kind == kind]
            lines[f"! {kind}"] = f"{count}: " + ", ".join(places[:_MAX_PLACES])
            lines[f"! {kind}"] += ", …" if count > _MAX_PLACES else ""
        if self.leaks:
            groups = f"{len(self.leaks)} group{'s' if len(self.leaks) > 1 else ''}"
            lines[f"! {self._leak()}"] = f"{groups}, the first: {', '.join(self.leaks[0])}"
        lines |= {f"! note {number}": warning for number, warning in enumerate(self.warnings[:_MAX_WARNINGS], start=1)}
        more = len(self.warnings) - _MAX_WARNINGS
        return lines | ({"! notes": f"{more} more are in the list of all findings"} if more > 0 else {})

    def listed(self) -> list[str]:
        """Return one line for every single finding."""
        repairs = [f"{r.kind}: {r.where} ({r.action})" for r in self.repairs]
        return repairs + [f"{self._leak()}: {', '.join(leak)}" for leak in self.leaks] + list(self.warnings)

    def summary(self) -> dict[str, Any]:
        """Return repairs counted by kind, leaks and warnings, ready for JSON."""
        return {
            "repairs": self._kinds(),
            "leaks": [list(leak) for leak in self.leaks],
            "warnings": list(self.warnings),
        }

    def _kinds(self) -> dict[str, int]:
        return dict(Counter(str(repair.kind) for repair in self.repairs))

    def _leak(self) -> str:
        return f"equal {self.items} across splits"


def leaks(items: Iterable[tuple[str, str, str]]) -> tuple[tuple[str, ...], ...]:
    """Find items of equal content in different splits.

    Args:
        items: (content, split, where) of each; `content` is equal for equal items, such as a hash.

    Returns:
        Groups of equal items, each item as "split: where".
    """
    equal: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for content, split, where in items:
        equal[content].append((split, where))
    found = [same for same in equal.values() if len({split for split, _ in same}) > 1]
    return tuple(tuple(f"{split}: {where}" for split, where in same) for same in found)


def counted(classes: Mapping[str, int]) -> str:
    """Return the count of each class as text, "ants 102, bees 100"; of many classes only the largest and smallest."""
    if len(classes) <= _MAX_CLASSES:
        return _named(classes.items())
    ranked = sorted(classes.items(), key=lambda item: -item[1])
    most, fewest = _named(ranked[: _MAX_CLASSES // 2]), _named(ranked[-_MAX_CLASSES // 4 :])
    return f"{len(classes)} classes, {most}, … {fewest}"


def _named(classes: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in classes)


def named(names: Sequence[str]) -> str:
    """Return the names as text; of many only the first: "ants, bees, … (388 more)"."""
    more = len(names) - _MAX_CLASSES
    return ", ".join(names[:_MAX_CLASSES]) + (f", … ({more} more)" if more > 0 else "")


def lacking(names: Sequence[str], classes: Collection[str], missing: str) -> list[str]:
    """Return a warning in a list, such as "1 of 2 classes has no image in val: ants"; an empty list without names."""
    have = "has" if len(names) == 1 else "have"
    return [f"{len(names)} of {len(classes)} classes {have} no {missing}: {named(names)}"] if names else []


def summarise(repairs: Iterable[Repair]) -> str:
    """Return a sentence that counts the repairs of each kind and names the first, for a fault's remedy; "" if none."""
    places: dict[str, list[str]] = defaultdict(list)
    for repair in repairs:
        places[str(repair.kind)].append(repair.where)
    kinds = sorted(places.items(), key=lambda item: -len(item[1]))
    counted = [f"{len(where)} x {kind} (first: {where[0]})" for kind, where in kinds]
    return f"Repaired or left out: {'; '.join(counted)}." if counted else ""
