import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from platform.data.classification import dataset as image_classes
from platform.data.classification.labels import Kind
from platform.errors import InputError


@pytest.fixture
def folders(tmp_path, save):
    """Ten pictures each of two classes, in class folders."""
    for number in range(20):
        save(tmp_path / "data" / ("ant", "bee")[number % 2] / f"{number:02}.png", number)
    return tmp_path / "data"


@pytest.fixture
def splits(tmp_path, save):
    """Two pictures of each class in each split."""
    for number in range(12):
        split, label = ("train", "val", "test")[number % 3], ("ant", "bee")[number % 2]
        save(tmp_path / "data" / split / label / f"{number:02}.png", number)
    return tmp_path / "data"


def repairs(dataset):
    return [(repair.kind, repair.where) for repair in dataset.found.repairs]


def test_class_folders_are_split_stratified_and_reported(folders):
    dataset = image_classes.read(folders, 0)
    assert (dataset.name, dataset.layout, dataset.classes) == ("data", "class folders", ("ant", "bee"))
    lines = dataset.lines()
    assert list(lines) == ["layout", "train", "val", "test"]
    assert lines["layout"] == "class folders, splits made here, stratified"
    assert lines["train"] == "14 images: ant 7, bee 7"
    assert all(example.path.is_absolute() for example in dataset.examples)
    assert all(dataset.classes[example.label] == example.path.parent.name for example in dataset.examples)
    assert [example.where for example in dataset.examples] == sorted(example.where for example in dataset.examples)
    assert dataset.findings() == []
    summary = json.loads(json.dumps(dataset.summary()))
    assert sum(counts["images"] for counts in summary["splits"].values()) == 20


def test_the_seed_decides_and_the_fingerprint_follows_the_content(folders, tmp_path, save):
    dataset = image_classes.read(folders, 0)
    shutil.copytree(folders, tmp_path / "copy")
    assert image_classes.read(tmp_path / "copy", 0).fingerprint == dataset.fingerprint
    assert len({image_classes.read(folders, seed).fingerprint for seed in range(4)}) > 1
    save(tmp_path / "copy" / "ant" / "00.png", 99)
    assert image_classes.read(tmp_path / "copy", 0).fingerprint != dataset.fingerprint
    (folders / "ant").rename(folders / "asp")
    assert image_classes.read(folders, 0).fingerprint != dataset.fingerprint


def test_given_splits_are_kept_and_nested_folders_count_to_their_class(splits, save):
    save(splits / "train" / "ant" / "red" / "small" / "x.png", 50)
    dataset = image_classes.read(splits, 0)
    assert dataset.splits_given
    assert all(example.split == example.path.relative_to(splits).parts[0] for example in dataset.examples)
    assert dataset.lines()["train"] == "5 images: ant 3, bee 2"
    assert dataset.lines()["layout"] == "split folders of class folders, splits given"


def test_a_given_validation_split_becomes_the_test_split(splits):
    shutil.rmtree(splits / "test")
    for name in ("06", "07"):  # so that training has enough to give some away
        Image.new("RGB", (9, 9), (int(name), 0, 0)).save(splits / "train" / "bee" / f"{name}x.png")
    dataset = image_classes.read(splits, 3)
    tested = {example.path.parts[-3] for example in dataset.examples if example.split == "test"}
    assert tested == {"val"}
    assert {example.split for example in dataset.examples} == {"train", "val", "test"}
    assert dataset.found.warnings[0].startswith("the data has no test split: its validation split is kept")


