"""Bad input to `python -m platform.predict`; the study in test_tune.py covers the good."""

import json

import pytest
from PIL import Image

from platform import predict
from platform.errors import InputError


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


def test_text_is_lines_of_files_and_sentences(tmp_path):
    (tmp_path / "lines.txt").write_text("\ufeffA first line.\n\n  A second one. \n", encoding="utf-8")
    lines = predict.texts([str(tmp_path / "lines.txt"), "And a sentence."])
    assert lines == ["A first line.", "A second one.", "And a sentence."]


def test_every_file_of_text_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(InputError) as caught:
        predict.texts([str(tmp_path / "latin.txt"), "missing.txt"])
    assert [fault.value.split(":")[0] for fault in caught.value.faults] == [
        str(tmp_path / "latin.txt"),
        "'missing.txt'",
    ]
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(InputError, match="only blank lines"):
        predict.texts([str(tmp_path / "blank.txt")])
