"""What the demo's page shows, as HTML: an answer as bars, a map of points as SVG, neighbours as small pictures.

All that comes from data or models is escaped. Colours follow the page's, light or dark.
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

TOP = 5  # classes that an answer names
LISTED = 12  # detections that it lists
TOLD = 20  # classes that colours and shapes can tell apart
THUMBNAIL, PICTURE = 96, 1200  # pixels, at the most

_WIDTH, _HEIGHT, _MARGIN = 640, 460, 22
_SHORT, _LONG = 90, 240  # characters
_OTHER = "other classes"
_UNKNOWN = "without a label"

CSS = (Path(__file__).parent / "templates" / "demo.css").read_text("utf-8")


def escaped(value: object) -> str:
    """Text for HTML, inert in the templates of gradio's page as well, which have {{…}} and ${…}."""
    text = str(value).encode("utf-8", "replace").decode()
    return html.escape(text).replace("{", "&#123;").replace("$", "&#36;").replace("`", "&#96;")


def message(text: str) -> str:
    """What is told instead of an answer."""
    return f'<div class="pt"><p class="message" role="alert">{escaped(text)}</p></div>'


def note(text: str) -> str:
    """What stands where nothing is to be seen yet."""
    return f'<div class="pt"><p class="note">{escaped(text)}</p></div>'


def answer(prediction: Mapping[str, Any], drawn: Image.Image | None) -> str:
    """A prediction of any task: what it found with scores, or its classes with their shares.

    Args:
        prediction: As the task's `predict` gives it.
        drawn: The picture that it is of, with what was found; None: not shown.
    """
    parts = []
    if drawn is not None:
        alt = f"The picture, with {_counted(prediction)}"
        parts.append(f'<img class="shown" alt="{escaped(alt)}" src="{data_uri(drawn, PICTURE)}">')
    if "detections" in prediction:
        found = [(detection["class"], detection["score"]) for detection in prediction["detections"]]
        parts.append(f"<h3>{escaped(_counted(prediction))}</h3>{bars(found, LISTED)}")
    groups = {"": prediction, **{key: value for key, value in prediction.items() if isinstance(value, Mapping)}}
    for title, group in groups.items():
        if "class" in group and "probability" in group:
            shares = group.get("probabilities") or {group["class"]: group["probability"]}
            ranked = sorted(shares.items(), key=lambda item: -item[1])
            parts.append(f"<h3>{escaped(title)}</h3>" if title else "")
            parts.append(f'<p class="answer"><strong>{escaped(group["class"])}</strong></p>{bars(ranked, TOP)}')
    if not parts:  # a task that answers in another way
        told = json.dumps(prediction, indent=2, ensure_ascii=False, default=str)
        parts.append(f"<pre>{escaped(told)}</pre>")
    notes = [*(f"{key}: yes" for key, value in prediction.items() if value is True), prediction.get("note")]
    parts += [f'<p class="note">{escaped(text)}</p>' for text in notes if text]
    return f'<div class="pt" role="status">{"".join(parts)}</div>'


def is_drawn(prediction: Mapping[str, Any]) -> bool:
    """Whether a prediction speaks of places in a picture."""
    return any("box" in detection for detection in prediction.get("detections", ()))


def bars(rows: Sequence[tuple[str, float]], most: int, of: int = 0) -> str:
    """Names with shares in [0, 1], told in percent or as so many `of` that number; how many more there are, is told."""
    items = [
        f'<li><span class="name">{escaped(name)}</span><span class="track"><span class="fill" style="width:'
        f'{100 * min(1.0, max(0.0, share)):.1f}%"></span></span>'
        f'<span class="share">{f"{share * of:.0f} of {of}" if of else f"{100 * share:.1f} %"}</span></li>'
        for name, share in rows[:most]
    ]
    more = f'<p class="note">and {len(rows) - most} more</p>' if len(rows) > most else ""
    return f'<ul class="bars">{"".join(items)}</ul>{more}'


