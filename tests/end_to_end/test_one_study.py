"""One finished study in all uses: read it, report it, predict with it, begin another from it, replay a run."""

import json
import shutil
from pathlib import Path

import mlflow
import pytest
from browser import check
from toy_command import refused, tune

from platform import predict, report
from platform.study.event_log import read
from platform.study.request import EVENT_LOG
from platform.tune import main


def score(trial: dict) -> float:
    return trial["metrics"]["val/error"]


def runs_of(project: Path, study: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return client.search_runs([client.get_experiment_by_name("toy").experiment_id], f"tags.study = '{study}'")


@pytest.fixture(scope="module")
def study(known_toy_project):
    """The folder, the output and the result of a study that is finished."""
    project = known_toy_project
    ended = tune(project, *["--name", "tiny", "--trials", "4", "--epochs", "2", "--json", "out.json"])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return project / "studies" / "tiny", ended.stdout, json.loads((project / "out.json").read_text())


def test_the_result_is_complete(study):
    _, out, result = study
    assert (result["study"], result["task"], result["metric"], result["mode"]) == ("tiny", "toy", "val/error", "min")
    assert len(result["trials"]) == 4
    for trial in result["trials"]:
        assert {"trial_id", "status", "config", "metrics", "epochs", "seconds"} <= set(trial)
        assert trial["status"] in ("finished", "pruned")
    assert result["best"]["metrics"]["val/error"] == min(t["metrics"]["val/error"] for t in result["trials"])
    assert "test/error" in result["best"]["test_metrics"]
    assert [t["baseline"] for t in result["trials"]].count("frozen") == 1
    assert [baseline["baseline"] for baseline in result["baselines"]] == ["frozen"]
    assert "test/error" in result["baselines"][0]["test_metrics"]
    for part in ("Best configuration", "test/error", "mlflow ui", "platform.predict", "frozen", "zero"):
        assert part in out
    [longer] = [line for line in out.splitlines() if line.endswith("# search longer")]
    assert "--trials 8" in longer


def test_only_the_best_trial_keeps_its_checkpoints(study):
    folder, _, result = study
    kept = {path.parent.parent.name for path in folder.glob("trials/*/epoch-*/model.safetensors")}
    assert kept == {result["best"]["trial_id"]}
    assert (Path(result["best"]["model"]) / "model.safetensors").exists()


def test_mlflow_holds_the_study(study, known_toy_project):
    import mlflow

    _, _, result = study
    client = mlflow.MlflowClient(f"sqlite:///{known_toy_project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id], "tags.study = 'tiny'")
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["trial_id"]: run for run in runs if run.data.tags["kind"] == "trial"}
    assert set(children) == {trial["trial_id"] for trial in result["trials"]}
    assert parent.info.status == "FINISHED"
    assert {"commit", "seed", "data_fingerprint", "version.torch"} <= set(parent.data.tags)
    for trial in result["trials"]:
        run = children[trial["trial_id"]]
        assert run.data.params["freeze_depth"] == str(trial["config"]["freeze_depth"])
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, "val/error")]
        assert steps == list(range(1, trial["epochs"] + 1))
    best = children[result["best"]["trial_id"]]
    assert best.data.metrics["test/error"] == pytest.approx(result["best"]["test_metrics"]["test/error"])
    figures = {file.path for file in client.list_artifacts(best.info.run_id, "figures")}
    assert {"figures/learning_curves.png", "figures/comparison.png"} <= figures


def test_the_same_name_twice_is_refused(study, capsys):
    message = refused(capsys, "toy", "--storage", str(study[0].parent), "--name", "tiny")
    assert "Choose another --name." in message
    assert "--resume" not in message  # there is nothing left to do


