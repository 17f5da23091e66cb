"""The embedded scenes: deterministic, tight, balanced, without a leak between splits, whole or not at all."""

import json
import shutil
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from platform.data.detection import coco
from platform.data.embedded import ink, scenes
from platform.errors import InputError

COUNTS = {"train": 24, "val": 8, "test": 12}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.write(tmp_path_factory.mktemp("data") / "scenes", seed=3, counts=COUNTS)


def document(root: Path, split: str) -> dict:
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_same_seed_gives_same_bytes_and_another_seed_others(root, tmp_path):
    again = scenes.write(tmp_path / "a", seed=3, counts=COUNTS)
    other = scenes.write(tmp_path / "b", seed=4, counts=COUNTS)
    assert contents(again) == contents(root)
    assert contents(other) != contents(root)


def test_read_as_any_coco_data_set_without_repairs(root):
    dataset = coco.read(root)
    assert dataset.repairs == ()
    assert dataset.declared == scenes.CLASSES
    assert Counter(image.split for image in dataset.images) == COUNTS


@pytest.mark.parametrize("counts", [COUNTS, {"train": 60, "val": 1, "test": 1}])
def test_no_digit_in_two_splits(counts):
    dealt = {split: np.concatenate(pool) for split, pool in scenes._deal_digits(0, counts).items()}
    assert sorted(np.concatenate(list(dealt.values()))) == list(range(1797))


def test_written_digits_are_of_their_class_and_of_one_split(root):
    targets = load_digits().target
    indices = {split: {a["digit_index"] for a in document(root, split)["annotations"]} for split in COUNTS}
    for a, b in combinations(COUNTS, 2):
        assert not indices[a] & indices[b]
    for split in COUNTS:
        assert all(targets[a["digit_index"]] == a["category_id"] for a in document(root, split)["annotations"])


@pytest.mark.parametrize("split", COUNTS)
def test_crops_come_from_the_splits_own_band(split):
    photograph = np.zeros((427, 640, 3), np.uint8)  # each band in a colour of its own
    for value, (left, right) in enumerate(ink._BANDS.values()):
        photograph[:, round(left * 640) : round(right * 640)] = 40 * (value + 1)
    rng = np.random.default_rng(0)
    colours = {int(c) for _ in range(200) for c in np.unique(ink._crop(rng, photograph, split, 64))}
    assert colours == {40 * (list(ink._BANDS).index(split) + 1)}
    edges = [edge for band in ink._BANDS.values() for edge in band]
    assert all(a <= b for a, b in pairwise(edges))


@pytest.mark.parametrize("split", COUNTS)
def test_classes_are_balanced_and_boxes_lie_inside(root, split):
    annotations = document(root, split)["annotations"]
    per_class = Counter(a["category_id"] for a in annotations)
    assert set(per_class) == set(range(10))
    assert max(per_class.values()) - min(per_class.values()) <= 1
    per_scene = Counter(a["image_id"] for a in annotations)
    assert set(per_scene.values()) <= set(range(2, 7))
    for a in annotations:
        x, y, width, height = a["bbox"]
        assert 0 <= x < x + width <= 128
        assert 0 <= y < y + height <= 128
        assert 20 <= max(width, height) <= 50


@pytest.mark.parametrize("split", COUNTS)
def test_boxes_hardly_overlap(root, split):
    by_scene: dict[int, list] = {}
    for a in document(root, split)["annotations"]:
        by_scene.setdefault(a["image_id"], []).append(a["bbox"])
    for boxes in by_scene.values():
        assert all(ink._iou(a, b) <= ink.MAX_IOU for a, b in combinations(boxes, 2))


@pytest.mark.parametrize("level", [0, 90, 128, 255])
def test_boxes_are_tight_and_the_ink_stands_out(level):
    rng = np.random.default_rng(level)
    ground = np.full((128, 128, 3), level, np.uint8)
    for digit in load_digits().images[:20]:
        drawn = ink.compose(rng, ground, [ink._ink(rng, digit, 128, (0.2, 0.4))])
        assert drawn is not None
        scene, [(x, y, width, height)] = drawn
        change = np.abs(scene.astype(int) - level).max(2)
        rows, columns = (np.flatnonzero((change > 0.3 * change.max()).any(axis)) for axis in (1, 0))
        assert abs(rows[0] - y) <= 1
        assert abs(rows[-1] + 1 - y - height) <= 1
        assert abs(columns[0] - x) <= 1
        assert abs(columns[-1] + 1 - x - width) <= 1
        assert change.max() > 60


