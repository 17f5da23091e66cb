"""Make mobilenet_v2.safetensors: a backbone that was trained to detect printed letters and digits.

    python -m starters.glyphs --out starters/mobilenet_v2.safetensors

The training scenes are drawn on the fly: glyphs of the fonts that matplotlib ships, bent, turned and coloured, on
backgrounds of noise, gradients and shapes. They hold no photographs and no handwriting, which are left to fine-tuning.
With one thread and fixed seeds the same command gives the same bytes on one machine.
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from platform.data.embedded import ink
from platform.models import backbones, detectors
from platform.training import schedules

DIGITS = "0123456789"
ALPHABET = DIGITS + "ABCDEFGHJKLMNPQRTUVXYabdehkt"  # without glyphs that look alike in some font: O, I, l, S, Z, g, …
FONTS = (
    "DejaVuSans*.ttf",
    "DejaVuSerif*.ttf",
    "STIXGeneral*.ttf",
    *(f"cm{face}10.ttf" for face in ("b", "r", "ss", "tt")),
)
SIZE = 128  # pixels a side
GLYPHS = (5, 10)  # in a scene; half of them are drawn from the digits, half from all
BATCH = 16
PEAK_LR = 3e-3
EM = 56  # size in pixels of a glyph before it is bent and scaled down


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1700, help=f"batches of {BATCH} scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums changes the bytes
    torch.use_deterministic_algorithms(True)
    body = train(options.steps, options.seed)
    save_file(torchvision_state(body), options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


def train(steps: int, seed: int) -> backbones.Backbone:
    """Train a detector and return its backbone."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    glyphs = render_glyphs()
    body = backbones.load("mobilenet_v2", "none")
    model = detectors.build("fcos", body, len(ALPHABET), (SIZE, SIZE), channels=64, convolutions=2)
    model = model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.4 times as fast
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.01)
    start, recent = time.monotonic(), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * schedules.factor("one_cycle", step / steps)
        images, targets = batch(rng, glyphs)
        loss = sum(model({"images": torch.stack(images)}, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            seconds = time.monotonic() - start
            print(f"step {step + 1}/{steps}  loss {np.mean(recent):.3f}  {seconds:.0f} s", flush=True)
            recent = []
    return body


def torchvision_state(body: backbones.Backbone) -> dict[str, Tensor]:
    """Return the backbone's tensors under torchvision's names, in half precision to save space."""
    state = body.torchvision_state()
    return {k: v.half().contiguous() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def batch(rng: Generator, glyphs: list[list[np.ndarray]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Draw BATCH scenes: images (3, SIZE, SIZE) in [0, 1], and targets with boxes and labels from 1."""
    images: list[Tensor] = []
    targets: list[dict[str, Tensor]] = []
    while len(images) < BATCH:
        number = int(rng.integers(GLYPHS[0], GLYPHS[1] + 1))
        labels = np.where(rng.random(number) < 0.5, *(rng.integers(len(s), size=number) for s in (DIGITS, ALPHABET)))
        inks = [bend(rng, glyphs[label][rng.integers(len(glyphs[label]))]) for label in labels]
        drawn = ink.compose(rng, ground(rng), inks)
        if drawn is None:  # too crowded
            continue
        boxes = torch.tensor(drawn[1], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        images.append(torch.from_numpy(drawn[0]).permute(2, 0, 1).float() / 255)
        targets.append({"boxes": boxes, "labels": torch.from_numpy(labels + 1)})
    return images, targets


def render_glyphs() -> list[list[np.ndarray]]:
    """Render the opacities (h, w) of every glyph in every font and in three weights, by its index in ALPHABET."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [path for pattern in FONTS for path in sorted(folder.glob(pattern)) if "Display" not in path.name]
    fonts = [ImageFont.truetype(path, EM) for path in files]  # the Display fonts hold a few symbols only
    glyphs: list[list[np.ndarray]] = [[] for _ in ALPHABET]
    for label, character in enumerate(ALPHABET):
        for font in fonts:
            for stroke in (0, 2, 4):
                page = Image.new("L", (2 * EM, 2 * EM))
                ImageDraw.Draw(page).text((EM // 2, EM // 4), character, 255, font, stroke_width=stroke)
                glyphs[label].append(ink.tighten(np.asarray(page, np.float32) / 255))
    return glyphs


def bend(rng: Generator, glyph: np.ndarray) -> np.ndarray:
    """Rotate, slant, stretch and warp a glyph, and scale it to a random size."""
    height, width = glyph.shape
    aspect = width / height * math.exp(rng.uniform(-0.25, 0.25))
    longer = math.exp(rng.uniform(math.log(16), math.log(48)))
    tall = longer / max(1.0, aspect)
    side = 2 * math.ceil(1.5 * longer)  # of a page with room for the rotation, at twice the resolution
    angle, slant = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
    y, x = (np.mgrid[:side, :side] - side / 2) / (2 * tall)  # in heights of the glyph
    y, x = y + 0.06 * noise(rng, 4, side), x + 0.06 * noise(rng, 4, side)
    rows = math.cos(angle) * y + math.sin(angle) * x
    columns = (math.cos(angle) * x - math.sin(angle) * y + slant * rows) / aspect
    page = map_coordinates(glyph, [(rows + 0.5) * height, (columns + 0.5) * width], order=1)
    return ink.tighten(page.reshape(side // 2, 2, side // 2, 2).mean((1, 3)))


def noise(rng: Generator, cells: int, side: int) -> np.ndarray:
    """Return smooth noise (side, side), interpolated between normal values at cells x cells points."""
    points = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    return np.asarray(points.resize((side, side), Image.Resampling.BICUBIC))


def ground(rng: Generator) -> np.ndarray:
    """Draw a background (SIZE, SIZE, 3), uint8: two colours mixed by gradient, stripes and noise, under shapes."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    across = math.cos(angle) * x + math.sin(angle) * y
    mix = rng.uniform(-1, 1) * across
    if rng.random() < 0.5:
        mix = mix + rng.uniform(0, 0.4) * np.sin(across * rng.uniform(10, 150))
    for cells in (4, 16, 64):
        mix = mix + rng.uniform(0, 0.3) * noise(rng, cells, SIZE)
    share = np.clip(mix + 0.5, 0, 1)[..., None]
    image = Image.fromarray((255 * (share * rng.random(3) + (1 - share) * rng.random(3))).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 7)):
        colour = tuple(rng.integers(0, 256, 3).tolist())
        corner, extent = rng.integers(-30, SIZE, 2), rng.integers(4, 90, 2)
        shape = [*corner.tolist(), *(corner + extent).tolist()]
        kind = rng.integers(3)
        if kind == 2:
            draw.line(shape, colour, int(rng.integers(1, 6)))
        else:
            (draw.ellipse, draw.rectangle)[kind](shape, colour)
    return np.asarray(image)


if __name__ == "__main__":
    main()
