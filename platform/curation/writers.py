"""Writers of COCO, Pascal VOC, YOLO and CSV, in the form of their own tools; reading the files gives the same boxes.

Each writer gets a folder that already contains the images, in the folders of `FOLDERS` and under unique names.
"""

import json
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import yaml

from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Box, RawImage
from platform.data.images import SUFFIXES

# Folder of a split's images in each layout; layouts without folders of splits record the splits elsewhere.
FOLDERS = {"coco": "{split}", "voc": "JPEGImages", "yolo": "images/{split}", "csv": "images"}
UNSPLIT = {"coco": "images", "yolo": "images"}  # folder of images in no split


@dataclass(frozen=True)
class Picture:
    """Image to be written."""

    image: RawImage  # as it was read, with the path of the original file
    name: str  # file name
    size: tuple[int, int]  # (width, height) of the upright image in pixels

    @property
    def drawn_on(self) -> tuple[int, int]:
        """Size that the boxes were drawn on: that of the annotation, if it has one."""
        annotated = self.image.size
        return annotated if annotated is not None and min(annotated) > 0 else self.size


def folder(layout: str, split: str | None) -> str:
    """Return the folder of a split's images below the data set's folder."""
    return FOLDERS[layout].format(split=split) if split else UNSPLIT.get(layout, FOLDERS[layout])


def coco(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write annotations/instances_{train,val,test}.json, or instances.json."""
    (root / "annotations").mkdir()
    ids = {name: number for number, name in enumerate(classes, start=1)}
    for split, members in _by_split(pictures).items():
        file = root / "annotations" / (f"instances_{split}.json" if split else "instances.json")
        with file.open("w", encoding="utf-8") as stream:
            json.dump(_coco(members, ids), stream, allow_nan=False)


def _coco(pictures: Iterable[Picture], ids: dict[str, int]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        width, height = picture.drawn_on
        images.append({"id": number, "file_name": picture.name, "width": width, "height": height})
        for box in picture.image.boxes:
            x, y, w, h = _xywh(box.box)
            # numbered from 1, as 0 means "no match" in pycocotools
            ids_of = {"id": len(annotations) + 1, "image_id": number, "category_id": ids[box.name]}
            annotations.append(ids_of | {"bbox": [x, y, w, h], "area": abs(w * h), "iscrowd": 0})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _xywh(box: Box) -> Box:
    """Return sides that, added to the corner, give exactly the other corner where a float can."""
    x1, y1, x2, y2 = box
    return x1, y1, _side(x1, x2), _side(y1, y2)


def _side(low: float, high: float) -> float:
    side = high - low
    near = (side, math.nextafter(side, -math.inf), math.nextafter(side, math.inf))
    return next((each for each in near if low + each == high), side)


def voc(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write Annotations/*.xml as labelImg does, and the splits in ImageSets/Main/{train,val,test}.txt."""
    annotations, lists = root / "Annotations", root / "ImageSets" / "Main"
    annotations.mkdir()
    for picture in pictures:
        (annotations / f"{PurePosixPath(picture.name).stem}.xml").write_text(_voc(picture), encoding="utf-8")
    for split, members in _by_split(pictures).items():
        if split:
            lists.mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{_listed(picture.name)}\n" for picture in members)
            (lists / f"{split}.txt").write_text(lines, encoding="utf-8")


def _voc(picture: Picture) -> str:
    width, height = picture.drawn_on
    size = {"width": width, "height": height, "depth": 3}
    of_image = {"folder": "JPEGImages", "filename": picture.name, "source": {"database": "Unknown"}, "size": size}
    annotation = _element("annotation", of_image | {"segmented": 0})
    for box in picture.image.boxes:
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), map(_number, box.box), strict=True))
        flags = {"pose": "Unspecified", "truncated": 0, "difficult": 0}
        annotation.append(_element("object", {"name": box.name} | flags | {"bndbox": corners}))
    ElementTree.indent(annotation, "\t")
    # a reader takes a bare carriage return for a line feed
    return ElementTree.tostring(annotation, encoding="unicode").replace("\r", "&#13;") + "\n"


def _element(name: str, content: object) -> ElementTree.Element:
    element = ElementTree.Element(name)
    if isinstance(content, dict):
        element.extend(_element(key, value) for key, value in content.items())
    else:
        element.text = str(content)
    return element


