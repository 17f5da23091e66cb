"""HTML of the demo's page: predictions as bars, the map of the training examples as SVG, neighbours as thumbnails.

All text from data or models is escaped. The colours fit the page's light and dark themes.
"""

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from platform.data import images
from platform.evaluation.figures import COLOURS
from platform.serving.embedding_map import EmbeddingMap

TOP = 5  # classes that a prediction lists
LISTED = 12  # detections that a prediction lists
MOST_CLASSES = 20  # classes that colours and shapes can distinguish
THUMBNAIL, PICTURE = 96, 1200  # pixels of the longer side

_WIDTH, _HEIGHT, _MARGIN = 640, 460, 22
_SHORT, _LONG = 90, 240  # characters of a text in a tooltip and in the list
_OTHER = "other classes"
_UNKNOWN = "without a label"

CSS = (Path(__file__).parent / "templates" / "demo.css").read_text("utf-8")


def escaped(value: object) -> str:
    """Return text escaped for HTML and for gradio's templates, which use {{…}} and ${…}."""
    text = str(value).encode("utf-8", "replace").decode()
    return html.escape(text).replace("{", "&#123;").replace("$", "&#36;").replace("`", "&#96;")


def message(text: str) -> str:
    """Return a message in place of a prediction."""
    return f'<div class="pt"><p class="message" role="alert">{escaped(text)}</p></div>'


def note(text: str) -> str:
    """Return a note in small print."""
    return f'<div class="pt"><p class="note">{escaped(text)}</p></div>'


def answer(prediction: Mapping[str, Any], picture: Image.Image | None) -> str:
    """Return a prediction of a task's `predict`: detections with their scores, or classes with their probabilities.

    `picture` is the image with the detections drawn on it; None to show none.
    """
    parts = []
    if picture is not None:
        alt = f"The image with its detections. {_count_text(prediction)}"
        parts.append(f'<img class="picture" alt="{escaped(alt)}" src="{data_uri(picture, PICTURE)}">')
    if "detections" in prediction:
        scores = [(detection["class"], detection["score"]) for detection in prediction["detections"]]
        parts.append(f"<h3>{escaped(_count_text(prediction))}</h3>{bars(scores, LISTED)}")
    groups = {"": prediction, **{key: value for key, value in prediction.items() if isinstance(value, Mapping)}}
    for title, group in groups.items():
        if "class" in group and "probability" in group:
            shares = group.get("probabilities") or {group["class"]: group["probability"]}
            ranked = sorted(shares.items(), key=lambda item: -item[1])
            parts.append(f"<h3>{escaped(title)}</h3>" if title else "")
            parts.append(f'<p class="answer"><strong>{escaped(group["class"])}</strong></p>{bars(ranked, TOP)}')
    if not parts:  # neither detections nor classes
        text = json.dumps(prediction, indent=2, ensure_ascii=False, default=str)
        parts.append(f"<pre>{escaped(text)}</pre>")
    notes = [*(f"{key}: yes" for key, value in prediction.items() if value is True), prediction.get("note")]
    parts += [f'<p class="note">{escaped(text)}</p>' for text in notes if text]
    return f'<div class="pt" role="status">{"".join(parts)}</div>'


def has_boxes(prediction: Mapping[str, Any]) -> bool:
    """Return True if a prediction has boxes, which can be drawn on the image."""
    return any("box" in detection for detection in prediction.get("detections", ()))


def bars(rows: Sequence[tuple[str, float]], most: int, total: int = 0) -> str:
    """Return a bar chart.

    Args:
        rows: Names, each with a share in [0, 1].
        most: Largest number of bars; a note says how many more there are.
        total: Number that the shares are counts of, e.g. "3 of 10"; 0 to show percentages.
    """
    items = [
        f'<li><span class="name">{escaped(name)}</span><span class="track"><span class="fill" style="width:'
        f'{100 * min(1.0, max(0.0, share)):.1f}%"></span></span>'
        f'<span class="share">{f"{share * total:.0f} of {total}" if total else f"{100 * share:.1f} %"}</span></li>'
        for name, share in rows[:most]
    ]
    more = f'<p class="note">and {len(rows) - most} more</p>' if len(rows) > most else ""
    return f'<ul class="bars">{"".join(items)}</ul>{more}'


