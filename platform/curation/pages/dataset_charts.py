"""The charts of a data set: its long tail, its boxes, its images, its splits and what fetching met with."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from platform.curation.pages.dataset_data import Dataset
from platform.curation.shown import visible
from platform.data.splits import SPLITS
from platform.reporting import charts
from platform.reporting.charts import Chart, values

NAMED = 30  # classes that have a bar each; of more the tail is drawn
RANKS, POINTS = 1000, 500  # marks of the tail, and of another chart
MANY = 10  # boxes in an image, and more
BINS = 24
ROW = 22  # pixels
TICKS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))  # × 10ⁿ


def all_charts(data: Dataset, by_split: Mapping[str, Mapping[str, int]]) -> list[Chart]:
    """Those for which a data set has something to show.

    Args:
        data: The data set.
        by_split: Images by split, for each class.
    """
    found = [outcomes(data), tail(data), box_sides(data), box_aspects(data), per_image(data), image_sizes(data),
             split_shares(data, by_split)]  # fmt: skip
    return [each for each in found if each]


def outcomes(data: Dataset) -> Chart | None:
    """Addresses by what became of them."""
    counts = Counter(visible(str(line.get("outcome", ""))) for line in data.outcomes)
    if len(counts) < 2:
        return None
    rows = [{"outcome": outcome, "addresses": count} for outcome, count in counts.most_common()]
    note = "Addresses by outcome."
    return _bars("outcomes", "What became of the addresses", note, rows, "outcome", "addresses")


def tail(data: Dataset) -> Chart | None:
    """Boxes of each class: bars with names, or the tail by rank."""
    counts = [(visible(name, 40), len(boxes)) for name, boxes in data.seen.items()]
    if not counts:
        return None
    title = "Boxes of each class"
    rows = [{"class": name, "boxes": count, "rank": rank} for rank, (name, count) in enumerate(counts, start=1)]
    if len(rows) <= NAMED:
        return _bars("tail", title, "The most frequent class first.", rows, "class", "boxes")
    half, total = 0, 0
    while 2 * total < data.boxes:
        total += counts[half][1]
        half += 1
    note = f"Classes by rank, most boxes first; both axes logarithmic. The first {half} hold half of the boxes."
    if len(rows) > RANKS:  # evenly on the axis: all of the frequent ones
        ranks = np.unique(np.geomspace(1, len(rows), RANKS).round().astype(int))
        note += f" {len(rows) - len(ranks)} of the rarer ones are not drawn."
        rows = [rows[rank - 1] for rank in ranks]
    drawn = (
        alt.Chart(values(rows))
        .mark_point(size=26, opacity=0.9)
        .encode(
            x=alt.X("rank:Q", title="rank of the class", scale=alt.Scale(type="log", nice=False)),
            y=alt.Y("boxes:Q", title="boxes", scale=alt.Scale(type="log", nice=False)),
            tooltip=[charts.tip("class"), charts.tip("boxes"), charts.tip("rank")],
        )
    )
    return charts.chart("tail", title, note, drawn)


def box_sides(data: Dataset) -> Chart | None:
    """How large boxes are: the side of a square of their area."""
    sides = [math.sqrt((b[2] - b[0]) * (b[3] - b[1])) for p in data.pictures for b in (one.box for one in p.boxes)]
    if not sides:
        return None
    shares = [math.sqrt((b[2] - b[0]) * (b[3] - b[1]) / (p.width * p.height))
              for p in data.pictures for b in (one.box for one in p.boxes)]  # fmt: skip
    note = (f"The side of a square of the same area; half of the boxes are between {_middle(sides)} px, "
            f"or {_middle(shares, 100)} % of such a side of their image.")  # fmt: skip
    return _histogram("box_sides", "Size of boxes", note, sides, "side, px")


def box_aspects(data: Dataset) -> Chart | None:
    """Width by height of boxes."""
    aspects = [(b[2] - b[0]) / (b[3] - b[1]) for p in data.pictures for b in (one.box for one in p.boxes)]
    if not aspects:
        return None
    note = "Width by height: 1 is a square, 2 twice as wide as high."
    return _histogram("box_aspects", "Shape of boxes", note, aspects, "width : height")


def per_image(data: Dataset) -> Chart | None:
    """Images by their number of boxes."""
    if not data.pictures:
        return None
    counts = Counter(min(len(picture.boxes), MANY) for picture in data.pictures)
    most = max(counts)
    rows = [{"boxes": f"{n}+" if n == MANY else str(n), "images": counts[n]} for n in range(most + 1)]
    drawn = alt.Chart(values(rows)).mark_bar(cornerRadiusEnd=2)
    drawn = drawn.encode(
        x=alt.X("boxes:N", sort=None, title="boxes in an image", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("images:Q", title="images"),
        tooltip=[charts.tip("boxes"), charts.tip("images")],
    )
    none = f"{counts[0]:,} without any." if counts[0] else "None is without."
    mean = data.boxes / len(data.pictures)
    return charts.chart("per_image", "Boxes in an image", f"{mean:.1f} on average. {none}", drawn)


def image_sizes(data: Dataset) -> Chart | None:
    """Images by width and height; many different sizes are gathered in a grid."""
    sizes = Counter((picture.width, picture.height) for picture in data.pictures)
    if len(sizes) < 2:
        return None
    note = "A mark is a size; its area tells how many images have it."
    if len(sizes) > POINTS:
        step = max(max(width, height) for width, height in sizes) / math.sqrt(POINTS)
        gathered = Counter[tuple[int, int]]()
        for (width, height), count in sizes.items():
            gathered[round((width // step + 0.5) * step), round((height // step + 0.5) * step)] += count
        sizes, note = gathered, f"{len(sizes):,} different sizes, gathered in steps of {step:.0f} px."
    rows = [{"width": width, "height": height, "images": count} for (width, height), count in sizes.items()]
    drawn = alt.Chart(values(rows)).mark_circle(opacity=0.75)
    drawn = drawn.encode(
        x=alt.X("width:Q", title="width, px", scale=alt.Scale(zero=False, padding=20)),
        y=alt.Y("height:Q", title="height, px", scale=alt.Scale(zero=False, padding=20)),
        size=alt.Size("images:Q", legend=None, scale=alt.Scale(range=[20, 500])),
        tooltip=[charts.tip("width"), charts.tip("height"), charts.tip("images")],
    )
    return charts.chart("image_sizes", "Size of images", note, drawn)


def split_shares(data: Dataset, by_split: Mapping[str, Mapping[str, int]]) -> Chart | None:
    """The share of classes' images in validation and test, against how many there are."""
    there = [split for split in SPLITS[1:] if any(counts.get(split) for counts in by_split.values())]
    alike: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for name, counts in by_split.items():
        for split in there:
            alike[split, sum(counts.values()), counts.get(split, 0)].append(visible(name, 40))
    if not alike:
        return None
    rows = [
        {"split": split, "images": total, "in it": count, "share": count / total, "classes": len(names),
         "such as": ", ".join(names[:3])}
        for (split, total, count), names in alike.items()
    ]  # fmt: skip
    note = "A mark is a class, a larger one several alike. Rare classes, which cannot be shared out evenly, lie apart."
    scale = alt.Scale(domain=there)
    tips = [charts.tip(field) for field in ("such as", "classes", "split", "share", "in it", "images")]
    drawn = (
        alt.Chart(values(rows))
        .mark_point(opacity=0.75)
        .encode(
            x=alt.X("images:Q", title="images of the class", scale=alt.Scale(type="log", nice=False, padding=12)),
            y=alt.Y("share:Q", title="share in the split", axis=alt.Axis(format=".0%")),
            color=alt.Color("split:N", scale=scale),
            shape=alt.Shape("split:N", scale=scale),
            size=alt.Size("classes:Q", legend=None, scale=alt.Scale(range=[30, 400])),
            tooltip=tips,
        )
    )
    return charts.chart("split_shares", "How evenly classes are shared out", note, drawn)


