"""A study's charts as Vega-Lite specifications: the same ones are drawn in a page, and as PNG and SVG files.

Colours come from a theme, for light and for dark, so that a chart follows its reader. The kinds of trials have colours
of Okabe and Ito's palette, told apart by colour-blind readers too, and shapes of their own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
from ray.tune.search.sample import Categorical

from platform.evidence import THAW_AT, UNFREEZE, values
from platform.importance import Importance
from platform.ledger import Trial
from platform.space import DEPTH
from platform.study_data import StudyData, confirms, thaws

KINDS = ("best", "finished", "pruned", "failed", "interrupted", "running", "baseline")
SHAPES = ("diamond", "circle", "triangle-down", "cross", "triangle-right", "triangle-up", "square")
LIGHT = ("#D55E00", "#0072B2", "#8A949E", "#B8860B", "#A8527F", "#009E73", "#5B6570")
DARK = ("#FF9F5A", "#56B4E9", "#77828D", "#F0E442", "#E39AC4", "#35C79B", "#C3CBD3")
CURVES, BEST_CURVES = 150, 40  # that are drawn of a large study, and how many of them are its best
CURVE_POINTS, AXES = 60, 8  # at most: points of a curve; parameters side by side
HEIGHT = 260  # pixels
DIGITS = 5  # of a number in a chart
FILE_WIDTH = 680  # pixels of a chart in a file


@dataclass(frozen=True)
class Chart:
    """A chart with what is said about it.

    Attributes:
        key: Its name, also of its files.
        title: What it shows.
        note: How to read it.
        spec: Vega-Lite.
    """

    key: str
    title: str
    note: str
    spec: dict[str, Any]


def theme(dark: bool) -> dict[str, Any]:
    """Vega-Lite's config for a light or a dark page."""
    ink, faint, line = ("#E6E9EC", "#A9B2BB", "#333B43") if dark else ("#1F262D", "#56616B", "#E3E7EA")
    colours = DARK if dark else LIGHT
    axis = {"gridColor": line, "domainColor": line, "tickColor": line, "labelColor": faint, "titleColor": faint,
            "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}  # fmt: skip
    return {
        "background": "transparent",
        "font": "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif",
        "view": {"stroke": None},
        "axis": axis,
        "legend": {"labelColor": faint, "titleColor": faint, "orient": "top", "title": None, "symbolStrokeWidth": 1.5},
        "range": {"category": list(colours), "ramp": [line, colours[1]]},
        "mark": {"color": colours[1], "tooltip": True},
        "rule": {"color": faint},
        "text": {"color": faint, "fontSize": 11},
        "tick": {"color": ink},
        "line": {"strokeWidth": 1.5},
        "point": {"size": 60, "filled": True},
        "bar": {"color": colours[1]},
    }


def all_charts(data: StudyData, importances: Sequence[Importance]) -> list[Chart]:
    """Those for which a study has something to show."""
    found = [
        comparison(data),
        confirmation(data),
        over_time(data),
        by_cost(data),
        by_depth(data),
        by_schedule(data),
        by_thaw(data),
        importance(importances, len(data.scored)),
        parallel(data, importances),
        curves(data),
        losses(data),
        statuses(data),
    ]
    return [chart for chart in found if chart]


def comparison(data: StudyData) -> Chart | None:
    """The best configuration's test score beside baselines and references."""
    best, metric = data.result.get("best"), data.test_metric
    if not best:
        return None
    compared = {b["baseline"]: b["test_metrics"] for b in data.result["baselines"]} | data.result["references"]
    rows = [{"what": f"best: {best['name']}", "score": best["test_metrics"].get(metric), "kind": "best"}]
    rows += [{"what": name, "score": metrics.get(metric), "kind": "baseline"} for name, metrics in compared.items()]
    rows = [row for row in rows if row["score"] is not None]
    if not rows or rows[0]["kind"] != "best":
        return None
    base = alt.Chart(_table(rows)).encode(
        y=alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=190, grid=True)),
        x=alt.X("score:Q", title=metric, scale=alt.Scale(zero=False, padding=24)),
        tooltip=[_tip("what"), _tip("score", metric)],
    )
    points = base.mark_point(size=110).encode(**_plain())
    labels = base.mark_text(dy=-13).encode(text=alt.Text("score:Q", format=".3f"))
    drawn = alt.layer(_rule(rows[0]["score"]), points, labels).properties(height=44 * len(rows) + 10)
    return _chart("comparison", "On the test split", "The dotted line is the best configuration's score.", drawn)


