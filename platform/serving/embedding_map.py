"""Map of a trained model's training examples, in which a new input can be shown among them.

    map.safetensors     vectors (N, D) of a stage's outputs, their positions (N, 2) on a plane (PCA), and the plane
    map.json            source and classes of each example, a few examples of the test split, and the model's digest
    manifest.json       a hash of both

The map lies beside the model's folder, not in it: it contains texts of the training data or the paths of its images,
and a model may be passed on without these.
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
MOST = 2000  # training examples in a map
SECONDS = 60.0  # time after which no more examples are embedded
TEST_EXAMPLES = 6  # examples of the test split that the demo offers as inputs
FORMAT = 1
TEXT = 500  # characters of a text that are stored

_NO_EMBED = "No embedding map: the task has no embed function."
_BATCH = 64
_LEAST = 3  # examples that are needed for a plane


@dataclass(frozen=True)
class EmbeddingMap:
    """Map as it was read.

    Attributes:
        vectors: Outputs of the stage for the training examples, (N, D) float32.
        positions: Positions of the examples on the plane, (N, 2) float32.
        plane: "mean" (D,), "scale" (D,) and "axes" (2, D), which give the position of a vector.
        pictures: Images of examples that are not files, (N, H, W) uint8; else None.
        sources: Path or text of each example; "" if it has neither.
        is_text: True if the sources are texts.
        labels: Class of each example by kind of label, None for a missing label.
        test_examples: A few inputs of the test split: paths, texts or grey images (H, W).
        stage: Name of the stage.
        share: Share of the variance along the plane's axes.
        total: Number of all training examples.
    """

    vectors: np.ndarray
    positions: np.ndarray
    plane: Mapping[str, np.ndarray]
    pictures: np.ndarray | None
    sources: Sequence[str]
    is_text: bool
    labels: Mapping[str, Sequence[str | None]]
    test_examples: Sequence[Any]
    stage: str
    share: float
    total: int

    def position(self, vector: np.ndarray) -> np.ndarray:
        """Return the position (2,) of a vector (D,) on the plane."""
        return _positions(vector, self.plane)

    def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the examples nearest to a vector (D,), and their cosines with it, nearest first."""
        cosines = self._unit_vectors @ _normalized(vector[None])[0]
        indices = np.argsort(-cosines, kind="stable")[:count]
        return indices, cosines[indices]

    def share_farther_apart(self, cosine: float) -> float | None:
        """Return the share of examples whose nearest neighbour has a lower cosine; None for a single example."""
        return float(np.mean(self._nearest_cosines < cosine)) if len(self.vectors) > 1 else None

    @cached_property
    def _unit_vectors(self) -> np.ndarray:
        return _normalized(self.vectors)

    @cached_property
    def _nearest_cosines(self) -> np.ndarray:
        """Cosine of each example with its nearest neighbour, (N,)."""
        cosines = self._unit_vectors @ self._unit_vectors.T
        np.fill_diagonal(cosines, -np.inf)
        return cosines.max(1)


def write(module: Task, model: Any, dataset: Any, folder: Path) -> list[str]:
    """Embed up to MOST training examples, as many as SECONDS allow, and write the map beside a model's folder.

    Return lines that say why there is no map; a study does not fail for lack of one.
    """
    if not hasattr(module, "embed"):
        return [_NO_EMBED]
    try:
        tensors, index = _embed_examples(cast(Embedder, module), model, dataset)
        index["model"] = hashing.file_digest(folder / MODEL)
        _write_files(tensors, index, folder.parent)
    except (OSError, ImageFault) as error:  # an image that was deleted during the study, a full disk, …
        return [f"No embedding map: {error}"]
    return []


def read(folder: Path) -> EmbeddingMap:
    """Read the map beside a model's folder.

    Raises:
        InputError: There is no map, it is damaged, or it belongs to another model.
    """
    map_folder = folder.parent / FOLDER
    rule, remedy = "a model must have its embedding map beside it", "A study writes it at its end, where its data is."
    try:
        manifest.verify(map_folder)
        index, tensors = json.loads((map_folder / INDEX).read_text()), load_file(map_folder / ARRAYS)
        if (index.get("format"), index.get("model")) != (FORMAT, hashing.file_digest(folder / MODEL)):
            raise InputError(Fault(rule, f"{map_folder} of another model", remedy))
    except (manifest.DamagedError, OSError) as error:
        found = str(error) if map_folder.exists() else f"no {map_folder}"
        raise InputError(Fault(rule, found, remedy)) from error
    return EmbeddingMap(
        vectors=tensors["vectors"],
        positions=tensors["places"],
        plane={key: tensors[key] for key in ("mean", "scale", "axes")},
        pictures=tensors.get("pictures"),
        sources=index["sources"],
        is_text=index["texts"],
        labels=index["labels"],
        test_examples=list(tensors["tried"]) if "tried" in tensors else index["tried"],
        stage=index["stage"],
        share=index["share"],
        total=index["total"],
    )


