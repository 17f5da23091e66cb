"""Does drawing images of rare classes more often help? A detector of monograms whose classes follow Zipf's law.

python -m benchmarks.long_tail                                             # trains, and prints the tables
python -m benchmarks.long_tail --make DIR --classes 400 --images 6000      # only writes a data set, to try things on

An image is a piece of a photograph with one to four monograms in random colours, its classes their letters. In training
the count of a class falls with its rank; validation and test hold all classes equally often, so that the rare ones can
be measured. Each cell is a study of one trial, the start of the space, by the shipped command. A seed has its own data
and training; those of one seed differ in nothing but `oversample`, and are compared pair by pair. Options that are not
known here go to `python -m platform.tune`.
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

LETTERS = "ABCDEFGHKLMNPRSTUVXYZabdefghkmnrty234579"  # without what Pillow's font draws like another
PER_IMAGE = (1, 4)
INK = (0.2, 0.35)  # a monogram's longer side, in images
LEAST = 4  # boxes of the rarest class: in three images at least, one for each split, where splits are to be made
SCORES = ("test/map_rare", "test/map_common", "test/map_frequent", "test/map")


def main() -> None:
    """Prints a row for each value of `oversample`: test scores, and what they are above those of the first value."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.long_tail",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--oversample", type=float, nargs="+", default=[0.0, 0.01, 0.1], metavar="T")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    p.add_argument("--classes", type=int, default=32)
    p.add_argument("--images", type=int, default=800, help="to train on; a fifth to validate, and half to test")
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
        rows.append([f"{value:g}", *(_told(scores[key], first[key]) for key in SCORES)])
    print(timing.table(["oversample", *SCORES], rows))


def _told(scores: np.ndarray, first: np.ndarray) -> str:
    """The mean over seeds, and how far it is above the first one's: the mean over pairs with its 95 % interval."""
    mean, gains = f"{scores.mean():.3f}", scores - first
    if len(gains) < 2 or not gains.any():
        return mean
    half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
    return f"{mean}: {gains.mean():+.3f} ({gains.mean() - half:+.3f} to {gains.mean() + half:+.3f})"


def names(classes: int) -> list[str]:
    """So many monograms: letters, and pairs of them where there are not enough."""
    if classes <= len(LETTERS):
        return list(LETTERS[:classes])
    pairs = [a + b for a in LETTERS for b in LETTERS]
    return pairs[:: len(pairs) // classes][:classes]


def zipf(classes: int, boxes: int, exponent: float) -> np.ndarray:
    """How often each class occurs, (classes,): falling with its rank, LEAST at least."""
    share = np.arange(1, classes + 1.0) ** -exponent
    often = np.maximum(LEAST, np.floor(boxes * share / share.sum())).astype(int)
    often[0] += boxes - often.sum()
    return often


def write(
    root: Path, counts: Mapping[str, int], classes: Sequence[str], size: int, seed: int, exponent: float = 1.0
) -> Path:
    """Writes a data set as a CSV of boxes and its images; the same arguments give the same bytes.

    Args:
        root: The folder to make.
        counts: Images by split; what is in "" is given no split.
        classes: From the most frequent to the rarest.
        size: Height and width in pixels.
        seed: Decides everything.
        exponent: Of Zipf's law, where images are to train on.
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
    while True:  # anew if there was no room, which is rare
        inks = [_ink(name, max(8, round(rng.uniform(*INK) * size))) for name in drawn]
        composed = ink.compose(rng, _ground(rng, grounds[int(rng.integers(len(grounds)))], size), inks)
        if composed is not None:
            break
    Image.fromarray(composed[0]).save(path, quality=85)
    boxes = [RawBox((x, y, x + width, y + height), name, "")
             for name, (x, y, width, height) in zip(drawn, composed[1], strict=True)]  # fmt: skip
    return RawImage(path, tuple(boxes), split, "")


def _ink(name: str, longer: int) -> np.ndarray:
    """A monogram's opacities, cropped, its longer side about so many pixels."""
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
