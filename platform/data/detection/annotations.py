"""Common output of the readers of COCO, Pascal VOC, YOLO and CSV: boxes as written, and what could not be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from platform.data.findings import Repair

Box = tuple[float, float, float, float]


class Kind(StrEnum):
    """Kinds of problems that are repaired or whose entries are left out."""

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
    NOT_FINITE = "box with numbers that are not finite"
    NO_AREA = "box without an area"
    INVERTED = "box with inverted corners"
    OUTSIDE = "box outside the image"
    PARTLY_OUTSIDE = "box partly outside the image"
    DUPLICATE = "duplicate box"


@dataclass(frozen=True)
class RawBox:
    """Box as written, not checked yet: (x1, y1, x2, y2) in pixels, measured to the edges."""

    box: Box
    name: str
    where: str


@dataclass(frozen=True)
class RawImage:
    """Image and its boxes as written.

    Attributes:
        path: An existing file.
        boxes: Boxes; empty for a background image.
        split: "train", "val" or "test", or None if the layout gives none.
        where: Place of the annotation that names the image.
        size: (width, height) in pixels for which the annotation was made, or None if it does not say.
    """

    path: Path
    boxes: tuple[RawBox, ...]
    split: str | None
    where: str
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawDataset:
    """Everything that a reader found.

    Attributes:
        images: Images in the layout's order.
        repairs: Entries that could not be read.
        declared: Class names that the layout lists, in its order; empty if it lists none.
        beyond: Counts of ignored entries by name, such as masks or flags.
    """

    images: tuple[RawImage, ...]
    repairs: tuple[Repair, ...]
    declared: tuple[str, ...] = ()
    beyond: Mapping[str, int] = field(default_factory=dict)
