"""Make a messy data set of invented logos, as `platform.dataset fetch` leaves one, and a file that says what is true.

python -m benchmarks.logos logos/ --images 6000 --classes 400 --seed 0

The folder holds images/, fetched.csv and manifest.jsonl; what is true lies beside it, in logos.truth.json:
`classes`, the class of each raw label ("" for one that says nothing); `names`, the classes; `faults`, each with its
kind, its image, how many logos that shows, and where it has them its box and label as written and the other image.
Every fault is where it says and nowhere else: one at most for an image and its boxes. Copies count as images.
"""

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance

from benchmarks import logo_art, logo_labels
from benchmarks.logo_art import Box, Scene
from platform.data import sheets

IMAGES, TABLE, MANIFEST, TRUTH = "images", "fetched.csv", "manifest.jsonl", ".truth.json"
COLUMNS = ("image", "label", "x1", "y1", "x2", "y2", "split", "row", "url")
SUFFIXES = {"JPEG": "jpg", "PNG": "png"}

COPIES = {"same file": 0.015, "same pixels": 0.01, "recompressed": 0.015, "resized": 0.015, "cropped": 0.01,
          "brighter": 0.01}  # of the images  # fmt: skip
IMAGE_FAULTS = {"too small": 0.005, "broken": 0.004, "turned": 0.01, "turned, boxes as stored": 0.003}  # of the images
BOX_FAULTS = {"outside": 0.003, "partly outside": 0.01, "inverted": 0.01, "no area": 0.003, "tiny": 0.003,
              "huge": 0.003, "duplicate": 0.01, "two labels": 0.003, "no label": 0.003, "no box": 0.005,
              "says nothing": 0.003}  # of the images: one of its boxes  # fmt: skip
LOST = {"dead link": 0.04, "not an image": 0.02, "timeout": 0.01, "forbidden address": 0.002}  # URLs, of the images
SAME_FILE = "same file"  # one file, so it is no image of its own

STORED_SIDEWAYS = 6  # EXIF orientation: to be turned a quarter clockwise
OWN_SPELLING = 0.6  # of the boxes that bear their class's name as it is


@dataclass(frozen=True)
class Job:
    """Image with its copies, drawn by one process."""

    scene: Scene
    fault: str | None
    copy: str | None


@dataclass(frozen=True)
class File:
    """Written image: path from the data set's folder, upright size, boxes."""

    image: str
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    sha256: str
    bytes: int


