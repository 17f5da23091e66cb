"""One study: space + trainable → Ray Tuner (Optuna, ASHA, callbacks) → result."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig
from rich.console import Console

from platform import checkpoints, cluster, pictures, task
from platform.cluster import ROOT, Resources
from platform.errors import Fault, InputError
from platform.fit import Context
from platform.recorder import DatasetFacts, StudyFacts
from platform.search import OptunaSearcher, Scheduler, SchedulerState
from platform.space import Space, show
from platform.task import Dataset, Evaluation, Task
from platform.tracking import Tracker, our_metrics, trial_name
from platform.view import LiveView

REQUEST, RESULT, FINDINGS, BEST = "study.json", "result.json", "data_findings.txt", "best"
LIBRARIES = ("ray", "torch", "torchvision", "optuna", "mlflow", "torchmetrics", "numpy")
ROOM = 1 << 30  # bytes that must be free to start: a few checkpoints and the records


@dataclass(frozen=True)
class Request:
    """What the user asked for, as it is kept in the study's folder for resuming.

    Attributes:
        id: What tells the study from another of the same name.
        fingerprint: Of the data that the study began with.
    """

    task: str
    name: str
    storage: str
    experiment: str
    tracking_uri: str
    data: str | None = None
    settings: tuple[str, ...] = ()
    trials: int | None = None
    epochs: int | None = None
    seed: int = 0
    concurrent: int | None = None
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None
    time_budget: float | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    fingerprint: str = ""

    @property
    def folder(self) -> Path:
        """Everything of the study but MLflow's records."""
        return Path(self.storage) / self.name

    @property
    def cache(self) -> Path:
        """What studies share: decoded data."""
        return Path(self.storage) / ".cache"


@dataclass(frozen=True)
class Plan:
    """A request that has been checked: nothing has started yet."""

    request: Request
    task: Task
    space: Space
    dataset: Dataset
    resources: Resources


def read_request(folder: Path) -> Request:
    """What an earlier study was asked for.

    Raises:
        InputError: There is no such study.
    """
    try:
        kept = json.loads((folder / REQUEST).read_text())
    except (OSError, ValueError) as error:
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{REQUEST}"))
        remedy = f"Studies there: {', '.join(known)}." if known else "Start one without --resume."
        raise InputError(Fault("--resume needs a study of that name", str(folder), remedy)) from error
    return Request(**{**kept, "settings": tuple(kept["settings"])})


def plan(request: Request, resume: bool = False) -> Plan:
    """Checks everything before anything starts.

    Raises:
        InputError: With all faults of the request, the space, the data and the machine.
    """
    task.check_name(request.task)
    faults = _request_faults(request)
    module, space, dataset = task.load(request.task), task.space(request.task), None
    budget = {"max_epochs": request.epochs, "trials": request.trials}
    try:
        space = space.override(request.settings, **{key: value for key, value in budget.items() if value is not None})
    except InputError as error:
        faults += error.faults
    have = cluster.resources(request.cpus_per_trial, request.gpus_per_trial, request.concurrent)
    faults += have.faults()
    if resume and _is_done(request.folder):
        remedy = f"Search longer in a new study: --trials {2 * space.trials}."
        faults.append(Fault("--resume needs a study that was interrupted", f"{request.name}: all done", remedy))
    if (request.folder / REQUEST).exists() and not resume:
        remedy = f"Choose another --name, or continue it: {resume_command(request)}"
        faults.append(Fault("a study's name must be new", f"{request.name} in {request.storage}", remedy))
    storage_faults = _storage_faults(Path(request.storage))
    faults += storage_faults
    if not storage_faults:
        try:
            source = Path(request.data) if request.data is not None else None
            dataset = module.read(source, request.cache, request.seed)
            faults += module.check(space, dataset)
            if resume and request.fingerprint not in ("", dataset.fingerprint):
                remedy = "Restore the data, or start a new study."
                faults.append(Fault("--resume needs the data that the study began with", "other content", remedy))
        except InputError as error:
            faults += error.faults
    if faults or dataset is None:
        raise InputError(*faults)
    return Plan(replace(request, fingerprint=dataset.fingerprint), module, space, dataset, have)


