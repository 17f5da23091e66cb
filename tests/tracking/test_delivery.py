"""Delivery of a study's event log to real MLflow stores: SQLite, and a server that goes away."""

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from matplotlib.figure import Figure
from mlflow_stores import new_store

from platform import deliver
from platform.study.event_log import EventLog
from platform.study.metadata import DatasetFacts, StudyFacts, as_json, from_json
from platform.study.request import DELIVERED, delivered_events
from platform.study.trials import TrialTable
from platform.tracking import delivery, mlflow_recorder
from platform.tracking.delivery import Delivery
from platform.tracking.mlflow_recorder import record_figures

ROOT = Path(__file__).parents[2]
DEAD_SERVER = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(delivery, "PACE_S", 0.0)
    monkeypatch.setattr(delivery, "PAUSE_S", 0.1)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_S", 0.5)


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
            "max_epochs": 3,
            "params": {"trials": 3},
            "tags": {"commit": "abc123", "seed": "0"},
            "dataset": DatasetFacts("bricks", "d" * 64, "/data/bricks", {"train": 8, "val": 2}),
            **changes,
        }
    )


def store(folder: Path) -> str:
    return new_store(folder / "mlflow.db")


class RecordedStudy:
    """A process that works on a study: its trial table, and the delivery that listens to it."""

    def __init__(self, folder: Path, study: StudyFacts, start: bool = True) -> None:
        self.trial_table = TrialTable(EventLog(folder / "journal.log"))
        self.tell = self.trial_table.record
        if not self.trial_table.events:
            self.tell("study", request={}, space={}, facts=as_json(study))
        self.tell("open")
        self.delivery = Delivery(study, self.trial_table.events, folder, self.trial_table.event_log.sync)
        self.trial_table.listeners.append(self.delivery)
        if start:
            self.delivery.start()

    def play(self, trial_id: str, steps: range, end: str = "", error: str = "", **config) -> None:
        """Record a trial's reports and its end."""
        if trial_id not in self.trial_table.trials:
            self.tell("trial", trial_id=trial_id, config=config, baseline="")
        self.tell("trial_start", trial_id=trial_id)
        for step in steps:
            metrics = {"val/score": step / 10, "train/loss": 1 / step}
            self.tell("report", trial_id=trial_id, step=step, metrics=metrics, notes={"reuse": "off"}, last=False)
        if end:
            self.tell("trial_end", trial_id=trial_id, status=end, error=error)

    def best(self, trial_id: str, model_dir: str | None = None, files=(), figures=None) -> None:
        more = {"figures": figures or {}, "files": list(files), "note": "| a | table |"}
        self.tell("best", trial_id=trial_id, metrics={"test/score": 0.25}, model_dir=model_dir, **more)

    def close(self, status: str = "FINISHED", timeout: float = 60) -> int:
        self.tell("close", status=status)
        undelivered = self.delivery.close(timeout)
        self.trial_table.event_log.close()
        return undelivered


def runs_of(tracking_uri: str, kind: str) -> list:
    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("toys")
    found = client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'", order_by=["start_time"])
    return sorted(found, key=lambda run: run.data.tags.get("trial_id", ""))  # many begin in one millisecond


