"""A self-contained HTML page: charts, pictures, styles and scripts are in it, and nothing is fetched.

All text that comes from data is escaped, and a content security policy lets the browser run the two scripts of the page
only. Each chart is also embedded as an image, for print and for readers without scripts.
"""

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from platform.reporting.charts import FILE_WIDTH, Chart, theme
from platform.storage import atomic
from platform.study.wording import as_text

TEMPLATES = Path(__file__).parent / "templates"
LARGE, WIDEST, QUALITY = 300_000, 1600, 85  # bytes of a picture that is made smaller; pixels and quality of it then


def render(template: str, name: str, charts: Sequence[Chart], **context: Any) -> str:
    """Render a page from a template, which places the charts by their keys; `context` has its other variables.

    `name` is the prefix of files saved from the page.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    bundle, script = _bundle(), (TEMPLATES / "page.js").read_text()
    data = {
        "charts": {chart.key: {"spec": chart.spec, "title": chart.title} for chart in charts},
        "light": theme(dark=False),
        "dark": theme(dark=True),
        "width": FILE_WIDTH,
        "name": name,
    }
    return environment.get_template(template).render(
        charts={chart.key: chart for chart in charts},
        printed={chart.key: data_uri(chart.svg.encode(), "svg+xml") for chart in charts},
        page_data=data,
        css=Markup((TEMPLATES / "page.css").read_text()),
        bundle=Markup(bundle),
        script=Markup(script),
        script_hashes=Markup(" ".join(f"'sha256-{_hash(text)}'" for text in (bundle, script))),
        **context,
    )


def put(text: str, out: Path) -> None:
    """Write a page to a file atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(out, text)


def save_files(charts: Sequence[Chart], folder: Path) -> None:
    """Save each chart as a PNG and an SVG file."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    for chart in charts:
        (folder / f"{chart.key}.svg").write_text(chart.svg, encoding="utf-8")
        (folder / f"{chart.key}.png").write_bytes(vl_convert.svg_to_png(chart.svg, scale=2))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], best: int = -1, changed: Any = None) -> dict[str, Any]:
    """Return a table for the template.

    Numbers are aligned and sorted as such, None is a dash. The row `best` is highlighted, and each cell of which
    `changed(row, column)` is true is marked.
    """
    cells = [
        [
            {"text": as_text(value), "sort": value if _is_number(value) else None,
             "changed": bool(changed and changed(row, column))}
            for column, value in enumerate(values)
        ]
        for row, values in enumerate(rows)
    ]  # fmt: skip
    numbers = [any(_is_number(v) for v in each) and all(_is_number(v) or v is None for v in each)
               for each in zip(*rows, strict=True)] or [False] * len(columns)  # fmt: skip
    return {
        "columns": [{"name": name, "number": each} for name, each in zip(columns, numbers, strict=True)],
        "rows": [{"cells": row, "best": place == best} for place, row in enumerate(cells)],
    }


def mean_and_interval(row: Mapping[str, Any], sign: str = "") -> str:
    """Format the mean of a confirmation's row or lead with its interval."""
    if row["mean"] is None:
        return "–"
    text = f"{row['mean']:{sign}.3f}"
    return text if row["low"] is None else f"{text} ({row['low']:{sign}.3f} to {row['high']:{sign}.3f})"


def picture(file: Path) -> dict[str, Any]:
    """Return an image for the template, compressed if its file is large."""
    content, kind = file.read_bytes(), "png"
    with Image.open(file) as image:
        width, height = image.size
        if len(content) > LARGE:
            small = image.convert("RGB")
            small.thumbnail((WIDEST, 10 * WIDEST))
            content, kind, (width, height) = webp(small, QUALITY), "webp", small.size
    title = file.stem.replace("_", " ")
    return {
        "title": title[:1].upper() + title[1:],
        "source": data_uri(content, kind),
        "width": width,
        "height": height,
        "wide": width >= 1200,
    }


def webp(image: Image.Image, quality: int) -> bytes:
    """Encode an image as WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Return an image as a data URI; `kind` is the subtype of its media type, e.g. "webp"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def clock(seconds: float) -> str:
    """Format a duration, e.g. "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def pairs(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of names and values."""
    return table(["", ""], [[key, as_text(value)] for key, value in items.items()])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@cache
def _bundle() -> str:
    """Return the script of Vega, Vega-Lite and Vega-Embed."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
