"""What is recorded of a study, and when: Ray's events become records for MLflow.

The driver alone talks to MLflow, from one background thread: workers need neither its address nor its password, and a
slow or dead server never stops the search. Every event becomes a `Record`, put on a queue; `Recorder.deliver` sends it.
What failed is kept in `Tracker.undelivered`.
"""

import contextlib
import numbers
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from platform.recorder import TAG_CHARACTERS, Record, Recorder, StudyFacts, set_environment
from platform.reporters import NOTES

PATIENCE = 3  # failures in a row after which records go straight to `undelivered` ...
PAUSE_S = 30.0  # ... but for one attempt each PAUSE_S seconds, in case the server is back

ERROR_LINES = 20


def trial_name(trial: Any) -> str:
    """Names a trial by Ray's running number within the study, which survives a resume: "trial 003"."""
    number = trial.experiment_tag.split("_")[0]
    return f"trial {int(number):03d}" if number.isdigit() else f"trial {trial.trial_id}"


def baseline_of(trial: Any) -> str:
    """The name of the baseline that a Ray trial is, "" for none."""
    return trial.config["context"].get("baseline", "")


def our_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The task's metrics in a Ray result, without what Ray adds (pid, timestamps, config)."""
    return {
        # A metric named after a class can hold anything, e.g. "val/ap/H&M"; one such key would fail the whole batch.
        re.sub(r"[^\w\-. :/]", "_", key): float(value)
        for key, value in result.items()
        if "/" in key and not key.startswith("config/")
        if isinstance(value, numbers.Real) and not isinstance(value, bool)
    }


class Tracker(Callback):
    """Ray Tune callback that records a study in MLflow, without ever blocking or failing the search.

    Attributes:
        undelivered: Records that did not reach MLflow, in order.
        last_error: Why the latest of them did not, or "".
    """

    def __init__(self, study: StudyFacts, status_of: Callable[[Any, bool], str]) -> None:
        """
        Args:
            study: What is known before the first trial.
            status_of: (Ray's trial, whether it failed) → how it ended, a key of RUN_STATUS.
        """
        self.study, self.status_of = study, status_of
        # Here already: Ray imports MLflow as it counts callbacks, and MLflow reads its log level once, when imported.
        set_environment()
        self._forget()

    def _forget(self) -> None:
        self.undelivered: list[Record] = []
        self.last_error = ""
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._running: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps its callbacks for Tuner.restore; a thread and a queue cannot go with them."""
        return {"study": self.study, "status_of": self.status_of}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    # What Ray calls. Each turns an event into a record and returns at once.

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        self._put("open")

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running.add(trial.trial_id)
        params = {key: value for key, value in trial.config.items() if key != "context"}  # context: our bookkeeping
        self._put("trial_start", trial_id=trial.trial_id, name=trial_name(trial), params=params)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        step, notes = result["training_iteration"], dict(result.get(NOTES) or {})
        self._put("epoch", trial_id=trial.trial_id, step=step, metrics=our_metrics(result), notes=notes)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end_trial(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end_trial(trial, failed=True)

    def _end_trial(self, trial: Any, failed: bool) -> None:
        if trial.trial_id not in self._running:  # stopped before it started: there is no run to end
            return
        self._running.discard(trial.trial_id)
        tags = {"status": self.status_of(trial, failed)}
        if failed:
            tags["error"] = _error_tail(trial)
        self._put("trial_end", trial_id=trial.trial_id, tags=tags)

    # What the engine calls after the search.

    def log_best(
        self,
        trial_id: str,
        metrics: Mapping[str, float],
        model_dir: Path | None = None,
        figures: Mapping[str, Any] | None = None,
        files: Sequence[Path] = (),
        note: str = "",
    ) -> None:
        """Records the best trial: test metrics on its run and the parent, figures and the model on its run.

        Args:
            trial_id: The trial that won.
            metrics: Its metrics on the test split, e.g. {"test/map": 0.61}.
            model_dir: Folder with model.json and the weights, as `trainables.<task>.load` reads it.
            figures: Name → matplotlib figure or picture file, shown under "figures/".
            files: Files and folders kept under "files/".
            note: Markdown, shown as the parent's description.
        """
        self._put(
            "best",
            trial_id=trial_id,
            metrics=our_metrics(metrics),
            model_dir=model_dir,
            figures=dict(figures or {}),
            files=list(files),
            note=note,
        )

    def close(self, status: str = "FINISHED", timeout: float = 120.0) -> int:
        """Ends the study's run, waits for what is queued and says what was lost.

        Args:
            status: "FINISHED", "FAILED" if no trial succeeded, "KILLED" if the search was interrupted.
            timeout: Seconds after which to stop waiting; what is still queued then counts as undelivered.

        Returns:
            How many records did not reach MLflow; `undelivered` holds them and `last_error` the reason.
        """
        for trial_id in sorted(self._running):
            self._put("trial_end", trial_id=trial_id, tags={"status": "interrupted"})
        self._running.clear()
        self._put("close", status=status)
        assert self._thread is not None  # _put started it
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.last_error = self.last_error or f"MLflow took longer than {timeout:g} s"
            self.undelivered += self._drain()
        return len(self.undelivered)

    def _drain(self) -> list[Record]:
        left = []
        with contextlib.suppress(queue.Empty):
            while True:
                record = self._queue.get_nowait()
                if record is not None:
                    left.append(record)
        self._queue.put(None)  # the thread, once its call returns, still has to be told to end
        return left

    def _put(self, kind: str, **data: Any) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver_all, name="mlflow", daemon=True)
            self._thread.start()
        self._queue.put(Record(kind, int(time.time() * 1000), data))

    def _deliver_all(self) -> None:
        """The thread's whole life. Nothing may escape from it: the search does not wait for MLflow, nor die of it."""
        recorder = Recorder(self.study)
        failures, retry_at = 0, 0.0
        while (record := self._queue.get()) is not None:
            if failures >= PATIENCE and time.monotonic() < retry_at:
                self.undelivered.append(record)
                continue
            try:
                recorder.deliver(record)
                failures = 0
            except Exception as error:
                failures += 1
                retry_at = time.monotonic() + PAUSE_S
                self.undelivered.append(record)
                self.last_error = f"{record.kind}: {type(error).__name__}: {error}"
        self._deliver_again(recorder)

    def _deliver_again(self, recorder: Recorder) -> None:
        """What was lost gets another chance at the end, in order; at the first failure the server counts as gone."""
        left, self.undelivered = self.undelivered, []
        for number, record in enumerate(left):
            try:
                recorder.deliver(record)
            except Exception as error:
                self.last_error = f"{record.kind}: {type(error).__name__}: {error}"
                self.undelivered = left[number:]
                return


def _error_tail(trial: Any) -> str:
    """The last lines of what a failed trial raised."""
    text = Path(trial.error_file).read_text(errors="replace") if trial.error_file else "no error file was written"
    return "\n".join(text.rstrip().splitlines()[-ERROR_LINES:])[-TAG_CHARACTERS:]
