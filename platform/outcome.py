"""What came of a study: the record of each trial, the best of them, and its scores on the test split."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platform import checkpoints, pictures
from platform.plan import Plan
from platform.search import Scheduler
from platform.space import Space
from platform.task import Evaluation
from platform.tracking import our_metrics, trial_name

BEST = "best"


def trial_record(trial: Any, result: Any, space: Space, scheduler: Scheduler) -> dict[str, Any]:
    """A trial as it stands in result.json."""
    epochs = int((trial.last_result or {}).get("training_iteration", 0))
    kept = trial.run_metadata.checkpoint_manager.best_checkpoint_result
    # All of the best epoch, whose weights are kept.
    metrics = our_metrics(kept.metrics if kept else result.metrics or {})
    return {
        "trial_id": trial.trial_id,
        "name": trial_name(trial),
        "baseline": trial.config["context"].get("baseline", ""),
        "status": scheduler.status(trial, failed=trial.status == "ERROR"),
        "error": str(result.error).strip().splitlines()[-1] if result.error else "",
        "config": {key: value for key, value in trial.config.items() if key != "context"},
        "metrics": metrics,
        "epochs": epochs,
        "seconds": round(float((trial.last_result or {}).get("time_total_s", 0.0)), 2),
    }


def best_of(trials: list[dict[str, Any]], space: Space) -> dict[str, Any] | None:
    """The trial with the best epoch; a failed one is never the best."""
    scored = [trial for trial in trials if trial["status"] != "failed" and space.metric in trial["metrics"]]
    return max(scored, key=lambda trial: space.goodness(trial["metrics"][space.metric]), default=None)


def judge(
    plan: Plan, trials: list[dict[str, Any]], best: dict[str, Any], found: Mapping[str, Any], data: Path
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Scores the best trial and the baselines on the test split, and saves the best one's model and pictures.

    Args:
        plan: The study's.
        trials: Their records.
        best: The best one's.
        found: Ray's result of each trial, by id.
        data: The prepared data.

    Returns:
        {"best", "baselines"} of result.json, and the pictures by name.
    """
    folder, winner = plan.request.folder / BEST, found[best["trial_id"]]
    evaluation = _score(plan, winner, folder, data)
    kept = {key: best[key] for key in ("trial_id", "name", "config", "metrics")}
    crowned = {**kept, "test_metrics": dict(evaluation.metrics), "model": str(folder)}
    figures = _save_figures(folder, evaluation, winner.metrics_dataframe.to_dict("records"), plan.space.metric)
    baselines = []
    for trial in trials:
        if trial["baseline"] and trial["status"] == "finished":
            with tempfile.TemporaryDirectory() as scratch:
                metrics = dict(_score(plan, found[trial["trial_id"]], Path(scratch), data).metrics)
            baselines.append({**{key: trial[key] for key in ("baseline", "trial_id")}, "test_metrics": metrics})
    return {"best": crowned, "baselines": baselines}, figures


def _score(plan: Plan, trial: Any, folder: Path, data: Path) -> Evaluation:
    """Saves the model of a trial's best epoch into a folder and scores it on the test split."""
    import torch

    with trial.get_best_checkpoint(plan.space.metric, plan.space.mode).as_directory() as checkpoint:
        checkpoints.export(Path(checkpoint), folder)
    torch.set_num_threads(plan.resources.cpus)
    return plan.task.test(plan.task.load(folder), data)


def _save_figures(folder: Path, evaluation: Evaluation, history: list[dict], metric: str) -> dict[str, Path]:
    figures = {"learning_curves.png": pictures.learning_curves(history, metric), **evaluation.figures}
    for name, figure in figures.items():
        if hasattr(figure, "savefig"):
            figure.savefig(folder / name, dpi=144)
        else:
            figure.save(folder / name)
    return {Path(name).stem: folder / name for name in figures}