def confirmation(data: StudyData) -> Chart | None:
    """The means over seeds of what was repeated, with their intervals and each run."""
    told = data.result.get("confirmation")
    if not told:
        return None
    metric = told["test_metric"]
    rows, runs = [], []
    for row in told["rows"]:
        kind = "baseline" if row["kind"] == "baseline" else "best" if row["name"] == told["winner"] else "finished"
        rows.append({"what": row["name"], "mean": row["mean"], "low": row["low"], "high": row["high"], "kind": kind})
        runs += [
            {"what": row["name"], "score": run["test_metrics"][metric], "seed": run["seed"], "kind": kind}
            for run in row["runs"]
            if metric in (run.get("test_metrics") or {})
        ]
    order = [row["what"] for row in rows]
    y = alt.Y("what:N", sort=order, title=None, axis=alt.Axis(labelLimit=190))
    x = alt.X("mean:Q", title=metric, scale=alt.Scale(zero=False, padding=16))
    known = alt.Chart(_table([row for row in rows if row["mean"] is not None]))
    bars = known.mark_rule(strokeWidth=3).encode(y=y, x=alt.X("low:Q"), x2="high:Q", color=_colour([]))
    means = known.mark_point(size=130).encode(
        y=y, x=x, **_plain(),
        tooltip=[_tip("what"), _tip("mean"), _tip("low"), _tip("high")],
    )  # fmt: skip
    dots = alt.Chart(_table(runs)).mark_tick(size=14, opacity=0.8).encode(
        y=y, x=alt.X("score:Q"), tooltip=[_tip("what"), _tip("seed"), _tip("score", metric)]
    )  # fmt: skip
    note = "Thin ticks are single seeds, the bar is the 95 % interval of their mean."
    drawn = alt.layer(bars, means, dots).properties(height=44 * len(rows) + 10)
    return _chart("confirmation", "Repeated with several seeds", note, drawn)


def over_time(data: StudyData) -> Chart | None:
    """The score of each trial when it ended, and the best so far."""
    ends: dict[str, float] = {}
    steps, best = list[dict[str, Any]](), None
    may_win = {trial.id for trial in data.scored}
    for seconds, trial_id, score in data.scores_over_time:
        ends[trial_id] = seconds
        good = data.space.goodness
        if trial_id in may_win and (best is None or good(score) > good(best)):
            best = score
            steps.append({"minutes": seconds / 60, "score": score})
    if not steps:
        return None
    steps.append({**steps[-1], "minutes": data.scores_over_time[-1][0] / 60})
    rows = [row | {"minutes": ends[row["id"]] / 60} for row in _rows(data, data.scored)]
    x = alt.X("minutes:Q", title="minutes of work on the study")
    line = (
        alt.Chart(_table(steps))
        .mark_line(interpolate="step-after")
        .encode(x=x, y=_score(data), tooltip=alt.value(None))
    )
    note = "Each mark is a trial at its end; the line is the best score so far, at each epoch."
    return _chart(
        "over_time", "Score against time", note, alt.layer(line, _points(rows, data, x)).properties(height=HEIGHT)
    )


def by_cost(data: StudyData) -> Chart | None:
    """The score of each trial against what it took."""
    rows = _rows(data, data.scored)
    x = alt.X("cost:Q", title=f"{data.device}-seconds of the trial")
    note = f"What a trial cost: its time times its share of a {data.device}."
    return (
        _chart(
            "by_cost", f"Score against {data.device}-seconds", note, _points(rows, data, x).properties(height=HEIGHT)
        )
        if rows
        else None
    )


