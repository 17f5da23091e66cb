"""One study: space + trainable → event log, Ray Tune, MLflow → result."""

import contextlib
import gc
import itertools
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from filelock import Timeout
from rich.console import Console

from platform import project
from platform.cluster import costs, gpu_packing, nodes, ray_runtime
from platform.cluster.costs import Meter
from platform.cluster.node_setup import LIBRARIES, on_node
from platform.errors import InputError
from platform.runner import alarms, cluster_setup, model_card, replay, results
from platform.runner.checkpoint_cleanup import Janitor
from platform.runner.cluster_setup import Rollout
from platform.runner.console import LiveView
from platform.runner.plan import Plan, describe
from platform.runner.results import BEST, Judgement
from platform.search import confirmation, ray_tune
from platform.search.controller import Search
from platform.search.ray_tune import RAYS, our_metrics
from platform.space import show
from platform.storage import filesystem
from platform.storage.checkpoints import Checkpoints
from platform.storage.study_mirror import BucketCopy
from platform.study import metadata
from platform.study.event_log import Event, EventLog
from platform.study.metadata import DatasetFacts, StudyFacts
from platform.study.request import DELIVERED, EVENT_LOG, FINDINGS, FROZEN, LOCK, RESULT, TRIALS, Request, busy, lock
from platform.study.trials import Trial, TrialTable
from platform.tracking.delivery import Delivery
from platform.tracking.tensorboard import TensorBoardLog
from platform.training.context import Context
from platform.training.feature_store import capacity

# Files of a study that a bucket is sent all the time; the event log last: it knows all that MLflow has been told.
GROWING = (DELIVERED, EVENT_LOG)
NOT_COPIED = (
    TRIALS,
    FROZEN,
    LOCK,
    RAYS,
)  # what is not for its copy there: checkpoints are sent by those who write them


def run(plan: Plan, console: Console, resume: bool = False) -> dict[str, Any]:
    """Runs a study on a Ray that is connected, or goes on with one. Ray is left when the search is over.

    Returns:
        What --json writes. Where trials are left to do, result["interrupted"] says that it can go on,
        result["stopped"] why it had to stop, and result["out_of_time"] that its time was up.

    Raises:
        InputError: Another process works on it, its state is damaged, or the best checkpoint is.
    """
    started = time.monotonic()
    request = plan.request
    request.folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(request).acquire(blocking=False), _copied(request) as copy:
            if not resume and _is_there(request):  # another process was faster
                raise InputError(busy(request))
            data = plan.task.prepare(plan.space, plan.dataset, request.cache).resolve()
            if findings := plan.dataset.findings():
                (request.folder / FINDINGS).write_text("\n".join(findings) + "\n")
            rolled = cluster_setup.begin(plan, data, console) if ray_runtime.joins() else None
            if plan.resources.gpus and request.gpus_per_trial is None:
                plan = _packed(plan, data, console, rolled)
            found = search(plan, data, console, rolled, copy)
            # What Tune left behind refers to Ray. Collected while Ray is being left, it would end the process.
            gc.collect()
            gc.freeze()
            with ThreadPoolExecutor(1) as beside:  # Ray takes seconds to stop, and holds memory that scoring needs
                leaving = beside.submit(ray.shutdown)
                result = _conclude(plan, found, data, console, started)
                leaving.result()
            result["not_copied"] = copy.send_all() if copy else ""
            if result["best"]:
                found.janitor.forget_all_but(result["best"]["weights_of"])
            result["not_deleted"] = found.janitor.left
    except Timeout:
        raise InputError(busy(request)) from None
    return result


def _is_there(request: Request) -> bool:
    """Whether a study of that name was begun."""
    in_bucket = bool(request.remote) and filesystem.read(f"{request.remote}/{EVENT_LOG}") is not None
    return in_bucket or (request.folder / EVENT_LOG).exists()


@contextlib.contextmanager
def _copied(request: Request) -> Iterator[BucketCopy | None]:
    """Keeps the copy of a study in its bucket up to date; None where it is kept in a folder.

    Raises:
        InputError: Another machine works on it, or the bucket does not answer.
    """
    if not request.remote:
        yield None
        return
    copy = BucketCopy(request.folder, request.remote, GROWING, NOT_COPIED)
    if not copy.start():
        raise InputError(busy(request))
    try:
        yield copy
    finally:
        copy.stop()


@dataclass(frozen=True)
class Found:
    """What a search has come to.

    Attributes:
        trial_table: Its trials.
        records: Each trial's, as in result.json.
        delivery: Its records are still being delivered.
        janitor: What it left to delete.
        stopped: Why it had to stop, "" if nothing was in the way.
        meter: What its nodes cost, None on one machine.
        seconds: What earlier processes have worked on it.
        is_over: Whether nothing is left to train.
    """

    trial_table: TrialTable
    records: list[dict[str, Any]]
    delivery: Delivery
    janitor: Janitor
    stopped: str
    meter: Meter | None
    seconds: float
    is_over: bool = False

    def spent(self, kinds: Callable[[], list[str]] = nodes.kinds, now: bool = False) -> None:
        """Writes down what the nodes have cost so far, if it is time to.

        Args:
            kinds: Tells the types of those that are there now.
            now: Do it, whether it is time or not.
        """
        if self.meter and self.meter.look(kinds, now):
            with contextlib.suppress(OSError):
                self.trial_table.tell("spent", **self.meter.as_event())

    def close(self, status: str) -> int:
        """Ends the work on the study; returns how many events did not reach MLflow."""
        with contextlib.suppress(OSError):  # where it cannot be written, there is something left to do
            self.trial_table.tell("close", status=status)
        undelivered = self.delivery.close()
        with contextlib.suppress(OSError):
            self.trial_table.event_log.close()
        return undelivered


