"""Data sets of labelled images in class folders or a CSV file, checked, without duplicates, and split in three."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.data.classification import folders as image_folders
from platform.data.classification import table as image_table
from platform.data.classification.labels import Kind, Labelled, Labels, folders, visible
from platform.data.datasets import ImageFolder, absent, decode_each
from platform.data.files import absolute, folder_faults, is_file
from platform.data.findings import Findings, Repair, counted, lacking, leaks, named, summarise
from platform.data.images import ImageFault
from platform.data.splits import SPLITS, complete
from platform.errors import Fault, InputError, raise_if_any

NEEDS = (
    "a folder with a folder of images for each class, these in folders train, val and test if it has splits, "
    "or a CSV file with the columns path, label and, if it has splits, split"
)

_UNBALANCED = 3  # ratio of the largest to the smallest class from which a warning is given


@dataclass(frozen=True)
class Example:
    """Image that decodes.

    Attributes:
        path: Absolute path.
        label: Index of the image's class.
        split: "train", "val" or "test".
        pixels: Hash of the decoded pixels, see `images.content_hash`.
        where: File below the root, or the row that names it.
    """

    path: Path
    label: int
    split: str
    pixels: str
    where: str


class ImageDataset(ImageFolder):
    """Checked data set of labelled images, ordered by path below the root.

    The layout is "class folders", "split folders of class folders" or "CSV file NAME".
    """

    def _content(self, example: Example) -> tuple:
        return example.pixels, example.label, example.split

    def _counts(self, examples: Sequence[Example]) -> dict[str, Any]:
        counts = Counter(example.label for example in examples)
        each = {name: counts[label] for label, name in enumerate(self.classes)}
        return {"images": len(examples), "images_per_class": each}

    def _line(self, counts: Mapping[str, Any]) -> str:
        return f"{counts['images']} images: {counted(counts['images_per_class'])}"


def read(source: Path, seed: int) -> ImageDataset:
    """Read labelled images, decode each once, and leave out those that cannot be used.

    One of several pictures with the same pixels is kept in each split, and none if their labels differ. Splits that the
    data set gives are kept; missing ones are made, see `splits.complete`.

    Args:
        source: Folder of class folders, of split folders with class folders, or with a CSV file; or that file.
        seed: Seed of the splits made here.

    Raises:
        InputError: The data does not exist, has fewer than two classes, or nothing to train, validate or test on.
    """
    labels = _read_layout(absolute(source))
    repairs = list(labels.repairs)
    kept = _distinct(_decode(labels.images, repairs), repairs)
    classes = tuple(sorted({image.label for image, _ in kept}))
    raise_if_any(_faults(labels, kept, classes, repairs))
    splits, made = complete([i.split for i, _ in kept], [{i.label} for i, _ in kept], [p for _, p in kept], seed)
    label_of = {name: label for label, name in enumerate(classes)}
    examples = tuple(
        Example(image.path, label_of[image.label], split, pixels, image.where)
        for (image, pixels), split in zip(kept, splits, strict=True)
    )
    raise_if_any(_split_faults(examples))
    given = {image.label for image in labels.images}
    warnings = lacking(sorted(given - set(classes)), given, "usable image")
    return ImageDataset(
        root=labels.root,
        layout=labels.layout,
        classes=classes,
        examples=examples,
        splits_given=bool(labels.given),
        found=Findings(
            tuple(repairs),
            leaks((e.pixels, e.split, e.where) for e in examples),
            (*warnings, *made, *_class_warnings(examples, classes)),
        ),
    )


def _read_layout(source: Path) -> Labels:
    if source.suffix.lower() == image_table.SUFFIX and is_file(source):
        return image_table.read(source)
    raise_if_any(folder_faults(source, f"the data must be {NEEDS}"))
    files = [path for path in visible(source) if path.suffix.lower() == image_table.SUFFIX and path.is_file()]
    tables = [file for file in files if image_table.has_columns(file)]
    if len(tables) > 1:
        found = ", ".join(table.name for table in tables)
        remedy = f"Name one, as --data {tables[0]}, or join them with a column split."
        raise InputError(Fault("a folder must hold one CSV file with the columns path and label", found, remedy))
    if not tables and len(files) == 1 and len(folders(source)) < 2:
        tables = files  # no class folders: the file must be the data set, and its faults are reported
    return image_table.read(tables[0]) if tables else image_folders.read(source)


def _looks_like_data(folder: Path) -> bool:
    """Return True if a folder could be the data set itself, as when an archive holds everything in one folder."""
    holding = [below for below in folders(folder) if image_folders.holds_images(below)]
    return len(holding) > 1 or any(image_table.has_columns(file) for file in folder.glob("*.csv"))


def _decode(found: Sequence[Labelled], repairs: list[Repair]) -> list[tuple[Labelled, str]]:
    """Return the images that decode, with the hash of their pixels."""
    pictures = decode_each([image.path for image in found])
    decoded = []
    for image in found:
        picture = pictures[image.path]
        if isinstance(picture, ImageFault):
            repairs.append(Repair(Kind.BROKEN_IMAGE, f"{image.where} ({picture})"))
        else:
            decoded.append((image, picture.pixels))
    return decoded


def _distinct(decoded: Sequence[tuple[Labelled, str]], repairs: list[Repair]) -> list[tuple[Labelled, str]]:
    """Keep the first of equal pictures in a split, and none of those that are in two classes."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for image, pixels in decoded:
        labels[pixels].add(image.label)
    kept: dict[tuple[str, str | None], tuple[Labelled, str]] = {}
    for image, pixels in decoded:
        if len(labels[pixels]) > 1:
            repairs.append(Repair(Kind.TWO_CLASSES, f"{image.where}: {image.label}"))
        elif (pixels, image.split) in kept:
            repairs.append(Repair(Kind.DUPLICATE, f"{image.where}, as {kept[pixels, image.split][0].where}"))
        else:
            kept[pixels, image.split] = image, pixels
    return list(kept.values())


