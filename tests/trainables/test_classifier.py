"""The classifier task on a few images of digits and torchvision's smallest backbone, without Ray."""

import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from platform.data.embedded import scenes
from platform.data.images import load
from platform.models import encoders
from platform.training.context import Context
from platform.training.reporters import ToFolder
from search_spaces.classifier import SPACE
from trainables import classifier

TINY = ["backbone=mobilenet_v2", "weights=starter", "image_size=64", "head_width=64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("objects") / "data"
    return scenes.write_objects(root, seed=1, counts={"train": 60, "val": 20, "test": 20}, size=64)


@pytest.fixture(scope="module")
def space():
    return SPACE.of_depth(5).override(TINY)


@pytest.fixture(scope="module")
def dataset(folder, space, tmp_path_factory):
    return classifier.read([folder], tmp_path_factory.mktemp("cache"), 0, space)


@pytest.fixture(scope="module")
def data(dataset, space, tmp_path_factory):
    return classifier.prepare(space, dataset, tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def train(data, space, tmp_path):
    """Train a config into a folder without Ray."""

    def run(*settings, epochs=1, name="trial") -> ToFolder:
        folder = tmp_path / name
        context = Context("classifier", str(data), 0, epochs, space.metric, space.mode, folder=str(folder))
        narrowed = space.override(settings)
        classifier.train({**narrowed.fixed, **narrowed.start, "context": asdict(context)})
        return ToFolder(folder)

    return run


def test_the_encoder_is_frozen_by_default_bitwise(train, space):
    assert space.start["freeze_depth"] == len(encoders.load("mobilenet_v2", "starter").stages())
    model = classifier.load(train("batch_norm=updated").folder / "best")
    before, after = encoders.load("mobilenet_v2", "starter").state_dict(), model.module.encoder.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_it_learns_and_its_evaluation_is_complete(train, data):
    changes = [
        "freeze_depth=0",
        "augment=0.0",
        "batch_size=16",
        "backbone_ratio=1.0",
        "schedule=cosine",
        "head_dropout=0.0",
    ]
    reporter = train(*changes, epochs=14)
    losses = [epoch["train/loss"] for epoch in reporter.history()]
    assert losses[-1] < 0.8 * losses[0]
    evaluation = classifier.test(classifier.load(reporter.folder / "best"), data)
    assert {"test/accuracy", "test/f1", "test/loss"} <= evaluation.metrics.keys()
    assert sum("f1_class" in key for key in evaluation.metrics) == 10
    assert set(evaluation.figures) == {"confusion_matrix.png", "test_images.png"}
    assert "f1-score" in evaluation.texts["classification_report.txt"]


def test_a_prediction_is_that_of_the_prepared_image(train, dataset, data):
    model = classifier.load(train().folder / "best")
    folder = data / "64-of-73"
    images = classifier.Images(classifier.open_arrays(folder), folder, torch.device("cpu"))
    indices = images.indices("val")[:5]
    with torch.inference_mode():
        shares = model.module(images.inputs(indices, None)).softmax(1).numpy()
    loaded = [load(dataset.examples[number].path) for number in indices]
    predictions = json.loads(json.dumps(list(classifier.predict(model, loaded))))
    for prediction, share in zip(predictions, shares, strict=True):
        assert list(prediction["probabilities"].values()) == pytest.approx(share, abs=1e-4)
        assert prediction["class"] == dataset.classes[share.argmax()]
    assert classifier.draw(loaded[0], predictions[0]).size[0] >= 256


def test_weights_from_scratch_follow_the_seed(train):
    scratch = ["weights=none", "freeze_depth=5"]
    first, second = (classifier.load(train(*scratch, name=name).folder / "best").module for name in "ab")
    pairs = zip(first.encoder.parameters(), second.encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    kept = encoders.load("mobilenet_v2", "starter")
    assert not torch.equal(next(first.encoder.parameters()), next(kept.parameters()))


def test_class_weights_make_up_for_rare_classes():
    labels = np.array([0] * 8 + [1] * 2)
    assert classifier.class_weights(labels, 2, "none").tolist() == [1, 1]
    weights = classifier.class_weights(labels, 2, "balanced")
    assert weights.tolist() == pytest.approx([10 / 16, 10 / 4])
    assert float(weights[labels].mean()) == pytest.approx(1)


def test_a_trained_encoder_is_where_another_study_starts(train, data, dataset, space, tmp_path):
    model = classifier.load(train("freeze_depth=0").folder / "best")
    (tmp_path / "weights").mkdir()
    classifier.write_weights(model, data, tmp_path / "weights")
    weights = tmp_path / "weights" / "encoder.safetensors"
    assert classifier.check(space.override([f"weights={weights}"]), dataset) == []
    again = encoders.load("mobilenet_v2", str(weights)).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.module.encoder.state_dict().items())


def test_embeddings_follow_the_stages(folder, space):
    model = classifier.pretrained({**space.fixed, **space.start})
    paths = sorted((folder / "val").rglob("*.png"))[:3]
    names = classifier.stage_names(model)
    assert names == ["stem", "layer1", "layer2", "layer3", "layer4"]
    widths = [classifier.embed(model, paths, name).shape for name in names]
    assert [n for n, _ in widths] == [3] * 5
    last = classifier.embed(model, paths, "layer4")
    assert last.shape[1] == model.module.encoder.channels


def test_labels_for_pictures_are_class_names(dataset):
    paths, labels = classifier.labelled(dataset, "val")
    assert len(paths) == 20
    assert Counter(labels["class"]) == {str(digit): 2 for digit in range(10)}
    assert all(path.parent.name == name for path, name in zip(paths, labels["class"], strict=True))


def test_a_torchvision_backbone_has_no_zero_shot_reference(data, space):
    assert classifier.references(space, data) == {}


def test_what_a_space_cannot_ask_for_is_reported_together(dataset, space, tmp_path):
    wrong = space.override(["image_size=7", f"weights={tmp_path / 'none.pth'}", "head_norm=none,batch"])
    faults = [str(fault) for fault in classifier.check(wrong, dataset)]
    assert any("image_size" in line for line in faults)
    assert any("none.pth" in line for line in faults)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_pictures_of_any_kind_are_predicted(train, mode, tmp_path):
    Image.new(mode, (90, 41)).save(tmp_path / "odd.tif")
    [prediction] = classifier.predict(classifier.load(train().folder / "best"), [load(tmp_path / "odd.tif")])
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-3)
