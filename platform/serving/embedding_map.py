"""Where a trained model's training examples lie among each other, kept so that a new input can be shown among them.

    map.safetensors     vectors (N, D) of a stage's outputs, their places (N, 2) on a plane (PCA), and the plane
    map.json            what each example is, its classes, a few examples of the test split, and of which model it is
    manifest.json       a hash of both

It lies beside the model's folder, not in it: it holds texts of the training data, or where its pictures are, and a
model may be given away without these.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.numpy import load_file, save_file

from platform.data.images import ImageFault
from platform.errors import Fault, InputError
from platform.storage import atomic, hashing, manifest
from platform.storage.checkpoints import MODEL
from platform.task import Embedder, Task

FOLDER, ARRAYS, INDEX = "embedding_map", "map.safetensors", "map.json"
MOST = 2000  # training examples
SECONDS = 60.0  # after which no more are embedded
TRIED = 6  # examples of the test split, to try the model with
FORMAT = 1
TEXT = 500  # characters that are kept of a text

_NO_HOOK = "No embedding map: the task has no embed function."
_AT_A_TIME = 64
_LEAST = 3  # examples that span a plane


@dataclass(frozen=True)
class EmbeddingMap:
    """A map that was kept.

    Attributes:
        vectors: (N, D) float32, what the stage made of the training examples.
        places: (N, 2) float32, where they lie on the plane.
        plane: "mean" and "scale", (D,), and "axes", (2, D): from a vector to its place.
        pictures: (N, H, W) uint8 where the examples are no files; else None.
        sources: Of each example its path or its text, "" where it is neither.
        texts: Whether these are texts.
        labels: By kind of label each example's class, None where it has none.
        tried: A few inputs of the test split: paths, texts or grey pictures (H, W).
        stage: After which stage.
        share: How much of the variance the plane holds.
        total: How many training examples there are in all.
    """

    vectors: np.ndarray
    places: np.ndarray
    plane: Mapping[str, np.ndarray]
    pictures: np.ndarray | None
    sources: Sequence[str]
    texts: bool
    labels: Mapping[str, Sequence[str | None]]
    tried: Sequence[Any]
    stage: str
    share: float
    total: int

    def place(self, vector: np.ndarray) -> np.ndarray:
        """Where a vector (D,) lies on the plane, (2,)."""
        return _places(vector, self.plane)

    def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the examples that are nearest to a vector (D,), and how near: their cosine with it."""
        cosines = self._directions @ _directions(vector[None])[0]
        numbers = np.argsort(-cosines, kind="stable")[:count]
        return numbers, cosines[numbers]

    def lonelier(self, cosine: float) -> float | None:
        """The share of training examples whose nearest neighbour is farther away than this; None where there is one."""
        return float(np.mean(self._nearest < cosine)) if len(self.vectors) > 1 else None

    @cached_property
    def _directions(self) -> np.ndarray:
        return _directions(self.vectors)

    @cached_property
    def _nearest(self) -> np.ndarray:
        """(N,) each example's cosine with the one nearest to it."""
        cosines = self._directions @ self._directions.T
        np.fill_diagonal(cosines, -np.inf)
        return cosines.max(1)


def write(module: Task, model: Any, dataset: Any, folder: Path) -> list[str]:
    """Embeds up to MOST training examples, as many as SECONDS allow, and keeps the map beside a model's folder.

    Args:
        module: The model's task.
        model: As the task's `load` gives it.
        dataset: As the task's `read` gives it.
        folder: The model's.

    Returns:
        Why there is no map, a line each; a study is not lost for want of one.
    """
    if not hasattr(module, "embed"):
        return [_NO_HOOK]
    try:
        tensors, index = _made(cast(Embedder, module), model, dataset)
        index["model"] = hashing.file_digest(folder / MODEL)
        _keep(tensors, index, folder.parent)
    except (OSError, ImageFault) as error:  # an image that is gone since the study began, a full disk
        return [f"No embedding map: {error}"]
    return []