def _conclude(plan: Plan, found: Found, data: Path, console: Console, started: float) -> dict[str, Any]:
    """Scores the best trial on the test split, and writes down what came of the study."""
    request, space = plan.request, plan.space
    trials, trial_table = found.records, found.trial_table
    best = results.best_of(trials, space)
    spent = found.seconds + time.monotonic() - started
    out_of_time = request.time_budget is not None and spent >= request.time_budget and not found.stopped
    out_of_money = found.meter is not None and found.meter.is_over
    left = not found.is_over
    interrupted = left and not out_of_time and not out_of_money
    lists: dict[str, Any] = {key: [] for key in ("baselines", "left_out", "no_map")}
    judged: dict[str, Any] = {"best": None, **lists, "references": {}, "confirmation": None}
    if best is not None and not interrupted:
        ended = {"trials": trials, "out_of_time": left and out_of_time, "out_of_money": left and out_of_money}
        try:
            console.print("Scoring on the test split …")
            judgement = results.judge(plan, trials, best, trial_table, data, _result_before(request.folder))
            judged = {key: getattr(judgement, key) for key in judged}
            model_card.write(request.folder / BEST, plan, judged | ended)
            _tell_best(trial_table, judgement, request.folder / BEST)
        except BaseException:  # Ctrl-C, or a checkpoint that is damaged: there is something left to do
            found.close("KILLED")
            raise
    found.spent(list, now=True)  # Ray has been left: those that were there last
    undelivered = found.close("KILLED" if interrupted else "FINISHED" if best else "FAILED")
    result = {
        "study": request.name,
        "task": request.task,
        "metric": space.metric,
        "mode": space.mode,
        **judged,
        "pareto": results.pareto_front(trials, space) if space.objectives else [],
        "trials": trials,
        "alarms": alarms.raised(list(trial_table.trials.values())),
        "reuse": results.reuse_of(trials),
        "interrupted": interrupted,
        "stopped": found.stopped,
        "out_of_time": left and out_of_time,
        "out_of_money": left and out_of_money,
        "spent": found.meter.as_event() if found.meter else None,
        "registered": found.delivery.recorder.registered,
        "model_uri": found.delivery.recorder.model_uri,
        "experiment_id": found.delivery.recorder.experiment_id,
        "undelivered": undelivered,
        "undelivered_reason": found.delivery.last_error if undelivered else "",
        "seconds": round(time.monotonic() - started, 1),
    }
    partial_file = request.folder / f".{RESULT}"
    partial_file.write_text(json.dumps(result, indent=2, ensure_ascii=False))
    partial_file.replace(request.folder / RESULT)
    return result


def _tell_best(trial_table: TrialTable, judgement: Judgement, model: Path) -> None:
    trial_table.tell(
        "best",
        trial_id=judgement.best["weights_of"],
        metrics=our_metrics(judgement.best["test_metrics"]),
        model_dir=str(model),
        figures={name: str(file) for name, file in judgement.figures.items()},
        files=[str(file) for file in judgement.files],
        note=judgement.note,
        champion=judgement.champion,
    )


def _result_before(folder: Path) -> dict[str, Any]:
    """What was found when the study was over once before, and was gone on with; {} if it was not."""
    return json.loads((folder / RESULT).read_text()) if (folder / RESULT).exists() else {}