def make(out: Path, images: int = 6000, classes: int = 400, seed: int = 0) -> dict[str, Any]:
    """Write the data set and its truth, which is also returned.

    Args:
        out: A folder that is not there yet.
        images: Files in it.
        classes: The largest has about 15 % of the boxes at 400 (Zipf's law), the smallest a few.
        seed: The same one, the same data set.
    """
    out.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    names = logo_labels.brands(classes, rng)
    jobs = _jobs(images, classes, seed, rng)
    for first in range(256):
        (out / IMAGES / f"{first:02x}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        written = list(pool.map(partial(_write, out, names), jobs, chunksize=16))
    labels = _Labels(names, Counter(number for job in jobs for number in job.scene.classes), rng)
    rows, faults = _rows(jobs, written, labels, rng)
    sheets.write(out / TABLE, COLUMNS, rows)
    files = {file.image: file for group in written for file in group}
    with (out / MANIFEST).open("w", encoding="utf-8") as manifest:
        for line in _manifest(rows, files, images, rng):
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
    truth = {"seed": seed, "names": names, "classes": labels.true, "faults": faults}
    out.with_name(out.name + TRUTH).write_text(json.dumps(truth, ensure_ascii=False, indent=1), encoding="utf-8")
    return truth


def _jobs(images: int, classes: int, seed: int, rng: Generator) -> list[Job]:
    copies = [kind for kind, share in COPIES.items() for _ in range(max(1, round(share * images)))]
    originals = images - sum(kind != SAME_FILE for kind in copies)
    faults = [kind for table in (IMAGE_FAULTS, BOX_FAULTS) for kind, share in table.items()
              for _ in range(max(1, round(share * images)))]  # fmt: skip
    if len(copies) + len(faults) > originals:
        raise SystemExit(f"--images {images} leaves no image without a fault: give 60 or more.")
    weights = 1 / np.arange(1, classes + 1)
    shown = rng.choice(classes, size=4 * originals, p=weights / weights.sum())
    shown[rng.choice(originals, classes, replace=originals < classes) * 4] = np.arange(classes)  # each at least once
    counts = rng.choice((1, 2, 3, 4), size=originals, p=(0.45, 0.3, 0.15, 0.1))
    planned: list[tuple[str | None, str | None]] = [(None, kind) for kind in copies] + [(kind, None) for kind in faults]
    planned += [(None, None)] * (originals - len(planned))
    order = rng.permutation(originals)
    jobs = []
    for number, place in enumerate(order):
        fault, copy = planned[place]
        form = "PNG" if fault is None and copy is None and rng.random() < 0.05 else "JPEG"
        numbers = tuple(int(one) for one in shown[4 * number : 4 * number + counts[number]])
        jobs.append(Job(Scene((seed, number), numbers, form), fault, copy))
    return jobs


def _write(out: Path, names: Sequence[str], job: Job) -> list[File]:
    """Draw an image, and its copy if it has one."""
    picture, boxes = logo_art.draw(job.scene, names)
    if job.fault == "too small":
        shrink = 24 / max(picture.size)
        picture, boxes = _resized(picture, boxes, shrink)
    if job.fault in ("turned", "turned, boxes as stored"):
        stored = picture.transpose(Image.Transpose.ROTATE_90)
        content = logo_art.encoded(stored, orientation=STORED_SIDEWAYS)
        if job.fault != "turned":
            boxes = [(y1, picture.width - x2, y2, picture.width - x1) for x1, y1, x2, y2 in boxes]
    else:
        content = logo_art.encoded(picture, job.scene.format)
    files = [_put(out, content, job.scene.format, picture.size, boxes, truncated=job.fault == "broken")]
    if job.copy == "same pixels":
        files.append(_put(out, content + b"\0saved again", "JPEG", picture.size, boxes))
    elif job.copy in COPIED:
        copy, moved = COPIED[job.copy](picture, boxes)
        quality = 45 if job.copy == "recompressed" else logo_art.QUALITY
        files.append(_put(out, logo_art.encoded(copy, quality=quality), "JPEG", copy.size, moved))
    return files


def _resized(picture: Image.Image, boxes: Sequence[Box], scale: float) -> tuple[Image.Image, list[Box]]:
    size = (round(picture.width * scale), round(picture.height * scale))
    x, y = size[0] / picture.width, size[1] / picture.height
    scaled = [(round(b[0] * x, 2), round(b[1] * y, 2), round(b[2] * x, 2), round(b[3] * y, 2)) for b in boxes]
    return picture.resize(size, Image.Resampling.LANCZOS), scaled


def _cropped(picture: Image.Image, boxes: Sequence[Box]) -> tuple[Image.Image, list[Box]]:
    """Return the image and boxes with a thirtieth of each side cropped."""
    left, top = picture.width // 30, picture.height // 30
    right, bottom = picture.width - left, picture.height - top
    moved = [(max(x1 - left, 0), max(y1 - top, 0), min(x2, right) - left, min(y2, bottom) - top)
             for x1, y1, x2, y2 in boxes]  # fmt: skip
    return picture.crop((left, top, right, bottom)), moved


COPIED: dict[str, Callable[[Image.Image, Sequence[Box]], tuple[Image.Image, list[Box]]]] = {
    "recompressed": lambda picture, boxes: (picture, list(boxes)),
    "resized": lambda picture, boxes: _resized(picture, boxes, 0.7),
    "cropped": _cropped,
    "brighter": lambda picture, boxes: (ImageEnhance.Brightness(picture).enhance(1.2), list(boxes)),
}


def _put(
    out: Path, content: bytes, form: str, size: tuple[int, int], boxes: Sequence[Box], truncated: bool = False
) -> File:
    """Write a file under the hash of its content; with `truncated`, only the first half of it."""
    digest = hashlib.sha256(content).hexdigest()
    image = f"{IMAGES}/{digest[:2]}/{digest[:32]}.{SUFFIXES[form]}"
    (out / image).write_bytes(content[: len(content) // 2] if truncated else content)
    return File(image, size, tuple(boxes), digest, len(content))


class _Labels:
    """Labels as typed: each class has a few spellings besides its own, more for classes with more boxes."""

    def __init__(self, names: Sequence[str], boxes: Counter[int], rng: Generator) -> None:
        self.true = dict(zip(names, names, strict=True)) | {"": ""} | dict.fromkeys(logo_labels.SAYS_NOTHING, "")
        self.spellings: list[list[str]] = []
        for number, name in enumerate(names):
            made = logo_labels.spellings(name, 1 + min(14, int(boxes[number] ** 0.5)), rng)
            own = [text for text in made if self.true.setdefault(text, name) == name]
            self.spellings.append([name, *own])
        self.rng = rng

    def typed(self, number: int) -> str:
        """Return a label for a box of a class."""
        own, *others = self.spellings[number]
        return own if not others or self.rng.random() < OWN_SPELLING else str(self.rng.choice(others))


def _rows(
    jobs: Sequence[Job], written: Sequence[Sequence[File]], labels: _Labels, rng: Generator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the list, and every fault."""
    rows: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    for job, files in zip(jobs, written, strict=True):
        first, last, shown = files[0], files[-1], len(job.scene.classes)
        if job.fault in IMAGE_FAULTS:
            faults.append({"kind": job.fault, "image": first.image, "logos": shown})
        if job.copy:
            faults.append({"kind": job.copy, "image": first.image, "logos": shown, "other": last.image})
        for file in [first] * 2 if job.copy == SAME_FILE else files:
            drawn = zip(job.scene.classes, file.boxes, strict=True)
            labelled: list[tuple[str, Box | None]] = [(labels.typed(number), box) for number, box in drawn]
            if job.fault in BOX_FAULTS:
                labelled, box = _spoilt(job.fault, labelled, file.size, len(labels.spellings), labels, rng)
                box_facts = {"box": box, "label": labelled[-1][0]}
                faults.append({"kind": job.fault, "image": file.image, "logos": shown, **box_facts})
            url = f"https://img{rng.integers(40)}.example/{file.sha256[:12]}-{rng.integers(10**6):06d}.jpg"
            rows += [_row(file, label, box, url) for label, box in labelled]
    for number, row in enumerate(rows, start=1):
        row["row"] = number
    return rows, faults


def _row(file: File, label: str, box: Box | None, url: str) -> dict[str, Any]:
    corners = dict(zip(("x1", "y1", "x2", "y2"), map(float, box or ()), strict=False))
    return {"image": file.image, "label": label, **corners, "url": url}


def _spoilt(
    fault: str, labelled: list[Any], size: tuple[int, int], classes: int, labels: _Labels, rng: Generator
) -> tuple[list[tuple[str, Box | None]], Box | None]:
    """Return the image's boxes with a fault in the last one, and its written form."""
    (label, (x1, y1, x2, y2)), (width, height) = labelled[-1], size
    box = (x1, y1, x2, y2)
    boxes: dict[str, Box] = {
        "outside": (x1 + width, y1, x2 + width, y2),
        "partly outside": (width - 0.6 * (x2 - x1), y1, width + 0.4 * (x2 - x1), y2),
        "inverted": (x2, y2, x1, y1),
        "no area": (x1, y1, x1, y2),
        "tiny": (x1, y1, x1 + 2, y1 + 2),
        "huge": (0.0, 0.0, float(width), float(height)),
    }
    if fault in boxes:
        return [*labelled[:-1], (label, boxes[fault])], boxes[fault]
    other = labels.spellings[int(rng.integers(classes))][0]
    more: dict[str, list[tuple[str, Box | None]]] = {
        "duplicate": [(label, box), (label, box)],
        "two labels": [(label, box), (other, box)],
        "no label": [("", box)],
        "no box": [(label, None)],
        "says nothing": [(str(rng.choice(logo_labels.SAYS_NOTHING)), box)],
    }
    return [*labelled[:-1], *more[fault]], None if fault == "no box" else box


def _manifest(
    rows: Sequence[dict[str, Any]], files: dict[str, File], images: int, rng: Generator
) -> Iterator[dict[str, Any]]:
    for url, image in {row["url"]: row["image"] for row in rows}.items():
        file = files[image]
        yield _line(url, "fetched", "", 200, rng) | {
            "image": image, "bytes": file.bytes, "width": file.size[0], "height": file.size[1], "sha256": file.sha256,
        }  # fmt: skip
    status = {"dead link": 404, "not an image": 200}
    for outcome, share in LOST.items():
        for _ in range(max(1, round(share * images))):
            url = f"https://img{rng.integers(40)}.example/gone-{rng.integers(10**9):09d}.jpg"
            yield _line(url, outcome, "", status.get(outcome), rng)


def _line(url: str, outcome: str, detail: str, status: int | None, rng: Generator) -> dict[str, Any]:
    empty = dict.fromkeys(("image", "bytes", "width", "height", "sha256"))
    seconds = round(float(rng.exponential(0.2)), 3)
    line = {"url": url, "outcome": outcome, "detail": detail, "status": status, **empty}
    return line | {"final_url": url, "tries": 1, "seconds": seconds}


def main() -> None:
    """Make the data set and print its content."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.logos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("out", type=Path, help="a folder that is not there yet")
    p.add_argument("--images", type=int, default=6000)
    p.add_argument("--classes", type=int, default=400)
    p.add_argument("--seed", type=int, default=0)
    options = p.parse_args()
    if options.out.exists():
        raise SystemExit(f"{options.out} is there already.")
    began = time.perf_counter()
    truth = make(options.out, options.images, options.classes, options.seed)
    print(f"{options.images} images, {options.classes} classes, {len(truth['classes'])} spellings, "
          f"{time.perf_counter() - began:.0f} s: {options.out}")  # fmt: skip
    print(", ".join(f"{count} {kind}" for kind, count in Counter(f["kind"] for f in truth["faults"]).items()))


if __name__ == "__main__":
    main()