def by_depth(data: StudyData) -> Chart | None:
    """The score of each trial against how many stages it freezes at first."""
    rows = [row | {"depth": row["config"].get(DEPTH)} for row in _rows(data, data.scored)]
    if not any(row["depth"] is not None for row in rows):
        return None
    drawn = _strip(rows, data, "depth", "stages frozen at first", sorted({row["depth"] for row in rows}))
    return _chart("by_depth", "Score against freeze depth", "Marks are spread sideways to be seen.", drawn)


def by_schedule(data: StudyData) -> Chart | None:
    """The score of each trial against how it thaws."""
    rows = [row | {"schedule": str(row["config"].get(UNFREEZE))} for row in _rows(data, data.scored)]
    rows = [row for row in rows if UNFREEZE in row["config"] and row["config"].get(DEPTH, 1)]
    if not rows:
        return None
    order = [str(value) for value in data.space.values(UNFREEZE)]
    drawn = _strip(
        rows, data, "schedule", "unfreezing schedule", [name for name in order if name in {r["schedule"] for r in rows}]
    )
    return _chart("by_schedule", "Score against unfreezing schedule", "Only trials that froze anything.", drawn)


def by_thaw(data: StudyData) -> Chart | None:
    """The score of each thawing trial against when its first stage thawed."""
    rows = [row | {"thaw": row["config"][THAW_AT]} for row in _rows(data, [t for t in data.scored if t.thaw is not None])
            if THAW_AT in row["config"]]  # fmt: skip
    if not rows:
        return None
    x = alt.X(
        "thaw:Q",
        title="thaw point, as a share of the budget",
        axis=alt.Axis(format="%"),
        scale=alt.Scale(zero=False, padding=8),
    )
    note = "Only trials that thaw. A trial that was cut before its thaw was never seen thawed."
    return _chart("by_thaw", "Score against thaw point", note, _points(rows, data, x).properties(height=HEIGHT))


def importance(found: Sequence[Importance], trials: int) -> Chart | None:
    """What made the difference between trials."""
    if not found:
        return None
    rows = [{"parameter": each.key, "share": each.share} for each in found]
    bars = alt.Chart(_table(rows)).mark_bar(size=12, cornerRadiusEnd=2).encode(
        y=alt.Y("parameter:N", sort=None, title=None, axis=alt.Axis(labelLimit=170)),
        x=alt.X("share:Q", title="share of the variance between trials", axis=alt.Axis(format="%")),
        tooltip=[_tip("parameter"), alt.Tooltip("share:Q", format=".0%")],
    )  # fmt: skip
    note = f"fANOVA over {trials} trials. Right of the dotted line is more than chance alone would show."
    drawn = alt.layer(bars, _rule(found[0].chance)).properties(height=20 * len(rows) + 10)
    return _chart("importance", "Parameter importances", note, drawn)


def parallel(data: StudyData, importances: Sequence[Importance]) -> Chart | None:
    """Each trial as a line through its parameters, the most important ones first, to its score."""
    trials, keys = data.scored, [each.key for each in importances] or list(data.space.searched)
    keys = [key for key in keys if len({repr(trial.config[key]) for trial in trials}) > 1][:AXES]
    if len(trials) < 2 or not keys:
        return None
    heights, marks = {}, list[dict[str, Any]]()
    for key in [*keys, data.metric]:
        heights[key], ends = _axis(data, trials, key)
        marks += [{"axis": key, "height": height, "text": text} for height, text in ends]
    best = data.best
    rows = [
        {"trial": trial.name, "axis": key, "height": heights[key][place], "score": data.score(trial),
         "value": _text(data.score(trial) if key == data.metric else trial.config[key]), "best": trial is best}
        for place, trial in enumerate(trials) for key in heights
    ]  # fmt: skip
    hover = alt.selection_point(fields=["trial"], on="pointerover", empty=False)
    x = alt.X(
        "axis:N",
        sort=list(heights),
        title=None,
        axis=alt.Axis(labelAngle=-35, labelLimit=110, domain=False, ticks=False, grid=True),
        scale=alt.Scale(padding=0.3),
    )
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    faint = max(0.15, min(0.8, 20 / len(trials)))
    sort = "ascending" if data.space.mode == "max" else "descending"
    lines = alt.Chart(_table(rows)).mark_line().encode(
        x=x, y=y, detail="trial:N", tooltip=[_tip("trial"), _tip("score", data.metric), _tip("axis", "parameter"), _tip("value")],
        color=alt.Color("score:Q", scale=alt.Scale(range="ramp", reverse=sort == "descending"), legend=None),
        strokeWidth=alt.when(hover).then(alt.value(3.5)).otherwise(alt.value(1.5)),
        opacity=alt.when(hover).then(alt.value(1)).otherwise(alt.value(faint)),
    ).add_params(hover)  # fmt: skip
    winner = alt.Chart(_table([row for row in rows if row["best"]])).mark_line(strokeWidth=3).encode(
        x=x, y=y, color=alt.value(LIGHT[0]), tooltip=[_tip("trial"), _tip("axis", "parameter"), _tip("value")]
    )  # fmt: skip
    labels = (
        alt.Chart(_table(marks))
        .mark_text(fontSize=10, align="left", dx=4)
        .encode(x=x, y=y, text="text:N", tooltip=alt.value(None))
    )
    note = "A line is a trial; the stronger, the better it did; the best one is orange. Logarithmic where searched so."
    return _chart(
        "parallel", "Parameters side by side", note, alt.layer(lines, winner, labels).properties(height=HEIGHT + 60)
    )


