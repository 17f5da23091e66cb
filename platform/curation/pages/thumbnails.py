"""Thumbnails of a page: crops of a data set's images with boxes drawn on them; each image is decoded once."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from platform.data import images
from platform.data.arrays import in_threads
from platform.data.detection.annotations import Box
from platform.data.detection.boxes import ordered
from platform.reporting.html_page import data_uri, webp

MAX_BYTES = 8_500_000  # of all thumbnails of a page; base64 adds a third
QUALITY = 72
MARGIN = 0.25  # of a box's longer side, shown around the box
BEYOND = 1.0  # of an image's sides, shown beside the image where a box leads out of it
AS_USED, AS_WRITTEN, OUTSIDE = "#56B4E9", "#E8590C", "#8A949E"  # colours of boxes, and of what is no image


@dataclass(frozen=True)
class Crop:
    """Part of an image to be shown."""

    path: Path
    used: tuple[Box, ...] = ()  # boxes as they are used
    written: tuple[Box, ...] = ()  # boxes as they were written, where that differs
    whole: bool = False  # whether all of the image is shown; otherwise the first box and a margin
    size: tuple[int, int] = (176, 96)  # largest width and height of the thumbnail in pixels


@dataclass(frozen=True)
class Thumbnail:
    """Picture that is part of a page, with its address and its size in pixels."""

    source: str
    width: int
    height: int


class Thumbnails:
    """All thumbnails of a page: first `request` crops, then `make` them, then `get` each.

    They are kept in the order of the requests until the page is as large as it may become.
    """

    def __init__(self) -> None:
        self.made: dict[Crop, Thumbnail] = {}
        self.left_out = 0
        self._requested = dict[Crop, None]()

    def request(self, crop: Crop) -> Crop:
        """Add a crop; the crop itself is the key to its thumbnail."""
        self._requested[crop] = None
        return crop

    def make(self) -> None:
        """Make the thumbnails, without those of broken images and the last ones beyond MAX_BYTES."""
        by_file: dict[Path, list[Crop]] = defaultdict(list)
        for crop in self._requested:
            by_file[crop.path].append(crop)
        drawn = {crop: small for found in in_threads(_draw_all, by_file.values()) for crop, small in found.items()}
        used = 0
        for crop in filter(drawn.__contains__, self._requested):
            content, (width, height) = drawn[crop]
            used += len(content)
            if used > MAX_BYTES:
                self.left_out += 1
            else:
                self.made[crop] = Thumbnail(data_uri(content, "webp"), width, height)

    def get(self, crop: Crop) -> Thumbnail | None:
        """Return the thumbnail of a crop, if there is one."""
        return self.made.get(crop)


def _draw_all(crops: list[Crop]) -> dict[Crop, tuple[bytes, tuple[int, int]]]:
    """Return the encoded thumbnails of one image, with their sizes."""
    try:
        image = images.load(crops[0].path)
    except images.ImageFault:
        return {}
    drawn = {crop: _draw(image, crop) for crop in crops}
    return {crop: (webp(small, QUALITY), small.size) for crop, small in drawn.items()}


def _draw(image: Image.Image, crop: Crop) -> Image.Image:
    left, top, right, bottom = _view(image, crop)
    scale = min(crop.size[0] / (right - left), crop.size[1] / (bottom - top))

    def scaled(box: Box) -> Box:
        x1, y1, x2, y2 = box
        return (x1 - left) * scale, (y1 - top) * scale, (x2 - x1) * scale, (y2 - y1) * scale

    def size(width: float, height: float) -> tuple[int, int]:
        return max(1, round(width)), max(1, round(height))

    small = Image.new("RGB", size((right - left) * scale, (bottom - top) * scale), OUTSIDE)
    inside = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    x, y, width, height = scaled(inside)
    part = image.resize(size(width, height), Image.Resampling.BICUBIC, box=inside, reducing_gap=2.0)
    small.paste(part, (round(x), round(y)))
    pen = ImageDraw.Draw(small)
    for boxes, colour in ((crop.written, AS_WRITTEN), (crop.used, AS_USED)):
        for box in boxes:
            x, y, width, height = scaled(ordered(box))
            x1, y1, x2, y2 = (max(-1e4, min(1e4, edge)) for edge in (x, y, x + width, y + height))
            pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=1)  # visible on any ground
            pen.rectangle((x1, y1, x2, y2), outline=colour, width=2)
    return small


def _view(image: Image.Image, crop: Crop) -> Box:
    """Return the shown part of the image's plane: (left, top, right, bottom) in its pixels, of some area."""
    width, height = image.size
    if crop.whole:
        edges = [(0.0, 0.0, float(width), float(height)), *map(ordered, crop.written)]
        left, top = (min(box[side] for box in edges) for side in (0, 1))
        right, bottom = (max(box[side] for box in edges) for side in (2, 3))
        aside, above = BEYOND * width, BEYOND * height
        return max(left, -aside), max(top, -above), min(right, width + aside), min(bottom, height + above)
    x1, y1, x2, y2 = ordered((*crop.used, *crop.written)[0])
    margin = max(4.0, MARGIN * max(x2 - x1, y2 - y1))
    left, right = max(0.0, min(x1 - margin, width - 8.0)), min(float(width), max(x2 + margin, 8.0))
    top, bottom = max(0.0, min(y1 - margin, height - 8.0)), min(float(height), max(y2 + margin, 8.0))
    return left, top, right, bottom
