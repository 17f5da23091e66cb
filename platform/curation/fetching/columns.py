"""What the columns of a list mean: which holds the address, the label, the boxes, and what a box's numbers are.

Lists come from everywhere. What their columns are usually called is the tables below; what else they are called, the
user says (`Chosen`). The keys of a JSON object are columns, too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

XYXY, XYWH, CXCYWH = "xyxy", "xywh", "cxcywh"
CONVENTIONS = (XYXY, XYWH, CXCYWH)

# Names as `key` writes them; the first that is there counts.
URL = (
    *("url", "image_url", "img_url", "imageurl", "imgurl", "photo_url", "picture_url", "file_url", "download_url"),
    *("coco_url", "uri", "image_uri", "link", "image_link", "href", "src", "image_src", "image", "img"),
)
LABEL = (
    *("label", "label_name", "labels", "class", "class_name", "classname", "classes", "category", "category_name"),
    *("brand", "brand_name", "logo", "name", "tag", "object", "text"),
)
SPLIT = ("split", "subset", "set", "partition")
BOXES = (
    *("boxes", "bboxes", "annotations", "objects", "box", "bbox", "bounding_box", "bounding_boxes", "bndbox"),
    "rectangle",
)
CORNERS = (
    (("x1", "y1", "x2", "y2"), XYXY),
    (("xmin", "ymin", "xmax", "ymax"), XYXY),
    (("x_min", "y_min", "x_max", "y_max"), XYXY),
    (("left", "top", "right", "bottom"), XYXY),
    (("cx", "cy", "w", "h"), CXCYWH),
    (("cx", "cy", "width", "height"), CXCYWH),
    (("x_center", "y_center", "w", "h"), CXCYWH),
    (("x_center", "y_center", "width", "height"), CXCYWH),
    (("x", "y", "w", "h"), XYWH),
    (("x", "y", "width", "height"), XYWH),
    (("left", "top", "width", "height"), XYWH),
)
_BOX_ENDS = ("_box", "_bbox", *CONVENTIONS)
_BOX_STARTS = re.compile("^(b?box|bounding_box|bndbox)_")


@dataclass(frozen=True)
class Chosen:
    """What the user said: names of columns as `key` writes them, and one of CONVENTIONS; None where nothing."""

    url: str | None = None
    label: str | None = None
    box: str | None = None
    convention: str | None = None


@dataclass(frozen=True)
class Columns:
    """What was found; None, or empty, where there is no such column.

    Attributes:
        url, label, split, boxes: Names of columns; `boxes` holds whole boxes.
        corners: The four columns that hold one number of a box each, in this order.
        convention: What four numbers are.
        assumed: Whether nothing said so.
    """

    url: str | None
    label: str | None
    split: str | None
    boxes: str | None
    corners: tuple[str, ...]
    convention: str
    assumed: bool


def key(name: str) -> str:
    """A column's name as it is compared: "Image URL" is "image_url"."""
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")


@lru_cache(maxsize=4096)  # the objects of a file of JSON lines have the same keys, or nearly
def find(names: tuple[str, ...], chosen: Chosen) -> Columns:
    """What columns of these names mean.

    Args:
        names: As `key` writes them.
        chosen: Counts for more than any name.
    """
    corners, named = _corners(names) if chosen.box is None else ((), None)
    boxes = None if corners else chosen.box or _first(BOXES, names) or _ending(names)
    if boxes is not None:
        named = next((convention for convention in CONVENTIONS if boxes.endswith(convention)), None)
    return Columns(
        url=chosen.url or _first(URL, names),
        label=chosen.label or _first(LABEL, names),
        split=_first(SPLIT, names),
        boxes=boxes,
        corners=corners,
        convention=chosen.convention or named or XYXY,
        assumed=not (chosen.convention or named),
    )


def _corners(names: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    plain = {_BOX_STARTS.sub("", name): name for name in names}
    for wanted, convention in CORNERS:
        if all(name in plain for name in wanted):
            return tuple(plain[name] for name in wanted), convention
    return (), None


def _ending(names: Sequence[str]) -> str | None:
    return next((name for name in names if name.endswith(_BOX_ENDS)), None)


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)
