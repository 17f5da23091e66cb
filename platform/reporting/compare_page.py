"""HTML page that compares studies, with a warning where their scores cannot be compared."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from platform.reporting import charts, html_page, trial_marks
from platform.reporting.charts import Chart, values
from platform.reporting.parameter_importance import Importance, importances
from platform.reporting.study_data import StudyData
from platform.reporting.study_page import TIME
from platform.search.confirmation import scored
from platform.study.wording import as_text

MOST_IMPORTANT = 10  # parameters of each study


def write(studies: Sequence[StudyData], out: Path) -> None:
    """Write the page of two or more studies, of which the others are compared with the first."""
    titles = names(studies)
    found = {title: importances(data) for title, data in zip(titles, studies, strict=True)}
    drawn = [scores_chart(titles, studies), curves_chart(titles, studies), importance_chart(found)]
    shown = [chart for chart in drawn if chart]
    keys = {chart.key for chart in shown}
    text = html_page.render(
        "compare.html.j2",
        "comparison",
        shown,
        title=" and ".join(titles) if len(titles) == 2 else f"{len(titles)} studies",
        over="Studies side by side",
        under=", ".join(f"{title}: {data.state}" for title, data in zip(titles, studies, strict=True)) + ".",
        alarms=faults(titles, studies),
        sections=[
            ("scores", "Scores"),
            ("curves", "Learning curves"),
            ("configurations", "Best configurations"),
            ("parameters", "Parameters"),
            ("cost", "Cost"),
        ],
        made=f"Made on {time.strftime(TIME)} from the studies' event logs.",
        scores=_scores(titles, studies),
        confirmed=_confirmed(titles, studies),
        configurations=_configurations(titles, studies),
        has_importances="importance" in keys,
        without=[title for title, each in found.items() if not each],
        cost=_cost(titles, studies),
    )
    html_page.put(text, out)


def names(studies: Sequence[StudyData]) -> list[str]:
    """Return the names of the studies, numbered where they are the same."""
    plain = [data.name for data in studies]
    return [name if plain.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(plain, start=1)]


def faults(titles: Sequence[str], studies: Sequence[StudyData]) -> list[str]:
    """Return the reasons, in sentences, why scores of these studies must not be compared."""
    found = []
    questions = {
        "search for different metrics": [f"{data.metric} ({data.space.mode})" for data in studies],
        "have different data": [_fingerprint(data) for data in studies],
        "train different tasks": [data.facts.task for data in studies],
    }
    for what, answers in questions.items():
        if len(set(answers)) > 1:
            each = ", ".join(f"{title}: {answer[:16]}" for title, answer in zip(titles, answers, strict=True))
            found.append(f"Their scores cannot be compared: these studies {what} ({each}).")
    seeds = {str(data.request.get("seed", 0)) for data in studies}
    if len(seeds) > 1 and not found:
        found.append(
            "Their seeds differ, and so may their random splits of the data; small differences may come from that."
        )
    return found


def _fingerprint(data: StudyData) -> str:
    return data.facts.dataset.digest if data.facts.dataset else str(data.request.get("fingerprint", ""))


def scores_chart(titles: Sequence[str], studies: Sequence[StudyData]) -> Chart | None:
    """Draw the test score of each study's best config, with its interval if confirmed; None if metrics differ."""
    metric = studies[0].test_metric
    if len({(data.metric, data.space.mode) for data in studies}) > 1:
        return None
    rows = [row for title, data in zip(titles, studies, strict=True) for row in _tested(title, data, metric)]
    if not rows:
        return None
    y = alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=260, grid=True))
    scale = alt.Scale(zero=False, padding=24)
    tips = [charts.tip("what"), charts.tip("score", metric), charts.tip("low"), charts.tip("high")]
    base = alt.Chart(values(rows))
    marks = base.mark_point(size=110).encode(
        y=y, x=alt.X("score:Q", title=metric, scale=scale), tooltip=tips, **trial_marks.kinds(rows, legend=False)
    )
    labels = base.mark_text(dy=-13).encode(y=y, x="score:Q", text=alt.Text("score:Q", format=".3f"))
    sure = [row for row in rows if row["low"] is not None and row["high"] is not None]
    bars = alt.Chart(values(sure)).mark_rule(strokeWidth=3)
    bars = bars.encode(y=y, x="low:Q", x2="high:Q", color=trial_marks.kinds(rows, False)["color"])
    note = "Bars are 95 % intervals over the seeds of a confirmation. All other scores come from one seed."
    return charts.chart(
        "scores", "On the test split", note, alt.layer(*[bars] * bool(sure), marks, labels), 40 * len(rows) + 10
    )


def _tested(title: str, data: StudyData, metric: str) -> list[dict[str, Any]]:
    """Return the test scores of a study's best config, its confirmed one, its baselines and references."""
    judged, won = data.result.get("best"), data.confirmed_winner
    found = [("best", "best", judged["test_metrics"].get(metric), None, None)] if judged else []
    if won:
        found.append((f"{won['name']}, confirmed", "best", won["mean"], won["low"], won["high"]))
    found += [(name, "baseline", metrics.get(metric), None, None) for name, metrics in data.compared.items()]
    return [
        {"what": f"{title}: {name}", "kind": kind, "score": score, "low": low, "high": high}
        for name, kind, score, low, high in found
        if score is not None
    ]


