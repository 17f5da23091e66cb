"""Feature store on the disk: contents are intact, or are computed again."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.training import feature_store
from platform.training.feature_store import Store, StoreError, layout_of
from platform.training.frozen_prefix import chunks

ROWS = 200  # three batches and a part of one
LAYOUT = {"x": ((3,), "float32"), "map": ((2, 4, 5), "float32")}
SIZE = ROWS * (3 + 40) * 4


def rows(where: slice) -> dict[str, torch.Tensor]:
    """Return the rows of an entry, each with other values."""
    indices = torch.arange(where.start, where.stop).float()
    return {
        "x": indices[:, None] + torch.arange(3),
        "map": indices.view(-1, 1, 1, 1) + torch.rand(1, 2, 4, 5) * 0 + 0.5,
    }


def refuse(where: slice) -> dict[str, torch.Tensor]:
    raise AssertionError(f"{where} was there already")


def check(entry) -> None:
    order = np.random.default_rng(0).permutation(ROWS)
    read = entry.read(order)
    assert torch.equal(read["x"][:, 0], torch.from_numpy(order).float())
    assert torch.equal(read["map"], rows(slice(0, ROWS))["map"][order])
    assert read["map"].is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", 10**8)


def test_an_entry_is_read_as_it_was_written(store):
    first = store.open({"a": 1}, ROWS, LAYOUT)
    assert first.fill(rows) == ROWS
    check(first)
    second = Store(store.root, 10**8).open({"a": 1}, ROWS, LAYOUT)
    assert second.fill(refuse) == 0
    check(second)
    assert second.bytes == SIZE
    first.close()
    second.close()


def test_rows_that_are_quick_to_compute_are_claimed_in_larger_blocks(tmp_path):
    store = Store(tmp_path, 10**9)
    layout = {"x": ((1024,), "float32")}
    taken = {seconds: store.open({"s": seconds}, 3000, layout, seconds).block_rows for seconds in (1.0, 1e-3, 0.0)}
    assert taken == {1.0: 64, 1e-3: 512, 0.0: 3008}
    assert store.open({"s": 0.0}, 3000, layout, 1.0).block_rows == 3008, "as the entry was made"
    huge = store.open({"s": "large rows"}, 100, {"x": ((1 << 18,), "float32")}, 0.0)
    assert huge.block_rows == 64


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 2))
def test_how_quick_the_machine_is_does_not_change_which_rows_are_computed_together(rows_, seconds):
    with tempfile.TemporaryDirectory() as folder:
        entry = Store(Path(folder), 10**9).open({}, rows_, LAYOUT, seconds)
        batches: list[tuple[int, int]] = []

        def compute(where: slice) -> dict[str, torch.Tensor]:
            batches.extend((int(chunk[0]), len(chunk)) for chunk in chunks(where))
            return rows(where)

        entry.fill(compute)
        entry.close()
    size = feature_store.BATCH
    assert batches == [(first, min(size, rows_ - first)) for first in range(0, rows_, size)]


def test_other_facts_are_another_entry(store):
    store.open({"a": 1}, ROWS, LAYOUT).fill(rows)
    assert store.find({"a": 2}) is None
    other = store.open({"a": 2}, ROWS, LAYOUT)
    assert other.missing() == [0, 1, 2, 3]


def test_an_entry_is_found_once_all_of_it_is_there(store):
    entry = store.open({"a": 1}, ROWS, LAYOUT)
    assert store.find({"a": 1}) is None
    entry.fill(rows)
    found = store.find({"a": 1})
    check(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, ROWS * 3 * 4 - 1), st.integers(1, 255), st.sampled_from(["x", "map"]))
def test_a_changed_byte_is_noticed_and_its_block_made_again(tmp_path_factory, place, change, name):
    store = Store(tmp_path_factory.mktemp("store"), 10**8)
    entry = store.open({}, ROWS, LAYOUT)
    entry.fill(rows)
    entry.close()
    with (entry.folder / f"{name}.bin").open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ change]))
    assert store.find({}) is None
    again = store.open({}, ROWS, LAYOUT)
    assert 0 < again.fill(rows) <= feature_store.BATCH
    assert len(again.altered) == 1
    check(again)
    again.close()


@pytest.mark.parametrize("harm", ["truncated", "removed", "layout", "nonsense"])
def test_a_damaged_entry_is_made_anew(store, harm):
    entry = store.open({}, ROWS, LAYOUT)
    entry.fill(rows)
    entry.close()
    if harm == "truncated":
        os.truncate(entry.folder / "x.bin", 40)
    elif harm == "removed":
        (entry.folder / "map.bin").unlink()
    elif harm == "layout":
        (entry.folder / "layout.json").write_text(json.dumps({"rows": 7, "tensors": []}))
    else:
        (entry.folder / "layout.json").write_text("{")
    assert store.find({}) is None
    again = store.open({}, ROWS, LAYOUT)
    assert again.fill(rows) == ROWS
    check(again)


def test_lines_that_a_killed_writer_left_are_skipped(store):
    entry = store.open({}, ROWS, LAYOUT)
    entry.fill(rows)
    entry.close()
    done = entry.folder / "done.jsonl"
    lines = done.read_text().split("\n")
    done.write_text("\n".join([*lines[:2], lines[-2][:9]]) + '\n{"block": 99, "digest": "x"}\n{"block": 0}\n[]\n')
    again = store.open({}, ROWS, LAYOUT)
    assert 0 < again.fill(rows) < ROWS
    check(again)


WRITER = """
import sys, time, torch
from pathlib import Path
from platform.training.feature_store import Store
from test_feature_store import LAYOUT, ROWS, rows

