"""`python -m platform.predict` with a tiny model of each task; test_tune.py covers the model of a study."""

import csv
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image

from platform import predict, task

ROOT = Path(__file__).parent.parent
TASKS, _ = task.names()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {name: str(tiny_models.save(name, root / name / "model")) for name in TASKS}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((80, 60))


@pytest.fixture
def unusual_files(photo, tmp_path) -> Path:
    """Return a folder of unusual images, three of which cannot be read."""
    folder = tmp_path / "odd files"
    (folder / "deeper").mkdir(parents=True)
    photo.save(folder / "an Ümlaut 東.jpg")
    photo.convert("P").save(folder / "moving.gif", save_all=True, append_images=[photo.rotate(90).convert("P")])
    photo.convert("CMYK").save(folder / "press.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "wide.png")
    photo.convert("RGBA").save(folder / "deeper" / "press.png")
    photo.save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no picture by its name either")
    return folder


def run(capsys, *arguments, code: int = 0) -> tuple[str, str]:
    assert predict.main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_unusual_images_are_predicted_and_unreadable_ones_listed(models, unusual_files, tmp_path, capsys):
    out, err = run(
        capsys, "classifier", unusual_files, "--model", models["classifier"], "--out", tmp_path / "pictures", code=1
    )
    predictions = [json.loads(line) for line in out.splitlines()]
    names = ["an Ümlaut 東.jpg", "deeper/press.png", "moving.gif", "press.jpg", "whole.jpg", "wide.png"]
    assert [prediction["path"] for prediction in predictions] == [str(unusual_files / name) for name in names]
    assert len({prediction["picture"] for prediction in predictions}) == 6
    assert all(Image.open(prediction["picture"]).width >= 80 for prediction in predictions)
    assert [line.split(": ")[1] for line in err.splitlines() if "Left out" in line] == [
        str(unusual_files / name) for name in ("empty.png", "text.jpg", "truncated.jpg")
    ]
    assert "6 of 9 predicted" in err


def test_only_unreadable_files_give_no_prediction_and_no_crash(models, unusual_files, capsys):
    out, err = run(
        capsys, "detector", unusual_files / "truncated.jpg", "--model", models["detector"], "--no-pictures", code=1
    )
    assert out == ""
    assert "0 of 1 predicted" in err


def test_a_table_has_a_row_for_each_box(models, photo, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        photo.save(tmp_path / name)
    Image.new("RGB", (60, 60)).save(tmp_path / "black.png")
    options = ("--model", models["detector"], "--no-pictures")
    out, _ = run(capsys, "detector", tmp_path, *options, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["path", "class", "score", "x1", "y1", "x2", "y2"]
    assert not (tmp_path / "predictions").exists()
    lines, _ = run(capsys, "detector", tmp_path, *options)
    found = {line["path"]: line["detections"] for line in map(json.loads, lines.splitlines())}
    assert len(found[str(tmp_path / "a.png")]) > 1
    for path, detections in found.items():
        rows_of_image = [row for row in rows if row["path"] == path]
        assert len(rows_of_image) == max(1, len(detections))
        for row, detection in zip(rows_of_image, detections, strict=False):
            assert [float(row[side]) for side in ("x1", "y1", "x2", "y2")] == detection["box"]


def test_a_classifier_s_table_has_a_column_for_each_class(models, unusual_files, tmp_path, capsys):
    table = tmp_path / "answers.csv"
    out, _ = run(
        capsys,
        "classifier",
        unusual_files / "whole.jpg",
        "--model",
        models["classifier"],
        "--no-pictures",
        "--to",
        table,
    )
    assert out == ""
    [row] = csv.DictReader(table.open(newline=""))
    shares = {name: float(row[f"probabilities.{name}"]) for name in tiny_models.CLASSES["classifier"]}
    assert row["class"] == max(shares, key=shares.get)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


def test_sentences_are_predicted_in_order_and_repeated_ones_again(models, tmp_path, capsys):
    lines = [f"Line {number} of a file." for number in range(150)] + ["Line 3 of a file."]
    (tmp_path / "lines.txt").write_text("\n\n".join(lines))
    out, _ = run(capsys, "sentences", tmp_path / "lines.txt", "A last one.", "--model", models["sentences"])
    assert [json.loads(line)["text"] for line in out.splitlines()] == [*lines, "A last one."]


def test_truncated_texts_are_marked_and_counted(models, tmp_path, capsys):
    lines = ["A short one.", "word " * 500, "Another.", "word " * 80]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    most = json.loads((Path(models["sentences"]) / "model.json").read_text())["config"]["max_tokens"]
    out, err = run(capsys, "sentences", tmp_path / "lines.txt", "--model", models["sentences"])
    notes = [json.loads(line)["note"] for line in out.splitlines()]
    assert [bool(note) for note in notes] == [False, True, False, True]
    assert f"2 of 4: truncated to {most} tokens" in err
    out, err = run(capsys, "sentences", "A short one.", "--model", models["sentences"], "--format", "csv")
    [row] = csv.DictReader(io.StringIO(out))
    assert row["note"] == ""
    assert "truncated" not in err


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_gives_the_predictions_of_its_inputs_alone(models, photo, name):
    module = task.load(name)
    model = module.load(Path(models[name]))
    several = [photo.rotate(5 * n).crop((n, 0, 40 + 2 * n, 30)) for n in range(1, 19)]
    if module.INPUT == "text":
        several = [" ".join(["word"] * n) for n in range(1, 80)]
    together, alone = (
        list(module.predict(model, several)),
        [next(iter(module.predict(model, [one]))) for one in several],
    )
    assert len({json.dumps(answer) for answer in together}) > 1
    for one, other in zip(together, alone, strict=True):
        assert one == approximately(other)


def approximately(answer):
    """Return the answer with a tolerance of 1.5e-4, as rounding differs between batch sizes."""
    if isinstance(answer, dict):
        return {key: approximately(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [approximately(value) for value in answer]
    return pytest.approx(answer, abs=1.5e-4) if isinstance(answer, float) and answer <= 1 else answer


def test_a_file_name_that_is_not_unicode_is_written_so_that_it_can_be_read_back(models, photo, tmp_path, capsys):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    try:
        photo.save(strange)
    except OSError:
        pytest.skip("this file system does not allow such a name")
    out, _ = run(capsys, "classifier", tmp_path, "--model", models["classifier"], "--out", tmp_path / "pictures")
    [prediction] = map(json.loads, out.splitlines())
    assert prediction["path"] == str(strange)


def test_every_missing_input_is_named(tmp_path, capsys):
    _, err = run(capsys, "detector", tmp_path / "a.png", tmp_path / "b.png", "--storage", tmp_path, code=2)
    assert "a.png" in err
    assert "b.png" in err


def test_all_faults_of_output_places_are_reported_at_once_before_any_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    places = ("--out", tmp_path / "file" / "deeper", "--to", tmp_path / "none" / "answers.csv")
    _, err = run(capsys, "detector", tmp_path, *places, code=2)
    assert "--out must name a folder" in err
    assert "--to must name a file" in err


def test_an_input_is_not_overwritten(models, photo, tmp_path, capsys):
    photo.save(tmp_path / "photo.png")
    (tmp_path / "lines.txt").write_text("A line.")
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for name, given, to in (("classifier", ".", "photo.png"), ("sentences", "lines.txt", "lines.txt")):
        arguments = (tmp_path / given, "A sentence." if name == "sentences" else tmp_path, "--to", tmp_path / to)
        _, err = run(capsys, name, *arguments, "--model", models[name], "--no-pictures", code=2)
        assert "--to must not be an input" in err
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("option", ["--to", "--out"])
def test_a_place_that_cannot_be_written_ends_the_command_with_a_message(models, photo, tmp_path, capsys, option):
    photo.save(tmp_path / "photo.png")
    places = {"--out": tmp_path / "pictures", option: "/proc/answers"}  # no user can write there
    options = [part for place in places.items() for part in place]
    _, err = run(capsys, "classifier", tmp_path, "--model", models["classifier"], *options, code=1)
    assert "Stopped after 0 of 1" in err
    assert "/proc/answers" in err


def test_a_file_that_cannot_grow_ends_the_command_and_keeps_what_was_written(models, tmp_path, capsys):
    """A limit on the file size stands for a full disk."""
    lines = ["word " * 500, *(f"A line, the {number}th of many." for number in range(500))]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        options = ("--model", models["sentences"], "--to", tmp_path / "answers.jsonl")
        _, err = run(capsys, "sentences", tmp_path / "lines.txt", *options, code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.search(r"1 of [1-4]\d\d: truncated to", err)
    assert re.search(r"Stopped after [1-4]\d\d of 501: .*File too large", err)


def test_an_empty_folder_is_refused(tmp_path, capsys):
    assert "only folders without pictures" in run(capsys, "detector", tmp_path, code=2)[1]


def test_pictures_of_the_same_name_get_different_files(tmp_path):
    (tmp_path / "out").mkdir()
    pictures = predict._Pictures(lambda image, prediction: image, tmp_path / "out")
    blank = Image.new("RGB", (2, 2))
    saved = [Path(pictures.save(tmp_path / folder / "cat.jpg", blank, {})).name for folder in "abc"]
    assert saved == ["cat.png", "cat-2.png", "cat-3.png"]
    again = predict._Pictures(lambda image, prediction: image, tmp_path / "out")
    assert Path(again.save(tmp_path / "cat.jpg", blank, {})).name == "cat-4.png"
    longest = tmp_path / f"{'ü' * 125}.jpg"
    assert len({again.save(longest, blank, {}) for _ in range(2)}) == 2


def test_ctrl_c_leaves_complete_lines_and_a_closed_pipe_prints_no_traceback(models, tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(f"A line, the {number}th of many." for number in range(200_000)))
    command = [sys.executable, "-m", "platform.predict", "sentences", tmp_path / "lines.txt"]
    command += ["--model", models["sentences"]]
    table, quiet = tmp_path / "answers.csv", {"cwd": ROOT, "stderr": subprocess.PIPE, "text": True}
    working = subprocess.Popen([*command, "--to", table], **quiet)
    reading = subprocess.Popen(command, stdout=subprocess.PIPE, **quiet)
    while working.poll() is None and not (table.exists() and table.stat().st_size > 10_000):
        time.sleep(0.05)
    working.send_signal(signal.SIGINT)
    assert "Traceback" not in working.communicate(timeout=60)[1]
    assert working.returncode == 130
    content = table.read_text()
    assert content.endswith("\n")
    assert len({len(row) for row in csv.reader(io.StringIO(content))}) == 1
    assert json.loads(reading.stdout.readline())["text"].startswith("A line")
    reading.stdout.close()
    assert "Traceback" not in reading.stderr.read()
    assert reading.wait(60) == 1