def curves(data: StudyData) -> Chart | None:
    """The score of each epoch of the trials, with their thaws."""
    order = sorted(data.scored, key=lambda trial: -data.space.goodness(data.score(trial) or 0.0))
    rest = order[BEST_CURVES:]
    kept = max(1, math.ceil(len(rest) / (CURVES - BEST_CURVES)))
    shown = [*order[:BEST_CURVES], *rest[::kept], *data.baselines]
    rows, thawed = list[dict[str, Any]](), list[dict[str, Any]]()
    for trial in shown:
        marks, scores = thaws(trial), trial.scores(data.metric)
        every = max(1, math.ceil(len(scores) / CURVE_POINTS))
        for epoch, score in enumerate(scores, start=1):
            if (epoch - 1) % every == 0 or epoch in (len(scores), *marks):
                row = {
                    "trial": trial.name + (f" ({trial.baseline})" if trial.baseline else ""),
                    "epoch": epoch,
                    "score": score,
                    "kind": _kind(data, trial),
                }
                rows.append(row)
                thawed += [row] if epoch in marks else []
    if not rows:
        return None
    hover = alt.selection_point(fields=["trial"], on="pointerover", empty=False)
    x = alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False, nice=False))
    faint = max(0.25, min(0.7, 20 / len(shown)))
    lines = alt.Chart(_table(rows)).mark_line(point=alt.OverlayMarkDef(size=14)).encode(
        x=x, y=_score(data), detail="trial:N", color=_colour(rows), tooltip=[_tip("trial"), _tip("kind", "status"), _tip("epoch"), _tip("score", data.metric)],
        strokeWidth=alt.when(hover).then(alt.value(3.5)).when(alt.datum.kind == "best").then(alt.value(3)).otherwise(alt.value(1.4)),
        opacity=alt.when(hover).then(alt.value(1)).when(alt.FieldOneOfPredicate("kind", ["best", "baseline"])).then(alt.value(1)).otherwise(alt.value(faint)),
    ).add_params(hover)  # fmt: skip
    marks = alt.Chart(_table(thawed)).mark_point(shape="triangle-up", size=80, filled=True).encode(
        x=x, y=_score(data), color=_colour(rows), tooltip=[_tip("trial"), _tip("epoch", "thawed in epoch")]
    )  # fmt: skip
    left_out = len(order) + len(data.baselines) - len(shown)
    note = "A triangle is an epoch in which stages thawed." + (
        f" The best {BEST_CURVES} and an even choice of the others: {left_out} are not drawn." if left_out else "")  # fmt: skip
    return _chart("curves", "Learning curves", note, alt.layer(lines, marks).properties(height=HEIGHT + 80))


