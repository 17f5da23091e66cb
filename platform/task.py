"""What the engine asks of a task: one file in trainables/ with these functions, one in search_spaces/ with SPACE.

There is no registry: the file's name is the task's name.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from platform.errors import Fault, InputError

PER_CLASS = "_class/"  # in the name of a metric that speaks of one class

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor, nn

    from platform.space import Space


class Dataset(Protocol):
    """What the engine needs to know of a task's data: how to call it, tell it apart and describe it."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def findings(self) -> list[str]:
        """Everything that was repaired or left out, and what is suspicious, a line each."""

    def summary(self) -> dict[str, Any]:
        """Counts, repairs and warnings, as JSON for the record."""

    def lines(self) -> Mapping[str, str]:
        """The same as lines for people, by title."""


@dataclass(frozen=True)
class Graph:
    """What of a model is exported as ONNX: tensors in, tensors out.

    Attributes:
        module: Holds the weights.
        forward: One tensor for each input → one for each output, by means of the module.
        inputs: By name, which dimensions may vary, e.g. {"images": {0: "batch"}}; none: as many as in the example.
        outputs: The same of what comes out.
        tensors: Inputs as `predict` takes them → the tensors, by name.
        about: Whatever else one must know to make the inputs and to read the outputs, as JSON.
        beside: By name, what writes a folder that belongs to the file, a tokenizer say.
        traced: Run once and written down, as its control flow is not for torch.export; else torch.export takes it.
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
    """How a model did on the test split.

    Attributes:
        metrics: By name, e.g. "test/map".
        figures: Pictures by file name, e.g. "precision_recall.png".
        texts: Reports by file name, e.g. "classification_report.txt".
    """

    metrics: Mapping[str, float]
    figures: "Mapping[str, Figure | Image]" = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class Task(Protocol):
    """The functions of a file in trainables/.

    Attributes:
        INPUT: "image": an input is a decoded picture; "text": it is a sentence.
        REQUIREMENTS: Packages that `load` and `predict` need besides what every model needs.
    """

    INPUT: str
    REQUIREMENTS: Sequence[str]

    def depth(self, space: "Space") -> int:
        """The stages of the backbone, or the fewest where the space asks for several. Raises InputError."""

    def read(self, sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> Dataset:
        """Reads and checks the data; no source is the embedded default. Raises InputError with all its faults."""

    def check(self, space: "Space", dataset: Any) -> list[Fault]:
        """What a space asks for that the task cannot do: unknown architectures, weights that do not load, …

        An embedder is also asked without data, None.
        """

    def prepare(self, space: "Space", dataset: Dataset, cache: Path) -> Path:
        """Decodes the data once for all trials into a folder, which is reused if it is there."""

    def train(self, config: dict[str, Any]) -> None:
        """The Ray trainable function: builds the model of a configuration and calls fit."""

    def load(self, folder: Path) -> Any:
        """A saved model, ready to predict."""

    def test(self, model: Any, data: Path) -> Evaluation:
        """Scores a loaded model on the test split of prepared data."""

    def references(self, space: "Space", data: Path) -> Mapping[str, Mapping[str, float]]:
        """Test metrics, by name, of what needs no search: what a study's best must beat to be worth it."""

    def export(self, model: Any, data: Path, folder: Path) -> None:
        """Writes the parts of a model that later studies can name as weights into a folder."""

    def predict(self, model: Any, inputs: "Sequence[Image] | Sequence[str]") -> Iterator[dict[str, Any]]:
        """A JSON-able prediction for each input, in order; pictures are RGB, as platform.data.images decodes them.

        Values are plain, objects of these, or one list of objects, such as boxes; see
        platform.serving.prediction_rows. A "note" tells what of an input the model was not shown, "" where it was
        shown all.
        """

    def answer(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """An example of a prediction of the model that has this metadata: which names it holds, and of which types."""

    def draw(self, image: "Image", prediction: Mapping[str, Any]) -> "Image":
        """A picture of a prediction; only where the input is one."""


class Exporter(Task, Protocol):
    """What a task has besides if its models can be exported as ONNX."""

    def onnx(self, model: Any) -> Graph:
        """What of a loaded model is exported."""


class Embedder(Task, Protocol):
    """What a task has besides if its encoder's embeddings can be looked at, by platform.embed and platform.demo."""

    def pretrained(self, config: Mapping[str, Any]) -> Any:
        """A configuration's model as it comes, before any training here."""

    def stage_names(self, model: Any) -> Sequence[str]:
        """Where embeddings can be taken, from input to output."""

    def labelled(self, dataset: Dataset, split: str) -> tuple[Sequence[Any], Mapping[str, Sequence[str | None]]]:
        """The inputs of a split, and by kind of label each one's class, None where it has none.

        An input is a path or a text, as for `predict`, or a grey image of its own, (H, W) uint8.
        """

    def embed(self, model: Any, inputs: Sequence[Any], stage: str) -> "np.ndarray":
        """(N, D) float32: what comes out of a stage for each input, pooled."""


def only_source(sources: Sequence[Path]) -> Path | None:
    """The one place of the data, None for the embedded default.

    Raises:
        InputError: There are several, and the task reads one.
    """
    if len(sources) > 1:
        rule, found = "this task reads its data from one place", f"--data {len(sources)} times"
        raise InputError(Fault(rule, found, "Put it into one folder."))
    return sources[0] if sources else None


def names() -> tuple[list[str], list[str]]:
    """The tasks that have both files, and a line for each file that misses its pair."""
    # Here and not above: a model logged to MLflow ships without the search spaces, and this file with it.
    import search_spaces
    import trainables

    trained = {module.name for module in pkgutil.iter_modules(trainables.__path__)}
    searched = {module.name for module in pkgutil.iter_modules(search_spaces.__path__)}
    unpaired = [f"trainables/{name}.py misses search_spaces/{name}.py" for name in sorted(trained - searched)]
    unpaired += [f"search_spaces/{name}.py misses trainables/{name}.py" for name in sorted(searched - trained)]
    return sorted(trained & searched), unpaired


def check_name(name: str) -> None:
    """
    Raises:
        InputError: There is no such task.
    """
    known, unpaired = names()
    if name not in known:
        remedy = f"Known: {', '.join(known)}." + "".join(f" {line}." for line in unpaired)
        raise InputError(Fault("a task needs a file in trainables/ and one in search_spaces/", repr(name), remedy))


def load(name: str) -> Task:
    """The task's trainable file."""
    module: ModuleType = importlib.import_module(f"trainables.{name}")
    return cast(Task, module)


def load_exporter(name: str) -> Exporter:
    """The task's trainable file.

    Raises:
        InputError: It does not say what of a model is exported.
    """
    module = load(name)
    if not hasattr(module, "onnx"):
        raise InputError(Fault("a task must have an onnx function for this", name, "Choose another task."))
    return cast(Exporter, module)


def load_embedder(name: str) -> Embedder:
    """The task's trainable file.

    Raises:
        InputError: It does not say how it embeds.
    """
    module = load(name)
    if not hasattr(module, "embed"):
        raise InputError(Fault("a task must have an embed function for this", name, "Choose another task."))
    return cast(Embedder, module)


def space(name: str) -> "Space":
    """The task's search space."""
    return importlib.import_module(f"search_spaces.{name}").SPACE


def space_of(module: Task, name: str, settings: Sequence[str], **budget: int) -> "tuple[Space, list[Fault]]":
    """A task's space with settings, for as many stages as the backbone has; and what is wrong with the settings."""
    from platform.space import DEPTH, split_setting

    found, faults = space(name), list[Fault]()
    try:
        # Which backbone is settled first: the range of the freeze depth follows from it.
        others = [setting for setting in settings if split_setting(setting)[0] != DEPTH]
        found = found.of_depth(module.depth(found.override(others)))
    except InputError as error:
        faults += error.faults
    try:
        found = found.override(settings, **budget)
    except InputError as error:
        faults += [fault for fault in error.faults if fault not in faults]
    return found, faults