def scatter(known: EmbeddingMap, kind: str, place: np.ndarray | None, near: Sequence[int]) -> str:
    """The map, its examples by class, and the new input's place among them.

    Args:
        known: The map.
        kind: Of label, by which the examples are coloured.
        place: (2,) of the new input; None: there is none yet.
        near: The numbers of the examples nearest to it, which are ringed.
    """
    classes = known.labels[kind]
    styles = _styles(classes, near)
    everything = known.places if place is None else np.vstack([known.places, place])
    low, high = everything.min(0), everything.max(0)
    span = np.array([_WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN]) / np.maximum(high - low, 1e-9)

    def at(point: np.ndarray) -> tuple[float, float]:
        x, y = _MARGIN + (point - low) * span
        return float(x), float(_HEIGHT - y)

    groups: dict[str, list[str]] = {name: [] for name in styles}
    for number, (point, own) in enumerate(zip(known.places, classes, strict=True)):
        name = _UNKNOWN if own is None else own if own in styles else _OTHER
        title = escaped(_title(known, number, _SHORT))
        groups[name].append(_shape(*at(point), styles[name][1], 3.4, f"<title>{title}</title>"))
    drawn = [f'<g fill="{styles[name][0]}" fill-opacity=".75">{"".join(shapes)}</g>' for name, shapes in groups.items()]
    rings = [_ring(*at(known.places[number]), 6) for number in near]
    told = f"{len(known.places)} training examples on a plane, coloured by {kind}"
    if place is not None:
        x, y = at(place)
        drawn.append(f'<g class="neighbours" fill="none" stroke="currentColor" stroke-width="1.3">{"".join(rings)}</g>')
        cross = f"M{x - 14:.1f} {y:.1f}H{x + 14:.1f}M{x:.1f} {y - 14:.1f}V{y + 14:.1f}"
        drawn.append(
            f'<g class="input" stroke="currentColor" stroke-width="3"><path d="{cross}"/><circle cx="{x:.1f}" '
            f'cy="{y:.1f}" r="7.5" fill="var(--background-fill-primary)"/><title>this input</title></g>'
        )
        told += "; this input is the crossed circle, its nearest examples are ringed"
    entries = [
        f'<li><svg viewBox="0 0 12 12" aria-hidden="true"><g fill="{colour}">{_shape(6, 6, shape, 5)}</g></svg>'
        f"{escaped(name)}</li>"
        for name, (colour, shape) in styles.items()
        if groups[name]
    ]
    here = '<p class="note">The crossed circle is this input; its nearest examples are ringed.</p>' if near else ""
    of = f"{len(known.places)} of {known.total}" if len(known.places) < known.total else f"All {known.total}"
    caption = (
        f"{of} training examples, after the stage {known.stage}, on the two axes along which they differ most "
        f"(PCA): these hold {known.share:.0%} of the variance, so that neighbours on the map may lie apart in the rest."
    )
    return (
        f'<div class="pt"><svg class="map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(told)}">'
        f'{"".join(drawn)}</svg><ul class="legend" aria-label="Classes">{"".join(entries)}</ul>{here}'
        f'<p class="note">{escaped(caption)}</p></div>'
    )


def neighbours(known: EmbeddingMap, near: Sequence[int], cosines: Sequence[float]) -> str:
    """The training examples nearest to an input, and which classes they are of."""
    parts = []
    for kind, classes in known.labels.items():
        counts = Counter(_UNKNOWN if classes[number] is None else classes[number] for number in near)
        rows = [(str(name), count / len(near)) for name, count in counts.most_common()]
        parts.append(
            f"<h3>{escaped(kind)} of the {len(near)} nearest training examples</h3>{bars(rows, TOP, len(near))}"
        )
    lonelier = known.lonelier(cosines[0])
    if lonelier is not None:
        parts.append(f'<p class="note">{escaped(_how_near(cosines[0], lonelier))}</p>')
    pairs = list(zip(near, cosines, strict=True))
    if known.texts:
        items = [
            f"<li>{escaped(_cut(known.sources[number], _LONG))}"
            f'<span class="of">{escaped(_classes(known, number))} · cosine {cosine:.2f}</span></li>'
            for number, cosine in pairs
        ]
        shown = f'<ul class="texts">{"".join(items)}</ul>'
    else:
        items = [
            f"<li>{_thumbnail(known, number)}<div>{escaped(_classes(known, number))}</div>"
            f'<span class="note">{cosine:.2f}</span></li>'
            for number, cosine in pairs
        ]
        shown = f'<ul class="near">{"".join(items)}</ul><p class="note">With each, its cosine with the input.</p>'
    return f'<div class="pt">{"".join(parts)}<h3>Nearest training examples</h3>{shown}</div>'


