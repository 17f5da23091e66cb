"""Compare detectors with and without oversampling of rare classes, on monograms whose classes follow Zipf's law.

python -m benchmarks.long_tail                                             # trains, and prints the tables
python -m benchmarks.long_tail --make DIR --classes 400 --images 6000      # only writes a data set, to try things on

An image is a piece of a photograph with one to four monograms in random colours, its classes their letters. In training
the count of a class falls with its rank; validation and test hold all classes equally often, so that the rare ones can
be measured. Each cell is a study of one trial, the start of the space, by the shipped command. Each seed has its own
data; the trainings of one seed differ only in `oversample`, and are compared pair by pair. Unknown options are passed
on to `python -m platform.tune`.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont
from scipy import stats
from sklearn.datasets import load_sample_images

from benchmarks import studies, timing
from platform.data.detection import csv_boxes
from platform.data.detection.annotations import RawBox, RawImage
from platform.data.embedded import ink

LETTERS = "ABCDEFGHKLMNPRSTUVXYZabdefghkmnrty234579"  # without letters that look alike in Pillow's font
PER_IMAGE = (1, 4)
INK = (0.2, 0.35)  # a monogram's longer side, in images
LEAST = 4  # boxes of the rarest class, so that at least three images have it, one for each split
SCORES = ("test/map_rare", "test/map_common", "test/map_frequent", "test/map")


def main() -> None:
    """Print a row for each value of `oversample`: test scores, and their difference to those of the first value."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.long_tail",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--oversample", type=float, nargs="+", default=[0.0, 0.01, 0.1], metavar="T")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    p.add_argument("--classes", type=int, default=32)
    p.add_argument(
        "--images",
        type=int,
        default=800,
        help="training images; a fifth of that number to validate, and half of it to test",
    )
    p.add_argument("--size", type=int, default=96, help="pixels a side")
    p.add_argument("--exponent", type=float, default=1.5, help="of Zipf's law")
    p.add_argument("--at-once", type=int, default=os.cpu_count(), metavar="N", help="studies at a time, a core each")
    p.add_argument("--make", type=Path, metavar="DIR", help="only write a data set there, all of it without splits")
    options, passed_on = p.parse_known_args()
    classes, images = names(options.classes), options.images
    if options.make:
        write(options.make, {"": images}, classes, options.size, options.seeds[0], options.exponent)
        return
    counts = {"train": images, "val": images // 5, "test": images // 2}
    cells = [(value, seed) for seed in options.seeds for value in options.oversample]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.at_once) as pool:
        data = {seed: write(Path(folder) / f"data-{seed}", counts, classes, options.size, seed, options.exponent)
                for seed in options.seeds}  # fmt: skip

        def study(cell: tuple[float, int]) -> dict[str, float]:
            value, seed = cell
            asked = ["--data", str(data[seed]), "--seed", str(seed), "--trials", "1", "--concurrent", "1"]
            asked += ["--cpus-per-trial", "1", "--confirm", "none", "--set", f"image_size={options.size}"]
            asked += ["--set", f"oversample={value}", *passed_on]
            return studies.run("detector", f"oversample-{value}-seed-{seed}", asked, Path(folder))["best"][
                "test_metrics"
            ]

        found = dict(zip(cells, pool.map(study, cells), strict=True))
    print(f"{options.classes} classes, {images} images to train on, {len(options.seeds)} seeds; {timing.machine()}\n")
    rows = []
    for value in options.oversample:
        scores = {key: np.array([found[value, seed].get(key, math.nan) for seed in options.seeds]) for key in SCORES}
        first = {key: np.array([found[options.oversample[0], seed].get(key, math.nan) for seed in options.seeds])
                 for key in SCORES}  # fmt: skip
        rows.append([f"{value:g}", *(_score_text(scores[key], first[key]) for key in SCORES)])
    print(timing.table(["oversample", *SCORES], rows))


