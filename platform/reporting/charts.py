"""Base of all charts: Vega-Lite specifications that are drawn in a page, and as PNG and SVG files.

Colours come from a light or a dark theme, so that a chart follows the reader's setting. They follow Okabe and Ito's
palette, which colour-blind readers can distinguish.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import altair as alt

LIGHT = ("#D55E00", "#0072B2", "#8A949E", "#B8860B", "#A8527F", "#009E73", "#5B6570", "#56B4E9")
DARK = ("#FF9F5A", "#56B4E9", "#77828D", "#F0E442", "#E39AC4", "#35C79B", "#C3CBD3", "#8FA6FF")
FONT = "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"
HEIGHT, FILE_WIDTH = 260, 680  # pixels; the width of a chart in a file
DIGITS = 5  # of a number in a chart
FORMATS = {"score": ".4f", "mean": ".4f", "low": ".4f", "high": ".4f", "value": ".4f", "share": ".0%", "cost": ",.0f"}


@dataclass(frozen=True)
class Chart:
    """Chart with its title and note.

    Attributes:
        key: Name, also of its files.
        title: Title.
        note: Instructions for reading it.
        spec: Vega-Lite specification, as wide as its container.
    """

    key: str
    title: str
    note: str
    spec: dict[str, Any]

    @cached_property
    def svg(self) -> str:
        """SVG file of the chart: light theme, fixed width, with its title."""
        import vl_convert

        config = theme(dark=False) | {"background": "white", "font": "sans-serif"}
        spec = {**self.spec, "width": FILE_WIDTH, "title": self.title}
        return vl_convert.vegalite_to_svg(spec, config=config, allowed_base_urls=[])


def theme(dark: bool) -> dict[str, Any]:
    """Return Vega-Lite's config for a light or a dark page."""
    faint, line = ("#A9B2BB", "#333B43") if dark else ("#56616B", "#E3E7EA")
    colours = DARK if dark else LIGHT
    return {
        "background": "transparent",
        "font": FONT,
        "numberFormat": ",.6~g",  # Vega's own has as many digits as ticks differ in: none on an axis of one score
        "view": {"stroke": None},
        "axis": {
            **dict.fromkeys(("gridColor", "domainColor", "tickColor"), line),
            **dict.fromkeys(("labelColor", "titleColor"), faint),
            **dict.fromkeys(("labelFontSize", "titleFontSize"), 11),
            "titleFontWeight": "normal",
        },
        "legend": {"labelColor": faint, "titleColor": faint, "orient": "top", "title": None},
        "range": {"category": list(colours), "ramp": [line, colours[1]]},
        "mark": {"color": colours[1], "tooltip": True},
        "rule": {"color": faint},
        "text": {"color": faint, "fontSize": 11},
        "tick": {"color": faint},
        "line": {"strokeWidth": 1.5},
        "point": {"size": 60, "filled": True},
        "bar": {"color": colours[1]},
    }


def chart(key: str, title: str, note: str, drawn: Any, height: int = HEIGHT) -> Chart:
    """Convert an Altair chart to a chart of a page."""
    with alt.data_transformers.enable("default", max_rows=None, consolidate_datasets=False):
        # Not validated: each row would be, which takes seconds of a large study. Our tests draw every chart.
        spec = drawn.properties(width="container", height=height).to_dict(validate=False)
    spec.pop("$schema", None)
    spec.pop("config", None)  # Altair's own: the theme takes its place
    return Chart(key, title, note, {**spec, "autosize": {"type": "fit-x", "contains": "padding"}})


def tip(field: str, title: str | None = None) -> alt.Tooltip:
    """Return a line of a tooltip."""
    if field in FORMATS:
        return alt.Tooltip(f"{field}:Q", title=title or field, format=FORMATS[field])
    return alt.Tooltip(f"{field}:N", title=title or field)


def rule(at: float) -> alt.Chart:
    """Return a dotted line from top to bottom."""
    return alt.Chart(values([{"at": at}])).mark_rule(strokeDash=[2, 3], tooltip=None).encode(x=alt.X("at:Q"))


def values(rows: Sequence[dict[str, Any]]) -> alt.Data:
    """Return rows as data of a chart, with short numbers."""
    kept = [{key: _short(value) for key, value in row.items() if key not in ("config", "id")} for row in rows]
    return alt.Data(values=kept)


def _short(value: Any) -> Any:
    """Round a number to the digits that can be seen; infinity and NaN become None, since JSON has neither."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