def test_every_kind_of_picture_is_read_and_other_files_are_reported(folders):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    picture = Image.fromarray(pixels)
    ant = folders / "ant"
    frames = [Image.new("P", (8, 8), number) for number in (1, 2)]
    frames[0].save(ant / "moving.gif", save_all=True, append_images=frames[1:])
    picture.convert("CMYK").save(ant / "print.jpg")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(ant / "wide.png")
    picture.save(ant / "whole.jpeg", quality=95)
    whole = (ant / "whole.jpeg").read_bytes()
    (ant / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (ant / "text.jpg").write_text("no picture")
    Image.fromarray(pixels[..., 0].astype(np.float32)).save(ant / "float.tiff")
    (ant / "notes.txt").write_text("x")
    (folders / "README").write_text("x")
    picture.save(folders / "loose.png")
    (folders / "empty").mkdir()
    for hidden in (folders / ".ipynb_checkpoints", ant / ".thumbs"):
        hidden.mkdir()
        picture.save(hidden / "x.png")
    for hidden in (folders / ".DS_Store", ant / "._a.jpg"):
        hidden.write_text("x")
    dataset = image_classes.read(folders, 0)
    names = {example.path.name for example in dataset.examples if example.path.parent == ant}
    assert {"moving.gif", "print.jpg", "wide.png", "whole.jpeg"} <= names
    assert len(names) == 14
    found = repairs(dataset)
    assert found[:4] == [
        (Kind.NO_IMAGE, "README"),
        (Kind.NO_CLASS, "loose.png"),
        (Kind.NO_IMAGE, "ant/notes.txt"),
        (Kind.EMPTY_CLASS, "empty"),
    ]
    assert [kind for kind, _ in found[4:]] == [Kind.BROKEN_IMAGE] * 3
    assert [where.split(" (")[0] for _, where in found[4:]] == ["ant/cut.jpg", "ant/float.tiff", "ant/text.jpg"]
    assert dataset.lines()["! broken image"].startswith("3: ant/cut.jpg (")


def test_a_picture_twice_is_kept_once_and_one_in_two_classes_not_at_all(folders):
    shutil.copy(folders / "ant" / "00.png", folders / "ant" / "again.png")
    Image.open(folders / "bee" / "01.png").save(folders / "ant" / "liar.bmp")
    dataset = image_classes.read(folders, 0)
    assert repairs(dataset) == [
        (Kind.DUPLICATE, "ant/again.png, as ant/00.png"),
        (Kind.TWO_CLASSES, "ant/liar.bmp: ant"),
        (Kind.TWO_CLASSES, "bee/01.png: bee"),
    ]
    assert len(dataset.examples) == 19


def test_a_picture_in_two_given_splits_is_reported_and_kept(splits):
    shutil.copy(splits / "train" / "ant" / "00.png", splits / "test" / "ant" / "leak.png")
    dataset = image_classes.read(splits, 0)
    assert dataset.found.leaks == (("test: test/ant/leak.png", "train: train/ant/00.png"),)
    assert len(dataset.examples) == 13
    assert dataset.findings() == [
        "equal images across splits: test: test/ant/leak.png, train: train/ant/00.png",
    ]


def test_class_names_in_any_script_are_one_class_in_either_unicode_form(tmp_path, save):
    composed, decomposed = (unicodedata.normalize(form, "Bücher") for form in ("NFC", "NFD"))
    for number, split in enumerate(("train", "val", "test")):
        save(tmp_path / split / (decomposed if split == "train" else composed) / "a.png", number)
        save(tmp_path / split / "蜜蜂" / "b.png", 10 + number)
    dataset = image_classes.read(tmp_path, 0)
    assert dataset.classes == (composed, "蜜蜂")
    assert dataset.lines()["val"] == f"2 images: {composed} 1, 蜜蜂 1"


def test_a_class_may_be_called_train(tmp_path, save):
    for number in range(9):
        save(tmp_path / ("car", "train", "plane")[number % 3] / f"{number}.png", number)
    dataset = image_classes.read(tmp_path, 0)
    assert (dataset.classes, dataset.splits_given) == (("car", "plane", "train"), False)


def test_a_folder_beside_the_split_folders_is_reported(splits, save):
    save(splits / "unlabelled" / "x" / "a.png", 90)
    assert repairs(image_classes.read(splits, 0)) == [(Kind.BESIDE_SPLITS, "unlabelled")]


def test_a_link_below_a_class_folder_is_reported_not_followed(folders):
    (folders / "ant" / "loop").symlink_to(folders, target_is_directory=True)
    assert repairs(image_classes.read(folders, 0)) == [(Kind.LINKED_FOLDER, "ant/loop")]


def test_rare_and_unbalanced_classes_are_warned_of(folders, save):
    save(folders / "fly" / "a.png", 70)
    for number in range(80, 100):
        save(folders / "bee" / f"{number}.png", number)
    save(folders / "gnat" / "a.png", 71).write_text("broken")
    dataset = image_classes.read(folders, 0)
    assert dataset.found.warnings == (
        "1 of 4 classes has no usable image: gnat",
        "1 of 3 classes has no image in val: fly",
        "1 of 3 classes has no image in test: fly",
        "the classes are unbalanced: bee has 30 images, fly has 1",
    )


def test_at_most_twelve_classes_are_named_in_a_line(tmp_path, save):
    for number in range(39):
        save(tmp_path / f"class{number % 13:02}" / f"{number}.png", number)
    line = image_classes.read(tmp_path, 0).lines()["train"]
    assert line.startswith("13 images: 13 classes, class00 1")
    assert line.endswith("class05 1, … class10 1, class11 1, class12 1")


def test_what_was_unpacked_around_the_data_is_not_entered_but_named(folders, tmp_path):
    with pytest.raises(InputError, match="only data in") as caught:
        image_classes.read(tmp_path, 0)
    (fault,) = caught.value.faults
    assert fault.remedy == f"Use --data {folders}."


def test_one_class_or_none_is_a_fault(tmp_path, save):
    save(tmp_path / "one" / "ant" / "a.png")
    with pytest.raises(InputError, match=r"at least two classes.*only ant") as caught:
        image_classes.read(tmp_path / "one", 0)
    assert caught.value.faults[0].remedy == "Add images of other classes."
    save(tmp_path / "flat" / "train" / "a.png", 1)
    save(tmp_path / "flat" / "test" / "b.png", 2)
    with pytest.raises(InputError, match=r"no usable image.*2 x image in no class folder"):
        image_classes.read(tmp_path / "flat", 0)


def test_given_splits_that_cannot_serve_are_faults(splits, save):
    save(splits / "val" / "fly" / "a.png", 60)
    save(splits / "test" / "gnat" / "a.png", 61)
    with pytest.raises(InputError, match="training split; found none for fly, gnat"):
        image_classes.read(splits, 0)
    for split in ("val", "test"):
        shutil.rmtree(splits / split)
        save(splits / split / "ant" / "broken.png").write_text("x")
    with pytest.raises(InputError) as caught:
        image_classes.read(splits, 0)
    assert [fault.rule for fault in caught.value.faults] == [
        "the val split must have a usable image",
        "the test split must have a usable image",
    ]
    assert "2 x broken image" in caught.value.faults[0].remedy


def test_too_few_images_for_three_splits_are_a_fault(tmp_path, save):
    for number, label in enumerate(("ant", "bee")):
        save(tmp_path / label / "a.png", number)
    with pytest.raises(InputError, match="2 images, none for val and test"):
        image_classes.read(tmp_path, 0)


def test_splits_without_training_are_a_fault(splits):
    shutil.rmtree(splits / "train")
    with pytest.raises(InputError, match="must have a training split"):
        image_classes.read(splits, 0)


def test_a_folder_without_data_is_refused(tmp_path):
    (tmp_path / "file.zip").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.md").write_text("x")
    for name, message in (
        ("none", "no /"),
        ("file.zip", "the file .*unpack"),
        ("empty", "the empty folder"),
        ("other", "no usable image .*notes.md"),
    ):
        with pytest.raises(InputError, match=message):
            image_classes.read(tmp_path / name, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read_are_reported(splits):
    (splits / "val" / "ant").chmod(0)
    (splits / "test").chmod(0)
    with pytest.raises(InputError, match=r"the test split must have a usable image.*2 x folder that cannot be read"):
        image_classes.read(splits, 0)
    (splits / "test").chmod(0o755)
    splits.chmod(0)
    with pytest.raises(InputError, match="without permission"):
        image_classes.read(splits, 0)
    splits.chmod(0o755)
