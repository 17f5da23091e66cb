"""Handwritten digits drawn as ink on pieces of photographs."""

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from PIL import Image

MAX_IOU = 0.02  # between the boxes of two digits of a scene
INK = 0.25  # opacity from which a pixel counts as ink and belongs in the box

_TURN = 12.0  # degrees, either way
_BANDS = {"train": (0.0, 0.5), "val": (0.5, 0.72), "test": (0.72, 1.0)}  # of a photograph's width
_CROP_SIDE = (104, 140)  # photograph pixels, below the width of the narrowest band
_CONTRAST = 0.5  # wanted difference in luminance between ink and ground
_LUMA = np.array([0.299, 0.587, 0.114])

Box = tuple[int, int, int, int]


def draw(
    rng: Generator,
    digits: Sequence[np.ndarray],
    photographs: Sequence[np.ndarray],
    split: str,
    size: int,
    ink_size: tuple[float, float],
) -> tuple[np.ndarray, list[Box]]:
    """Draw digits, each (8, 8) in 0..16, on a crop of one of the photographs, each (H, W, 3) uint8.

    The split selects a band of the photograph; bands do not overlap. The longer side of a digit has a random length
    between the two of `ink_size`, which are relative to `size`, the pixels a side of the scene.

    Returns:
        The scene and the digits' boxes, as returned by `compose`.
    """
    while True:  # again if there was no room, which is rare
        ground = _crop(rng, photographs[int(rng.integers(len(photographs)))], split, size)
        scene = compose(rng, ground, [_ink(rng, digit, size, ink_size) for digit in digits])
        if scene is not None:
            return scene


def compose(rng: Generator, ground: np.ndarray, inks: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Box]] | None:
    """Draw inks at random places of a background (H, W, 3) uint8, each in one random colour that contrasts with it.

    An ink is an array of opacities (h, w) in [0, 1], cropped to its visible part.

    Returns:
        The scene, (H, W, 3) uint8, and each ink's box (x, y, width, height) in pixels, tight around the pixels of
        opacity INK and more. None if no places were found at which no two boxes overlap by more than MAX_IOU.
    """
    scene = ground.astype(np.float64) / 255
    boxes: list[Box] = []
    for ink in inks:
        place = _find_place(rng, ground.shape, ink, boxes)
        if place is None:
            return None
        boxes.append(place[1])
        x, y = place[0]
        paint(rng, scene[y : y + ink.shape[0], x : x + ink.shape[1]], ink)
    return np.rint(scene * 255).astype(np.uint8), boxes


def paint(rng: Generator, window: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Draw an ink of opacities (h, w) over a window of an image, (h, w, 3) in [0, 1], in place.

    Returns:
        The ink's colour, (3,) in [0, 1]: a random one that contrasts with the window.
    """
    opacity = rng.uniform(0.85, 1) * ink[..., None]
    colour = _stand_out(rng, float((window.mean((0, 1)) * _LUMA).sum()))
    window[:] = window * (1 - opacity) + colour * opacity
    return colour


def tighten(ink: np.ndarray, least: float = 0.02) -> np.ndarray:
    """Crop opacities (h, w) to the rows and columns that reach `least`."""
    rows, columns = (np.flatnonzero((ink >= least).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _crop(rng: Generator, photograph: np.ndarray, split: str, size: int) -> np.ndarray:
    """Return a random square of the split's band of the photograph, (size, size, 3), mirrored half the time."""
    left, right = (round(edge * photograph.shape[1]) for edge in _BANDS[split])
    side = int(rng.integers(_CROP_SIDE[0], _CROP_SIDE[1] + 1))
    x = int(rng.integers(left, right - side + 1))
    y = int(rng.integers(0, photograph.shape[0] - side + 1))
    crop = Image.fromarray(photograph[y : y + side, x : x + side]).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(crop)[:, :: 1 if rng.random() < 0.5 else -1]


def _ink(rng: Generator, digit: np.ndarray, size: int, ink_size: tuple[float, float]) -> np.ndarray:
    """Return a digit, (8, 8) in 0..16, as opacities (h, w): enlarged, its edge sharpened to a stroke's, and turned."""
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
    """Return a corner (x, y) for the ink, and its box, which overlaps no other by more than MAX_IOU; else None."""
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
    """Return a random colour, (3,) in [0, 1], whose luminance differs clearly from the given one."""
    least = min(_CONTRAST, 0.8 * max(luminance, 1 - luminance))
    while True:
        colour = np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1, 2), rng.beta(1.2, 0.8)))
        if abs(float(colour @ _LUMA) - luminance) >= least:
            return colour
