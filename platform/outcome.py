"""What came of a study: the record of each trial, the best of them, and its scores on the test split."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform import checkpoints, pictures
from platform.errors import InputError
from platform.feed import WITHOUT
from platform.plan import Plan
from platform.reporters import NOTES
from platform.search import Scheduler
from platform.space import Space
from platform.task import PER_CLASS, Evaluation
from platform.tracking import baseline_of, our_metrics, trial_name

BEST, FIGURES, WEIGHTS = "best", "figures", "weights"  # folders of a study
REUSE = ("loaded", "computed", "saved")  # of platform.feed.Kept
TABLE_COLUMNS = 6  # what MLflow shows of a table without scrolling


def trial_record(trial: Any, result: Any, space: Space, scheduler: Scheduler) -> dict[str, Any]:
    """A trial as it stands in result.json."""
    last = trial.last_result or {}
    kept = trial.run_metadata.checkpoint_manager.best_checkpoint_result
    # All of the best epoch, whose weights are kept.
    metrics = our_metrics(kept.metrics if kept else result.metrics or {})
    return {
        "trial_id": trial.trial_id,
        "name": trial_name(trial),
        "baseline": baseline_of(trial),
        "status": scheduler.status(trial, failed=trial.status == "ERROR"),
        "error": str(result.error).strip().splitlines()[-1] if result.error else "",
        "config": {key: value for key, value in trial.config.items() if key != "context"},
        "metrics": metrics,
        "epochs": int(last.get("training_iteration", 0)),
        "notes": dict(last.get(NOTES) or {}),
        "reuse": {key: last[f"reuse/{key}"] for key in REUSE if f"reuse/{key}" in last},
        "seconds": round(float(last.get("time_total_s", 0.0)), 2),
    }


def reuse_of(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the prefix store spared a study, as in result.json; {} where there was none.

    Returns:
        Examples loaded and computed, seconds saved, and "without": why trials went without the store, by name.
    """
    with_store = [trial for trial in trials if trial["reuse"]]
    if not with_store:
        return {}
    sums = {key: sum(trial["reuse"][key] for trial in with_store) for key in REUSE}
    without = {t["name"]: t["notes"]["reuse"] for t in with_store if WITHOUT in t["notes"].get("reuse", "")}
    return {**sums, "without": without}


def best_of(trials: list[dict[str, Any]], space: Space) -> dict[str, Any] | None:
    """The trial with the best epoch, of those that may win and have the metric."""
    scored = [trial for trial in trials if may_win(trial, space) and space.metric in trial["metrics"]]
    return max(scored, key=lambda trial: space.goodness(trial["metrics"][space.metric]), default=None)


def may_win(trial: Mapping[str, Any], space: Space) -> bool:
    """Whether a trial can be the best: not one that failed, nor a baseline outside what the study searches."""
    return trial["status"] != "failed" and space.may_win(trial["config"], trial["baseline"])


def pareto_front(trials: list[dict[str, Any]], space: Space) -> list[str]:
    """The ids of the trials that no other beats in all of the space's objectives, by each trial's best epoch.

    Objectives are scores: greater is better.
    """
    known = [t for t in trials if may_win(t, space) and all(key in t["metrics"] for key in space.objectives)]
    points = {t["trial_id"]: [t["metrics"][key] for key in space.objectives] for t in known}

    def beaten(mine: list[float], other: list[float]) -> bool:
        return other != mine and all(theirs >= own for own, theirs in zip(mine, other, strict=True))

    return [key for key, mine in points.items() if not any(beaten(mine, other) for other in points.values())]


@dataclass(frozen=True)
class Judgement:
    """The best trial's scores on the test split beside what it is compared with, and what was saved of it.

    Attributes:
        best: "best" of result.json.
        baselines: "baselines" of result.json: trained in this study.
        references: "references" of result.json: test metrics of what needed no training.
        left_out: "left_out" of result.json: why there are no references, if they could not be had.
        figures: Pictures by name.
        files: Reports, and parts of the model that later studies can name as weights.
        note: Which trial is the best, and all test scores as a table, in Markdown.
    """

    best: dict[str, Any]
    baselines: list[dict[str, Any]]
    references: dict[str, dict[str, float]]
    left_out: list[str]
    figures: dict[str, Path]
    files: list[Path]
    note: str


