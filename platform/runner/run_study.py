"""A study from its checked plan to its result: event log, Ray Tune, MLflow, scores on the test split, result.json.

Everything that happens is in the event log before it takes effect. A study can therefore be killed at any moment and
continued with --resume.
"""

import contextlib
import gc
import itertools
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from filelock import Timeout
from rich.console import Console

from platform import project
from platform.cluster import costs, gpu_packing, nodes, ray_runtime
from platform.cluster.node_setup import LIBRARIES, on_node
from platform.errors import InputError
from platform.runner import cluster_setup, model_card, replay, results
from platform.runner.checkpoint_cleanup import CheckpointCleanup
from platform.runner.cluster_setup import ClusterSetup
from platform.runner.live_view import LiveView
from platform.runner.plan import Plan, describe
from platform.runner.results import StudyScores
from platform.search import confirmation, ray_tune
from platform.search.controller import SearchController
from platform.search.ray_tune import RAY_FOLDER, task_metrics
from platform.space import show
from platform.storage import atomic, filesystem
from platform.storage.checkpoints import Checkpoints
from platform.storage.study_mirror import StudyMirror
from platform.study import metadata
from platform.study.event_log import Event, EventLog
from platform.study.metadata import DatasetFacts, StudyFacts
from platform.study.request import (
    BEST,
    DELIVERED,
    EVENT_LOG,
    FINDINGS,
    FROZEN,
    LOCK,
    RESULT,
    TRIALS,
    Request,
    busy_fault,
    lock,
)
from platform.study.trials import Trial, TrialTable, best_of
from platform.tracking.delivery import Delivery
from platform.tracking.tensorboard import TensorBoardListener
from platform.training.context import Context
from platform.training.feature_store import capacity

# Files that are sent to a bucket all the time, in this order: a copy never counts more delivered events than it has.
GROWING = (DELIVERED, EVENT_LOG)
NOT_COPIED = (TRIALS, FROZEN, LOCK, RAY_FOLDER)  # checkpoints are sent by the trials that write them


def run(plan: Plan, console: Console, resume: bool = False) -> dict[str, Any]:
    """Run a study, or continue one, on a connected Ray. Ray is disconnected when the search is over.

    Returns:
        The content of result.json, with "not_copied" and "not_deleted" in addition. If trials are left to do,
        "interrupted" says that the study can be continued, "stopped" why it had to stop, "out_of_time" and
        "out_of_money" that a budget was used up.

    Raises:
        InputError: Another process works on the study, its event log is damaged, or the best checkpoint is.
    """
    request = plan.request
    request.folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(request).acquire(blocking=False), _study_mirror(request) as mirror:
            if not resume and _exists(request):  # another process was faster
                raise InputError(busy_fault(request))
            study = StudyRun(plan, console, mirror)
            study.prepare()
            study.search()
            # What Tune leaves behind refers to Ray. If it were collected while Ray disconnects, the process would end.
            gc.collect()
            gc.freeze()
            with ThreadPoolExecutor(1) as executor:  # Ray takes seconds to stop, and holds memory that scoring needs
                disconnecting = executor.submit(ray.shutdown)
                result = study.conclude()
                disconnecting.result()
            result["not_copied"] = mirror.upload_all() if mirror else ""
            if result["best"]:
                study.cleanup.keep_only(result["best"]["weights_of"])
            return result | {"not_deleted": study.cleanup.errors}
    except Timeout:
        raise InputError(busy_fault(request)) from None


