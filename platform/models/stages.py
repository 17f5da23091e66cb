"""TODO."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """A named part of a model.

    Attributes:
        name: What the stage is called.
        prefixes: Paths of the modules in it, e.g. ("backbone.body.layer1",). A path that this model lacks is passed
            over, so that one declaration serves a family of models; a stage without a single tensor is an error.
        backbone: Whether the stage comes from the pretrained backbone and so learns at the backbone's rate.
    """

    name: str
    prefixes: tuple[str, ...]
    backbone: bool = False


def assign(model: nn.Module, stages: Sequence[Stage]) -> dict[str, str]:
    """The stage of every parameter and buffer.

    Returns:
        The stage's name by the tensor's name.

    Raises:
        ValueError: A tensor belongs to no stage or to two, or a stage has no tensor.
    """
    owner: dict[str, str] = {}
    for name in _tensors(model):
        owners = [s.name for s in stages if any(name == p or name.startswith(p + ".") for p in s.prefixes)]
        if len(owners) != 1:
            found = " and ".join(owners) or "none"
            raise ValueError(f"every tensor must belong to exactly one stage; {name} belongs to {found}")
        owner[name] = owners[0]
    empty = [stage.name for stage in stages if stage.name not in owner.values()]
    if empty:
        raise ValueError(f"every stage must hold a tensor; {', '.join(empty)} match nothing in {type(model).__name__}")
    return owner


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


State = Mapping[str, Tensor]  # by name (n, …): what a model takes, or what came out of its first stages


class Cuttable(Protocol):
    """A model whose first stages can be run apart from the rest.

    Attributes:
        cuts: How many of its stages, from the input on.
    """

    cuts: int

    def run(self, state: State, start: int, stop: int) -> dict[str, Tensor]:
        """The stages start … stop - 1, on what came out of those before: all that the rest needs."""

    def cut_facts(self, cut: int) -> dict[str, Any]:
        """All that the output of the first `cut` stages follows from, besides inputs and weights, as JSON."""


def run_stages(sequence: nn.Sequential, x: Tensor, start: int, stop: int) -> Tensor:
    """The modules start … stop - 1 of a sequence, one after the other."""
    for module in itertools.islice(sequence, start, stop):
        x = module(x)
    return x
