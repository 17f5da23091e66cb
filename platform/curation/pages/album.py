"""The small pictures of a page: pieces of a data set's images, each of which is decoded once for all pieces."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from platform.data import images
from platform.data.arrays import in_threads
from platform.data.detection.annotations import Box
from platform.reporting.html_page import data_uri, webp

BYTES = 8_500_000  # of all pictures of a page; a third more as they are written there
QUALITY = 72
AROUND = 0.25  # of a box's longer side that is shown beside it
BEYOND = 1.0  # of an image's sides that are shown beside it, where a box leads out of it
NOW, WRITTEN = "#56B4E9", "#E8590C"  # of boxes: as they are, and as they were written where that differs
NOTHING = "#8A949E"  # beside an image


@dataclass(frozen=True)
class Cut:
    """What to show of an image.

    Attributes:
        path: The image.
        now: The boxes that are drawn as they are.
        written: Those that are drawn as they were written.
        whole: All of the image; else the surroundings of the first box.
        size: Largest width and height of the picture in pixels.
    """

    path: Path
    now: tuple[Box, ...] = ()
    written: tuple[Box, ...] = ()
    whole: bool = False
    size: tuple[int, int] = (176, 96)


@dataclass(frozen=True)
class Photo:
    """A picture in a page."""

    source: str
    width: int
    height: int


class Album:
    """All pictures of a page. First tell what is wanted, then `develop`, then look it up.

    Pictures are kept in the order in which they were wanted, until the page is as large as it may become.
    """

    def __init__(self) -> None:
        self.photos: dict[Cut, Photo] = {}
        self.left_out = 0
        self._wanted = dict[Cut, None]()

    def want(self, cut: Cut) -> Cut:
        """Asks for a picture; the cut is what it is found by."""
        self._wanted[cut] = None
        return cut

    def develop(self) -> None:
        """Makes the pictures; there is none of what cannot be decoded, nor of the last ones beyond BYTES."""
        by_file: dict[Path, list[Cut]] = defaultdict(list)
        for cut in self._wanted:
            by_file[cut.path].append(cut)
        made: dict[Cut, tuple[bytes, tuple[int, int]]] = {}
        for found in in_threads(_cut_out, by_file.values()):
            made |= found
        spent = 0
        for cut in self._wanted:
            if cut not in made:
                continue
            content, (width, height) = made[cut]
            spent += len(content)
            if spent > BYTES:
                self.left_out += 1
                continue
            self.photos[cut] = Photo(data_uri(content, "webp"), width, height)

    def get(self, cut: Cut) -> Photo | None:
        """The picture, if there is one."""
        return self.photos.get(cut)


def _cut_out(cuts: list[Cut]) -> dict[Cut, tuple[bytes, tuple[int, int]]]:
    """The pictures of one image, and their sizes."""
    try:
        image = images.load(cuts[0].path)
    except images.ImageFault:
        return {}
    made = {}
    for cut in cuts:
        small = _drawn(image, cut)
        made[cut] = webp(small, QUALITY), small.size
    return made


def _drawn(image: Image.Image, cut: Cut) -> Image.Image:
    left, top, right, bottom = _view(image, cut)
    scale = min(cut.size[0] / (right - left), cut.size[1] / (bottom - top))
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    inside = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    if inside == (left, top, right, bottom):
        small = image.resize(size, Image.Resampling.BICUBIC, box=inside, reducing_gap=2.0)
    else:
        small = _beside(image, inside, (left, top), scale, size)
    pen = ImageDraw.Draw(small)
    for boxes, colour in ((cut.written, WRITTEN), (cut.now, NOW)):
        for box in boxes:
            _outline(pen, [(edge - origin) * scale for edge, origin in zip(box, (left, top) * 2, strict=True)], colour)
    return small


def _beside(
    image: Image.Image, inside: tuple[float, ...], origin: tuple[float, float], scale: float, size: tuple[int, int]
) -> Image.Image:
    """The part of a view that is image, on grey."""
    small = Image.new("RGB", size, NOTHING)
    x1, y1, x2, y2 = inside
    part = image.resize(
        (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))),
        Image.Resampling.BICUBIC,
        box=(x1, y1, x2, y2),
        reducing_gap=2.0,
    )
    small.paste(part, (round((x1 - origin[0]) * scale), round((y1 - origin[1]) * scale)))
    return small


def _view(image: Image.Image, cut: Cut) -> tuple[float, float, float, float]:
    """What of the image's plane is seen: (left, top, right, bottom) in its pixels, of some area."""
    width, height = image.size
    if cut.whole:
        corners = [_sorted(box) for box in cut.written]
        edges = (min([0, *(b[0] for b in corners)]), min([0, *(b[1] for b in corners)]),
                 max([width, *(b[2] for b in corners)]), max([height, *(b[3] for b in corners)]))  # fmt: skip
        aside, above = BEYOND * width, BEYOND * height
        return max(edges[0], -aside), max(edges[1], -above), min(edges[2], width + aside), min(edges[3], height + above)
    x1, y1, x2, y2 = _sorted((*cut.now, *cut.written)[0])
    margin = max(4.0, AROUND * max(x2 - x1, y2 - y1))
    left, right = max(0.0, min(x1 - margin, width - 8.0)), min(float(width), max(x2 + margin, 8.0))
    top, bottom = max(0.0, min(y1 - margin, height - 8.0)), min(float(height), max(y2 + margin, 8.0))
    return left, top, right, bottom


def _outline(pen: ImageDraw.ImageDraw, edges: list[float], colour: str) -> None:
    """A coloured line with a dark one on either side, to be seen on any ground."""
    x1, y1, x2, y2 = (max(-1e4, min(1e4, edge)) for edge in _sorted(tuple(edges)))  # type: ignore[arg-type]
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=1)
    pen.rectangle((x1, y1, x2, y2), outline=colour, width=2)


def _sorted(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
