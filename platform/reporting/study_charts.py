"""Charts of one study: its result, its search and its cost. Charts of parameters are in `parameter_charts`."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from platform.reporting import charts, trial_marks
from platform.reporting.charts import Chart, values
from platform.reporting.parameter_charts import by_depth, by_schedule, by_unfreeze_at, importance, parallel
from platform.reporting.parameter_importance import Importance
from platform.reporting.study_data import StudyData, unfreezings
from platform.study.trials import Trial, rank

CURVES, BEST_CURVES = 150, 40  # that are drawn of a large study, and how many of them are its best
CURVE_POINTS = 60  # of a curve, at most
ROW = 44  # pixels


def all_charts(data: StudyData, importances: Sequence[Importance]) -> list[Chart]:
    """Return the charts for which a study has data."""
    found = [
        comparison(data),
        confirmation(data),
        over_time(data),
        by_cost(data),
        by_depth(data),
        by_schedule(data),
        by_unfreeze_at(data),
        importance(importances),
        parallel(data, importances),
        curves(data),
        losses(data),
        statuses(data),
    ]
    return [each for each in found if each]


def comparison(data: StudyData) -> Chart | None:
    """Draw the best config's test score beside baselines and references."""
    best, metric = data.result.get("best"), data.test_metric
    if not best or metric not in best["test_metrics"]:
        return None
    rows = [{"what": f"best: {best['name']}", "score": best["test_metrics"][metric], "kind": "best"}]
    rows += [{"what": k, "score": v[metric], "kind": "baseline"} for k, v in data.compared.items() if metric in v]
    drawn = alt.layer(charts.rule(rows[0]["score"]), *trial_marks.named_scores(rows, metric, [], label_limit=190))
    note = "The dotted line is the best configuration's score."
    return charts.chart("comparison", "On the test split", note, drawn, ROW * len(rows) + 10)


def confirmation(data: StudyData) -> Chart | None:
    """Draw means over seeds with their intervals, and each run, of the configs that were confirmed."""
    confirmed = data.result.get("confirmation")
    if not confirmed:
        return None
    metric = confirmed["test_metric"]
    rows, runs = list[dict[str, Any]](), list[dict[str, Any]]()
    for row in confirmed["rows"]:
        kind = "baseline" if row["kind"] == "baseline" else "best" if row["name"] == confirmed["winner"] else "finished"
        rows.append({"what": row["name"], "kind": kind, **{key: row[key] for key in ("mean", "low", "high")}})
        scores = [(run["seed"], (run.get("test_metrics") or {}).get(metric)) for run in row["runs"]]
        runs += [{"what": row["name"], "seed": seed, "score": score} for seed, score in scores if score is not None]
    if not runs:
        return None
    y = alt.Y("what:N", sort=[row["what"] for row in rows], title=None, axis=alt.Axis(labelLimit=190, grid=True))
    scale, tips = alt.Scale(zero=False, padding=16), [charts.tip(field) for field in ("what", "mean", "low", "high")]
    bars = trial_marks.intervals(rows, y=y, x=alt.X("low:Q", title=metric, scale=scale), tooltip=tips)
    known = alt.Chart(values([row for row in rows if row["mean"] is not None])).mark_point(size=130)
    colours = trial_marks.kinds(rows, legend=False)
    means = known.encode(y=y, x=alt.X("mean:Q", scale=scale), tooltip=tips, **colours)
    ticks = alt.Chart(values(runs)).mark_tick(size=16, thickness=1.5)
    run_tips = [charts.tip("what"), charts.tip("seed"), charts.tip("score", metric)]
    single = ticks.encode(y=y, x=alt.X("score:Q"), tooltip=run_tips)
    note = "Thin ticks are single seeds, the bar is the 95 % interval of their mean."
    drawn = alt.layer(*bars, single, *[means] * any(row["mean"] is not None for row in rows))
    return charts.chart("confirmation", "Repeated with several seeds", note, drawn, ROW * len(rows) + 10)


def over_time(data: StudyData) -> Chart | None:
    """Draw the score of each trial at its end, and the best score so far."""
    ends = {trial_id: seconds for seconds, trial_id, _ in data.scores_over_time}
    may_win = {trial.id for trial in data.scored}
    steps, best = list[dict[str, Any]](), None
    for seconds, trial_id, score in data.scores_over_time:
        if trial_id not in may_win or math.isnan(score):
            continue
        if best is None or data.space.as_maximised(score) > data.space.as_maximised(best):
            best = score
            steps.append({"minutes": seconds / 60, "score": score})
    if not steps:
        return None
    steps.append({**steps[-1], "minutes": data.scores_over_time[-1][0] / 60})
    rows = [row | {"minutes": ends[row["id"]] / 60} for row in trial_marks.rows_of(data, data.scored)]
    x = alt.X("minutes:Q", title="minutes of work on the study")
    line = alt.Chart(values(steps)).mark_line(interpolate="step-after", tooltip=None)
    drawn = alt.layer(line.encode(x=x, y=trial_marks.score(data)), trial_marks.points(rows, data, x))
    note = "Each mark is a trial at its end; the line is the best score so far, at each epoch."
    return charts.chart("over_time", "Score against time", note, drawn)


