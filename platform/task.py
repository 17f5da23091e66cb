"""Interface of a task: a file in trainables/ with these functions, and one in search_spaces/ with its SPACE.

There is no registry: the file's name is the task's name.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from platform.errors import Fault, InputError

PER_CLASS = "_class/"  # part of the name of a metric of one class

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor, nn

    from platform.space import Space


class Dataset(Protocol):
    """Data set of a task: its name, its fingerprint and its description."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def findings(self) -> list[str]:
        """Return a line for everything that was repaired, left out or is suspicious."""

    def summary(self) -> dict[str, Any]:
        """Return counts, repairs and warnings as JSON for the records."""

    def lines(self) -> Mapping[str, str]:
        """Return the same as lines for people, by title."""


@dataclass(frozen=True)
class Graph:
    """Part of a model that is exported as ONNX, from tensors to tensors.

    Attributes:
        module: Module that holds the weights.
        forward: Function of one tensor for each input that returns one tensor for each output.
        inputs: Variable dimensions of each input, e.g. {"images": {0: "batch"}}; other dimensions are fixed.
        outputs: Variable dimensions of each output.
        tensors: Function that makes the tensors, by name, of inputs as `predict` takes them.
        about: All else that is needed to make the inputs and to read the outputs, as JSON.
        beside: Functions that write a folder beside the file, e.g. with the tokenizer, by the folder's name.
        traced: True to trace the function, if its control flow does not suit torch.export.
    """

    module: "nn.Module"
    forward: "Callable[..., tuple[Tensor, ...]]"
    inputs: Mapping[str, Mapping[int, str]]
    outputs: Mapping[str, Mapping[int, str]]
    tensors: "Callable[[Sequence[Any]], dict[str, Tensor]]"
    about: Mapping[str, Any]
    beside: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    traced: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Result of a model on the test split.

    Attributes:
        metrics: Values by name, e.g. "test/map".
        figures: Figures and images by file name, e.g. "precision_recall.png".
        texts: Reports by file name, e.g. "classification_report.txt".
    """

    metrics: Mapping[str, float]
    figures: "Mapping[str, Figure | Image]" = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class Task(Protocol):
    """Functions of a file in trainables/.

    Attributes:
        INPUT: Kind of an input of `predict`: "image" for a decoded image, "text" for a sentence.
        REQUIREMENTS: Packages that `load` and `predict` need besides those that every model needs.
    """

    INPUT: str
    REQUIREMENTS: Sequence[str]

    def depth(self, space: "Space") -> int:
        """Return the number of the backbone's stages, of several backbones the least. May raise InputError."""

    def read(self, sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> Dataset:
        """Read and check the data; without sources the embedded data. Raises InputError with all faults."""

    def check(self, space: "Space", dataset: Any) -> list[Fault]:
        """Return all faults of a space, e.g. unknown architectures or weights that cannot be loaded.

        The data may be None for an `Embedder`.
        """

    def prepare(self, space: "Space", dataset: Dataset, cache: Path) -> Path:
        """Decode the data once for all trials into a folder and return it; an existing folder is reused."""

    def train(self, config: dict[str, Any]) -> None:
        """Train a config: the Ray trainable function, which builds the model and calls `fit`."""

    def load(self, folder: Path) -> Any:
        """Load a saved model, ready to predict."""

    def test(self, model: Any, data: Path) -> Evaluation:
        """Evaluate a loaded model on the test split of prepared data."""

    def references(self, space: "Space", data: Path) -> Mapping[str, Mapping[str, float]]:
        """Return test metrics of baselines that need no search, by the baseline's name."""

    def write_weights(self, model: Any, data: Path, folder: Path) -> None:
        """Write those parts of a model into a folder that later studies can use as weights."""

    def predict(self, model: Any, inputs: "Sequence[Image] | Sequence[str]") -> Iterator[dict[str, Any]]:
        """Yield a prediction as JSON for each input, in order.

        Images are RGB, as platform.data.images decodes them. Values are plain values, objects of them, or one list of
        objects, e.g. boxes; see platform.serving.prediction_rows. A "note" says which part of an input the model did
        not get, e.g. the end of a long text; "" if it got all of it.
        """

    def answer(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return an example of a prediction, with its names and types, for a model with this metadata."""

    def draw(self, image: "Image", prediction: Mapping[str, Any]) -> "Image":
        """Draw a prediction on its image; only called if the input is an image."""


class Exporter(Task, Protocol):
    """Task whose models can be exported as ONNX."""

    def onnx(self, model: Any) -> Graph:
        """Return the part of a loaded model that is exported."""


class Embedder(Task, Protocol):
    """Task whose encoder gives embeddings, for platform.embed and platform.demo."""

    def pretrained(self, config: Mapping[str, Any]) -> Any:
        """Build a config's model with its pretrained weights, before any training."""

    def stage_names(self, model: Any) -> Sequence[str]:
        """Return the names of the stages whose output can be used as embedding, from input to output."""

    def labelled(self, dataset: Dataset, split: str) -> tuple[Sequence[Any], Mapping[str, Sequence[str | None]]]:
        """Return the inputs of a split, and the class of each input by kind of label, None for a missing label.

        An input is a path, a text, or a grey image (H, W), uint8.
        """

    def embed(self, model: Any, inputs: Sequence[Any], stage: str) -> "np.ndarray":
        """Return the pooled output of a stage for each input, (N, D) float32."""


def only_source(sources: Sequence[Path]) -> Path | None:
    """Return the single source of the data, None for the embedded data.

    Raises:
        InputError: There are several sources.
    """
    if len(sources) > 1:
        rule, found = "this task reads its data from one place", f"--data {len(sources)} times"
        raise InputError(Fault(rule, found, "Put it into one folder."))
    return sources[0] if sources else None


def names() -> tuple[list[str], list[str]]:
    """Return the names of the tasks that have both files, and a sentence for each file whose counterpart is missing."""
    # Imported here, as a model logged to MLflow contains this file, but not the search spaces.
    import search_spaces
    import trainables

    trained = {module.name for module in pkgutil.iter_modules(trainables.__path__)}
    searched = {module.name for module in pkgutil.iter_modules(search_spaces.__path__)}
    unpaired = [f"trainables/{name}.py needs a search_spaces/{name}.py" for name in sorted(trained - searched)]
    unpaired += [f"search_spaces/{name}.py needs a trainables/{name}.py" for name in sorted(searched - trained)]
    return sorted(trained & searched), unpaired


def check_name(name: str) -> None:
    """Check that a task exists.

    Raises:
        InputError: There is no such task.
    """
    known, unpaired = names()
    if name not in known:
        remedy = f"Known: {', '.join(known)}." + "".join(f" {line}." for line in unpaired)
        raise InputError(Fault("a task needs a file in trainables/ and one in search_spaces/", repr(name), remedy))


def load(name: str) -> Task:
    """Import a task's file in trainables/."""
    return cast(Task, importlib.import_module(f"trainables.{name}"))


def load_exporter(name: str) -> Exporter:
    """Import the file of a task whose models can be exported as ONNX.

    Raises:
        InputError: The task has no `onnx` function.
    """
    return cast(Exporter, _load_with(name, "onnx"))


def load_embedder(name: str) -> Embedder:
    """Import the file of a task whose encoder gives embeddings.

    Raises:
        InputError: The task has no `embed` function.
    """
    return cast(Embedder, _load_with(name, "embed"))


def _load_with(name: str, function: str) -> Task:
    module = load(name)
    if not hasattr(module, function):
        rule = f"a task must have an {function} function for this"
        raise InputError(Fault(rule, name, "Choose another task."))
    return module


def space(name: str) -> "Space":
    """Import a task's search space."""
    return importlib.import_module(f"search_spaces.{name}").SPACE


def space_of(module: Task, name: str, settings: Sequence[str], **budget: int) -> "tuple[Space, list[Fault]]":
    """Apply settings to a task's space and fit it to the number of the backbone's stages; return it and all faults."""
    from platform.space import DEPTH, split_setting

    found, faults = space(name), list[Fault]()
    try:
        # The backbone is determined first, since the range of the freeze depth follows from it.
        others = [setting for setting in settings if split_setting(setting)[0] != DEPTH]
        found = found.of_depth(module.depth(found.override(others)))
    except InputError as error:
        faults += error.faults
    try:
        found = found.override(settings, **budget)
    except InputError as error:
        faults += [fault for fault in error.faults if fault not in faults]
    return found, faults
