"""What a reader found wrong in the data and did about it: repairs, leaks between splits, warnings."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SHOWN = 3  # places of a kind of repair that a line names
_CLASSES = 12  # that a line names
_NOTES = 8  # warnings that are a line each


@dataclass(frozen=True)
class Repair:
    """One thing repaired or left out.

    Attributes:
        kind: What was wrong; equal texts are counted together.
        where: File below the root and the entry in it, e.g. "Annotations/x.xml object 3".
        action: What was done about it.
        image: The image that lost an annotation by it, if it did.
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
        warnings: What the user should know beyond repairs and leaks.
        items: What the data consists of, in the plural, for the leaks' title.
    """

    repairs: tuple[Repair, ...] = ()
    leaks: tuple[tuple[str, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    items: str = "images"

    def lines(self) -> dict[str, str]:
        """Lines for people, by title: a line for each kind of repair, one for the leaks, one for each warning."""
        lines = {}
        for kind, count in self._kinds().items():
            places = [f"{r.where} ({r.action})" for r in self.repairs if r.kind == kind]
            lines[f"! {kind}"] = f"{count}: " + ", ".join(places[:_SHOWN]) + (", …" if count > _SHOWN else "")
        if self.leaks:
            lines[f"! {self._leak()}"] = f"{len(self.leaks)} groups, the first: {', '.join(self.leaks[0])}"
        lines |= {f"! note {number}": warning for number, warning in enumerate(self.warnings[:_NOTES], start=1)}
        more = len(self.warnings) - _NOTES
        return lines | ({"! notes": f"{more} more, in the list of all findings"} if more > 0 else {})

    def listed(self) -> list[str]:
        """Every single finding, a line each."""
        repairs = [f"{r.kind}: {r.where} ({r.action})" for r in self.repairs]
        return repairs + [f"{self._leak()}: {', '.join(leak)}" for leak in self.leaks] + list(self.warnings)

    def summary(self) -> dict[str, Any]:
        """Repairs counted by kind, leaks and warnings, ready for JSON."""
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
    """Items of equal content that lie in different splits, each as "split: where".

    Args:
        items: (what tells its content apart, split, where) of each.
    """
    equal: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for content, split, where in items:
        equal[content].append((split, where))
    found = [same for same in equal.values() if len({split for split, _ in same}) > 1]
    return tuple(tuple(f"{split}: {where}" for split, where in same) for same in found)


def counted(classes: Mapping[str, int]) -> str:
    """How many there are of each class: "ants 102, bees 100"; of many classes those with the most and the fewest."""
    if len(classes) <= _CLASSES:
        return _named(classes.items())
    ranked = sorted(classes.items(), key=lambda item: -item[1])
    most, fewest = _named(ranked[: _CLASSES // 2]), _named(ranked[-_CLASSES // 4 :])
    return f"{len(classes)} classes, {most}, … {fewest}"


def _named(classes: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in classes)


def named(names: Sequence[str]) -> str:
    """The names, the first of them where there are many: "ants, bees, … (388 more)"."""
    more = len(names) - _CLASSES
    return ", ".join(names[:_CLASSES]) + (f", … ({more} more)" if more > 0 else "")


def lacking(names: Sequence[str], classes: Collection[str], what: str) -> list[str]:
    """A warning of the classes that lack something, in a list: "1 of 2 classes without an image in val: ants"."""
    return [f"{len(names)} of {len(classes)} classes without {what}: {named(names)}"] if names else []


def told(repairs: Iterable[Repair]) -> str:
    """The repairs as a sentence for a fault's remedy: how many of each kind, and the first of it; empty if none."""
    places: dict[str, list[str]] = {}
    for repair in repairs:
        places.setdefault(str(repair.kind), []).append(repair.where)
    kinds = sorted(places.items(), key=lambda item: -len(item[1]))
    counted = [f"{len(where)} x {kind} (first: {where[0]})" for kind, where in kinds]
    return f"Repaired or left out: {'; '.join(counted)}." if counted else ""