def _score_text(scores: np.ndarray, first: np.ndarray) -> str:
    """Return the mean over seeds, and the mean paired difference to the first value with its 95 % interval, as text."""
    mean, gains = f"{scores.mean():.3f}", scores - first
    if len(gains) < 2 or not gains.any():
        return mean
    half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
    return f"{mean}: {gains.mean():+.3f} ({gains.mean() - half:+.3f} to {gains.mean() + half:+.3f})"


def names(classes: int) -> list[str]:
    """Return so many monograms: letters, or pairs of letters if there are not enough."""
    if classes <= len(LETTERS):
        return list(LETTERS[:classes])
    pairs = [a + b for a in LETTERS for b in LETTERS]
    return pairs[:: len(pairs) // classes][:classes]


def zipf(classes: int, boxes: int, exponent: float) -> np.ndarray:
    """Return the number of boxes of each class, (classes,): it falls with the class's rank to LEAST."""
    share = np.arange(1, classes + 1.0) ** -exponent
    boxes_of = np.maximum(LEAST, np.floor(boxes * share / share.sum())).astype(int)
    boxes_of[0] += boxes - boxes_of.sum()
    return boxes_of


def write(
    root: Path, counts: Mapping[str, int], classes: Sequence[str], size: int, seed: int, exponent: float = 1.0
) -> Path:
    """Write a data set as a CSV of boxes and its images; the same arguments give the same bytes.

    Args:
        root: Folder to make.
        counts: Numbers of images by split; images of "" get no split.
        classes: Names of the classes, from the most frequent to the rarest.
        size: Height and width of an image in pixels.
        seed: Seed of all random choices.
        exponent: Exponent of Zipf's law for training images.
    """
    rng = np.random.default_rng(seed)
    grounds = load_sample_images().images
    made = []
    for split, count in counts.items():
        (root / "images" / split).mkdir(parents=True)
        indices = rng.integers(PER_IMAGE[0], PER_IMAGE[1] + 1, count)
        each = np.arange(len(classes))
        labels = rng.permutation(
            np.repeat(each, zipf(len(classes), indices.sum(), exponent))
            if split in ("", "train")
            else np.resize(each, indices.sum())
        )
        for number, drawn in enumerate(np.split(labels, np.cumsum(indices)[:-1])):
            path = root / "images" / split / f"{number:05d}.jpg"
            made.append(_image(rng, grounds, [classes[label] for label in drawn], size, path, split or None))
    csv_boxes.write(root / csv_boxes.OWN, root, made)
    return root


def _image(
    rng: Generator, grounds: Sequence[np.ndarray], drawn: Sequence[str], size: int, path: Path, split: str | None
) -> RawImage:
    while True:  # try again if the monograms did not fit, which is rare
        inks = [_ink(name, max(8, round(rng.uniform(*INK) * size))) for name in drawn]
        composed = ink.compose(rng, _ground(rng, grounds[int(rng.integers(len(grounds)))], size), inks)
        if composed is not None:
            break
    Image.fromarray(composed[0]).save(path, quality=85)
    boxes = [RawBox((x, y, x + width, y + height), name, "")
             for name, (x, y, width, height) in zip(drawn, composed[1], strict=True)]  # fmt: skip
    return RawImage(path, tuple(boxes), split, "")


def _ink(name: str, longer: int) -> np.ndarray:
    """Return a monogram's opacities, cropped, with a longer side of about so many pixels."""
    font = ImageFont.load_default(2 * longer)
    left, top, right, bottom = (math.floor(side) for side in font.getbbox(name))
    page = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(page).text((2 - left, 2 - top), name, fill=255, font=font)
    page.thumbnail((longer, longer))
    return ink.tighten(np.asarray(page, np.float64) / 255)


def _ground(rng: Generator, photograph: np.ndarray, size: int) -> np.ndarray:
    side = int(rng.integers(100, 300))
    x, y = (int(rng.integers(0, limit - side + 1)) for limit in (photograph.shape[1], photograph.shape[0]))
    piece = Image.fromarray(photograph[y : y + side, x : x + side])
    return np.asarray(piece.resize((size, size), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
