"""Simulation of searches: no score is seen before its epoch is trained; the targets are scores of the best configs."""

import itertools
import math
import warnings

import numpy as np
import pytest
from ray import tune

from benchmarks import curves, search_quality
from benchmarks.curves import Recorded
from benchmarks.search_quality import Ours, Random, Stock, reached, simulate
from benchmarks.surrogate import Surrogate, random_config
from platform.space import Space

SPACE = Space(
    {
        "freeze_depth": tune.randint(0, 3),
        "unfreeze": tune.choice(["never", "at_once"]),
        "unfreeze_at": tune.uniform(0.1, 0.9),
        "lr_head": tune.loguniform(1e-4, 1e-1),
        "backbone_ratio": 0.1,
        "layer_decay": 1.0,
        "batch_size": 8,
    },
    metric="val/accuracy",
    mode="max",
    max_epochs=6,
    grace_epochs=2,
    trials=9,
    depth=2,
    start={"freeze_depth": 1, "unfreeze": "never", "unfreeze_at": 0.5, "lr_head": 1e-3},
)


def truth(config: dict) -> np.ndarray:
    """Return a curve (6,) that ends higher, the nearer the rate is to 0.01."""
    return np.linspace(0.5, 1.0, 6) * (1 - abs(math.log10(config["lr_head"]) + 2) / 2)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def table() -> Recorded:
    generator = np.random.default_rng(0)
    configs = [random_config(SPACE, generator) for _ in range(60)]
    return Recorded("made up", SPACE, configs, np.array([truth(config) for config in configs]))


class Hidden:
    """Curve that checks that each epoch is read once, in order."""

    def __init__(self, config: dict) -> None:
        self.config, self.seen = config, 0

    def __getitem__(self, epoch: int) -> float:
        assert epoch == self.seen < SPACE.max_epochs
        self.seen += 1
        return float(truth(self.config)[epoch])


@pytest.mark.parametrize("method", ["random", "stock", "ours"])
def test_a_search_sees_what_it_trains_and_no_more(table, method):
    made = {
        "random": lambda: Random(SPACE, 1),
        "stock": lambda: Stock(SPACE, 1),
        "ours": lambda: Ours(SPACE, 1, table.first_unfreeze),
    }
    asked: list[Hidden] = []

    def curve(config: dict) -> Hidden:
        asked.append(Hidden(config))
        return asked[-1]

    steps = list(itertools.islice(simulate(made[method](), curve), 150))
    assert [trained for trained, *_ in steps] == list(range(1, 151))
    assert sum(each.seen for each in asked) == 150
    first = {**SPACE.fixed, **SPACE.start}
    assert asked[0].config == first, "all begin with the same point"
    running: dict[str, int] = {}
    for _, trial_id, epoch, score in steps:
        assert epoch == running.get(trial_id, 0) + 1
        assert score == truth(asked[int(trial_id) - 1].config)[epoch - 1]
        running[trial_id] = epoch
    assert {len(steps[number : number + 2]) for number in range(0, 150, 2)} == {2}
    assert [trial_id for _, trial_id, *_ in steps[:4]] == ["001", "002", "001", "002"], "two at a time, in turn"
    if method == "random":
        assert set(list(running.values())[:-2]) == {SPACE.max_epochs}
    else:
        assert min(running.values()) < SPACE.max_epochs == max(running.values()), "some are pruned, some are not"


def test_ours_keeps_its_search_honest(table):
    """Optuna knows a pruned trial as pruned; Ray's searcher reports it as complete."""
    ours, stock = Ours(SPACE, 1, table.first_unfreeze), Stock(SPACE, 1)
    for method in (ours, stock):
        list(itertools.islice(simulate(method, truth), 120))
    assert {trial.status for trial in ours.trial_table.trials.values() if trial.is_done} == {"finished", "pruned"}
    states = {trial.state.name for trial in stock.search._ot_study.trials}
    assert states == {"COMPLETE", "RUNNING"}


def test_the_top_is_the_top(table):
    surrogate = Surrogate(table)
    top, most = surrogate.targets((0.01, 0.5), points=2000)
    bests = np.array([max(surrogate.curve(random_config(SPACE, np.random.default_rng((9, n))))) for n in range(2000)])
    assert np.mean(bests >= top) == pytest.approx(0.01, abs=0.01)
    assert np.mean(bests >= most) == pytest.approx(0.5, abs=0.05)
    trained = {}
    for name, method in (("random", Random(SPACE, 3)), ("ours", Ours(SPACE, 3, table.first_unfreeze))):
        trained[name] = reached(method, surrogate, [most, top, 2.0], 1500)
        assert trained[name][0] <= trained[name][1] < trained[name][2] == math.inf
    best = max(
        (random_config(SPACE, np.random.default_rng((9, n))) for n in range(2000)),
        key=lambda c: max(surrogate.curve(c)),
    )
    assert abs(math.log10(best["lr_head"]) + 2) < 0.3


def test_noise_is_of_the_point_alone(table):
    plain, noisy = Surrogate(table), Surrogate(table, noise=True)
    points = [random_config(SPACE, np.random.default_rng(number)) for number in range(20)]
    apart = [noisy.curve(point) - plain.curve(point) for point in points]
    assert np.std([each[-1] for each in apart]) > 0
    assert all(np.array_equal(noisy.curve(point), noisy.curve(dict(point))) for point in points)


def test_a_warm_start_begins_with_the_best_of_the_other_table(table):
    earlier = search_quality._earlier(Surrogate(table), 5)
    lrs = [config["values"]["lr_head"] for config in earlier["configs"]]
    assert np.mean([abs(math.log10(lr) + 2) for lr in lrs]) < 0.5
    method = Ours(SPACE, 0, table.first_unfreeze, earlier)
    assert [method.propose("")["lr_head"] for _ in lrs] == lrs


def test_ratios_are_of_medians():
    slow, fast = np.array([100.0, 200, 300, math.inf] * 30), np.array([10.0, 20, 30, 40] * 30)
    assert search_quality._spread(fast) == "25 (10–30)" or search_quality._spread(fast).startswith(("20", "30"))
    assert search_quality._ratio(slow, fast).startswith("10.00 (")


@pytest.mark.parametrize("file", sorted(curves.CURVES.glob("*.json.gz")), ids=lambda file: file.name)
def test_a_recorded_file_is_read(file, tmp_path):
    recorded = Recorded.of(file)
    assert recorded.scores.shape == (len(recorded.configs), recorded.space.max_epochs)
    assert not [config for config in recorded.configs if recorded.space.misfit(config)]
    curves.write(tmp_path / "again.json.gz", curves.read(file))
    assert (tmp_path / "again.json.gz").read_bytes() == file.read_bytes(), "the same curves, the same file"
