"""What came of a study: the record of each trial, the best of them, and its scores on the test split."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.errors import Fault, InputError
from platform.evaluation import figures as pictures
from platform.runner.plan import Plan
from platform.search import confirmation
from platform.serving import embedding_map
from platform.space import Space
from platform.storage import checkpoints
from platform.storage.checkpoints import Checkpoints
from platform.storage.manifest import DamagedError
from platform.study.request import Request
from platform.study.trials import Trial, TrialTable
from platform.task import PER_CLASS, Evaluation
from platform.training.example_feed import WITHOUT

BEST, FIGURES, WEIGHTS = "best", "figures", "weights"  # folders of a study
REUSE = ("loaded", "computed", "saved")  # of platform.training.example_feed.Kept
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
        best: "best" of result.json; "weights_of" is the trial whose weights were saved, which is another one where the
            best configuration was trained again.
        baselines: "baselines" of result.json: trained in this study.
        references: "references" of result.json: test metrics of what needed no training.
        left_out: "left_out" of result.json: why there are no references, if they could not be had.
        no_map: "no_map" of result.json: why there is no map of the training examples, or not of all.
        confirmation: "confirmation" of result.json, None where nothing was to be trained again.
        champion: The model's name in MLflow's registry, tags and a note; None where it is no champion.
        figures: Pictures by name.
        files: Reports, and parts of the model that later studies can name as weights.
        note: Which trial is the best, and all test scores as a table, in Markdown.
    """

    best: dict[str, Any]
    baselines: list[dict[str, Any]]
    references: dict[str, dict[str, float]]
    left_out: list[str]
    no_map: list[str]
    confirmation: dict[str, Any] | None
    champion: dict[str, Any] | None
    figures: dict[str, Path]
    files: list[Path]
    note: str


def judge(
    plan: Plan,
    trials: list[dict[str, Any]],
    best: dict[str, Any],
    trial_table: TrialTable,
    data: Path,
    before: Mapping[str, Any],
) -> Judgement:
    """Scores the best trial, the baselines and what was trained again on the test split; saves the best one's model,
    pictures and reports.

    Args:
        plan: The study's.
        trials: Their records.
        best: The best one's.
        trial_table: What is known of them.
        data: The prepared data.
        before: The study's result, if it had come to one before; its checkpoints are gone.
    """
    folder, metric = plan.request.folder / BEST, plan.space.metric
    tested = _tested(before)
    again = [trial for trial in trial_table.trials.values() if trial.confirms]
    compared_with = [trial_table.trials[trial["trial_id"]] for trial in trials if trial["baseline"]]
    for trial in [*compared_with, *again]:
        if trial.status == "finished" and trial.id not in tested:
            with tempfile.TemporaryDirectory() as scratch:
                tested[trial.id] = dict(_score(plan, trial, Path(scratch), data)[1].metrics)
    table = _confirmed(plan, trial_table, tested)
    winner = trial_table.trials[best["trial_id"]]
    if table and table["winner"]:
        best, winner = _confirmed_best(plan, trials, trial_table, table)
    model, evaluation = _score(plan, winner, folder, data)
    crowned: dict[str, Any] = {
        **{key: best[key] for key in ("trial_id", "name", "config")},
        "metrics": winner.metrics[(winner.best_epoch(plan.space) or 0) - 1],
        "test_metrics": dict(evaluation.metrics),
        "model": str(folder),
        "weights_of": winner.id,
    }
    baselines: list[dict[str, Any]] = [
        {"baseline": trial.baseline, "trial_id": trial.id, "test_metrics": tested[trial.id]}
        for trial in compared_with
        if trial.id in tested
    ]
    references: dict[str, dict[str, float]] = {}
    left_out: list[str] = []
    try:
        references = {name: dict(metrics) for name, metrics in plan.task.references(plan.space, data).items()}
    except InputError as error:  # a tokenizer that is not there, say: no reason to lose the study
        left_out = [str(fault) for fault in error.faults]

    compared: dict[str, Any] = {
        "best": crowned["test_metrics"],
        **{b["baseline"]: b["test_metrics"] for b in baselines},
        **references,
    }
    drawn: dict[str, Any] = {
        "learning_curves.png": pictures.learning_curves(winner.metrics, metric),
        "comparison.png": pictures.comparison(compared, metric.replace("val/", "test/", 1)),
        **({"confirmation.png": pictures.confirmation(table)} if table and table["winner"] else {}),
        **evaluation.figures,
    }
    figures, texts = _saved(plan.request.folder / FIGURES, drawn, evaluation.texts)
    weights = plan.request.folder / WEIGHTS
    weights.mkdir(exist_ok=True)
    plan.task.export(model, data, weights)
    no_map = embedding_map.write(plan.task, model, plan.dataset, folder)
    note = f"Best: {best['name']}. Scores on the test split, which the search never saw:\n\n{_table(compared)}"
    note += f"\n\n{confirmation.markdown(table)}" if table else ""
    champion = _champion(plan, table, note) if table and table["is_champion"] else None
    files = [*texts, weights]
    return Judgement(crowned, baselines, references, left_out, no_map, table, champion, figures, files, note)


