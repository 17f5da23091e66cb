"""Pictures that people look at: learning curves, precision-recall curves, boxes drawn on images, sheets of them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

# Okabe & Ito's colours, told apart by colour-blind readers too; without black, as photographs hold a lot of it.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
DASHES = ("-", "--", ":", "-.")


def learning_curves(history: Sequence[Mapping[str, float]], metric: str) -> Figure:
    """The training loss with its parts, and the metric, epoch by epoch; thaws are marked.

    Args:
        history: The reported metrics of each epoch.
        metric: The metric that decides.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = range(1, len(history) + 1)
    for key in sorted({key for row in history for key in row if key.startswith("train/loss")}, key=len):
        values = [row.get(key, np.nan) for row in history]
        losses.plot(epochs, values, label=key.removeprefix("train/"), linewidth=2 if key == "train/loss" else 1)
    losses.set(title="Training loss", xlabel="epoch", ylabel="loss")
    prefix = metric.split("/")[0] + "/"
    for key in [k for k in history[0] if k.startswith(prefix) and "/" not in k.removeprefix(prefix)]:
        scores.plot(epochs, [row.get(key, np.nan) for row in history], label=key, linewidth=2 if key == metric else 1)
    scores.set(title="Validation", xlabel="epoch", ylabel="score")
    frozen = [row.get("train/frozen_stages") for row in history]
    for axes in (losses, scores):
        for epoch, (before, after) in enumerate(itertools.pairwise(frozen), start=2):
            if before != after:
                axes.axvline(epoch - 0.5, color="grey", linestyle=":", linewidth=1)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def precision_recall(curves: Mapping[str, np.ndarray], title: str) -> Figure:
    """Precision against recall.

    Args:
        curves: For each class its precision at evenly spaced recalls from 0 to 1; no legend over 20 classes.
        title: What the curves are of.
    """
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, precision) in enumerate(curves.items()):
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        }
        axes.plot(np.linspace(0, 1, len(precision)), precision, label=name, linewidth=1.5, **style)
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) <= 20:
        axes.legend(fontsize=8, frameon=False, ncols=1 + len(curves) // 11)
    return figure


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    names: Sequence[str],
    colours: Sequence[int],
    scores: Sequence[float] | None = None,
) -> Image.Image:
    """A copy of an image with boxes, each with its name and score on a plate of its colour.

    Args:
        image: RGB.
        boxes: x1, y1, x2, y2 in pixels.
        names: Of each box.
        colours: A number for each box; equal numbers have equal colours.
        scores: Of each box; None: not shown.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    unit = max(drawn.size)
    font, line = ImageFont.load_default(max(9, unit // 45)), max(1, unit // 300)
    # The surest last, so that no other plate hides its own.
    order = sorted(range(len(boxes)), key=lambda index: 0.0 if scores is None else scores[index])
    for index in order:
        box, name, number = boxes[index], names[index], colours[index]
        colour = COLOURS[number % len(COLOURS)]
        pen.rectangle(tuple(box), outline=colour, width=line)
        text = name if scores is None else f"{name}: {scores[index]:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        x = max(0, min(box[0], drawn.width - (right - left) - 3))
        y = max(0, box[1] - (bottom - top) - 4)
        pen.rectangle((x, y, x + right - left + 3, y + bottom - top + 3), fill=colour)
        pen.text((x + 1 - left, y + 1 - top), text, fill="black" if number % len(COLOURS) != 4 else "white", font=font)
    return drawn


def sheet(pictures: Sequence[Image.Image], columns: int, cell: int = 320, gap: int = 8) -> Image.Image:
    """Pictures side by side on white, each enlarged or shrunk to fit a square cell.

    Args:
        pictures: At least one.
        columns: Pictures in a row.
        cell: Side of a cell in pixels.
        gap: Between cells, in pixels.
    """
    rows = -(-len(pictures) // columns)
    fitted = [picture.resize(_fit(picture.size, cell), Image.Resampling.BICUBIC) for picture in pictures]
    height = max(picture.height for picture in fitted)
    page = Image.new("RGB", (columns * (cell + gap) + gap, rows * (height + gap) + gap), "white")
    for index, picture in enumerate(fitted):
        row, column = divmod(index, columns)
        page.paste(picture, (gap + column * (cell + gap), gap + row * (height + gap)))
    return page


def _fit(size: tuple[int, int], cell: int) -> tuple[int, int]:
    scale = cell / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
