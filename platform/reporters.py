"""Where an epoch's metrics and checkpoint go: to Ray Tune, or to a folder where a stage is trained ahead of a trial."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from platform import checkpoints

BEST, HISTORY = "best", "history.json"
LAST, NOTES = "last", "notes"  # keys of a result: whether the trial has nothing left to do; what is to be said of it


@dataclass(frozen=True)
class Epoch:
    """What is to be told of an epoch.

    Attributes:
        metrics: By name.
        best: Whether it is the best so far.
        last: Whether the trial has nothing left to do.
        notes: In words, by subject.
    """

    metrics: dict[str, float]
    best: bool
    last: bool
    notes: Mapping[str, str] = field(default_factory=dict)


class Reporter(Protocol):
    """What the training loop tells after each epoch, and where it goes on from."""

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        """Hands the newest checkpoint to `load` and returns what that returns, or None if there is no checkpoint."""

    def report(self, epoch: Epoch, save: Callable[[Path], None]) -> None:
        """Takes what is to be told of an epoch, and its checkpoint, which `save` writes into a folder."""


class ToRay:
    """Reports to the trial's Ray Tune session; LAST tells a trial that is done from one that was stopped."""

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            return load(Path(folder))

    def report(self, epoch: Epoch, save: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({**epoch.metrics, LAST: epoch.last, NOTES: dict(epoch.notes)}, checkpoint=checkpoint)


class ToFolder:
    """Keeps the newest checkpoint (epoch-N), the best epoch's model (best) and the metrics so far (history.json)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        checkpoints = self._checkpoints()
        return load(checkpoints[-1]) if checkpoints else None

    def report(self, epoch: Epoch, save: Callable[[Path], None]) -> None:
        before = self._checkpoints()
        number = _number(before[-1]) + 1 if before else 1
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        save(partial)
        if epoch.best:
            checkpoints.export(partial, self.folder / BEST)
        # The history first: a checkpoint without its epoch's line would leave a gap that no one fills.
        history = [*self.history()[: number - 1], epoch.metrics]
        (self.folder / f".{HISTORY}").write_text(json.dumps(history))
        (self.folder / f".{HISTORY}").replace(self.folder / HISTORY)
        partial.rename(self.folder / f"epoch-{number}")
        for old in before:
            shutil.rmtree(old)

    def history(self) -> list[dict[str, float]]:
        """The metrics of each epoch so far."""
        path = self.folder / HISTORY
        return json.loads(path.read_text()) if path.exists() else []

    def forget_checkpoints(self) -> None:
        """Deletes what only going on needs, once nothing is left to do."""
        for folder in [*self._checkpoints(), *self.folder.glob(".partial-*")]:
            shutil.rmtree(folder)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*"), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name.partition("-")[2])
