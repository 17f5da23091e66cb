"""HTML page of one study."""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from platform.errors import last_line
from platform.reporting import html_page
from platform.reporting.advice import advice
from platform.reporting.charts import Chart
from platform.reporting.parameter_effects import LEAST_TRIALS, effects
from platform.reporting.parameter_importance import Importance, importances
from platform.reporting.study_charts import all_charts
from platform.reporting.study_data import StudyData
from platform.search.confirmation import scored
from platform.study.request import FIGURES
from platform.study.trials import Trial
from platform.study.wording import as_text, counted
from platform.task import PER_CLASS

DRAWN_AS_CHARTS = ("comparison", "confirmation", "learning_curves")  # pictures that the page has as charts
MOST_PICTURES, MOST_TEXT = 24, 20_000  # pictures; characters of a report
TIME = "%Y-%m-%d %H:%M"


def html(data: StudyData, charts: Sequence[Chart], found: Sequence[Importance]) -> str:
    """Return the page of a study with its charts and the importances of its parameters."""
    facts, result = data.facts, data.result
    best, judged = data.best, result.get("best")
    files = sorted((data.folder / FIGURES).glob("*.png")) if judged else []
    pictures = [file for file in files if file.stem not in DRAWN_AS_CHARTS]
    texts = sorted((data.folder / FIGURES).glob("*.txt")) if judged else []
    return html_page.render(
        "report.html.j2",
        data.name,
        charts,
        title=data.name,
        over=f"{facts.task} · {data.state}",
        under=_under(data),
        alarms=_alarms(data),
        sections=_sections(data, bool(pictures or texts)),
        made=f"Made on {time.strftime(TIME)} from the study's event log.",
        task=facts.task,
        figures=_headline(data),
        nothing=_why_nothing(data),
        advice=advice(data, effects(data), found),
        best=_best(data, best) if best else None,
        has_scores=bool(data.scored),
        has_enough_trials=len(data.scored) >= LEAST_TRIALS,
        scores=_scores(data) if judged else None,
        more_scores=_more_scores(judged) if judged else None,
        left_out=result.get("left_out", []),
        confirmation=_confirmation(result["confirmation"]) if result.get("confirmation") else None,
        cost=_cost(data),
        cost_lines=_cost_lines(data),
        pictures=[html_page.picture(file) for file in pictures[:MOST_PICTURES]],
        pictures_left_out=pictures[MOST_PICTURES:],
        texts=[{"title": file.stem.replace("_", " "), "text": _text(file)} for file in texts],
        trials=_trials(data),
        troubles=_troubles(data),
        data_lines=_data_lines(data),
        findings=data.findings,
        origin=_origin(data),
    )


def _sections(data: StudyData, has_pictures: bool) -> list[tuple[str, str]]:
    every = {"advice": "What the trials show", "result": "Best configuration", "confirmation": "Several seeds",
             "freezing": "Freezing", "parameters": "Parameters", "curves": "Learning curves", "cost": "Cost",
             "pictures": "Pictures", "trials": "All trials", "data": "Data", "origin": "Origin"}  # fmt: skip
    absent = {"result", "confirmation"} if not data.best else set()
    absent |= {"freezing", "parameters", "curves"} if not data.scored else set()
    absent |= {"pictures"} if not has_pictures else set()
    return [(key, name) for key, name in every.items() if key not in absent]


def _under(data: StudyData) -> str:
    when = time.strftime(TIME, time.localtime(data.began_ms / 1000))
    dataset = f" on {data.facts.dataset.name}" if data.facts.dataset else ""
    again = sum(bool(trial.confirms) for trial in data.trials)
    first = len(data.trials) - again
    proposed = data.space.trials
    count = counted(first, "trial") if data.closed == "FINISHED" else f"{first} of {counted(proposed, 'trial')}"
    count += f" and {counted(again, 'confirmation')}" if again else ""
    text = f"{count}{dataset}, begun {when}; {'largest' if data.space.mode == 'max' else 'smallest'} {data.metric} wins"
    if not data.closed:
        last = time.strftime(TIME, time.localtime(data.last_event_ms / 1000))
        text += f". It was running when this page was made, or its process was killed; its event log ends at {last}"
    return f"{text}."


def _alarms(data: StudyData) -> list[str]:
    found = [str(each) for each in data.result.get("alarms") or []]
    if stopped := data.result.get("stopped"):
        found.append(f"The study had to stop: {stopped}")
    if lost := data.result.get("undelivered"):
        found.append(f"{lost} events did not reach MLflow: {data.result.get('undelivered_reason', '')}")
    return found


