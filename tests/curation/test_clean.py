import json
import shutil

import numpy as np
import pytest
from PIL import Image

from platform import dataset
from platform.curation import clean, dataset_data
from platform.curation.findings import ASK, SET_ASIDE
from platform.data import csv_boxes, detection, sheets
from platform.data.annotations import Kind, RawBox, RawImage

FINE = (10.0, 10.0, 60.0, 50.0)
SIZE = (96, 72)


def photograph(seed, size=SIZE):
    """A picture that no other looks like, with structure as large as a perceptual hash sees."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path):
    """Three spellings of one class and one of another, and an image for each thing that can be wrong with one."""
    root = tmp_path / "logos"
    (root / "images").mkdir(parents=True)
    labels = ["Coca Cola", "Coca Cola", "Coca Cola", "coca-cola®", "COCA COLA logo", "Lindgren", "Lindgren", "Lindgren"]
    listed = [_image(root, f"fine{number}.png", number, (FINE, label)) for number, label in enumerate(labels)]
    listed.append(_image(root, "tiny.png", 20, (FINE, "Lindgren"), size=(20, 20)))
    listed.append(_image(root, "copy.bmp", 0, (FINE, "Coca Cola"), ((70.0, 10.0, 90.0, 30.0), "Lindgren")))
    listed.append(_image(root, "near.jpg", 1, (FINE, "Coca Cola")))
    listed.append(_image(root, "lost.png", 21, ((200.0, 10.0, 300.0, 40.0), "Coca Cola")))
    listed.append(_image(root, "half.png", 22, (FINE, "Coca Cola"), ((5.0, 5.0, 5.0, 9.0), "Lindgren")))
    listed.append(_image(root, "nothing.png", 23))
    (root / "images" / "broken.png").write_bytes((root / "images" / "fine0.png").read_bytes()[:200])
    broken = root / "images" / "broken.png"
    listed.append(RawImage(broken, (RawBox(FINE, "Coca Cola", ""),), None, ""))
    csv_boxes.write(root / csv_boxes.FETCHED, root, listed)
    return root


def _image(root, name, seed, *boxes, size=SIZE):
    path = root / "images" / name
    photograph(seed, size).save(path)
    return RawImage(path, tuple(RawBox(box, label, "") for box, label in boxes), None, "")


def run(root, *more):
    return dataset.main(["clean", str(root), *more])


def found(root):
    return {(each.image.removeprefix("images/"), each.kind): each for each in dataset_data.read(root).findings}


def decide(root, **classes):
    """What a person does: writes into the column decision."""
    file = root / "cleaning" / "labels.csv"
    columns, rows = sheets.read(file)
    sheets.write(file, columns, [row | {"decision": classes.get(row["label"], "")} for row in rows])
    return file


def cleaned(root):
    table = csv_boxes.read_table(root, root / csv_boxes.CLEANED)
    assert table.repairs == ()
    return {image.path.name: sorted(box.name for box in image.boxes) for image in table.images}


def test_what_was_fetched_becomes_what_a_detector_opens_without_a_repair(root, capsys):
    assert run(root) == 0
    images = cleaned(root)
    assert images.keys() == {*(f"fine{n}.png" for n in range(8)), "near.jpg", "half.png", "nothing.png"} - {
        "fine0.png"
    } | {"copy.bmp"}
    assert {name for names in images.values() for name in names} == {"Coca Cola", "Lindgren"}
    assert images["nothing.png"] == []  # a background image stays one
    data = detection.read(root, seed=0)
    assert (data.layout, data.classes, data.found.repairs) == ("CSV", ("Coca Cola", "Lindgren"), ())
    printed = capsys.readouterr().out
    assert "fetched.csv → cleaned.csv" in printed
    assert "split" in printed.splitlines()[-1]


def test_everything_that_was_wrong_is_listed(root):
    run(root)
    told = found(root)
    actions = {key: each.action for key, each in told.items()}
    assert actions == {
        ("tiny.png", clean.TOO_SMALL): SET_ASIDE,
        ("broken.png", Kind.BROKEN_IMAGE): SET_ASIDE,
        ("fine0.png", clean.COPY): SET_ASIDE,
        ("lost.png", Kind.OUTSIDE): SET_ASIDE,
        ("lost.png", clean.LOST_ALL): SET_ASIDE,
        ("half.png", Kind.NO_AREA): SET_ASIDE,
        ("half.png", clean.LOST_SOME): ASK,
    }
    copy = told["fine0.png", clean.COPY]
    assert (copy.other, copy.detail) == ("images/copy.bmp", "0 of its 1 boxes are new there")
    assert cleaned(root)["copy.bmp"] == ["Coca Cola", "Lindgren"]  # the boxes of both
    _, near = sheets.read(root / "cleaning" / "near_duplicates.csv")
    assert {row["image"] for row in near} == {"images/fine1.png", "images/near.jpg"}
    facts = json.loads((root / "cleaning" / "summary.json").read_text())
    assert facts["before"] == {"images": 15, "boxes": 16, "labels": 4}
    assert facts["after"] == {"images": 11, "boxes": 11, "classes": 2}


def test_the_same_input_gives_the_same_bytes_and_is_not_touched(root):
    before = (root / csv_boxes.FETCHED).read_bytes()
    run(root)
    tables = [root / csv_boxes.CLEANED, *sorted((root / "cleaning").glob("*.[cj]s*"))]
    first = [file.read_bytes() for file in tables]
    assert len(first) == 5
    shutil.rmtree(root / "cleaning")  # nor does it depend on what is kept of the images
    run(root)
    assert [file.read_bytes() for file in tables] == first
    assert (root / csv_boxes.FETCHED).read_bytes() == before


def test_decisions_win_and_stay_in_the_table(root):
    run(root)
    file = decide(root, Lindgren="-", **{"coca-cola®": "Coke"})
    assert run(root, "--decisions", str(file)) == 0
    names = [name for names in cleaned(root).values() for name in names]
    assert {*names} == {"Coca Cola", "Coke"}
    assert found(root)["fine5.png", clean.LOST_ALL].action == SET_ASIDE
    _, rows = sheets.read(file)
    assert {row["label"]: row["decision"] for row in rows if row["decision"]} == {"Lindgren": "-", "coca-cola®": "Coke"}


def test_aliases_win_over_likeness(root, tmp_path):
    file = tmp_path / "aliases.csv"
    file.write_text("alias,class\nLindgren,Astrid\n")
    assert run(root, "--aliases", str(file)) == 0
    assert {name for names in cleaned(root).values() for name in names} == {"Coca Cola", "Astrid"}


def test_a_decision_about_a_label_that_is_gone_is_told(root, tmp_path, capsys):
    file = tmp_path / "decisions.csv"
    file.write_text("label,decision\nPepsi,Cola\n")
    assert run(root, "--decisions", str(file)) == 0
    assert "no longer there: 1, Pepsi" in capsys.readouterr().out


def test_what_was_made_of_the_table_before_is_removed_and_told(root, capsys):
    run(root)
    assert dataset.main(["split", str(root)]) == 0
    capsys.readouterr()
    run(root)
    assert not (root / csv_boxes.SPLIT).exists()
    assert "split.csv and split.json of an earlier run are removed" in capsys.readouterr().out


def test_any_layout_can_be_cleaned_and_keeps_its_splits(root, tmp_path):
    run(root)
    dataset.main(["split", str(root)])
    assert dataset.main(["convert", str(root), str(tmp_path / "voc"), "--to", "voc"]) == 0
    assert run(tmp_path / "voc") == 0
    table = csv_boxes.read_table(tmp_path / "voc", tmp_path / "voc" / csv_boxes.CLEANED)
    assert {image.split for image in table.images} == {"train", "val", "test"}


def test_all_that_is_wrong_with_the_options_is_told_at_once(tmp_path, capsys):
    wrong = ["--min-image", "0", "--min-box", "-1", "--max-box", "2", "--merge-at", "0.5"]
    assert run(tmp_path / "nowhere", *wrong) == 2
    told = " ".join(capsys.readouterr().err.split())
    for part in ("5 faults", "no " + str(tmp_path / "nowhere"), "--min-image", "--min-box", "--max-box", "--merge-at"):
        assert part in told


def test_both_tables_are_looked_at_before_any_work(root, tmp_path, capsys):
    file = tmp_path / "wrong.csv"
    file.write_text("a,b\n1,2\n")
    assert run(root, "--aliases", str(file), "--decisions", str(file)) == 2
    assert "2 faults" in capsys.readouterr().err
    assert not (root / "cleaning").exists()


def test_a_data_set_of_which_nothing_is_left_is_refused_and_nothing_written(root, capsys):
    assert run(root, "--min-box", "500") == 2
    assert "a box must be left" in capsys.readouterr().err
    assert not (root / csv_boxes.CLEANED).exists()
