"""Quality of the search: epochs until it has seen a score that only the best 1 % of random configs reach.

python -m benchmarks.search_quality                          on the curves in benchmarks/curves
python -m benchmarks.search_quality TABLE --after OTHER      with an earlier study of another table for the warm start

Searches are simulated on surrogates of recorded learning curves (benchmarks/surrogate.py): two trials at a time, an
epoch of each in turn, the same for all methods. All begin with the same random point of the seed, since the space's own
start is what its author knows, and propose freely in the space:

random                  random points, each trained to its end
stock                   Ray's OptunaSearch and ASHAScheduler as they ship, with the space's budget and first rung
ours                    platform.search.controller, which makes the decisions of `platform.tune`
ours, warm              the same after a study of another data set, of 30 trials, whose epochs are not counted
ours, warm, same data   the same after a study of the same data
"""

import argparse
import itertools
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from benchmarks import timing
from benchmarks.curves import CURVES, Recorded
from benchmarks.surrogate import Surrogate, random_config
from platform.search.controller import SearchController
from platform.search.warm_start import choose
from platform.space import Space
from platform.study.event_log import EventLog
from platform.study.past_studies import PastStudy
from platform.study.trials import TrialTable

TOP = (0.01, 0.05)
WORKERS = 2
EARLIER_TRIALS = 30
PAIRS = {"classifier": "objects", "objects": "classifier", "autoencoder": "digits", "digits": "autoencoder"}

FirstUnfreeze = Callable[[dict[str, Any]], int | None]


class Method(Protocol):
    """Search method: proposes configs and decides which trials continue."""

    def propose(self, trial_id: str) -> dict[str, Any]:
        """Return the config of a new trial."""

    def goes_on(self, trial_id: str, epoch: int, score: float) -> bool:
        """Return whether a trial continues after an epoch (from 1)."""


class Random:
    """Random configs, each trained to the full budget."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.generator = space, np.random.default_rng((seed, 1))
        self.first: dict[str, Any] | None = {**space.fixed, **space.start}

    def propose(self, trial_id: str) -> dict[str, Any]:
        first, self.first = self.first, None
        return first or random_config(self.space, self.generator)

    def goes_on(self, trial_id: str, epoch: int, score: float) -> bool:
        return epoch < self.space.max_epochs


class Stock:
    """Ray Tune's own classes, called as its controller calls them."""

    def __init__(self, space: Space, seed: int) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        self.space = space
        target: dict[str, Any] = {"metric": space.metric, "mode": space.mode}
        self.search = OptunaSearch(**target, points_to_evaluate=[dict(space.start)], seed=seed)
        self.search.set_search_properties(None, None, space.searched)
        self.scheduler = ASHAScheduler(**target, max_t=space.max_epochs, grace_period=space.grace_epochs)
        self.controller: Any = None  # the scheduler does not ask it
        self.trials: dict[str, Any] = {}

    def propose(self, trial_id: str) -> dict[str, Any]:
        self.trials[trial_id] = SimpleNamespace(trial_id=trial_id)
        self.scheduler.on_trial_add(self.controller, self.trials[trial_id])
        return {**self.space.fixed, **self.search.suggest(trial_id)}  # type: ignore[dict-item]

    def goes_on(self, trial_id: str, epoch: int, score: float) -> bool:
        trial, result = self.trials[trial_id], {self.space.metric: score, "training_iteration": epoch}
        if self.scheduler.on_trial_result(self.controller, trial, result) != "STOP":
            self.search.on_trial_result(trial_id, result)
            return True
        self.scheduler.on_trial_complete(self.controller, trial, result)
        self.search.on_trial_complete(trial_id, result)
        return False


class Ours:
    """Search of this project, with its event log in a temporary folder."""

    def __init__(self, space: Space, seed: int, first_unfreeze: FirstUnfreeze, earlier: Any = None) -> None:
        self.space, self.first_unfreeze = space, first_unfreeze
        self.folder = tempfile.TemporaryDirectory()
        self.trial_table = TrialTable(EventLog(Path(self.folder.name) / "event log"))
        if earlier:
            self.trial_table.record("study", warm_start=earlier)
        self.controller = SearchController(replace(space, trials=10**6, baselines={}), seed, self.trial_table)

    def propose(self, trial_id: str) -> dict[str, Any]:
        trial = self.controller.next_trial()
        assert trial is not None
        self.controller.on_trial_start(trial)
        return trial.config

    def goes_on(self, trial_id: str, epoch: int, score: float) -> bool:
        trial = self.trial_table.trials[trial_id]
        going = self.controller.on_report(
            trial,
            epoch,
            {self.space.metric: score},
            {},
            epoch == self.space.max_epochs,
            self.first_unfreeze(trial.config),
        )
        if not going:
            self.controller.on_trial_complete(trial)
        return going


def simulate(method: Method, curve: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[int, str, int, float]]:
    """Simulate a search without end. Yield, for each epoch: their number so far, the trial, its epoch and its score.

    Args:
        method: The search.
        curve: The scores after each epoch of a configuration; the method sees those that it has trained.
    """
    running: dict[str, tuple[Any, int]] = {}
    proposed, trained = itertools.count(1), 0
    while True:
        while len(running) < WORKERS:
            trial_id = f"{next(proposed):03d}"
            running[trial_id] = curve(method.propose(trial_id)), 0
        for trial_id, (scores, epochs) in list(running.items()):
            trained, epoch, score = trained + 1, epochs + 1, float(scores[epochs])
            running[trial_id] = scores, epoch
            yield trained, trial_id, epoch, score
            if not method.goes_on(trial_id, epoch, score):
                del running[trial_id]