def _why_nothing(data: StudyData) -> str:
    if any(trial.status == "failed" for trial in data.searched):
        return "No searched trial has succeeded."
    if any(trial.epochs for trial in data.searched):
        return f"No epoch of a searched trial has a score: {data.metric} is missing or not a number in all of them."
    return "No searched trial has finished an epoch yet, so there is nothing to show."


def _headline(data: StudyData) -> list[dict[str, str]]:
    """Return the best config's scores beside those of baselines and references."""
    if not (best := data.best):
        return []
    validation = {"name": data.metric, "value": as_text(data.score(best)), "more": f"{best.name}, best epoch"}
    judged, metric = data.result.get("best"), data.test_metric
    if not judged:
        return [{**validation, "more": f"{best.name}, the best so far; not scored on the test split yet"}]
    test = {"name": metric, "value": as_text(judged["test_metrics"].get(metric)), "more": best.name}
    if won := data.confirmed_winner:
        over = f"over {scored(won)} seeds: {html_page.mean_and_interval(won)}"
        test["more"] += f", {over}" if won["trial_id"] == judged["trial_id"] else f"; {won['name']} {over}"
    beside = [{"name": name, "value": as_text(metrics[metric]), "more": metric}
              for name, metrics in data.compared.items() if metric in metrics]  # fmt: skip
    return [test, validation, *beside]


def _best(data: StudyData, best: Trial) -> dict[str, Any]:
    start = data.searched[0].config if data.searched else {}
    rows = [[key, value, start.get(key), data.words.get(key)] for key, value in best.config.items()]
    config = html_page.table(
        ["parameter", "best", "start", "searched in, or fixed to"],
        rows,
        changed=lambda row, column: column == 1 and rows[row][1] != rows[row][2],
    )
    epoch = best.best_epoch(data.space)
    text = f"{best.name[:1].upper()}{best.name[1:]} was at its best after epoch {epoch} of {data.space.max_epochs}."
    return {"text": text, "config": config}


def _scores(data: StudyData) -> dict[str, Any]:
    best = data.result["best"]
    rows = {f"best ({best['name']})": best["test_metrics"], **data.compared}
    keys = [key for key in best["test_metrics"] if PER_CLASS not in key]
    values = [[name, *[metrics.get(key) for key in keys]] for name, metrics in rows.items()]
    return html_page.table(["", *keys], values, best=0)


def _more_scores(best: Mapping[str, Any]) -> dict[str, Any] | None:
    rest = [[key, value] for key, value in best["test_metrics"].items() if PER_CLASS in key]
    return html_page.table(["", "test split"], rest) if rest else None