class StudyRun:
    """Work of one process on a study: `prepare`, `search` and `conclude`, in this order.

    Attributes:
        plan: Plan of the study, with the resources that were measured.
        data: Prepared data, set by `prepare`.
        cluster: The cluster that is ready for the study, None on one machine.
        trial_table: Trials of the study, set by `search`, as are all that follow.
        delivery: Sends the event log to MLflow, also after the search.
        cleanup: Deletes checkpoints.
        view: Shows the state of the search.
        controller: Decides on the trials.
    """

    data: Path
    trial_table: TrialTable
    delivery: Delivery
    cleanup: CheckpointCleanup
    view: LiveView
    controller: SearchController

    def __init__(self, plan: Plan, console: Console, mirror: StudyMirror | None = None) -> None:
        """`mirror` is the copy of the study in its bucket, None if it is kept in a folder."""
        self.plan, self.console, self.mirror = plan, console, mirror
        self.cluster: ClusterSetup | None = None
        self._started = self._opened = time.monotonic()  # time budgets count from when the event log is opened
        self._earlier_seconds = 0.0  # that earlier processes have worked on the study

    def prepare(self) -> None:
        """Prepare the data, the cluster and the share of a GPU that a trial gets.

        Raises:
            InputError: No node of the cluster is fit, or the storage does not take the data.
        """
        plan, request = self.plan, self.plan.request
        self.data = plan.task.prepare(plan.space, plan.dataset, request.cache).resolve()
        if findings := plan.dataset.findings():
            (request.folder / FINDINGS).write_text("\n".join(findings) + "\n")
        if ray_runtime.joins_cluster():
            self.cluster = cluster_setup.set_up(plan, self.data, self.console)
        if plan.resources.gpus and request.gpus_per_trial is None:
            self._share_gpus()

    def search(self) -> None:
        """Run the trials until all are done, a budget is used up, nothing can continue, or the user interrupts.

        Raises:
            InputError: The event log is damaged.
        """
        plan, request = self.plan, self.plan.request
        self._open_event_log()
        table, space = self.trial_table, plan.space
        facts = metadata.from_json(table.events[0].data["facts"])
        self.delivery = Delivery(facts, table.events, request.folder, table.event_log.sync)
        self.cleanup = CheckpointCleanup(space, table, partial(results.checkpoints_of, request))
        self.view = LiveView(space, table, self.console, request.time_budget)
        tensorboard = TensorBoardListener(request.folder, table, self.console.print)
        table.listeners += [self.delivery, self.view, self.cleanup, tensorboard]
        self.controller = SearchController(space, request.seed, table, plan.resources.gpus_per_trial)
        self.delivery.start()
        if self.cluster:
            self.cluster.meter.earlier_dollars = costs.earlier_dollars(table.events)
            self.cluster.meter.update(nodes.node_types, now=True)
            self.controller.budget_spent = self.cluster.meter.is_over

        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            self.view.open()
            if not self.controller.is_over and not self.controller.budget_spent:
                self._run_trials()
        finally:
            self.view.close()
            signal.signal(signal.SIGINT, on_interrupt)  # Ray's own handler, which only ends the search, would stay
        self.controller.interrupt_trials()
        self._record_costs(now=True)

    def conclude(self) -> dict[str, Any]:
        """Score the best trial on the test split, end the records, write result.json and return its content.

        Raises:
            InputError: The checkpoint of the best epoch is damaged.
        """
        request, space = self.plan.request, self.plan.space
        seconds = self._earlier_seconds + time.monotonic() - self._opened
        meter = self.cluster.meter if self.cluster else None
        is_left, stopped = not self.controller.is_over, self.controller.stop_reason
        is_late = request.time_budget is not None and seconds >= request.time_budget
        ended = {
            "trials": self.records,
            "out_of_time": is_left and is_late and not stopped,
            "out_of_money": is_left and meter is not None and meter.is_over and not stopped,
        }
        interrupted = is_left and not ended["out_of_time"] and not ended["out_of_money"]
        winner = best_of(self.trial_table.trials.values(), space)
        best = results.trial_record(winner, space) if winner else None
        scores = StudyScores() if best is None or interrupted else self._score_best(best, ended)
        self._record_costs(lambda: [], now=True)  # Ray is disconnected: no node costs anything from now on
        undelivered = self.close("KILLED" if interrupted else "FINISHED" if best else "FAILED")
        recorder = self.delivery.recorder
        result = {
            "study": request.name,
            "task": request.task,
            "metric": space.metric,
            "mode": space.mode,
            **scores.as_json(),
            "pareto": results.pareto_front(self.trial_table.trials.values(), space) if space.objectives else [],
            **ended,
            "alarms": results.find_alarms(list(self.trial_table.trials.values())),
            "reuse": results.reuse_totals(self.records),
            "interrupted": interrupted,
            "stopped": stopped,
            "spent": meter.as_event() if meter else None,
            "registered": recorder.registered,
            "model_uri": recorder.model_uri,
            "experiment_id": recorder.experiment_id,
            "undelivered": undelivered,
            "undelivered_reason": self.delivery.last_error if undelivered else "",
            "seconds": round(time.monotonic() - self._started, 1),
        }
        atomic.write_json(request.folder / RESULT, result, indent=2)
        return result

    @property
    def records(self) -> list[dict[str, Any]]:
        """The trials as in result.json, without confirmations."""
        trials = [trial for trial in self.trial_table.trials.values() if not trial.confirms]
        return [results.trial_record(trial, self.plan.space) for trial in trials]

    def close(self, status: str) -> int:
        """End this process's work on the study; return how many events did not reach MLflow."""
        with contextlib.suppress(OSError):  # if this cannot be written, there is something left to do
            self.trial_table.record("close", status=status)
        undelivered = self.delivery.close()
        with contextlib.suppress(OSError):
            self.trial_table.event_log.close()
        return undelivered

    def _share_gpus(self) -> None:
        """Let as many trials share a GPU as fit its memory, measured with one trial."""
        plan = self.plan
        site, left_out = (self.cluster.site, list(self.cluster.left_out)) if self.cluster else (None, [])
        arguments = (plan.task, plan.space, self.data, plan.request.seed, plan.resources)
        peak, total = gpu_packing.measure(*arguments, site, left_out)
        resources = gpu_packing.pack(plan.resources, peak, total)
        text = f"A trial takes up to {peak:.1f} of {total:.0f} GiB of a GPU: {resources.describe()}"
        self.console.print(text, highlight=False)
        self.plan = replace(plan, resources=resources)

    def _open_event_log(self) -> None:
        """Read the event log, or begin it, and write that this process works on the study."""
        plan, request = self.plan, self.plan.request
        self.trial_table = table = TrialTable(EventLog(request.folder / EVENT_LOG))
        self._earlier_seconds = _seconds_worked(table.events)
        if not table.events:
            facts, warm_start = metadata.as_json(_study_facts(plan)), plan.warm_start.as_json()
            space = describe(plan.space)
            table.record("study", request=asdict(request), space=space, facts=facts, warm_start=warm_start)
        for line in _loss_messages(table, request):
            self.console.print(f"[yellow]{line}[/]", soft_wrap=True)
        if (asked := plan.confirm or confirmation.NONE) != (table.confirm or confirmation.NONE):
            table.record("confirm", asked=asked)
        self._opened = time.monotonic()
        table.record("open", cpus=plan.resources.cpus_per_trial, gpus=plan.resources.gpus_per_trial)

    def _run_trials(self) -> None:
        request, resources, budget = self.plan.request, self.plan.resources, self.plan.request.time_budget
        train = self.plan.task.train
        ray_tune.run(
            self.controller,
            on_node(train) if self.cluster else train,
            self._context,
            request.folder,
            resources.cpus_per_trial,
            resources.concurrent,
            None if budget is None else max(1.0, budget - self._earlier_seconds),
            self._tick,
            self.cluster.left_out if self.cluster else None,
        )

    def _context(self, trial: Trial) -> dict[str, Any]:
        """Return what an attempt at a trial needs to know besides its config."""
        request, space, resources = self.plan.request, self.plan.space, self.plan.resources
        context = Context(
            task=request.task,
            data=str(self.data),
            seed=next(seed for seed in (trial.seed, request.training_seed, request.seed) if seed is not None),
            epochs=space.max_epochs,
            metric=space.metric,
            mode=space.mode,
            threads=resources.cpus_per_trial,
            baseline=trial.baseline,
            store=str(request.store or ""),
            store_bytes=capacity(request.store, request.store_gb) if request.store and not self.cluster else 0,
            shared_stages=str(request.folder / FROZEN),
            code=project.code_digest(),
            trial=trial.id,
            folder=str(request.folder_of(trial.id)),
            known=trial.epochs,
            gpus=resources.gpus_per_trial if trial.gpus is None else trial.gpus,
        )
        places = {"site": asdict(self.cluster.site)} if self.cluster else {"remote": request.remote_of(trial.id)}
        return asdict(context) | places

    def _tick(self) -> None:
        """Update the view and the costs, and look for reasons to stop. Called after each step of Ray Tune."""
        self.view.tick()
        self._record_costs()
        controller = self.controller
        if self.cluster:
            controller.budget_spent = controller.budget_spent or self.cluster.meter.is_over
            controller.stop_reason = controller.stop_reason or self.cluster.why_no_node(self.plan.resources)
        if self.mirror and self.mirror.taken:
            taken = f"another machine continued the study: {self.plan.request.remote}"
            controller.stop_reason = controller.stop_reason or taken

    def _record_costs(self, node_types: Callable[[], list[str]] = nodes.node_types, now: bool = False) -> None:
        """Write what the nodes have cost so far into the event log, if it is time to or `now` is set.

        `node_types` returns the types of the nodes that are there now.
        """
        if self.cluster and self.cluster.meter.update(node_types, now):
            with contextlib.suppress(OSError):
                self.trial_table.record("spent", **self.cluster.meter.as_event())

    def _score_best(self, best: dict[str, Any], ended: dict[str, Any]) -> StudyScores:
        """Score the best trial, write its model card, and put the scores into the event log."""
        folder = self.plan.request.folder
        try:
            self.console.print("Scoring on the test split …")
            # A study that was finished before and then continued has a result.
            earlier = json.loads((folder / RESULT).read_text()) if (folder / RESULT).exists() else {}
            scores = results.score_best(self.plan, self.records, best, self.trial_table, self.data, earlier)
            assert scores.best is not None
            model_card.write(folder / BEST, self.plan, scores.as_json() | ended)
            self.trial_table.record(
                "best",
                trial_id=scores.best["weights_of"],
                metrics=task_metrics(scores.best["test_metrics"]),
                model_dir=str(folder / BEST),
                figures={name: str(file) for name, file in scores.figures.items()},
                files=[str(file) for file in scores.files],
                note=scores.note,
                champion=scores.champion,
            )
            return scores
        except BaseException:  # Ctrl-C, or a damaged checkpoint: there is something left to do
            self.close("KILLED")
            raise