def scatter(examples: EmbeddingMap, kind: str, position: np.ndarray | None, nearest: Sequence[int]) -> str:
    """Return the map with its examples coloured by class, and the position of the input.

    Args:
        examples: Map of the training examples.
        kind: Kind of label that the colours show.
        position: Position of the input, (2,); None if there is no input.
        nearest: Indices of the examples nearest to the input, which get rings.
    """
    classes = examples.labels[kind]
    styles = _styles(classes, nearest)
    positions = examples.positions if position is None else np.vstack([examples.positions, position])
    low, high = positions.min(0), positions.max(0)
    span = np.array([_WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN]) / np.maximum(high - low, 1e-9)

    def pixel(position: np.ndarray) -> tuple[float, float]:
        x, y = _MARGIN + (position - low) * span
        return float(x), float(_HEIGHT - y)

    groups: dict[str, list[str]] = {name: [] for name in styles}
    for index, (own_position, own) in enumerate(zip(examples.positions, classes, strict=True)):
        name = _UNKNOWN if own is None else own if own in styles else _OTHER
        title = escaped(_title(examples, index))
        groups[name].append(_shape(*pixel(own_position), styles[name][1], 3.4, f"<title>{title}</title>"))
    drawn = [f'<g fill="{styles[name][0]}" fill-opacity=".75">{"".join(shapes)}</g>' for name, shapes in groups.items()]
    rings = [_shape(*pixel(examples.positions[index]), 0, 6) for index in nearest]
    description = f"{len(examples.positions)} training examples on a plane, coloured by {kind}"
    if position is not None:
        x, y = pixel(position)
        drawn.append(f'<g class="neighbours" fill="none" stroke="currentColor" stroke-width="1.3">{"".join(rings)}</g>')
        cross = f"M{x - 14:.1f} {y:.1f}H{x + 14:.1f}M{x:.1f} {y - 14:.1f}V{y + 14:.1f}"
        drawn.append(
            f'<g class="input" stroke="currentColor" stroke-width="3"><path d="{cross}"/><circle cx="{x:.1f}" '
            f'cy="{y:.1f}" r="7.5" fill="var(--background-fill-primary)"/><title>this input</title></g>'
        )
        description += "; the crossed circle is this input, and its nearest examples have rings"
    entries = [
        f'<li><svg viewBox="0 0 12 12" aria-hidden="true"><g fill="{colour}">{_shape(6, 6, shape, 5)}</g></svg>'
        f"{escaped(name)}</li>"
        for name, (colour, shape) in styles.items()
        if groups[name]
    ]
    legend = '<p class="note">The crossed circle is this input; its nearest examples have rings.</p>' if nearest else ""
    count, total = len(examples.positions), examples.total
    number = f"{count} of {total}" if count < total else f"All {total}"
    caption = (
        f"{number} training examples after the stage {examples.stage}, on the two axes along which they differ most "
        f"(PCA). These axes have {examples.share:.0%} of the variance, so neighbours on the map may be far apart in "
        "the other dimensions."
    )
    label = escaped(description)
    return (
        f'<div class="pt"><svg class="map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'{"".join(drawn)}</svg><ul class="legend" aria-label="Classes">{"".join(entries)}</ul>{legend}'
        f'<p class="note">{escaped(caption)}</p></div>'
    )


