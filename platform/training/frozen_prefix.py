"""Outputs of a model's frozen stages, and the facts that determine them.

The facts are the key of an entry in the feature store: the frozen tensors, the model's shape, the data, the view, the
libraries and the project's own code. If any of them changes, no earlier entry is used.
"""

import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from platform.models.stages import State
from platform.project import code_digest
from platform.storage import hashing
from platform.training.acceleration import Speed
from platform.training.devices import device_name
from platform.training.examples import Examples
from platform.training.feature_store import BATCH, FORMAT
from platform.training.freezing import Freezer

LIBRARIES = ("torch", "torchvision", "transformers", "open_clip_torch", "timm", "numpy", "pillow")


class NotFrozenError(RuntimeError):
    """A module of a frozen stage is in training mode, so that its outputs must not be stored."""

    retry = False  # another attempt would end in the same way


class Prefix:
    """The first stages of a model, applied to one split of the examples in one view.

    Attributes:
        split_index: Number of stages.
        indices: (n,) the examples of the split, short ones first, so that batches have little padding.
    """

    def __init__(
        self,
        model: nn.Module,
        freezer: Freezer,
        examples: Examples,
        split_index: int,
        split: str,
        view: int | None,
        speed: Speed,
    ) -> None:
        """
        Raises:
            NotFrozenError: A module of these stages is in training mode.
        """
        if trained := freezer.in_training(split_index):
            rule = "only stages in eval mode can be kept: BatchNorm and dropout change what they compute"
            raise NotFrozenError(f"{rule}; {trained[0]} is in training mode")
        self.model: Any = model  # a Splittable
        self.freezer, self.examples, self.speed = freezer, examples, speed
        self.split_index, self.view = split_index, view
        indices = examples.indices(split)
        lengths = examples.lengths(indices)
        self.indices = indices if lengths is None else indices[np.argsort(lengths, kind="stable")]
        self.longest = longest(examples, indices)

    def facts(self, split_index: int | None = None) -> dict[str, Any]:
        """Return the facts that determine the outputs of these or of fewer stages, as JSON."""
        return {
            **self._model_facts(self.split_index if split_index is None else split_index),
            "rows": hashing.digest(np.ascontiguousarray(self.indices).data),
            "data": self.examples.facts(self.view),
        }

    def cost_facts(self) -> dict[str, Any]:
        """Return the facts that determine an example's costs; they are the same for every view."""
        return {
            **self._model_facts(self.split_index),
            "data": self.examples.facts(None if self.view is None else 0),
            "longest": self.longest,
            "threads": torch.get_num_threads(),
        }

    def compute(self, indices: np.ndarray, given: State | None = None, start: int = 0) -> dict[str, Tensor]:
        """Return the stages' outputs for examples, without the inputs that pass through unchanged.

        They are computed from the outputs `given` of the first `start` stages, or from the inputs.
        """
        beside = self.examples.beside(indices)
        state = self.examples.inputs(indices, self.view) if given is None else {**given, **beside}
        with torch.inference_mode(), torch.random.fork_rng(), self.speed.autocast():
            result = self.model.run(state, start, self.split_index)
        made = {name: value for name, value in result.items() if name not in beside}
        # NumPy, and therefore the store, has no bfloat16; float32 represents all its values.
        return {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in made.items()}

    def _model_facts(self, split_index: int) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "mode": "eval",
            "speed": self.speed.options,
            "split_index": split_index,
            "weights": self.freezer.digest(split_index),
            "model": self.model.prefix_facts(split_index),
            "device": device_name(),
            "libraries": _versions(),
            "code": code_digest(),
        }


def chunks(rows: slice) -> list[np.ndarray]:
    """Return the rows of a slice in batches of BATCH."""
    return [np.arange(first, min(first + BATCH, rows.stop)) for first in range(rows.start, rows.stop, BATCH)]


def longest(examples: Examples, indices: np.ndarray) -> int | None:
    """Return the length of a batch of these examples, None if all examples have one shape."""
    lengths = examples.lengths(indices)
    return None if lengths is None else int(lengths.max())


def stack(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate batches on the CPU, padded at the end of their second axis if it differs."""
    stacked = {}
    for name in parts[0]:
        tensors = [part[name].cpu() for part in parts]
        most = max(tensor.shape[1] for tensor in tensors)
        padded = [F.pad(t, (0, 0, 0, most - t.shape[1])) if t.shape[1] < most else t for t in tensors]
        stacked[name] = torch.cat(padded)
    return stacked


@functools.cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