def run(plan: Plan, console: Console, resume: bool = False) -> dict[str, Any]:
    """Runs a study, or goes on with one.

    Returns:
        What --json writes; result["interrupted"] says whether trials are left to do.
    """
    started = time.monotonic()
    request, space = plan.request, plan.space
    cluster.quiet()
    request.folder.mkdir(parents=True, exist_ok=True)
    data = plan.task.prepare(space, plan.dataset, request.cache).resolve()
    (request.folder / REQUEST).write_text(json.dumps(asdict(request), indent=2))
    if findings := plan.dataset.findings():
        (request.folder / FINDINGS).write_text("\n".join(findings) + "\n")
    cluster.connect(plan.resources)
    context = Context(
        task=request.task,
        data=str(data),
        seed=request.seed,
        epochs=space.max_epochs,
        metric=space.metric,
        mode=space.mode,
        threads=plan.resources.cpus_per_trial,
    )
    scheduler = Scheduler(space)
    tracker = Tracker(_facts(plan), scheduler.status)
    view = LiveView(space, console, request.time_budget, scheduler.status)
    janitor = Janitor(space.metric, space.mode, scheduler.status)
    callbacks: list[Callback] = [SchedulerState(scheduler), tracker, view, janitor]
    trainable = tune.with_resources(
        plan.task.train, {"cpu": plan.resources.cpus_per_trial, "gpu": plan.resources.gpus_per_trial}
    )
    if resume and tune.Tuner.can_restore(str(request.folder)):
        tuner = tune.Tuner.restore(str(request.folder), trainable, resume_unfinished=True)
        # What Ray restored are copies; these are the ones whose state is restored and whose word is asked below.
        tuner._local_tuner._run_config.callbacks = callbacks  # type: ignore[union-attr]
        tuner._local_tuner._tune_config.scheduler = scheduler  # type: ignore[union-attr]
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={**space.fixed, "context": asdict(context)},
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearcher(space, request.seed),
                scheduler=scheduler,
                num_samples=space.trials,
                max_concurrent_trials=plan.resources.concurrent,
                reuse_actors=True,  # starting a worker and importing torch costs more than a short trial
                time_budget_s=request.time_budget,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name=request.name,
                storage_path=request.storage,
                callbacks=callbacks,
                verbose=0,
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=1, checkpoint_score_attribute=space.metric, checkpoint_score_order=space.mode
                ),
            ),
        )
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        grid = tuner.fit()
    finally:
        view.close()
        signal.signal(signal.SIGINT, on_interrupt)  # Ray's own, which only ends the search, would stay
    results = {Path(grid[i].path).name: grid[i] for i in range(len(grid))}
    trials = [_trial_record(janitor.trials[trial_id], result, space, scheduler) for trial_id, result in results.items()]
    trials.sort(key=lambda trial: trial["name"])
    best = _best(trials, space)
    out_of_time = request.time_budget is not None and time.monotonic() - started >= request.time_budget
    left = len(trials) < space.trials or any(trial["status"] == "interrupted" for trial in trials)
    interrupted = left and not out_of_time
    result: dict[str, Any] = {
        "study": request.name,
        "task": request.task,
        "metric": space.metric,
        "mode": space.mode,
        "best": None,
        "baselines": [],
        "trials": trials,
        "interrupted": interrupted,
        "seconds": 0.0,
    }
    if best is not None and not interrupted:
        console.print("Scoring the best trial on the test split …")
        winner = results[best["trial_id"]]
        result["best"], evaluation = _crown(plan, best, winner, data)
        history = winner.metrics_dataframe.to_dict("records")  # type: ignore[union-attr]
        figures = _save_figures(request.folder / BEST, evaluation, history, space.metric)
        for trial in trials:
            if trial["baseline"] and trial["status"] == "finished":
                with tempfile.TemporaryDirectory() as folder:
                    scores = dict(_score(plan, results[trial["trial_id"]], Path(folder), data).metrics)
                kept = {key: trial[key] for key in ("baseline", "trial_id")}
                result["baselines"].append({**kept, "test_metrics": scores})
        tracker.log_best(best["trial_id"], dict(evaluation.metrics), request.folder / BEST, figures)
    status = "KILLED" if interrupted else "FINISHED" if best else "FAILED"
    result["undelivered"] = tracker.close(status)
    result["seconds"] = round(time.monotonic() - started, 1)
    result["undelivered_reason"] = tracker.last_error if result["undelivered"] else ""
    (request.folder / RESULT).write_text(json.dumps(result, indent=2, ensure_ascii=False))
    if result["best"]:
        janitor.forget_all_but(result["best"]["trial_id"])
    return result