def _bars(key: str, title: str, note: str, rows: list[dict[str, Any]], name: str, number: str) -> Chart:
    base = alt.Chart(values(rows)).encode(
        y=alt.Y(f"{name}:N", sort=None, title=None, axis=alt.Axis(labelLimit=170, ticks=False, domain=False)),
        x=alt.X(f"{number}:Q", title=number),
        tooltip=[charts.tip(name), charts.tip(number)],
    )
    labels = base.mark_text(align="left", dx=5, tooltip=None).encode(text=alt.Text(f"{number}:Q", format=",d"))
    return charts.chart(key, title, note, alt.layer(base.mark_bar(cornerRadiusEnd=2), labels), ROW * len(rows) + 10)


def _histogram(key: str, title: str, note: str, numbers: Sequence[float], axis: str) -> Chart:
    """Of positive numbers, in bins of equal ratio."""
    low, high = min(numbers), max(numbers)
    if high < 1.5 * low:  # else no round number may be among them
        low, high = low / 1.25, high * 1.25
    edges = np.geomspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(numbers, edges)
    rows = [
        {"from": float(a), "to": float(b), "boxes": int(count)}
        for a, b, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    drawn = alt.Chart(values(rows)).mark_bar(binSpacing=1)
    drawn = drawn.encode(
        x=alt.X("from:Q", title=axis, scale=alt.Scale(type="log", nice=False), bin="binned",
                axis=alt.Axis(values=_ticks(low, high), format="~g")),
        x2="to:Q",
        y=alt.Y("boxes:Q", title="boxes"),
        tooltip=[alt.Tooltip("from:Q", format=".3~g"), alt.Tooltip("to:Q", format=".3~g"), charts.tip("boxes")],
    )  # fmt: skip
    return charts.chart(key, title, note, drawn)


def _ticks(low: float, high: float) -> list[float]:
    """A few round numbers of a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = list[float]()
    for digits in TICKS:
        ticks = [tick for power in powers for digit in digits if low <= (tick := digit * 10.0**power) <= high]
        if len(ticks) >= 4:
            break
    return ticks


def _middle(numbers: Sequence[float], scale: float = 1.0) -> str:
    low, high = np.quantile(numbers, (0.25, 0.75)) * scale
    return f"{low:.0f} and {high:.0f}"
