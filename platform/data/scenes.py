"""The image data that ship inside: handwritten digits on photographs, as scenes of several or with one an image.

`write` makes a detection data set as any COCO one, `write_objects` a classification data set as class folders.
Everything comes from scikit-learn's wheel, so nothing is fetched: 1,797 digits of 8 x 8 pixels (UCI, Optical
Recognition of Handwritten Digits) and two photographs, china.jpg and flower.jpg. No digit and no piece of a photograph
occurs in two splits. The digits' writers are not recorded there, so one writer may well occur in two.
"""

import colorsys
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from platform.data.annotations import SPLITS
from platform.errors import Fault, InputError

COUNTS: Mapping[str, int] = {"train": 240, "val": 80, "test": 120}
OBJECT_COUNTS: Mapping[str, int] = {"train": 500, "val": 200, "test": 400}
CLASSES = tuple("0123456789")
DIGITS_PER_SCENE = (2, 6)
MAX_IOU = 0.02  # between the boxes of two digits of a scene
OBJECTS = ".objects.json"  # hidden from readers of images; what was written, beside the splits' folders
INK = 0.25  # opacity from which a pixel counts as ink and belongs in the box

_SCENE_INK = (24 / 128, 48 / 128)  # of the longer side of a digit, in canvases
_OBJECT_INK = (24 / 64, 48 / 64)
_TURN = 12.0  # degrees, either way
_BANDS = {"train": (0.0, 0.5), "val": (0.5, 0.72), "test": (0.72, 1.0)}  # of a photograph's width
_CROP_SIDE = (104, 140)  # photograph pixels, below the width of the narrowest band
_CONTRAST = 0.5  # wanted difference in luminance between ink and ground
_LUMA = np.array([0.299, 0.587, 0.114])

Box = tuple[int, int, int, int]


def write(root: Path, *, seed: int, counts: Mapping[str, int] = COUNTS, size: int = 128) -> Path:
    """Writes the scenes to `root`, whole or not at all, or takes the same ones that already lie there.

    The same arguments give the same bytes. The layout is images/{split}/*.png and annotations/instances_{split}.json;
    each annotation's `digit_index` is the digit's place in `sklearn.datasets.load_digits`.

    Args:
        root: The folder to make; it may exist if it is empty.
        seed: Decides everything that is drawn.
        counts: Scenes by split.
        size: Height and width of a scene in pixels.

    Returns:
        `root`.

    Raises:
        InputError: `root` holds something else, a split is unknown or empty, or `size` is below 64.
    """
    _check(counts, size, least=64)
    info = {"description": "Handwritten digits on photographs", "seed": seed, "size": size, "counts": dict(counts)}
    return _write_whole(root, info, _write_split, _is_written)


def write_objects(root: Path, *, seed: int, counts: Mapping[str, int] = OBJECT_COUNTS, size: int = 64) -> Path:
    """Writes images of one digit each to `root`, whole or not at all, or takes the same ones that already lie there.

    The same arguments give the same bytes. The layout is {split}/{class}/*.png, the classes in equal numbers, and
    .objects.json, which tells how the images were made and for each its `digit_index` in
    `sklearn.datasets.load_digits`.

    Args:
        root: The folder to make; it may exist if it is empty.
        seed: Decides everything that is drawn.
        counts: Images by split.
        size: Height and width of an image in pixels.

    Returns:
        `root`.

    Raises:
        InputError: `root` holds something else, a split is unknown or empty, or `size` is below 32.
    """
    _check(counts, size, least=32)
    info = {"description": "A handwritten digit on a photograph", "seed": seed, "size": size, "counts": dict(counts)}
    return _write_whole(root, info, _write_object_split, _are_objects_written)


def compose(rng: Generator, ground: np.ndarray, inks: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Box]] | None:
    """Draws inks at random places of a ground, each in one random colour that stands out there.

    Args:
        ground: (H, W, 3), uint8.
        inks: Opacities of (h, w) in [0, 1], cropped to what is visible.

    Returns:
        The scene, (H, W, 3) uint8, and each ink's box (x, y, width, height) in pixels, tight around the pixels of
        opacity INK and more. None if no places were found that keep to MAX_IOU.
    """
    canvas = ground.astype(np.float64) / 255
    boxes: list[Box] = []
    for ink in inks:
        place = _find_place(rng, ground.shape, ink, boxes)
        if place is None:
            return None
        boxes.append(place[1])
        x, y = place[0]
        paint(rng, canvas[y : y + ink.shape[0], x : x + ink.shape[1]], ink)
    return np.rint(canvas * 255).astype(np.uint8), boxes


