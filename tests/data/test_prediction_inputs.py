"""Inputs of predictions: images are decoded a few at a time, and texts are read from files, tables and arguments."""

import numpy as np
import pandas
import pytest
from PIL import Image

from platform.data import prediction_inputs
from platform.data.images import load
from platform.errors import InputError


def test_images_are_decoded_a_few_at_a_time(tmp_path, monkeypatch):
    photo = Image.effect_noise((80, 60), 50).convert("RGB")
    for number in range(70):
        photo.save(tmp_path / f"{number:02d}.png")
    files = prediction_inputs.pictures([str(tmp_path)])
    assert [len(group) for group in prediction_inputs.decoded(files)] == [64, 6]
    monkeypatch.setattr(prediction_inputs, "GROUP_PIXELS", 3 * photo.width * photo.height)
    groups = list(prediction_inputs.decoded(files[:7]))
    assert [len(group) for group in groups] == [3, 3, 1]
    assert [file for group in groups for file, _ in group] == files[:7]
    assert np.array_equal(groups[0][0][1], load(files[0]))


def test_texts_are_lines_of_files_and_sentences(tmp_path):
    content = "\ufeffA first line.\r\n\n  A second\u2028one\x85of\x0cone sentence. \n"
    (tmp_path / "lines.txt").write_text(content, encoding="utf-8", newline="")
    lines = prediction_inputs.texts([str(tmp_path / "lines.txt"), "And a sentence."])
    assert lines == ["A first line.", "A second\u2028one\x85of\x0cone sentence.", "And a sentence."]


def test_texts_can_be_the_column_of_a_table(tmp_path):
    content = 'id,Text,genre\n1,"A first one, with\na break.",crime\n2,,travel\n3,A second one.,\n'
    (tmp_path / "titles.csv").write_text("\ufeff" + content, encoding="utf-8")
    pandas.read_csv(tmp_path / "titles.csv").to_parquet(tmp_path / "titles.parquet")
    for name in ("titles.csv", "titles.parquet"):
        assert prediction_inputs.texts([str(tmp_path / name)]) == ["A first one, with\na break.", "A second one."]
    (tmp_path / "other.csv").write_text("title,genre\nA first one.,crime\n")
    with pytest.raises(InputError, match=r"(?s)text.*other\.csv|other\.csv.*text"):
        prediction_inputs.texts([str(tmp_path / "other.csv")])


def test_every_unreadable_text_file_is_reported(tmp_path):
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(InputError) as caught:
        prediction_inputs.texts([str(tmp_path / "latin.txt"), "missing.txt"])
    assert [fault.value.split(":")[0] for fault in caught.value.faults] == [
        str(tmp_path / "latin.txt"),
        "'missing.txt'",
    ]
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(InputError, match="only blank lines"):
        prediction_inputs.texts([str(tmp_path / "blank.txt")])
