"""Detection data sets in any known layout, checked image by image and box by box, and split in three."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from platform.data.datasets import ImageFolder, Picture, absent, decode_each
from platform.data.detection import layouts
from platform.data.detection.annotations import Box, Kind, RawImage
from platform.data.detection.boxes import repair_boxes
from platform.data.files import absolute, place
from platform.data.findings import Findings, Repair, counted, lacking, leaks, named, summarise
from platform.data.images import ImageFault
from platform.data.splits import SPLITS, complete
from platform.errors import Fault, raise_if_any

_Checked = tuple[RawImage, Picture]  # an image that decodes, with repaired boxes


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


class DetectionDataset(ImageFolder):
    """Checked detection data set; the layout is "CSV", "COCO", "Pascal VOC" or "YOLO".

    The examples are ordered by file name, then by path below the root: the same in every layout that keeps the names.
    """

    def _content(self, example: Example) -> tuple:
        return example.pixels, example.boxes, example.labels, example.split

    def _line(self, counts: Mapping[str, Any]) -> str:
        return f"{counts['images']} images, {counts['boxes']} boxes: {counted(counts['boxes_per_class'])}"

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
    classes = tuple(sorted({box.name for image, _ in checked for box in image.boxes}))
    raise_if_any(_split_faults(given, checked, repairs))
    names = [{box.name for box in image.boxes} for image, _ in checked]
    pixels = [picture.pixels for _, picture in checked]
    splits, made = complete([image.split for image, _ in checked], names, pixels, seed)
    label_of = {name: label for label, name in enumerate(classes)}
    examples = tuple(
        Example(
            image.path,
            picture.width,
            picture.height,
            tuple(box.box for box in image.boxes),
            tuple(label_of[box.name] for box in image.boxes),
            split,
            picture.pixels,
        )
        for (image, picture), split in zip(checked, splits, strict=True)
    )
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
    """Return the images that decode, with repaired boxes."""
    decoded = decode_each(sorted(image.path for image in raw))
    repairs += [
        Repair(Kind.BROKEN_IMAGE, place(root, path, f"({result})"))
        for path, result in decoded.items()
        if isinstance(result, ImageFault)
    ]
    checked = []
    for image in raw:
        picture = decoded[image.path]
        if isinstance(picture, ImageFault):
            continue
        width, height, _ = picture
        if image.size is not None and min(image.size) > 0 and image.size != (width, height):
            sizes = f"{image.size[0]} x {image.size[1]}, the image has {width} x {height}"
            repairs.append(Repair(Kind.OTHER_SIZE, f"{image.where}: {sizes}", "boxes kept"))
        boxes = repair_boxes(image.boxes, width, height, repairs)
        checked.append((replace(image, boxes=boxes), picture))
    return checked


def _split_faults(given: set[str], checked: list[_Checked], repairs: list[Repair]) -> list[Fault]:
    """Return a fault for each given split that has no usable box, before any split is made."""
    remedy = summarise(repairs) or "Add annotated images."
    if not given:
        return _boxless([image for image, _ in checked], "at least one image must have a usable box", remedy)
    faults = []
    for split, name in {"train": "training", "val": "validation", "test": "test"}.items():
        if split in {"train", *given}:
            rule = f"the {name} split must have an image with a usable box"
            change = "Annotate it, or remove it: another one is then made. " if split == "test" else ""
            own = [image for image, _ in checked if image.split == split]
            faults += _boxless(own, rule, f"{change}{summarise(repairs)}".strip() or remedy)
    return faults


def _boxless(images: Collection[RawImage | Example], rule: str, remedy: str) -> list[Fault]:
    """Return a fault if no image has a box."""
    if any(image.boxes for image in images):
        return []
    return [Fault(rule, f"{len(images)} usable images without boxes", remedy)]


def _class_faults(examples: Sequence[Example], classes: Sequence[str], splits_given: bool) -> list[Fault]:
    if splits_given:
        lacking_train = _absent(examples, classes, "train")
        rule, found = "every class must have an image in the training split", f"none for {named(lacking_train)}"
        remedy = "Move images of these classes to training, or remove their boxes from the other splits."
        return [Fault(rule, found, remedy)] if lacking_train else []
    pictures = Counter(label for label, _ in {(label, e.pixels) for e in examples for label in e.labels})
    scarce = [f"{pictures[n]} of {name}" for n, name in enumerate(classes) if pictures[n] < len(SPLITS)]
    rule = f"every class must be in at least {len(SPLITS)} different images, one for each of {', '.join(SPLITS)}"
    remedy = (
        "Add images of these classes, remove their boxes, give the splits yourself, or have them made by "
        "python -m platform.dataset split, which also merges rare classes."
    )
    return [Fault(rule, named(scarce), remedy)] if scarce else []


def _empty_splits(examples: Sequence[Example], repairs: list[Repair]) -> list[Fault]:
    """Return a fault for each split, given or made, that has no image with a usable box."""
    remedy = f"Add annotated images, or give the splits yourself. {summarise(repairs)}".strip()
    faults = []
    for split in SPLITS:
        own = [example for example in examples if example.split == split]
        faults += _boxless(own, f"the {split} split must have an image with a usable box", remedy)
    return faults


def _class_warnings(examples: Sequence[Example], classes: Sequence[str], declared: Sequence[str]) -> list[str]:
    warnings = lacking([name for name in declared if name not in set(classes)], declared, "box, though declared")
    for split in ("val", "test"):
        warnings += lacking(_absent(examples, classes, split), classes, f"image in {split}")
    return warnings


def _absent(examples: Iterable[Example], classes: Sequence[str], split: str) -> list[str]:
    """Return the classes that are in no image of a split."""
    return absent(classes, (label for example in examples if example.split == split for label in example.labels))
