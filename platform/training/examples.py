"""A task's data as numbered examples, and a model that can be run a few stages at a time.

The training loop asks for examples by their indices. What it gets may have gone through the model's frozen stages
already (see reuse_cost.py); the model gets that together with the number of those stages, the split index.

An augmented example has views: what chance makes of it is a function of the study's seed, the example's number and the
view alone. While stages are frozen an example is seen in a set number of views, drawn once, so that what the frozen
stages make of them can be kept; once nothing is frozen, in a new view each epoch.
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
    """Some examples, as far as they have been computed.

    Attributes:
        indices: (n,) which examples.
        state: The inputs, or what the first `split_index` stages made of them.
        split_index: How many stages that was.
        view: Which view of them; None: as they are.
    """

    indices: np.ndarray
    state: State
    split_index: int = 0
    view: int | None = None


Look = Callable[[np.ndarray], Batch]  # indices → their examples, as far as they have been computed


class Examples:
    """Interface of a task's data to the training loop; `facts` is needed only if the model is `Splittable`.

    Attributes:
        views: In how many views an example is seen while stages are frozen; 0: always as it is.
    """

    views: int = 0

    def indices(self, split: str) -> np.ndarray:
        """Those of "train" and of "val"."""
        raise NotImplementedError

    def inputs(self, indices: np.ndarray, view: int | None) -> dict[str, Tensor]:
        """What the model's first stage takes, (n, …) by name, on the trial's device."""
        raise NotImplementedError

    def facts(self, view: int | None) -> dict[str, Any]:
        """All that the inputs follow from, besides the indices, as JSON."""
        raise NotImplementedError

    def lengths(self, indices: np.ndarray) -> np.ndarray | None:
        """(n,) how long each example is, where a batch is padded to its longest; None: all have one shape."""
        return None

    def beside(self, indices: np.ndarray) -> dict[str, Tensor]:
        """What of the inputs passes through all stages as it is, a mask say."""
        return {}


def view_faults(space: "Space") -> list[Fault]:
    """Numbers of views without which augmentation would be left out unsaid."""
    rule, remedy = "views must be 1 or more", "Use --set augment=0 for images as they are."
    return [Fault(rule, str(views), remedy) for views in space.values("views") if views < 1]


def whole(examples: Examples, indices: np.ndarray) -> Batch:
    """Examples as they are, of which nothing is computed."""
    return Batch(indices, examples.inputs(indices, None))


def shuffled(
    indices: np.ndarray, batch_size: int, generator: np.random.Generator, factors: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """An epoch's batches of indices, of nearly equal size: a short last one would weigh more in its step, and BatchNorm
    cannot take a single example.

    Args:
        indices: (n,) of the examples.
        batch_size: The most of them in a batch.
        generator: Decides their order.
        factors: (n,) how much more often each is drawn, see `platform.data.long_tail`; None, or all equal: each once.
    """
    if factors is None or np.ptp(factors) == 0:
        drawn = generator.permutation(indices)
    else:
        drawn = long_tail.draw(indices, factors, generator)
    yield from np.array_split(drawn, steps(len(indices), batch_size))


def steps(count: int, batch_size: int) -> int:
    """How many batches an epoch has."""
    return -(-count // batch_size)