@contextlib.contextmanager
def _study_mirror(request: Request) -> Iterator[StudyMirror | None]:
    """Keep the copy of a study in its bucket up to date; yield None if the study is kept in a folder."""
    if not request.remote:
        yield None
        return
    mirror = StudyMirror(request.folder, request.remote, GROWING, NOT_COPIED)
    if not mirror.start():
        raise InputError(busy_fault(request))
    try:
        yield mirror
    finally:
        mirror.stop()


def _exists(request: Request) -> bool:
    """Return whether a study of this name exists, here or in its bucket."""
    in_bucket = bool(request.remote) and filesystem.read(f"{request.remote}/{EVENT_LOG}") is not None
    return in_bucket or (request.folder / EVENT_LOG).exists()


def _seconds_worked(events: Sequence[Event]) -> float:
    """Return how long the processes that wrote these events have worked on the study."""
    total, began = 0.0, 0
    for event, following in itertools.zip_longest(events, events[1:]):
        began = event.time_ms if event.kind == "open" else began
        if began and (following is None or following.kind == "open"):
            total += (event.time_ms - began) / 1000
    return total


def _loss_messages(trial_table: TrialTable, request: Request) -> list[str]:
    """Return what the event log has lost, in a power failure for example; the trials do it again."""
    lines = []
    if trial_table.event_log.torn:
        lines.append("The last line of the event log was incomplete; what it recorded is done again.")
    for folder in sorted((request.folder / TRIALS).glob("*")):
        known = trial_table.trials[folder.name].epochs if folder.name in trial_table.trials else -1
        newest = max(Checkpoints(folder).epochs(), default=0)
        if newest > known + 1:  # one more is possible: the process was killed before it received the report
            found = f"trial {folder.name} has a checkpoint of epoch {newest}, the log only {max(0, known)} epochs"
            lines.append(f"The event log has lost its end: {found}. The missing epochs are done again.")
    return lines


def _study_facts(plan: Plan) -> StudyFacts:
    """Return what is recorded of a study in MLflow."""
    request, space, dataset = plan.request, plan.space, plan.dataset
    source = " ".join(request.data) or "embedded"
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
            "commit": project.commit(),
            "seed": str(request.seed),
            **({} if request.training_seed is None else {"training_seed": str(request.training_seed)}),
            "data_fingerprint": dataset.fingerprint,
            replay.PLACES: json.dumps(request.data),
            "python": sys.version.split()[0],
            **{f"version.{library}": version(library) for library in LIBRARIES},
        },
        warm_start="; ".join(plan.warm_start.studies),
        files=[path] if (path := request.folder / FINDINGS).exists() else [],
        dataset=DatasetFacts(dataset.name, dataset.fingerprint, source, dataset.summary()),
    )
