"""Batches for the training loop: frozen stages' outputs from the feature store where that is quicker, else inputs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor, nn

from platform.training.acceleration import Speed
from platform.training.devices import device
from platform.training.examples import Batch, Examples
from platform.training.feature_store import Entry, Store, StoreError, layout_of
from platform.training.freezing import Freezer
from platform.training.frozen_prefix import Prefix, chunks, longest, stack
from platform.training.reuse_cost import Costs, decide, measure

WITHOUT = "without the store"  # part of the note if the store failed


@dataclass
class ReuseSavings:
    """Totals of what the feature store saved a trial.

    Attributes:
        computed: Examples that the trial computed for the store.
        loaded: Examples that it loaded from the store.
        saved: Seconds that computing the loaded ones would have taken, less the seconds of loading and filling.
    """

    computed: int = 0
    loaded: int = 0
    saved: float = 0.0


@dataclass(frozen=True)
class _Part:
    """The open entry of a split."""

    entry: Entry
    split_index: int
    view: int | None
    costs: Costs
    row_of: np.ndarray  # by example


class ExampleFeed:
    """Source of one trial's batches.

    Attributes:
        notes: The last decision and its reason, by split.
        seconds: Seconds that preparing the current epoch took.
        savings: What the store has saved so far.
    """

    def __init__(
        self, model: nn.Module, freezer: Freezer, examples: Examples, store: Store | None, speed: Speed | None = None
    ) -> None:
        self.model, self.freezer, self.examples, self.store = model, freezer, examples, store
        self.speed = speed or Speed()
        self.notes: dict[str, str] = {}
        self.seconds, self.savings = 0.0, ReuseSavings()
        self.view: int | None = None
        self._parts: dict[str, _Part] = {}

    def prepare(self, epoch: int, lasting: int) -> None:
        """Prepare an epoch: open the stored outputs of its frozen stages, and compute the missing ones.

        The stages stay frozen for `lasting` epochs, this one included.

        Raises:
            NotFrozenError: A frozen stage is in training mode.
        """
        started, views = time.monotonic(), self.examples.views
        self.view = None if not views else epoch % views if self.freezer.frozen else epoch
        if self.freezer.learns():
            self._prepare("train", self.view, -(-lasting // max(1, views)))
        self._prepare("val", None, lasting)
        self.seconds = time.monotonic() - started

    def batch(self, split: str, indices: np.ndarray) -> Batch:
        """Return examples of a split, those of "train" in the epoch's view."""
        view = self.view if split == "train" else None
        part = self._parts.get(split)
        if part is None:
            return Batch(indices, self.examples.inputs(indices, view), 0, view)
        read = part.entry.read(part.row_of[indices], longest(self.examples, indices))
        state = {name: tensor.to(device(), non_blocking=True) for name, tensor in read.items()}
        self.savings.loaded += len(indices)
        self.savings.saved += len(indices) * (part.costs.compute - part.costs.load)
        return Batch(indices, {**state, **self.examples.beside(indices)}, part.split_index, view)

    @property
    def not_run(self) -> int:
        """Number of stages, counted from the input, that were not run in this epoch."""
        asked = ("train", "val") if self.freezer.learns() else ("val",)
        return min((self._parts[split].split_index if split in self._parts else 0) for split in asked)

    def metrics(self) -> dict[str, float]:
        """Return the savings as metrics of an epoch; none without a store."""
        if not self.store:
            return {}
        totals = {f"reuse/{name}": float(value) for name, value in asdict(self.savings).items()}
        return {**totals, "reuse/split_index": float(self.not_run), "time/fill_seconds": self.seconds}

    def close(self) -> None:
        """Close all entries, so that the store may remove them."""
        for split in list(self._parts):
            self._drop(split)

    def note(self) -> str:
        """Return the decisions and their reasons in one line."""
        if len(set(self.notes.values())) == 1:
            return next(iter(self.notes.values()))
        return "; ".join(f"{split}: {text}" for split, text in self.notes.items())

    def _prepare(self, split: str, view: int | None, uses: int) -> None:
        split_index = min(self.freezer.frozen, getattr(self.model, "max_split_index", 0))
        before = self._parts.get(split)
        if before and (before.split_index, before.view) == (split_index, view):
            return
        self._drop(split)
        if self.store is None or not split_index or not len(self.examples.indices(split)):
            self.notes[split] = "off" if self.store is None else "nothing is frozen"
            return
        prefix = Prefix(self.model, self.freezer, self.examples, split_index, split, view, self.speed)
        try:
            self.notes[split] = self._keep(prefix, split, uses, self.store)
        except StoreError as error:
            self._drop(split)
            self.notes[split] = f"computed at split index {split_index}, {WITHOUT}: {error}"

    def _keep(self, prefix: Prefix, split: str, uses: int, store: Store) -> str:
        """Open and fill the entry of a split if that saves time; return the decision as a note."""
        facts = prefix.facts()
        entry = store.find(facts)
        if entry is None and uses <= 1:
            return f"computed at split index {prefix.split_index}: seen once"
        costs = store.remember(prefix.cost_facts(), lambda: measure(prefix, store, uses))
        if "refused" in costs:
            return f"computed at split index {prefix.split_index}: {costs['refused']}"
        try:
            known = Costs(**costs)
        except TypeError as error:
            raise StoreError(f"what was measured is damaged; delete {store.root / 'measured'}") from error
        decision = decide(known, len(prefix.indices), uses, is_there=entry is not None)
        if not decision.keep:
            if entry:
                entry.close()
            return f"computed at split index {prefix.split_index}: {decision.reason}"
        indices = prefix.indices
        row_of = np.zeros(indices.max() + 1, np.int64)
        row_of[indices] = np.arange(len(indices))
        if entry is None:
            layout = layout_of(prefix.compute(indices[:1]), prefix.longest)
            entry = store.open(facts, len(indices), layout, known.compute)
        self._parts[split] = _Part(entry, prefix.split_index, prefix.view, known, row_of)
        if entry.missing():
            self._fill(prefix, entry, known, store)
        altered = f"; {len(entry.altered)} altered blocks were computed again" if entry.altered else ""
        return f"kept at split index {prefix.split_index}: {decision.reason}{altered}"

    def _fill(self, prefix: Prefix, entry: Entry, costs: Costs, store: Store) -> None:
        with contextlib.closing(_PrefixSource(prefix, store)) as source:
            rows = entry.fill(source.compute)
        self.savings.computed += rows
        self.savings.loaded -= rows  # they are loaded once more, and had to be computed once
        self.savings.saved -= rows * (costs.compute + costs.write)

    def _drop(self, split: str) -> None:
        if part := self._parts.pop(split, None):
            part.entry.close()


class _PrefixSource:
    """Computes an entry's rows from the deepest complete entry of fewer stages, or from the inputs if there is none."""

    def __init__(self, prefix: Prefix, store: Store) -> None:
        self.prefix, self.start = prefix, 0
        self.entry: Entry | None = None
        for split_index in range(prefix.split_index - 1, 0, -1):
            if entry := store.find(prefix.facts(split_index)):
                self.start, self.entry = split_index, entry
                break

    def compute(self, rows: slice) -> dict[str, Tensor]:
        parts = []
        for where in chunks(rows):
            indices, given = self.prefix.indices[where], None
            if self.entry:
                read = self.entry.read(where, longest(self.prefix.examples, indices))
                given = {name: tensor.to(device()) for name, tensor in read.items()}
            parts.append(self.prefix.compute(indices, given, self.start))
        return stack(parts)

    def close(self) -> None:
        if self.entry:
            self.entry.close()
