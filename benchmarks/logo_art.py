"""Invented logos on invented photographs: shapes and letters in the colours of their brand, drawn with Pillow."""

import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

Box = tuple[float, float, float, float]
SIZES = ((320, 240), (240, 320), (336, 252), (300, 300))  # width, height of an image
MARKS = ("circle", "ring", "square", "triangle", "diamond", "hexagon", "star", "bars", "half")
HEIGHT = 96  # pixels that a logo is drawn with, before it is made smaller
QUALITY = 88


@dataclass(frozen=True)
class Scene:
    """Content of an image: `classes` are indices of `names`, for its logos from left to right and top to bottom."""

    seed: tuple[int, int]
    classes: tuple[int, ...]
    format: str = "JPEG"


def draw(scene: Scene, names: Sequence[str]) -> tuple[Image.Image, list[Box]]:
    """Return the RGB image and the boxes of its logos: (x1, y1, x2, y2) in whole pixels."""
    rng = np.random.default_rng(scene.seed)
    picture = _photograph(*SIZES[rng.integers(len(SIZES))], rng)
    boxes = []
    for cell, number in zip(_cells(picture.size, len(scene.classes), rng), scene.classes, strict=True):
        boxes.append(_paste(picture, _logo(number, names[number]), cell, rng))
    return picture, boxes


def encoded(picture: Image.Image, form: str = "JPEG", quality: int = QUALITY, orientation: int = 1) -> bytes:
    """Encode an image as a file, with the EXIF `orientation` if it is not 1."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    picture.save(buffer, form, quality=quality, exif=exif)
    return buffer.getvalue()


def _photograph(width: int, height: int, rng: Generator) -> Image.Image:
    """Return a background: light and shadow in muted colours, a few objects, grain."""
    light = rng.integers(40, 216, (5, 6, 1)) * np.linspace(rng.uniform(0.7, 1.3), 1, 5)[:, None, None]
    tint = np.linspace(rng.normal(0, 28, 3), rng.normal(0, 28, 3), 5)[:, None] + rng.normal(0, 10, (5, 6, 3))
    coarse = Image.fromarray((light + tint).clip(0, 255).astype(np.uint8))
    soft = coarse.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(soft, "RGBA")
    for _ in range(rng.integers(4, 9)):
        x, y = rng.integers(-40, width), rng.integers(-40, height)
        across, down = rng.integers(20, width // 2), rng.integers(20, height // 2)
        colour = (*_colour(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.1, 1))[:3], int(rng.integers(60, 220)))
        shape = (pen.rectangle, pen.ellipse)[rng.integers(2)]
        shape((int(x), int(y), int(x + across), int(y + down)), fill=colour)
    grain = rng.normal(0, 4, (height, width, 1)).astype(np.float32)
    return Image.fromarray((np.asarray(soft, np.float32) + grain).clip(0, 255).astype(np.uint8))


def _cells(size: tuple[int, int], count: int, rng: Generator) -> list[tuple[int, int, int, int]]:
    """Return places that do not overlap: the whole image for one logo, quarters for more."""
    width, height = size
    if count == 1:
        return [(0, 0, width, height)]
    x, y = width // 2, height // 2
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    return [quarters[place] for place in sorted(rng.choice(4, size=count, replace=False))]


def _paste(picture: Image.Image, logo: Image.Image, cell: tuple[int, int, int, int], rng: Generator) -> Box:
    left, top, right, bottom = cell
    room = 0.94 * min((right - left) / logo.width, (bottom - top) / logo.height)
    share = rng.uniform(0.45, 1.0) if right - left < picture.width else rng.uniform(0.25, 0.8)
    size = (max(12, round(logo.width * room * share)), max(10, round(logo.height * room * share)))
    small = logo.resize(size, Image.Resampling.LANCZOS).rotate(
        float(rng.normal(0, 3)), Image.Resampling.BICUBIC, expand=True
    )
    small = small.crop(small.getchannel("A").point(lambda value: 255 * (value > 100)).getbbox())
    x = int(rng.integers(left, max(left, right - small.width) + 1))
    y = int(rng.integers(top, max(top, bottom - small.height) + 1))
    picture.paste(small, (x, y), small)
    return float(x), float(y), float(min(x + small.width, picture.width)), float(min(y + small.height, picture.height))


@cache
def _logo(number: int, name: str) -> Image.Image:
    """Return a brand's logo, RGBA: a mark and its name, side by side or stacked, often on a plate."""
    rng = np.random.default_rng([17, number])
    hue = (number * 0.618034) % 1
    first = _colour(hue, 0.85, rng.uniform(0.35, 0.9))
    second = _colour((hue + rng.uniform(0.3, 0.7)) % 1, 0.7, rng.uniform(0.5, 1.0))
    plate = (None, (255, 255, 255, 235), (20, 22, 28, 235), second)[rng.integers(4)]
    ink = first if plate != second else (255, 255, 255, 255)
    font = ImageFont.load_default(int(rng.integers(34, 52)))
    text = (name.upper(), name, name.lower())[rng.integers(3)][:16]
    wide = int(font.getlength(text))
    below = bool(rng.random() < 0.35)
    mark = _mark(MARKS[number % len(MARKS)], ink, plate or second, 64)
    width, height = (max(wide, 64) + 28, 64 + 62) if below else (wide + 64 + 40, HEIGHT)
    logo = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    pen = ImageDraw.Draw(logo)
    if plate:
        pen.rounded_rectangle((0, 0, width - 1, height - 1), radius=int(rng.integers(0, 30)), fill=plate)
    at = ((width - 64) // 2, 8) if below else (14, (height - 64) // 2)
    logo.alpha_composite(mark, at)
    place = (width // 2, 96) if below else (90, height // 2)
    pen.text(place, text, fill=ink, font=font, anchor="mm" if below else "lm", stroke_width=int(rng.integers(0, 3)),
             stroke_fill=ink)  # fmt: skip
    return logo


def _mark(kind: str, ink: tuple[int, ...], paper: tuple[int, ...], side: int) -> Image.Image:
    """Return a shape of `side` pixels, drawn large and reduced."""
    large = 4 * side
    mark = Image.new("RGBA", (large, large), (0, 0, 0, 0))
    pen, whole = ImageDraw.Draw(mark), (8, 8, large - 8, large - 8)
    corners = {"triangle": 3, "diamond": 4, "hexagon": 6, "star": 10}
    if kind in corners:
        turns = np.linspace(0, 2 * np.pi, corners[kind], endpoint=False)
        reach = np.where(np.arange(len(turns)) % 2, 0.45, 1.0) if kind == "star" else np.ones(len(turns))
        middle = large / 2
        points = [
            (middle + r * 0.96 * middle * np.sin(a), middle - r * 0.96 * middle * np.cos(a))
            for a, r in zip(turns, reach, strict=True)
        ]
        pen.polygon(points, fill=ink)
    elif kind == "ring":
        pen.ellipse(whole, outline=ink, width=large // 6)
    elif kind == "square":
        pen.rounded_rectangle(whole, radius=large // 5, fill=ink)
        pen.rectangle((large // 3, large // 3, 2 * large // 3, 2 * large // 3), fill=paper)
    elif kind == "bars":
        for bar in range(3):
            pen.rectangle((8 + bar * large // 3, (2 - bar) * large // 5, (bar + 0.7) * large // 3, large - 8), fill=ink)
    else:
        pen.ellipse(whole, fill=ink)
        if kind == "half":
            pen.pieslice(whole, 90, 270, fill=paper)
    return mark.resize((side, side), Image.Resampling.LANCZOS)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue, 255
