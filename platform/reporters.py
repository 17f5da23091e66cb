"""Where an epoch's metrics and checkpoint go: to Ray Tune, or to a folder where a stage is trained ahead of a trial."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from platform import checkpoints

BEST, HISTORY = "best", "history.json"
LAST = "last"  # key of a result: the trial has nothing left to do


class Reporter(Protocol):
    """What the training loop tells after each epoch, and where it goes on from."""

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        """Hands the newest checkpoint to `load` and returns what that returns, or None if there is no checkpoint."""

    def report(self, metrics: dict[str, float], save: Callable[[Path], None], *, best: bool, last: bool) -> None:
        """Takes an epoch's metrics and its checkpoint, which `save` writes into a folder."""


class ToRay:
    """Reports to the trial's Ray Tune session; LAST tells a trial that is done from one that was stopped."""

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            return load(Path(folder))

    def report(self, metrics: dict[str, float], save: Callable[[Path], None], *, best: bool, last: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            tune.report({**metrics, LAST: last}, checkpoint=tune.Checkpoint.from_directory(folder))


class ToFolder:
    """Keeps the newest checkpoint (epoch-N), the best epoch's model (best) and the metrics so far (history.json)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def restore(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
        checkpoints = self._checkpoints()
        return load(checkpoints[-1]) if checkpoints else None

    def report(self, metrics: dict[str, float], save: Callable[[Path], None], *, best: bool, last: bool) -> None:
        before = self._checkpoints()
        epoch = _epoch(before[-1]) + 1 if before else 1
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        save(partial)
        if best:
            checkpoints.export(partial, self.folder / BEST)
        # The history first: a checkpoint without its epoch's line would leave a gap that no one fills.
        history = [*self.history()[: epoch - 1], metrics]
        (self.folder / f".{HISTORY}").write_text(json.dumps(history))
        (self.folder / f".{HISTORY}").replace(self.folder / HISTORY)
        partial.rename(self.folder / f"epoch-{epoch}")
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
        return sorted(self.folder.glob("epoch-*"), key=_epoch)


def _epoch(folder: Path) -> int:
    return int(folder.name.partition("-")[2])
