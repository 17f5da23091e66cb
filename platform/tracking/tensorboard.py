"""A study's curves for TensorBoard: `tensorboard --logdir studies/NAME`, or the folder of all studies.

A listener of the event log's events. Each trial is a run of its own, with its configuration for the HParams tab. When a
process begins to work on a study, all is written anew from the event log, into files of the same names: nothing is there
twice and nothing is missing, here or in a bucket. A bucket gets the files with all others when the process ends.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from platform.study.event_log import Event
from platform.study.trials import StudyListener, Trial, TrialTable

FOLDER = "tensorboard"  # of a study
ENDED = {"finished": "STATUS_SUCCESS", "pruned": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}
LONGEST = 80  # characters of a run's name


class TensorBoardLog(StudyListener):
    """Writes what happens, each epoch at once, without a thread.

    Attributes:
        given_up: Why nothing is written any more, "" if it is.
    """

    def __init__(self, folder: Path, trial_table: TrialTable, tell: Callable[[str], None] = print) -> None:
        """Writes what has happened so far.

        Args:
            folder: The study's.
            trial_table: Its trials.
            tell: Told, once, why nothing is written any more.
        """
        self.folder, self.trial_table, self.tell = folder / FOLDER, trial_table, tell
        self.given_up = ""
        self._files: dict[str, BinaryIO] = {}
        self._begun: dict[str, float] = {}  # when a trial was proposed
        self._tested: set[str] = set()  # a process that was killed may have told of a best trial before
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._give_up(error)
        for event in trial_table.events:
            self.on_event(event, trial_table.trial_of(event))

    def on_event(self, event: Event, trial: Trial | None) -> None:
        """Write an event. After the first one that cannot be written, nothing is written any more."""
        if self.given_up:
            return
        try:
            super().on_event(event, trial)
        except OSError as error:  # for example of a full disk, which is no reason to end the study
            self._give_up(error)

    def on_trial_add(self, trial: Trial, event: Event) -> None:
        self._begun[trial.id] = event.time_ms / 1000

    def on_report(self, trial: Trial, event: Event) -> None:
        self._scalars(trial, event, event.data["metrics"], event.data["step"])

    def on_trial_end(self, trial: Trial, event: Event) -> None:
        if event.data["status"] in ENDED:
            self._write(trial, event, _session_end(ENDED[event.data["status"]], event.time_ms / 1000), 0)
            self._close(trial)

    def on_best(self, trial: Trial, event: Event) -> None:
        if trial.id not in self._tested:
            self._tested.add(trial.id)
            self._scalars(trial, event, event.data["metrics"], trial.epochs)
            self._close(trial)

    def on_close(self, event: Event) -> None:
        for trial_id in list(self._files):
            self._close(self.trial_table.trials[trial_id])

    def _scalars(self, trial: Trial, event: Event, metrics: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=key, simple_value=value) for key, value in metrics.items()]
        self._write(trial, event, Summary(value=values), step)

    def _write(self, trial: Trial, event: Event, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Record

        file = self._file(trial)
        _append(file, Record(wall_time=event.time_ms / 1000, step=step, summary=summary))
        file.flush()

    def _file(self, trial: Trial) -> BinaryIO:
        """A trial's file, begun with its configuration. A trial that ended is gone on with at the end of its file."""
        if trial.id not in self._files:
            from tensorboard.compat.proto.event_pb2 import Event as Record

            begun = self._begun[trial.id]
            place = self.folder / run_name(trial) / f"events.out.tfevents.{int(begun):010d}.study"
            place.parent.mkdir(parents=True, exist_ok=True)
            is_new = not place.exists()
            self._files[trial.id] = file = place.open("ab")
            if is_new:
                _append(file, Record(wall_time=begun, file_version="brain.Event:2"))
                _append(file, Record(wall_time=begun, summary=_session_start(trial, run_name(trial), begun)))
        return self._files[trial.id]

    def _close(self, trial: Trial) -> None:
        if file := self._files.pop(trial.id, None):
            file.close()

    def _give_up(self, error: OSError) -> None:
        self.given_up = f"No more is written for TensorBoard: {error.filename or self.folder}: {error.strerror}"
        self.tell(self.given_up)


def run_name(trial: Trial) -> str:
    """What TensorBoard calls a trial: with the baseline that it is. What repeats one says so by its id."""
    told = f"{trial.id} {trial.baseline}" if trial.baseline else trial.id
    return re.sub(r"[^\w .,%+=-]", "_", told)[:LONGEST].strip(" .")


def _append(file: BinaryIO, record: Any) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    RecordWriter(file).write(record.SerializeToString())


def _session_start(trial: Trial, name: str, when: float) -> Any:
    """A configuration as the HParams tab reads it. What TensorBoard itself writes it with wants TensorFlow."""
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    info = plugin_data_pb2.SessionStartInfo(group_name=name, start_time_secs=when)
    for key, value in trial.config.items():
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = str(value)
    content = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return _about_parameters(metadata.SESSION_START_INFO_TAG, content)


def _session_end(status: str, when: float) -> Any:
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    info = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value(status), end_time_secs=when)
    return _about_parameters(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=info))


def _about_parameters(tag: str, content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    told = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=told, tensor=metadata.NULL_TENSOR)])