def by_cost(data: StudyData) -> Chart | None:
    """Draw the score of each trial against its cost."""
    rows = trial_marks.rows_of(data, data.scored)
    if not rows:
        return None
    drawn = trial_marks.points(rows, data, alt.X("cost:Q", title=f"{data.device}-seconds of the trial"))
    note = f"Cost of a trial: its time multiplied by its share of a {data.device}."
    if not data.on_gpus:
        note = "Cost of a trial: its time multiplied by its cores. No GPU was used."
    return charts.chart("by_cost", f"Score against {data.device}-seconds", note, drawn)


def curves(data: StudyData) -> Chart | None:
    """Draw the learning curves of the trials, with the epochs at which stages were unfrozen."""
    order = rank(data.scored, data.space)
    rest = order[BEST_CURVES:]
    shown = [*order[:BEST_CURVES], *rest[:: max(1, math.ceil(len(rest) / (CURVES - BEST_CURVES)))], *data.baselines]
    rows, unfrozen = list[dict[str, Any]](), list[dict[str, Any]]()
    for trial in shown:
        points, first_unfreeze = _curve(data, trial)
        rows, unfrozen = rows + points, unfrozen + first_unfreeze
    if not rows:
        return None
    tips = [charts.tip("trial"), charts.tip("kind", "status"), charts.tip("epoch"), charts.tip("score", data.metric)]
    axes = {"x": trial_marks.epoch(), "y": trial_marks.score(data), "color": trial_marks.kinds(rows)["color"]}
    axes["tooltip"] = tips
    faint = max(0.25, min(0.7, 20 / len(shown)))
    every, best = trial_marks.lines(rows, 1.4, faint, axes["color"], **axes)
    every = every.mark_line(point=alt.OverlayMarkDef(size=14) if len(shown) <= BEST_CURVES else False)
    marks = alt.Chart(values(unfrozen)).mark_point(shape="triangle-up", size=90).encode(**axes)
    drawn = alt.layer(every, best, *[marks] * bool(unfrozen))
    note = "A triangle is an epoch at which stages were unfrozen." if unfrozen else "Each line is a trial."
    if left_out := len(order) + len(data.baselines) - len(shown):
        note += f" The best {BEST_CURVES} trials and an even selection of the others are shown; "
        note += f"{left_out} are not drawn."
    return charts.chart("curves", "Score of each epoch", note, drawn, charts.HEIGHT + 80)


def _curve(data: StudyData, trial: Trial) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a trial's curve, thinned if it is long, and its points at which stages were unfrozen."""
    name, kind = trial_marks.name_of(trial), trial_marks.kind_of(data, trial)
    scores, first_unfreeze = trial.scores(data.metric), unfreezings(trial)
    every = max(1, math.ceil(len(scores) / CURVE_POINTS))
    epochs = [e for e in range(1, len(scores) + 1) if (e - 1) % every == 0 or e in (len(scores), *first_unfreeze)]
    rows = [{"trial": name, "epoch": e, "score": scores[e - 1], "kind": kind} for e in epochs]
    return rows, [row for row in rows if row["epoch"] in first_unfreeze]


def losses(data: StudyData) -> Chart | None:
    """Draw the losses of the best trial."""
    best = data.best
    every = {key for metrics in best.metrics for key in metrics if "/loss" in key} if best else set()
    keys = sorted(every, key=lambda key: (len(key), key))[: len(charts.LIGHT)]
    if best is None or not keys:
        return None
    rows = [
        {"loss": key, "epoch": number, "value": metrics[key]}
        for number, metrics in enumerate(best.metrics, start=1)
        for key in keys
        if key in metrics
    ]
    lines = alt.Chart(values(rows)).mark_line(point=alt.OverlayMarkDef(size=20))
    drawn = lines.encode(
        x=trial_marks.epoch(),
        y=alt.Y("value:Q", title="loss", scale=alt.Scale(zero=False)),
        color=alt.Color("loss:N", sort=keys, legend=alt.Legend(columns=2)),
        tooltip=[charts.tip("loss"), charts.tip("epoch"), charts.tip("value")],
    )
    first_unfreeze = unfreezings(best)
    note = "A dotted line is an epoch at which stages were unfrozen." if first_unfreeze else "Losses after each epoch."
    if left_out := len(every) - len(keys):
        note += f" {left_out} more losses are not drawn."
    return charts.chart("losses", f"Losses of {best.name}", note, alt.layer(drawn, *map(charts.rule, first_unfreeze)))


def statuses(data: StudyData) -> Chart | None:
    """Draw the shares of trials by status, in number and in cost."""
    sums: dict[tuple[str, str], float] = {}
    seconds = f"{data.device}-seconds"
    for trial in data.trials:
        kind = trial_marks.role_of(data, trial)
        for of, count in (("trials", 1.0), (seconds, data.device_seconds.get(trial.id, 0.0))):
            sums[of, kind] = sums.get((of, kind), 0.0) + count
    if not sums:
        return None
    rows: list[dict[str, Any]] = [
        {"of": of, "kind": kind, "cost": count, "order": trial_marks.KINDS.index(kind)}
        for (of, kind), count in sums.items()
    ]
    drawn = alt.Chart(values(rows)).mark_bar(size=22)
    drawn = drawn.encode(
        y=alt.Y("of:N", sort=["trials", seconds], title=None),
        x=alt.X("cost:Q", stack="normalize", title=None, axis=alt.Axis(format="%")),
        order="order:Q",
        color=trial_marks.kinds(rows)["color"],
        tooltip=[charts.tip("of"), charts.tip("kind", "status"), charts.tip("cost", "how many")],
    )
    note = "The upper bar counts trials, the lower one their cost."
    return charts.chart("statuses", "Trials by status", note, drawn, 90)
