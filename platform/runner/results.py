"""Results of a study: the record of each trial, alarms, the best trial and its scores on the test split."""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platform.errors import Fault, InputError, last_line
from platform.evaluation import figures
from platform.runner.plan import Plan
from platform.search import confirmation
from platform.serving import embedding_map
from platform.space import Space
from platform.storage import checkpoints
from platform.storage.checkpoints import Checkpoints
from platform.storage.manifest import DamagedError
from platform.study.request import BEST, FIGURES, WEIGHTS, Request
from platform.study.trials import REUSE_KEYS, Trial, TrialTable, may_win, rank
from platform.study.wording import markdown_table
from platform.task import PER_CLASS, Evaluation
from platform.training.config_audit import TRAINED, UNUSED
from platform.training.example_feed import WITHOUT

TABLE_COLUMNS = 6  # MLflow shows a table of so many columns without scrolling


def trial_record(trial: Trial, space: Space) -> dict[str, Any]:
    """Return the record of a trial in result.json."""
    return {
        "trial_id": trial.id,
        "name": trial.name,
        "baseline": trial.baseline,
        "status": trial.status if trial.is_done else "interrupted",
        "error": last_line(trial.error) if trial.status == "failed" else "",
        "config": trial.config,
        "metrics": trial.best_metrics(space) or (trial.metrics or [{}])[-1],  # the weights of the best epoch are kept
        "epochs": trial.epochs,
        "attempts": trial.attempts,
        "retried": [last_line(error) for error in trial.retried],
        "moved": [last_line(error) for error in trial.moved],
        "notes": trial.notes,
        "reuse": trial.reuse,
        "seconds": round(trial.seconds, 2),
    }


