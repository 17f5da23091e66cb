"""What a study leaves in MLflow, seen through a real store on sqlite and a real, tiny Ray Tune run."""

import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import ray
from matplotlib.figure import Figure
from ray import tune

from platform import delivery, recorder
from platform.recorder import DatasetFacts, StudyFacts, record_pictures
from platform.tracking import Tracker, our_metrics

ROOT = Path(__file__).parent.parent
MAX_EPOCHS = 3
DEAD_SERVER = "http://127.0.0.1:9"


def facts(tracking_uri: str, **changes) -> StudyFacts:
    return StudyFacts(
        **{
            "tracking_uri": tracking_uri,
            "experiment": "toys",
            "name": "first study",
            "id": "1234",
            "task": "toy",
            "metric": "val/score",
            "mode": "max",
            "max_epochs": MAX_EPOCHS,
            "params": {"trials": 3},
            "tags": {"commit": "abc123", "seed": "0"},
            "dataset": DatasetFacts("bricks", "d" * 64, "/data/bricks", {"train": 8, "val": 2}),
            **changes,
        }
    )


def status_of(trial, failed: bool) -> str:
    return "failed" if failed else "finished" if trial.last_result["training_iteration"] >= MAX_EPOCHS else "pruned"


def store(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def fake_trial(trial_id: str = "t1", number: int = 1, error_file: str | None = None, **config) -> SimpleNamespace:
    return SimpleNamespace(
        trial_id=trial_id, experiment_tag=f"{number}_x", config=config, last_result={}, error_file=error_file
    )


def play(tracker: Tracker, trial: SimpleNamespace, steps: range) -> None:
    """The events that Ray sends for one trial, without Ray."""
    tracker.on_trial_start(0, [], trial)
    for step in steps:
        trial.last_result = {"training_iteration": step, "val/score": step / 10}
        tracker.on_trial_result(0, [], trial, trial.last_result)


def runs_of(tracking_uri: str, kind: str) -> list:
    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("toys")
    return client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'", order_by=["start_time"])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One search with three fates, recorded; the tests below only read."""
    folder = tmp_path_factory.mktemp("study")
    batches: Counter = Counter()
    log_batch = mlflow.MlflowClient.log_batch

    def counted(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        batches.update({(run_id, step) for step in {metric.step for metric in metrics}})
        return log_batch(self, run_id, metrics, params, tags, synchronous)

    def learn(config: dict) -> None:  # defined here, it travels by value: workers cannot import a test file
        for epoch in range(1, MAX_EPOCHS + 1):
            if config["fate"] == "fails" and epoch == 2:
                raise RuntimeError("the loss is not finite")
            cut = config["fate"] == "is cut" and epoch == 2
            metrics = {"val/score": epoch / 10, "train/loss": 1.0 / epoch}
            tune.report(metrics | {"time/epoch_seconds": 0.1, "cut": cut})

    patch = pytest.MonkeyPatch()
    patch.setattr(mlflow.MlflowClient, "log_batch", counted)
    patch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    tracker = Tracker(facts(store(folder)), status_of)
    try:
        results = tune.Tuner(
            tune.with_resources(learn, {"cpu": 1}),
            param_space={"fate": tune.grid_search(["finishes", "is cut", "fails"]), "context": {"root": str(ROOT)}},
            run_config=tune.RunConfig(
                storage_path=str(folder / "ray"), callbacks=[tracker], stop={"cut": True}, verbose=0
            ),
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=2),
        ).fit()
    finally:
        ray.shutdown()
    best = max((result for result in results if not result.error), key=lambda result: result.metrics["val/score"])
    tracker.log_best(best.metrics["trial_id"], {"test/score": 0.25}, figures={"curve": Figure()})
    undelivered = tracker.close()
    patch.undo()
    return SimpleNamespace(
        uri=store(folder), folder=folder, undelivered=undelivered, error=tracker.delivery.last_error, batches=batches
    )


def by_fate(study) -> dict:
    return {run.data.params["fate"]: run for run in runs_of(study.uri, "trial")}


def test_everything_is_delivered(study):
    assert study.undelivered == 0, study.error


def test_parent_run_tells_the_study(study):
    (parent,) = runs_of(study.uri, "study")
    assert parent.info.run_name == "first study"
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {
        "task": "toy",
        "metric": "val/score",
        "mode": "max",
        "max_epochs": "3",
        "trials": "3",
    }
    assert parent.data.tags["commit"] == "abc123"
    assert parent.data.tags["best_run_id"] == by_fate(study)["finishes"].info.run_id
    assert parent.data.metrics == {"test/score": 0.25}


def test_finished_pruned_and_failed_are_told_apart(study):
    found = {fate: (run.info.status, run.data.tags["status"]) for fate, run in by_fate(study).items()}
    assert found == {
        "finishes": ("FINISHED", "finished"),
        "is cut": ("KILLED", "pruned"),
        "fails": ("FAILED", "failed"),
    }
    assert "the loss is not finite" in by_fate(study)["fails"].data.tags["error"]


def test_children_are_nested_named_and_described(study):
    (parent,) = runs_of(study.uri, "study")
    children = by_fate(study).values()
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {child.info.run_name for child in children} == {"trial 000", "trial 001", "trial 002"}
    assert all(child.data.tags["commit"] == "abc123" for child in children)
    assert all(set(child.data.params) == {"fate"} for child in children), "context is bookkeeping, no parameter"


def test_data_set_is_on_parent_and_children(study):
    for run in [*runs_of(study.uri, "study"), *by_fate(study).values()]:
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("bricks", "d" * 36)
        assert used.dataset.profile == '{"train": 8, "val": 2}'


def test_epochs_are_unbroken_and_only_ours(study):
    client = mlflow.MlflowClient(study.uri)
    for fate, last in {"finishes": 3, "is cut": 2, "fails": 1}.items():
        run = by_fate(study)[fate]
        trained = set(run.data.metrics) - {"test/score"}
        assert trained == {"val/score", "train/loss", "time/epoch_seconds"}
        for key in trained:
            history = client.get_metric_history(run.info.run_id, key)
            assert [point.step for point in history] == list(range(1, last + 1))


def test_an_epoch_is_one_batch(study):
    assert set(study.batches.values()) == {1}
    trained = Counter(run_id for run_id, step in study.batches if step > 0)
    assert sorted(trained.values()) == [1, 2, 3]


def test_files_lie_beside_the_database(study):
    run = by_fate(study)["finishes"]
    client = mlflow.MlflowClient(study.uri)
    assert [file.path for file in client.list_artifacts(run.info.run_id, "figures")] == ["figures/curve.png"]
    assert run.info.artifact_uri.startswith((study.folder / "mlartifacts" / "toys").as_uri())


def test_a_resumed_study_goes_on_in_the_same_runs(tmp_path):
    """The second tracker is what a second process has: nothing but the names. Epoch 2 is repeated by Ray."""
    uri = store(tmp_path)
    first = Tracker(facts(uri), status_of)
    play(first, fake_trial(lr=0.1), range(1, 3))
    assert first.close("KILLED") == 0
    (trial,) = runs_of(uri, "trial")
    assert (trial.info.status, trial.data.tags["status"]) == ("KILLED", "interrupted")

    second = Tracker(facts(uri, params={"trials": 9}), status_of)
    trial = fake_trial(lr=0.1)
    play(second, trial, range(2, 4))
    second.on_trial_complete(0, [], trial)
    assert second.close() == 0, second.delivery.last_error
    (parent,) = runs_of(uri, "study")
    (child,) = runs_of(uri, "trial")
    assert (parent.info.status, parent.data.params["trials"]) == ("FINISHED", "3")
    assert (child.info.status, child.data.tags["status"]) == ("FINISHED", "finished")
    history = mlflow.MlflowClient(uri).get_metric_history(child.info.run_id, "val/score")
    assert [point.step for point in history] == [1, 2, 3]
    assert len(parent.inputs.dataset_inputs) == len(child.inputs.dataset_inputs) == 1


def test_another_study_of_the_same_name_gets_runs_of_its_own(tmp_path):
    for study_id in ("one", "two"):
        tracker = Tracker(facts(store(tmp_path), id=study_id), status_of)
        play(tracker, fake_trial(), range(1, 4))
        assert tracker.close() == 0
    assert [len(runs_of(store(tmp_path), kind)) for kind in ("study", "trial")] == [2, 2]


def test_a_later_process_can_name_the_best(tmp_path):
    """After a resume the winner may have ended in the process before: its run keeps its status and its end."""
    uri = store(tmp_path)
    first = Tracker(facts(uri), status_of)
    trial = fake_trial()
    play(first, trial, range(1, 4))
    first.on_trial_complete(0, [], trial)
    first.close("KILLED")
    (before,) = runs_of(uri, "trial")

    second = Tracker(facts(uri), status_of)
    second.log_best("t1", {"test/score": 0.5})
    assert second.close() == 0, second.delivery.last_error
    (after,) = runs_of(uri, "trial")
    assert after.data.metrics["test/score"] == 0.5
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)


