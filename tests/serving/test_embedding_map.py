"""Map of a model's training examples: its content, positions and neighbours, and maps that are refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.data.images import ImageFault
from platform.errors import InputError
from platform.serving import embedding_map

RNG = np.random.default_rng(0)
VECTORS = np.concatenate([RNG.normal(size=(40, 6)) + 5, RNG.normal(size=(40, 6)) - 5]).astype(np.float32)
CLASSES = ["a"] * 40 + ["b"] * 39 + [None]


def task(inputs: list, vectors: np.ndarray = VECTORS, classes: list = CLASSES) -> SimpleNamespace:
    """Return a task that embeds its inputs as these vectors; its test split consists of the first 20 inputs."""
    row = {str(source): vector for source, vector in zip(inputs, vectors, strict=True)}
    return SimpleNamespace(
        labelled=lambda dataset, split: (inputs, {"kind": classes}) if split == "train" else (inputs[:20], {}),
        stage_names=lambda model: ["stem", "top"],
        embed=lambda model, some, stage: np.stack([row[str(source)] for source in some]) if stage == "top" else None,
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "best"


def test_classes_are_apart_and_the_nearest_examples_are_found(folder):
    texts = [f"sentence {n}" for n in range(80)]
    assert embedding_map.write(task(texts), None, None, folder) == []
    loaded = embedding_map.read(folder)
    assert (loaded.stage, loaded.total, loaded.is_text, loaded.pictures, len(loaded.test_examples)) == (
        "top",
        80,
        True,
        None,
        6,
    )
    assert 0.5 < loaded.share <= 1
    number = loaded.sources.index("sentence 7")
    position = loaded.position(VECTORS[7])
    assert np.allclose(position, loaded.positions[number], atol=1e-4)
    is_a = np.array([name == "a" for name in loaded.labels["kind"]])
    centres = [loaded.positions[mask].mean(0) for mask in (is_a, ~is_a)]
    assert np.linalg.norm(position - centres[0]) < np.linalg.norm(position - centres[1])
    near, cosines = loaded.nearest(VECTORS[7], 10)
    assert (near[0], len(near), bool(np.all(np.diff(cosines) <= 0))) == (number, 10, True)
    assert cosines[0] == pytest.approx(1)
    assert {loaded.labels["kind"][n] for n in near} == {"a"}
    assert loaded.share_farther_apart(cosines[0] + 1e-3) == 1.0
    assert loaded.share_farther_apart(-1.0) == 0.0


def test_images_without_files_are_stored_with_the_map(folder):
    pictures = list(RNG.integers(0, 255, (80, 8, 8), np.uint8))
    assert embedding_map.write(task(pictures), None, None, folder) == []
    loaded = embedding_map.read(folder)
    assert loaded.pictures.shape == (80, 8, 8)
    assert loaded.test_examples[0].shape == (8, 8)
    near, _ = loaded.nearest(VECTORS[3], 1)
    assert np.array_equal(loaded.pictures[near[0]], pictures[3])


def test_a_large_data_set_is_sampled_and_its_size_is_stored(folder, monkeypatch):
    monkeypatch.setattr(embedding_map, "MOST", 30)
    embedding_map.write(task([Path(f"/{n}.png") for n in range(80)]), None, None, folder)
    loaded = embedding_map.read(folder)
    assert (len(loaded.vectors), loaded.total, len(loaded.sources)) == (30, 80, 30)
    monkeypatch.setattr(embedding_map, "MOST", 80)
    monkeypatch.setattr(embedding_map, "SECONDS", 0.0)
    embedding_map.write(task([Path(f"/{n}.png") for n in range(80)]), None, None, folder)
    assert len(embedding_map.read(folder).vectors) == 64, "one batch"


def test_a_missing_map_a_damaged_map_and_another_model_s_map_are_refused(folder):
    with pytest.raises(InputError, match="found no "):
        embedding_map.read(folder)
    embedding_map.write(task([f"text {n}" for n in range(80)]), None, None, folder)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(InputError, match="another model"):
        embedding_map.read(folder)
    (folder.parent / "embedding_map" / "map.json").write_text("{}")
    with pytest.raises(InputError, match=r"map\.json: differs from what was written"):
        embedding_map.read(folder)
    with pytest.raises(InputError, match="a study of that name"):
        embedding_map.remake(SimpleNamespace(embed=None), None, folder)


def test_a_map_that_cannot_be_made_is_no_error(folder):
    def missing(*_):
        raise ImageFault("no such file")

    problems = embedding_map.write(SimpleNamespace(**{**vars(task(["x"] * 80)), "embed": missing}), None, None, folder)
    assert problems == ["No embedding map: no such file"]
    assert embedding_map.write(SimpleNamespace(), None, None, folder) == [
        "No embedding map: the task has no embed function."
    ]
    assert not (folder.parent / "embedding_map").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


@given(st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_few_examples_and_few_dimensions_have_a_map_too(tmp_path_factory, count, dimensions, equal):
    folder = tmp_path_factory.mktemp("few") / "best"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    vectors = np.zeros((count, dimensions)) if equal else RNG.normal(size=(count, dimensions))
    module = task([f"text {n}" for n in range(count)], vectors, [None] * count)
    assert embedding_map.write(module, None, None, folder) == []
    loaded = embedding_map.read(folder)
    assert loaded.positions.shape == (count, 2)
    assert np.isfinite(loaded.positions).all()
    assert np.isfinite(loaded.position(vectors[0].astype(np.float32))).all()
    assert len(loaded.nearest(vectors[0], 10)[0]) == count
    assert 0 <= loaded.share <= 1
    assert (loaded.share_farther_apart(0.5) is None) == (count == 1)