def _saved(folder: Path, figures: Mapping[str, Any], texts: Mapping[str, str]) -> tuple[dict[str, Path], list[Path]]:
    """Writes figures (those of matplotlib also as SVG) and texts into a folder.

    Args:
        folder: Made if it is not there.
        figures: Matplotlib's or PIL's, by file name.
        texts: By file name.

    Returns:
        The pictures' files by name, without what tells their kind, and those of the texts.
    """
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        if hasattr(figure, "savefig"):
            figure.savefig(folder / name, dpi=144)
            figure.savefig((folder / name).with_suffix(".svg"))
        else:
            figure.save(folder / name)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {Path(name).stem: folder / name for name in figures}, [folder / name for name in texts]


def _tested(before: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Test metrics that are known already, by trial."""
    rows = (before.get("confirmation") or {}).get("rows", [])
    known: list[dict[str, Any]] = [*before.get("baselines", []), *(run for row in rows for run in row["runs"])]
    return {each["trial_id"]: each["test_metrics"] for each in known if each["test_metrics"]}


def _confirmed(plan: Plan, trial_table: TrialTable, tested: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    """What came of training the best again; None where that was not asked for."""
    asked = confirmation.parse(trial_table.confirm)
    if asked is None:
        return None
    rows = confirmation.rows_of(trial_table.trials, asked, plan.space, is_searched=True)
    runs = confirmation.runs_of(rows, trial_table.trials.values())
    seeds = confirmation.seeds_of(asked, plan.request.seed)
    return confirmation.table(rows, trial_table.confirm, seeds, runs, tested, plan.space)


def _confirmed_best(
    plan: Plan, trials: Sequence[dict[str, Any]], trial_table: TrialTable, table: Mapping[str, Any]
) -> tuple[dict[str, Any], Trial]:
    """The record of the configuration that won, and of its trainings the one that validates best and is still there."""
    row = next(row for row in table["rows"] if row["name"] == table["winner"])
    best = next(trial for trial in trials if trial["trial_id"] == row["trial_id"])
    runs = [trial_table.trials[run["trial_id"]] for run in row["runs"] if run["test_metrics"]]
    there = [run for run in runs if _has_checkpoint(plan, run)] or [trial_table.trials[best["trial_id"]]]
    return best, max(there, key=lambda run: plan.space.goodness(run.best_score(plan.space) or 0.0))


def _has_checkpoint(plan: Plan, trial: Trial) -> bool:
    """Whether it was not deleted when the study was over before; a damaged one is there."""
    try:
        return checkpoints_of(plan.request, trial.id).get(trial.best_epoch(plan.space) or 0).exists()
    except DamagedError:
        return True
    except OSError:
        return False


def _champion(plan: Plan, table: Mapping[str, Any], note: str) -> dict[str, Any]:
    """What MLflow's registry is told of the model."""
    row = next(row for row in table["rows"] if row["name"] == table["winner"])
    tags = {
        "task": plan.request.task,
        "study": plan.request.name,
        "metric": table["test_metric"],
        "mode": plan.space.mode,
        "mean": f"{row['mean']:.6f}",
        "interval": f"{row['low']:.6f} to {row['high']:.6f}",
        "seeds": str(confirmation.scored(row)),
        "data_fingerprint": plan.dataset.fingerprint,
    }
    counts = ", ".join(f"{what}: {told}" for what, told in plan.dataset.lines().items())
    described = f"{table['verdict']}\n\nData: {plan.dataset.name}, {counts}\n\n{note}"
    return {"data": plan.dataset.name, "tags": tags, "note": described}


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
        checkpoint = checkpoints_of(plan.request, trial.id).get(trial.best_epoch(plan.space) or 0)
        checkpoints.export(checkpoint, folder)
    except (DamagedError, OSError) as error:
        remedy = "Restore it from a copy and --resume, or start a new study."
        raise InputError(Fault(f"the best checkpoint of {trial.name} must be whole", str(error), remedy)) from error
    torch.set_num_threads((os.cpu_count() or 1) if plan.resources.nodes else plan.resources.cpus)
    model = plan.task.load(folder)
    return model, plan.task.test(model, data)


def checkpoints_of(request: Request, trial_id: str) -> Checkpoints:
    """Return a trial's checkpoints, in the place that its study's request names."""
    return Checkpoints(request.folder_of(trial_id), request.remote_of(trial_id))