def neighbours(examples: EmbeddingMap, nearest: Sequence[int], cosines: Sequence[float]) -> str:
    """Return the training examples nearest to an input, with their cosines, and the counts of their classes."""
    parts = []
    for kind, classes in examples.labels.items():
        counts = Counter(_UNKNOWN if classes[index] is None else classes[index] for index in nearest)
        rows = [(str(name), count / len(nearest)) for name, count in counts.most_common()]
        heading = f"{kind} of the {len(nearest)} nearest training examples"
        parts.append(f"<h3>{escaped(heading)}</h3>{bars(rows, TOP, len(nearest))}")
    if (farther := examples.share_farther_apart(cosines[0])) is not None:
        parts.append(f'<p class="note">{escaped(_distance_text(cosines[0], farther))}</p>')
    pairs = list(zip(nearest, cosines, strict=True))
    if examples.is_text:
        items = [
            f"<li>{escaped(_truncated(examples.sources[index], _LONG))}"
            f'<span class="of">{escaped(_classes(examples, index))} · cosine {cosine:.2f}</span></li>'
            for index, cosine in pairs
        ]
        body = f'<ul class="texts">{"".join(items)}</ul>'
    else:
        items = [
            f"<li>{_thumbnail(examples, index)}<div>{escaped(_classes(examples, index))}</div>"
            f'<span class="note">{cosine:.2f}</span></li>'
            for index, cosine in pairs
        ]
        body = f'<ul class="near">{"".join(items)}</ul><p class="note">The number is the cosine with the input.</p>'
    return f'<div class="pt">{"".join(parts)}<h3>Nearest training examples</h3>{body}</div>'


def data_uri(picture: Image.Image, most: int) -> str:
    """Return an image as a data URI, reduced so that no side is longer than `most` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((most, most))
    file, kind = io.BytesIO(), "jpeg" if min(small.size) > 32 else "png"
    small.save(file, kind, quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _count_text(prediction: Mapping[str, Any]) -> str:
    counts = Counter(detection["class"] for detection in prediction.get("detections", ()))
    if not counts:
        return "Nothing was found"
    by_class = ", ".join(f"{name} ({count})" for name, count in counts.most_common(TOP))
    return f"{counts.total()} found: {by_class}{', …' if len(counts) > TOP else ''}"


def _styles(classes: Sequence[str | None], nearest: Sequence[int]) -> dict[str, tuple[str, int]]:
    """Return colour and shape by class; if there are too many classes, only for those of the nearest examples."""
    names = sorted({name for name in classes if name is not None})
    styles = {_OTHER: ("#8f8f8f", 0)} if len(names) > MOST_CLASSES else {}
    if styles:
        names = list(dict.fromkeys(own for index in nearest if (own := classes[index]) is not None))[:MOST_CLASSES]
    styles |= {name: (COLOURS[i % len(COLOURS)], i // len(COLOURS)) for i, name in enumerate(names)}
    return {_UNKNOWN: ("#8f8f8f", 1), **styles} if None in classes else styles


def _shape(x: float, y: float, shape: int, r: float, inside: str = "") -> str:
    """Return a circle (0), a triangle (1) or a square (2) with centre (x, y) and size r."""
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}">{inside}</circle>'
    if shape == 1:
        points = f"M{x:.1f} {y - 1.2 * r:.1f}L{x + 1.1 * r:.1f} {y + 0.8 * r:.1f}H{x - 1.1 * r:.1f}Z"
        return f'<path d="{points}">{inside}</path>'
    side = 1.8 * r
    return f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{side:.1f}" height="{side:.1f}">{inside}</rect>'


def _distance_text(cosine: float, farther: float) -> str:
    text = f"The nearest example has a cosine of {cosine:.2f} with the input. "
    if farther < 0.01:
        return text + "Hardly any training example is that far from its own nearest: the input is unlike all of them."
    return text + f"{farther:.0%} of the training examples are farther than that from their own nearest."


def _thumbnail(examples: EmbeddingMap, index: int) -> str:
    try:
        if examples.pictures is None:
            picture = images.load(Path(examples.sources[index]))
        else:
            picture = Image.fromarray(examples.pictures[index])
    except images.ImageFault:
        return '<div class="missing">The file is missing.</div>'
    alt = escaped(f"training example, {_classes(examples, index)}")
    return f'<img alt="{alt}" src="{data_uri(picture, THUMBNAIL)}">'


def _classes(examples: EmbeddingMap, index: int) -> str:
    names = [classes[index] for classes in examples.labels.values()]
    return ", ".join(_UNKNOWN if name is None else name for name in names)


def _title(examples: EmbeddingMap, index: int) -> str:
    source = examples.sources[index]
    name = source if examples.is_text else Path(source).name
    return ": ".join(filter(None, (_classes(examples, index), _truncated(name, _SHORT))))


def _truncated(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