def losses(data: StudyData) -> Chart | None:
    """The losses of the best trial."""
    if not (best := data.best) or not best.metrics:
        return None
    keys = sorted(
        {key for metrics in best.metrics for key in metrics if "/loss" in key}, key=lambda key: (len(key), key)
    )
    rows = [
        {"loss": key, "epoch": epoch, "value": metrics[key]}
        for epoch, metrics in enumerate(best.metrics, start=1)
        for key in keys[: len(LIGHT)]
        if key in metrics
    ]
    if not rows:
        return None
    x = alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False, nice=False))
    lines = alt.Chart(_table(rows)).mark_line(point=alt.OverlayMarkDef(size=20)).encode(
        x=x, y=alt.Y("value:Q", title="loss", scale=alt.Scale(zero=False)),
        color=alt.Color("loss:N", sort=keys, legend=alt.Legend(columns=2)),
        tooltip=[_tip("loss"), _tip("epoch"), _tip("value")],
    )  # fmt: skip
    drawn = alt.layer(lines, *[_rule(epoch - 0.5, "x") for epoch in thaws(best)]).properties(height=HEIGHT)
    return _chart("losses", f"Losses of {best.name}", "Dotted lines are thaws." if thaws(best) else "", drawn)


def statuses(data: StudyData) -> Chart | None:
    """How many trials came to which end, and what they took."""
    rows = list[dict[str, Any]]()
    for trial in data.trials:
        kind = "baseline" if trial.baseline else trial.status
        kind = "finished" if confirms(trial) else "interrupted" if kind == "waiting" else kind
        rows += [
            {"of": "trials", "kind": kind, "count": 1.0},
            {"of": f"{data.device}-seconds", "kind": kind, "count": data.device_seconds.get(trial.id, 0.0)},
        ]
    if not rows:
        return None
    sums: dict[tuple[str, str], float] = {}
    for row in rows:
        sums[row["of"], row["kind"]] = sums.get((row["of"], row["kind"]), 0.0) + row["count"]
    counted = [
        {"of": of, "kind": kind, "count": count, "order": KINDS.index(kind)} for (of, kind), count in sums.items()
    ]
    drawn = alt.Chart(_table(counted)).mark_bar(size=22).encode(
        y=alt.Y("of:N", sort=["trials", f"{data.device}-seconds"], title=None),
        x=alt.X("count:Q", stack="normalize", title=None, axis=alt.Axis(format="%")),
        order="order:Q", color=_colour(counted),
        tooltip=[_tip("of"), _tip("kind", "status"), alt.Tooltip("count:Q", format=",.0f")],
    )  # fmt: skip
    return _chart("statuses", "What became of the trials", "And what they took.", drawn.properties(height=90))


def number(value: float) -> str:
    """As people read it."""
    return f"{value:.3g}" if abs(value) < 0.01 or abs(value) >= 1000 else f"{value:.3f}"


def _rows(data: StudyData, trials: Iterable[Trial]) -> list[dict[str, Any]]:
    return [
        {
            "id": trial.id,
            "trial": trial.name,
            "score": data.score(trial),
            "kind": _kind(data, trial),
            "epochs": trial.epochs,
            "cost": data.device_seconds.get(trial.id, 0.0),
            "frozen": _text(trial.config.get(DEPTH)),
            "unfreeze": _text(trial.config.get(UNFREEZE)),
            "place": (index * 0.618034) % 1 - 0.5,
            "config": trial.config,
        }
        for index, trial in enumerate(trials)
    ]


def _kind(data: StudyData, trial: Trial) -> str:
    if trial is data.best:
        return "best"
    if trial.baseline:
        return "baseline"
    return "interrupted" if trial.status == "waiting" else trial.status


def _points(rows: list[dict[str, Any]], data: StudyData, x: alt.X) -> alt.Chart:
    """A mark for each trial."""
    return alt.Chart(_table(rows)).mark_point(opacity=0.85).encode(
        x=x, y=_score(data), **_kinds(rows),
        tooltip=[_tip("trial"), _tip("kind", "status"), _tip("score", data.metric), _tip("epochs"), _tip("frozen", "stages frozen"), _tip("unfreeze"),
                 alt.Tooltip("cost:Q", title=f"{data.device}-seconds", format=",.0f")],
    )  # fmt: skip