def paint(rng: Generator, window: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Draws an ink of opacities (h, w) over a window of a canvas, (h, w, 3) in [0, 1], in place.

    Returns:
        The colour it took, (3,) in [0, 1]: a random one that stands out there.
    """
    opacity = rng.uniform(0.85, 1) * ink[..., None]
    colour = _stand_out(rng, float((window.mean((0, 1)) * _LUMA).sum()))
    window[:] = window * (1 - opacity) + colour * opacity
    return colour


def tighten(ink: np.ndarray, least: float = 0.02) -> np.ndarray:
    """Crops opacities (h, w) to the rows and columns that reach `least`."""
    rows, columns = (np.flatnonzero((ink >= least).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _check(counts: Mapping[str, int], size: int, least: int) -> None:
    faults = []
    if not counts or not set(counts) <= set(SPLITS) or min(counts.values()) < 1:
        rule = f"images are counted by split ({', '.join(SPLITS)}), at least one each"
        faults.append(Fault(rule, str(dict(counts)), f"Give for example {dict(COUNTS)}."))
    if size < least:
        faults.append(Fault(f"an image must have {least} pixels a side or more", str(size), f"Use {2 * least}."))
    if faults:
        raise InputError(*faults)


def _write_whole(
    root: Path,
    info: dict,
    write_split: Callable[[Path, str, list[list[int]], dict], None],
    is_written: Callable[[Path, dict], bool],
) -> Path:
    """Writes all splits beside `root` and then puts them there at once, unless they are there already."""
    if is_written(root, info):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as folder:
        made = Path(folder) / "made"  # not the temporary folder itself, which only its owner may read
        pools = _deal_digits(info["seed"], info["counts"])
        for split in info["counts"]:
            write_split(made, split, pools[split], info)
        try:
            made.rename(root)
        except OSError as error:
            if not is_written(root, info):  # else another process was faster, with the same bytes
                raise InputError(_not_ours(root)) from error
    return root


def _is_absent(root: Path) -> bool:
    return not root.exists() or (root.is_dir() and not any(root.iterdir()))


def _is_written(root: Path, info: dict) -> bool:
    """Whether `root` holds these scenes; False if there is nothing yet."""
    if _is_absent(root):
        return False
    try:
        documents = {split: json.loads(_annotations(root, split).read_text()) for split in info["counts"]}
        same = all(document["info"] == info for document in documents.values())
        images = [root / "images" / split / e["file_name"] for split in documents for e in documents[split]["images"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(_not_ours(root)) from error
    if not same or not all(image.is_file() for image in images):
        raise InputError(_not_ours(root))
    return True


def _are_objects_written(root: Path, info: dict) -> bool:
    """Whether `root` holds these objects; False if there is nothing yet."""
    if _is_absent(root):
        return False
    try:
        written = json.loads((root / OBJECTS).read_text())
        complete = written["info"] == info and set(written["digit_index"]) == set(info["counts"])
        images = [root / name for split in written["digit_index"].values() for name in split]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(_not_ours(root)) from error
    if not complete or not all(image.is_file() for image in images):
        raise InputError(_not_ours(root))
    return True


def _not_ours(root: Path) -> Fault:
    rule = "the folder of the embedded images must be absent, empty, or hold these images complete"
    return Fault(rule, f"other content in {root}", "Name another folder, or delete this one.")


def _annotations(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _deal_digits(seed: int, counts: Mapping[str, int]) -> dict[str, list[list[int]]]:
    """Deals each class's digits out to the splits, nearly in proportion to their counts: split → class → indices."""
    rng = np.random.default_rng([seed, 0])
    targets = load_digits().target
    weights = [count + 0.05 * sum(counts.values()) for count in counts.values()]  # so that a tiny split gets some too
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
        scene, boxes = _draw(rng, [digits[index] for index in indices], photographs, split, size, _SCENE_INK)
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
    """Writes a split's images and adds each one's digit to the record of what was written."""
    count, size = info["counts"][split], info["size"]
    rng = np.random.default_rng([info["seed"], 1 + SPLITS.index(split)])
    digits, photographs = load_digits(), load_sample_images().images
    drawn: dict[str, int] = {}
    for number, [index] in enumerate(_deal_scenes(rng, np.ones(count, int), pool)):
        name = f"{split}/{CLASSES[digits.target[index]]}/{number:04d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image, _ = _draw(rng, [digits.images[index]], photographs, split, size, _OBJECT_INK)
        _save(image, root / name)
        drawn[name] = index
    record = root / OBJECTS
    written = json.loads(record.read_text())["digit_index"] if record.exists() else {}
    content = {"info": info, "digit_index": {**written, split: drawn}}
    record.write_text(json.dumps(content, indent=1) + "\n")


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).save(path, compress_level=3)  # a twentieth larger, in half the time


