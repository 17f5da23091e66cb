"""Figures and images for people: learning curves, precision-recall curves, boxes drawn on images, image sheets."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of Okabe & Ito, which colour-blind readers can distinguish; without black, which is common in photographs.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
LEGEND = 20  # largest number of classes in a legend
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")


def learning_curves(history: Sequence[Mapping[str, float]], metric: str) -> "Figure":
    """Draw the losses with their parts and the scores by epoch, of a history of metrics; each unfreezing is marked."""
    prefix = metric.split("/")[0] + "/"
    name = metric.removeprefix(prefix)
    keys = [key for key in history[0] if key.startswith(prefix) and "/loss" not in key and "_class/" not in key]
    scored = [key for key in keys if "/" not in key.removeprefix(prefix) or key.endswith(f"/{name}")]
    panels = 2 if scored else 1
    figure = _figure(4.5 * panels, 3.6)
    losses, scores = [*figure.subplots(1, panels, squeeze=False)[0], None][:2]
    epochs = range(1, len(history) + 1)
    parts = {key for row in history for key in row if key.startswith(("train/", prefix)) and "/loss" in key}
    for key in sorted(parts, key=lambda key: (len(key), key)):
        values = [row.get(key, np.nan) for row in history]
        main, validation = key.endswith("/loss"), key.startswith(prefix)
        losses.plot(epochs, values, label=key, linewidth=2 if main else 1, linestyle="--" if validation else "-")
    losses.set(title="Loss", xlabel="epoch", ylabel="loss")
    for key in scored:
        scores.plot(epochs, [row.get(key, np.nan) for row in history], label=key, linewidth=2 if key == metric else 1)
    if scores:
        scores.set(title="Validation", xlabel="epoch", ylabel="score")
    frozen = [row.get("train/frozen_stages") for row in history]
    for axes in figure.axes:
        for epoch, (before, after) in enumerate(itertools.pairwise(frozen), start=2):
            if before != after:
                axes.axvline(epoch - 0.5, color="grey", linestyle=":", linewidth=1)
        axes.locator_params("x", integer=True)
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def comparison(scores: Mapping[str, Mapping[str, float]], metric: str) -> "Figure":
    """Draw the test score of the best config and of what it is compared with: one row and dot each.

    The score of the best config, whose metrics come first, is also a vertical line through all rows. Rows without the
    metric are omitted.
    """
    rows = {name: metrics[metric] for name, metrics in scores.items() if metric in metrics}
    figure, axes, places = _rows(list(rows), 1.2, 0.34, "On the test split", metric)
    axes.axvline(next(iter(rows.values())), color=COLOURS[5], linewidth=1, linestyle=":")
    axes.scatter(list(rows.values()), places, color=[COLOURS[5], *[COLOURS[4]] * (len(rows) - 1)], zorder=2)
    for place, score in zip(places, rows.values(), strict=True):
        _note_score(axes, score, place, above=6)
    return figure


def confirmation(table: Mapping[str, Any]) -> "Figure":
    """Draw `platform.search.confirmation.table`: a row for each config, a dot for each seed, the mean, its interval."""
    rows, metric = table["rows"], table["test_metric"]
    title = f"On the test split: {len(table['seeds'])} seeds, mean and 95 % interval"
    figure, axes, places = _rows([row["name"] for row in rows], 1.3, 0.4, title, metric)
    for place, row in zip(places, rows, strict=True):
        colour = COLOURS[5] if row["name"] == table["winner"] else COLOURS[4]
        scores = [run["test_metrics"][metric] for run in row["runs"] if metric in run["test_metrics"]]
        axes.scatter(scores, [place] * len(scores), color=colour, s=18, alpha=0.5, linewidths=0)
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.5)
        if row["mean"] is not None:
            axes.scatter([row["mean"]], [place], color=colour, marker="|", s=160, linewidths=2)
            _note_score(axes, row["mean"], place, above=8)
    return figure


def embeddings(points: Mapping[str, np.ndarray], classes: Sequence[str], title: str) -> "Figure":
    """Draw embeddings, (N, 2) by the title of their projection, coloured by the classes of the N points.

    More than LEGEND classes get no legend.
    """
    figure = _figure(5 * len(points) + 1, 5)
    figure.suptitle(title)
    names = sorted(set(classes))
    for axes, (method, places) in zip(figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True):
        for index, name in enumerate(names):
            is_class = np.array([one == name for one in classes])
            marker, colour = MARKERS[index // len(COLOURS) % len(MARKERS)], COLOURS[index % len(COLOURS)]
            axes.scatter(*places[is_class].T, s=14, color=colour, marker=marker, label=name, alpha=0.8)
        axes.set(title=method, xticks=[], yticks=[])
        axes.spines[["top", "right", "left", "bottom"]].set_color("lightgrey")
    if len(names) <= LEGEND:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    return figure


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], title: str) -> "Figure":
    """Draw a confusion matrix (C, C), whose rows are true classes, shaded by the share of the true class."""
    side = 2.2 + 0.42 * min(len(classes), 30)
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 30:
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    return figure


def precision_recall(curves: Mapping[str, np.ndarray], title: str) -> "Figure":
    """Draw precision, given at evenly spaced recalls from 0 to 1, against recall, a curve for each class."""
    figure = _figure(5.4, 4.4)
    axes = figure.subplots()
    for index, (name, precision) in enumerate(curves.items()):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        recall = np.linspace(0, 1, len(precision))
        axes.plot(recall, precision, label=name, linewidth=1.5, color=colour, linestyle=dash)
    _finish_recall(axes, title)
    axes.legend(fontsize=8, frameon=False, ncols=1 + len(curves) // 11)
    return figure


def many_precision_recall(
    curves: Mapping[str, np.ndarray], groups: Mapping[str, Sequence[str]], title: str, single: int = 3
) -> "Figure":
    """Draw precision against recall of many classes: means, the middle half, the best and the weakest.

    Args:
        curves: Precision of each class at evenly spaced recalls from 0 to 1.
        groups: Classes by the name of their group; empty groups are omitted.
        single: Number of the best and of the weakest classes with a curve of their own.
    """
    figure = _figure(7.2, 4.4)
    axes = figure.subplots()
    every = np.array(list(curves.values()))
    recall = np.linspace(0, 1, every.shape[1])
    low, high = np.percentile(every, (25, 75), axis=0)
    axes.fill_between(recall, low, high, color="#dddddd", linewidth=0, label="middle half of the classes")
    axes.plot(recall, every.mean(0), label=f"mean of {len(curves)} classes", color="black", linewidth=2.5)
    for index, (group, names) in enumerate((group, names) for group, names in groups.items() if names):
        mean = np.mean([curves[name] for name in names], axis=0)
        axes.plot(recall, mean, label=f"{len(names)} {group}", linewidth=2, color=COLOURS[(5, 4, 2)[index % 3]])
    areas = {name: float(curve.mean()) for name, curve in curves.items()}
    for what, dash, sign in (("best", "--", -1), ("weakest", ":", 1)):
        ranked = sorted(areas, key=lambda name: sign * areas[name])
        for index, name in enumerate(ranked[:single]):
            label = f"{what}: {name} {areas[name]:.2f}"
            axes.plot(recall, curves[name], label=label, linewidth=1, linestyle=dash, color=COLOURS[index])
    _finish_recall(axes, title)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _finish_recall(axes: Any, title: str) -> None:
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    names: Sequence[str],
    colours: Sequence[int],
    scores: Sequence[float] | None = None,
) -> Image.Image:
    """Return a copy of an image with boxes, each with its name and score on a plate of its colour.

    Args:
        image: RGB image.
        boxes: x1, y1, x2, y2 of each box in pixels.
        names: Name of each box.
        colours: Index of each box's colour.
        scores: Score of each box; None to show none.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    unit = max(drawn.size)
    font, line = ImageFont.load_default(max(9, unit // 45)), max(1, unit // 300)
    # The highest score is drawn last, so that no other plate hides its plate.
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


def captioned(image: Image.Image, text: str, least: int = 256) -> Image.Image:
    """Return an image over a line of text; an image smaller than `least` pixels is enlarged."""
    scale = max(1.0, least / max(image.size))
    size = round(image.width * scale), round(image.height * scale)
    image = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    font = ImageFont.load_default(max(18, image.width // 12))
    left, top, right, bottom = ImageDraw.Draw(image).textbbox((0, 0), text, font=font)
    width, height = max(image.width, round(right - left) + 16), image.height + round(bottom - top) + 16
    page = Image.new("RGB", (width, height), "white")
    page.paste(image, ((page.width - image.width) // 2, 0))
    ImageDraw.Draw(page).text((8 - left, image.height + 8 - top), text, fill="black", font=font)
    return page


def labelled_strips(strips: Sequence[Image.Image], names: Sequence[str], height: int = 64) -> Image.Image:
    """Lay out strips of one size below each other, each enlarged to a height, with its name to the left."""
    font, margin, gap = ImageFont.load_default(15), 90, 6
    large = [strip.resize((strip.width * height // strip.height, height), Image.Resampling.NEAREST) for strip in strips]
    page = Image.new("RGB", (margin + large[0].width + gap, len(large) * (height + gap) + gap), "white")
    for index, (strip, name) in enumerate(zip(large, names, strict=True)):
        y = gap + index * (height + gap)
        ImageDraw.Draw(page).text((8, y + height // 2), name, fill="black", font=font, anchor="lm")
        page.paste(strip, (margin, y))
    return page


def sheet(images: Sequence[Image.Image], columns: int, cell: int = 320, gap: int = 8) -> Image.Image:
    """Lay out images, at least one, on white in square cells; each image is enlarged or shrunk to fit.

    Cell and gap are the side of a cell and the space between cells in pixels.
    """
    rows = -(-len(images) // columns)
    fitted = [image.resize(_fit(image.size, cell), Image.Resampling.BICUBIC) for image in images]
    height = max(image.height for image in fitted)
    page = Image.new("RGB", (columns * (cell + gap) + gap, rows * (height + gap) + gap), "white")
    for index, image in enumerate(fitted):
        row, column = divmod(index, columns)
        page.paste(image, (gap + column * (cell + gap), gap + row * (height + gap)))
    return page


def _figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches. Imports here, as the trials' workers draw nothing."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["text.parse_math"] = False  # a class may be named "$5 \\off $10"
    return Figure(figsize=(width, height), layout="constrained")


def _rows(names: Sequence[str], least: float, each: float, title: str, metric: str) -> tuple["Figure", Any, range]:
    """Return a figure with a named row for each of the names, its axes, and the rows' places from the top."""
    figure = _figure(7, least + each * len(names))
    axes = figure.subplots()
    places = range(len(names))[::-1]
    axes.set_yticks(places, names)
    axes.set(title=title, xlabel=metric, ylim=(-0.6, len(names) - 0.3))
    axes.margins(x=0.12)
    axes.grid(axis="x", linewidth=0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return figure, axes, places


def _note_score(axes: Any, score: float, place: int, above: int) -> None:
    style: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
    axes.annotate(f"{score:.3f}", (score, place), xytext=(0, above), **style)


def _fit(size: tuple[int, int], cell: int) -> tuple[int, int]:
    scale = cell / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