def _strip(rows: list[dict[str, Any]], data: StudyData, key: str, title: str, order: list[Any]) -> alt.Chart:
    """Trials in columns, and the middle one of each column."""
    x = alt.X(f"{key}:O", title=title, sort=order, axis=alt.Axis(labelAngle=0), scale=alt.Scale(paddingInner=0.2))
    points = _points(rows, data, x).encode(xOffset=alt.XOffset("place:Q", scale=alt.Scale(domain=[-0.7, 0.7])))
    middles = [{key: value, "score": float(np.median([row["score"] for row in rows if row[key] == value])),
                "trials": sum(row[key] == value for row in rows)} for value in order]  # fmt: skip
    ticks = alt.Chart(_table(middles)).mark_tick(thickness=2, size=34).encode(
        x=x, y=_score(data), tooltip=[_tip(key, title), _tip("score", "median"), _tip("trials")]
    )  # fmt: skip
    return alt.layer(ticks, points).properties(height=HEIGHT)


def _axis(data: StudyData, trials: Sequence[Trial], key: str) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each trial crosses an axis, in 0..1, and the words beside it."""
    if key == data.metric:
        column, names = np.array([data.score(trial) for trial in trials], dtype=float), None
    else:
        column, domain = values(data, trials, key), data.space.searched[key]
        names = [_text(value) for value in domain.categories] if isinstance(domain, Categorical) else None
        if names is None and "(log)" in data.words(key):
            column = np.log(column)
    low, high = (0.0, len(names) - 1.0) if names else (float(column.min()), float(column.max()))
    spread = (high - low) or 1.0
    if names:
        ends = [(place / spread, name) for place, name in enumerate(names)]
    else:
        shown = [data.score(trial) if key == data.metric else trial.config[key] for trial in trials]
        ends = [(0.0, _text(min(shown))), (1.0, _text(max(shown)))]
    return ((column - low) / spread).tolist(), ends


def _score(data: StudyData) -> alt.Y:
    return alt.Y("score:Q", title=data.metric, scale=alt.Scale(zero=False, nice=True))


def _kinds(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The colours and shapes of kinds, with a legend of those that are there."""
    there = {row["kind"] for row in rows}
    legend = alt.Legend(values=[kind for kind in KINDS if kind in there]) if len(there) > 1 else None
    return {
        "color": alt.Color("kind:N", scale=alt.Scale(domain=list(KINDS)), legend=legend),
        "shape": alt.Shape("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(SHAPES)), legend=legend),
    }


def _colour(rows: Iterable[dict[str, Any]]) -> alt.Color:
    return _kinds(rows)["color"]


def _plain() -> dict[str, Any]:
    """The same without a legend."""
    return _kinds([])


def _tip(field: str, title: str | None = None) -> alt.Tooltip:
    kinds = {"score": ".4f", "mean": ".4f", "low": ".4f", "high": ".4f"}
    if field in kinds:
        return alt.Tooltip(f"{field}:Q", title=title or field, format=kinds[field])
    return alt.Tooltip(f"{field}:N", title=title or field)


def _rule(at: float, axis: str = "x") -> alt.Chart:
    channel = alt.X("at:Q") if axis == "x" else alt.Y("at:Q")
    return (
        alt.Chart(_table([{"at": at}])).mark_rule(strokeDash=[2, 3]).encode(**{axis: channel}, tooltip=alt.value(None))
    )


def _table(rows: Sequence[dict[str, Any]]) -> alt.Data:
    kept = [{key: _short(value) for key, value in row.items() if key not in ("config", "id")} for row in rows]
    return alt.Data(values=kept)


def _short(value: Any) -> Any:
    """A number with the digits that can be seen; what is not finite as nothing."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _text(value: Any) -> str:
    return number(value) if isinstance(value, float) else "–" if value is None else str(value)


def _chart(key: str, title: str, note: str, drawn: Any) -> Chart:
    with alt.data_transformers.enable("default", max_rows=None, consolidate_datasets=False):
        spec = drawn.properties(width="container").to_dict()
    spec.pop("$schema", None)
    spec.pop("config", None)  # Altair's own; the page's theme takes its place
    return Chart(key, title, note, {**spec, "autosize": {"type": "fit-x", "contains": "padding"}})
