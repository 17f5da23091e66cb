"""Pictures that carry an EXIF flag to be turned, and boxes that may have been drawn on them before or after that.

Everything here shows pictures the right way up. A box that lies within the picture only as it is stored was drawn
there, and is turned along. Where both fit nobody but a person can tell.
"""

from collections.abc import Callable, Sequence

from platform.data.annotations import Box
from platform.data.boxes import ordered

UPRIGHT = frozenset({0, 1})  # 0: there is no flag
KNOWN = frozenset(range(9))

_TOLERANCE = 0.02  # of a side; annotations reach a little over the edge
_SIDEWAYS = frozenset({5, 6, 7, 8})

Turn = Callable[
    [float, float, int, int], tuple[float, float]
]  # a point, width and height as stored → the point upright

# EXIF 2.3, tag 0x0112, as Pillow's exif_transpose applies it.
_TURNS: dict[int, Turn] = {
    2: lambda x, y, w, h: (w - x, y),
    3: lambda x, y, w, h: (w - x, h - y),
    4: lambda x, y, w, h: (x, h - y),
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (h - y, x),
    7: lambda x, y, w, h: (h - y, w - x),
    8: lambda x, y, w, h: (y, w - x),
}


def drawn_as_stored(boxes: Sequence[Box], orientation: int, width: int, height: int) -> bool:
    """Whether boxes fit only into the picture as it is stored.

    Args:
        boxes: All of the image, in pixels.
        orientation: The EXIF flag.
        width: Of the picture upright; height likewise.
    """
    return orientation in _SIDEWAYS and not _fit(boxes, width, height) and _fit(boxes, height, width)


def is_open(boxes: Sequence[Box], orientation: int, width: int, height: int) -> bool:
    """Whether boxes fit into the picture both ways, so that only a person can tell how they were drawn."""
    if orientation not in _TURNS or not boxes or not _fit(boxes, width, height):
        return False
    return orientation not in _SIDEWAYS or _fit(boxes, height, width)


def turned(box: Box, orientation: int, width: int, height: int) -> Box:
    """A box on the picture as it is stored → on the picture upright, of (width, height)."""
    stored = (height, width) if orientation in _SIDEWAYS else (width, height)
    (x1, y1), (x2, y2) = (_TURNS[orientation](x, y, *stored) for x, y in (box[:2], box[2:]))
    return ordered((x1, y1, x2, y2))


def _fit(boxes: Sequence[Box], width: int, height: int) -> bool:
    over_x, over_y = _TOLERANCE * width, _TOLERANCE * height
    return all(
        -over_x <= left and -over_y <= top and right <= width + over_x and bottom <= height + over_y
        for left, top, right, bottom in map(ordered, boxes)
    )
