"""Models as ordered stages: the tensors of each stage, and running the first stages apart from the rest."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

State = Mapping[str, Tensor]  # named tensors (n, …): a model's inputs, or the output of its first stages


@dataclass(frozen=True)
class Stage:
    """Named group of a model's layers.

    Attributes:
        name: Name of the stage.
        prefixes: Paths of its modules, e.g. ("backbone.body.layer1",). A path that the model lacks is ignored, so that
            one declaration serves a family of models; a stage without any tensor is an error.
        backbone: True if the stage belongs to the pretrained backbone and so trains at the backbone's learning rate.
    """

    name: str
    prefixes: tuple[str, ...]
    backbone: bool = False


class Splittable(Protocol):
    """Model whose first stages can be run apart from the rest.

    Attributes:
        max_split_index: Number of stages, counted from the input, after which the model can be divided at most.
    """

    max_split_index: int

    def run(self, state: State, start: int, stop: int) -> dict[str, Tensor]:
        """Run the stages start … stop - 1 on the output of those before; return all that the later stages need."""

    def prefix_facts(self, split_index: int) -> dict[str, Any]:
        """Return as JSON all that determines the output of the first `split_index` stages besides inputs and weights.

        The feature store uses it as part of its key.
        """


def assign(model: nn.Module, stages: Sequence[Stage]) -> dict[str, str]:
    """Assign every parameter and buffer of a model to a stage.

    Returns:
        The stage's name by the tensor's name.

    Raises:
        ValueError: A tensor belongs to no stage or to two, or a stage has no tensor.
    """
    owner: dict[str, str] = {}
    for name in named_tensors(model):
        owners = [s.name for s in stages if any(name == p or name.startswith(p + ".") for p in s.prefixes)]
        if len(owners) != 1:
            found = " and ".join(owners) or "none"
            raise ValueError(f"every tensor must belong to exactly one stage; {name} belongs to {found}")
        owner[name] = owners[0]
    empty = [stage.name for stage in stages if stage.name not in owner.values()]
    if empty:
        raise ValueError(f"every stage must hold a tensor; {', '.join(empty)} match nothing in {type(model).__name__}")
    return owner


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers of a model by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def run_stages(sequence: nn.Sequential, x: Tensor, start: int, stop: int) -> Tensor:
    """Run the modules start … stop - 1 of a sequence one after the other."""
    for module in itertools.islice(sequence, start, stop):
        x = module(x)
    return x
