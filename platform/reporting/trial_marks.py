"""Marks of trials in charts: one for each trial, with a colour and a shape for each kind."""

from collections.abc import Iterable
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
    tips += [
        charts.tip("frozen", "stages frozen"),
        charts.tip("unfreeze"),
        charts.tip("cost", f"{data.device}-seconds"),
    ]
    drawn = alt.Chart(charts.values(rows)).mark_point(opacity=0.85)
    return drawn.encode(x=x, y=score(data), tooltip=tips, **kinds(rows))


def score(data: StudyData) -> alt.Y:
    """Return the axis of scores."""
    return alt.Y("score:Q", title=data.metric, scale=alt.Scale(zero=False, nice=True))


def epoch() -> alt.X:
    """Return the axis of epochs."""
    axis = alt.Axis(
        tickMinStep=1, labelExpr="datum.value % 1 ? '' : datum.label"
    )  # Vega labels half epochs where there are few
    return alt.X("epoch:Q", title="epoch", axis=axis, scale=alt.Scale(zero=False, nice=False))


def kinds(rows: Iterable[dict[str, Any]], legend: bool = True) -> dict[str, Any]:
    """Return colours and shapes by kind, with a legend of the kinds that occur."""
    there = {row["kind"] for row in rows}
    shown = alt.Legend(values=[kind for kind in KINDS if kind in there]) if legend and len(there) > 1 else None
    return {
        "color": alt.Color("kind:N", scale=alt.Scale(domain=list(KINDS)), legend=shown),
        "shape": alt.Shape("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(SHAPES)), legend=shown),
    }
