"""The detector task without Ray."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from platform.data.detection.arrays import DetectionArrays, input_size_of, open_arrays
from platform.errors import InputError
from platform.models import backbones
from platform.storage import checkpoints
from platform.training.context import Context
from platform.training.reporters import ToFolder
from search_spaces.detector import SPACE
from trainables import detector

TINY = ["image_size=64", "channels=32", "weights=none"]


@pytest.fixture(scope="module")
def prepared(scenes_folder, tmp_path_factory):
    space = SPACE.override(TINY)
    dataset = detector.read([scenes_folder], tmp_path_factory.mktemp("cache"), 0, space)
    return detector.prepare(space, dataset, tmp_path_factory.mktemp("prepared")), dataset


@pytest.fixture
def saved(prepared, tmp_path) -> Path:
    """Save a model with random weights."""
    space = SPACE.override(TINY)
    config = {**space.fixed, **space.start}
    metadata = {"task": "detector", "classes": list(prepared[1].classes), "input_size": [64, 64], "config": config}
    model = detector._build(metadata, "none")
    checkpoints.save(tmp_path, model, metadata, torch.optim.AdamW(model.parameters()), {})
    return tmp_path


def test_arrays_hold_the_data_set(prepared):
    folder, dataset = prepared
    arrays = open_arrays(folder / "64")
    assert arrays.images.shape == (40, 3, 64, 64)
    assert {name: len(indices) for name, indices in arrays.split.items()} == {"train": 24, "val": 8, "test": 8}
    for number, example in enumerate(dataset.examples):
        target = arrays.target(number)
        assert np.allclose(target["boxes"], np.array(example.boxes).reshape(-1, 4), atol=1e-3)
        assert target["labels"].tolist() == [label + 1 for label in example.labels]


def test_a_detector_that_was_saved_under_the_former_name_of_the_input_size_loads(saved):
    path = saved / checkpoints.METADATA
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "canvas": metadata.pop("input_size")}))
    assert detector.load(saved).metadata["input_size"] == [64, 64]


def test_preparing_again_reuses_the_arrays(prepared, scenes_folder):
    folder, dataset = prepared
    before = (folder / "64" / "images.npy").stat().st_mtime_ns
    assert detector.prepare(SPACE.override(TINY), dataset, folder.parent) == folder
    assert (folder / "64" / "images.npy").stat().st_mtime_ns == before


def test_every_image_fits_the_input_size():
    assert input_size_of([(480, 640)], 320) == (256, 320)
    assert input_size_of([(480, 640), (640, 480)], 320) == (320, 320)


def test_perfect_detections_score_one(prepared):
    arrays = open_arrays(prepared[0] / "64")
    targets = [arrays.target(number) for number in arrays.split["val"]]
    perfect = [{**target, "scores": torch.ones(len(target["labels"]))} for target in targets]
    assert np.nanmean(detector._precision(perfect, arrays, "val")) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[Path, DetectionArrays]:
    """Prepare data of 25 classes; of 60 training images the first class is in all and the last one in one."""
    rng = np.random.default_rng(0)
    splits = ["train"] * 60 + ["val"] * 5 + ["test"] * 5
    labels = [[1, *(k for k in range(2, 26) if number % k == 0)] for number in range(60)]
    labels += [list(range(1 + 5 * n, 6 + 5 * n)) for _ in range(2) for n in range(5)]
    corners = rng.uniform(0, 40, (sum(map(len, labels)), 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 20, corners.shape)], 1).astype(np.float32)
    index = {"classes": [f"c{k}" for k in range(1, 26)], "first_box": np.cumsum([0, *map(len, labels)]).tolist(),
             "splits": splits, "paths": [""] * len(splits)}  # fmt: skip
    folder = tmp_path_factory.mktemp("many") / "64"
    folder.mkdir()
    np.save(folder / "images.npy", rng.integers(0, 256, (len(splits), 3, 64, 64), np.uint8))
    np.save(folder / "boxes.npy", boxes)
    np.save(folder / "labels.npy", np.array([label for each in labels for label in each]))
    (folder / "index.json").write_text(json.dumps(index))
    return folder.parent, open_arrays(folder)


def train_on(data: Path, folder: Path, settings: list[str], **more) -> list[dict]:
    space = SPACE.override([*TINY[:2], *settings], max_epochs=2)
    context = Context("detector", str(data), 0, 2, space.metric, space.mode, folder=str(folder), **more)
    detector.train({**space.fixed, **space.start, "context": asdict(context)})
    return ToFolder(folder).history()


def test_many_classes_are_validated_in_groups_and_tested_one_by_one(many, tmp_path):
    data, arrays = many
    assert arrays.training_images == [sum(number % k == 0 for number in range(60)) for k in range(1, 26)]
    history = train_on(data, tmp_path, ["freeze_depth=5", "unfreeze=never"])
    assert {"val/map_rare", "val/map_common"} <= history[-1].keys()
    assert not any("_class/" in key for key in history[-1])
    evaluation = detector.test(detector.load(tmp_path / "best"), data)
    assert sum("map_class/" in key for key in evaluation.metrics) == 25
    assert {"test/map_rare", "test/map_common"} <= evaluation.metrics.keys()
    assert len(evaluation.texts["classes.csv"].splitlines()) == 26
    assert len(evaluation.figures["precision_recall.png"].axes[0].lines) == 1 + 2 + 6, "means, best and weakest"


def test_a_long_tail_is_reported_where_nothing_is_done_about_it(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["image,label,x1,y1,x2,y2,split"]
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / f"{number}.png")
        split = "train" if number < 36 else "val" if number < 38 else "test"
        rows += [
            f"{number}.png,{label},1,1,{20 + number % 9},30,{split}" for label in ("a", *"bcd" * (number % 35 == 0))
        ]
    (tmp_path / "annotations.csv").write_text("\n".join(rows))
    [warning] = detector.read([tmp_path], tmp_path, 0, SPACE).findings()[-1:]
    assert warning.startswith(
        "half of the 4 classes are in at most 2 training images, the most frequent one in 36: --set"
    )
    searched = detector.read([tmp_path], tmp_path, 0, SPACE.override(["oversample=0,0.1"])).findings()
    assert not any("oversample" in line for line in searched)


def test_oversampling_goes_on_as_if_it_had_not_been_interrupted(many, tmp_path):
    data, settings = many[0], ["freeze_depth=3", "unfreeze=never", "oversample=0.5", "batch_size=16"]
    whole = train_on(data, tmp_path, settings)
    trained = load_file(tmp_path / "epoch-2" / "model.safetensors")
    (tmp_path / "history.json").write_text(json.dumps(whole[:1]))  # it was killed before it wrote the second epoch
    again = train_on(data, tmp_path, settings)
    assert again[1]["train/loss"] == whole[1]["train/loss"]
    resumed = load_file(tmp_path / "epoch-2" / "model.safetensors")
    assert all(torch.equal(value, resumed[key]) for key, value in trained.items())
    plain = train_on(data, tmp_path / "plain", [*settings, "oversample=0"])
    assert plain[0]["train/loss"] != whole[0]["train/loss"]


def test_augmented_boxes_follow_their_objects(tmp_path):
    image = np.zeros((1, 3, 64, 64), np.uint8)
    image[:, :, 20:40, 24:50] = 255
    index = {"first_box": [0, 1], "classes": ["one"], "splits": ["train"], "paths": [""]}
    arrays = DetectionArrays(index, image, np.array([[24, 20, 50, 40]], np.float32), np.array([1]))
    examples = detector.Scenes(arrays, tmp_path, torch.device("cpu"), views=20, strength=1.0, flip=True)
    indices, boxes = np.array([0]), []
    for view in range(20):
        moved = examples.inputs(indices, view)["images"][0]
        [target] = examples.targets(indices, view)  # which does not need the image, and must draw the same
        ys, xs = torch.nonzero(moved[0] > 0.25, as_tuple=True)
        box = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]).float()
        assert torch.allclose(target["boxes"].float(), box, atol=2.5)
        boxes.append(tuple(target["boxes"][0].tolist()))
        assert torch.equal(examples.inputs(indices, view)["images"][0], moved)
    assert len(set(boxes)) == 20


def test_a_saved_model_predicts_in_the_pixels_of_the_image(saved, monkeypatch):
    monkeypatch.setattr(detector, "SHOWN_SCORE", 0.0)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 300, 3), np.uint8))
    [prediction] = detector.predict(detector.load(saved), [image])
    json.dumps(prediction)
    boxes = np.array([d["box"] for d in prediction["detections"]])
    assert len(boxes)
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= 300).all()
    assert (boxes[:, [1, 3]] <= 100).all()
    assert detector.draw(image, prediction).size == (300, 100)


def test_frozen_stages_end_bitwise_as_they_came(prepared, tmp_path):
    space = SPACE.override([*TINY[:2], "freeze_depth=3", "unfreeze=never", "batch_norm=updated"], max_epochs=2)
    context = Context("detector", str(prepared[0]), 0, 2, space.metric, space.mode, folder=str(tmp_path))
    detector.train({**space.fixed, **space.start, "context": asdict(context)})
    trained = load_file(tmp_path / "epoch-2" / "model.safetensors")
    for number, (stage, before) in enumerate(backbones.load("mobilenet_v2", "starter").named_children()):
        same = {
            name: torch.equal(trained[f"net.backbone.body.{stage}.{name}"], t)
            for name, t in before.state_dict().items()
        }
        assert all(same.values()) == (number < 3), stage
        if number >= 3:
            assert not any(equal for name, equal in same.items() if "running" in name), "BatchNorm was to be updated"


def test_an_object_is_shown_once_as_its_likeliest_class():
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [30, 30, 40, 40]], dtype=torch.float)
    found = {"boxes": boxes, "scores": torch.tensor([0.4, 0.6, 0.5, 0.2]), "labels": torch.tensor([1, 2, 3, 4])}
    assert detector._visible(found)["labels"].tolist() == [2, 3]


def test_what_a_space_cannot_ask_for_is_reported_together(prepared):
    space = SPACE.override(
        ["architecture=yolo", "image_size=3", "channels=65", "backbone=vgg", "views=0", "oversample=2"]
    )
    assert len(detector.check(space, prepared[1])) == 6
    [fault] = detector.check(SPACE.override(["weights=/no/such.pth"]), prepared[1])
    assert "DEFAULT" in fault.remedy


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = backbones.load("resnet18", "none").state_dict()
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match="must fit torchvision's mobilenet_v2"):
        backbones.load("mobilenet_v2", str(tmp_path / "other.pth"))
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    with pytest.raises(InputError, match="without pickled code"):
        backbones.load("mobilenet_v2", str(tmp_path / "broken.pth"))


@pytest.mark.parametrize("name", backbones.NAMES)
def test_an_exported_backbone_loads_again(name, tmp_path):
    body = backbones.load(name, "none")
    save_file(body.torchvision_state(), tmp_path / "backbone.safetensors")
    again = backbones.load(name, str(tmp_path / "backbone.safetensors")).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in body.state_dict().items())


def test_a_local_file_of_torchvision_weights_loads(tmp_path):
    import torchvision

    torch.manual_seed(5)
    whole = torchvision.models.mobilenet_v2()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    body = backbones.load("mobilenet_v2", str(tmp_path / "whole.pth")).eval()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(body(image), whole.features.eval()(image))
