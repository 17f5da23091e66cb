"""Adapter to Ray Tune, which runs the trials that a search controller decides on.

Each attempt at a trial is a trial of Ray's. Ray reports what happens to the controller, and does what the controller
decides. Nothing is read back from the state that Ray keeps.
"""

import numbers
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import ActorUnavailableError, NodeDiedError, RayActorError, RayTaskError
from ray.tune import Callback, PlacementGroupFactory, RunConfig, Stopper
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from platform.cluster.node_setup import UnfitNodeError
from platform.cluster.ray_runtime import node_selector
from platform.search.controller import Cause, SearchController
from platform.storage.checkpoint_mirror import StorageError
from platform.storage.checkpoints import DiskFullError
from platform.study.trials import Trial
from platform.training.reporters import EPOCH, FIRST_UNFREEZE, LAST, NOTES

ERROR_LINES = 20
NODE_DIED = "because its node has died"  # Ray's words: no type tells a lost node from a process that died
NODE_LOST, NODE_UNAVAILABLE = "its node went away", "its node could no longer be reached"
PROCESS_DIED = "its process died: it was killed from outside, ran out of memory, or crashed"
RAY_FOLDER = ".ray"  # in a study's folder: what Ray itself writes


class _NotPickled:
    """Base of objects that Ray would pickle into its folder. A controller is not to be pickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(_NotPickled, Searcher):
    """Searcher that gets the next attempt from the controller."""

    def __init__(
        self,
        controller: SearchController,
        context_of: Callable[[Trial], Mapping[str, Any]],
        left_out: Mapping[str, str],
    ) -> None:
        """
        Args:
            controller: Controller of the study.
            context_of: Returns what an attempt at a trial needs to know besides its config.
            left_out: Nodes on which no trial may run, and why.
        """
        super().__init__(metric=controller.space.metric, mode=controller.space.mode)
        self.controller, self.context_of, self.left_out = controller, context_of, left_out

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self.controller.is_over or self.controller.stop_reason or self.controller.budget_spent:
            return Searcher.FINISHED  # type: ignore[return-value]  # Ray declares a config here, but wants this text
        trial = self.controller.next_trial()
        if trial is None:
            return None
        return {**trial.config, "context": {**self.context_of(trial), "left_out": sorted(self.left_out)}}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: StudyCallback informs the controller."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()  # Ray wants a file

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from its event log")


class StudyScheduler(_NotPickled, FIFOScheduler):
    """Scheduler that passes reports to the controller, and stops the trials that are not to continue."""

    def __init__(self, controller: SearchController) -> None:
        super().__init__()
        self.controller = controller

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self.controller.on_report(
            _trial_of(self.controller, trial),
            int(result.get(EPOCH, result["training_iteration"])),
            task_metrics(result),
            {key.removeprefix(f"{NOTES}/"): text for key, text in result.items() if key.startswith(f"{NOTES}/")},
            bool(result.get(LAST)),
            result.get(FIRST_UNFREEZE),
        )
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


class StudyCallback(_NotPickled, Callback):
    """Callback that informs the controller how attempts begin and end."""

    def __init__(self, controller: SearchController, tick: Callable[[], None], left_out: dict[str, str]) -> None:
        """`tick` is called after each step of Ray Tune; nodes that turn out to be unfit are added to `left_out`."""
        self.controller, self.tick, self.left_out = controller, tick, left_out

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.controller.on_trial_start(_trial_of(self.controller, trial))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.controller.on_trial_complete(_trial_of(self.controller, trial))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = _error_of(trial)
        cause, summary = classify(error)
        if isinstance(error, UnfitNodeError):
            node, _, reason = str(error).partition(" ")  # the node's id, then its host and what is wrong
            self.left_out[node] = reason
        message = Path(trial.error_file).read_text(errors="replace").rstrip() if trial.error_file else ""
        lines = (message or "The trial left no error message.").splitlines()[-ERROR_LINES:]
        text = "\n".join([*lines, *([summary] if summary else [])])
        self.controller.on_trial_error(_trial_of(self.controller, trial), text, cause)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self.tick()


class StudyStopper(_NotPickled, Stopper):
    """Stopper that ends all attempts when the study cannot continue."""

    def __init__(self, controller: SearchController) -> None:
        self.controller = controller

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self.controller.stop_reason) or self.controller.budget_spent


def run(
    controller: SearchController,
    train: Callable[[dict[str, Any]], None],
    context_of: Callable[[Trial], Mapping[str, Any]],
    folder: Path,
    cpus: float,
    concurrent: int,
    seconds: float | None,
    tick: Callable[[], None],
    left_out: dict[str, str] | None = None,
) -> None:
    """Run trials on a connected Ray until all are done, time is up, or the process is asked to stop.

    Args:
        controller: Controller of the study.
        train: Trainable function.
        context_of: Returns what an attempt at a trial needs to know; its "gpus" is the share of a GPU that it gets.
        folder: Folder of the study.
        cpus: Cores per trial.
        concurrent: Number of trials that run at the same time.
        seconds: Time limit, None for no limit.
        tick: Called after each step of Ray Tune.
        left_out: Nodes of a cluster on which no trial may run, and why. Nodes that turn out to be unfit are added.
    """
    left_out = {} if left_out is None else left_out

    def resources(config: Mapping[str, Any]) -> PlacementGroupFactory:
        # Ray copies this function when the run begins, so the nodes to avoid have to come with the attempt.
        context = config["context"]
        selector = node_selector(context["left_out"])
        options: dict[str, Any] = {"bundle_label_selector": [selector]} if selector else {}
        return PlacementGroupFactory([{"CPU": cpus, "GPU": context["gpus"]}], **options)

    shutil.rmtree(folder / RAY_FOLDER, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(train, resources),
        param_space={"context": {}},  # Ray calls `resources` with it once before there is a trial
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(controller, context_of, left_out),
            scheduler=StudyScheduler(controller),
            num_samples=-1,  # the controller says when the search is over
            max_concurrent_trials=concurrent,
            reuse_actors=True,  # starting a worker and importing torch takes longer than a short trial
            time_budget_s=seconds,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=RunConfig(
            name=RAY_FOLDER,
            storage_path=str(folder),
            callbacks=[StudyCallback(controller, tick, left_out)],
            stop=StudyStopper(controller),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(folder / RAY_FOLDER, ignore_errors=True)


def task_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that a task reports, under names that MLflow accepts, without what Ray adds."""
    return {
        # A metric named after a class can hold any character, e.g. "val/ap/H&M". MLflow would refuse the whole batch.
        re.sub(r"[^\w\-. :/]", "_", key): float(value)
        for key, value in result.items()
        if "/" in key and not key.startswith(("config/", f"{NOTES}/"))
        if isinstance(value, numbers.Real) and not isinstance(value, bool)
    }