def slow(where):
    print("at", where.start, flush=True)
    if where.start:
        time.sleep(60)
    return rows(where)

Store(Path(sys.argv[1]), 10**8).open({}, ROWS, LAYOUT).fill(slow)
"""


def test_when_a_writer_is_killed_another_goes_on_where_it_was(store):
    path = os.pathsep.join(str(Path(__file__).parents[up]) for up in range(3))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert writer.stdout.readline() == "at 0\n"
    assert writer.stdout.readline() == "at 64\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    entry = store.open({}, ROWS, LAYOUT)
    assert entry.fill(rows) == ROWS - feature_store.BATCH
    check(entry)


def _fill(root: Path, computed) -> None:
    def slow(where: slice) -> dict[str, torch.Tensor]:
        time.sleep(0.05)
        computed.put(where.start)
        return rows(where)

    torch.set_num_threads(1)
    entry = Store(root, 10**8).open({}, ROWS, LAYOUT)
    entry.fill(slow)
    check(entry)


def test_several_share_the_work_and_none_is_done_twice(store):
    context = multiprocessing.get_context("fork")
    computed = context.Queue()
    workers = [context.Process(target=_fill, args=(store.root, computed)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(computed.get() for _ in range(4)) == [0, 64, 128, 192]


def test_the_least_recently_used_entry_makes_room(tmp_path):
    store = Store(tmp_path, int(2.5 * SIZE))
    for name in ("a", "b"):
        entry = store.open({"name": name}, ROWS, LAYOUT)
        entry.fill(rows)
        entry.close()
        time.sleep(0.02)
    store.open({"name": "a"}, ROWS, LAYOUT).close()  # b is the one unused longest now
    entry = store.open({"name": "c"}, ROWS, LAYOUT)
    entry.fill(rows)
    assert store.find({"name": "b"}) is None
    assert store.find({"name": "a"}) is not None


def test_an_entry_in_use_stays_and_the_next_gets_an_error(tmp_path):
    store = Store(tmp_path, int(1.5 * SIZE))
    used = store.open({"name": "a"}, ROWS, LAYOUT)
    used.fill(rows)
    with pytest.raises(StoreError, match=r"0\.00 GiB free"):
        store.open({"name": "b"}, ROWS, LAYOUT)
    check(used)
    used.close()
    store.open({"name": "b"}, ROWS, LAYOUT).close()
    assert store.find({"name": "a"}) is None


def test_an_entry_that_can_never_fit_removes_no_other(tmp_path):
    store = Store(tmp_path, SIZE)
    entry = store.open({"name": "a"}, ROWS, LAYOUT)
    entry.fill(rows)
    entry.close()
    with pytest.raises(StoreError):
        store.open({"name": "b"}, 2 * ROWS, LAYOUT)
    assert store.find({"name": "a"}) is not None


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    store = Store(tmp_path, 10**8)
    monkeypatch.setattr(feature_store, "RESERVE", 1 << 60)
    with pytest.raises(StoreError, match="no room"):
        store.open({}, ROWS, LAYOUT)
    assert not list(tmp_path.glob("*/layout.json"))


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.lists(st.integers(1, 5), min_size=1, max_size=3),
        min_size=1,
    ),
    st.integers(1, 90),
    st.sampled_from([torch.float32, torch.float16, torch.int64]),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_comes_back_as_it_was(tmp_path_factory, shapes, count, dtype):
    state = {name: (torch.rand(count, *shape) * 100).to(dtype) for name, shape in shapes.items()}
    entry = Store(tmp_path_factory.mktemp("store"), 10**8).open({}, count, layout_of(state))
    entry.fill(lambda where: {name: value[where] for name, value in state.items()})
    read = entry.read(np.arange(count))
    assert all(torch.equal(read[name], value) for name, value in state.items())
    entry.close()


def test_rows_of_varying_length_come_back_as_long_as_asked_for(store):
    state = torch.rand(ROWS, 6, 2)
    entry = store.open({}, ROWS, layout_of({"hidden": state[:, :3]}, longest=6))
    entry.fill(lambda where: {"hidden": state[where, :4]})
    assert torch.equal(entry.read(np.arange(ROWS), 4)["hidden"], state[:, :4])
    assert torch.equal(entry.read(np.arange(5), 6)["hidden"][:, 4:], torch.zeros(5, 2, 2))
