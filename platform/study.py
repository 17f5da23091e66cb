"""One study: space + trainable → Ray Tuner (Optuna, ASHA, callbacks) → result."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig
from rich.console import Console

from platform import outcome, packing
from platform.cluster import ROOT
from platform.features import capacity
from platform.fit import Context
from platform.janitor import Janitor
from platform.outcome import BEST
from platform.plan import REQUEST, RESULT, Plan
from platform.recorder import DatasetFacts, StudyFacts
from platform.search import OptunaSearcher, Scheduler, SchedulerState
from platform.space import show
from platform.tracking import Tracker
from platform.view import LiveView

FINDINGS, FROZEN = "data_findings.txt", "frozen"
LIBRARIES = (
    "ray", "torch", "torchvision", "transformers", "open_clip_torch", "optuna", "mlflow", "torchmetrics", "numpy"
)  # fmt: skip


def run(plan: Plan, console: Console, resume: bool = False) -> dict[str, Any]:
    """Runs a study on a Ray that is connected, or goes on with one. Ray is left when the search is over.

    Returns:
        What --json writes. Where trials are left to do, result["interrupted"] says that it can go on, and
        result["out_of_time"] that its time was up.
    """
    started = time.monotonic()
    request, space = plan.request, plan.space
    request.folder.mkdir(parents=True, exist_ok=True)
    data = plan.task.prepare(space, plan.dataset, request.cache).resolve()
    (request.folder / REQUEST).write_text(json.dumps(asdict(request), indent=2))
    if findings := plan.dataset.findings():
        (request.folder / FINDINGS).write_text("\n".join(findings) + "\n")
    if plan.resources.gpus and request.gpus_per_trial is None:
        plan = _packed(plan, data, console)

    found = search(plan, data, console, resume)
    with ThreadPoolExecutor(1) as beside:  # Ray takes seconds to stop, and holds memory that the scoring can use
        leaving = beside.submit(ray.shutdown)
        result = _conclude(plan, found, data, console, started)
        leaving.result()
    return result


def _conclude(plan: Plan, found: "Search", data: Path, console: Console, started: float) -> dict[str, Any]:
    """Scores the best trial on the test split, and writes down what came of the study."""
    request, space = plan.request, plan.space
    trials = sorted(found.records, key=lambda trial: trial["name"])
    best = outcome.best_of(trials, space)
    out_of_time = request.time_budget is not None and time.monotonic() - started >= request.time_budget
    left = len(trials) < space.trials or any(trial["status"] == "interrupted" for trial in trials)
    interrupted = left and not out_of_time
    judged: dict[str, Any] = {"best": None, "baselines": [], "references": {}, "left_out": []}
    if best is not None and not interrupted:
        console.print("Scoring the best trial on the test split …")
        judgement = outcome.judge(plan, trials, best, found.results, data)
        judged = {key: getattr(judgement, key) for key in judged}
        found.tracker.log_best(
            best["trial_id"],
            judgement.best["test_metrics"],
            model_dir=request.folder / BEST,
            figures=judgement.figures,
            files=judgement.files,
            note=judgement.note,
        )
    undelivered = found.tracker.close("KILLED" if interrupted else "FINISHED" if best else "FAILED")
    result = {
        "study": request.name,
        "task": request.task,
        "metric": space.metric,
        "mode": space.mode,
        **judged,
        "pareto": outcome.pareto_front(trials, space) if space.objectives else [],
        "trials": trials,
        "reuse": outcome.reuse_of(trials),
        "interrupted": interrupted,
        "out_of_time": left and out_of_time,
        "undelivered": undelivered,
        "undelivered_reason": found.tracker.delivery.last_error if undelivered else "",
        "seconds": round(time.monotonic() - started, 1),
    }
    (request.folder / RESULT).write_text(json.dumps(result, indent=2, ensure_ascii=False))
    if judged["best"]:
        found.janitor.forget_all_but(judged["best"]["trial_id"])
    return result


@dataclass(frozen=True)
class Search:
    """What a search has come to.

    Attributes:
        records: Each trial's, as in result.json.
        results: Ray's result of each trial, by id.
        tracker: Its records are still being delivered.
        janitor: What it left to delete.
    """

    records: list[dict[str, Any]]
    results: dict[str, Any]
    tracker: Tracker
    janitor: Janitor


def search(plan: Plan, data: Path, console: Console, resume: bool = False) -> Search:
    """Runs the trials of a study on a Ray that is connected, until all are done, time is up or the user stops it."""
    request, space = plan.request, plan.space
    scheduler = Scheduler(space)
    tracker = Tracker(_facts(plan), scheduler.status)
    view = LiveView(space, console, request.time_budget, scheduler.status)
    janitor = Janitor(space, scheduler.status)
    tuner = _tuner(plan, data, scheduler, [SchedulerState(scheduler), tracker, view, janitor], resume)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        grid = tuner.fit()
    finally:
        view.close()
        signal.signal(signal.SIGINT, on_interrupt)  # Ray's own, which only ends the search, would stay
    results = {Path(grid[i].path).name: grid[i] for i in range(len(grid))}
    records = [outcome.trial_record(janitor.trials[key], result, space, scheduler) for key, result in results.items()]
    return Search(records, results, tracker, janitor)


def _packed(plan: Plan, data: Path, console: Console) -> Plan:
    """As many trials on a GPU as have room, by what one of them takes."""
    import torch

    peak = packing.measure(plan.task, plan.space, data, plan.request.seed, plan.resources)
    total = torch.cuda.get_device_properties(0).total_memory / 2**30
    resources = packing.packed(plan.resources, peak, total)
    console.print(
        f"A trial takes up to {peak:.1f} of {total:.0f} GiB of a GPU: {resources.describe()}", highlight=False
    )
    return replace(plan, resources=resources)


def _tuner(plan: Plan, data: Path, scheduler: Scheduler, callbacks: list[Callback], resume: bool) -> tune.Tuner:
    """Ray's tuner for a study: a new one, or the one that was interrupted."""
    request, space, resources = plan.request, plan.space, plan.resources
    trainable = tune.with_resources(plan.task.train, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial})
    if resume and tune.Tuner.can_restore(str(request.folder)):
        tuner = tune.Tuner.restore(str(request.folder), trainable, resume_unfinished=True)
        # What Ray restored are copies; these are the ones whose state is restored and whose word `run` takes.
        tuner._local_tuner._run_config.callbacks = callbacks  # type: ignore[union-attr]
        tuner._local_tuner._tune_config.scheduler = scheduler  # type: ignore[union-attr]
        return tuner
    context = Context(
        task=request.task,
        data=str(data),
        seed=request.seed,
        epochs=space.max_epochs,
        metric=space.metric,
        mode=space.mode,
        threads=resources.cpus_per_trial,
        store=str(request.store or ""),
        store_bytes=capacity(request.store, request.store_gb) if request.store else 0,
        shelf=str(request.folder / FROZEN),
    )
    return tune.Tuner(
        trainable,
        param_space={**space.fixed, "context": asdict(context)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearcher(space, request.seed),
            scheduler=scheduler,
            num_samples=space.trials,
            max_concurrent_trials=resources.concurrent,
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


def _facts(plan: Plan) -> StudyFacts:
    request, space, dataset = plan.request, plan.space, plan.dataset
    source = " ".join(request.data) or "embedded"
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
        input=plan.task.INPUT,
        requirements=tuple(plan.task.REQUIREMENTS),
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
        dataset=DatasetFacts(dataset.name, dataset.fingerprint, source, dataset.summary()),
    )