def test_a_complete_folder_is_reused(root):
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    assert scenes.write(root, seed=3, counts=COUNTS) == root
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before


def test_another_content_is_not_touched(root, tmp_path):
    with pytest.raises(InputError, match="other content"):
        scenes.write(root, seed=5, counts=COUNTS)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="other content"):
        scenes.write(tmp_path, seed=3, counts=COUNTS)
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    draw, calls = ink.draw, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(ink, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scenes.write(tmp_path / "scenes", seed=0, counts=COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_all_faults_are_reported_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        scenes.write(tmp_path / "scenes", seed=0, counts={"train": 0}, size=32)
    assert len(caught.value.faults) == 2


OBJECT_COUNTS = {"train": 40, "val": 20, "test": 30}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.write_objects(tmp_path_factory.mktemp("data") / "objects", seed=3, counts=OBJECT_COUNTS, size=32)


def test_objects_of_the_same_seed_are_the_same_bytes_and_of_another_others(objects, tmp_path):
    again = scenes.write_objects(tmp_path / "a", seed=3, counts=OBJECT_COUNTS, size=32)
    other = scenes.write_objects(tmp_path / "b", seed=4, counts=OBJECT_COUNTS, size=32)
    assert contents(again) == contents(objects)
    assert contents(other) != contents(objects)


def test_objects_lie_in_class_folders_in_equal_numbers(objects):
    for split, count in OBJECT_COUNTS.items():
        folders = sorted((objects / split).iterdir())
        assert [folder.name for folder in folders] == list(scenes.CLASSES)
        assert {len(list(folder.glob("*.png"))) for folder in folders} == {count // 10}
    pictures = [Image.open(file) for file in objects.rglob("*.png")]
    assert {picture.size for picture in pictures} == {(32, 32)}
    assert all(np.asarray(picture).std() > 5 for picture in pictures)


def test_objects_are_of_their_class_and_no_digit_is_in_two_splits(objects):
    written = json.loads((objects / scenes.OBJECTS).read_text())["digit_index"]
    files = {str(file.relative_to(objects)) for file in objects.rglob("*.png")}
    assert {name for names in written.values() for name in names} == files
    indices = [index for names in written.values() for index in names.values()]
    assert len(set(indices)) == len(indices), "enough digits for all, so none need come twice"
    targets = load_digits().target
    assert all(Path(name).parts[1] == str(targets[i]) for names in written.values() for name, i in names.items())


def test_the_default_objects_use_no_digit_twice():
    pools = scenes._deal_digits(0, scenes.OBJECT_COUNTS)
    for split, count in scenes.OBJECT_COUNTS.items():
        dealt = scenes._deal_scenes(np.random.default_rng(0), np.ones(count, int), pools[split])
        assert len({index for [index] in dealt}) == count


def test_complete_objects_are_reused_and_others_not_touched(objects, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in objects.rglob("*")}
    assert scenes.write_objects(objects, seed=3, counts=OBJECT_COUNTS, size=32) == objects
    assert {file: file.stat().st_mtime_ns for file in objects.rglob("*")} == before
    with pytest.raises(InputError, match="other content"):
        scenes.write_objects(objects, seed=5, counts=OBJECT_COUNTS, size=32)
    with pytest.raises(InputError, match="other content"):
        scenes.write(objects, seed=3, counts=COUNTS)
    for content in ("{", "[]", "{}", '{"info": 1, "digit_index": []}'):
        (tmp_path / scenes.OBJECTS).write_text(content)
        with pytest.raises(InputError, match="other content"):
            scenes.write_objects(tmp_path, seed=3, counts=OBJECT_COUNTS, size=32)


def test_objects_with_a_missing_image_are_refused(objects, tmp_path):
    damaged = tmp_path / "objects"
    shutil.copytree(objects, damaged)
    next(damaged.glob("val/7/*.png")).unlink()
    with pytest.raises(InputError, match="hold all of these images"):
        scenes.write_objects(damaged, seed=3, counts=OBJECT_COUNTS, size=32)


def test_all_faults_of_objects_are_reported_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        scenes.write_objects(tmp_path / "objects", seed=0, counts={"exam": 3}, size=16)
    assert len(caught.value.faults) == 2