def test_reports_and_weights_are_kept_with_the_best(tmp_path):
    (tmp_path / "report.txt").write_text("all is well")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "encoder.safetensors").write_bytes(b"bytes")
    tracker = Tracker(facts(store(tmp_path)), status_of)
    play(tracker, fake_trial(), range(1, 2))
    files = [tmp_path / "report.txt", tmp_path / "weights"]
    tracker.log_best("t1", {"test/score": 0.5}, files=files, note="| a | table |")
    assert tracker.close() == 0, tracker.delivery.last_error
    assert runs_of(store(tmp_path), "study")[0].data.tags["mlflow.note.content"] == "| a | table |"
    (run,) = runs_of(store(tmp_path), "trial")
    client = mlflow.MlflowClient(store(tmp_path))
    kept = [
        file.path for folder in ("files", "files/weights") for file in client.list_artifacts(run.info.run_id, folder)
    ]
    assert sorted(kept) == ["files/report.txt", "files/weights", "files/weights/encoder.safetensors"]


def test_pictures_are_a_run_of_their_own_and_a_dead_server_is_told(tmp_path):
    Figure().savefig(tmp_path / "pca.png")
    arguments = ("toys", "embeddings after layer3", {"stage": "layer3"}, {"silhouette/class": 0.4})
    assert record_pictures(store(tmp_path), *arguments, {"pca": tmp_path / "pca.png"}) == ""
    (run,) = runs_of(store(tmp_path), "pictures")
    assert (run.info.run_name, run.info.status) == ("embeddings after layer3", "FINISHED")
    assert (run.data.params, run.data.metrics) == ({"stage": "layer3"}, {"silhouette/class": 0.4})
    artifacts = mlflow.MlflowClient(store(tmp_path)).list_artifacts(run.info.run_id, "figures")
    assert [file.path for file in artifacts] == ["figures/pca.png"]
    assert DEAD_SERVER in record_pictures(DEAD_SERVER, *arguments, {})