def _listed(name: str) -> str:
    """Return the stem, as VOC lists it; the whole name where the stem itself looks like a file name: a.jpg.png."""
    stem = PurePosixPath(name).stem
    return name if PurePosixPath(stem).suffix.lower() in SUFFIXES else stem


def _number(value: float) -> str:
    """Return whole pixels as labelImg writes them, and others in full precision."""
    return str(int(value)) if value == int(value) else repr(float(value))


def yolo(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write labels/{train,val,test}/*.txt beside images/, and data.yaml."""
    ids = {name: number for number, name in enumerate(classes)}
    by_split = _by_split(pictures)
    for split, members in by_split.items():
        labels = root / folder("yolo", split).replace("images", "labels", 1)
        labels.mkdir(parents=True)
        for picture in members:
            lines = (f"{ids[box.name]} {_cxcywh(box.box, picture.size)}\n" for box in picture.image.boxes)
            (labels / f"{PurePosixPath(picture.name).stem}.txt").write_text("".join(lines))
    splits = {split: folder("yolo", split) for split in by_split if split}
    settings = splits | {"names": dict(enumerate(map(_Name, classes)))}
    text = yaml.dump(settings, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=math.inf)
    (root / "data.yaml").write_text(text, encoding="utf-8")


class _Name(str):
    """Class name, always quoted in YAML, because readers disagree about "no", "1e3" and unusual blanks."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Name, lambda dumper, name: dumper.represent_scalar("tag:yaml.org,2002:str", name, style='"'))


def _cxcywh(box: Box, size: tuple[int, int]) -> str:
    (x1, y1, x2, y2), (width, height) = box, size
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join(map(repr, numbers))


def csv(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Write annotations.csv."""
    images = (replace(picture.image, path=root / "images" / picture.name) for picture in pictures)
    csv_boxes.write(root / csv_boxes.OWN, root, images)


def _by_split(pictures: Iterable[Picture]) -> dict[str | None, list[Picture]]:
    found: defaultdict[str | None, list[Picture]] = defaultdict(list)
    for picture in pictures:
        found[picture.image.split].append(picture)
    return dict(sorted(found.items(), key=lambda item: ("train", "val", "test", None).index(item[0])))


WRITERS = {"coco": coco, "voc": voc, "yolo": yolo, "csv": csv}


# Characters that lists, XML and paths of other systems cannot contain.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff\\\\]")
_LONGEST = 200  # bytes of a stem; file systems allow 255 of a name


def safe(path: Path, kind: str) -> str:
    """Return a valid file name for an image in all layouts, changed as little as possible.

    `kind` is the format as Pillow names it, for names without the suffix of an image.
    """
    stem, suffix = path.stem, path.suffix
    if suffix.lower() not in SUFFIXES:
        stem, suffix = path.name, ".jpg" if kind in ("JPEG", "MPO") else f".{kind.lower()}"
    stem = _UNSAFE.sub("_", stem)
    if len(stem.encode()) > _LONGEST:
        stem = stem.encode()[:_LONGEST].decode(errors="ignore")
    return f"{stem.strip() or '_'}{suffix}"


def unique(names: Sequence[str], folders: Sequence[str], by_stem: bool) -> list[str]:
    """Return names that are unique in their folders: the first keeps its name, "a.jpg", the next becomes "a_2.jpg".

    Names that differ only by case count as equal, because some file systems do not distinguish them.

    Args:
        names: Present names.
        folders: Folder of each.
        by_stem: Whether "a.jpg" and "a.png" count as equal, as in layouts with an annotation file per image.
    """

    def key(folder: str, name: str) -> tuple[str, str]:
        return folder, unicodedata.normalize("NFC", PurePosixPath(name).stem if by_stem else name).casefold()

    taken: set[tuple[str, str]] = set()
    firsts = set()  # they keep their names, also where an earlier name would become one of them
    for place, (name, folder) in enumerate(zip(names, folders, strict=True)):
        if key(folder, name) not in taken:
            firsts.add(place)
            taken.add(key(folder, name))
    tried: dict[tuple[str, str], int] = {}
    made = list(names)
    for place, (name, folder) in enumerate(zip(names, folders, strict=True)):
        path, number = PurePosixPath(name), tried.get(key(folder, name), 1)
        while place not in firsts and key(folder, made[place]) in taken:
            number += 1
            made[place] = f"{path.stem}_{number}{path.suffix}"
        tried[key(folder, name)] = number
        taken.add(key(folder, made[place]))
    return made