def classify(error: BaseException | None) -> tuple[Cause, str]:
    """Return the cause of an attempt's error, and a short summary if Ray's own text is long, else "".

    An exception with the attribute `retry = False` is not retried.
    """
    if isinstance(error, ActorUnavailableError):
        return Cause.NODE, NODE_UNAVAILABLE
    if isinstance(error, NodeDiedError) or (isinstance(error, RayActorError) and NODE_DIED in str(error)):
        return Cause.NODE, NODE_LOST
    if isinstance(error, RayActorError):
        return Cause.OTHER, PROCESS_DIED
    if isinstance(error, UnfitNodeError):
        return Cause.NODE, ""
    if isinstance(error, DiskFullError | StorageError):
        return Cause.STORAGE, ""
    # torch's type by its name: to import torch only to compare the type would take seconds
    if (type(error).__module__, type(error).__name__) == ("torch", "OutOfMemoryError"):
        return Cause.OUT_OF_MEMORY, ""
    return (Cause.OTHER if getattr(error, "retry", True) else Cause.PERMANENT), ""


def _trial_of(controller: SearchController, trial: Any) -> Trial:
    """Return the study's trial that one of Ray's trials is an attempt at."""
    return controller.trial_table.trials[trial.config["context"]["trial"]]


def _error_of(trial: Any) -> BaseException | None:
    """Return the exception that ended an attempt; None if it cannot be read.

    Ray's `trial.get_pickled_error()` looks for the file in the storage, where Ray copies it only later.
    """
    if not trial.pickled_error_file:
        return None
    try:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # an exception of a user's trainable may be one that cannot be unpickled
        return None
    return error.cause if isinstance(error, RayTaskError) else error
