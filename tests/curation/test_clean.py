"""Tests of the command clean on a small data set with one example of each fault."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from platform import dataset
from platform.curation import clean
from platform.curation.cleaning import repair, rules
from platform.curation.cleaning.findings import Action
from platform.curation.pages import dataset_data
from platform.data import sheets
from platform.data.detection import csv_boxes
from platform.data.detection import dataset as detection
from platform.data.detection.annotations import Kind, RawBox, RawImage

FINE = (10.0, 10.0, 60.0, 50.0)
SIZE = (96, 72)


def photograph(seed, size=SIZE):
    """Return a unique image with structures large enough for a perceptual hash."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path):
    """Create a data set with four spellings of one class, another class, and an image with each fault."""
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
    """Fill the column decision, as a person does."""
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
    by_image = found(root)
    actions = {key: each.action for key, each in by_image.items()}
    assert actions == {
        ("tiny.png", rules.TOO_SMALL): Action.SET_ASIDE,
        ("broken.png", Kind.BROKEN_IMAGE): Action.SET_ASIDE,
        ("fine0.png", repair.EXACT): Action.SET_ASIDE,
        ("lost.png", Kind.OUTSIDE): Action.SET_ASIDE,
        ("lost.png", repair.LEFT_EMPTY): Action.SET_ASIDE,
        ("half.png", Kind.NO_AREA): Action.SET_ASIDE,
        ("half.png", repair.LOST_SOME): Action.ASK,
        ("fine1.png", repair.NEAR): Action.KEPT,
        ("near.jpg", repair.NEAR): Action.KEPT,
    }
    copy = by_image["fine0.png", repair.EXACT]
    assert (copy.other, copy.detail) == ("images/copy.bmp", "1 boxes united with those of the other")
    assert cleaned(root)["copy.bmp"] == ["Coca Cola", "Lindgren"]  # the boxes of both
    _, near = sheets.read(root / "cleaning" / "near_duplicates.csv")
    assert {row["image"] for row in near} == {"images/fine1.png", "images/near.jpg"}
    facts = json.loads((root / "cleaning" / "summary.json").read_text())
    assert facts["before"] == {"images": 15, "boxes": 16, "labels": 4}
    assert facts["after"] == {"images": 11, "background_images": 1, "boxes": 11, "classes": 2}


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
    assert found(root)["fine5.png", repair.LEFT_EMPTY].action == Action.SET_ASIDE
    _, rows = sheets.read(file)
    assert {row["label"]: row["decision"] for row in rows if row["decision"]} == {"Lindgren": "-", "coca-cola®": "Coke"}


def test_aliases_win_over_likeness(root, tmp_path):
    file = tmp_path / "aliases.csv"
    file.write_text("alias,class\nLindgren,Astrid\n")
    assert run(root, "--aliases", str(file)) == 0
    assert {name for names in cleaned(root).values() for name in names} == {"Coca Cola", "Astrid"}


def test_decisions_and_aliases_that_change_nothing_are_reported(root, tmp_path):
    decisions, aliases = tmp_path / "decisions.csv", tmp_path / "aliases.csv"
    decisions.write_text("label,decision\nPepsi,Cola\n")
    aliases.write_text("alias,class\nfanta,Fanta\nlindgren,Astrid\n")
    assert run(root, "--decisions", str(decisions), "--aliases", str(aliases)) == 0
    idle = {(each.kind, each.label) for each in dataset_data.read(root).findings if not each.image}
    assert idle == {(clean.NO_SUCH_LABEL, "Pepsi"), (clean.NO_LABEL_LIKE, "fanta")}


def test_what_a_person_wrote_into_the_table_is_never_written_over(root, capsys):
    run(root)
    file = decide(root, Lindgren="Astrid")
    written = file.read_bytes()
    assert run(root) == 2
    output = capsys.readouterr().err
    assert "1 about Lindgren" in output
    assert "--decisions" in output
    assert file.read_bytes() == written
    assert run(root, "--decisions", str(file)) == 0


def test_what_was_made_of_another_table_is_removed_and_reported(root, capsys):
    run(root)
    assert dataset.main(["split", str(root)]) == 0
    assert run(root) == 0  # the same again: its split is still right
    assert (root / csv_boxes.SPLIT).exists()
    capsys.readouterr()
    (root / "dataset.html").touch()
    assert run(root, "--min-box", "45") == 2  # nothing is left: nothing is written
    assert "none, but" in " ".join(capsys.readouterr().err.split())
    assert (root / csv_boxes.SPLIT).exists()
    assert run(root, "--min-image", "73") == 2
    file = decide(root, Lindgren="-")
    assert run(root, "--decisions", str(file)) == 0
    assert not any((root / name).exists() for name in (csv_boxes.SPLIT, "split.json", "dataset.html"))
    output = " ".join(capsys.readouterr().out.split())
    assert "Removed, because made from an earlier cleaned.csv: split.csv, split.json, dataset.html" in output


