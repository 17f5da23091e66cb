"""Detection data sets in any known layout, checked image by image and box by box, and split in three."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from platform.data import images
from platform.data.arrays import in_threads
from platform.data.detection import layouts
from platform.data.detection.annotations import Box, Kind, RawBox, RawImage
from platform.data.detection.boxes import repair_boxes
from platform.data.files import absolute, place
from platform.data.findings import Findings, Repair, counted, lacking, leaks, named, summarise
from platform.data.splits import SPLITS, complete
from platform.errors import Fault, raise_if_any


@dataclass(frozen=True)
class Example:
    """Image that decodes, and its boxes.

    Attributes:
        path: Absolute path.
        width: Width in pixels, after EXIF orientation.
        height: Height in pixels, likewise.
        boxes: (x1, y1, x2, y2) in pixels, within the image, x1 < x2 and y1 < y2; empty for a background image.
        labels: Index of each box's class.
        split: "train", "val" or "test".
        pixels: Hash of the decoded pixels, see `images.content_hash`.
    """

    path: Path
    width: int
    height: int
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    split: str
    pixels: str


@dataclass(frozen=True)
class DetectionDataset:
    """Checked detection data set.

    Attributes:
        root: Absolute path of the folder.
        layout: "CSV", "COCO", "Pascal VOC" or "YOLO".
        classes: Sorted names of the classes that have a box.
        examples: Ordered by file name, then by path below the root: the same in every layout that keeps the names.
        splits_given: True if the data set defines its splits itself.
        found: Repairs, images of equal pixels in different splits, and warnings.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    splits_given: bool
    found: Findings

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over pixels, boxes, labels, splits and classes, independent of the folder and the layout.

        It depends on the examples' order: data kept by index, such as stored activations, is valid exactly as long as
        the fingerprint stays the same.
        """
        content = [(e.pixels, e.boxes, e.labels, e.split) for e in self.examples]
        return hashlib.sha256(json.dumps([self.classes, content]).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.name

    def lines(self) -> dict[str, str]:
        """Return the summary as lines for the console by title."""
        facts = self.summary()
        lines = {"layout": f"{self.layout}, splits {'given' if self.splits_given else 'made here, stratified'}"}
        for split, counts in facts["splits"].items():
            lines[split] = f"{counts['images']} images, {counts['boxes']} boxes: {counted(counts['boxes_per_class'])}"
        return lines | self.found.lines()

    def findings(self) -> list[str]:
        """Return one line for each repair and each suspicious thing."""
        return self.found.listed()

    def summary(self) -> dict[str, Any]:
        """Return images and boxes per split and class, repairs by kind, leaks and warnings, ready for JSON."""
        return {
            "layout": self.layout,
            "classes": list(self.classes),
            "splits_given": self.splits_given,
            "splits": {split: self._counts([e for e in self.examples if e.split == split]) for split in SPLITS},
            **self.found.summary(),
        }

    def _counts(self, examples: Sequence[Example]) -> dict[str, Any]:
        boxes = Counter(label for example in examples for label in example.labels)
        containing = Counter(label for example in examples for label in set(example.labels))
        return {
            "images": len(examples),
            "background_images": sum(not example.boxes for example in examples),
            "boxes": boxes.total(),
            "images_per_class": {name: containing[label] for label, name in enumerate(self.classes)},
            "boxes_per_class": {name: boxes[label] for label, name in enumerate(self.classes)},
        }


def read(root: Path, seed: int) -> DetectionDataset:
    """Read a folder in any known layout, decode every image once, and repair or leave out what cannot be used.

    Splits that the data set gives are kept; missing ones are made, stratified by class, with equal images kept
    together: see `splits.complete`.

    Args:
        root: Folder of the data set; nothing outside it is read.
        seed: Seed of the splits made here.

    Raises:
        InputError: The folder does not exist, has no known layout, or nothing to train or validate on.
    """
    root = absolute(root)
    source = layouts.read(root)
    repairs = list(source.raw.repairs)
    merged = _merge(source.raw.images, root, repairs)
    given = {image.split for image in merged if image.split is not None}
    checked = _check_images(root, merged, repairs)
    classes = tuple(sorted({box.name for image in checked for box in image.boxes}))
    raise_if_any(_split_faults(given, checked, repairs))
    names = [{box.name for box in image.boxes} for image in checked]
    splits, made = complete([image.split for image in checked], names, [image.pixels for image in checked], seed)
    label_of = {name: label for label, name in enumerate(classes)}
    examples = tuple(_example(image, split, label_of) for image, split in zip(checked, splits, strict=True))
    raise_if_any([*_class_faults(examples, classes, splits_given=bool(given)), *_empty_splits(examples, repairs)])
    return DetectionDataset(
        root=root,
        layout=source.layout,
        classes=classes,
        examples=examples,
        splits_given=bool(given),
        found=Findings(
            repairs=tuple(repairs),
            leaks=leaks((e.pixels, e.split, place(root, e.path)) for e in examples),
            warnings=(*source.warnings, *made, *_class_warnings(examples, classes, source.raw.declared)),
        ),
    )


@dataclass(frozen=True)
class _Checked:
    """Image that decodes, with repaired boxes in pixels."""

    path: Path
    width: int
    height: int
    boxes: tuple[RawBox, ...]
    split: str | None
    pixels: str


def _merge(raw: Iterable[RawImage], root: Path, repairs: list[Repair]) -> list[RawImage]:
    """Join the boxes of an image that several annotations name; if there are splits, leave out images in none."""
    merged: dict[tuple[Path, str | None], RawImage] = {}
    for image in raw:
        key = (image.path, image.split)
        merged[key] = replace(image, boxes=merged[key].boxes + image.boxes) if key in merged else image
    split = [image for image in merged.values() if image.split is not None]
    if split:
        placed = {image.path for image in split}
        rest = {image.path for image in merged.values()} - placed
        repairs += [Repair(Kind.NO_SPLIT, place(root, path)) for path in sorted(rest)]
    kept = split or list(merged.values())
    return sorted(kept, key=lambda i: (i.path.name, i.path.relative_to(root).as_posix(), i.split or ""))


def _check_images(root: Path, raw: list[RawImage], repairs: list[Repair]) -> list[_Checked]:
    paths = sorted({image.path for image in raw})
    decoded = dict(zip(paths, in_threads(_decode, paths), strict=True))
    repairs += [
        Repair(Kind.BROKEN_IMAGE, place(root, path, f"({result})"))
        for path, result in decoded.items()
        if isinstance(result, images.ImageFault)
    ]
    checked = []
    for image in raw:
        result = decoded[image.path]
        if isinstance(result, images.ImageFault):
            continue
        width, height, pixels = result
        if image.size is not None and min(image.size) > 0 and image.size != (width, height):
            sizes = f"{image.size[0]} x {image.size[1]}, the image has {width} x {height}"
            repairs.append(Repair(Kind.OTHER_SIZE, f"{image.where}: {sizes}", "boxes kept"))
        boxes = repair_boxes(image.boxes, width, height, repairs)
        checked.append(_Checked(image.path, width, height, boxes, image.split, pixels))
    return checked


def _decode(path: Path) -> tuple[int, int, str] | images.ImageFault:
    try:
        image = images.load(path)
    except images.ImageFault as fault:
        return fault
    return image.width, image.height, images.content_hash(image)


def _split_faults(given: set[str], checked: list[_Checked], repairs: list[Repair]) -> list[Fault]:
    """Return a fault for each given split that has no usable box, before any split is made."""
    remedy = summarise(repairs) or "Add annotated images."
    rules = {
        None: ("at least one image must have a usable box", remedy),
        "train": ("the training split must have an image with a usable box", remedy),
        "val": ("the validation split, where given, must have an image with a usable box", remedy),
        "test": (
            "the test split must have an image with a usable box",
            f"Annotate it, or remove it: another one is then made. {summarise(repairs)}".strip(),
        ),
    }
    return [
        Fault(rule, f"{sum(i.split == split for i in checked)} usable images without boxes", remedy)
        for split, (rule, remedy) in rules.items()
        if split in ({"train", *given} if given else {None})
        if not any(image.boxes for image in checked if image.split == split)
    ]


def _class_faults(examples: Sequence[Example], classes: Sequence[str], splits_given: bool) -> list[Fault]:
    if splits_given:
        absent = _absent(examples, classes, "train")
        rule, found = "every class must have an image in the training split", f"none for {named(absent)}"
        remedy = "Move images of these classes to training, or remove their boxes from the other splits."
        return [Fault(rule, found, remedy)] if absent else []
    pictures: defaultdict[int, set[str]] = defaultdict(set)
    for example in examples:
        for label in example.labels:
            pictures[label].add(example.pixels)
    scarce = [f"{len(pictures[n])} of {name}" for n, name in enumerate(classes) if len(pictures[n]) < len(SPLITS)]
    rule = f"every class must be in at least {len(SPLITS)} different images, one for each of {', '.join(SPLITS)}"
    remedy = (
        "Add images of these classes, remove their boxes, give the splits yourself, or have them made by "
        "python -m platform.dataset split, which also merges rare classes."
    )
    return [Fault(rule, named(scarce), remedy)] if scarce else []


def _empty_splits(examples: Sequence[Example], repairs: list[Repair]) -> list[Fault]:
    """Return a fault for each split, given or made, that has no image with a usable box."""
    return [
        Fault(
            f"the {split} split must have an image with a usable box",
            f"{sum(e.split == split for e in examples)} usable images without boxes",
            f"Add annotated images, or give the splits yourself. {summarise(repairs)}".strip(),
        )
        for split in SPLITS
        if not any(example.boxes for example in examples if example.split == split)
    ]


def _class_warnings(examples: Sequence[Example], classes: Sequence[str], declared: Sequence[str]) -> list[str]:
    used = set(classes)
    warnings = lacking([name for name in declared if name not in used], declared, "box, though declared")
    for split in ("val", "test"):
        warnings += lacking(_absent(examples, classes, split), classes, f"image in {split}")
    return warnings


def _absent(examples: Iterable[Example], classes: Sequence[str], split: str) -> list[str]:
    """Return the classes that are in no image of a split."""
    present = {label for example in examples if example.split == split for label in example.labels}
    return [name for label, name in enumerate(classes) if label not in present]


def _example(image: _Checked, split: str, label_of: Mapping[str, int]) -> Example:
    labels = tuple(label_of[box.name] for box in image.boxes)
    boxes = tuple(box.box for box in image.boxes)
    return Example(image.path, image.width, image.height, boxes, labels, split, image.pixels)
