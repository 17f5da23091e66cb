"""Charts of a data set: boxes of each class and split, sizes of boxes, sizes of images."""

import math
from collections import Counter

import altair as alt
import numpy as np

from platform.curation.pages.dataset_data import Dataset, visible
from platform.data.splits import SPLITS
from platform.reporting import charts
from platform.reporting.charts import Chart, values

MAX_BARS = 30  # classes that have a bar each; more are drawn by rank
MAX_MARKS = 500
BAR_HEIGHT = 22  # pixels
_LOG = alt.Scale(type="log", nice=False)


def all_charts(data: Dataset) -> list[Chart]:
    """Return the charts for which a data set has something to show."""
    found = [_classes(data), _box_sizes(data), _image_sizes(data)]
    return [each for each in found if each]


def _classes(data: Dataset) -> Chart | None:
    """Return boxes by class and split: bars with names, or points by rank where there are many classes."""
    if not data.boxes_by_class:
        return None
    title = "Boxes of each class"
    names = [(visible(name, 40), boxes) for name, boxes in data.boxes_by_class.items()]
    if len(names) <= MAX_BARS:
        rows = [
            {"class": name, "split": split or "no split", "boxes": count}
            for name, boxes in names
            for split, count in Counter(picture.split for picture, _ in boxes).items()
        ]
        order = [split for split in (*SPLITS, "no split") if any(row["split"] == split for row in rows)]
        colour = alt.Color("split:N", scale=alt.Scale(domain=order)) if data.is_split else alt.Undefined
        marks = alt.Chart(values(rows)).mark_bar()
        drawn = marks.encode(
            y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(labelLimit=170, ticks=False, domain=False)),
            x=alt.X("boxes:Q", title="boxes"),
            color=colour,
            tooltip=[charts.tip(field) for field in ("class", "split", "boxes")],
        )
        return charts.chart("classes", title, "The most frequent class first.", drawn, BAR_HEIGHT * len(names) + 10)
    counts = [len(boxes) for _, boxes in names]
    half = int(np.searchsorted(np.cumsum(counts), data.boxes / 2)) + 1
    # evenly on the axis, so that all frequent classes are drawn
    ranks = np.unique(np.geomspace(1, len(names), MAX_MARKS).round().astype(int)).tolist()
    rows = [{"rank": rank, "class": names[rank - 1][0], "boxes": counts[rank - 1]} for rank in ranks]
    note = f"Classes by rank, on logarithmic axes. The first {half} have half of the boxes."
    note += f" {len(names) - len(rows)} of the rarer ones are not drawn." if len(rows) < len(names) else ""
    marks = alt.Chart(values(rows)).mark_point(size=26, opacity=0.9)
    drawn = marks.encode(
        x=alt.X("rank:Q", title="rank of the class", scale=_LOG),
        y=alt.Y("boxes:Q", title="boxes", scale=_LOG),
        tooltip=[charts.tip(field) for field in ("class", "boxes", "rank")],
    )
    return charts.chart("classes", title, note, drawn)


def _box_sizes(data: Dataset) -> Chart | None:
    """Return a histogram of boxes by the side of a square of their area, in bins of factor √2."""
    if not data.areas:
        return None
    sides = np.sqrt(data.areas)
    counts = Counter(np.floor(2 * np.log2(sides)).astype(int).tolist())
    rows = [{"from": 2 ** (n / 2), "to": 2 ** ((n + 1) / 2), "boxes": counts[n]} for n in sorted(counts)]
    ticks = [2.0**power for power in range(math.floor(min(counts) / 2), math.ceil((max(counts) + 1) / 2) + 1)]
    low, high = np.quantile(sides, (0.25, 0.75))
    note = f"Side of a square of the same area. Half of the boxes have between {low:.0f} and {high:.0f} px."
    marks = alt.Chart(values(rows)).mark_bar(binSpacing=1)
    drawn = marks.encode(
        x=alt.X("from:Q", title="side, px", scale=_LOG, bin="binned", axis=alt.Axis(values=ticks, format="~g")),
        x2="to:Q",
        y=alt.Y("boxes:Q", title="boxes"),
        tooltip=[alt.Tooltip("from:Q", format=".3~g"), alt.Tooltip("to:Q", format=".3~g"), charts.tip("boxes")],
    )
    return charts.chart("box_sizes", "Size of boxes", note, drawn)


def _image_sizes(data: Dataset) -> Chart | None:
    """Return images by width and height; sizes are rounded where there are very many."""
    sizes = Counter(picture.size for picture in data.pictures if picture.size)
    if len(sizes) < 2:
        return None
    note = "Each mark is a size; its area shows how many images have it."
    if len(sizes) > MAX_MARKS:
        step = math.ceil(max(map(max, sizes)) / math.sqrt(MAX_MARKS))
        rounded = Counter[tuple[int, int]]()
        for (width, height), count in sizes.items():
            rounded[max(1, round(width / step)) * step, max(1, round(height / step)) * step] += count
        sizes, note = rounded, f"{note} Sizes are rounded to {step} px."
    rows = [{"width": width, "height": height, "images": count} for (width, height), count in sizes.items()]
    marks = alt.Chart(values(rows)).mark_circle(opacity=0.75)
    drawn = marks.encode(
        x=alt.X("width:Q", title="width, px", scale=alt.Scale(zero=False, padding=20)),
        y=alt.Y("height:Q", title="height, px", scale=alt.Scale(zero=False, padding=20)),
        size=alt.Size("images:Q", legend=None, scale=alt.Scale(range=[20, 500])),
        tooltip=[charts.tip(field) for field in ("width", "height", "images")],
    )
    return charts.chart("image_sizes", "Size of images", note, drawn)