def read(folder: Path) -> EmbeddingMap:
    """The map beside a model's folder.

    Raises:
        InputError: There is none, it is damaged, or it is another model's.
    """
    place = folder.parent / FOLDER
    rule, remedy = "a model must have its embedding map beside it", "It is written where a study ends, with its data."
    try:
        manifest.verify(place)
        index, tensors = json.loads((place / INDEX).read_text()), load_file(place / ARRAYS)
        if (index.get("format"), index.get("model")) != (FORMAT, hashing.file_digest(folder / MODEL)):
            raise InputError(Fault(rule, f"{place} of another model", remedy))
    except (manifest.DamagedError, OSError) as error:
        found = str(error) if place.exists() else f"no {place}"
        raise InputError(Fault(rule, found, remedy)) from error
    return EmbeddingMap(
        vectors=tensors["vectors"],
        places=tensors["places"],
        plane={key: tensors[key] for key in ("mean", "scale", "axes")},
        pictures=tensors.get("pictures"),
        sources=index["sources"],
        labels=index["labels"],
        tried=list(tensors["tried"]) if "tried" in tensors else index["tried"],
        **{key: index[key] for key in ("texts", "stage", "share", "total")},
    )


def remake(module: Task, model: Any, folder: Path) -> list[str]:
    """Writes the map of a study's model again, from the data that the study was asked for.

    Returns:
        Why there is none, a line each.

    Raises:
        InputError: The study or its data is no longer there, or no longer what it was.
    """
    from platform.storage.filesystem import local_copy
    from platform.study.request import read_request
    from platform.task import space_of

    if not hasattr(module, "embed"):
        return [_NO_HOOK]
    request = read_request(folder.parent)
    space, _ = space_of(module, request.task, request.settings)
    sources = [local_copy(source, request.cache) for source in request.data]
    dataset = module.read(sources, request.cache, request.seed, space)
    if dataset.fingerprint != request.fingerprint:
        rule, remedy = "a map needs the data that the model learned from", "Restore it."
        raise InputError(Fault(rule, "other content", remedy))
    return write(module, model, dataset, folder)


def _made(module: Embedder, model: Any, dataset: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    inputs, labels = module.labelled(dataset, "train")
    stage = module.stage_names(model)[-1]
    order = np.random.default_rng(0).permutation(len(inputs))[:MOST]
    began, parts = time.monotonic(), list[np.ndarray]()
    while len(order) > (done := sum(map(len, parts))) and (not parts or time.monotonic() - began < SECONDS):
        parts.append(module.embed(model, [inputs[n] for n in order[done : done + _AT_A_TIME]], stage))
    vectors = np.concatenate(parts).astype(np.float32)
    chosen = order[: len(vectors)]
    plane, share = _plane(vectors)
    tried, _ = module.labelled(dataset, "test")
    tried = [tried[number] for number in np.linspace(0, len(tried) - 1, min(TRIED, len(tried))).astype(int)]
    shown = [inputs[number] for number in chosen]
    tensors = {"vectors": vectors, "places": _places(vectors, plane), **plane}
    for name, several in (("pictures", shown), ("tried", tried)):
        if several and isinstance(several[0], np.ndarray):
            tensors[name] = np.stack(several)
    index = {
        "format": FORMAT,
        "stage": stage,
        "share": share,
        "total": len(inputs),
        "labels": {kind: [classes[number] for number in chosen] for kind, classes in labels.items()},
        "sources": [_told(source) for source in shown],
        "texts": isinstance(shown[0], str),
        "tried": [_told(source) for source in tried],
    }
    return tensors, index


def _plane(vectors: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """Each dimension scaled to unit variance, then PCA's first two axes; and their share of the variance."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(vectors.astype(np.float64))
    axes, share = np.zeros((2, vectors.shape[1])), 1.0
    if len(vectors) >= _LEAST and vectors.shape[1] > 1 and np.any(scaler.var_):
        pca = PCA(2, random_state=0).fit(scaler.transform(vectors))
        axes, share = pca.components_, min(1.0, float(pca.explained_variance_ratio_.sum()))  # rounding
    else:
        np.fill_diagonal(axes, 1.0)  # nothing to choose from: the first dimensions as they are
    plane = {"mean": scaler.mean_, "scale": scaler.scale_, "axes": axes}
    return {key: value.astype(np.float32) for key, value in plane.items()}, share


def _places(vectors: np.ndarray, plane: Mapping[str, np.ndarray]) -> np.ndarray:
    return (vectors - plane["mean"]) / plane["scale"] @ plane["axes"].T


def _directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _told(source: Any) -> str:
    if isinstance(source, Path):
        return str(source.absolute())
    return source[:TEXT] if isinstance(source, str) else ""


def _keep(tensors: Mapping[str, np.ndarray], index: Mapping[str, Any], folder: Path) -> None:
    """Writes both files whole or not at all, in place of what was there."""
    with atomic.new_folder(folder / FOLDER, replace=True) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial / ARRAYS)
        (partial / INDEX).write_text(json.dumps(index))
        manifest.seal(partial)
