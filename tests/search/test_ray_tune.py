"""Search under a real Ray Tune whose workers fail in every way: trials continue if they can, else the error shows."""

import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import tune
from safetensors.torch import load_file
from toy_trainable import EPOCHS, train

from platform.search import ray_tune
from platform.search.controller import MAX_ATTEMPTS, SearchController
from platform.space import Space
from platform.storage.checkpoints import Checkpoints, verify
from platform.study.event_log import EventLog
from platform.study.trials import TrialTable
from platform.training.context import Context

ROOT = Path(__file__).parents[2]
FAULTS = ("throws once", "throws always", "nan", "damaged", "node gone", "no memory", "unfit")
LEFT_OUT: dict[str, str] = {}


def run(folder: Path, where: Path, tick=lambda search: None, gpus: float = 0.5, **changes) -> SearchController:
    """Run one trial for each fault. Apart from the faults, they are equal."""
    params = {"fault": tune.choice(["none", *FAULTS])}
    asked = {"baselines": {fault: {"fault": fault} for fault in FAULTS}, "trials": 1 + len(FAULTS), **changes}
    params |= {key: asked.pop(key) for key in ("wide", "fault") if key in asked}
    budget = {"max_epochs": EPOCHS, "grace_epochs": EPOCHS, "start": {"fault": "none"}}
    space = Space(params, "val/score", "max", **budget, **asked)
    trial_table = TrialTable(EventLog(folder / "event log"))
    trial_table.record("open")
    search = SearchController(space, 0, trial_table, gpus)

    def context_of(trial) -> dict:
        share = gpus if trial.gpus is None else trial.gpus
        given = {"trial": trial.id, "folder": str(where / trial.id), "known": trial.epochs, "gpus": share}
        return asdict(Context("toy", "", 0, EPOCHS, "val/score", "max", shared_stages=str(where / "frozen"), **given))

    ray_tune.run(search, train, context_of, folder, 1, 2, None, lambda: tick(search), LEFT_OUT)
    return search


