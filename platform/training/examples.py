"""Interface of a task's data to the training loop: examples by index, and batches of them.

A batch may hold outputs of the model's frozen stages in place of inputs (see reuse_cost.py), together with the number
of those stages, the split index.

An augmented example has views. A view is determined by the study's seed, the example's index and the number of the view
alone. While stages are frozen an example has a fixed number of views, so that their outputs can be stored; once nothing
is frozen, it has a new view in each epoch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from platform.data import long_tail
from platform.errors import Fault
from platform.models.stages import State

if TYPE_CHECKING:
    from platform.space import Space


@dataclass(frozen=True)
class Batch:
    """Batch of examples, as inputs or as outputs of the model's first stages.

    Attributes:
        indices: (n,) indices of the examples.
        state: The inputs, or the outputs of the first `split_index` stages.
        split_index: Number of stages already applied.
        view: Number of the view; None: not augmented.
    """

    indices: np.ndarray
    state: State
    split_index: int = 0
    view: int | None = None


Look = Callable[[np.ndarray], Batch]  # indices → batch of these examples


class Examples:
    """Interface of a task's data to the training loop; `facts` is needed only if the model is `Splittable`.

    Attributes:
        views: Number of views of an example while stages are frozen; 0: no augmentation.
    """

    views: int = 0

    def indices(self, split: str) -> np.ndarray:
        """Return the indices of a split, "train" or "val"."""
        raise NotImplementedError

    def inputs(self, indices: np.ndarray, view: int | None) -> dict[str, Tensor]:
        """Return the inputs of the model's first stage, (n, …) by name, on the trial's device."""
        raise NotImplementedError

    def facts(self, view: int | None) -> dict[str, Any]:
        """Return all facts that determine the inputs besides the indices, as JSON."""
        raise NotImplementedError

    def lengths(self, indices: np.ndarray) -> np.ndarray | None:
        """Return each example's length (n,) if batches are padded to the longest; None: all have one shape."""
        return None

    def beside(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return the inputs that pass through all stages unchanged, for example a mask."""
        return {}


def view_faults(space: "Space") -> list[Fault]:
    """Return a fault for each number of views below 1, which would silently turn augmentation off."""
    rule, remedy = "views must be 1 or more", "Use --set augment=0 for images as they are."
    return [Fault(rule, str(views), remedy) for views in space.values("views") if views < 1]


def whole(examples: Examples, indices: np.ndarray) -> Batch:
    """Return a batch of inputs without augmentation."""
    return Batch(indices, examples.inputs(indices, None))


def shuffled(
    indices: np.ndarray, batch_size: int, generator: np.random.Generator, factors: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield an epoch's batches of indices, of nearly equal size.

    The examples of a short last batch would weigh more, and BatchNorm cannot train on a single example.

    Args:
        indices: (n,) indices of the examples.
        batch_size: Largest size of a batch.
        generator: Generator that determines their order.
        factors: (n,) relative frequency of each example, see `platform.data.long_tail`; None or all equal: each once.
    """
    if factors is None or np.ptp(factors) == 0:
        drawn = generator.permutation(indices)
    else:
        drawn = long_tail.draw(indices, factors, generator)
    yield from np.array_split(drawn, steps(len(indices), batch_size))


def steps(count: int, batch_size: int) -> int:
    """Return the number of batches in an epoch."""
    return -(-count // batch_size)
