"""Marks of trials in charts: one for each trial, with a colour and a shape for each kind."""

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from platform.reporting import charts
from platform.reporting.study_data import StudyData
from platform.study.trials import Trial
from platform.study.wording import as_text

KINDS = ("best", "finished", "pruned", "failed", "interrupted", "running", "baseline", "confirmation")
SHAPES = ("diamond", "circle", "triangle-down", "cross", "triangle-right", "triangle-up", "square", "wedge")


def rows_of(data: StudyData, trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Return the fields of each trial that charts use."""
    return [
        {
            "id": trial.id,
            "trial": name_of(trial),
            "score": data.score(trial),
            "kind": kind_of(data, trial),
            "epochs": trial.epochs,
            "cost": data.device_seconds.get(trial.id, 0.0),
            "frozen": as_text(trial.config.get("freeze_depth")),
            "unfreeze": as_text(trial.config.get("unfreeze")),
            "place": (index * 0.618034) % 1 - 0.5,  # sideways, where trials share a column
            "config": trial.config,
        }
        for index, trial in enumerate(trials)
    ]


def name_of(trial: Trial) -> str:
    """Return a trial's name, with that of its baseline."""
    return f"{trial.name} ({trial.baseline})" if trial.baseline else trial.name


def kind_of(data: StudyData, trial: Trial) -> str:
    """Return the kind of a trial, one of KINDS."""
    return "best" if trial is data.best else role_of(data, trial)


def role_of(data: StudyData, trial: Trial) -> str:
    """Return the kind of a trial, one of KINDS, without marking the best one."""
    if trial.confirms:
        return "confirmation"
    if trial.baseline:
        return "baseline"
    if trial.status == "waiting":
        return "interrupted" if data.closed else "running"
    return trial.status


def points(rows: list[dict[str, Any]], data: StudyData, x: alt.X) -> alt.Chart:
    """Return a chart with a mark for each trial."""
    tips = [charts.tip("trial"), charts.tip("kind", "status"), charts.tip("score", data.metric), charts.tip("epochs")]
    tips += [charts.tip("frozen", "stages frozen"), charts.tip("unfreeze")]
    tips += [charts.tip("cost", f"{data.device}-seconds")]
    drawn = alt.Chart(charts.values(rows)).mark_point(opacity=0.85)
    return drawn.encode(x=x, y=score(data), tooltip=tips, **kinds(rows))


def named_scores(rows: list[dict[str, Any]], metric: str, tips: Sequence[alt.Tooltip], label_limit: int) -> list[Any]:
    """Return a mark and a label for each score, below each other by "what" they are of."""
    base = alt.Chart(charts.values(rows)).encode(
        y=what(label_limit),
        x=alt.X("score:Q", title=metric, scale=alt.Scale(zero=False, padding=24)),
        tooltip=[charts.tip("what"), charts.tip("score", metric), *tips],
    )
    marks = base.mark_point(size=110).encode(**kinds(rows, legend=False))
    return [marks, base.mark_text(dy=-13).encode(text=alt.Text("score:Q", format=".3f"))]


def intervals(rows: list[dict[str, Any]], **encoding: Any) -> list[Any]:
    """Return a bar for each row with an interval, in a list that is empty where there is none."""
    sure = [row for row in rows if row["low"] is not None and row["high"] is not None]
    bars = alt.Chart(charts.values(sure)).mark_rule(strokeWidth=3)
    usual = {"y": what(), "x": "low:Q", "x2": "high:Q", "color": kinds(rows, legend=False)["color"]}
    return [bars.encode(**{**usual, **encoding})] if sure else []


def what(label_limit: int = 260) -> alt.Y:
    """Return the axis of names, in the order of the rows."""
    return alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=label_limit, grid=True))


def shares(rows: list[dict[str, Any]], tips: Sequence[alt.Tooltip], order: Any = None, **mark: Any) -> alt.Chart:
    """Return a bar for each parameter's share of the variance, in an order of parameters or in that of the rows."""
    bars = alt.Chart(charts.values(rows)).mark_bar(cornerRadiusEnd=2, **mark)
    return bars.encode(
        y=alt.Y("parameter:N", sort=order, title=None, axis=alt.Axis(labelLimit=170)),
        x=alt.X("share:Q", title="share of the variance between trials", axis=alt.Axis(format="%")),
        tooltip=tips,
    )


def lines(rows: list[dict[str, Any]], thin: float, faint: float, best: alt.Color, **encoding: Any) -> list[alt.Chart]:
    """Return a thin line for each trial, thick under the pointer, and a thick one of the colour `best` for the best."""
    hover = alt.selection_point(fields=["trial"], on="pointerover", empty=False)
    kept, full = alt.FieldOneOfPredicate("kind", ["best", "baseline"]), alt.value(1)
    every = alt.Chart(charts.values(rows)).encode(
        **encoding,
        detail="trial:N",
        strokeWidth=alt.when(hover).then(alt.value(3.5)).otherwise(alt.value(thin)),
        strokeOpacity=alt.when(hover).then(full).when(kept).then(full).otherwise(alt.value(faint)),
    )
    thick = alt.Chart(charts.values([row for row in rows if row["kind"] == "best"])).mark_line(strokeWidth=3)
    return [every.add_params(hover), thick.encode(**{**encoding, "color": best})]


def score(data: StudyData) -> alt.Y:
    """Return the axis of scores."""
    return alt.Y("score:Q", title=data.metric, scale=alt.Scale(zero=False, nice=True))


def epoch() -> alt.X:
    """Return the axis of epochs."""
    # Vega labels half epochs where there are few.
    axis = alt.Axis(tickMinStep=1, labelExpr="datum.value % 1 ? '' : datum.label")
    return alt.X("epoch:Q", title="epoch", axis=axis, scale=alt.Scale(zero=False, nice=False))


def kinds(rows: Iterable[dict[str, Any]], legend: bool = True) -> dict[str, Any]:
    """Return colours and shapes by kind, with a legend of the kinds that occur."""
    there = {row["kind"] for row in rows}
    shown = alt.Legend(values=[kind for kind in KINDS if kind in there]) if legend and len(there) > 1 else None
    return {
        "color": alt.Color("kind:N", scale=alt.Scale(domain=list(KINDS)), legend=shown),
        "shape": alt.Shape("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(SHAPES)), legend=shown),
    }
