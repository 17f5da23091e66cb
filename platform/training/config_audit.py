"""What a trial really used, beside what its configuration asked for; where the two differ, the trial fails.

A configuration travels through a task's code to the optimizer, the freezer and the loss. A key that is misspelt, read
twice or forgotten on the way would leave a record that looks right, of a training that was another. So the record is
taken at the far end, from the optimizer's groups, the parameters and the batches themselves.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from platform.training import schedules
from platform.training.freezing import Freezer

# Relative: how far a weighted sum in this precision can be from one in Python's.
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-6}
CLOSE_IF_HALF = 2e-2
WEIGHTS = ("weight_", "loss_weight_")  # a parameter named so and after a part of the loss is what the part counts
OVERSAMPLE = "oversample"  # a parameter of this name says whether some examples are drawn more often than others
USED, UNUSED, FROZEN, TRAINED = "used", "not used", "frozen", "weights"  # subjects of a trial's notes


class NotAsAskedError(RuntimeError):
    """A trial used something else than its configuration says."""

    retry = False  # another attempt would end in the same way


class Point(dict[str, Any]):
    """A configuration that takes note of what is read of it, by `point[key]` or `point.get(key)`.

    Attributes:
        read: The keys that were.
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


class Attestation:
    """Follows a trial's training."""

    def __init__(
        self,
        asked: Mapping[str, Any],
        beside: Mapping[str, Any],
        optimization: Any,
        freezer: Freezer,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """
        Args:
            asked: The configuration.
            beside: What else is to be recorded.
            optimization: A `platform.training.fit.Optimization`, made from it by the task.
            freezer: The model's, likewise.
            optimizer: The model's.

        Raises:
            NotAsAskedError: What the task made of the configuration is something else.
        """
        self.asked, self.optimization, self.freezer, self.optimizer = asked, optimization, freezer, optimizer
        self._steps, self._most = 0, 0
        self._seen: list[np.ndarray] = []  # indices of the epoch's examples, batch by batch
        self._oversample = dict(asked).get(OVERSAMPLE)  # not read by this: the task has to
        freezing = freezer.freezing
        backbone = sum(stage.backbone for stage in freezer.stages)
        used = {key: getattr(optimization, key) for key in vars(optimization)}
        used |= {key: getattr(freezing, key) for key in ("unfreeze", "unfreeze_at", "batch_norm")}
        for key, value in used.items():
            if key in asked and asked[key] != value:
                raise NotAsAskedError(f"{key} must be as asked for, {asked[key]!r}; the trial uses {value!r}")
        # A model may have fewer stages than the space's depth says: then all of them are frozen.
        if "freeze_depth" in asked and freezing.depth not in (asked["freeze_depth"], backbone):
            rule = f"freeze_depth must be as asked for, {asked['freeze_depth']}"
            raise NotAsAskedError(f"{rule}; {freezing.depth} of {backbone} stages are frozen")
        self.used = {**used, "frozen stages": freezing.depth, **beside}

    def batch(self, indices: np.ndarray, parts: Mapping[str, float], dtype: torch.dtype) -> None:
        """Takes note of a batch.

        Args:
            indices: Of its examples.
            parts: Its loss, and the parts that it is the weighted sum of.
            dtype: Of the loss.

        Raises:
            NotAsAskedError: The loss is not the sum of its parts with the weights that were asked for.
        """
        self._seen.append(indices)
        self._steps += 1
        self._most = max(self._most, len(indices))
        weights = {part: weight for part in parts if (weight := self._weight(part)) is not None}
        if not weights or set(weights) != set(parts) - {"loss"}:
            return
        self.used |= {f"loss weight of {part}": weight for part, weight in weights.items()}
        total = sum(weight * parts[part] for part, weight in weights.items())
        close = CLOSE.get(dtype, CLOSE_IF_HALF)
        scale = sum(abs(weight * parts[part]) for part, weight in weights.items())
        if math.isfinite(total) and abs(total - parts["loss"]) > close * scale:
            told = ", ".join(f"{weight:g} × {parts[part]:g} ({part})" for part, weight in weights.items())
            raise NotAsAskedError(f"the loss must be {told}, with the weights asked for; it is {parts['loss']:g}")

    def epoch(self, step: int, steps: int) -> dict[str, float]:
        """Ends an epoch.

        Args:
            step: The number of its last step, from 0.
            steps: Those of the whole budget.

        Returns:
            Metrics: each stage's learning rate in that step, 0 where it was frozen, and how many indices were trained.

        Raises:
            NotAsAskedError: Learning rates, what is trained, or the size of the batches are not what was asked for.
        """
        frozen = self.freezer.frozen_names()
        self._check_trained(frozen)
        rates = self._rates(frozen, step, steps) if self._steps else {}
        self._check_batches()
        trained = sum(p.numel() for p in self.freezer.model.parameters() if p.requires_grad)
        return {**{f"lr/{stage}": rate for stage, rate in rates.items()}, "train/parameters": float(trained)}

    def notes(self) -> dict[str, str]:
        """What is to be said of the trial."""
        unread = sorted(set(self.asked) - self.asked.read) if isinstance(self.asked, Point) else []
        told = {USED: json.dumps(self.used, default=str)} if self.asked else {}
        return told | ({UNUSED: ", ".join(unread)} if unread else {})

    def _weight(self, part: str) -> float | None:
        """What a part of the loss should count; None where that was not asked for, or not read."""
        keys = [prefix + part for prefix in WEIGHTS if prefix + part in self.asked]
        read = self.asked.read if isinstance(self.asked, Point) else set(self.asked)
        return next((float(self.asked[key]) for key in keys if key in read), None)

    def _check_trained(self, frozen: set[str]) -> None:
        for name, parameter in self.freezer.model.named_parameters():
            if parameter.requires_grad == ((stage := self.freezer.stage_of[name]) in frozen):
                found = "is trained" if parameter.requires_grad else "is not trained"
                rule = f"{', '.join(sorted(frozen)) or 'nothing'} must be frozen, and all else trained"
                raise NotAsAskedError(f"{rule}; {name}, of {stage}, {found}")

    def _rates(self, frozen: set[str], step: int, steps: int) -> dict[str, float]:
        """Each stage's learning rate, as it is and as it should be."""
        told = self.optimization
        stages = self.freezer.stages
        backbone = [stage.name for stage in stages if stage.backbone]
        factor = schedules.factor(told.schedule, (step + 1) / steps, told.warmup)
        rates = {}
        for group in self.optimizer.param_groups:
            stage, rate = group["stage"], group["lr"]
            below = len(backbone) - 1 - backbone.index(stage) if stage in backbone else 0
            share = told.backbone_ratio * told.layer_decay**below if stage in backbone else 1.0
            # A stage's ramp after its unfreeze lasts an epoch: in the last step of one there is none.
            expected = told.lr_head * share * factor
            if not math.isclose(rate, expected, rel_tol=1e-6, abs_tol=1e-15):
                raise NotAsAskedError(f"{stage} must learn at {expected:g}; it learned at {rate:g}")
            rates[stage] = 0.0 if stage in frozen else rate
        return rates

    def _check_batches(self) -> None:
        asked, steps, most = self.asked.get("batch_size"), self._steps, self._most
        seen = np.concatenate(self._seen) if steps else np.zeros(0)
        self._steps, self._most, self._seen = 0, 0, []
        if steps and self._oversample is not None:
            self._check_repeats(seen)
        if asked is None or not steps:
            return
        self.used["batch size"] = most
        if most > asked or steps != -(-len(seen) // asked):
            found = f"{len(seen)} examples came in {steps} batches of up to {most}"
            raise NotAsAskedError(f"batch_size must be as asked for, {asked}; {found}")

    def _check_repeats(self, seen: np.ndarray) -> None:
        """Takes note of how often examples were drawn in an epoch: each once, where nothing else was asked for."""
        _, times = np.unique(seen, return_counts=True)
        told = "each once" if times.max() == 1 else f"{len(times)} different ones, one of them {times.max()} times"
        self.used["drawn"] = f"{len(seen)} examples: {told}"
        if not self._oversample and times.max() > 1:
            raise NotAsAskedError(f"{OVERSAMPLE} must be as asked for, {self._oversample}; drawn were {told}")


def frozen_note(freezer: Freezer) -> str:
    """What the proof that frozen stages stayed as they were rests on."""
    if not freezer.checks:
        return "nothing was frozen"
    return f"unchanged: up to {freezer.checked} tensors, by hash, checked {freezer.checks}×"