def _confirmation(confirmed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of the configs that were trained over several seeds."""
    metric, rows = confirmed["test_metric"], confirmed["rows"]
    against = list(dict.fromkeys(itertools.chain.from_iterable(row.get("against") or {} for row in rows)))
    seeds = confirmed["seeds"]
    values = []
    for row in rows:
        runs = {run["seed"]: run for run in row["runs"]}
        single = [_run(runs.get(seed), metric) for seed in seeds]
        beside = [_lead((row.get("against") or {}).get(name)) for name in against]
        values.append([row["name"], html_page.mean_and_interval(row), *single, *beside])
    columns = ["", f"{metric}, mean and 95 %", *[f"seed {s}" for s in seeds], *[f"against {name}" for name in against]]
    best = next((place for place, row in enumerate(rows) if row["name"] == confirmed["winner"]), -1)
    table = html_page.table(columns, values, best=best)
    return {"verdict": confirmed["verdict"], "note": confirmed["note"], "table": table}


def _run(run: Mapping[str, Any] | None, metric: str) -> Any:
    if not run:
        return None
    score = (run.get("test_metrics") or {}).get(metric)
    return run["status"] if score is None else score


def _lead(lead: Mapping[str, Any] | None) -> str:
    if not lead:
        return "–"
    if lead.get("same"):  # missing in older studies
        return "the same configuration"
    p = "" if lead.get("p") is None else f", p {lead['p']:.2g}"
    return html_page.mean_and_interval(lead, "+") + p


def _cost(data: StudyData) -> list[dict[str, str]]:
    worked = data.scores_over_time[-1][0] if data.scores_over_time else 0.0
    device, reuse, spent = sum(data.device_seconds.values()), data.reuse(), data.result.get("spent")
    costs = [{"name": "time", "value": html_page.clock(worked), "more": "to its last epoch, without pauses"},
            {"name": f"{data.device}-time of all trials", "value": html_page.clock(device), "more": ""}]  # fmt: skip
    if spent and spent["total"]:
        costs.append({"name": "paid for nodes", "value": f"{spent['total']:.2f} USD", "more": ""})
    pruned = [trial for trial in data.searched if trial.status == "pruned"]
    spared = sum(data.space.max_epochs - trial.epochs for trial in pruned)
    if spared:
        more = f"{len(pruned)} of {len(data.searched)} trials were pruned"
        costs.append({"name": "epochs saved by pruning", "value": str(spared), "more": more})
    if reuse:
        more = f"{reuse['loaded']:,.0f} outputs of frozen stages were loaded, {reuse['computed']:,.0f} computed"
        saved = html_page.clock(max(0.0, reuse["saved"]))
        costs.append({"name": "core-time saved by reuse", "value": saved, "more": more})
    return costs


def _cost_lines(data: StudyData) -> list[str]:
    lines = []
    if spent := data.result.get("spent"):
        lines += [f"Nodes: {', '.join(f'{hours:.2f} h of {kind}' for kind, hours in spent['hours'].items())}."]
    without = (data.result.get("reuse") or {}).get("without", {})
    lines += [f"{name}: {note}" for name, note in list(without.items())[:5]]
    lines += [f"{len(without) - 5} more trials ran without the feature store."] if len(without) > 5 else []
    return lines


def _text(file: Path) -> str:
    """Return a text report of the task, truncated if it is long."""
    text = file.read_text(encoding="utf-8", errors="replace")
    rest = f"\n… {len(text) - MOST_TEXT:,} more characters are in {file.name}"
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + rest


def _trials(data: StudyData) -> dict[str, Any]:
    varied = [key for key in data.space.params if len({repr(trial.config.get(key)) for trial in data.trials}) > 1]
    tested = {b["trial_id"]: b["test_metrics"] for b in data.result.get("baselines", [])}
    if judged := data.result.get("best"):
        tested[judged["trial_id"]] = judged["test_metrics"]
    rows = []
    for trial in data.trials:
        what = trial.baseline or (f"repeats {trial.confirms}, seed {trial.seed}" if trial.confirms else "")
        score = tested.get(trial.id, {}).get(data.test_metric)
        seconds = round(data.device_seconds.get(trial.id, 0.0))
        row = [trial.name + (f" ({what})" if what else ""), trial.status, data.score(trial), score, trial.epochs]
        rows.append([*row, trial.best_epoch(data.space), seconds, *[trial.config.get(key) for key in varied]])
    columns = ["trial", "status", data.metric, data.test_metric, "epochs", "best epoch", f"{data.device}-seconds"]
    best = next((place for place, trial in enumerate(data.trials) if trial is data.best), -1)
    return html_page.table([*columns, *varied], rows, best=best) if rows else {"columns": [], "rows": []}


def _troubles(data: StudyData) -> list[str]:
    """Return the reasons why trials failed, were retried or moved."""
    found = []
    for trial in data.trials:
        events = [("failed", [trial.error] if trial.status == "failed" else []), ("was retried", trial.retried),
                ("moved to another node", trial.moved)]  # fmt: skip
        for what, errors in events:
            reasons = [last_line(error) for error in errors]
            for reason in dict.fromkeys(reasons):
                times = f", {reasons.count(reason)} times" if reasons.count(reason) > 1 else ""
                found.append(f"{trial.name} {what}{times}: {reason}")
    return found


def _data_lines(data: StudyData) -> list[str]:
    dataset = data.facts.dataset
    if dataset is None:
        return ["Nothing is recorded about the data."]
    source = "the embedded data" if dataset.source == "embedded" else f"read from {dataset.source}"
    lines = [f"{dataset.name}, {source}; fingerprint {dataset.digest[:16]}."]
    for split, counts in (dataset.profile.get("splits") or {}).items():
        plain = [f"{count:,} {what}" for what, count in counts.items() if isinstance(count, int) and count]
        lines += [f"{split}: {', '.join(plain)}."] if plain else []
    return lines


def _origin(data: StudyData) -> dict[str, Any]:
    request, facts = data.request, data.facts
    origin = {
        "folder": str(data.folder),
        "task": facts.task,
        "data": " ".join(request.get("data") or []) or "embedded",
        "settings": " ".join(request.get("settings") or []) or "none",
        "MLflow": f"{facts.tracking_uri}, experiment {facts.experiment}",
        **facts.tags,
    }
    return html_page.pairs(origin)


def write(data: StudyData, out: Path) -> None:
    """Write the page, and its charts as files beside the study's figures."""
    found = importances(data)
    charts = all_charts(data, found)
    html_page.save_files(charts, data.folder / FIGURES / "report")
    html_page.put(html(data, charts, found), out)
