"""Common parts of checked data sets of images, with boxes or with classes; of texts, their counts and findings."""

import hashlib
import json
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from platform.data import images
from platform.data.arrays import in_threads
from platform.data.findings import Findings
from platform.data.splits import SPLITS


class CheckedDataset:
    """Data set that a reader checked and split.

    Attributes:
        examples: Examples, each with a split.
        splits_given: True if the data set defines its splits itself.
        found: Repairs, equal examples in different splits, and warnings.
    """

    examples: Sequence[Any]
    splits_given: bool
    found: Findings

    def lines(self) -> dict[str, str]:
        """Return the summary as lines for the console by title."""
        facts = self.summary()
        made = "given" if self.splits_given else "made here, stratified"
        lines = {"layout": f"{facts['layout']}, splits {made}"} if "layout" in facts else {"splits": made}
        return lines | {s: self._line(counts) for s, counts in facts["splits"].items()} | self.found.lines()

    def findings(self) -> list[str]:
        """Return one line for each repair and each suspicious thing."""
        return self.found.listed()

    def summary(self) -> dict[str, Any]:
        """Return counts per split and class, repairs by kind, leaks and warnings, ready for JSON."""
        return {
            **self._facts(),
            "splits_given": self.splits_given,
            "splits": {split: self._counts([e for e in self.examples if e.split == split]) for split in SPLITS},
            **self.found.summary(),
        }

    def _facts(self) -> dict[str, Any]:
        raise NotImplementedError

    def _counts(self, examples: Sequence[Any]) -> dict[str, Any]:
        """Return what there is in the examples of a split, ready for JSON."""
        raise NotImplementedError

    def _line(self, counts: Mapping[str, Any]) -> str:
        """Return the counts of a split for people."""
        raise NotImplementedError


@dataclass(frozen=True)
class ImageFolder(CheckedDataset):
    """Checked data set of images in a folder.

    Attributes:
        root: Absolute path of the folder.
        layout: How its files are laid out, such as "COCO" or "class folders".
        classes: Sorted names of the classes that occur.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    examples: tuple[Any, ...]
    splits_given: bool
    found: Findings

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over pixels, labels, splits and classes, independent of the folder and the layout.

        It depends on the examples' order: data kept by index, such as stored activations, is valid exactly as long as
        the fingerprint stays the same.
        """
        content = [self._content(example) for example in self.examples]
        return hashlib.sha256(json.dumps([self.classes, content]).encode()).hexdigest()

    def _facts(self) -> dict[str, Any]:
        return {"layout": self.layout, "classes": list(self.classes)}

    def _content(self, example: Any) -> tuple:
        """Return what of an example its fingerprint depends on."""
        raise NotImplementedError


class Picture(NamedTuple):
    """Picture that was decoded once: its upright size and the hash of its pixels, see `images.content_hash`."""

    width: int
    height: int
    pixels: str


def decode_each(paths: Collection[Path]) -> dict[Path, Picture | images.ImageFault]:
    """Decode each file once; the result is in the order of the paths."""
    distinct = list(dict.fromkeys(paths))
    return dict(zip(distinct, in_threads(_decode, distinct), strict=True))


def absent(classes: Sequence[str], present: Iterable[Hashable]) -> list[str]:
    """Return those of the classes whose index is not present."""
    found = set(present)
    return [name for label, name in enumerate(classes) if label not in found]


def _decode(path: Path) -> Picture | images.ImageFault:
    image = images.load_or_fault(path)
    if isinstance(image, images.ImageFault):
        return image
    return Picture(image.width, image.height, images.content_hash(image))
