"""Command convert: one layout → another, with copied images and unchanged boxes; losses are printed."""

import argparse
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from platform.curation import steps, writers
from platform.curation.writers import Picture
from platform.data.arrays import in_threads
from platform.data.detection import coco, csv_boxes, layouts, voc, yolo
from platform.data.detection.annotations import Kind, RawBox, RawDataset, RawImage
from platform.data.files import absolute, folder_faults, place
from platform.data.findings import Findings, Repair, counted, named, summarise
from platform.errors import EXIT_INCOMPLETE, Fault, InputError, raise_if_any
from platform.storage import atomic

TITLES = {"coco": coco.LAYOUT, "voc": voc.LAYOUT, "yolo": yolo.LAYOUT, "csv": csv_boxes.LAYOUT}
_LISTS_NO_CLASSES = {"voc", "csv"}
_HAS_NO_SIZES = {"yolo", "csv"}
_BY_STEM = {"voc", "yolo"}  # one annotation file for each image
_FARTHEST = 1e9  # pixels; farther coordinates belong to no real box and would not survive the conversion
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_SHOWN = 3


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the folder atomically."""
    root, out, to = absolute(options.dir), options.out.resolve(), options.to
    raise_if_any([*folder_faults(root, "A must be a folder with images and annotations"), *_out_faults(root, out)])
    source = layouts.read(root)
    repairs = list(source.raw.repairs)
    pictures = _pictures(root, source.raw, to, repairs)
    if not pictures:
        rule = "there must be an image to convert"
        raise InputError(Fault(rule, f"none in {root}", summarise(repairs) or "Add annotated images."))
    used = {box.name for picture in pictures for box in picture.image.boxes}
    classes = list(dict.fromkeys([*source.raw.declared, *sorted(used)]))
    strange = [repr(name) for name in sorted(used) if _NOT_XML.search(name)]
    if strange and to == "voc":
        rule = "class names must consist of characters that XML allows"
        raise InputError(Fault(rule, named(strange), "Rename them, or choose another layout."))
    try:
        _write(out, to, pictures, classes)
    except OSError as error:
        console.print(f"Nothing is written: {error.strerror or error}: {error.filename or out}.", markup=False)
        return EXIT_INCOMPLETE
    read_from = f"{source.layout} ({source.table})" if source.table else source.layout
    splits = counted(Counter(picture.image.split or "in no split" for picture in pictures))
    boxes = sum(len(picture.image.boxes) for picture in pictures)
    facts = f"images {len(pictures):,} ({splits}), boxes {boxes:,}, classes {len(classes):,}"
    console.print(f"{read_from} → {TITLES[to]}: {facts}", markup=False)
    warnings = (*source.warnings, *_notes(to, source.raw, pictures))
    for title, line in Findings(tuple(repairs), warnings=warnings).lines().items():
        console.print(f"{title}: {line}", markup=False)
    console.print(f"Next: python -m platform.tune detector --data {out}", markup=False)
    return 0


def _out_faults(root: Path, out: Path) -> list[Fault]:
    if out.is_relative_to(root.resolve()):
        return [Fault("B must lie outside A", f"B {out}", "Give a folder beside A.")]
    there = next(path for path in (out, *out.parents) if os.path.exists(path))  # noqa: PTH110 (Path.exists may raise)
    is_folder = there.is_dir()
    if not is_folder or (there == out and any(out.iterdir())):
        found = f"{out} with {next(out.iterdir()).name}" if is_folder else f"the file {there}"
        return [Fault("B must be a folder that is not there yet, or empty", found, "Give another.")]
    if not os.access(there if there != out else out.parent, os.W_OK | os.X_OK):
        found = f"{there} without permission"
        return [Fault("B must lie where it can be written", found, "Allow it, or give another.")]
    return []


def _pictures(root: Path, raw: RawDataset, to: str, repairs: list[Repair]) -> list[Picture]:
    """Return the images to be written, ordered by name; those left out are added to `repairs`."""
    read = _merged(root, raw.images)
    if to == "yolo" and any(image.split for image in read):
        repairs += [Repair(Kind.NO_SPLIT, place(root, image.path)) for image in read if image.split is None]
        read = [image for image in read if image.split is not None]
    headers = steps.headers(root, (image.path for image in read), repairs)
    kept = [(image, headers[image.path]) for image in read if image.path in headers]
    made = writers.unique(
        [writers.safe(image.path, header.format) for image, header in kept],
        [writers.folder(to, image.split) for image, _ in kept],
        by_stem=to in _BY_STEM,
    )
    return [
        Picture(replace(image, boxes=_boxes(image.boxes, repairs)), name, (header.width, header.height))
        for (image, header), name in zip(kept, made, strict=True)
    ]


def _merged(root: Path, read: Iterable[RawImage]) -> list[RawImage]:
    """Join the boxes of images with several annotations."""
    boxes: dict[tuple[Path, str | None], list[RawBox]] = {}
    first: dict[tuple[Path, str | None], RawImage] = {}
    for image in read:
        key = image.path, image.split
        first.setdefault(key, image)
        boxes.setdefault(key, []).extend(image.boxes)
    joined = [replace(image, boxes=tuple(boxes[key])) for key, image in first.items()]
    return sorted(joined, key=lambda i: (i.path.name, i.path.relative_to(root).as_posix(), i.split or ""))


def _boxes(read: Iterable[RawBox], repairs: list[Repair]) -> tuple[RawBox, ...]:
    kept = []
    for box in read:
        if all(abs(edge) <= _FARTHEST for edge in box.box):
            kept.append(box)
        else:
            repairs.append(Repair(Kind.NOT_FINITE, box.where))
    return tuple(kept)


def _write(out: Path, to: str, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    def copy(picture: Picture) -> None:
        shutil.copyfile(picture.image.path, partial / writers.folder(to, picture.image.split) / picture.name)

    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_folder(out, prefix=f".{out.name}.") as partial:  # also replaces an empty folder
        for folder in {writers.folder(to, picture.image.split) for picture in pictures}:
            (partial / folder).mkdir(parents=True)
        in_threads(copy, pictures)
        writers.WRITERS[to](partial, pictures, classes)


def _notes(to: str, raw: RawDataset, pictures: Sequence[Picture]) -> list[str]:
    """Return a line for each part of the data that is lost, or was written in an unexpected way."""
    lines = []
    if raw.beyond:
        lines.append(f"ignored, and not in {TITLES[to]}: {counted(raw.beyond)}")
    used = {box.name for picture in pictures for box in picture.image.boxes}
    unused = [name for name in raw.declared if name not in used]
    if to in _LISTS_NO_CLASSES and raw.declared:
        lost = f", nor those without a box: {named(unused)}" if unused else ""
        lines.append(f"{TITLES[to]} has no list of classes: their order is not kept{lost}")
    sizes = [picture for picture in pictures if picture.drawn_on != picture.size]
    if to in _HAS_NO_SIZES and sizes:
        lines.append(f"images of another size than annotated, which {TITLES[to]} has no place for: {len(sizes)}")
    renamed = [f"{p.image.path.name!r} is {p.name!r}" for p in pictures if p.name != p.image.path.name]
    if renamed:
        more = ", …" if len(renamed) > _SHOWN else ""
        lines.append(f"images with new names: {len(renamed)}, {', '.join(renamed[:_SHOWN])}{more}")
    several = Counter(picture.image.path for picture in pictures)
    if copies := sum(count > 1 for count in several.values()):
        lines.append(f"images in several splits, copied once for each: {copies}")
    corners = [(box.box, picture.size) for picture in pictures for box in picture.image.boxes]
    if to == "voc" and (parts := sum(any(edge != math.floor(edge) for edge in box) for box, _ in corners)):
        lines.append(f"boxes with fractions of pixels, which some tools for Pascal VOC cannot read: {parts}")
    if to == "yolo" and (odd := sum(not _inside(box, size) for box, size in corners)):
        lines.append(
            f"boxes that are inverted or reach out of their image: {odd}. YOLO's own tools skip such images; "
            "python -m platform.dataset clean repairs them"
        )
    missing = {"train", "val"} - {picture.image.split for picture in pictures}
    if to == "yolo" and missing:
        lines.append(
            f"there is no {' and no '.join(sorted(missing))} split, which YOLO's own tools require: "
            "python -m platform.dataset split makes them"
        )
    return lines


def _inside(box: Sequence[float], size: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = box
    return 0 <= x1 <= x2 <= size[0] and 0 <= y1 <= y2 <= size[1]
