"""Curves of a study for TensorBoard: `tensorboard --logdir studies/NAME`, or the folder of all studies.

Each trial is a run of its own, with its config for the HParams tab. When a process starts to work on a study, all runs
are written anew from the event log, so that nothing is missing or doubled, on this machine or in a bucket.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform.study.event_log import Event
from platform.study.trials import StudyListener, Trial, TrialTable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"  # of a study
SUFFIX = ".study"  # of a file that is complete
LONGEST = 80  # characters of a run's name


class TensorBoardListener(StudyListener):
    """Listener that writes the reports of each trial as they arrive.

    Attributes:
        given_up: Reason why nothing is written any more, "" if there is none.
    """

    def __init__(self, folder: Path, trial_table: TrialTable, warn: Callable[[str], None] = print) -> None:
        """Write everything that has happened so far.

        If nothing can be written any more, `warn` is called once with the reason.
        """
        self.folder, self.warn, self.given_up = folder / FOLDER, warn, ""
        self._writers: dict[str, SummaryWriter] = {}
        self._ended: Any = None  # the summary that ends a run in the HParams tab, the same for all
        self._tested: set[str] = set()  # a process that was killed may have recorded a best trial before
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._give_up(error)
        for event in trial_table.events:
            self.on_event(event, trial_table.trial_of(event))

    def on_report(self, trial: Trial, event: Event) -> None:
        self._write(trial, event, event.data["metrics"], event.data["step"])

    def on_trial_end(self, trial: Trial, event: Event) -> None:
        if trial.is_done:
            self._close(trial.id, succeeded=trial.status != "failed")

    def on_best(self, trial: Trial, event: Event) -> None:
        if trial.id not in self._tested:
            self._tested.add(trial.id)
            self._write(trial, event, event.data["metrics"], trial.epochs)
            self._close(trial.id)

    def on_close(self, event: Event) -> None:
        for trial_id in list(self._writers):
            self._close(trial_id)

    def _write(self, trial: Trial, event: Event, metrics: Mapping[str, float], step: int) -> None:
        if self.given_up:
            return
        try:
            writer = self._writer(trial)
            for key, value in metrics.items():
                writer.add_scalar(key, value, step, walltime=event.time_ms / 1000)
            writer.flush()
        except OSError as error:  # the disk is full, for example: no reason to end the study
            self._give_up(error)

    def _writer(self, trial: Trial) -> "SummaryWriter":
        """Return the open writer of a trial; a new one begins with the trial's config."""
        if trial.id not in self._writers:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams

            place = self.folder / run_name(trial)
            is_new = not place.exists()
            self._writers[trial.id] = writer = SummaryWriter(place)
            if is_new:
                plain = {k: v if isinstance(v, bool | int | float) else str(v) for k, v in trial.config.items()}
                experiment, started, self._ended = hparams(plain, {})
                for summary in (experiment, started):
                    writer._get_file_writer().add_summary(summary)  # add_hparams would open a run of its own
        return self._writers[trial.id]

    def _close(self, trial_id: str, succeeded: bool = False) -> None:
        """Close a trial's file under a name that depends on nothing: a bucket then holds no second file of a run."""
        if writer := self._writers.pop(trial_id, None):
            try:
                if succeeded:
                    writer._get_file_writer().add_summary(self._ended)
                folder = Path(writer.log_dir)
                writer.close()
                [open_file] = [file for file in folder.iterdir() if not file.name.endswith(SUFFIX)]
                number = sum(file.name.endswith(SUFFIX) for file in folder.iterdir())
                open_file.rename(folder / f"events.out.tfevents.{number}{SUFFIX}")
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.given_up = f"Nothing more is written for TensorBoard: {error.filename or self.folder}: {error.strerror}"
        self.warn(self.given_up)


def run_name(trial: Trial) -> str:
    """Return what TensorBoard calls a trial: its id, and the name of the baseline that it is."""
    name = f"{trial.id} {trial.baseline}" if trial.baseline else trial.id
    return re.sub(r"[^\w .,%+=-]", "_", name)[:LONGEST].strip(" .")
