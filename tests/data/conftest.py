"""The same small detection data, written in each of the four layouts."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 64, 32
Boxes = list[tuple[str, float, float, float, float]]
Write = Callable[..., Path]


@dataclass
class Picture:
    """A picture to be written: its boxes as (class, x1, y1, x2, y2), its split, and the seed of its pixels."""

    boxes: Boxes = field(default_factory=list)
    split: str | None = None
    seed: int | None = None


def save_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_voc(root: Path, pictures: Mapping[str, Picture]) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for number, (stem, picture) in enumerate(pictures.items()):
        save_image(root / "JPEGImages" / f"{stem}.png", number if picture.seed is None else picture.seed)
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>"
            for name, x1, y1, x2, y2 in picture.boxes
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        text = f"<annotation><filename>{stem}.png</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{stem}.xml").write_text(text)
        if picture.split:
            listing = root / "ImageSets" / "Main" / f"{picture.split}.txt"
            listing.parent.mkdir(parents=True, exist_ok=True)
            with listing.open("a") as stream:
                stream.write(f"{stem}\n")
    return root


def write_coco(root: Path, pictures: Mapping[str, Picture]) -> Path:
    names = sorted({box[0] for picture in pictures.values() for box in picture.boxes})
    for split in sorted({picture.split for picture in pictures.values()}, key=str):
        images, annotations = [], []
        for number, (stem, picture) in enumerate(pictures.items()):
            if picture.split != split:
                continue
            save_image(root / "images" / f"{stem}.png", number if picture.seed is None else picture.seed)
            images.append({"id": number, "file_name": f"{stem}.png", "width": WIDTH, "height": HEIGHT})
            annotations += [
                {"id": 0, "image_id": number, "category_id": names.index(name), "bbox": [x1, y1, x2 - x1, y2 - y1]}
                for name, x1, y1, x2, y2 in picture.boxes
            ]
        categories = [{"id": index, "name": name} for index, name in enumerate(names)]
        file = root / "annotations" / ("instances.json" if split is None else f"instances_{split}2017.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return root


def write_yolo(root: Path, pictures: Mapping[str, Picture]) -> Path:
    names = sorted({box[0] for picture in pictures.values() for box in picture.boxes})
    root.mkdir(parents=True)
    (root / "data.yaml").write_text(json.dumps({"names": names}))  # JSON is YAML
    for number, (stem, picture) in enumerate(pictures.items()):
        split = picture.split or ""
        save_image(root / "images" / split / f"{stem}.png", number if picture.seed is None else picture.seed)
        if picture.boxes:
            lines = [
                f"{names.index(name)} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} {(x2 - x1) / WIDTH} "
                f"{(y2 - y1) / HEIGHT}\n"
                for name, x1, y1, x2, y2 in picture.boxes
            ]
            label = root / "labels" / split / f"{stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(lines))
    return root


def write_csv(root: Path, pictures: Mapping[str, Picture]) -> Path:
    root.mkdir(parents=True)
    with (root / "annotations.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "label", "x1", "y1", "x2", "y2", "split"])
        for number, (stem, picture) in enumerate(pictures.items()):
            save_image(root / "images" / f"{stem}.png", number if picture.seed is None else picture.seed)
            for box in picture.boxes or [[""] * 5]:
                table.writerow([f"images/{stem}.png", *box, picture.split])
    return root


WRITERS: dict[str, Write] = {"Pascal VOC": write_voc, "COCO": write_coco, "YOLO": write_yolo, "CSV": write_csv}


@pytest.fixture(scope="session")
def picture() -> type[Picture]:
    return Picture


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    return save_image


@pytest.fixture(scope="session")
def writers() -> dict[str, Write]:
    """Functions (root, {stem: Picture}) -> root by the layout's name."""
    return WRITERS