def test_damaged_state_is_refused(study, tmp_path, capsys):
    """No study continues from an event log that was altered, and none is silently begun anew in its place."""
    shutil.copytree(study[0], tmp_path / "tiny")
    event_log = tmp_path / "tiny" / "journal.log"
    whole = event_log.read_bytes()
    for damaged in (
        whole.replace(b'"step": 2', b'"step": 3', 1),
        whole[40:],
        b"x" + whole,
        whole[:1000] + whole[1400:],
    ):
        event_log.write_bytes(damaged)
        message = refused(capsys, "toy", "--storage", str(tmp_path), "--name", "tiny", "--resume")
        assert "a study's event log must be as it was written" in message
        assert event_log.read_bytes() == damaged


def test_resume_refuses_what_it_would_ignore(study, capsys):
    resume = ("toy", "--storage", str(study[0].parent), "--name", "tiny", "--resume")
    assert "--set, --trials" in refused(capsys, *resume, "--trials", "9", "--set", "x=1")


def test_a_finished_study_has_nothing_to_resume(study, capsys):
    assert "tiny, which is finished" in refused(
        capsys, "toy", "--storage", str(study[0].parent), "--name", "tiny", "--resume"
    )


def test_its_report_is_a_page_and_an_artifact(study, known_toy_project, chromium, capsys):
    folder = study[0]
    for _ in range(2):
        assert report.main(["tiny", "--storage", str(folder.parent)]) == 0
        assert capsys.readouterr().out.splitlines() == [str(folder / "report.html")]
    text = check(chromium, folder / "report.html", 8, sizes=[("light", 1280), ("dark", 390)])
    assert "frozen" in text
    assert "core-seconds" in text
    [parent] = [run for run in runs_of(known_toy_project, "tiny") if run.data.tags["kind"] == "study"]
    client = mlflow.MlflowClient(f"sqlite:///{known_toy_project / 'mlflow.db'}")
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["report.html"]


def test_its_model_answers(study, capsys):
    assert predict.main(["toy", "Which number?", "--storage", str(study[0].parent)]) == 0
    [answer] = capsys.readouterr().out.splitlines()
    assert json.loads(answer)["text"] == "Which number?"


@pytest.fixture(scope="module")
def second(study, known_toy_project, tmp_path_factory):
    """The storage and the output of a study that begins with the record of the first one in MLflow alone."""
    storage = tmp_path_factory.mktemp("studies")
    options = "--name second --warm-start toy --trials 4 --epochs 2 --seed 5 --confirm 1x2 --set lr_head=2e-2..8e-2"
    ended = tune(known_toy_project, "--storage", str(storage), *options.split())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return storage, ended.stdout


def test_another_study_begins_with_what_did_best_in_it(study, second, known_toy_project, capsys):
    folder, _, result = study
    assert main(["toy", "--storage", str(folder.parent), "--warm-start", "tiny", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "tiny (a study, the same data): 4 of 4 trials fit" in text
    assert f"tiny {min(result['trials'], key=score)['name']}" in text
    storage, out = second
    assert "--warm-start toy" in out, "the command to search longer"
    trials = [event.data["config"] for event in read(storage / "second" / EVENT_LOG) if event.kind == "trial"]
    fits = [trial for trial in result["trials"] if 2e-2 <= trial["config"]["lr_head"] <= 8e-2]
    assert trials[0] == min(fits, key=score)["config"]
    runs = runs_of(known_toy_project, "second")
    tags = {run.data.tags["kind"]: run.data.tags.get("warm_start", "") for run in runs}
    assert tags["study"].startswith("tiny (a study in experiment toy, the same data)")
    assert tags["trial"] == ""


def test_a_replay_reproduces_a_run_from_its_record(second, known_toy_project, capsys):
    runs = {run.data.tags.get("trial_id"): run.info.run_id for run in runs_of(known_toy_project, "second")}
    replayed = tune(known_toy_project, "--replay", runs["only-the-heads-seed-7"])
    assert replayed.returncode == 0, replayed.stderr
    assert "in the replay: equal in each epoch, to the last bit." in replayed.stdout
    store = f"sqlite:///{known_toy_project / 'mlflow.db'}"
    message = refused(capsys, "toy", "--replay", runs[None], "--trials", "3", "--tracking-uri", store)
    assert f"needs the run of a trial; found {runs[None]}, second. The best trial of" in message
