"""Curves of a study, as TensorBoard reads them and as its event log has them."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from platform.study.event_log import read
from platform.study.trials import trials_of
from platform.tracking.tensorboard import run_name


def curves(folder: Path, metric: str = "val/score") -> dict[str, list[tuple[int, float]]]:
    """Return the curve of a metric that TensorBoard shows, by run."""
    runs = EventMultiplexer(size_guidance={"scalars": 0}).AddRunsFromDirectory(str(folder)).Reload()
    found = {}
    for run in runs.Runs():
        shown = runs.GetAccumulator(run)
        if metric in shown.Tags()["scalars"]:
            found[Path(run).name] = [(e.step, pytest.approx(e.value, rel=1e-6)) for e in shown.Scalars(metric)]
    return found


def recorded_curves(folder: Path, metric: str = "val/score") -> dict[str, list[tuple[int, float]]]:
    """Return the curve of a metric in the event log, by run."""
    trials = trials_of(read(folder / "journal.log")).values()
    return {run_name(t): list(enumerate(t.scores(metric), start=1)) for t in trials if t.metrics}
