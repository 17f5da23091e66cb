"""Handwritten digits: MNIST's idx files in a folder, MNIST through torchvision, or scikit-learn's digits."""

import gzip
import hashlib
import math
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from platform.data.files import is_file, unpacked_limit
from platform.data.splits import SPLITS
from platform.errors import Fault, InputError

FETCH = "torchvision:MNIST"  # value of --data: torchvision downloads MNIST
TEST_SHARE, VAL_SHARE = 0.2, 0.1  # of all images; of those outside the test split

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_FOLDERS = (".", "raw", "MNIST/raw")  # the last two are where torchvision puts its files
_UNSIGNED_BYTE = 8  # idx's code for the element type


@dataclass(frozen=True)
class DigitDataset:
    """Grey images of single digits.

    Attributes:
        name: Name of the data set.
        images: (N, H, W) uint8, bright strokes on a dark background.
        labels: (N,) int64, 0 … 9.
        splits: (N,) of "train", "val" or "test".
        notes: Notes for the user.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images, labels and splits."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        for array in (self.images, self.labels, self.splits):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def findings(self) -> list[str]:
        """Return the notes, as nothing is repaired here."""
        return list(self.notes)

    def summary(self) -> dict[str, Any]:
        """Return counts by split and digit, ready for JSON."""
        counts = {split: Counter(self.labels[self.splits == split].tolist()) for split in SPLITS}
        return {
            "size": list(self.images.shape[1:]),
            "splits": {split: {str(digit): count[digit] for digit in sorted(count)} for split, count in counts.items()},
            "notes": list(self.notes),
        }

    def lines(self) -> dict[str, str]:
        """Return the summary as lines for the console by title."""
        facts = self.summary()
        lines = {"images": f"{facts['size'][0]} × {facts['size'][1]} pixels, grey"}
        for split, counts in facts["splits"].items():
            odd = sum(count for digit, count in counts.items() if int(digit) % 2)
            lines[split] = f"{sum(counts.values())} images: {sum(counts.values()) - odd} even, {odd} odd"
        return lines | {f"! note {number}": note for number, note in enumerate(self.notes, start=1)}


def read(source: Path | None, cache: Path, seed: int) -> DigitDataset:
    """Read the digits in a folder of idx files, or those that scikit-learn ships.

    A given test split is kept, and the validation split is taken from training, stratified by digit. Without given
    splits the test split is made in the same way.

    Args:
        source: Folder of idx files, gzipped or not; FETCH; or None for the embedded digits, 1,797 of 8 x 8 pixels.
        cache: Folder into which FETCH downloads.
        seed: Seed of the splits made here.

    Raises:
        InputError: The files have faults; it names all of them.
    """
    if source is None:
        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
        return _split("scikit-learn's digits", images, bunch.target.astype(np.int64), None, seed)
    if str(source) == FETCH:
        source = _fetch(cache / "torchvision")
    parts, faults = {}, list[Fault]()
    for split, names in _FILES.items():
        try:
            parts[split] = _read_pair(source, names)
        except InputError as error:
            faults += error.faults
    if not faults and parts["train"][0].shape[1:] != parts["test"][0].shape[1:]:
        found = " and ".join(f"{split} {images.shape[1:]}" for split, (images, _) in parts.items())
        faults.append(Fault("all images must be of one size", found, "Give files of one data set."))
    if faults:
        raise InputError(*faults)
    images, labels = (np.concatenate([parts[split][i] for split in _FILES]) for i in (0, 1))
    given = np.repeat(list(_FILES), [len(parts[split][1]) for split in _FILES])
    return _split(source.name, images, labels.astype(np.int64), given, seed)


def _split(name: str, images: np.ndarray, labels: np.ndarray, given: np.ndarray | None, seed: int) -> DigitDataset:
    numbers = np.arange(len(labels))
    least = min(Counter((labels if given is None else labels[given == "train"]).tolist()).values())
    if least < 2 / VAL_SHARE:
        rule = f"every digit must have {math.ceil(2 / VAL_SHARE)} images to train on, so that each split gets some"
        raise InputError(Fault(rule, f"{least} of one digit in {name}", "Give more images."))
    note = f"validation was taken from training, stratified by digit, with seed {seed}"
    if given is None:
        rest, test = train_test_split(numbers, test_size=TEST_SHARE, stratify=labels, random_state=seed)
        note = f"the splits were made here, stratified by digit, with seed {seed}"
    else:
        rest, test = np.flatnonzero(given == "train"), np.flatnonzero(given == "test")
    _, val = train_test_split(rest, test_size=VAL_SHARE, stratify=labels[rest], random_state=seed)
    splits = np.full(len(labels), "train")
    splits[val], splits[test] = "val", "test"
    return DigitDataset(name, images, labels, splits, (note,))


def _fetch(root: Path) -> Path:
    from torchvision.datasets import MNIST

    try:
        MNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        remedy = "Connect to the network, or give a folder with its idx files: --data DIR."
        raise InputError(Fault("torchvision must be able to fetch MNIST", str(error).strip(), remedy)) from error
    return root


def _read_pair(folder: Path, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        _read_idx(_find(folder, name), dimensions) for name, dimensions in zip(names, (3, 1), strict=True)
    )
    if len(images) != len(labels):
        found = f"{len(images)} images and {len(labels)} labels in {names[0]} and {names[1]}"
        raise InputError(Fault("every image must have a label", found, "Give files that belong together."))
    if labels.size and labels.max() > 9:
        rule = "labels must be digits, 0 to 9"
        raise InputError(Fault(rule, f"{labels.max()} in {names[1]}", "Give digits: letters are neither even nor odd."))
    return images, labels


def _find(folder: Path, name: str) -> Path:
    for place in _FOLDERS:
        for file in (folder / place / name, folder / place / f"{name}.gz"):
            if is_file(file):
                return file
    found = f"no {name} or {name}.gz in {folder}"
    remedy = f"Give the folder of the four files, or, where there is a network, --data {FETCH}."
    raise InputError(Fault("the data must be a folder with MNIST's idx files", found, remedy))


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an idx file: two zero bytes, element type, number of dimensions, their sizes (big-endian), elements."""
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            zero, kind, number = struct.unpack_from(">HBB", head)
            sizes = struct.unpack_from(f">{dimensions}I", head, 4)
            if (zero, kind, number) != (0, _UNSIGNED_BYTE, dimensions):
                raise ValueError(f"it starts with {head[:4].hex()}, not with 00000{_UNSIGNED_BYTE:x}{dimensions:02x}")
            announced = math.prod(sizes)
            most = unpacked_limit(path) if packed else path.stat().st_size
            if announced > most:  # before memory is allocated for it
                raise ValueError(f"its header announces {announced:,} bytes, and it can hold {most:,}")
            elements = np.frombuffer(file.read(announced + 1), np.uint8)
        if announced != len(elements) or not announced:
            more = "more" if len(elements) > announced else f"{len(elements):,}"
            raise ValueError(f"its header announces {announced:,} bytes, and {more} follow")
        return elements.reshape(sizes)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        rule = f"an idx file must hold unsigned bytes in {dimensions} dimension{'s' * (dimensions > 1)}, whole"
        raise InputError(Fault(rule, f"{path.name}: {error}", "Get the file again.")) from error
