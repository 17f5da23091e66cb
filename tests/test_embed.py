"""`python -m platform.embed` writes a row for each input or figures of labelled data, and refuses bad input."""

from collections import Counter

import mlflow
import numpy as np
import pytest
from mlflow_stores import new_store
from PIL import Image
from safetensors.torch import load_file, save_file

from platform.data.embedded import scenes
from platform.embed import main
from platform.errors import EXIT_BAD_INPUT
from platform.models.autoencoders import Encoder, save_encoder
from trainables import autoencoder, detector


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("objects") / "data"
    return scenes.write_objects(root, seed=1, counts={"train": 20, "val": 20, "test": 20}, size=64)


def refused(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == EXIT_BAD_INPUT
    return capsys.readouterr().err


def test_sentences_become_rows(tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("A detective in the fog.\n\nA recipe for a disaster.\n")
    out = tmp_path / "rows.npy"
    assert main(["sentences", str(tmp_path / "lines.txt"), "And one more.", "--out", str(out)]) == 0
    vectors = np.load(out)
    assert (vectors.shape, vectors.dtype) == ((3, 128), np.float32)
    assert "3 × 128" in capsys.readouterr().out
    assert main(["sentences", "And one more.", "--out", str(out), "--set", "layer=-1"]) == 0
    assert not np.allclose(np.load(out)[0], vectors[2], atol=1e-3), "another layer gives other features"


def test_labelled_images_become_figures_on_the_disk_and_in_mlflow(folder, tmp_path, capsys):
    uri = new_store(tmp_path / "mlflow.db")
    settings = ["--set", "backbone=mobilenet_v2", "--set", "weights=starter", "--set", "image_size=64"]
    arguments = ["classifier", "--data", str(folder), "--stage", "layer2", *settings, "--most", "15"]
    assert main([*arguments, "--storage", str(tmp_path), "--out", str(tmp_path / "out"), "--tracking-uri", uri]) == 0
    [made] = (tmp_path / "out").iterdir()
    assert {file.name for file in made.iterdir()} == {"class_after_layer2.png", "embeddings.npy"}
    assert np.load(made / "embeddings.npy").shape == (15, 32)
    assert "silhouette" in capsys.readouterr().out
    client = mlflow.MlflowClient(uri)
    [run] = client.search_runs([client.get_experiment_by_name("classifier").experiment_id])
    assert (run.data.params["stage"], run.data.params["split"]) == ("layer2", "val")
    assert -1 <= run.data.metrics["silhouette/class"] <= 1


def test_a_detector_s_embedding_ignores_the_padding(scenes_folder, tmp_path):
    settings, out = ["--set", "image_size=128", "--set", "channels=32"], tmp_path / "rows.npy"
    for name, size, grey in (("wide", (128, 48), 200), ("square", (128, 128), 200), ("black", (128, 128), 0)):
        Image.new("RGB", size, (grey, grey, grey)).save(tmp_path / f"{name}.png")
    inputs = [str(tmp_path / f"{name}.png") for name in ("wide", "square", "black")]
    assert main(["detector", *inputs, "--out", str(out), *settings]) == 0
    vectors = np.load(out)
    assert (vectors.shape, vectors.dtype) == ((3, 1280), np.float32)
    assert main(["detector", *inputs, "--out", str(out), "--stage", "stem", *settings]) == 0
    wide, square, black = np.load(out)
    assert np.linalg.norm(wide - square) < np.linalg.norm(wide - black) / 4


def test_an_image_of_several_objects_gets_its_most_frequent_class(scenes_folder, tmp_path):
    dataset = detector.read([scenes_folder], tmp_path, 0, None)
    paths, labels = detector.labelled(dataset, "val")
    boxes = {example.path: Counter(example.labels) for example in dataset.examples}
    assert len(paths) == 8
    for path, name in zip(paths, labels["class"], strict=True):
        assert boxes[path][dataset.classes.index(name)] == max(boxes[path].values())


def test_an_autoencoder_embeds_with_weights_from_a_file(tmp_path, capsys):
    file, out = tmp_path / "encoder.safetensors", tmp_path / "rows.npy"
    save_encoder(Encoder((8, 8), 8, 32, 0.0), file)
    Image.new("L", (8, 8)).save(tmp_path / "dark.png")
    weights = ["--set", f"weights={file}"]
    fitting = [*weights, "--set", "width=8", "--set", "bottleneck=32"]
    assert "width=8" in refused(capsys, "autoencoder", str(tmp_path / "dark.png"), "--out", str(out), *weights)
    assert main(["autoencoder", str(tmp_path / "dark.png"), "--out", str(out), *fitting]) == 0
    assert np.load(out).shape == (1, 32)
    digits = autoencoder.read([], tmp_path, 0, None)
    inputs, labels = autoencoder.labelled(digits, "val")
    assert set(labels["class"]) == {"even", "odd"}
    assert all((int(d) % 2 == 1) == (c == "odd") for d, c in zip(labels["digit"], labels["class"], strict=True))
    config = {"weights": str(file), "width": 8, "bottleneck": 32, "dropout": 0.0}
    vectors = autoencoder.embed(autoencoder.pretrained(config), [*inputs[:3], tmp_path / "dark.png"], "bottleneck")
    assert vectors.shape == (4, 32)
    assert "must be trained before" in refused(capsys, "autoencoder", str(tmp_path / "dark.png"), "--out", str(out))
    tensors = load_file(file)
    save_file(tensors, file, {"height": "80000", "width_of_image": "80000", "width": "8", "bottleneck": "32"})
    assert "autoencoder study wrote" in refused(capsys, "autoencoder", str(out), "--out", str(out), *fitting)


def test_bad_input_is_refused_with_all_faults(tmp_path, capsys, monkeypatch):
    assert "--out FILE.npy" in refused(capsys, "sentences", "Two words.")
    both = refused(capsys, "sentences", "Two words.", "--data", str(tmp_path))
    assert "2 faults" in both
    assert "embeddings, layer0, layer1, layer2" in refused(capsys, "sentences", "--stage", "layer9")
    monkeypatch.delattr(detector, "embed")
    assert "embed function" in refused(capsys, "detector")
    assert "pooling" in refused(capsys, "sentences", "--set", "pooling=median")
    assert "64 pixels" in refused(capsys, "classifier", "--set", "image_size=96")
    assert "max_tokens" in refused(capsys, "sentences", "A line.", "--out", "a.npy", "--set", "max_tokens=5000")
    assert "--most" in refused(capsys, "classifier", "--most", "0")
    assert "--seed must lie in" in refused(capsys, "classifier", "--seed", "-1")
    (tmp_path / "file").touch()
    assert "--out must name a folder" in refused(capsys, "classifier", "--out", str(tmp_path / "file" / "below"))
    assert "finished study" in refused(capsys, "sentences", "--model", "best", "--storage", str(tmp_path))