class Janitor(Callback):
    """Deletes the checkpoints of trials that can no longer win.

    Attributes:
        trials: Ray's trials by their id, once the search has ended.
    """

    def __init__(self, metric: str, mode: str, status_of: Callable[[Any, bool], str]) -> None:
        self.metric, self.mode, self.status_of = metric, mode, status_of
        self.trials: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trials": {}}

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        # Ray marks a trial as finished only after it told us. An interrupted one will go on from its checkpoint.
        done = [other for other in trials if other is trial or other.is_finished()]
        self._sweep([other for other in done if self.status_of(other, other.status == "ERROR") != "interrupted"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        self.trials = {trial.trial_id: trial for trial in trials}

    def forget_all_but(self, best: str) -> None:
        """Deletes what is left once all is scored: the baselines' checkpoints, and those of trials out of time."""
        for trial in self.trials.values():
            if trial.trial_id != best:
                self._forget(trial)

    def _sweep(self, done: list) -> None:
        """Deletes all checkpoints but the leader's and those of the baselines, which are scored in the end."""
        scored = [trial for trial in done if trial.status != "ERROR" and self.metric in trial.metric_analysis]
        sign = 1 if self.mode == "max" else -1
        scored.sort(key=trial_name)  # of equal ones the first, as in the result
        leader = max(scored, key=lambda trial: sign * trial.metric_analysis[self.metric][self.mode], default=None)
        for trial in done:
            if trial is not leader and not trial.config["context"].get("baseline"):
                self._forget(trial)

    def _forget(self, trial: Any) -> None:
        # Looked for on the disk: of a trial that was stopped, Ray may not know the last one.
        storage, folder = trial.storage.storage_filesystem, trial.storage.trial_fs_path
        for file in storage.get_file_info(FileSelector(folder, allow_not_found=True)):
            if file.base_name.startswith("checkpoint_"):
                storage.delete_dir(file.path)


def resume_command(request: Request) -> str:
    """What to type to go on with a study."""
    return f"python -m platform.tune {request.task} --resume --name {request.name}{storage_option(request)}"


def storage_option(request: Request) -> str:
    """What a command must be told to find a study, nothing where it is in the default place."""
    return "" if Path(request.storage) == Path("studies").resolve() else f" --storage {shlex.quote(request.storage)}"


def _trial_record(trial: Any, result: Any, space: Space, scheduler: Scheduler) -> dict[str, Any]:
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


def _best(trials: list[dict[str, Any]], space: Space) -> dict[str, Any] | None:
    """The trial with the best epoch; a failed one is never the best."""
    scored = [trial for trial in trials if trial["status"] != "failed" and space.metric in trial["metrics"]]
    sign = 1 if space.mode == "max" else -1
    return max(scored, key=lambda trial: sign * trial["metrics"][space.metric], default=None)


def _crown(plan: Plan, best: dict[str, Any], winner: Any, data: Path) -> tuple[dict[str, Any], Evaluation]:
    """Saves the best trial's model and scores it on the test split."""
    folder = plan.request.folder / BEST
    evaluation = _score(plan, winner, folder, data)
    kept = {key: best[key] for key in ("trial_id", "name", "config", "metrics")}
    return {**kept, "test_metrics": dict(evaluation.metrics), "model": str(folder)}, evaluation


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


def _facts(plan: Plan) -> StudyFacts:
    request, space, dataset = plan.request, plan.space, plan.dataset
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    state = (commit.stdout.strip() or "unknown") + (" with changes" if dirty.stdout.strip() else "")
    return StudyFacts(
        tracking_uri=request.tracking_uri,
        experiment=request.experiment,
        name=request.name,
        id=request.id,
        task=request.task,
        metric=space.metric,
        mode=space.mode,
        max_epochs=space.max_epochs,
        params={
            "trials": space.trials,
            "max_epochs": space.max_epochs,
            "grace_epochs": space.grace_epochs,
            "seed": request.seed,
            **{f"space.{key}": show(value) for key, value in space.params.items()},
        },
        tags={
            "commit": state,
            "seed": str(request.seed),
            "data_fingerprint": dataset.fingerprint,
            "python": sys.version.split()[0],
            **{f"version.{library}": version(library) for library in LIBRARIES},
        },
        files=[path] if (path := request.folder / FINDINGS).exists() else [],
        dataset=DatasetFacts(dataset.name, dataset.fingerprint, request.data or "embedded", dataset.summary()),
    )


def _is_done(folder: Path) -> bool:
    return (folder / RESULT).exists() and not json.loads((folder / RESULT).read_text())["interrupted"]


def _request_faults(request: Request) -> list[Fault]:
    faults = []
    if not re.fullmatch(r"\w[\w.-]*", request.name):
        rule = "a study's name must be letters, digits, dot, dash and underscore"
        faults.append(Fault(rule, repr(request.name), "It is a folder in --storage."))
    if not 0 <= request.seed < 2**32:
        faults.append(Fault("--seed must lie in 0..4294967295", str(request.seed), "Use --seed 0."))
    if request.time_budget is not None and not request.time_budget > 0:
        rule = "--time-budget must be positive seconds"
        faults.append(Fault(rule, f"{request.time_budget:g}", "Leave it out: none."))
    return faults


def _storage_faults(storage: Path) -> list[Fault]:
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [Fault("--storage must be a folder that can be made", f"{storage}: {error.strerror}", "Choose another.")]
    if not os.access(storage, os.W_OK):
        return [Fault("--storage must be writable", str(storage), "Choose another folder.")]
    free = shutil.disk_usage(storage).free
    if free < ROOM:
        rule = f"the disk of --storage needs {ROOM >> 20} MiB free"
        return [Fault(rule, f"{free >> 20} MiB in {storage}", "Free some space, or choose another --storage.")]
    return []