def judge(
    plan: Plan, trials: list[dict[str, Any]], best: dict[str, Any], found: Mapping[str, Any], data: Path
) -> Judgement:
    """Scores the best trial and the baselines on the test split; saves the best one's model, pictures and reports.

    Args:
        plan: The study's.
        trials: Their records.
        best: The best one's.
        found: Ray's result of each trial, by id.
        data: The prepared data.
    """
    folder, winner, metric = plan.request.folder / BEST, found[best["trial_id"]], plan.space.metric
    model, evaluation = _score(plan, winner, folder, data)
    kept = {key: best[key] for key in ("trial_id", "name", "config", "metrics")}
    crowned = {**kept, "test_metrics": dict(evaluation.metrics), "model": str(folder)}
    baselines = []
    for trial in trials:
        if trial["baseline"] and trial["status"] == "finished":
            with tempfile.TemporaryDirectory() as scratch:
                metrics = dict(_score(plan, found[trial["trial_id"]], Path(scratch), data)[1].metrics)
            baselines.append({**{key: trial[key] for key in ("baseline", "trial_id")}, "test_metrics": metrics})
    references: dict[str, dict[str, float]] = {}
    left_out: list[str] = []
    try:
        references = {name: dict(metrics) for name, metrics in plan.task.references(plan.space, data).items()}
    except InputError as error:  # a tokenizer that is not there, say: no reason to lose the study
        left_out = [str(fault) for fault in error.faults]

    compared = {"best": crowned["test_metrics"], **{b["baseline"]: b["test_metrics"] for b in baselines}, **references}
    figures: dict[str, Any] = {
        "learning_curves.png": pictures.learning_curves(winner.metrics_dataframe.to_dict("records"), metric),
        "comparison.png": pictures.comparison(compared, metric.replace("val/", "test/", 1)),
        **evaluation.figures,
    }
    shown, weights = plan.request.folder / FIGURES, plan.request.folder / WEIGHTS
    shown.mkdir(exist_ok=True)
    for name, figure in figures.items():
        if hasattr(figure, "savefig"):
            figure.savefig(shown / name, dpi=144)
        else:
            figure.save(shown / name)
    for name, text in evaluation.texts.items():
        (shown / name).write_text(text)
    weights.mkdir(exist_ok=True)
    plan.task.export(model, data, weights)
    files = [*(shown / name for name in evaluation.texts), weights]
    pictured = {Path(name).stem: shown / name for name in figures}
    note = f"Best: {best['name']}. Scores on the test split, which the search never saw:\n\n{_table(compared)}"
    return Judgement(crowned, baselines, references, left_out, pictured, files, note)


def _table(compared: Mapping[str, Mapping[str, float]]) -> str:
    """The first test scores by name, as a table in Markdown."""
    keys = [key for key in compared["best"] if PER_CLASS not in key][:TABLE_COLUMNS]
    titles = [key.removeprefix("test/") for key in keys]
    rows = [[name, *(f"{m[key]:.3f}" if key in m else "" for key in keys)] for name, m in compared.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in [["", *titles], ["---"] * (len(keys) + 1), *rows])


def _score(plan: Plan, trial: Any, folder: Path, data: Path) -> tuple[Any, Evaluation]:
    """Saves the model of a trial's best epoch into a folder, and scores it on the test split."""
    import torch

    with trial.get_best_checkpoint(plan.space.metric, plan.space.mode).as_directory() as checkpoint:
        checkpoints.export(Path(checkpoint), folder)
    torch.set_num_threads(plan.resources.cpus)
    model = plan.task.load(folder)
    return model, plan.task.test(model, data)
