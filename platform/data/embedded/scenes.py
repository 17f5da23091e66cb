"""Embedded image data: handwritten digits on photographs, several in a scene or one an image.

`write` makes a detection data set in COCO's layout, `write_objects` a classification data set in class folders.
Everything comes from scikit-learn's wheel, so nothing is downloaded: 1,797 digits of 8 x 8 pixels (UCI, Optical
Recognition of Handwritten Digits) and two photographs, china.jpg and flower.jpg. No digit and no part of a photograph
occurs in two splits. The digits' writers are not recorded, so one writer may occur in two splits.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from platform.data.embedded import ink
from platform.data.splits import SPLITS
from platform.errors import Fault, InputError, raise_if_any
from platform.storage import atomic

COUNTS: Mapping[str, int] = {"train": 240, "val": 80, "test": 120}
OBJECT_COUNTS: Mapping[str, int] = {"train": 500, "val": 200, "test": 400}
CLASSES = tuple("0123456789")
DIGITS_PER_SCENE = (2, 6)
OBJECTS = ".objects.json"  # record of what was written, beside the splits' folders; readers skip hidden files

_SCENE_INK = (24 / 128, 48 / 128)  # least and greatest length of a digit's longer side, relative to the scene's
_OBJECT_INK = (24 / 64, 48 / 64)


def write(root: Path, *, seed: int, counts: Mapping[str, int] = COUNTS, size: int = 128) -> Path:
    """Write the scenes to `root`, whole or not at all, unless the same ones already exist there.

    The same arguments give the same bytes. The layout is images/{split}/*.png and annotations/instances_{split}.json;
    each annotation's `digit_index` is the digit's index in `sklearn.datasets.load_digits`.

    Args:
        root: Folder to make; it may exist if it is empty.
        seed: Seed of all random choices.
        counts: Number of scenes by split.
        size: Height and width of a scene in pixels.

    Returns:
        `root`.

    Raises:
        InputError: `root` holds something else, a split is unknown or empty, or `size` is below 64.
    """
    return _write_whole(
        root, "Handwritten digits on photographs", seed, counts, size, 64, _write_split, _recorded_scenes
    )


def write_objects(root: Path, *, seed: int, counts: Mapping[str, int] = OBJECT_COUNTS, size: int = 64) -> Path:
    """Write images of one digit each to `root`, as `write` does with scenes; they must have 32 pixels a side or more.

    The layout is {split}/{class}/*.png, the classes in equal numbers, and .objects.json, which records how the images
    were made and the `digit_index` of each in `sklearn.datasets.load_digits`.
    """
    return _write_whole(
        root, "A handwritten digit on a photograph", seed, counts, size, 32, _write_object_split, _recorded_objects
    )


def _write_whole(
    root: Path,
    description: str,
    seed: int,
    counts: Mapping[str, int],
    size: int,
    least: int,
    write_split: Callable[[Path, str, list[list[int]], dict], None],
    recorded: Callable[[Path, dict], tuple[bool, list[Path]]],
) -> Path:
    """Write all splits to `root`, whole or not at all, unless they exist already."""
    faults = []
    if not counts or not set(counts) <= set(SPLITS) or min(counts.values()) < 1:
        rule = f"the counts of images must be by split ({', '.join(SPLITS)}), at least one each"
        faults.append(Fault(rule, str(dict(counts)), f"Give for example {dict(COUNTS)}."))
    if size < least:
        faults.append(Fault(f"an image must have {least} pixels a side or more", str(size), f"Use {2 * least}."))
    raise_if_any(faults)
    info = {"description": description, "seed": seed, "size": size, "counts": dict(counts)}
    if _is_written(root, info, recorded):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    pools = _deal_digits(seed, counts)
    try:
        with atomic.new_folder(root, prefix=f".{root.name}-") as partial:
            for split in counts:
                write_split(partial, split, pools[split], info)
    except OSError:
        # the disk is full, the folder cannot be written, or another process was faster, with the same bytes
        if not _is_written(root, info, recorded):
            raise
    return root


def _is_written(root: Path, info: dict, recorded: Callable[[Path, dict], tuple[bool, list[Path]]]) -> bool:
    """Return True if `root` holds these images and False if it is absent or empty.

    Raises:
        InputError: It holds something else.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        same, images = recorded(root, info)
        if not same or not all(image.is_file() for image in images):
            raise ValueError("other images, or not all of them")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        rule = "the folder of the embedded images must be absent, empty, or hold all of these images"
        fault = Fault(rule, f"other content in {root}", "Name another folder, or delete this one.")
        raise InputError(fault) from error
    return True


def _recorded_scenes(root: Path, info: dict) -> tuple[bool, list[Path]]:
    """Return True if the scenes in a folder were made as `info` says, and their files."""
    documents = {split: json.loads(_annotations(root, split).read_text()) for split in info["counts"]}
    images = [root / "images" / split / e["file_name"] for split in documents for e in documents[split]["images"]]
    return all(document["info"] == info for document in documents.values()), images


def _recorded_objects(root: Path, info: dict) -> tuple[bool, list[Path]]:
    """Return True if the objects in a folder were made as `info` says, and their files."""
    written = json.loads((root / OBJECTS).read_text())
    images = [root / name for split in written["digit_index"].values() for name in split]
    return written["info"] == info and set(written["digit_index"]) == set(info["counts"]), images


def _annotations(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _deal_digits(seed: int, counts: Mapping[str, int]) -> dict[str, list[list[int]]]:
    """Distribute each class's digits over the splits, nearly in proportion to the counts: split → class → indices."""
    rng = np.random.default_rng([seed, 0])
    targets = load_digits().target
    # so that a tiny split gets some digits, too
    weights = [count + 0.05 * sum(counts.values()) for count in counts.values()]
    shares = np.cumsum([0, *weights]) / sum(weights)
    pools: dict[str, list[list[int]]] = {split: [] for split in counts}
    for label in range(len(CLASSES)):
        indices = rng.permutation(np.flatnonzero(targets == label))
        edges = np.rint(shares * len(indices)).astype(int)
        for split, start, end in zip(counts, edges, edges[1:], strict=False):
            pools[split].append([int(index) for index in indices[start:end]])
    return pools


def _write_split(root: Path, split: str, pool: list[list[int]], info: dict) -> None:
    folder, count, size = root / "images" / split, info["counts"][split], info["size"]
    folder.mkdir(parents=True)
    _annotations(root, split).parent.mkdir(exist_ok=True)
    rng = np.random.default_rng([info["seed"], 1 + SPLITS.index(split)])
    digits, photographs = load_digits().images, load_sample_images().images
    images: list[dict] = []
    annotations: list[dict] = []
    numbers = rng.integers(DIGITS_PER_SCENE[0], DIGITS_PER_SCENE[1] + 1, count)
    for number, indices in enumerate(_deal_scenes(rng, numbers, pool)):
        name = f"{number:04d}.png"
        scene, boxes = ink.draw(rng, [digits[index] for index in indices], photographs, split, size, _SCENE_INK)
        _save(scene, folder / name)
        images.append({"id": number, "file_name": name, "width": size, "height": size})
        for index, box in zip(indices, boxes, strict=True):
            label = next(label for label, members in enumerate(pool) if index in members)
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": label, "bbox": box, "area": box[2] * box[3],
                 "iscrowd": 0, "digit_index": index}
            )  # fmt: skip
    categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES)]
    content = {"info": info, "categories": categories, "images": images, "annotations": annotations}
    _annotations(root, split).write_text(json.dumps(content, indent=1) + "\n")


def _write_object_split(root: Path, split: str, pool: list[list[int]], info: dict) -> None:
    """Write a split's images and add the digit of each to the record of what was written."""
    count, size = info["counts"][split], info["size"]
    rng = np.random.default_rng([info["seed"], 1 + SPLITS.index(split)])
    digits, photographs = load_digits(), load_sample_images().images
    drawn: dict[str, int] = {}
    for number, [index] in enumerate(_deal_scenes(rng, np.ones(count, int), pool)):
        name = f"{split}/{CLASSES[digits.target[index]]}/{number:04d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image, _ = ink.draw(rng, [digits.images[index]], photographs, split, size, _OBJECT_INK)
        _save(image, root / name)
        drawn[name] = index
    record = root / OBJECTS
    written = json.loads(record.read_text())["digit_index"] if record.exists() else {}
    content = {"info": info, "digit_index": {**written, split: drawn}}
    record.write_text(json.dumps(content, indent=1) + "\n")


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).save(path, compress_level=3)  # 5 % larger files in half the time


def _deal_scenes(rng: Generator, numbers: np.ndarray, pool: list[list[int]]) -> list[list[int]]:
    """Return digits for each scene: classes in equal numbers, and no digit twice before all of its class were used."""
    labels = rng.permutation(np.arange(numbers.sum()) % len(pool))
    supply = [itertools.cycle(indices) for indices in pool]
    dealt = [next(supply[label]) for label in labels]
    return [part.tolist() for part in np.split(np.array(dealt), np.cumsum(numbers)[:-1])]
