"""Ray Tune runs the trials that a search decides on. Each attempt at a trial is a trial of Ray's; what happens to it is
told to the search, whose word Ray takes. What Ray keeps of its own is not gone back to.
"""

import numbers
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, PlacementGroupFactory, RunConfig, Stopper
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from platform.cluster.ray_runtime import elsewhere
from platform.search.controller import Search
from platform.study.trials import Trial
from platform.training.reporters import EPOCH, FIRST_UNFREEZE, LAST, NOTES

ERROR_LINES = 20
# What Ray tells of in many words.
DIED = {
    "because its worker process has died": "its process died: killed from outside, for want of memory, or crashed",
}
GONE = {
    "because its node has died": "its node went away",
    "is temporarily unavailable": "its node could no longer be reached",
}
UNFIT = re.compile(r"UnfitNodeError: (\w+) (.*)")  # of platform.cluster.node_setup: which, and why
RAYS = ".ray"  # a folder of a study: what Ray writes of its own


class _NotKept:
    """Ray pickles what it is given into its folder; a search is not for that."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Proposer(_NotKept, Searcher):
    """Asks the search for the next attempt."""

    def __init__(
        self, search: Search, context_of: Callable[[Trial], Mapping[str, Any]], left_out: Mapping[str, str]
    ) -> None:
        """
        Args:
            search: Decides.
            context_of: What an attempt at a trial is told besides its configuration.
            left_out: Nodes that it must not run on.
        """
        super().__init__(metric=search.space.metric, mode=search.space.mode)
        self.search, self.context_of, self.left_out = search, context_of, left_out

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self.search.is_over or self.search.stopped or self.search.enough:
            return Searcher.FINISHED  # type: ignore[return-value]  # as Ray has it
        trial = self.search.next()
        if trial is None:
            return None
        return {**trial.config, "context": {**self.context_of(trial), "left_out": sorted(self.left_out)}}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The callback is told."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()  # Ray wants a file

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study goes on from its event log")


class Judge(_NotKept, FIFOScheduler):
    """Tells the search of each epoch, and Ray whether the trial goes on."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search = search

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        step = int(result.get(EPOCH, result["training_iteration"]))
        notes = {key.removeprefix(f"{NOTES}/"): text for key, text in result.items() if key.startswith(f"{NOTES}/")}
        last, first_unfreeze = bool(result.get(LAST)), result.get(FIRST_UNFREEZE)
        goes_on = self.search.epoch(_ours(self.search, trial), step, our_metrics(result), notes, last, first_unfreeze)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


class Watch(_NotKept, Callback):
    """Tells the search how attempts begin and end."""

    def __init__(self, search: Search, tick: Callable[[], None], left_out: dict[str, str]) -> None:
        """
        Args:
            search: Is told.
            tick: Called after each step of Ray's.
            left_out: Nodes that will not do, and why: those that turn out so are added.
        """
        self.search, self.tick, self.left_out = search, tick, left_out

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.search.started(_ours(self.search, trial))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.search.ended(_ours(self.search, trial))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = _error_of(trial)
        if unfit := UNFIT.search(error):
            self.left_out[unfit[1]] = unfit[2]
        moved = bool(unfit) or error.splitlines()[-1] in GONE.values()
        self.search.failed(_ours(self.search, trial), error, moved)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self.tick()


class Stop(_NotKept, Stopper):
    """Ends all attempts where the study cannot go on."""

    def __init__(self, search: Search) -> None:
        self.search = search

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self.search.stopped) or self.search.enough


def run(
    search: Search,
    train: Callable[[dict[str, Any]], None],
    context_of: Callable[[Trial], Mapping[str, Any]],
    folder: Path,
    cpus: float,
    concurrent: int,
    seconds: float | None,
    tick: Callable[[], None],
    left_out: dict[str, str] | None = None,
) -> None:
    """Runs trials on a Ray that is connected until all are done, time is up, or the process is told to stop.

    Args:
        search: Decides.
        train: The trainable.
        context_of: What an attempt at a trial is told; its "gpus" is the share of a GPU that it gets.
        folder: The study's.
        cpus: Cores of a trial.
        concurrent: Trials at a time.
        seconds: After which to stop, None for no limit.
        tick: Called all the time.
        left_out: Nodes of a cluster that no trial runs on, and why; those that turn out so are added.
    """
    unfit = {} if left_out is None else left_out

    def resources(config: Mapping[str, Any]) -> PlacementGroupFactory:
        # Ray keeps a copy of this function as it is now: which nodes are left out by then comes with the attempt.
        context = config["context"]
        where = elsewhere(context["left_out"])
        but: dict[str, Any] = {"bundle_label_selector": [where]} if where else {}
        return PlacementGroupFactory([{"CPU": cpus, "GPU": context["gpus"]}], **but)

    shutil.rmtree(folder / RAYS, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(train, resources),
        param_space={"context": {}},
        tune_config=tune.TuneConfig(
            search_alg=Proposer(search, context_of, unfit),
            scheduler=Judge(search),
            num_samples=-1,  # the search says when it is over
            max_concurrent_trials=concurrent,
            reuse_actors=True,  # starting a worker and importing torch costs more than a short trial
            time_budget_s=seconds,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=RunConfig(
            name=RAYS,
            storage_path=str(folder),
            callbacks=[Watch(search, tick, unfit)],
            stop=Stop(search),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(folder / RAYS, ignore_errors=True)


def our_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The task's metrics in a Ray result, without what Ray adds (pid, timestamps, config)."""
    return {
        # A metric named after a class can hold anything, e.g. "val/ap/H&M"; one such key would fail the whole batch.
        re.sub(r"[^\w\-. :/]", "_", key): float(value)
        for key, value in result.items()
        if "/" in key and not key.startswith(("config/", f"{NOTES}/"))
        if isinstance(value, numbers.Real) and not isinstance(value, bool)
    }


def _ours(search: Search, trial: Any) -> Trial:
    return search.trial_table.trials[trial.config["context"]["trial"]]


def _error_of(trial: Any) -> str:
    """The last lines of what an attempt raised; the last of them says why in a few words."""
    text = Path(trial.error_file).read_text(errors="replace").rstrip() if trial.error_file else ""
    told = [why for what, why in (DIED | GONE).items() if what in text]
    return "\n".join([*(text or "it left no word of why").splitlines()[-ERROR_LINES:], *told])
