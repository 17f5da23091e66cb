"""What the engine asks of a task: one file in trainables/ with these functions, one in search_spaces/ with SPACE.

There is no registry: the file's name is the task's name.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from platform.errors import Fault, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

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
class Evaluation:
    """How a model did on the test split.

    Attributes:
        metrics: By name, e.g. "test/map".
        figures: Pictures by file name, e.g. "precision_recall.png".
    """

    metrics: Mapping[str, float]
    figures: "Mapping[str, Figure | Image]" = field(default_factory=dict)


class Task(Protocol):
    """The functions of a file in trainables/."""

    def read(self, source: Path | None, cache: Path, seed: int) -> Dataset:
        """Reads and checks the data; None is the embedded default. Raises InputError with all its faults."""

    def check(self, space: "Space", dataset: Dataset) -> list[Fault]:
        """What a space asks for that the task cannot do: unknown architectures, weights that do not load, …"""

    def prepare(self, space: "Space", dataset: Dataset, cache: Path) -> Path:
        """Decodes the data once for all trials into a folder, which is reused if it is there."""

    def train(self, config: dict[str, Any]) -> None:
        """The Ray trainable function: builds the model of a configuration and calls fit."""

    def load(self, folder: Path) -> Any:
        """A saved model, ready to predict."""

    def test(self, model: Any, data: Path) -> Evaluation:
        """Scores a loaded model on the test split of prepared data."""

    def predict(self, model: Any, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        """A JSON-able prediction for each input, in order."""

    def draw(self, prediction: Mapping[str, Any]) -> "Image":
        """A picture of a prediction."""


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


def space(name: str) -> "Space":
    """The task's search space."""
    return importlib.import_module(f"search_spaces.{name}").SPACE
