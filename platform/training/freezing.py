"""Freezing of a pretrained model's first stages, unfreezing on a schedule, and the check that nothing frozen changed.

A model declares ordered, named stages from input to output; every parameter and buffer belongs to exactly one. The
first `depth` stages are frozen: they have no gradients and stay in eval mode (BatchNorm statistics do not move, dropout
is off). A schedule unfreezes them from the top down. Frozen tensors are hashed, and checked after each epoch in which
they were run, before each unfreezing and after the last epoch.

Gradual unfreezing: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from platform.models.stages import Stage, assign, named_tensors
from platform.storage import hashing

UNFREEZE = ("never", "at_once", "gradual", "on_plateau")
BATCH_NORM = ("frozen", "updated")
PLATEAU_PATIENCE = 2  # epochs without a new best score before on_plateau unfreezes a stage


@dataclass(frozen=True)
class Freezing:
    """Settings of freezing: the stages that are frozen at the start, and the schedule that unfreezes them.

    Attributes:
        depth: Stages frozen from the input. 0: fine-tune everything; all but the last: a linear probe.
        unfreeze: "never"; "at_once": all stages at `unfreeze_at`; "gradual": from then on one stage an epoch, top-down;
            "on_plateau": from then on one stage whenever the score has not improved for PLATEAU_PATIENCE epochs.
        unfreeze_at: Start of unfreezing as a fraction of the budget.
        batch_norm: "frozen": BatchNorm in unfrozen backbone stages keeps its pretrained statistics, better for small
            batches; "updated": it goes on averaging.
        always: Names of further stages that are frozen and never unfreeze.
    """

    depth: int
    unfreeze: str = "never"
    unfreeze_at: float = 0.5
    batch_norm: str = "frozen"
    always: tuple[str, ...] = ()

    def frozen_at(self, epoch: int, epochs: int, frozen: int, last_unfreeze: int, scores: Sequence[float]) -> int:
        """Return the number of stages that are frozen in an epoch.

        Args:
            epoch: The epoch about to start, from 0.
            epochs: The budget of the trial.
            frozen: Stages frozen in the epoch before.
            last_unfreeze: The epoch of the last unfreezing, -1 if there was none.
            scores: The score after each finished epoch; greater is better.
        """
        unfreeze_epoch = math.ceil(self.unfreeze_at * epochs)
        if self.unfreeze == "never" or epoch < unfreeze_epoch:
            return self.depth
        if self.unfreeze == "at_once":
            return 0
        if self.unfreeze == "gradual":
            return max(0, self.depth - (epoch - unfreeze_epoch) - 1)
        since = scores[max(0, last_unfreeze) :]
        earlier, latest = since[:-PLATEAU_PATIENCE], since[-PLATEAU_PATIENCE:]
        stands_still = bool(earlier) and max(latest) <= max(earlier)
        return max(0, frozen - 1) if stands_still else frozen

    def first_unfreeze(self, epochs: int) -> int | None:
        """Return the least number of epochs before the first unfreezing; None if nothing ever unfreezes."""
        if self.unfreeze == "never" or not self.depth:
            return None
        first = math.ceil(self.unfreeze_at * epochs) + (PLATEAU_PATIENCE if self.unfreeze == "on_plateau" else 0)
        return first if first < epochs else None

    def lasting(self, epoch: int, epochs: int, frozen: int) -> int:
        """Return for how many epochs, this one included, the frozen stages stay so; on_plateau may end it later."""
        for later in range(epoch + 1, epochs):
            if self.frozen_at(later, epochs, frozen, -1, ()) < frozen:
                return later - epoch
        return epochs - epoch


class FrozenChangedError(RuntimeError):
    """A frozen tensor changed."""

    retry = False  # another attempt would end in the same way


class Freezer:
    """Keeps a model's first stages frozen, unfreezes them on schedule, and checks that frozen tensors do not change.

    Attributes:
        frozen: Number of stages that are frozen now.
        unfreezings: Epoch of each unfreezing and the number of stages frozen from then on, in order.
        checks: Number of checks so far.
        checked: Largest number of tensors in a check.
    """

    def __init__(self, model: nn.Module, stages: Sequence[Stage], freezing: Freezing, epochs: int) -> None:
        """
        Raises:
            ValueError: The depth leaves nothing to train, or an option is unknown.
        """
        if not 0 <= freezing.depth < len(stages):
            names = ", ".join(stage.name for stage in stages)
            raise ValueError(f"freeze_depth must lie in 0..{len(stages) - 1} ({names}); found {freezing.depth}")
        if freezing.unfreeze not in UNFREEZE or freezing.batch_norm not in BATCH_NORM:
            raise ValueError(f"unknown option in {freezing}; unfreeze: {UNFREEZE}, batch_norm: {BATCH_NORM}")
        unknown = set(freezing.always) - {stage.name for stage in stages}
        if unknown:
            raise ValueError(f"only stages of the model can be frozen; there is no {', '.join(sorted(unknown))}")
        self.model, self.stages, self.freezing, self.epochs = model, list(stages), freezing, epochs
        self.stage_of = assign(model, stages)
        modules = dict(model.named_modules())
        self._modules = {s.name: {p: modules[p] for p in s.prefixes if p in modules} for s in self.stages}
        self.unfreezings: list[tuple[int, int]] = []
        self.checks, self.checked = 0, 0
        self._freeze(freezing.depth)
        self._hashes = self._hash()

    def advance(self, epoch: int, scores: Sequence[float]) -> list[str]:
        """Move to an epoch about to start and unfreeze the stages that are due.

        Returns:
            The names of the stages unfrozen now.

        Raises:
            FrozenChangedError: A frozen tensor changed since the last check.
        """
        last_unfreeze = self.unfreezings[-1][0] if self.unfreezings else -1
        due = self.freezing.frozen_at(epoch, self.epochs, self.frozen, last_unfreeze, scores)
        if due >= self.frozen:
            return []
        self.verify()
        unfrozen = [stage.name for stage in self.stages[due : self.frozen]]
        self._freeze(due)
        self._hashes = self._hash()
        self.unfreezings.append((epoch, due))
        return unfrozen

    def train(self) -> None:
        """Put the model into training mode, and its frozen stages into eval mode."""
        self.model.train()
        frozen = self.frozen_names()
        for stage in self.stages:
            for module in self._modules[stage.name].values():
                if stage.name in frozen:
                    module.eval()
                elif stage.backbone and self.freezing.batch_norm == "frozen":
                    for child in module.modules():
                        if isinstance(child, _BatchNorm):
                            child.eval()

    def lasting(self, epoch: int) -> int:
        """Return for how many epochs, this one included, the stages that are frozen now stay so."""
        return self.freezing.lasting(epoch, self.epochs, self.frozen)

    def digest(self, count: int) -> str:
        """Return a digest of all tensors of the first `count` stages, which must be frozen."""
        names = {stage.name for stage in self.stages[:count]}
        return hashing.key_of({name: value for name, value in self._hashes.items() if self.stage_of[name] in names})

    def digest_of_all(self) -> str:
        """Return a digest of all tensors of the model."""
        tensors = named_tensors(self.model)
        return hashing.key_of({n: self._hashes.get(n) or hashing.tensor_digest(value) for n, value in tensors.items()})

    def frozen_names(self) -> set[str]:
        """Return the names of the stages that are frozen now."""
        return {stage.name for stage in self.stages[: self.frozen]} | set(self.freezing.always)

    def frozen_stages(self) -> dict[str, list[str]]:
        """Return for each frozen stage the names of its tensors, by a hash of their values."""
        own: dict[str, dict[str, str]] = {}
        for name, value in self._hashes.items():
            own.setdefault(self.stage_of[name], {})[name] = value
        return {hashing.key_of(hashes): list(hashes) for hashes in own.values()}

    def in_training(self, count: int) -> list[str]:
        """Return the names of the modules of the first `count` stages that are in training mode."""
        return [
            ".".join(filter(None, (prefix, name)))
            for stage in self.stages[:count]
            for prefix, module in self._modules[stage.name].items()
            for name, child in module.named_modules()
            if child.training
        ]

    def verify(self, beyond: int = 0) -> None:
        """Compare frozen tensors with their hashes.

        Args:
            beyond: Number of stages from the input to leave out, because they were not run since the last check.

        Raises:
            FrozenChangedError: A tensor differs; the message names it.
        """
        now = self._hash({stage.name for stage in self.stages[:beyond]})
        changed = [name for name, value in now.items() if self._hashes[name] != value]
        if changed:
            raise FrozenChangedError(
                f"frozen tensors must not change; {changed[0]} did ({len(changed)} of {len(self._hashes)} in all)"
            )
        if now:
            self.checks, self.checked = self.checks + 1, max(self.checked, len(now))

    @property
    def first_unfreeze(self) -> int | None:
        """The least number of epochs before the first unfreezing; None if nothing ever unfreezes."""
        return self.freezing.first_unfreeze(self.epochs)

    def learns(self) -> bool:
        """Return True if any parameter is trained now."""
        return any(parameter.requires_grad for parameter in self.model.parameters())

    def will_learn(self) -> bool:
        """Return True if any parameter is trained now or can still be unfrozen."""
        can_unfreeze = self.frozen > 0 and self.first_unfreeze is not None
        return can_unfreeze or self.learns()

    def state(self) -> dict:
        """Return the state that `restore` needs, as JSON."""
        checks = {"checks": self.checks, "checked": self.checked}
        return {"frozen": self.frozen, "unfreezings": self.unfreezings, "hashes": self._hashes, **checks}

    def restore(self, state: dict) -> None:
        """Restore a `state`, once the model's tensors have been loaded.

        Raises:
            FrozenChangedError: The loaded tensors are not those that were saved.
        """
        self.unfreezings = [(epoch, frozen) for epoch, frozen in state["unfreezings"]]
        self._freeze(state["frozen"])
        self._hashes = state["hashes"]
        self.checks, self.checked = state.get("checks", 0), state.get("checked", 0)
        self.verify()

    def _freeze(self, count: int) -> None:
        self.frozen = count
        frozen = self.frozen_names()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.stage_of[name] not in frozen)

    def _hash(self, left_out: Iterable[str] = ()) -> dict[str, str]:
        frozen = self.frozen_names() - set(left_out)
        tensors = named_tensors(self.model)
        return {name: hashing.tensor_digest(value) for name, value in tensors.items() if self.stage_of[name] in frozen}