def remake(module: Task, model: Any, folder: Path) -> list[str]:
    """Write the map of a study's model again, from the data of the study's request.

    Return lines that say why there is no map.

    Raises:
        InputError: The study or its data is missing, or the data has changed.
    """
    from platform.storage.filesystem import local_copy
    from platform.study.request import read_request
    from platform.task import space_of

    if not hasattr(module, "embed"):
        return [_NO_EMBED]
    request = read_request(folder.parent)
    space, _ = space_of(module, request.task, request.settings)
    sources = [local_copy(source, request.cache) for source in request.data]
    dataset = module.read(sources, request.cache, request.seed, space)
    if dataset.fingerprint != request.fingerprint:
        rule, remedy = "a map needs the data that the model was trained on", "Restore the data."
        raise InputError(Fault(rule, "changed data", remedy))
    return write(module, model, dataset, folder)


def _embed_examples(module: Embedder, model: Any, dataset: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of the map and its index, without the model's digest."""
    inputs, labels = module.labelled(dataset, "train")
    stage = module.stage_names(model)[-1]
    order = np.random.default_rng(0).permutation(len(inputs))[:MOST]
    started, parts = time.monotonic(), list[np.ndarray]()
    while len(order) > (done := sum(map(len, parts))) and (not parts or time.monotonic() - started < SECONDS):
        parts.append(module.embed(model, [inputs[index] for index in order[done : done + _BATCH]], stage))
    vectors = np.concatenate(parts).astype(np.float32)
    chosen = order[: len(vectors)]
    plane, share = _plane(vectors)
    test, _ = module.labelled(dataset, "test")
    test_examples = [test[i] for i in np.linspace(0, len(test) - 1, min(TEST_EXAMPLES, len(test))).astype(int)]
    examples = [inputs[index] for index in chosen]
    # The names below are those of the file format; the attributes of EmbeddingMap have today's names.
    tensors = {"vectors": vectors, "places": _positions(vectors, plane), **plane}
    for name, sources in (("pictures", examples), ("tried", test_examples)):
        if sources and isinstance(sources[0], np.ndarray):
            tensors[name] = np.stack(sources)
    index = {
        "format": FORMAT,
        "stage": stage,
        "share": share,
        "total": len(inputs),
        "labels": {kind: [classes[i] for i in chosen] for kind, classes in labels.items()},
        "sources": [_source_text(source) for source in examples],
        "texts": isinstance(examples[0], str),
        "tried": [_source_text(source) for source in test_examples],
    }
    return tensors, index


def _plane(vectors: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """Return the first two axes of a PCA after scaling to unit variance, and their share of the variance."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(vectors.astype(np.float64))
    axes, share = np.zeros((2, vectors.shape[1])), 1.0
    if len(vectors) >= _LEAST and vectors.shape[1] > 1 and np.any(scaler.var_):
        pca = PCA(2, random_state=0).fit(scaler.transform(vectors))
        axes, share = pca.components_, min(1.0, float(pca.explained_variance_ratio_.sum()))  # rounding
    else:
        np.fill_diagonal(axes, 1.0)  # too little for a PCA: the first two dimensions are the axes
    plane = {"mean": scaler.mean_, "scale": scaler.scale_, "axes": axes}
    return {key: value.astype(np.float32) for key, value in plane.items()}, share


def _positions(vectors: np.ndarray, plane: Mapping[str, np.ndarray]) -> np.ndarray:
    return (vectors - plane["mean"]) / plane["scale"] @ plane["axes"].T


def _normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _source_text(source: Any) -> str:
    if isinstance(source, Path):
        return str(source.absolute())
    return source[:TEXT] if isinstance(source, str) else ""


def _write_files(tensors: Mapping[str, np.ndarray], index: Mapping[str, Any], folder: Path) -> None:
    """Write both files atomically in place of an earlier map."""
    with atomic.new_folder(folder / FOLDER, replace=True) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial / ARRAYS)
        (partial / INDEX).write_text(json.dumps(index))
        manifest.seal(partial)