def data_uri(picture: Image.Image, most: int) -> str:
    """A picture within a page, no side longer than so many pixels."""
    small = picture.convert("RGB")
    small.thumbnail((most, most))
    file = io.BytesIO()
    small.save(file, "JPEG" if min(small.size) > 32 else "PNG", quality=88)
    kind = "jpeg" if min(small.size) > 32 else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _counted(prediction: Mapping[str, Any]) -> str:
    counts = Counter(detection["class"] for detection in prediction.get("detections", ()))
    if not counts:
        return "Nothing was found"
    named = ", ".join(f"{name} ({count})" for name, count in counts.most_common(TOP))
    return f"{counts.total()} found: {named}{', …' if len(counts) > TOP else ''}"


def _styles(classes: Sequence[str | None], near: Sequence[int]) -> dict[str, tuple[str, int]]:
    """Colour and shape by class; where there are too many, of the classes that the nearest examples are of."""
    names = sorted({name for name in classes if name is not None})
    styles = {_OTHER: ("#8f8f8f", 0)} if len(names) > TOLD else {}
    if styles:
        names = list(dict.fromkeys(own for number in near if (own := classes[number]) is not None))[:TOLD]
    styles |= {name: (COLOURS[i % len(COLOURS)], i // len(COLOURS)) for i, name in enumerate(names)}
    return {_UNKNOWN: ("#8f8f8f", 1), **styles} if None in classes else styles


def _shape(x: float, y: float, shape: int, r: float, inside: str = "") -> str:
    """A circle, a triangle or a square."""
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}">{inside}</circle>'
    if shape == 1:
        points = f"M{x:.1f} {y - 1.2 * r:.1f}L{x + 1.1 * r:.1f} {y + 0.8 * r:.1f}H{x - 1.1 * r:.1f}Z"
        return f'<path d="{points}">{inside}</path>'
    side = 1.8 * r
    return f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{side:.1f}" height="{side:.1f}">{inside}</rect>'


def _ring(x: float, y: float, r: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'


def _how_near(cosine: float, lonelier: float) -> str:
    told = f"The nearest has a cosine of {cosine:.2f} with the input. "
    if lonelier < 0.01:
        return told + "Hardly any training example has its own nearest so far away: the input is unlike all of them."
    return told + f"{lonelier:.0%} of the training examples have their own nearest farther away than that."


def _thumbnail(known: EmbeddingMap, number: int) -> str:
    try:
        grey = None if known.pictures is None else Image.fromarray(known.pictures[number])
        picture = images.load(Path(known.sources[number])) if grey is None else grey
    except images.ImageFault:
        return '<div class="gone">not there any more</div>'
    alt = escaped(f"training example, {_classes(known, number)}")
    return f'<img alt="{alt}" src="{data_uri(picture, THUMBNAIL)}">'


def _classes(known: EmbeddingMap, number: int) -> str:
    names = [classes[number] for classes in known.labels.values()]
    return ", ".join(_UNKNOWN if name is None else name for name in names)


def _title(known: EmbeddingMap, number: int, most: int) -> str:
    source = known.sources[number]
    name = source if known.texts else Path(source).name
    return ": ".join(filter(None, (_classes(known, number), _cut(name, most))))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