def reached(method: Method, surrogate: Surrogate, targets: list[float], most: int) -> list[float]:
    """Return how many epochs a search trains until it sees each target (greater is better); inf if more than `most`."""
    as_maximised, left = surrogate.recorded.space.as_maximised, dict(enumerate(targets))
    found = [math.inf] * len(targets)
    for trained, _, _, score in simulate(method, surrogate.curve):
        for number in [number for number, target in left.items() if as_maximised(score) >= target]:
            found[number] = trained
            del left[number]
        if not left or trained >= most:
            return found
    raise AssertionError("a search has no end")


def main() -> None:
    """Print a table for each file."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.search_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="*", type=Path, default=[CURVES / f"{name}.json.gz" for name in PAIRS])
    p.add_argument("--after", type=Path, help="the table of the earlier study of other data")
    p.add_argument("--methods", nargs="+", default=["random", "stock", "ours", "ours, warm", "ours, warm, same data"])
    p.add_argument("--seeds", type=int, default=100)
    p.add_argument("--most", type=int, default=2000, help="epochs after which a search is given up")
    p.add_argument("--noise", action="store_true", help="with what the surrogate leaves unexplained")
    p.add_argument("--processes", type=int, default=1)
    options = p.parse_args()
    warnings.simplefilter("ignore")
    for file in options.files:
        _table(file, options)


def _table(file: Path, options: argparse.Namespace) -> None:
    surrogate = Surrogate(Recorded.of(file), options.noise)
    name = surrogate.recorded.name
    after = options.after or (CURVES / f"{PAIRS[name]}.json.gz" if name in PAIRS else file)
    other = Surrogate(Recorded.of(after), options.noise)
    targets = surrogate.targets(TOP)
    with ProcessPoolExecutor(options.processes, get_context("fork"), _keep, (surrogate, other)) as pool:
        runs = {
            method: np.array(list(pool.map(_run, *zip(*((method, seed, targets, options.most)
                    for seed in range(options.seeds)), strict=True))))
            for method in options.methods
        }  # fmt: skip
    scores = ", ".join(f"{target:.4f}" for target in targets)
    print(f"\n{name}: surrogate of {len(surrogate.recorded.scores)} curves{', with noise' * options.noise}; ", end="")
    print(f"{options.seeds} seeds; {surrogate.recorded.space.metric} {scores}; earlier study: {other.recorded.name}\n")
    header = ["search", *(part for top in TOP for part in (f"epochs to the top {top:.0%}", "stock / it"))]
    rows = [[method, *(part for number in range(len(TOP)) for part in (
            _spread(found[:, number]), _ratio(runs.get("stock", found)[:, number], found[:, number])))]
            for method, found in runs.items()]  # fmt: skip
    print(timing.table(header, rows), flush=True)


def _spread(epochs: np.ndarray) -> str:
    """Return the median with the quartiles as text."""
    low, middle, high = np.quantile(epochs, (0.25, 0.5, 0.75), method="nearest")
    return f"{middle:.0f} ({low:.0f}–{high:.0f})"


def _ratio(slower: np.ndarray, faster: np.ndarray) -> str:
    """Return the ratio of the medians with its 95 % bootstrap interval as text."""
    generator = np.random.default_rng(0)
    medians = [np.median(generator.choice(of, (2000, len(of))), axis=1) for of in (slower, faster)]
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    return f"{np.median(slower) / np.median(faster):.2f} ({low:.2f}–{high:.2f})"


def _earlier(surrogate: Surrogate, seed: int) -> dict[str, Any]:
    """Return the warm start from a study of `EARLIER_TRIALS` trials on a table, as an event log holds it."""
    space, first_unfreeze = surrogate.recorded.space, surrogate.recorded.first_unfreeze
    start = random_config(space, np.random.default_rng((seed, 0)))
    space = replace(space, start={key: start[key] for key in space.searched}, baselines={})
    method = Ours(space, seed, first_unfreeze)
    for _ in simulate(method, surrogate.curve):
        trials = [trial for trial in method.trial_table.trials.values() if trial.is_done]
        if len(trials) >= EARLIER_TRIALS:
            break
    study = PastStudy("earlier", "earlier", "a study", "task", space.metric, space.mode, "", trials)
    return choose([study], "task", space, "").as_json()


_surrogates: tuple[Surrogate, Surrogate]


def _keep(*surrogates: Surrogate) -> None:
    import optuna

    global _surrogates
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _surrogates = surrogates  # type: ignore[assignment]


def _run(method: str, seed: int, targets: list[float], most: int) -> list[float]:
    """Run one search with a method, after an earlier study if it is a warm start."""
    surrogate, other = _surrogates
    space, first_unfreeze = surrogate.recorded.space, surrogate.recorded.first_unfreeze
    start = random_config(space, np.random.default_rng((seed, 0)))
    space = replace(space, start={key: start[key] for key in space.searched}, baselines={})
    if method == "random":
        return reached(Random(space, seed), surrogate, targets, most)
    if method == "stock":
        return reached(Stock(space, seed), surrogate, targets, most)
    same = method.endswith("same data")
    earlier = _earlier(surrogate if same else other, seed + 1000) if "warm" in method else None
    return reached(Ours(space, seed, first_unfreeze, earlier), surrogate, targets, most)


if __name__ == "__main__":
    main()
