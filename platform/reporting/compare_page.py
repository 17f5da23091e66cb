"""HTML page that compares studies, with a warning where their scores cannot be compared."""

import time
from collections.abc import Iterable, Mapping, Sequence
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
    named = dict(zip(names(studies), studies, strict=True))
    found = {title: importances(data) for title, data in named.items()}
    charts = [chart for chart in (scores_chart(named), curves_chart(named), importance_chart(found)) if chart]
    text = html_page.render(
        "compare.html.j2",
        "comparison",
        charts,
        title=" and ".join(named) if len(named) == 2 else f"{len(named)} studies",
        over="Studies side by side",
        under=", ".join(f"{title}: {data.state}" for title, data in named.items()) + ".",
        alarms=faults(named),
        sections=[
            ("scores", "Scores"),
            ("curves", "Learning curves"),
            ("configurations", "Best configurations"),
            ("parameters", "Parameters"),
            ("cost", "Cost"),
        ],
        made=f"Made on {time.strftime(TIME)} from the studies' event logs.",
        scores=_scores(named),
        confirmed=_confirmed(named),
        configurations=_configurations(named),
        without=[title for title, each in found.items() if not each],
        cost=_cost(named),
    )
    html_page.put(text, out)


def names(studies: Sequence[StudyData]) -> list[str]:
    """Return the names of the studies, numbered where they are the same."""
    plain = [data.name for data in studies]
    return [name if plain.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(plain, start=1)]


def faults(studies: Mapping[str, StudyData]) -> list[str]:
    """Return the reasons, in sentences, why scores of these studies must not be compared."""
    found = []
    questions = {
        "search for different metrics": [f"{data.metric} ({data.space.mode})" for data in studies.values()],
        "have different data": [_fingerprint(data) for data in studies.values()],
        "train different tasks": [data.facts.task for data in studies.values()],
    }
    for what, answers in questions.items():
        if len(set(answers)) > 1:
            each = ", ".join(f"{title}: {answer[:16]}" for title, answer in zip(studies, answers, strict=True))
            found.append(f"Their scores cannot be compared: these studies {what} ({each}).")
    seeds = {str(data.request.get("seed", 0)) for data in studies.values()}
    if len(seeds) > 1 and not found:
        text = "Their seeds differ, and so may their random splits of the data; small differences may come from that."
        found.append(text)
    return found


def _fingerprint(data: StudyData) -> str:
    return data.facts.dataset.digest if data.facts.dataset else str(data.request.get("fingerprint", ""))


def scores_chart(studies: Mapping[str, StudyData]) -> Chart | None:
    """Draw the test score of each study's best config, with its interval if confirmed; None if metrics differ."""
    metric = next(iter(studies.values())).test_metric
    if len({(data.metric, data.space.mode) for data in studies.values()}) > 1:
        return None
    rows = [row for title, data in studies.items() for row in _tested(title, data, metric)]
    if not rows:
        return None
    tips = [charts.tip("low"), charts.tip("high")]
    drawn = [*trial_marks.intervals(rows), *trial_marks.named_scores(rows, metric, tips, label_limit=260)]
    note = "Bars are 95 % intervals over the seeds of a confirmation. All other scores come from one seed."
    return charts.chart("scores", "On the test split", note, alt.layer(*drawn), 40 * len(rows) + 10)


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


def curves_chart(studies: Mapping[str, StudyData]) -> Chart | None:
    """Draw the learning curve of each study's best trial; None if metrics differ."""
    rows = [
        {"study": title, "trial": data.best.name, "epoch": epoch, "score": score}
        for title, data in studies.items()
        if data.best
        for epoch, score in enumerate(data.best.scores(data.metric), start=1)
    ]
    if not rows or len({data.metric for data in studies.values()}) > 1:
        return None
    first = next(iter(studies.values()))
    tips = [charts.tip("study"), charts.tip("trial"), charts.tip("epoch"), charts.tip("score", first.metric)]
    lines = alt.Chart(values(rows)).mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=24))
    drawn = lines.encode(x=trial_marks.epoch(), y=trial_marks.score(first), color=_of_study(studies), tooltip=tips)
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
    drawn = trial_marks.shares(rows, tips, order).encode(
        yOffset=alt.YOffset("study:N", sort=list(found)),
        color=_of_study(found),
        opacity=alt.when(alt.datum.clear == "yes").then(alt.value(1)).otherwise(alt.value(0.45)),
    )
    note = "A random forest for each study. Pale bars are no larger than chance alone explains."
    height = len({row["parameter"] for row in rows}) * (10 + 12 * len(found))
    return charts.chart("importance", "Parameter importances", note, drawn, height)


def _of_study(titles: Iterable[str]) -> alt.Color:
    return alt.Color("study:N", sort=list(titles), legend=alt.Legend(columns=2))


def _scores(studies: Mapping[str, StudyData]) -> dict[str, Any]:
    """Return a row for each study, and one for each of its baselines and references."""
    rows = list[list[Any]]()
    keys = list(dict.fromkeys(data.test_metric for data in studies.values()))
    searched = list(dict.fromkeys(data.metric for data in studies.values()))
    for title, data in studies.items():
        best, judged = data.best, data.result.get("best")
        own = [data.score(best) if best and key == data.metric else None for key in searched]
        tested = judged["test_metrics"] if judged else {}
        rows.append([title, best.name if best else "none yet", *own, *[tested.get(key) for key in keys]])
        for name, metrics in data.compared.items():
            rows.append([title, name, *[None] * len(searched), *[metrics.get(key) for key in keys]])
    return html_page.table(["study", "what", *searched, *keys], rows)


def _confirmed(studies: Mapping[str, StudyData]) -> dict[str, Any] | None:
    """Return the scores over several seeds of the configs that were confirmed."""
    rows = [
        [title, row["name"], confirmed["test_metric"], html_page.mean_and_interval(row), scored(row)]
        for title, data in studies.items()
        if (confirmed := data.result.get("confirmation"))
        for row in confirmed["rows"]
    ]
    return html_page.table(["study", "what", "metric", "mean and 95 %", "seeds"], rows) if rows else None


def _configurations(studies: Mapping[str, StudyData]) -> dict[str, Any]:
    """Return the best configs; parameters that differ come first and are marked."""
    configs = [data.best.config if data.best else {} for data in studies.values()]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differ = {key: len({repr(config.get(key)) for config in configs}) > 1 for key in keys}
    keys.sort(key=lambda key: not differ[key])
    rows = [[key, *[config.get(key) for config in configs]] for key in keys]
    return html_page.table(["parameter", *studies], rows, changed=lambda row, column: column > 0 and differ[keys[row]])


def _cost(studies: Mapping[str, StudyData]) -> dict[str, Any]:
    columns = ["study", "trials", "epochs", "pruned", "failed", "time", "GPU-time", "core-time", "saved by reuse"]
    rows = []
    for title, data in studies.items():
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