def _faults(
    labels: Labels, kept: Sequence[tuple[Labelled, str]], classes: Sequence[str], repairs: Sequence[Repair]
) -> list[Fault]:
    """Return the faults that make training impossible, before any split is made."""
    if len(classes) < 2:
        rule = f"there must be images of at least two classes: {NEEDS}"
        found = f"only {classes[0]} in {labels.root}" if classes else f"no usable image in {labels.root}"
        wrapped = [folder for folder in folders(labels.root) if _looks_like_data(folder)]
        remedy = f"Use --data {wrapped[0]}." if wrapped else summarise(repairs) or "Add images of other classes."
        return [Fault(rule, found, remedy)]
    faults, there = [], {image.split for image, _ in kept}
    for split in (split for split in SPLITS if split in labels.given - there):
        other = "" if split == "train" else ", or remove it: another one is then made"
        remedy = f"Add labelled images{other}. {summarise(repairs)}".strip()
        faults.append(Fault(f"the {split} split must have a usable image", "none", remedy))
    if "train" in labels.given and not faults:
        trained = {image.label for image, _ in kept if image.split == "train"}
        if untrained := [name for name in classes if name not in trained]:
            rule, remedy = "every class must have an image in the training split", "Move images of these classes there."
            faults.append(Fault(rule, f"none for {named(untrained)}", remedy))
    return faults


def _split_faults(examples: Sequence[Example]) -> list[Fault]:
    """Return a fault if there were too few images for one of the splits."""
    rule, remedy = "each of train, val and test must get an image", "Add images, or give the splits yourself."
    empty = [split for split in SPLITS if not any(example.split == split for example in examples)]
    return [Fault(rule, f"{len(examples)} images, none for {' and '.join(empty)}", remedy)] if empty else []


def _class_warnings(examples: Sequence[Example], classes: Sequence[str]) -> list[str]:
    warnings = []
    for split in ("val", "test"):
        own = absent(classes, (example.label for example in examples if example.split == split))
        warnings += lacking(own, classes, f"image in {split}")
    counts = Counter(classes[example.label] for example in examples)
    largest, smallest = max(classes, key=counts.__getitem__), min(classes, key=counts.__getitem__)
    if counts[largest] >= _UNBALANCED * counts[smallest]:
        warnings.append(
            f"the classes are unbalanced: {largest} has {counts[largest]} images, {smallest} has {counts[smallest]}"
        )
    return warnings
