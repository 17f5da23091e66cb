"""What the readers of COCO, Pascal VOC, YOLO and CSV hand over: boxes as written, and what could not be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from platform.data.findings import Repair

Box = tuple[float, float, float, float]


class Kind(StrEnum):
    """Everything that is repaired or left out."""

    UNREADABLE_FILE = "annotation file that cannot be read"
    UNREADABLE_ENTRY = "annotation entry that cannot be read"
    ESCAPING_PATH = "path that leaves the data folder"
    MISSING_FOLDER = "folder or list that does not exist"
    MISSING_IMAGE = "annotation of a missing image"
    NO_ANNOTATION = "image without an annotation"
    NO_SPLIT = "image in no split"
    BROKEN_IMAGE = "broken image"
    OTHER_SIZE = "annotation made for another image size"
    UNKNOWN_CLASS = "unknown class"
    NO_BOX = "label without a box"
    NO_LABEL = "box without a label"
    CROWD = "crowd box"
    NOT_FINITE = "box of no finite numbers"
    NO_AREA = "box of no area"
    INVERTED = "box with inverted corners"
    OUTSIDE = "box outside the image"
    PARTLY_OUTSIDE = "box partly outside the image"
    DUPLICATE = "duplicate box"


@dataclass(frozen=True)
class RawBox:
    """A box as written: (x1, y1, x2, y2) in pixels, plain edges, not checked yet."""

    box: Box
    name: str
    where: str


@dataclass(frozen=True)
class RawImage:
    """An image and its boxes as written.

    Attributes:
        path: An existing file.
        boxes: Empty for a background image.
        split: "train", "val", "test", or None where the layout gives none.
        where: The annotation that named it.
        size: (width, height) in pixels that the annotation was made for, or None where it does not say.
    """

    path: Path
    boxes: tuple[RawBox, ...]
    split: str | None
    where: str
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawDataset:
    """All that a reader found.

    Attributes:
        images: In the layout's order.
        repairs: What could not be read.
        declared: The class names that the layout lists, in its order; empty where it lists none.
        beyond: What else it holds that has no place here, masks or flags, and how many of each.
    """

    images: tuple[RawImage, ...]
    repairs: tuple[Repair, ...]
    declared: tuple[str, ...] = ()
    beyond: Mapping[str, int] = field(default_factory=dict)