def reuse_totals(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the feature store saved in a study, as in result.json; {} if no trial used it.

    It has numbers of examples loaded and computed, seconds saved, and "without": for each trial that could not use the
    store, by name, the reason.
    """
    with_store = [record for record in records if record["reuse"]]
    if not with_store:
        return {}
    totals = {key: sum(record["reuse"][key] for record in with_store) for key in REUSE_KEYS}
    notes = {record["name"]: record["notes"].get("reuse", "") for record in with_store}
    return {**totals, "without": {name: note for name, note in notes.items() if WITHOUT in note}}


def find_alarms(trials: Sequence[Trial]) -> list[str]:
    """Return signs that a study did not do what it was asked to do, one sentence each.

    Two trainings with different configs or seeds end with different weights. If they do not, the differences had no
    effect. A searched parameter that no trial read had none either.
    """
    alarms, first = [], dict[str, Trial]()
    for trial in trials:
        if not (digest := trial.notes.get(TRAINED)):
            continue
        other = first.setdefault(digest, trial)
        differences = [key for key in trial.config if trial.config[key] != other.config.get(key)]
        differences += ["the seed"] if trial.seed != other.seed else []
        if other is not trial and differences:
            pair = f"{other.name} and {trial.name} ended with equal weights"
            alarms.append(f"{pair}, though they differ in {', '.join(differences)}: that had no effect.")
    searched = [trial for trial in trials if trial.is_searched and trial.epochs]
    keys = searched[0].config if searched else {}
    unused = [set(trial.notes.get(UNUSED, "").split(", ")) for trial in searched]
    for key in keys:
        if len({repr(trial.config[key]) for trial in searched}) > 1 and all(key in each for each in unused):
            alarms.append(f"{key} was searched, and no trial used it.")
    return alarms


def pareto_front(trials: Iterable[Trial], space: Space) -> list[str]:
    """Return the ids of the trials that no other trial dominates in the space's objectives.

    The scores are those of each trial's best epoch. Greater is better in every objective.
    """
    scores = dict[str, list[float]]()
    for trial in trials:
        metrics = trial.best_metrics(space) if may_win(trial, space) else {}
        if all(key in metrics for key in space.objectives):
            scores[trial.id] = [metrics[key] for key in space.objectives]

    def dominates(a: list[float], b: list[float]) -> bool:
        return a != b and all(of_a >= of_b for of_a, of_b in zip(a, b, strict=True))

    return [key for key, own in scores.items() if not any(dominates(other, own) for other in scores.values())]


@dataclass(frozen=True)
class StudyScores:
    """Scores of a study's best trial on the test split, beside those of the models that it is compared with.

    Attributes:
        best: Id, name and config of the best trial, its metrics and test metrics, and its model's folder. "weights_of"
            is the trial whose weights were saved: another one if the best config was trained again. None: no best.
        baselines: Test metrics of the baselines that were trained in this study.
        references: Test metrics of models that need no training, by name.
        left_out: Why references are missing.
        no_map: Why the map of the training examples is missing or incomplete.
        confirmation: Results of training the best configs again, None if that was not asked for.
        champion: Name in MLflow's model registry, tags and description; None if the best model is no champion.
        figures: Files of the figures by name.
        files: Reports, and parts of the model that later studies can use as weights.
        note: The name of the best trial and a table of all test scores, in Markdown.
    """

    best: dict[str, Any] | None = None
    baselines: list[dict[str, Any]] = field(default_factory=list)
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    no_map: list[str] = field(default_factory=list)
    confirmation: dict[str, Any] | None = None
    champion: dict[str, Any] | None = None
    figures: dict[str, Path] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the part of result.json that has these scores."""
        keys = ("best", "baselines", "left_out", "no_map", "references", "confirmation")
        return {key: getattr(self, key) for key in keys}


def score_best(
    plan: Plan,
    records: Sequence[dict[str, Any]],
    best: dict[str, Any],
    trial_table: TrialTable,
    data: Path,
    earlier: Mapping[str, Any],
) -> StudyScores:
    """Score the best trial, the baselines and the confirmations on the test split; save the best model and its figures.

    Args:
        plan: Plan of the study.
        records: Records of the trials.
        best: Record of the best trial of the search.
        trial_table: Trials of the study, the confirmations among them.
        data: Prepared data.
        earlier: Result of the study, if it was finished before and then continued: the checkpoints that it was made
            from are deleted. Else {}.

    Raises:
        InputError: The checkpoint of the best epoch is damaged.
    """
    request, space = plan.request, plan.space

    # score the baselines and the confirmations, each once in the life of the study
    tested = _tested(earlier)
    baselines = [trial_table.trials[record["trial_id"]] for record in records if record["baseline"]]
    for trial in [*baselines, *(trial for trial in trial_table.trials.values() if trial.confirms)]:
        if trial.status == "finished" and trial.id not in tested:
            with tempfile.TemporaryDirectory() as scratch:
                tested[trial.id] = dict(_score(plan, trial, Path(scratch), data)[1].metrics)

    # choose the winner, and score and save its model
    confirmed = _confirmation(plan, trial_table, tested)
    winner = trial_table.trials[best["trial_id"]]
    if confirmed and confirmed["winner"]:
        best, winner = _confirmed_best(plan, records, trial_table, confirmed)
    folder = request.folder / BEST
    model, evaluation = _score(plan, winner, folder, data)
    references: dict[str, dict[str, float]] = {}
    left_out: list[str] = []
    try:
        references = {name: dict(metrics) for name, metrics in plan.task.references(space, data).items()}
    except InputError as error:  # e.g. a tokenizer that is missing: no reason to lose the study
        left_out = [str(fault) for fault in error.faults]
    compared: dict[str, Any] = {
        "best": dict(evaluation.metrics),
        **{trial.baseline: tested[trial.id] for trial in baselines if trial.id in tested},
        **references,
    }

    # save figures, reports, parts of the model, and the map of the training examples
    drawings: dict[str, Any] = {
        "learning_curves.png": figures.learning_curves(winner.metrics, space.metric),
        "comparison.png": figures.comparison(compared, space.test_metric),
        **({"confirmation.png": figures.confirmation(confirmed)} if confirmed and confirmed["winner"] else {}),
        **evaluation.figures,
    }
    figure_files, reports = _save_figures(request.folder / FIGURES, drawings, evaluation.texts)
    weights = request.folder / WEIGHTS
    weights.mkdir(exist_ok=True)
    plan.task.write_weights(model, data, weights)
    note = f"Best: {best['name']}. Scores on the test split, which the search never used:\n\n{_score_table(compared)}"
    note += f"\n\n{confirmation.markdown(confirmed)}" if confirmed else ""
    return StudyScores(
        best={
            **{key: best[key] for key in ("trial_id", "name", "config")},
            "metrics": winner.best_metrics(space),
            "test_metrics": dict(evaluation.metrics),
            "model": str(folder),
            "weights_of": winner.id,
        },
        baselines=[
            {"baseline": trial.baseline, "trial_id": trial.id, "test_metrics": tested[trial.id]}
            for trial in baselines
            if trial.id in tested
        ],
        references=references,
        left_out=left_out,
        no_map=embedding_map.write(plan.task, model, plan.dataset, folder),
        confirmation=confirmed,
        champion=_champion(plan, confirmed, note) if confirmed and confirmed["is_champion"] else None,
        figures=figure_files,
        files=[*reports, weights],
        note=note,
    )


def _score(plan: Plan, trial: Trial, folder: Path, data: Path) -> tuple[Any, Evaluation]:
    """Save the model of a trial's best epoch into a folder, and score it on the test split."""
    import torch

    try:
        checkpoint = checkpoints_of(plan.request, trial.id).get(trial.best_epoch(plan.space) or 0)
        checkpoints.copy_model(checkpoint, folder)
    except (DamagedError, OSError) as error:
        remedy = "Restore it from a copy and --resume, or start a new study."
        raise InputError(Fault(f"the best checkpoint of {trial.name} must be whole", str(error), remedy)) from error
    torch.set_num_threads((os.cpu_count() or 1) if plan.resources.nodes else plan.resources.cpus)
    model = plan.task.load(folder)
    return model, plan.task.test(model, data)


def checkpoints_of(request: Request, trial_id: str) -> Checkpoints:
    """Return a trial's checkpoints, in the place that its study's request names."""
    return Checkpoints(request.folder_of(trial_id), request.remote_of(trial_id))


def _tested(earlier: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the test metrics that an earlier result of the study holds, by trial."""
    rows = (earlier.get("confirmation") or {}).get("rows", [])
    known: list[dict[str, Any]] = [*earlier.get("baselines", []), *(run for row in rows for run in row["runs"])]
    return {each["trial_id"]: each["test_metrics"] for each in known if each["test_metrics"]}


def _confirmation(
    plan: Plan, trial_table: TrialTable, tested: Mapping[str, Mapping[str, float]]
) -> dict[str, Any] | None:
    """Return the results of training the best configs again, None if that was not asked for."""
    asked = confirmation.parse(trial_table.confirm)
    if asked is None:
        return None
    rows = confirmation.rows_of(trial_table.trials, asked, plan.space, is_searched=True)
    runs = confirmation.runs_of(rows, trial_table.trials.values())
    seeds = confirmation.seeds_of(asked, plan.request.seed)
    return confirmation.table(rows, trial_table.confirm, seeds, runs, tested, plan.space)


def _confirmed_best(
    plan: Plan, records: Sequence[dict[str, Any]], trial_table: TrialTable, confirmed: Mapping[str, Any]
) -> tuple[dict[str, Any], Trial]:
    """Return the record of the confirmed winner, and of its trainings with a checkpoint the one with the best score."""
    row = confirmation.winner_of(confirmed)
    best = next(record for record in records if record["trial_id"] == row["trial_id"])
    runs = [trial_table.trials[run["trial_id"]] for run in row["runs"] if run["test_metrics"]]
    with_weights = [run for run in runs if _has_checkpoint(plan, run)] or [trial_table.trials[best["trial_id"]]]
    return best, rank(with_weights, plan.space)[0]


def _has_checkpoint(plan: Plan, trial: Trial) -> bool:
    """Return whether the checkpoint of a trial's best epoch exists, be it damaged; a finished study deletes most."""
    try:
        return checkpoints_of(plan.request, trial.id).get(trial.best_epoch(plan.space) or 0).exists()
    except DamagedError:
        return True
    except OSError:
        return False


def _champion(plan: Plan, confirmed: Mapping[str, Any], note: str) -> dict[str, Any]:
    """Return the name, the tags and the description of a confirmed model for MLflow's model registry."""
    row = confirmation.winner_of(confirmed)
    tags = {
        "task": plan.request.task,
        "study": plan.request.name,
        "metric": confirmed["test_metric"],
        "mode": plan.space.mode,
        "mean": f"{row['mean']:.6f}",
        "interval": f"{row['low']:.6f} to {row['high']:.6f}",
        "seeds": str(confirmation.scored(row)),
        "data_fingerprint": plan.dataset.fingerprint,
    }
    lines = ", ".join(f"{title}: {text}" for title, text in plan.dataset.lines().items())
    description = f"{confirmed['verdict']}\n\nData: {plan.dataset.name}, {lines}\n\n{note}"
    return {"data": plan.dataset.name, "tags": tags, "note": description}


def _save_figures(
    folder: Path, drawings: Mapping[str, Any], texts: Mapping[str, str]
) -> tuple[dict[str, Path], list[Path]]:
    """Write figures, those of matplotlib also as SVG, and texts into a folder, by their file names.

    Return the files of the figures by name without suffix, and those of the texts.
    """
    folder.mkdir(exist_ok=True)
    for name, drawing in drawings.items():
        if hasattr(drawing, "savefig"):
            drawing.savefig(folder / name, dpi=144)
            drawing.savefig((folder / name).with_suffix(".svg"))
        else:
            drawing.save(folder / name)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {Path(name).stem: folder / name for name in drawings}, [folder / name for name in texts]


def _score_table(compared: Mapping[str, Mapping[str, float]]) -> str:
    """Return the first test scores of each model as a Markdown table."""
    keys = [key for key in compared["best"] if PER_CLASS not in key][:TABLE_COLUMNS]
    rows = [[name, *(f"{m[key]:.3f}" if key in m else "" for key in keys)] for name, m in compared.items()]
    return markdown_table(["", *(key.removeprefix("test/") for key in keys)], rows)
