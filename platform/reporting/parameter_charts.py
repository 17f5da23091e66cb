"""Charts of a study's parameters: score against freezing and unfreezing, importances, all parameters side by side."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from ray.tune.search.sample import Categorical

from platform.reporting import charts, parameter_effects, trial_marks
from platform.reporting.charts import Chart, values
from platform.reporting.parameter_effects import UNFREEZE, UNFREEZE_AT
from platform.reporting.parameter_importance import Importance
from platform.reporting.study_data import StudyData
from platform.space import DEPTH
from platform.study.trials import Trial
from platform.study.wording import as_text

AXES = 8  # parameters side by side, at most
LEAST_WIDTH, WORDS = 480, 90  # pixels that words between the axes need; that each of them gets


def by_depth(data: StudyData) -> Chart | None:
    """Draw the score of each trial against the number of stages it freezes at first."""
    rows = [row | {"depth": row["config"].get(DEPTH)} for row in trial_marks.rows_of(data, data.scored)]
    order = sorted({row["depth"] for row in rows if row["depth"] is not None})
    if not order:
        return None
    drawn = _strip(rows, data, "depth", "stages frozen at first", order)
    note = "The bar is the median; marks are spread sideways so that they do not overlap."
    return charts.chart("by_depth", "Score against freeze depth", note, drawn)


def by_schedule(data: StudyData) -> Chart | None:
    """Draw the score of each trial against its unfreezing schedule."""
    frozen = [trial for trial in data.scored if UNFREEZE in trial.config and trial.config.get(DEPTH, 1)]
    rows = [row | {"schedule": str(row["config"][UNFREEZE])} for row in trial_marks.rows_of(data, frozen)]
    if not rows:
        return None
    tried = {row["schedule"] for row in rows}
    order = [str(value) for value in data.space.values(UNFREEZE) if str(value) in tried]
    drawn = _strip(rows, data, "schedule", "unfreezing schedule", order)
    note = "Only trials that froze anything. The bar is the median."
    return charts.chart("by_schedule", "Score against unfreezing schedule", note, drawn)


def by_unfreeze_at(data: StudyData) -> Chart | None:
    """Draw the score of each unfreezing trial against the time when its first stage unfreezes."""
    unfreezing = [trial for trial in data.scored if trial.first_unfreeze is not None and UNFREEZE_AT in trial.config]
    rows = [row | {"unfreeze": row["config"][UNFREEZE_AT]} for row in trial_marks.rows_of(data, unfreezing)]
    if not rows:
        return None
    axis, scale = alt.Axis(format="%"), alt.Scale(zero=False, padding=8)
    x = alt.X("unfreeze:Q", title="start of unfreezing, as a share of the budget", axis=axis, scale=scale)
    note = "Only trials that unfreeze. A trial that was pruned before that point never trained unfrozen."
    return charts.chart("by_unfreeze_at", "Score against start of unfreezing", note, trial_marks.points(rows, data, x))


def importance(found: Sequence[Importance]) -> Chart | None:
    """Draw the importance of each parameter."""
    if not found:
        return None
    rows = [{"parameter": each.key, "share": each.share} for each in found]
    bars = trial_marks.shares(rows, [charts.tip("parameter"), charts.tip("share")], size=12)
    note = f"Random forest over {found[0].trials} trials. Chance alone reaches the dotted line."
    drawn = alt.layer(bars, charts.rule(found[0].chance))
    return charts.chart("importance", "Parameter importances", note, drawn, 20 * len(rows) + 10)


def parallel(data: StudyData, importances: Sequence[Importance]) -> Chart | None:
    """Draw each trial as a line through its parameters, the most important ones first, to its score."""
    trials, keys = data.scored, [each.key for each in importances] or list(data.space.searched)
    keys = [key for key in keys if len({repr(trial.config[key]) for trial in trials}) > 1][:AXES]
    if len(trials) < 2 or not keys:
        return None
    heights, words = dict[str, list[float]](), list[dict[str, Any]]()
    for key in [*keys, data.metric]:
        heights[key], beside = _axis(data, trials, key)
        words += [{"axis": key, "height": height, "text": text} for height, text in beside]
    rows = [
        {
            "trial": trial.name,
            "axis": key,
            "height": heights[key][place],
            "score": data.score(trial),
            "is": as_text(data.score(trial) if key == data.metric else trial.config[key]),
            "kind": trial_marks.kind_of(data, trial),
        }
        for place, trial in enumerate(trials)
        for key in heights
    ]
    axis = alt.Axis(labelAngle=-35, labelLimit=110, domain=False, ticks=False, grid=True)
    x = alt.X("axis:N", sort=list(heights), title=None, axis=axis, scale=alt.Scale(padding=0.3))
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    tips = [charts.tip("trial"), charts.tip("score", data.metric), charts.tip("axis", "parameter"), charts.tip("is")]
    ramp = alt.Scale(range="ramp", reverse=data.space.mode == "min")
    faint = max(0.15, min(0.8, 20 / len(trials)))
    color = alt.Color("score:Q", scale=ramp, legend=None)
    orange = trial_marks.kinds(rows, legend=False)["color"]
    every, best = trial_marks.lines(rows, 1.5, faint, orange, x=x, y=y, tooltip=tips, color=color)
    style: dict[str, Any] = {"fontSize": 10, "align": "left", "dx": 4, "limit": WORDS, "tooltip": None}
    labels = alt.Chart(values(words)).mark_text(opacity=alt.expr(f"width < {LEAST_WIDTH} ? 0 : 1"), **style)
    drawn = alt.layer(every.mark_line(), best, labels.encode(x=x, y=y, text="text:N"))
    drawn = drawn.resolve_scale(color="independent")
    note = "Each line is a trial, stronger for a better score; the best is orange. Log scales follow the space."
    return charts.chart("parallel", "Parameters side by side", note, drawn, charts.HEIGHT + 60)


def _strip(rows: list[dict[str, Any]], data: StudyData, key: str, title: str, order: list[Any]) -> Any:
    """Draw trials in columns, with the median of each column."""
    x = alt.X(f"{key}:O", title=title, sort=order, axis=alt.Axis(labelAngle=0), scale=alt.Scale(paddingInner=0.2))
    aside = alt.XOffset("place:Q", scale=alt.Scale(domain=[-0.7, 0.7]))
    columns = {value: [row["score"] for row in rows if row[key] == value] for value in order}
    middles = [{key: each, "score": float(np.median(own)), "trials": len(own)} for each, own in columns.items()]
    ticks = alt.Chart(values(middles)).mark_tick(thickness=2, size=34)
    tips = [charts.tip(key, title), charts.tip("score", "median"), charts.tip("trials")]
    marks = trial_marks.points(rows, data, x).encode(xOffset=aside)
    return alt.layer(ticks.encode(x=x, y=trial_marks.score(data), tooltip=tips), marks)


def _axis(data: StudyData, trials: Sequence[Trial], key: str) -> tuple[list[float], list[tuple[float, str]]]:
    """Return the height in 0..1 at which each trial crosses an axis, and the labels of the axis with their heights."""
    if key == data.metric:
        column = values_shown = np.array([data.score(trial) for trial in trials], dtype=float)
    else:
        column = values_shown = parameter_effects.parameter_values(data, trials, key)
        domain = data.space.searched[key]
        if isinstance(domain, Categorical):
            last = max(1, len(domain.categories) - 1)
            return (column / last).tolist(), [(n / last, as_text(each)) for n, each in enumerate(domain.categories)]
        if data.words[key].endswith("(log)"):
            column = np.log(column)
    low, spread = column.min(), (column.max() - column.min()) or 1.0
    kind = int if isinstance(trials[0].config.get(key), int) else float
    ends = [(0.0, as_text(kind(values_shown.min()))), (1.0, as_text(kind(values_shown.max())))]
    return ((column - low) / spread).tolist(), ends
