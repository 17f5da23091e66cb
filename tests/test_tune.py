"""The command line as a user types it, from its errors to a small study."""

import json
import shutil
import subprocess
from pathlib import Path

from toy_command import refused, tune

from platform.tune import main


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