def steps_of(tracking_uri: str, run) -> list[int]:
    client = mlflow.MlflowClient(tracking_uri)
    return [point.step for point in client.get_metric_history(run.info.run_id, "val/score")]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One study with three fates, recorded; the tests below only read it."""
    folder = tmp_path_factory.mktemp("study")
    batches: Counter = Counter()
    log_batch = mlflow.MlflowClient.log_batch

    def counted(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        batches.update({(run_id, step) for step in {metric.step for metric in metrics}})
        return log_batch(self, run_id, metrics, params, tags, synchronous)

    patch = pytest.MonkeyPatch()
    patch.setattr(mlflow.MlflowClient, "log_batch", counted)
    recorded_study = RecordedStudy(folder, facts(store(folder)))
    recorded_study.play("001", range(1, 4), "finished", fate="finishes")
    recorded_study.play("002", range(1, 3), "pruned", fate="is pruned")
    recorded_study.tell("trial", trial_id="003", config={"fate": "fails"}, baseline="")
    recorded_study.play("003", range(1, 2))
    recorded_study.tell("attempt_failed", trial_id="003", error="a worker died", gpus=None)
    recorded_study.play("003", range(0), "failed", "Traceback …\nRuntimeError: the loss is not finite")
    recorded_study.tell("trial", trial_id="004", config={"fate": "never began"}, baseline="")
    Figure().savefig(folder / "curve.png")
    recorded_study.best("001", figures={"curve": str(folder / "curve.png")})
    undelivered = recorded_study.close()
    patch.undo()
    error = recorded_study.delivery.last_error
    return SimpleNamespace(uri=store(folder), folder=folder, undelivered=undelivered, error=error, batches=batches)


def by_fate(study) -> dict:
    return {run.data.params["fate"]: run for run in runs_of(study.uri, "trial")}


def test_everything_is_delivered(study):
    assert study.undelivered == 0, study.error


def test_parent_run_tells_the_study(study):
    (parent,) = runs_of(study.uri, "study")
    assert parent.info.run_name == "first study"
    assert parent.info.status == "FINISHED"
    expected = {"task": "toy", "metric": "val/score", "mode": "max", "max_epochs": "3", "trials": "3"}
    assert parent.data.params == expected
    assert parent.data.tags["commit"] == "abc123"
    assert parent.data.tags["mlflow.note.content"] == "| a | table |"
    assert parent.data.tags["best_run_id"] == by_fate(study)["finishes"].info.run_id
    assert parent.data.metrics == {"test/score": 0.25}


def test_finished_pruned_and_failed_are_distinguished(study):
    found = {fate: (run.info.status, run.data.tags["status"]) for fate, run in by_fate(study).items()}
    assert found == {
        "finishes": ("FINISHED", "finished"),
        "is pruned": ("KILLED", "pruned"),
        "fails": ("FAILED", "failed"),
    }
    tags = by_fate(study)["fails"].data.tags
    assert "the loss is not finite" in tags["error"]
    assert tags["error_of_an_attempt"] == "a worker died"
    assert "error" not in by_fate(study)["finishes"].data.tags


def test_children_are_nested_named_and_described(study):
    (parent,) = runs_of(study.uri, "study")
    children = by_fate(study).values()
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {child.info.run_name for child in children} == {"trial 001", "trial 002", "trial 003"}
    assert all(child.data.tags["commit"] == "abc123" for child in children)
    assert all(child.data.tags["reuse"] == "off" for child in children)


def test_data_set_is_on_parent_and_children(study):
    for run in [*runs_of(study.uri, "study"), *by_fate(study).values()]:
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("bricks", "d" * 36)
        assert used.dataset.profile == '{"train": 8, "val": 2}'


def test_epochs_are_unbroken(study):
    client = mlflow.MlflowClient(study.uri)
    for fate, last in {"finishes": 3, "is pruned": 2, "fails": 1}.items():
        run = by_fate(study)[fate]
        for key in set(run.data.metrics) - {"test/score"}:
            history = client.get_metric_history(run.info.run_id, key)
            assert [point.step for point in history] == list(range(1, last + 1))


def test_an_epoch_is_sent_once(study):
    assert set(study.batches.values()) == {1}
    trained = Counter(run_id for run_id, step in study.batches if step > 0)
    assert sorted(trained.values()) == [1, 2, 3]


def test_files_lie_beside_the_database(study):
    run = by_fate(study)["finishes"]
    client = mlflow.MlflowClient(study.uri)
    assert [file.path for file in client.list_artifacts(run.info.run_id, "figures")] == ["figures/curve.png"]
    assert run.info.artifact_uri.startswith((study.folder / "mlartifacts" / "toys").as_uri())


def test_a_study_that_goes_on_does_so_in_the_same_runs(tmp_path):
    """MLflow holds the same if the first process is killed before or after its events were delivered."""
    uri = store(tmp_path)
    for number in range(3):
        recorded_study = RecordedStudy(tmp_path, facts(uri), start=number != 0)
        recorded_study.play("001", range(number + 1, number + 2), "finished" if number == 2 else "", lr=0.1)
        if number == 1:
            assert recorded_study.delivery.close() == 0, recorded_study.delivery.last_error
            (tmp_path / DELIVERED).unlink()  # not known what has arrived: all goes once more
    assert recorded_study.close() == 0, recorded_study.delivery.last_error
    (parent,), (child,) = runs_of(uri, "study"), runs_of(uri, "trial")
    assert parent.info.status == child.info.status == "FINISHED"
    assert child.data.tags["status"] == "finished"
    assert steps_of(uri, child) == [1, 2, 3]
    assert len(parent.inputs.dataset_inputs) == len(child.inputs.dataset_inputs) == 1


def test_another_study_of_the_same_name_gets_runs_of_its_own(tmp_path):
    for study_id in ("one", "two"):
        (tmp_path / study_id).mkdir()
        recorded_study = RecordedStudy(tmp_path / study_id, facts(store(tmp_path), id=study_id))
        recorded_study.play("001", range(1, 4))
        assert recorded_study.close() == 0
    assert [len(runs_of(store(tmp_path), kind)) for kind in ("study", "trial")] == [2, 2]


def test_a_later_process_can_name_the_best(tmp_path):
    """The best trial may have ended in an earlier process: its run keeps its status and its end."""
    uri = store(tmp_path)
    first = RecordedStudy(tmp_path, facts(uri))
    first.play("001", range(1, 4), "finished")
    first.close("KILLED")
    (before,) = runs_of(uri, "trial")
    for _ in range(2):  # the second time because the process was killed before it could say that it was done
        second = RecordedStudy(tmp_path, facts(uri))
        second.best("001")
        assert second.close() == 0, second.delivery.last_error
    (after,) = runs_of(uri, "trial")
    points = mlflow.MlflowClient(uri).get_metric_history(after.info.run_id, "test/score")
    assert [point.value for point in points] == [0.25]
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)


def test_reports_and_weights_are_kept_with_the_best(tmp_path):
    (tmp_path / "report.txt").write_text("all is well")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "encoder.safetensors").write_bytes(b"bytes")
    recorded_study = RecordedStudy(tmp_path, facts(store(tmp_path)))
    recorded_study.play("001", range(1, 2))
    recorded_study.best("001", files=[str(tmp_path / "report.txt"), str(tmp_path / "weights")])
    assert recorded_study.close() == 0, recorded_study.delivery.last_error
    (run,) = runs_of(store(tmp_path), "trial")
    client = mlflow.MlflowClient(store(tmp_path))
    kept = [
        file.path for folder in ("files", "files/weights") for file in client.list_artifacts(run.info.run_id, folder)
    ]
    assert sorted(kept) == ["files/report.txt", "files/weights", "files/weights/encoder.safetensors"]


def test_events_that_mlflow_refuses_do_not_block_the_others(tmp_path):
    recorded_study = RecordedStudy(tmp_path, facts(store(tmp_path)))
    recorded_study.play("001", range(1, 3), lr=0.1)
    recorded_study.tell("report", trial_id="001", step=3, metrics={"a\x00*": 1.0}, notes={}, last=False)
    recorded_study.play("001", range(4, 5), "finished")
    recorded_study.best("001", files=[str(tmp_path / "gone.txt")])
    recorded_study.play("002", range(1, 4), "finished", lr=0.2)
    assert recorded_study.close() == 2
    assert {event.kind for event in recorded_study.delivery.refused} == {"report", "best"}
    assert recorded_study.delivery.last_error.startswith("report: ")
    _, arrived = delivered_events(tmp_path)
    delivery = recorded_study.delivery
    assert delivery.events[arrived] is delivery.refused[0], "the next process tries refused events again"
    assert [steps_of(store(tmp_path), run) for run in runs_of(store(tmp_path), "trial")] == [[1, 2, 4], [1, 2, 3]]


def test_figures_have_their_own_run_and_an_unreachable_server_is_reported(tmp_path):
    Figure().savefig(tmp_path / "pca.png")
    arguments = ("toys", "embeddings after layer3", {"stage": "layer3"}, {"silhouette/class": 0.4})
    assert record_figures(store(tmp_path), *arguments, {"pca": tmp_path / "pca.png"}) == ""
    (run,) = runs_of(store(tmp_path), "pictures")
    assert (run.info.run_name, run.info.status) == ("embeddings after layer3", "FINISHED")
    assert (run.data.params, run.data.metrics) == ({"stage": "layer3"}, {"silhouette/class": 0.4})
    artifacts = mlflow.MlflowClient(store(tmp_path)).list_artifacts(run.info.run_id, "figures")
    assert [file.path for file in artifacts] == ["figures/pca.png"]
    assert DEAD_SERVER in record_figures(DEAD_SERVER, *arguments, {})


def test_an_unreachable_server_neither_raises_nor_blocks_nor_loses(tmp_path, capsys):
    """With a server that is never reachable all events are kept, and deliver sends them to any store."""
    recorded_study = RecordedStudy(tmp_path, facts(DEAD_SERVER))
    for number in range(20):  # the search goes on
        recorded_study.play(f"{number:03d}", range(1, 4), "finished", lr=0.1)
    assert recorded_study.close(timeout=600) == 20 * 5 + 2  # long before the time is up
    assert "127.0.0.1" in recorded_study.delivery.last_error

    request = {"task": "toy", "name": tmp_path.name, "storage": str(tmp_path.parent), "experiment": "toys"}
    events = recorded_study.trial_table.events
    events[0].data["request"] = {**request, "tracking_uri": DEAD_SERVER, "settings": [], "data": []}
    (tmp_path / "journal.log").unlink()
    again = EventLog(tmp_path / "journal.log")
    for event in events:
        again.append(event.kind, event.data)
    again.close()
    command = [tmp_path.name, "--storage", str(tmp_path.parent)]
    assert deliver.main(command) == 1
    assert "did not reach" in capsys.readouterr().out
    for _ in range(2):  # the second time there is nothing to do
        assert deliver.main([*command, "--tracking-uri", store(tmp_path)]) == 0
    trials = runs_of(store(tmp_path), "trial")
    assert [steps_of(store(tmp_path), run) for run in trials] == [[1, 2, 3]] * 20
    assert deliver.main(["none", "--storage", str(tmp_path)]) == 2


def test_a_server_that_comes_late_and_goes_away_gets_all_in_order_and_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    recorded_study = RecordedStudy(tmp_path, facts(address))
    recorded_study.play("001", range(1, 2), lr=0.1)  # it is not there yet
    with _server(tmp_path, address):
        while recorded_study.delivery.undelivered:
            time.sleep(0.05)
        assert recorded_study.delivery.last_error == "", "what was wrong before is over"
        assert steps_of(address, runs_of(address, "trial")[0]) == [1]
    recorded_study.play("001", range(2, 4), "finished")  # it is gone
    recorded_study.play("002", range(1, 4), "finished")
    assert recorded_study.close() > 0
    # events that arrived before are delivered again to the server's store on the disk, and are in it once
    database = f"sqlite:///{tmp_path}/server.db"
    again = RecordedStudy(tmp_path, facts(database))
    assert again.close() == 0, again.delivery.last_error
    trials = runs_of(database, "trial")
    assert [steps_of(database, run) for run in trials] == [[1, 2, 3], [1, 2, 3]]
    assert {run.info.status for run in [*trials, *runs_of(database, "study")]} == {"FINISHED"}


@contextlib.contextmanager
def _server(folder: Path, address: str):
    command = [sys.executable, "-m", "mlflow", "server", "--port", address.rpartition(":")[2], "--workers", "1"]
    command += ["--backend-store-uri", new_store(folder / "server.db"), "--artifacts-destination", str(folder / "a")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, **quiet)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_events_that_are_not_on_the_disk_are_not_delivered(tmp_path):
    recorded_study = RecordedStudy(tmp_path, facts(f"sqlite:///{tmp_path}/mlflow.db"), start=False)

    def fails() -> None:
        raise OSError(errno.EIO, "a broken disk")

    recorded_study.delivery.sync = fails
    recorded_study.delivery.start()
    recorded_study.play("001", range(1, 3))
    assert (
        recorded_study.close(timeout=1) == len(recorded_study.trial_table.events) - 2
    )  # what was asked and proposed needs no call of its own
    assert "a broken disk" in recorded_study.delivery.last_error
    assert not (tmp_path / "mlflow.db").exists()


def test_close_waits_no_longer_than_its_timeout(tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(mlflow_recorder.MlflowRecorder, "deliver", lambda self, records: release.wait(600))
    recorded_study = RecordedStudy(tmp_path, facts(DEAD_SERVER))
    recorded_study.play("001", range(1, 4))
    assert recorded_study.close(timeout=0.2) > 0
    release.set()
    assert "longer than 0.2 s" in recorded_study.delivery.last_error


def test_studies_may_share_one_new_store(tmp_path):
    """Two processes create and use one store at the same time; nothing is lost or mixed."""
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/tracking']; from pathlib import Path\n"
        "from platform.tracking.mlflow_store import set_environment; set_environment()\n"
        "from test_delivery import RecordedStudy, facts\n"
        "folder = Path(sys.argv[2]); folder.mkdir()\n"
        "recorded_study = RecordedStudy(folder, facts(sys.argv[1], name=folder.name, id=folder.name))\n"
        "for number in range(10): recorded_study.play(f'{number:03d}', range(1, 4), 'finished', lr=0.1)\n"
        "lost = recorded_study.close()\n"
        "sys.exit(f'{lost} lost: {recorded_study.delivery.last_error}' if lost else 0)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / name)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        out, err = process.communicate(timeout=280)
        assert (process.returncode, out.decode(), err.decode()) == (0, "", ""), "nothing is printed"
    assert {run.info.run_name for run in runs_of(store(tmp_path), "study")} == {"one", "two"}
    trials = runs_of(store(tmp_path), "trial")
    assert Counter(run.data.tags["study"] for run in trials) == {"one": 10, "two": 10}
    assert all(steps_of(store(tmp_path), run) == [1, 2, 3] for run in trials)


def test_the_event_log_keeps_the_facts_about_a_study():
    study = facts("uri", files=[Path("/a/b")], params={"lr": 0.1})
    again = from_json(as_json(study))
    assert as_json(again) == as_json(study)
    assert (again.dataset, again.files) == (study.dataset, study.files)


def test_pickle_is_refused_once_mlflow_was_opened(study):
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