def _deal_scenes(rng: Generator, numbers: np.ndarray, pool: list[list[int]]) -> list[list[int]]:
    """Digits for each scene: the classes in equal numbers, and no digit twice before its class has been used up.

    Args:
        numbers: Digits in each scene.
        pool: The split's digits by class.
    """
    labels = rng.permutation(np.arange(numbers.sum()) % len(pool))
    used = [0] * len(pool)
    dealt = []
    for label in labels:
        dealt.append(pool[label][used[label] % len(pool[label])])
        used[label] += 1
    return [part.tolist() for part in np.split(np.array(dealt), np.cumsum(numbers)[:-1])]


def _draw(
    rng: Generator,
    digits: Sequence[np.ndarray],
    photographs: Sequence[np.ndarray],
    split: str,
    size: int,
    ink_size: tuple[float, float],
) -> tuple[np.ndarray, list[Box]]:
    while True:  # anew if there was no room, which is rare
        ground = _crop(rng, photographs[int(rng.integers(len(photographs)))], split, size)
        scene = compose(rng, ground, [_ink(rng, digit, size, ink_size) for digit in digits])
        if scene is not None:
            return scene


def _crop(rng: Generator, photograph: np.ndarray, split: str, size: int) -> np.ndarray:
    """A square from the split's own band of the photograph, (size, size, 3), mirrored half the time."""
    left, right = (round(edge * photograph.shape[1]) for edge in _BANDS[split])
    side = int(rng.integers(_CROP_SIDE[0], _CROP_SIDE[1] + 1))
    x = int(rng.integers(left, right - side + 1))
    y = int(rng.integers(0, photograph.shape[0] - side + 1))
    crop = Image.fromarray(photograph[y : y + side, x : x + side]).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(crop)[:, :: 1 if rng.random() < 0.5 else -1]


def _ink(rng: Generator, digit: np.ndarray, size: int, ink_size: tuple[float, float] = _SCENE_INK) -> np.ndarray:
    """A digit of (8, 8) in 0..16 as opacities (h, w): enlarged smoothly, its edge sharpened to a stroke's, turned."""
    fine = Image.fromarray(np.pad(digit / 16, 2).astype(np.float32)).resize((96, 96), Image.Resampling.BICUBIC)
    ramp = np.clip((np.asarray(fine) - 0.3) / 0.3, 0, 1)
    stroke = Image.fromarray(ramp * ramp * (3 - 2 * ramp))
    turned = tighten(np.asarray(stroke.rotate(rng.uniform(-_TURN, _TURN), Image.Resampling.BICUBIC)))
    longer = rng.uniform(*ink_size) * size
    height, width = (max(3, round(side * longer / max(turned.shape))) for side in turned.shape)
    small = Image.fromarray(turned).resize((width, height), Image.Resampling.BICUBIC)
    return tighten(np.clip(np.asarray(small), 0, 1))


def _find_place(
    rng: Generator, ground: tuple[int, ...], ink: np.ndarray, boxes: Sequence[Box]
) -> tuple[tuple[int, int], Box] | None:
    """A corner (x, y) for the ink, and its box, that overlaps no other by more than MAX_IOU."""
    visible = ink >= INK
    rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
    width, height = int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
    for _ in range(100):
        x = int(rng.integers(0, ground[1] - ink.shape[1] + 1))
        y = int(rng.integers(0, ground[0] - ink.shape[0] + 1))
        box = (x + int(columns[0]), y + int(rows[0]), width, height)
        if all(_iou(box, other) <= MAX_IOU for other in boxes):
            return (x, y), box
    return None


def _iou(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(0, width) * max(0, height)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def _stand_out(rng: Generator, luminance: float) -> np.ndarray:
    """A random colour, (3,) in [0, 1], whose luminance differs well from the given one, a mid-grey's a little less."""
    least = min(_CONTRAST, 0.8 * max(luminance, 1 - luminance))
    while True:
        colour = np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1, 2), rng.beta(1.2, 0.8)))
        if abs(float(colour @ _LUMA) - luminance) >= least:
            return colour
