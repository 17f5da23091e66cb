"""Near duplicates among invented logos: share of altered copies found, and of different logos taken for copies.

python -m benchmarks.duplicates

Families of logos in one style each: only the word differs, which is where a perceptual hash alone fails. Each kind of
copy is mixed with the originals and searched for as `platform.dataset clean` does. `hash alone`: the same search with
the hash as its only judge, at a distance from which it finds nine tenths of all copies.
"""

import argparse
import io
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from benchmarks import timing
from platform.curation.cleaning import duplicates
from platform.curation.cleaning.looks import ImageFeatures, read_looks

SIZE = (320, 240)
STYLES = ("word", "badge", "letters", "frame", "sign", "photograph")

Altered = Callable[[Image.Image, random.Random], Image.Image]


def jpeg(quality: int) -> Altered:
    """Return the image after another compression."""

    def alter(image: Image.Image, _: random.Random) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return alter


def resized(by: float) -> Altered:
    """Return the image in another size."""
    return lambda image, _: image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC)


def cropped(share: float) -> Altered:
    """Return the image with up to this share of the side cropped at each edge."""

    def alter(image: Image.Image, rng: random.Random) -> Image.Image:
        left, top, right, bottom = (rng.uniform(0, share) for _ in range(4))
        return image.crop((round(left * image.width), round(top * image.height),
                           round((1 - right) * image.width), round((1 - bottom) * image.height)))  # fmt: skip

    return alter


def lit(by: float) -> Altered:
    """Return the image brighter or darker."""
    return lambda image, _: ImageEnhance.Brightness(image).enhance(by)


def all_of(*steps: Altered) -> Altered:
    """Return a function that applies others in turn."""

    def alter(image: Image.Image, rng: random.Random) -> Image.Image:
        for step in steps:
            image = step(image, rng)
        return image

    return alter


COPIES: dict[str, Altered] = {
    "JPEG 30": jpeg(30),
    "JPEG 60": jpeg(60),
    "JPEG 95": jpeg(95),
    "half the size": resized(0.5),
    "twice the size": resized(2),
    "cropped by up to 2 %": cropped(0.02),
    "cropped by up to 4 %": cropped(0.04),
    "15 % darker": lit(0.85),
    "15 % brighter": lit(1.15),
    "half, JPEG 50": all_of(resized(0.5), jpeg(50)),
    "cropped by up to 3 %, x 0.7, JPEG 60": all_of(cropped(0.03), resized(0.7), jpeg(60)),
}


def family(style: str, members: int, seed: int) -> list[Image.Image]:
    """Return logos of one style, each with another word."""
    rng = random.Random(f"{style} {seed}")
    ink, paint = (tuple(rng.randrange(180) for _ in range(3)) for _ in range(2))
    font = ImageFont.load_default(rng.choice((28, 36, 44)))
    length, backdrop = rng.randint(4, 7), _photograph(rng)
    found = []
    for _ in range(members):
        word = "".join(rng.choices(string.ascii_uppercase, k=length))
        image = {"sign": backdrop.copy, "photograph": lambda: _photograph(rng)}.get(style, _white)()
        pen = ImageDraw.Draw(image)
        if style == "word":
            pen.text((160, 120), word, ink, font, "mm")
        elif style == "badge":
            pen.regular_polygon((60, 120, 36), 6, fill=paint)
            pen.text((105, 120), word, ink, font, "lm")
        elif style == "letters":
            pen.ellipse((70, 30, 250, 210), fill=paint)
            pen.text((160, 120), word[:4], "white", ImageFont.load_default(64), "mm")
        elif style == "frame":
            pen.rectangle((30, 50, 290, 190), outline=paint, width=5)
            pen.text((160, 120), word, ink, font, "mm")
        else:
            pen.rectangle((50, 80, 250, 150), fill="white")
            pen.text((60, 115), word, ink, font, "lm")
        found.append(image)
    return found


def _white() -> Image.Image:
    return Image.new("RGB", SIZE, "white")


def _photograph(rng: random.Random) -> Image.Image:
    """Return a background of light and shadow in muted colours, with grain."""
    noise = np.random.default_rng(rng.randrange(2**32))
    coarse = noise.integers(40, 216, (6, 8, 1)) + noise.normal(0, 20, 3) + noise.normal(0, 10, (6, 8, 3))
    soft = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    grain = noise.normal(0, 4, (SIZE[1], SIZE[0], 1))
    return Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8))


def main() -> None:
    """Print a row for each kind of copy."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.duplicates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--members", type=int, default=25, help="logos of a style (default 25)")
    p.add_argument("--families", type=int, default=4, help="of each style (default 4)")
    p.add_argument("--seed", type=int, default=0)
    options = p.parse_args()
    rng = random.Random(options.seed)
    originals = [
        image
        for number in range(options.families)
        for style in STYLES
        for image in family(style, options.members, 1000 * options.seed + number)
    ]
    print(f"{timing.machine()}; {len(originals)} logos, as many copies of a kind\n")
    rows = [_row(kind, originals, [alter(image, rng) for image in originals]) for kind, alter in COPIES.items()]
    print(timing.table(["copies", "found", "right", "hash alone: right", "s"], rows))


def _row(kind: str, originals: list[Image.Image], copies: list[Image.Image]) -> list[str]:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        paths = [root / f"{name}{number:04}.png" for name in "oc" for number in range(len(originals))]
        for path, image in zip(paths, [*originals, *copies], strict=True):
            image.save(path, compress_level=1)
        looks = read_looks(root, paths)
        began = perf_counter()
        found = {(pair.one.stem[1:], pair.other.stem[1:]) for pair in duplicates.near(looks)}
        seconds = perf_counter() - began
    right = sum(one == other for one, other in found)
    shares = (right / len(originals), right / max(1, len(found)), _hash_alone(list(looks.values())))
    return [kind, *(f"{share:.3f}" for share in shares), f"{seconds:.1f}"]


def _hash_alone(looks: list[ImageFeatures]) -> float:
    """Return the precision at the distance that includes nine tenths of the copies."""
    hashes, half = np.array([look.hash for look in looks]), len(looks) // 2
    apart = np.concatenate(list(_apart(hashes)))
    own = apart[np.arange(half), np.arange(half, 2 * half)]
    close = np.triu(apart <= np.quantile(own, 0.9), 1)
    return float((own <= np.quantile(own, 0.9)).sum() / close.sum())


def _apart(hashes: np.ndarray) -> Iterator[np.ndarray]:
    for row in hashes:
        yield np.bitwise_count(hashes ^ row).sum(1, dtype=int)[None]


if __name__ == "__main__":
    main()
