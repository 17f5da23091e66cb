"""Batches come from the feature store where that is correct and saves time, and are computed elsewhere."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import Numbers

from platform.models.stages import Stage, run_stages
from platform.training import example_feed as feed_module
from platform.training import feature_store, frozen_prefix
from platform.training.acceleration import Speed
from platform.training.example_feed import ExampleFeed
from platform.training.feature_store import Store
from platform.training.freezing import Freezer, Freezing
from platform.training.frozen_prefix import NotFrozenError, Prefix
from platform.training.reuse_cost import Costs, Decision, decide

STAGES = [Stage(name, (f"body.{number}",), True) for number, name in enumerate(("one", "two", "three"))]
STAGES.append(Stage("head", ("head",)))


class Toy(nn.Module):
    """Model of three stages and a head that records each run of its stages."""

    max_split_index = 3

    def __init__(self, slow: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 4), nn.Linear(4, 4))
        self.head, self.slow = nn.Linear(4, 1), slow
        self.runs: list[tuple[int, int, int]] = []

    def run(self, state, start: int, stop: int) -> dict[str, Tensor]:
        self.runs.append((start, stop, len(state["x"])))
        time.sleep(self.slow)
        return {"x": run_stages(self.body, state["x"], start, stop)}

    def prefix_facts(self, split_index: int) -> dict:
        return {"kind": "toy"}


def feed_of(root: Path | None, model: nn.Module, depth: int = 2, examples=None, unfreeze: str = "never") -> ExampleFeed:
    freezer = Freezer(model, STAGES, Freezing(depth, unfreeze, unfreeze_at=0.5), epochs=4)
    freezer.train()
    return ExampleFeed(model, freezer, examples or Numbers(), None if root is None else Store(root, 10**9))


@pytest.fixture
def measured():
    """Let a test decide by its measured costs in place of always storing."""


@pytest.fixture(autouse=True)
def _always_kept(monkeypatch, request):
    if "measured" not in request.fixturenames:
        monkeypatch.setattr(feed_module, "decide", lambda *costs, **options: Decision(True, "told to"))


def test_a_batch_holds_what_the_frozen_stages_make_of_it(tmp_path):
    feed = feed_of(tmp_path, Toy())
    feed.prepare(0, 4)
    indices = np.array([3, 0, 11, 3])  # one of them twice: it is drawn more often than others
    batch = feed.batch("train", indices)
    assert batch.split_index == 2
    with torch.inference_mode():
        wanted = feed.model.run(feed.examples.inputs(indices, None), 0, 2)["x"]
    torch.testing.assert_close(batch.state["x"], wanted)
    assert feed.batch("val", np.array([16, 23])).split_index == 2
    assert feed.note().startswith("kept at split index 2: ")
    plain = feed_of(None, Toy())
    plain.prepare(0, 4)
    assert (plain.batch("train", indices).split_index, plain.note(), plain.metrics()) == (0, "off", {})


def test_a_second_trial_computes_nothing(tmp_path):
    feed_of(tmp_path, Toy()).prepare(0, 4)
    second = feed_of(tmp_path, Toy())
    second.prepare(0, 4)
    assert second.savings.computed == 0
    second.batch("train", np.arange(16))
    assert second.metrics()["reuse/loaded"] == 16
    assert second.not_run == 2


def test_a_deeper_split_is_computed_from_a_shallower_one(tmp_path):
    feed_of(tmp_path, Toy(), depth=1).prepare(0, 4)
    deeper = feed_of(tmp_path, Toy(), depth=3)
    deeper.prepare(0, 4)
    fills = [run for run in deeper.model.runs if run[2] in (16, 8) and run[0]]
    assert fills == [(1, 3, 16), (1, 3, 8)]
    indices = np.array([5, 2])
    with torch.inference_mode():
        wanted = deeper.model.run(deeper.examples.inputs(indices, None), 0, 3)["x"]
    torch.testing.assert_close(deeper.batch("train", indices).state["x"], wanted)


def test_unfreezing_lowers_the_split_index_down_to_none(tmp_path):
    feed = feed_of(tmp_path, Toy(), depth=2, unfreeze="gradual")
    feed_of(tmp_path, Toy(), depth=1).prepare(0, 4)  # another trial has made that of the first stage
    indices, notes = [], []
    for epoch in range(4):
        feed.freezer.advance(epoch, [])
        feed.freezer.train()
        feed.prepare(epoch, feed.freezer.lasting(epoch))
        indices.append((feed.batch("train", np.arange(4)).split_index, feed.not_run, feed.freezer.lasting(epoch)))
        notes.append(feed.note().partition(":")[0])
    assert indices == [(2, 2, 2), (2, 2, 1), (1, 1, 1), (0, 0, 1)]
    assert notes == ["kept at split index 2", "kept at split index 2", "kept at split index 1", "nothing is frozen"]


def test_outputs_that_are_used_once_are_not_stored(tmp_path):
    feed = feed_of(tmp_path, Toy())
    feed.prepare(3, 1)
    assert feed.batch("train", np.arange(4)).split_index == 0
    assert feed.note() == "computed at split index 2: seen once"


def test_views_are_drawn_once_while_stages_are_frozen(tmp_path):
    model, examples = Toy(), Numbers(views=2)
    feed = feed_of(tmp_path, model, examples=examples)
    seen = []
    for epoch in range(4):
        feed.prepare(epoch, 4 - epoch)
        batch = feed.batch("train", np.arange(5))
        seen.append((batch.view, batch.state["x"]))
    assert [view for view, _ in seen] == [0, 1, 0, 1]
    assert torch.equal(seen[0][1], seen[2][1])
    assert not torch.equal(seen[0][1], seen[1][1])
    assert feed.savings.computed == 2 * 16 + 8
    unfrozen = feed_of(tmp_path, Toy(), depth=0, examples=examples)
    for epoch in (0, 7):
        unfrozen.prepare(epoch, 1)
        assert unfrozen.batch("train", np.arange(5)).view == epoch


def _key(change: str) -> dict:
    model, examples, depth = Toy(), Numbers(seed=int(change == "data")), 1 if change == "split_index" else 2
    if change == "weights":
        model.body[1].weight.data[0, 0] += 1e-6
    if change == "buffers":
        model.body[0][1].running_mean += 1e-6
    if change == "model":
        model.prefix_facts = lambda split_index: {"kind": "another"}
    freezer = Freezer(model, STAGES, Freezing(depth), epochs=4)
    freezer.train()
    split, view = "val" if change == "split" else "train", 1 if change == "view" else None
    return Prefix(model, freezer, examples, depth, split, view, Speed()).facts()


@pytest.mark.parametrize("change", ["weights", "buffers", "model", "data", "split", "view", "split_index"])
def test_outputs_of_other_facts_are_never_used(change, tmp_path):
    assert feature_store.key_of(_key("nothing")) == feature_store.key_of(_key("nothing"))
    assert feature_store.key_of(_key("nothing")) != feature_store.key_of(_key(change))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_versions", lambda: {"torch": "0.1"}),
        ("code_digest", lambda: "another"),
        ("device_name", lambda: "another device"),
        ("FORMAT", feature_store.FORMAT + 1),
    ],
)
def test_another_library_code_or_device_is_another_entry(name, value, monkeypatch):
    before = feature_store.key_of(_key("nothing"))
    monkeypatch.setattr(frozen_prefix, name, value)
    assert feature_store.key_of(_key("nothing")) != before


def test_another_precision_is_another_entry_and_stored_as_float32(tmp_path):
    feed = feed_of(tmp_path, Toy())
    feed.prepare(0, 4)
    feed.speed = Speed(("bfloat16",))
    feed._parts.clear()
    feed.prepare(0, 4)
    assert feed.savings.computed == 2 * 24
    assert feed.batch("train", np.arange(3)).state["x"].dtype == torch.float32


def test_weights_beyond_the_split_index_do_not_matter():
    before = _key("nothing")
    model = Toy()
    model.body[2].weight.data += 1
    model.head.weight.data += 1
    freezer = Freezer(model, STAGES, Freezing(3), epochs=4)  # deeper frozen, the same split index
    freezer.train()
    assert Prefix(model, freezer, Numbers(), 2, "train", None, Speed()).facts() == before


def test_batch_norm_in_training_mode_cannot_enter(tmp_path):
    feed = feed_of(tmp_path, Toy())
    feed.model.train()
    with pytest.raises(NotFrozenError, match=r"body\.0"):
        feed.prepare(0, 4)
    feed.freezer.train()
    feed.model.body[0][1].train()
    with pytest.raises(NotFrozenError, match=r"body\.0\.1 is in training mode"):
        feed.prepare(0, 4)
    assert not list(tmp_path.glob("*/layout.json"))


class Noisy(Toy):
    def run(self, state, start, stop):
        return {"x": super().run(state, start, stop)["x"] + torch.rand(1)}


class Sociable(Toy):
    def run(self, state, start, stop):
        x = super().run(state, start, stop)["x"]
        return {"x": x - x.mean(0)}


@pytest.mark.parametrize(("kind", "reason"), [(Noisy, "the same x twice"), (Sociable, "what else is in the batch")])
def test_outputs_that_depend_on_more_than_the_example_are_not_stored(kind, reason, tmp_path):
    feed = feed_of(tmp_path, kind())
    feed.prepare(0, 4)
    assert feed.batch("train", np.arange(4)).split_index == 0
    assert reason in feed.note()


class Wide(Toy):
    """Next to nothing to compute, and much to keep."""

    def run(self, state, start, stop):
        return {"x": state["x"][:, :1].expand(-1, 300_000)}


def test_cheap_stages_are_computed_and_the_note_says_so(tmp_path, measured):
    feed = feed_of(tmp_path, Wide())
    feed.prepare(0, 4)
    assert feed.batch("train", np.arange(4)).split_index == 0
    assert "computed at split index 2: 16 examples seen 4 times (" in feed.note()
    slow = feed_of(tmp_path / "slow", Toy(slow=0.05))
    slow.prepare(0, 4)
    assert slow.batch("train", np.arange(4)).split_index == 2


def test_a_decision_weighs_all_uses():
    costs = Costs(compute=1.0, write=0.5, load=0.2, bytes=100)
    assert not decide(costs, 10, uses=1).keep
    assert decide(costs, 10, uses=2).keep
    assert decide(costs, 10, uses=1, is_there=True).keep
    assert not decide(Costs(1.0, 0.0, 1.2, 100), 10, uses=100, is_there=True).keep
    assert decide(costs, 10, 2).reason == "1e+03 ms to compute, 200 ms to load, 0.1 KiB an example"
    few, cheap = 5, Costs(compute=1e-4, write=1e-5, load=1e-6, bytes=100)
    assert not decide(cheap, few, uses=10).keep, "an entry costs more to open than all there is to compute"
    assert decide(cheap, 1000, uses=10).keep


def test_training_continues_without_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", Path("/proc/store")):
        feed = feed_of(root, Toy())
        feed.prepare(0, 4)
        assert feed.batch("train", np.arange(4)).split_index == 0
        assert "without the store: " in feed.note()
        assert str(root) in feed.note()


def test_damaged_measurements_are_named(tmp_path):
    feed_of(tmp_path, Toy()).prepare(0, 4)
    for file in tmp_path.glob("measured/*.json"):
        file.write_text('{"compute": 1}')
    feed = feed_of(tmp_path, Toy())
    feed.prepare(0, 4)
    assert feed.batch("train", np.arange(4)).split_index == 0
    assert "what was measured is damaged; delete" in feed.note()


FULL = """
import resource, sys
from pathlib import Path
from test_example_feed import Numbers, Toy, feed_of
from platform.training import example_feed
from platform.training.reuse_cost import Decision
example_feed.decide = lambda *costs, **options: Decision(True, "told to")
mine = feed_of(Path(sys.argv[1]), Toy(), examples=Numbers(train=20_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # what a file may grow to: the system refuses the rest
mine.prepare(0, 4)
print(mine.batch("train", mine.examples.indices("train")).split_index, mine.note())
"""


def test_training_continues_when_the_disk_is_full(tmp_path):
    here = Path(__file__).parents[1]
    # -B: a library imported under the limit would leave its bytecode cut short in the environment, for all who follow.
    command = [sys.executable, "-B", "-c", FULL, str(tmp_path / "store")]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": os.pathsep.join(map(str, (here.parent, here, here / "training")))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 train: computed at split index 2, without the store: File too large")
    assert "val: kept at split index 2" in done.stdout
    assert len(list((tmp_path / "store").glob("*/layout.json"))) == 1, "nothing half made is left"


def test_only_validation_is_stored_if_everything_is_frozen(tmp_path):
    model = Toy()
    freezer = Freezer(model, STAGES, Freezing(3, always=("head",)), epochs=4)
    freezer.train()
    feed = ExampleFeed(model, freezer, Numbers(), Store(tmp_path, 10**9))
    feed.prepare(0, 4)
    assert feed.savings.computed == 8
    assert feed.not_run == 3