def test_an_unreachable_server_neither_raises_nor_blocks():
    tracker = Tracker(facts(DEAD_SERVER), status_of)
    start = time.monotonic()
    tracker.setup()
    for number in range(20):
        trial = fake_trial(f"t{number}", number)
        play(tracker, trial, range(1, 4))
        tracker.on_trial_complete(0, [], trial)
    assert time.monotonic() - start < 0.5, "the search waited for MLflow"
    assert tracker.close(timeout=30) == 20 * 5 + 2
    assert time.monotonic() - start < 15
    assert "127.0.0.1" in tracker.delivery.last_error
    assert [record.kind for record in tracker.delivery.undelivered[:3]] == ["open", "trial_start", "epoch"]


def test_close_does_not_wait_longer_than_told(monkeypatch):
    monkeypatch.setattr(delivery, "PACE_S", 0.0)
    monkeypatch.setattr(recorder.Recorder, "deliver", lambda self, records: time.sleep(5))
    tracker = Tracker(facts(DEAD_SERVER), status_of)
    play(tracker, fake_trial(), range(1, 4))
    start = time.monotonic()
    assert tracker.close(timeout=0.2) >= 4
    assert time.monotonic() - start < 2
    assert "longer than 0.2 s" in tracker.delivery.last_error


def test_a_start_that_was_lost_is_made_up_for(tmp_path, monkeypatch):
    """Every record says enough: when the server is back, the trial's run appears, with name and parameters."""
    monkeypatch.setattr(delivery, "PATIENCE", 100)
    opened = recorder.Recorder._open_store
    outages = iter([True, True, False])

    def open_store(self):
        if next(outages):
            raise ConnectionError("down")
        opened(self)

    monkeypatch.setattr(recorder.Recorder, "_open_store", open_store)
    tracker = Tracker(facts(store(tmp_path)), status_of)
    trial = fake_trial(lr=0.1)
    tracker.setup()
    play(tracker, trial, range(1, 4))
    tracker.on_trial_complete(0, [], trial)
    assert tracker.close() == 0
    (child,) = runs_of(store(tmp_path), "trial")
    assert (child.info.run_name, child.data.params, child.info.status) == ("trial 001", {"lr": "0.1"}, "FINISHED")


def test_processes_may_open_one_new_store_at_a_time(tmp_path):
    code = (
        "import sys; from platform.recorder import StudyFacts; from platform.tracking import Tracker\n"
        "study = StudyFacts(sys.argv[1], 'toys', sys.argv[2], sys.argv[2], 'toy', 'val/score', 'max', 3)\n"
        "tracker = Tracker(study, str)\n"
        "tracker.setup()\n"
        "lost = tracker.close()\n"
        "sys.exit(f'{lost} lost: {tracker.delivery.last_error}' if lost else 0)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, store(tmp_path), name],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.decode(), err.decode()) == (0, "", ""), "and nothing is chattered"
    assert {run.info.run_name for run in runs_of(store(tmp_path), "study")} == {"one", "two"}


def test_a_trial_that_never_started_leaves_no_run(tmp_path):
    tracker = Tracker(facts(store(tmp_path)), status_of)
    tracker.on_trial_complete(0, [], fake_trial())
    assert tracker.close("FAILED") == 0
    assert runs_of(store(tmp_path), "trial") == []
    assert runs_of(store(tmp_path), "study")[0].info.status == "FAILED"


def test_a_tracker_survives_the_pickling_that_restore_needs():
    tracker = Tracker(facts(DEAD_SERVER), status_of)
    tracker.setup()
    copy = pickle.loads(pickle.dumps(tracker))
    assert copy.study == tracker.study
    assert copy.delivery.undelivered == []


def test_our_metrics_leave_out_what_ray_adds():
    result = {"val/ap/H&M": 0.5, "pid": 7, "training_iteration": 1, "val/kind": "x", "val/best": True, "config": {}}
    assert our_metrics(result) == {"val/ap/H_M": 0.5}


def test_pickle_is_refused_once_mlflow_was_opened(study):
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