@pytest.fixture(scope="module")
def nodes():
    """Two nodes, each with a core and a GPU that exists in name only, for its shares."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1, num_gpus=1)
    ray.init(cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def study(nodes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    marker = folder / "trials" / "node gone.marker"

    def strike(search: SearchController) -> None:
        """Remove the node on which the trial waits for that, and add another."""
        if marker.exists() and (pid := marker.read_text()):
            marker.write_text("")
            [node] = [n for n in nodes.worker_nodes if n.all_processes["raylet"][0].process.pid == int(pid)]
            nodes.remove_node(node, allow_graceful=False)
            nodes.add_node(num_cpus=1, num_gpus=1)

    search = run(folder, folder / "trials", strike)
    return folder / "trials", {trial.config["fault"]: trial for trial in search.trial_table.trials.values()}


def test_every_trial_ends_as_it_must(study):
    _, trials = study
    found = {fault: (trial.status, trial.epochs, trial.attempts) for fault, trial in trials.items()}
    assert found == {
        "none": ("finished", 4, 1),
        "throws once": ("finished", 4, 2),
        "throws always": ("failed", 2, MAX_ATTEMPTS),
        "damaged": ("finished", 4, 2),
        "node gone": ("finished", 4, 2),
        "no memory": ("finished", 4, 2),
        "nan": ("failed", 0, 1),
        "unfit": ("finished", 4, 2),
    }


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("throws always", "RuntimeError: bad luck"),
        ("nan", "NonFiniteError: the loss must be finite; it is nan at epoch 1, step 1"),
    ],
)
def test_the_error_is_recorded(study, fault, text):
    assert text in study[1][fault].error


@pytest.mark.parametrize("fault", ["throws once", "damaged", "node gone", "no memory", "unfit"])
def test_a_continued_trial_ends_with_the_same_weights(study, fault):
    """It was killed when the second of four epochs was done. The third one unfreezes a stage."""
    folder, trials = study
    assert trials[fault].scores("val/score") == trials["none"].scores("val/score")
    expected, found = (load_file(folder / trials[key].id / "epoch-4" / "model.safetensors") for key in ("none", fault))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    expected, found = (
        torch.load(folder / trials[key].id / "epoch-4" / "optimizer.pt", weights_only=True) for key in ("none", fault)
    )
    assert expected.keys() == found.keys()
    for index, slots in expected.items():
        assert all(torch.equal(found[index][key], value) for key, value in slots.items())


def test_a_damaged_checkpoint_is_noted_and_the_one_before_used(study):
    _, trials = study
    note = trials["damaged"].notes["resumed"]
    assert note == (
        "the checkpoint of epoch 2 is damaged (model.safetensors: differs from what was written); resumed from epoch-1"
    )
    assert "resumed" not in trials["node gone"].notes


def test_the_cause_of_a_killed_attempt_is_short(study):
    _, trials = study
    errors = {fault: trials[fault].retried[0].splitlines()[-1] for fault in ("throws once", "damaged")}
    assert errors["throws once"] == "RuntimeError: bad luck"
    assert errors["damaged"] == "its process died: it was killed from outside, ran out of memory, or crashed"


def test_a_node_that_goes_away_is_no_failure_of_its_trial(study):
    gone = study[1]["node gone"]
    assert gone.moved[0].splitlines()[-1] in ("its node went away", "its node could no longer be reached")
    assert (gone.retried, gone.failures, gone.status) == ([], 0, "finished")


def test_an_unfit_node_is_left_out(study):
    folder, trials = study
    unfit = trials["unfit"]
    assert (unfit.retried, unfit.failures) == ([], 0)
    assert "its disk is full" in unfit.moved[0]
    [why] = LEFT_OUT.values()
    assert why.endswith("its disk is full")
    first, *others = dict.fromkeys((folder / "unfit.nodes").read_text().splitlines())
    assert others, "it continued on another node"
    assert first.split()[0] in LEFT_OUT
    assert first not in (folder / "unfit.nodes").read_text().splitlines()[3:]


def test_a_larger_share_of_the_gpu_was_given(study):
    assert study[1]["no memory"].gpus == 1.0


def test_only_checkpoints_for_continuing_and_of_the_best_epoch_are_kept(study):
    folder, trials = study
    kept = Checkpoints(folder / trials["none"].id)
    best = int(np.argmax(trials["none"].scores("val/score"))) + 1
    assert set(kept.epochs()) == {2, 3, 4} | {best}
    assert not list(kept.folder.glob(".partial-*"))


def test_a_spent_budget_ends_trials_without_a_failure(nodes, tmp_path):
    def spend(search: SearchController) -> None:
        search.budget_spent = any(trial.epochs for trial in search.trial_table.trials.values())

    search = run(tmp_path, tmp_path / "trials", spend, baselines={}, trials=9, fault=tune.choice(["none"]))
    search.interrupt_trials()
    found = [trial.status for trial in search.trial_table.trials.values()]
    assert set(found) <= {"interrupted", "finished", "waiting"}
    assert len(found) < 9
    assert not search.is_over


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a small disk")
def test_a_full_disk_stops_the_study_and_leaves_the_checkpoint_before(nodes, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    try:
        few = {"baselines": {}, "trials": 1, "wide": 20_000}
        search = run(tmp_path, disk, **few)
        [trial] = search.trial_table.trials.values()
        assert "no room for the checkpoint of epoch" in search.stop_reason
        assert not trial.is_done
        assert 1 <= trial.epochs < EPOCHS
        verify(disk / trial.id / f"epoch-{trial.epochs}")
        search.trial_table.event_log.close()
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        again = run(tmp_path, disk, **few)
        [trial] = again.trial_table.trials.values()
        assert (trial.status, trial.epochs) == ("finished", EPOCHS)
    finally:
        subprocess.run(["umount", disk], check=False)