def search(
    plan: Plan, data: Path, console: Console, rolled: Rollout | None = None, copy: BucketCopy | None = None
) -> Found:
    """Runs the trials of a study on a Ray that is connected, until all are done, time is up or the user stops it.

    Args:
        plan: The study's.
        data: The prepared data.
        console: Shows how it goes.
        rolled: The cluster that is ready for it; None: all nodes see all that this process sees.
        copy: Of the study in its bucket; None where it is kept in a folder.

    Raises:
        InputError: Its event log is damaged.
    """
    request, space = plan.request, plan.space
    trial_table = TrialTable(EventLog(request.folder / EVENT_LOG))
    before = _seconds(trial_table.events)
    if not trial_table.events:
        told = metadata.as_json(_facts(plan))
        warm = plan.warm_start.as_json()
        trial_table.tell("study", request=asdict(request), space=describe(space), facts=told, warm_start=warm)
    for line in _lost(trial_table, request):
        console.print(f"[yellow]{line}[/]", soft_wrap=True)
    if (asked := plan.confirm or confirmation.NONE) != (trial_table.confirm or confirmation.NONE):
        trial_table.tell("confirm", asked=asked)
    trial_table.tell("open", cpus=plan.resources.cpus_per_trial, gpus=plan.resources.gpus_per_trial)
    known = metadata.from_json(trial_table.events[0].data["facts"])
    delivery = Delivery(known, trial_table.events, request.folder, trial_table.event_log.sync)
    view = LiveView(space, trial_table, console, request.time_budget)
    janitor = Janitor(space, trial_table, partial(results.checkpoints_of, request))
    tensorboard = TensorBoardLog(request.folder, trial_table, console.print)
    trial_table.listeners += [delivery.told, view.told, janitor.told, tensorboard.told]
    decides = Search(space, request.seed, trial_table, plan.resources.gpus_per_trial)
    delivery.start()
    meter = rolled.meter if rolled else None
    if meter:
        meter.before = costs.before(trial_table.events)
        meter.look(nodes.kinds, now=True)
        decides.enough = meter.is_over
    found = Found(trial_table, [], delivery, janitor, "", meter, before)

    def tick() -> None:
        view.tick()
        found.spent()
        decides.enough = decides.enough or (meter is not None and meter.is_over)
        if rolled and (why := rolled.nothing_left(plan.resources)):
            decides.stopped = decides.stopped or why
        if copy and copy.taken:
            decides.stopped = decides.stopped or f"another machine went on with it: {request.remote}"

    left = None if request.time_budget is None else max(1.0, request.time_budget - before)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        view.open()
        if not decides.is_over and not decides.enough:
            resources = plan.resources
            places = (request.folder, resources.cpus_per_trial, resources.concurrent)
            train = on_node(plan.task.train) if rolled else plan.task.train
            left_out = rolled.left_out if rolled else None
            ray_tune.run(decides, train, partial(_context, plan, data, rolled), *places, left, tick, left_out)
    finally:
        view.close()
        signal.signal(signal.SIGINT, on_interrupt)  # Ray's own, which only ends the search, would stay
    decides.interrupted()
    found.spent(now=True)
    records = [results.trial_record(trial, space) for trial in trial_table.trials.values() if not trial.confirms]
    return replace(found, records=records, stopped=decides.stopped, is_over=decides.is_over)


def _context(plan: Plan, data: Path, rolled: Rollout | None, trial: Trial) -> dict[str, Any]:
    """What an attempt at a trial is told besides its configuration."""
    request, space, resources = plan.request, plan.space, plan.resources
    context = Context(
        task=request.task,
        data=str(data),
        seed=next(seed for seed in (trial.seed, request.training_seed, request.seed) if seed is not None),
        epochs=space.max_epochs,
        metric=space.metric,
        mode=space.mode,
        threads=resources.cpus_per_trial,
        baseline=trial.baseline,
        store=str(request.store or ""),
        store_bytes=capacity(request.store, request.store_gb) if request.store and not rolled else 0,
        shelf=str(request.folder / FROZEN),
        code=project.code_digest(),
        trial=trial.id,
        folder=str(request.folder_of(trial.id)),
        known=trial.epochs,
        gpus=resources.gpus_per_trial if trial.gpus is None else trial.gpus,
    )
    return asdict(context) | ({"site": asdict(rolled.site)} if rolled else {"remote": request.remote_of(trial.id)})


def _lost(trial_table: TrialTable, request: Request) -> list[str]:
    """What was done that the event log does not know of, after a power failure, say; it will be done again."""
    lost = (
        ["The last line of the event log was torn; what it told is done again."] if trial_table.event_log.torn else []
    )
    for folder in sorted((request.folder / TRIALS).glob("*")):
        known = trial_table.trials[folder.name].epochs if folder.name in trial_table.trials else -1
        newest = max(Checkpoints(folder).epochs(), default=0)
        if newest > known + 1:  # one more: the process was killed before it heard of it
            what = f"trial {folder.name} has a checkpoint of epoch {newest}, of which it knows {max(0, known)}"
            lost.append(f"The event log has lost its end: {what}. What it does not know is done again.")
    return lost


def _seconds(events: Sequence[Event]) -> float:
    """What the processes that left these events have worked."""
    total, began = 0.0, 0
    for event, after in itertools.zip_longest(events, events[1:]):
        began = event.time_ms if event.kind == "open" else began
        if began and (after is None or after.kind == "open"):
            total += (event.time_ms - began) / 1000
    return total


def _packed(plan: Plan, data: Path, console: Console, rolled: Rollout | None) -> Plan:
    """As many trials on a GPU as have room, by what one of them takes."""
    site, left_out = (rolled.site, list(rolled.left_out)) if rolled else (None, [])
    peak, total = gpu_packing.measure(plan.task, plan.space, data, plan.request.seed, plan.resources, site, left_out)
    resources = gpu_packing.packed(plan.resources, peak, total)
    console.print(
        f"A trial takes up to {peak:.1f} of {total:.0f} GiB of a GPU: {resources.describe()}", highlight=False
    )
    return replace(plan, resources=resources)


def _facts(plan: Plan) -> StudyFacts:
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
