"""The command line as a user types it, from its errors to a small study."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from platform.tune import main


def tune(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command on the toy task in a process of its own."""
    command = [sys.executable, "-m", "platform.tune", "toy", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240, check=False)


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Return the errors of a command that cannot start. It runs in this process: all imports take seconds."""
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_list_names_the_task_with_metric_and_budget(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "detector" in out
    assert "val/map" in out


def test_all_faults_are_reported_at_once_before_anything_starts(tmp_path, capsys):
    message = refused(
        capsys, "detector", "--data", str(tmp_path / "none"), "--storage", str(tmp_path / "studies"),
        "--set", "lr_haed=1", "--set", "freeze_depth=9", "--gpus-per-trial", "64", "--cpus-per-trial", "999",
        "--seed", "-1", "--name", "../up", "--json", str(tmp_path), "--trials", "0",
    )  # fmt: skip
    for part in (
        "9 faults", "lr_head", "0..5", "--gpus-per-trial", "--cpus-per-trial", "Check the path", "--seed", "'../up'",
        "--json", "--trials 1",
    ):  # fmt: skip
        assert part in message


def test_a_dry_run_starts_nothing(tmp_path, scenes_folder, capsys):
    tiny = ["--set", "image_size=64", "--set", "channels=32"]
    assert main(["detector", "--data", str(scenes_folder), "--storage", str(tmp_path), "--dry-run", *tiny]) == 0
    out = capsys.readouterr().out
    assert "freeze_depth" in out
    assert "24 images" in out
    assert not [path for path in tmp_path.iterdir() if path.name != ".cache"]


@pytest.fixture(scope="module")
def study(known_toy_project):
    """The folder, the output and the result of a study that is finished."""
    project = known_toy_project
    ended = tune(project, "--name", "tiny", "--trials", "4", "--epochs", "2", "--json", "out.json")
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
    for part in ("Best configuration", "test/error", "mlflow ui", "platform.predict"):
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
    children = {run.data.tags["trial_id"]: run for run in runs if run is not parent}
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


def test_a_study_out_of_time_still_has_a_best(shared_toy_project):
    project = shared_toy_project
    seconds = 30  # a busy machine may need more of them for an epoch; the study then says so
    while (ended := _for_seconds(seconds, project)).returncode == 1 and seconds < 200:
        assert "--time-budget was reached before an epoch ended" in ended.stdout, ended.stdout + ended.stderr
        seconds *= 2
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"--time-budget {2.0 * seconds}" in ended.stdout
    folder = project / "studies" / "short"
    result = json.loads((folder / "result.json").read_text())
    assert result["out_of_time"]
    assert result["best"]["test_metrics"]
    assert "interrupted" in {trial["status"] for trial in result["trials"]}
    kept = {path.parent.parent.name for path in folder.glob("trials/*/epoch-*/model.safetensors")}
    assert kept == {result["best"]["trial_id"]}


def _for_seconds(seconds: float, project: Path) -> subprocess.CompletedProcess:
    shutil.rmtree(project / "studies" / "short", ignore_errors=True)
    budget = ("--trials", "50", "--epochs", "40", "--time-budget", str(seconds))
    return tune(project, "--name", "short", *budget, "--set", "pause=0.5")


def test_without_a_successful_trial_the_exit_code_is_1(toy_project):
    trainable = toy_project / "trainables" / "toy.py"
    trainable.write_text(trainable.read_text().replace('{"val/error": error(model)}', '{"val/error": float("nan")}'))
    ended = tune(toy_project, "--trials", "1", "--epochs", "1")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "the score must be finite; val/error is nan" in ended.stdout
    assert "best model" not in ended.stdout  # nor any other place that does not exist
