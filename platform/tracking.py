"""What is recorded of a study, and when: Ray's events become records for MLflow.

The driver alone talks to MLflow: workers need neither its address nor its password.
"""

import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from platform.delivery import Delivery
from platform.recorder import TAG_CHARACTERS, StudyFacts, set_environment
from platform.reporters import NOTES

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
        delivery: How the records get there, and what did not.
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
        self._begin()

    def _begin(self) -> None:
        self.delivery = Delivery(self.study)
        self._running: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps its callbacks for Tuner.restore; a thread and a queue cannot go with them."""
        return {"study": self.study, "status_of": self.status_of}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    # What Ray calls. Each turns an event into a record and returns at once.

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        self.delivery.put("open")

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running.add(trial.trial_id)
        params = {key: value for key, value in trial.config.items() if key != "context"}  # context: our bookkeeping
        self.delivery.put("trial_start", trial_id=trial.trial_id, name=trial_name(trial), params=params)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        step, notes = result["training_iteration"], dict(result.get(NOTES) or {})
        self.delivery.put("epoch", trial_id=trial.trial_id, step=step, metrics=our_metrics(result), notes=notes)

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
        self.delivery.put("trial_end", trial_id=trial.trial_id, tags=tags)

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
        self.delivery.put(
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
            timeout: Seconds without any progress after which to stop waiting.

        Returns:
            How many records did not reach MLflow; `delivery` holds them and the reason.
        """
        for trial_id in sorted(self._running):
            self.delivery.put("trial_end", trial_id=trial_id, tags={"status": "interrupted"})
        self._running.clear()
        self.delivery.put("close", status=status)
        return self.delivery.close(timeout)


def _error_tail(trial: Any) -> str:
    """The last lines of what a failed trial raised."""
    text = Path(trial.error_file).read_text(errors="replace") if trial.error_file else "no error file was written"
    return "\n".join(text.rstrip().splitlines()[-ERROR_LINES:])[-TAG_CHARACTERS:]
