"""The embed command: a row for each input, pictures of labelled data, and what cannot be embedded."""

import mlflow
import numpy as np
import pytest

from platform.data import scenes
from platform.embed import EXIT_BAD_INPUT, main


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


def test_labelled_images_become_pictures_on_the_disk_and_in_mlflow(folder, tmp_path, capsys):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
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


def test_what_cannot_be_embedded_is_told(tmp_path, capsys):
    assert "--out FILE.npy" in refused(capsys, "sentences", "Two words.")
    both = refused(capsys, "sentences", "Two words.", "--data", str(tmp_path))
    assert "2 faults" in both
    assert "embeddings, layer0, layer1, layer2" in refused(capsys, "sentences", "--stage", "layer9")
    assert "embed function" in refused(capsys, "detector")
    assert "pooling" in refused(capsys, "sentences", "--set", "pooling=median")
    assert "64 pixels" in refused(capsys, "classifier", "--set", "image_size=96")
    assert "max_tokens" in refused(capsys, "sentences", "A line.", "--out", "a.npy", "--set", "max_tokens=5000")
    assert "--most" in refused(capsys, "classifier", "--most", "0")
    assert "finished study" in refused(capsys, "sentences", "--model", "best", "--storage", str(tmp_path))