def test_where_a_step_was_stopped_the_next_one_says_so(root, capsys):
    run(root)
    (root / ".clean-unfinished").touch()
    for command in ("split", "report"):
        assert dataset.main([command, str(root)]) == 2
        assert "clean must have finished" in capsys.readouterr().err
    assert run(root) == 0
    assert dataset.main(["split", str(root)]) == 0
    (root / ".fetch-unfinished").touch()
    assert run(root) == 2
    assert "fetch must have finished" in capsys.readouterr().err


def test_width_and_height_in_place_of_a_corner_are_not_repaired_into_something(root, capsys):
    table = csv_boxes.read_table(root, root / csv_boxes.FETCHED)
    sides = [RawBox((70.0, 40.0, 20.0, 30.0), box.name, "") for image in table.images for box in image.boxes]
    drawn_upwards = [RawBox((90.0, 60.0, 50.0, 30.0), box.name, "") for box in sides]
    for boxes, code in ((sides, 2), (drawn_upwards, 0)):
        images = [replace(image, boxes=(box,)) for image, box in zip(table.images, boxes, strict=False)]
        csv_boxes.write(root / csv_boxes.FETCHED, root, images)
        assert run(root) == code
        assert ("as x, y, width, height" in capsys.readouterr().err) == (code == 2)


def test_a_name_that_no_table_can_hold_is_set_aside_and_not_another_file(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: [cola]\n")
    for number, stem in enumerate(("fine", "caf?", os.fsdecode(b"caf\xe9"))):
        photograph(number).save(tmp_path / "images" / f"{stem}.png")
        (tmp_path / "labels" / f"{stem}.txt").write_text("" if stem == "caf?" else "0 0.5 0.5 0.3 0.3\n")
    assert run(tmp_path) == 0
    assert cleaned(tmp_path) == {"fine.png": ["cola"], "caf?.png": []}
    (finding,) = dataset_data.read(tmp_path).findings
    assert (finding.kind, finding.action) == (repair.NOT_UTF8, Action.SET_ASIDE)


def test_of_copies_the_one_that_is_tested_on_stays_and_leaks_are_asked_about(root):
    table = csv_boxes.read_table(root, root / csv_boxes.FETCHED)
    splits = {"fine0.png": "test", "copy.bmp": "train", "fine1.png": "train", "near.jpg": "val"}
    images = [replace(image, split=splits.get(image.path.name, "train")) for image in table.images]
    csv_boxes.write(root / csv_boxes.FETCHED, root, images)
    assert run(root) == 0
    by_image = found(root)
    assert by_image["copy.bmp", repair.EXACT].other == "images/fine0.png"
    assert by_image["copy.bmp", repair.EXACT].detail.endswith("it was in train, the other is in test")
    assert by_image["fine1.png", repair.NEAR_APART].action == Action.ASK
    kept = csv_boxes.read_table(root, root / csv_boxes.CLEANED).images
    assert {image.path.name: image.split for image in kept}["fine0.png"] == "test"


def test_any_layout_can_be_cleaned_and_keeps_its_splits(root, tmp_path):
    run(root)
    dataset.main(["split", str(root)])
    assert dataset.main(["convert", str(root), str(tmp_path / "voc"), "--to", "voc"]) == 0
    assert run(tmp_path / "voc") == 0
    table = csv_boxes.read_table(tmp_path / "voc", tmp_path / "voc" / csv_boxes.CLEANED)
    assert {image.split for image in table.images} == {"train", "val", "test"}


def test_all_that_is_wrong_with_the_options_is_reported_at_once(tmp_path, capsys):
    wrong = ["--min-image", "0", "--min-box", "-1", "--max-box", "2", "--merge-at", "0.5"]
    assert run(tmp_path / "nowhere", *wrong) == 2
    output = " ".join(capsys.readouterr().err.split())
    for part in ("5 faults", "no " + str(tmp_path / "nowhere"), "--min-image", "--min-box", "--max-box", "--merge-at"):
        assert part in output


def test_both_tables_are_looked_at_before_any_work(root, tmp_path, capsys):
    file = tmp_path / "wrong.csv"
    file.write_text("a,b\n1,2\n")
    assert run(root, "--aliases", str(file), "--decisions", str(file)) == 2
    assert "2 faults" in capsys.readouterr().err
    assert not (root / "cleaning").exists()
