"""Duration of clean and split on a messy data set, and the share of its faults that they find.

python -m benchmarks.dataset                                  # makes 6,000 logos of 400 classes, cleans and splits them
python -m benchmarks.dataset --data logos/ --seed 0           # what benchmarks.logos made; its tables are made anew

What is wrong is known, see `benchmarks.logos`. Grouping of labels is judged by pairs of spellings: precision is the
share of the pairs of one class that are one brand, recall the share of a brand's pairs that are of one class.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import logos, timing
from platform.curation.cleaning.findings import Finding
from platform.curation.labels.grouping import DROP
from platform.curation.labels.label_table import cell
from platform.curation.pages import dataset_data
from platform.curation.pages.dataset_data import Dataset
from platform.data.detection import csv_boxes
from platform.data.detection.csv_boxes import CLEANED, FETCHED
from platform.data.splits import SPLITS

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Found:
    """Results of cleaning, arranged for lookups."""

    findings: Mapping[str, Sequence[Finding]]  # by each image that they name
    groups: Mapping[str, str]  # near duplicates: group by image
    kept: Mapping[str, int]  # boxes by image
    classes: Mapping[str, str]  # by raw label; "" where its boxes were dropped or a person is asked whether to


def main() -> None:
    """Print the tables."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.dataset", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", type=Path, help="what benchmarks.logos made (default: made in a temporary folder)")
    p.add_argument("--images", type=int, default=6000)
    p.add_argument("--classes", type=int, default=400)
    p.add_argument("--seed", type=int, default=0)
    options = p.parse_args()
    print(f"{timing.machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "logos"
        if not options.data:
            logos.make(data, options.images, options.classes, options.seed)
        truth = json.loads(data.with_name(data.name + logos.TRUTH).read_text(encoding="utf-8"))
        rows = [_timed("clean", data), _timed("split", data, "--seed", str(options.seed))]
        print(timing.table(["step", "seconds", "MiB at most"], rows), end="\n\n")
        cleaned = dataset_data.read(data)
        _print_labels(labels(cleaned, truth))
        print(
            timing.table(["what is wrong", "planted", "found or put right", "as"], faults(cleaned, truth)), end="\n\n"
        )
        print(timing.table(["beside that", ""], beside(cleaned, truth)), end="\n\n")
        print(timing.table(["split", ""], split(cleaned)))


def _timed(step: str, data: Path, *more: str) -> list[str]:
    """Run a command; return its time and the largest memory of all commands so far."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "platform.dataset", step, str(data), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return [step, f"{time.perf_counter() - began:.1f}", f"{memory:.0f}"]


def labels(data: Dataset, truth: Mapping[str, Any]) -> dict[str, float]:
    """Score the grouping of raw labels by pairs of spellings and by boxes.

    Returns:
        precision, recall; of a person's questions the share whose suggestion is right; the share of boxes that are in
        a class whose boxes are mostly of their brand; numbers of spellings, classes, brands and questions.
    """
    true = {cell(label.strip()): name for label, name in truth["classes"].items() if name}
    known = [each for each in data.labels if each.label in true]
    of_class, of_brand, both = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    boxes = defaultdict[str, Counter[str]](Counter)
    for each in known:
        brand = true[each.label]
        of_brand[brand] += 1
        if each.name:
            of_class[each.name] += 1
            both[each.name, brand] += 1
            boxes[each.name][brand] += each.boxes
    asked = [each for each in known if each.suggestion and not each.decision]
    right = sum(true.get(each.suggestion) == true[each.label] for each in asked)
    return {
        "precision": _pairs(both.values()) / max(1, _pairs(of_class.values())),
        "recall": _pairs(both.values()) / max(1, _pairs(of_brand.values())),
        "suggestions that are right": right / max(1, len(asked)),
        "boxes in their brand's class": sum(max(one.values()) for one in boxes.values())
        / max(1, sum(each.boxes for each in known)),
        "spellings": len(known),
        "classes": len(of_class),
        "brands": len(of_brand),
        "questions": len(asked),
    }


def faults(data: Dataset, truth: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each kind of fault: number planted, number found, and names of the findings."""
    found = _found(data)
    rows = []
    for kind, planted in _by_kind(truth["faults"]).items():
        is_found = FOUND_BY.get(kind, _at_box)
        names = Counter(f"{each.kind} ({each.action})" for fault in planted for each in _findings(found, fault))
        named = ", ".join(name for name, _ in names.most_common(2))
        rows.append([kind, str(len(planted)), str(sum(is_found(found, fault) for fault in planted)), named])
    return rows


def beside(data: Dataset, truth: Mapping[str, Any]) -> list[list[str]]:
    """Return the findings where nothing is wrong."""
    found = _found(data)
    wrong = {fault[key] for fault in truth["faults"] for key in ("image", "other") if key in fault}
    copies = {frozenset((fault["image"], fault["other"])) for fault in truth["faults"] if "other" in fault}
    grouped = defaultdict[str, list[str]](list)
    for image, group in found.groups.items():
        grouped[group].append(image)
    pairs = [frozenset((one, two)) for group in grouped.values() for one in group for two in group if one < two]
    sound = [image for image in found.findings if image not in wrong]
    return [
        ["sound images with a finding", f"{len(sound)}"],
        ["sound images set aside", f"{len(_images(data, FETCHED).keys() - wrong - found.kept.keys())}"],
        ["near duplicates that are none", f"{len(set(pairs) - copies)}"],
    ]


def split(data: Dataset) -> list[list[str]]:
    """Return the split's shares and its violations."""
    splits = Counter(picture.split for picture in data.pictures)
    of = {picture.path.relative_to(data.root).as_posix(): picture.split for picture in data.pictures}
    apart = sum(len({of[image] for image, _ in group if image in of}) > 1 for group in data.near_duplicates.values())
    absent = {name: sum(not data.images_of(label, name) for label in data.boxes_by_class) for name in SPLITS}
    few = sum(data.images_of(label) < len(SPLITS) for label in data.boxes_by_class)
    return [
        *[[f"share of {name}", f"{splits[name] / max(1, splits.total()):.3f}"] for name in SPLITS],
        ["near duplicates in different splits", str(apart)],
        ["classes", f"{len(data.boxes_by_class)}, {few} of them with fewer than {len(SPLITS)} images"],
        *[[f"classes without an image in {name}", str(count)] for name, count in absent.items()],
    ]


def _found(data: Dataset) -> Found:
    findings = defaultdict[str, list[Finding]](list)
    for each in data.findings:
        for image in {each.image, each.other if not each.mended else ""} - {""}:
            findings[image].append(each)
    groups = {image: number for number, group in data.near_duplicates.items() for image, _ in group}
    silent = {each.label for each in data.labels if each.suggestion == DROP}
    classes = {each.label: "" if each.label in silent else each.name for each in data.labels}
    return Found(findings, groups, _images(data, CLEANED), classes)


def _images(data: Dataset, table: str) -> dict[str, int]:
    """Return the number of boxes of each image of a table."""
    raw = csv_boxes.read_table(data.root, data.root / table)
    return {image.path.relative_to(data.root).as_posix(): len(image.boxes) for image in raw.images}


def _findings(found: Found, fault: Mapping[str, Any]) -> list[Finding]:
    """Return the findings at the box of a fault, or otherwise those of its image."""
    of_image = found.findings.get(fault["image"], [])
    box = fault.get("box")
    at_box = [each for each in of_image if box and each.box and max(map(_far, each.box, box)) < 0.1]
    return at_box or [each for each in of_image if not box or not each.box]


def _far(one: float, other: float) -> float:
    return abs(one - other)


def _at_box(found: Found, fault: Mapping[str, Any]) -> bool:
    return bool(_findings(found, fault))


def _aside(found: Found, fault: Mapping[str, Any]) -> bool:
    return fault["image"] not in found.kept


def _one_of_two(found: Found, fault: Mapping[str, Any]) -> bool:
    return (fault["image"] in found.kept) != (fault["other"] in found.kept)


def _grouped(found: Found, fault: Mapping[str, Any]) -> bool:
    """Return whether a pair is grouped as near duplicates, or one image is set aside as a copy."""
    group = found.groups.get(fault["image"])
    return (group is not None and group == found.groups.get(fault["other"])) or _one_of_two(found, fault)


def _whole(found: Found, fault: Mapping[str, Any]) -> bool:
    """Return whether each logo has exactly one box."""
    return found.kept.get(fault["image"]) == fault["logos"]


def _unnamed(found: Found, fault: Mapping[str, Any]) -> bool:
    return not found.classes.get(fault["label"], "")


# Other kinds: there is a finding of the box, or of the image.
FOUND_BY: dict[str, Callable[[Found, Mapping[str, Any]], bool]] = {
    "same file": _whole,
    "turned": _whole,
    "duplicate": _whole,
    "same pixels": _one_of_two,
    **dict.fromkeys(logos.COPIED, _grouped),
    "too small": _aside,
    "broken": _aside,
    "no label": _unnamed,
    "says nothing": _unnamed,
}


def _by_kind(planted: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found = defaultdict[str, list[Mapping[str, Any]]](list)
    for fault in planted:
        found[fault["kind"]].append(fault)
    return dict(sorted(found.items()))


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes)


def _print_labels(scores: Mapping[str, float]) -> None:
    rows = [[name, f"{value:.3f}" if isinstance(value, float) else f"{value:,}"] for name, value in scores.items()]
    print(timing.table(["labels", ""], rows), end="\n\n")


if __name__ == "__main__":
    main()
