"""The autoencoder task on scikit-learn's digits, without Ray."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from platform.errors import InputError
from platform.models.autoencoders import Autoencoder, BinaryClassifier, Encoder, load_encoder, save_encoder
from platform.models.stages import assign
from platform.training.context import Context
from platform.training.reporters import ToFolder
from search_spaces.autoencoder import SPACE
from trainables import autoencoder

TINY = ["width=8", "bottleneck=32", "pretrain_epochs=10", "label_fraction=0.1", "batch_size=128"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return autoencoder.prepare(SPACE, autoencoder.read([], cache, 0, SPACE), cache)


@pytest.fixture
def train(data, tmp_path):
    """Train a config into a folder without Ray; return the reports."""

    def run(*settings, epochs=1, name="trial") -> ToFolder:
        space = SPACE.override([*TINY, *settings])
        folder = tmp_path / name
        context = Context("autoencoder", str(data), 0, epochs, space.metric, space.mode, folder=str(folder))
        autoencoder.train({**space.fixed, **space.start, "context": asdict(context)})
        return ToFolder(folder)

    return run


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 14)])
def test_an_image_comes_out_as_large_as_it_went_in(size):
    model = Autoencoder(size, 4, 8, 0.1)
    images = torch.rand(3, 1, *size)
    assert model(images).shape == images.shape
    assert model.encoder(images).shape == (3, 8)
    assert BinaryClassifier(size, 4, 8, 0.1)({"x": images}).shape == (3,)
    for kind in (Autoencoder, BinaryClassifier):
        assert assign(kind(size, 4, 8, 0.1), kind.stages())


def test_an_encoder_is_loaded_from_its_own_file_and_refused_by_another_size(tmp_path):
    encoder = Encoder((8, 8), 4, 16, 0.0)
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    again = Encoder((8, 8), 4, 16, 0.3)
    load_encoder(again, tmp_path / "encoder.safetensors")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in encoder.state_dict().items())
    with pytest.raises(InputError, match="--set width=4 --set bottleneck=16"):
        load_encoder(Encoder((8, 8), 4, 32, 0.0), tmp_path / "encoder.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(InputError, match="autoencoder study wrote"):
        load_encoder(encoder, tmp_path / "text.safetensors")


def test_labels_of_small_fractions_lie_within_larger_ones_and_hold_every_digit():
    labels = np.random.default_rng(0).choice(10, 2000, p=[0.19] * 5 + [0.01] * 5)
    indices = np.arange(100, 1900)
    chosen = {share: autoencoder.first_labelled(labels, indices, share, 3) for share in (0.001, 0.01, 0.1, 1.0)}
    sizes = [len(some) for some in chosen.values()]
    assert sizes == [10, 18, 180, 1800]
    assert set(chosen[0.001]) < set(chosen[0.01]) < set(chosen[0.1]) < set(chosen[1.0]) == set(indices)
    assert set(labels[chosen[0.001]]) == set(range(10))
    assert not np.array_equal(chosen[0.1], autoencoder.first_labelled(labels, indices, 0.1, 4))


def test_a_frozen_encoder_stays_as_stage_one_left_it(train, data):
    frozen = train("freeze_depth=4")
    pretrained = (
        data.parent / f"{data.name}-pretrained" / autoencoder.load(frozen.folder / "best").metadata["pretrained"]
    )
    before, after = load_file(pretrained / "encoder.safetensors"), load_file(frozen.folder / "best/model.safetensors")
    assert all(torch.equal(value, after[f"encoder.{key}"]) for key, value in before.items())
    errors = [row["val/loss"] for row in json.loads((pretrained / "history.json").read_text())]
    assert min(errors) < 0.6 * errors[0]
    assert (pretrained / "reconstructions.png").exists()


def test_trials_that_pretrain_alike_share_it(train, data):
    first = autoencoder.load(train("lr_head=1e-3", name="a").folder / "best").metadata["pretrained"]
    folder = data.parent / f"{data.name}-pretrained" / first
    written = (folder / "encoder.safetensors").stat().st_mtime_ns
    second = autoencoder.load(train("lr_head=2e-3", name="b").folder / "best").metadata["pretrained"]
    other = autoencoder.load(train("dropout=0.0", name="c").folder / "best").metadata["pretrained"]
    assert first == second != other
    assert (folder / "encoder.safetensors").stat().st_mtime_ns == written


def test_a_study_can_start_from_the_encoder_of_another(train, data, tmp_path):
    model = autoencoder.load(train(epochs=2).folder / "best")
    (tmp_path / "weights").mkdir()
    autoencoder.write_weights(model, data, tmp_path / "weights")
    files = sorted(path.name for path in (tmp_path / "weights").iterdir())
    assert files == ["encoder_finetuned.safetensors", "encoder_pretrained.safetensors"]
    weights = tmp_path / "weights" / files[0]
    frozen = autoencoder.load(
        train(f"weights={weights}", "pretrain_epochs=0", "freeze_depth=4", name="b").folder / "best"
    )
    assert frozen.metadata["pretrained"] == ""
    before, after = model.module.encoder.state_dict(), frozen.module.encoder.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    dataset = autoencoder.read([], tmp_path, 0, SPACE)
    faults = autoencoder.check(SPACE.override([f"weights={weights}"]), dataset)
    assert len(faults) == 5, "one for each of six encoders of the space but the one that fits"
    assert autoencoder.check(SPACE.override([f"weights={weights}", "width=8", "bottleneck=32"]), dataset) == []


def test_it_learns_and_its_evaluation_is_complete(train, data):
    model = autoencoder.load(train("label_fraction=1.0", "augment=0.0", "batch_size=32", epochs=5).folder / "best")
    evaluation = autoencoder.test(model, data)
    assert evaluation.metrics["test/accuracy"] > 0.8
    assert {"test/accuracy", "test/precision", "test/recall", "test/f1", "test/loss"} == set(evaluation.metrics)
    assert {"confusion_matrix.png", "test_images.png", "reconstructions.png", "pretraining_curves.png"} == set(
        evaluation.figures
    )
    assert "f1-score" in evaluation.texts["classification_report.txt"]
    [majority] = autoencoder.references(SPACE, data).values()
    assert 0.45 < majority["test/accuracy"] < 0.55


def test_a_digit_is_read_on_light_and_on_dark(train, tmp_path):
    model = autoencoder.load(train("label_fraction=1.0", "augment=0.0", "batch_size=32", epochs=5).folder / "best")
    digits = autoencoder.read([], tmp_path, 0, SPACE)
    shown = []
    for number in np.flatnonzero(digits.splits == "train")[:20]:
        for pixels in (digits.images[number], 255 - digits.images[number]):
            framed = Image.fromarray(np.pad(pixels, 1, mode="constant", constant_values=pixels[0, 0]))
            shown.append(framed.convert("RGB"))
    predictions = list(autoencoder.predict(model, shown))
    dark, light = predictions[::2], predictions[1::2]
    assert [p["inverted"] for p in dark].count(False) > 15
    assert all(a["class"] == b["class"] for a, b in zip(dark, light, strict=True) if a["inverted"] != b["inverted"])
    assert json.loads(json.dumps(predictions)) == predictions
    assert autoencoder.draw(shown[0], predictions[0]).size[0] >= 256


def test_what_a_space_cannot_ask_for_is_reported_together(tmp_path):
    dataset = autoencoder.read([], tmp_path, 0, SPACE)
    space = SPACE.override(["label_fraction=1.5", "patience=0"])
    assert len(autoencoder.check(space, dataset)) == 2


def test_images_that_are_mostly_black_are_rebuilt_better_than_by_their_mean():
    images = torch.from_numpy(load_digits().images[:512] / 16).float().unsqueeze(1)
    images = F.pad(F.interpolate(images, (14, 14)), (7, 7, 7, 7))  # as sparse as MNIST
    torch.manual_seed(0)
    model = Autoencoder((28, 28), 8, 32, dropout=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), SPACE.start["lr_pretrain"])
    for _ in range(120):
        batch = images[torch.randint(0, len(images), (64,))]
        loss = F.mse_loss(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        assert F.mse_loss(model.eval()(images), images) < 0.7 * images.var(0, correction=0).mean()