def curves_chart(titles: Sequence[str], studies: Sequence[StudyData]) -> Chart | None:
    """Draw the learning curve of each study's best trial; None if metrics differ."""
    if len({data.metric for data in studies}) > 1:
        return None
    rows = [
        {"study": title, "trial": data.best.name, "epoch": epoch, "score": score}
        for title, data in zip(titles, studies, strict=True)
        if data.best
        for epoch, score in enumerate(data.best.scores(data.metric), start=1)
    ]
    if not rows:
        return None
    tips = [charts.tip("study"), charts.tip("trial"), charts.tip("epoch"), charts.tip("score", studies[0].metric)]
    lines = alt.Chart(values(rows)).mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=24))
    drawn = lines.encode(x=trial_marks.epoch(), y=trial_marks.score(studies[0]), color=_of_study(titles), tooltip=tips)
    return charts.chart("curves", "The best trial of each", "Its score after each epoch.", drawn, charts.HEIGHT + 60)


def importance_chart(found: Mapping[str, Sequence[Importance]]) -> Chart | None:
    """Draw the importances of parameters in each study."""
    largest: dict[str, float] = {}
    for each in (each for some in found.values() for each in some):
        largest[each.key] = max(largest.get(each.key, 0.0), each.share)
    order = sorted(largest, key=lambda key: -largest[key])[:MOST_IMPORTANT]
    rows = [
        {"study": title, "parameter": each.key, "share": each.share, "clear": "yes" if each.is_clear else "no"}
        for title, some in found.items()
        for each in some
        if each.key in order
    ]
    if not rows:
        return None
    tips = [charts.tip(key) for key in ("study", "parameter", "share")] + [charts.tip("clear", "more than chance")]
    bars = alt.Chart(values(rows)).mark_bar(cornerRadiusEnd=2)
    drawn = bars.encode(
        y=alt.Y("parameter:N", sort=order, title=None, axis=alt.Axis(labelLimit=170)),
        yOffset=alt.YOffset("study:N", sort=list(found)),
        x=alt.X("share:Q", title="share of the variance between trials", axis=alt.Axis(format="%")),
        color=_of_study(list(found)),
        opacity=alt.when(alt.datum.clear == "yes").then(alt.value(1)).otherwise(alt.value(0.45)),
        tooltip=tips,
    )
    note = "A random forest for each study. Pale bars are no larger than chance alone explains."
    height = len({row["parameter"] for row in rows}) * (10 + 12 * len(found))
    return charts.chart("importance", "Parameter importances", note, drawn, height)


def _of_study(titles: Sequence[str]) -> alt.Color:
    return alt.Color("study:N", sort=list(titles), legend=alt.Legend(columns=2))


def _scores(titles: Sequence[str], studies: Sequence[StudyData]) -> dict[str, Any]:
    """Return a row for each study, and one for each of its baselines and references."""
    rows = list[list[Any]]()
    keys = list(dict.fromkeys(data.test_metric for data in studies))
    searched = list(dict.fromkeys(data.metric for data in studies))
    for title, data in zip(titles, studies, strict=True):
        best, judged = data.best, data.result.get("best")
        own = [data.score(best) if best and key == data.metric else None for key in searched]
        tested = judged["test_metrics"] if judged else {}
        rows.append([title, best.name if best else "none yet", *own, *[tested.get(key) for key in keys]])
        for name, metrics in data.compared.items():
            rows.append([title, name, *[None] * len(searched), *[metrics.get(key) for key in keys]])
    return html_page.table(["study", "what", *searched, *keys], rows)


def _confirmed(titles: Sequence[str], studies: Sequence[StudyData]) -> dict[str, Any] | None:
    """Return the scores over several seeds of the configs that were confirmed."""
    rows = [
        [
            title,
            row["name"],
            confirmed["test_metric"],
            html_page.between(row["mean"], row["low"], row["high"]),
            scored(row),
        ]
        for title, data in zip(titles, studies, strict=True)
        if (confirmed := data.result.get("confirmation"))
        for row in confirmed["rows"]
    ]
    return html_page.table(["study", "what", "metric", "mean and 95 %", "seeds"], rows) if rows else None


def _configurations(titles: Sequence[str], studies: Sequence[StudyData]) -> dict[str, Any]:
    """Return the best configs; parameters that differ come first and are marked."""
    configs = [data.best.config if data.best else {} for data in studies]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differ = {key: len({repr(config.get(key)) for config in configs}) > 1 for key in keys}
    keys.sort(key=lambda key: not differ[key])
    rows = [[key, *[config.get(key) for config in configs]] for key in keys]
    return html_page.table(["parameter", *titles], rows, changed=lambda row, column: column > 0 and differ[keys[row]])


def _cost(titles: Sequence[str], studies: Sequence[StudyData]) -> dict[str, Any]:
    columns = ["study", "trials", "epochs", "pruned", "failed", "time", "GPU-time", "core-time", "saved by reuse"]
    rows = []
    for title, data in zip(titles, studies, strict=True):
        device, reuse = html_page.clock(sum(data.device_seconds.values())), data.reuse()
        rows.append(
            [
                title,
                len(data.trials),
                sum(trial.epochs for trial in data.trials),
                sum(trial.status == "pruned" for trial in data.trials),
                sum(trial.status == "failed" for trial in data.trials),
                html_page.clock(data.scores_over_time[-1][0] if data.scores_over_time else 0.0),
                device if data.on_gpus else None,
                None if data.on_gpus else device,
                html_page.clock(max(0.0, reuse["saved"])) if reuse else as_text(None),
            ]
        )
    return html_page.table(columns, rows)
