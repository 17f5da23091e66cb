"""COCO: JSON files with images, annotations and categories, one for all or one per split."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from platform.data.detection.annotations import Kind, RawBox, RawDataset, RawImage
from platform.data.files import (
    absolute,
    class_name,
    inside,
    is_file,
    place,
    printable,
    split_folders,
    split_of,
    unlisted_images,
)
from platform.data.findings import Repair

LAYOUT = "COCO"
NEEDS = (
    "annotations.json, annotations/instances_{train,val,test}.json or {train,valid,test}/_annotations.coco.json, "
    "and the images beside it, in images/ or in a folder named like the split"
)

_KEYS = ("images", "annotations", "categories")
_READ = {"id", "name", "file_name", "width", "height", "image_id", "category_id", "bbox", "area", "iscrowd"}
_MOST_PIXELS = 10**9  # of a side; larger numbers are nonsense
# raised by malformed entries: bbox: 3, an id that is a list, a number of 400 digits, …
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def recognise(root: Path) -> bool:
    """Return True if the folder holds a COCO detection file, even one that cannot be parsed."""
    return any(True for _ in _files(root))


def read(root: Path) -> RawDataset:
    """Read all COCO files below `root`. Crowd boxes are left out and counted."""
    images: list[RawImage] = []
    repairs: list[Repair] = []
    declared: dict[str, None] = {}
    beyond: Counter[str] = Counter()
    root = absolute(root)
    for file in _files(root):
        try:
            document = _Document(root, file)
        except (OSError, ValueError, RecursionError) as error:
            repairs.append(Repair(Kind.UNREADABLE_FILE, place(root, file, f"({error})")))
            continue
        images += document.read()
        repairs += document.repairs
        declared |= dict.fromkeys(document.names.values())
        beyond += document.beyond
    unlisted = unlisted_images([image.path for image in images])
    repairs += [Repair(Kind.NO_ANNOTATION, place(root, path)) for path in unlisted]
    return RawDataset(tuple(images), tuple(repairs), tuple(declared), beyond)


def _files(root: Path) -> Iterator[Path]:
    folders = [root, root / "annotations", *(folder for folder, _ in split_folders(root))]
    # is_file, because reading a pipe of such a name would never end
    files = [file for folder in folders for file in sorted(folder.glob("*.json")) if is_file(file)]
    found = [file for file in files if _looks_like_coco(file)]
    # The original COCO puts captions_*.json and person_keypoints_*.json of the same images beside them.
    yield from [file for file in found if file.name.startswith("instances")] or found


def _looks_like_coco(file: Path) -> bool:
    if "annotations" in file.name or file.name.startswith("instances"):
        return True
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return all(f'"{key}"'.encode() in content for key in _KEYS)


class _Document:
    """Parser of one JSON file, entry by entry; entries that cannot be used are added to `repairs`."""

    def __init__(self, root: Path, file: Path) -> None:
        self.root, self.file = root, file
        self.content = _parse(file)
        self.split = split_of(file.stem) or (split_of(file.parent.name) if file.parent != root else None)
        self.bases = self._image_folders()
        self.names: dict[Any, str] = {}
        self.images: dict[Any, RawImage] = {}
        self.missing: set[Any] = set()
        self.boxes: dict[Any, list[RawBox]] = {}
        self.repairs: list[Repair] = []
        self.beyond: Counter[str] = Counter()  # ignored entries, such as segmentation

    def read(self) -> list[RawImage]:
        for key, take in (("categories", self._category), ("images", self._image), ("annotations", self._annotation)):
            for index, entry in enumerate(self.content[key]):
                where = place(self.root, self.file, f"{key}[{index}]")
                try:
                    take(entry, where)
                except _MALFORMED:
                    self.repairs.append(Repair(Kind.UNREADABLE_ENTRY, where, image=self._image_of(entry)))
        return [replace(image, boxes=tuple(self.boxes.get(key, ()))) for key, image in self.images.items()]

    def _category(self, entry: Any, where: str) -> None:
        self.names[entry["id"]] = class_name(entry["name"])
        self._pass_over(entry)

    def _image(self, entry: Any, where: str) -> None:
        key, name = entry["id"], entry["file_name"]
        if key in self.images:
            raise ValueError("two images have this id")
        candidates = [inside(self.root, base, name) for base in self.bases]
        path = next((path for path in candidates if path is not None and is_file(path)), None)
        if path is not None:
            self.images[key] = RawImage(path, (), self.split, where, _size(entry))
            self._pass_over(entry)
            return
        self.missing.add(key)
        kind = Kind.ESCAPING_PATH if inside(self.root, self.root, name) is None else Kind.MISSING_IMAGE
        self.repairs.append(Repair(kind, printable(f"{where} {name}")))

    def _annotation(self, entry: Any, where: str) -> None:
        key, category = entry["image_id"], entry["category_id"]
        if key in self.missing:
            return  # reported once, with the image
        if key not in self.images:
            self.repairs.append(Repair(Kind.MISSING_IMAGE, where))
        elif category not in self.names:
            self.repairs.append(Repair(Kind.UNKNOWN_CLASS, where, image=self.images[key].path))
        elif entry.get("iscrowd"):
            self.repairs.append(Repair(Kind.CROWD, where, image=self.images[key].path))
        else:
            x, y, width, height = map(float, entry["bbox"])
            raw = RawBox((x, y, x + width, y + height), self.names[category], where)
            self.boxes.setdefault(key, []).append(raw)
            self._pass_over(entry)

    def _pass_over(self, entry: dict[str, Any]) -> None:
        self.beyond.update(printable(key) for key, value in entry.items() if key not in _READ and value)

    def _image_of(self, annotation: Any) -> Path | None:
        try:
            return self.images[annotation["image_id"]].path
        except _MALFORMED:
            return None

    def _image_folders(self) -> list[Path]:
        """Return the folders in which a `file_name` is looked up, the most specific first."""
        own = self.file.stem.removeprefix("instances_")  # instances_train2017.json names images in train2017/
        images = self.root / "images"
        splits = [f for base in (self.root, images) for f, split in split_folders(base) if split == self.split]
        return [self.file.parent, self.root / own, images / own, *splits, images, self.root]


def _parse(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(document, dict) or any(not isinstance(document.get(key), list) for key in _KEYS):
        raise ValueError(f"not an object with the lists {', '.join(_KEYS)}")
    return document


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    width, height = entry.get("width"), entry.get("height")
    if not (isinstance(width, int) and isinstance(height, int)):
        return None
    return (width, height) if max(width, height) < _MOST_PIXELS else None
