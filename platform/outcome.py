"""What came of a study: the record of each trial, the best of them, and its scores on the test split."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform import checkpoints, pictures
from platform.errors import Fault, InputError
from platform.feed import WITHOUT
from platform.ledger import Trial
from platform.plan import Plan
from platform.sealed import DamagedError
from platform.space import Space
from platform.task import PER_CLASS, Evaluation

BEST, FIGURES, WEIGHTS = "best", "figures", "weights"  # folders of a study
REUSE = ("loaded", "computed", "saved")  # of platform.feed.Kept
TABLE_COLUMNS = 6  # what MLflow shows of a table without scrolling


def trial_record(trial: Trial, space: Space) -> dict[str, Any]:
    """A trial as it stands in result.json."""
    best, last = trial.best_epoch(space), (trial.metrics or [{}])[-1]
    return {
        "trial_id": trial.id,
        "name": trial.name,
        "baseline": trial.baseline,
        "status": trial.status if trial.is_done else "interrupted",
        "error": _reason(trial.error) if trial.status == "failed" else "",
        "config": trial.config,
        # All of the best epoch, whose weights are kept.
        "metrics": trial.metrics[best - 1] if best else last,
        "epochs": trial.epochs,
        "attempts": trial.attempts,
        "retried": [_reason(error) for error in trial.retried],
        "moved": [_reason(error) for error in trial.moved],
        "notes": trial.notes,
        "reuse": {key: last[f"reuse/{key}"] for key in REUSE if f"reuse/{key}" in last},
        "seconds": round(trial.seconds, 2),
    }


def _reason(error: str) -> str:
    """The last line of what was raised."""
    return (error.strip().splitlines() or ["no reason was told"])[-1]


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
    plan: Plan, trials: list[dict[str, Any]], best: dict[str, Any], found: Mapping[str, Trial], data: Path
) -> Judgement:
    """Scores the best trial and the baselines on the test split; saves the best one's model, pictures and reports.

    Args:
        plan: The study's.
        trials: Their records.
        best: The best one's.
        found: What is known of each trial, by id.
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
        "learning_curves.png": pictures.learning_curves(winner.metrics, metric),
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


def _score(plan: Plan, trial: Trial, folder: Path, data: Path) -> tuple[Any, Evaluation]:
    """Saves the model of a trial's best epoch into a folder, and scores it on the test split.

    Raises:
        InputError: The checkpoint is not as it was written.
    """
    import torch

    try:
        checkpoint = checkpoints.of(plan.request, trial.id).get(trial.best_epoch(plan.space) or 0)
        checkpoints.export(checkpoint, folder)
    except (DamagedError, OSError) as error:
        remedy = "Restore it from a copy and --resume, or start a new study."
        raise InputError(Fault(f"the best checkpoint of {trial.name} must be whole", str(error), remedy)) from error
    torch.set_num_threads((os.cpu_count() or 1) if plan.resources.nodes else plan.resources.cpus)
    model = plan.task.load(folder)
    return model, plan.task.test(model, data)
