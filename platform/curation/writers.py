"""COCO, Pascal VOC, YOLO and CSV as their own tools write them, such that our readers read back the same.

Each writer is given a folder in which the images lie already, where `FOLDERS` says, under names that are unique there.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape

import yaml

from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Box, RawImage
from platform.data.images import SUFFIXES

# Where the images of a split lie in each layout; a layout that has no folders of splits says the splits elsewhere.
FOLDERS = {"coco": "{split}", "voc": "JPEGImages", "yolo": "images/{split}", "csv": "images"}
UNSPLIT = {"coco": "images", "yolo": "images"}  # and where those of no split lie


@dataclass(frozen=True)
class Picture:
    """An image to be written.

    Attributes:
        image: As it was read; its path is where it was read from.
        name: Of its file.
        size: (width, height) in pixels of the file, the right way up.
    """

    image: RawImage
    name: str
    size: tuple[int, int]

    @property
    def drawn_on(self) -> tuple[int, int]:
        """The size that its boxes were drawn on: as the annotation says, if it does."""
        said = self.image.size
        return said if said is not None and min(said) > 0 else self.size


def folder(layout: str, split: str | None) -> str:
    """Where the images of a split lie, below the data set's folder."""
    return FOLDERS[layout].format(split=split) if split else UNSPLIT.get(layout, FOLDERS[layout])


def coco(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """annotations/instances_{train,val,test}.json, or instances.json."""
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
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1: pycocotools takes 0 for "no match"
                    "image_id": number,
                    "category_id": ids[box.name],
                    "bbox": [x, y, w, h],
                    "area": abs(w * h),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _xywh(box: Box) -> Box:
    """Returns sides that, added to the corner, give the other corner again, wherever a float can."""
    x1, y1, x2, y2 = box
    return x1, y1, _side(x1, x2), _side(y1, y2)


def _side(low: float, high: float) -> float:
    side = high - low
    near = (side, math.nextafter(side, -math.inf), math.nextafter(side, math.inf))
    return next((each for each in near if low + each == high), side)


_VOC = """<annotation>
	<folder>JPEGImages</folder>
	<filename>{name}</filename>
	<source>
		<database>Unknown</database>
	</source>
	<size>
		<width>{width}</width>
		<height>{height}</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
{objects}</annotation>
"""

_OBJECT = """	<object>
		<name>{name}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>{}</xmin>
			<ymin>{}</ymin>
			<xmax>{}</xmax>
			<ymax>{}</ymax>
		</bndbox>
	</object>
"""


def voc(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """Annotations/*.xml as labelImg writes them, and the splits in ImageSets/Main/{train,val,test}.txt."""
    annotations, lists = root / "Annotations", root / "ImageSets" / "Main"
    annotations.mkdir()
    for picture in pictures:
        width, height = picture.drawn_on
        objects = (_OBJECT.format(*map(_number, box.box), name=_xml(box.name)) for box in picture.image.boxes)
        text = _VOC.format(name=_xml(picture.name), width=width, height=height, objects="".join(objects))
        (annotations / f"{PurePosixPath(picture.name).stem}.xml").write_text(text, encoding="utf-8")
    for split, members in _by_split(pictures).items():
        if split:
            lists.mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{_listed(picture.name)}\n" for picture in members)
            (lists / f"{split}.txt").write_text(lines, encoding="utf-8")


def _xml(text: str) -> str:
    return escape(text, {"\r": "&#13;"})  # else the parser reads a line feed


def _listed(name: str) -> str:
    """Returns the stem, as VOC lists it; the whole name where the stem would be taken for a name itself: a.jpg.png."""
    stem = PurePosixPath(name).stem
    return name if PurePosixPath(stem).suffix.lower() in SUFFIXES else stem


def _number(value: float) -> str:
    """Returns whole pixels as labelImg writes them, and others in full."""
    return str(int(value)) if value == int(value) else repr(float(value))


def yolo(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """labels/{train,val,test}/*.txt beside images/, and data.yaml; its folder is where that file lies."""
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
    """A class name: quoted always, as not all readers of YAML agree what "no" and "1e3" are, nor about odd blanks."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Name, lambda dumper, name: dumper.represent_scalar("tag:yaml.org,2002:str", name, style='"'))


def _cxcywh(box: Box, size: tuple[int, int]) -> str:
    (x1, y1, x2, y2), (width, height) = box, size
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join(map(repr, numbers))


def csv(root: Path, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
    """annotations.csv."""
    images = (replace(picture.image, path=root / "images" / picture.name) for picture in pictures)
    csv_boxes.write(root / csv_boxes.OWN, root, images)


def _by_split(pictures: Iterable[Picture]) -> dict[str | None, list[Picture]]:
    found: defaultdict[str | None, list[Picture]] = defaultdict(list)
    for picture in pictures:
        found[picture.image.split].append(picture)
    return dict(sorted(found.items(), key=lambda item: ("train", "val", "test", None).index(item[0])))


WRITERS = {"coco": coco, "voc": voc, "yolo": yolo, "csv": csv}
