"""Audit of a trial: what its training really used, recorded beside its config.

A config travels through a task's code to the optimizer, the freezer and the loss. A key that is misspelt or forgotten
on the way leaves a record that looks right, of a training that was another one. The record is therefore taken at the
far end, from the optimizer's groups, the model and the batches, and keys that no code read are listed.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from platform.training.freezing import Freezer

USED, UNUSED, FROZEN, TRAINED = "used", "not used", "frozen", "weights"  # subjects of a trial's notes


class ConfigMismatchError(RuntimeError):
    """A trial used something else than its config says."""

    retry = False  # another attempt would end in the same way


class TrackedConfig(dict[str, Any]):
    """Config that remembers which keys were read, by `config[key]` or `config.get(key)`.

    Attributes:
        read: Keys that were read.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


class ConfigAudit:
    """Records what a training uses.

    Attributes:
        used: Values that are in use, by name.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        origin: Mapping[str, Any],
        optimization: Any,
        freezer: Freezer,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Record the used values; `origin` has further ones: seed, data and code.

        Raises:
            ConfigMismatchError: The task passes on other values than the config says.
        """
        self.config, self.freezer, self.optimizer = config, freezer, optimizer
        self._batches: list[np.ndarray] = []  # indices of the epoch's examples, batch by batch
        freezing = freezer.freezing
        used = dict(vars(optimization))
        used |= {key: getattr(freezing, key) for key in ("unfreeze", "unfreeze_at", "batch_norm")}
        asked = dict(config)  # a copy: to look at a key here does not count as reading it
        for key, value in used.items():
            if key in asked and asked[key] != value:
                raise ConfigMismatchError(f"{key} must be {asked[key]!r}, as the config says; the trial uses {value!r}")
        # A model may have fewer stages than the space's depth says: then all of them are frozen.
        backbone = sum(stage.backbone for stage in freezer.stages)
        if "freeze_depth" in asked and freezing.depth not in (asked["freeze_depth"], backbone):
            rule = f"freeze_depth must be {asked['freeze_depth']}, as the config says"
            raise ConfigMismatchError(f"{rule}; {freezing.depth} of {backbone} stages are frozen")
        self.used = {**used, "frozen stages": freezing.depth, **origin}

    def on_batch(self, indices: np.ndarray) -> None:
        """Record a batch by the indices of its examples."""
        self._batches.append(indices)

    def on_epoch(self) -> dict[str, float]:
        """End an epoch, and return its metrics: each stage's learning rate, and the number of trained parameters.

        Raises:
            ConfigMismatchError: The batches had another size than the config says.
        """
        rates: dict[str, float] = {}
        if self._batches:  # else nothing was trained, and the rates are those of no step
            self._check_batches()
            frozen = self.freezer.frozen_names()
            groups = self.optimizer.param_groups
            rates = {f"lr/{group['stage']}": 0.0 if group["stage"] in frozen else group["lr"] for group in groups}
        trained = sum(p.numel() for p in self.freezer.model.parameters() if p.requires_grad)
        return {**rates, "train/parameters": float(trained)}

    def notes(self) -> dict[str, str]:
        """Return the used values and the unread keys of the config, as notes of the trial."""
        unread = sorted(set(self.config) - self.config.read) if isinstance(self.config, TrackedConfig) else []
        notes = {USED: json.dumps(self.used, default=str)} if self.config else {}
        return notes | ({UNUSED: ", ".join(unread)} if unread else {})

    def _check_batches(self) -> None:
        steps, largest = len(self._batches), max(map(len, self._batches))
        indices = np.concatenate(self._batches)
        self._batches = []
        _, times = np.unique(indices, return_counts=True)
        drawn = "each once" if times.max() == 1 else f"{len(times)} different ones, one of them {times.max()} times"
        self.used |= {"drawn": f"{len(indices)} examples: {drawn}", "batch size": largest}
        asked = dict(self.config).get("batch_size")
        if asked is not None and (largest > asked or steps != -(-len(indices) // asked)):
            found = f"{len(indices)} examples came in {steps} batches of up to {largest}"
            raise ConfigMismatchError(f"batch_size must be {asked}, as the config says; {found}")


def frozen_note(freezer: Freezer) -> str:
    """Return the note that says how it was checked that frozen stages did not change."""
    if not freezer.checks:
        return "nothing was frozen"
    return f"unchanged: up to {freezer.checked} tensors, by hash, checked {freezer.checks}×"
