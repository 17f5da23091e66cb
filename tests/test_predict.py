"""Bad input to `python -m platform.predict`; the study in test_tune.py covers the good."""

import json

import pytest
from PIL import Image

from platform import predict


@pytest.fixture
def storage(tmp_path):
    """A finished study, as far as looking for its model goes."""
    best = tmp_path / "studies" / "first" / "best"
    best.mkdir(parents=True)
    (best / "model.json").write_text(json.dumps({"task": "detector"}))
    return tmp_path / "studies"


def ran(capsys, *arguments) -> str:
    assert predict.main([str(argument) for argument in arguments]) == predict.EXIT_BAD_INPUT
    return capsys.readouterr().err


def test_every_missing_input_is_named(storage, tmp_path, capsys):
    told = ran(capsys, "detector", tmp_path / "a.png", tmp_path / "b.png", "--storage", storage)
    assert "a.png" in told
    assert "b.png" in told


def test_an_unknown_model_is_told_with_the_known_ones(storage, capsys):
    assert "Studies of detector: first" in ran(capsys, "detector", storage, "--storage", storage, "--model", "other")


def test_best_needs_a_finished_study(tmp_path, capsys):
    assert "platform.tune detector" in ran(capsys, "detector", tmp_path, "--storage", tmp_path / "none")


def test_an_empty_folder_is_no_input(storage, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "only folders without pictures" in ran(capsys, "detector", tmp_path / "empty", "--storage", storage)


def test_pictures_of_one_name_get_files_of_their_own(tmp_path):
    first = predict._free_name(tmp_path, tmp_path / "a" / "cat.jpg")
    Image.new("RGB", (2, 2)).save(first)
    assert (first.name, predict._free_name(tmp_path, tmp_path / "b" / "cat.jpg").name) == ("cat.png", "cat-2.png")
