"""Features of each image, computed once and stored in cleaning/looks.npz for the next command."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import imagehash
import numpy as np
import PIL
from PIL import Image, ImageFilter

from platform.curation.cleaning.alignment import SIDE
from platform.data import images
from platform.storage import atomic

FILE = "cleaning/looks.npz"
HASH_SIDE = 16  # 256 bits, because with 64 bits different logos on plain ground have equal hashes

# Features made by another version of any of these are not used, as they may differ.
_MADE_BY = f"1 Pillow {PIL.__version__} imagehash {imagehash.__version__} {HASH_SIDE} {SIDE}"
_PLAIN = 32  # levels of 255 that a plain ground may vary by after JPEG compression
_CLOSEST = 0.5  # of a side
_FAULT_LENGTH = 200  # characters


class ImageFeatures(NamedTuple):
    """Features of an image."""

    width: int  # pixels, upright; 0 if the file is broken
    height: int
    orientation: int  # the EXIF tag as written, 0 if there is none; 1 … 8 are valid
    pixels: str  # hash of the decoded pixels, see `images.content_hash`
    hash: np.ndarray  # perceptual hash (pHash) of the image without plain margins; uint64 of shape (4,)
    grey: np.ndarray  # the image without margins, uint8 of shape (64, 64), blurred
    aspect: float  # width to height of the image without margins
    fault: str  # why it cannot be used; "" if it can


def read_looks(
    root: Path, paths: Iterable[Path], advance: Callable[[], None] = lambda: None
) -> dict[Path, ImageFeatures]:
    """Return the features of images below a data set's folder, decoding only new and changed ones.

    The result is stored in the folder, also after an interrupt; `advance` is called once for each image.

    Raises:
        OSError: The features cannot be stored, for example on a full disk.
    """
    keys = {path: _key(root, path) for path in paths}
    kept = _load(root / FILE)
    new = [path for path, key in keys.items() if key not in kept]
    for _ in range(len(keys) - len(new)):
        advance()
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # Pillow decodes without the interpreter's lock
    try:
        for path, features in zip(new, pool.map(_look, new), strict=True):
            kept[keys[path]] = features
            advance()
    finally:
        pool.shutdown(cancel_futures=True)
        if new and kept:
            _save(root / FILE, {key: features for key, features in kept.items() if (root / key[0]).exists()})
    return {path: kept[key] for path, key in keys.items()}


_Key = tuple[str, int, int]  # path from the root, bytes, time of its last change in ns


def _key(root: Path, path: Path) -> _Key:
    about = path.stat()
    return path.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns


def _look(path: Path) -> ImageFeatures:
    try:
        image = images.load(path)
        orientation = images.orientation(path)
    except images.ImageFault as fault:
        nothing = np.zeros(4, np.uint64), np.zeros((SIDE, SIDE), np.uint8)
        return ImageFeatures(0, 0, 0, "", *nothing, 1.0, str(fault)[:_FAULT_LENGTH] or "unreadable")
    shown = _without_margins(image.convert("L"))
    small = shown.resize((SIDE, SIDE), Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(1))
    bits = np.packbits(imagehash.phash(shown, HASH_SIDE).hash).view(np.uint64)
    aspect = shown.width / shown.height
    return ImageFeatures(
        image.width, image.height, orientation, images.content_hash(image), bits, np.asarray(small), aspect, ""
    )


def _without_margins(grey: Image.Image) -> Image.Image:
    """Return the image without plain margins, so that a word on a white page fills the hash like any other."""
    pixels = np.asarray(grey)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = int(np.median(edge))
    if np.abs(edge.astype(int) - ground).max() > _PLAIN:
        return grey
    box = grey.point([255 * (abs(level - ground) > _PLAIN) for level in range(256)]).getbbox()
    if box is None:
        return grey
    (left, right), (top, bottom) = _widened(box[0], box[2], grey.width), _widened(box[1], box[3], grey.height)
    return grey.crop((left, top, right, bottom))


def _widened(first: int, last: int, side: int) -> tuple[int, int]:
    """Widen a range to at least _CLOSEST of the side; closer crops would magnify compression artefacts."""
    wide = max(last - first, round(_CLOSEST * side))
    first = min(max(0, (first + last - wide) // 2), side - wide)
    return first, first + wide


def _load(file: Path) -> dict[_Key, ImageFeatures]:
    """Load stored features; none if they are unreadable or were made by other versions."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            if str(kept["made_by"]) != _MADE_BY:
                return {}
            keys = zip(kept["path"].tolist(), kept["bytes"].tolist(), kept["changed"].tolist(), strict=True)
            columns = [kept[name] for name in ImageFeatures._fields]
    except Exception:  # NumPy, zipfile and zlib raise nearly anything for a damaged file
        return {}
    listed = [list(column) if column.ndim > 1 else column.tolist() for column in columns]
    return {key: ImageFeatures(*row) for key, row in zip(keys, zip(*listed, strict=True), strict=True)}


def _save(file: Path, kept: dict[_Key, ImageFeatures]) -> None:
    """Store features atomically."""
    file.parent.mkdir(exist_ok=True)
    paths, sizes, times = zip(*kept, strict=True)
    columns: dict[str, Any] = dict(
        zip(ImageFeatures._fields, map(np.array, zip(*kept.values(), strict=True)), strict=True)
    )
    columns |= {"made_by": _MADE_BY, "path": paths, "bytes": sizes, "changed": times}
    with atomic.new_file(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **columns)
