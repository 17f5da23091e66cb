"""The command line as a user types it, from its errors to a whole tiny study."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from platform import predict
from platform.tune import main

ROOT = Path(__file__).parent.parent
TINY = ["--set", "image_size=64", "--set", "channels=32"]


def tune(*arguments: str, module: str = "platform.tune") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """What a command that cannot start says; in this process, since importing all libraries takes seconds."""
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_list_names_the_task_with_metric_and_budget():
    told = tune("--list")
    assert told.returncode == 0
    assert "detector" in told.stdout
    assert "val/map" in told.stdout


def test_all_faults_are_told_at_once_before_anything_starts(tmp_path):
    told = tune(
        "detector", "--data", str(tmp_path / "none"), "--storage", str(tmp_path / "studies"),
        "--set", "lr_haed=1", "--set", "freeze_depth=9", "--gpus-per-trial", "64", "--cpus-per-trial", "999",
        "--seed", "-1", "--name", "../up", "--json", str(tmp_path), "--trials", "0",
    )  # fmt: skip
    assert told.returncode == 2
    for part in (
        "9 faults", "lr_head", "0..5", "--gpus-per-trial", "--cpus-per-trial", "Check the path", "--seed", "'../up'",
        "--json", "--trials 1",
    ):  # fmt: skip
        assert part in told.stderr, told.stderr


def test_a_dry_run_starts_nothing(tmp_path, scenes_folder, capsys):
    assert main(["detector", "--data", str(scenes_folder), "--storage", str(tmp_path), "--dry-run", *TINY]) == 0
    told = capsys.readouterr().out
    assert "freeze_depth" in told
    assert "24 images" in told
    assert not [path for path in tmp_path.iterdir() if path.name != ".cache"]


@pytest.fixture(scope="module")
def study(tmp_path_factory, scenes_folder):
    """The shipped command on a tiny budget."""
    folder = tmp_path_factory.mktemp("study")
    told = tune(
        "detector", "--data", str(scenes_folder), "--storage", str(folder), "--name", "tiny",
        "--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}", "--json", str(folder / "out.json"),
        "--trials", "4", "--epochs", "2", *TINY,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    return folder, told, json.loads((folder / "out.json").read_text())


def test_the_result_is_complete(study):
    _, told, result = study
    assert (result["study"], result["task"], result["metric"], result["mode"]) == ("tiny", "detector", "val/map", "max")
    assert len(result["trials"]) == 4
    for trial in result["trials"]:
        assert {"trial_id", "status", "config", "metrics", "epochs", "seconds"} <= set(trial)
        assert trial["status"] in ("finished", "pruned")
    assert result["best"]["metrics"]["val/map"] == max(t["metrics"]["val/map"] for t in result["trials"])
    assert "test/map" in result["best"]["test_metrics"]
    assert [t["baseline"] for t in result["trials"]].count("from scratch") == 1
    for part in ("Best configuration", "test/map", "mlflow ui", "platform.predict"):
        assert part in told.stdout
    [longer] = [line for line in told.stdout.splitlines() if line.endswith("# search longer")]
    assert "--trials 8" in longer
    assert "--tracking-uri sqlite" in longer


def test_only_the_best_trial_keeps_its_checkpoints(study):
    folder, _, result = study
    kept = {path.parent.parent.name for path in (folder / "tiny").glob("trials/*/epoch-*/model.safetensors")}
    assert kept == {result["best"]["trial_id"]}
    assert [baseline["baseline"] for baseline in result["baselines"]] == ["from scratch"]
    assert "test/map" in result["baselines"][0]["test_metrics"]
    assert (Path(result["best"]["model"]) / "model.safetensors").exists()


def test_mlflow_holds_the_study(study, scenes_folder):
    import mlflow

    folder, _, result = study
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("detector")
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["trial_id"]: run for run in runs if run is not parent}
    assert set(children) == {trial["trial_id"] for trial in result["trials"]}
    assert parent.info.status == "FINISHED"
    assert {"commit", "seed", "data_fingerprint", "version.torch"} <= set(parent.data.tags)
    for trial in result["trials"]:
        run = children[trial["trial_id"]]
        assert run.data.params["freeze_depth"] == str(trial["config"]["freeze_depth"])
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/map")]
        assert steps == list(range(1, trial["epochs"] + 1))
    best = children[result["best"]["trial_id"]]
    assert best.data.metrics["test/map"] == pytest.approx(result["best"]["test_metrics"]["test/map"])
    figures = {file.path for file in client.list_artifacts(best.info.run_id, "figures")}
    assert {f"figures/{name}.png" for name in ("learning_curves", "precision_recall", "test_images")} <= figures


def test_the_logged_model_loads_elsewhere_with_pickle_refused_and_predicts(study, scenes_folder, tmp_path):
    import mlflow

    folder, _, _ = study
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    experiment = mlflow.MlflowClient(uri).get_experiment_by_name("detector")
    [model] = mlflow.MlflowClient(uri).search_logged_models([experiment.experiment_id])
    image = next(scenes_folder.rglob("*.png"))
    code = (
        f"import mlflow, pandas; mlflow.set_tracking_uri({uri!r}); "
        f"model = mlflow.pyfunc.load_model({model.model_uri!r}); "
        f"print(list(model.predict(pandas.DataFrame({{'image': [open({str(image)!r}, 'rb').read()]}}))[0]))"
    )
    environment = {"PATH": "/usr/bin:/bin", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == "['detections']", ran.stderr


def test_the_same_name_twice_is_refused(study, capsys):
    folder, _, _ = study
    told = refused(capsys, "detector", "--storage", str(folder), "--name", "tiny")
    assert "Choose another --name." in told
    assert "--resume" not in told  # it is all done


def test_damaged_state_is_refused(study, tmp_path, capsys):
    """No study goes on from what was altered, and none is silently begun anew in its place."""
    folder, _, _ = study
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    event_log = tmp_path / "tiny" / "journal.log"
    whole = event_log.read_bytes()
    for damaged in (
        whole.replace(b'"step": 2', b'"step": 3', 1),
        whole[40:],
        b"x" + whole,
        whole[:1000] + whole[1400:],
    ):
        event_log.write_bytes(damaged)
        told = refused(capsys, "detector", "--storage", str(tmp_path), "--name", "tiny", "--resume")
        assert "a study's event log must be as it was written" in told
        assert event_log.read_bytes() == damaged


def test_resume_refuses_what_it_would_ignore(study, capsys):
    folder, _, _ = study
    again = ("detector", "--storage", str(folder), "--name", "tiny", "--resume")
    assert "--set, --trials" in refused(capsys, *again, "--trials", "9", "--set", "x=1")


def test_a_study_out_of_time_still_has_a_best(toy_project):
    seconds = 12  # a busy machine may need more of them for an epoch, and is told so
    while (told := _for_seconds(seconds, toy_project)).returncode == 1 and seconds < 200:
        assert "Time was up before an epoch ended" in told.stdout, told.stdout + told.stderr
        seconds *= 2
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"--time-budget {2.0 * seconds}" in told.stdout
    folder = toy_project / "studies" / "short"
    result = json.loads((folder / "result.json").read_text())
    assert result["out_of_time"]
    assert result["best"]["test_metrics"]
    assert "interrupted" in {trial["status"] for trial in result["trials"]}
    kept = {path.parent.parent.name for path in folder.glob("trials/*/epoch-*/model.safetensors")}
    assert kept == {result["best"]["trial_id"]}


def _for_seconds(seconds: float, project: Path) -> subprocess.CompletedProcess:
    shutil.rmtree(project / "studies" / "short", ignore_errors=True)
    command = [sys.executable, "-m", "platform.tune", "toy", "--name", "short", "--trials", "50", "--epochs", "40"]
    command += ["--time-budget", str(seconds), "--set", "pause=0.5"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240, check=False)


def test_a_finished_study_has_nothing_to_resume(study, capsys):
    folder, _, _ = study
    assert "all done" in refused(capsys, "detector", "--storage", str(folder), "--name", "tiny", "--resume")


def test_predict_draws_boxes_and_prints_json(study, scenes_folder, tmp_path):
    folder, _, _ = study
    image = next(scenes_folder.rglob("*.png"))
    arguments = ("detector", str(image), "--model", "best", "--storage", str(folder), "--out", str(tmp_path))
    told = tune(*arguments, module="platform.predict")
    assert told.returncode == 0, told.stderr
    prediction = json.loads(told.stdout)
    assert prediction["path"] == str(image)
    assert Path(prediction["picture"]).exists()
    assert predict.main(["detector", str(tmp_path / "no.png"), "--storage", str(folder)]) == 2


def test_no_successful_trial_ends_with_code_1(tmp_path, scenes_folder):
    told = tune(
        "detector", "--data", str(scenes_folder), "--storage", str(tmp_path), "--trials", "1", "--epochs", "1",
        "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", *TINY, "--set", f"weights={_nan_weights(tmp_path)}",
        "--set", "freeze_depth=0",
    )  # fmt: skip
    assert told.returncode == 1, told.stdout + told.stderr
    assert "epoch 1, step 1" in told.stdout
    assert "best model" not in told.stdout  # nor anything else that is not there


def _nan_weights(folder: Path) -> Path:
    import torch
    import torchvision

    state = torchvision.models.mobilenet_v2().state_dict()
    state["features.0.0.weight"][:] = float("nan")
    torch.save(state, folder / "nan.pth")
    return folder / "nan.pth"
