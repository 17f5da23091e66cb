"""Reporters of metrics and checkpoints: to Ray Tune, or to a folder for a stage that is trained ahead of the trials."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from platform.storage import atomic, checkpoints
from platform.storage.checkpoints import Checkpoints

BEST, HISTORY = "best", "history.json"
# Keys of a Ray result: number of the epoch, whether it is the trial's last, notes, epochs before the first unfreezing.
EPOCH, LAST, NOTES, FIRST_UNFREEZE = "epoch", "last", "notes", "first_unfreeze"
RESUMED = "resumed"  # key of a note


@dataclass(frozen=True)
class Epoch:
    """Report of one epoch.

    Attributes:
        number: Number of the epoch, from 1.
        metrics: Metrics by name.
        best: True if no earlier epoch was better.
        last: True if the trial ends with this epoch.
        first_unfreeze: Epochs that the trial trains before its first unfreezing, None if it has none.
        notes: Sentences by subject.
    """

    number: int
    metrics: dict[str, float]
    best: bool
    last: bool
    first_unfreeze: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


class Reporter(Protocol):
    """Interface through which the training loop reports epochs and restores a checkpoint."""

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        """Return `load` of the newest checkpoint, or None if there is no checkpoint."""

    def report(self, epoch: Epoch, save: Callable[[Path], None]) -> None:
        """Report an epoch and keep its checkpoint, which `save` writes into a folder."""


class ToRay:
    """Keeps a trial's checkpoints in its folder and reports its metrics to its Ray Tune session."""

    def __init__(self, folder: Path, known: int, remote: str = "") -> None:
        """Open the trial's folder; `known` is the number of its epochs that the study has recorded.

        `remote` is the address to which checkpoints are sent for other nodes, "" where all nodes see the folder.
        """
        self.checkpoints, self.known = Checkpoints(folder, remote), known
        self.note = ""

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        newest = self.checkpoints.newest(self.known)
        if self.checkpoints.notes:
            where = f"resumed from {newest.name}" if newest else "began anew"
            self.note = f"{'; '.join(self.checkpoints.notes)}; {where}"
        return load(newest) if newest else None

    def report(self, epoch: Epoch, save: Callable[[Path], None]) -> None:
        self.checkpoints.add(epoch.number, epoch.best, save)
        notes = {**epoch.notes, **({RESUMED: self.note} if self.note else {})}
        tune.report(
            {**epoch.metrics, EPOCH: epoch.number, LAST: epoch.last, FIRST_UNFREEZE: epoch.first_unfreeze, NOTES: notes}
        )


class ToFolder:
    """Keeps the newest checkpoints (epoch-N), the best epoch's model (best) and the metrics so far (history.json)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = Checkpoints(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        newest = self.checkpoints.newest(len(self.history()))
        return load(newest) if newest else None

    def report(self, epoch: Epoch, save: Callable[[Path], None]) -> None:
        written = self.checkpoints.add(epoch.number, epoch.best, save)
        if epoch.best:
            checkpoints.copy_model(written, self.folder / BEST)
        atomic.write_json(self.folder / HISTORY, [*self.history()[: epoch.number - 1], epoch.metrics])

    def history(self) -> list[dict[str, float]]:
        """Return the metrics of each epoch so far."""
        path = self.folder / HISTORY
        return json.loads(path.read_text()) if path.exists() else []
