"""Brings a study's event log to MLflow, from a background thread, a few seconds' worth at a time.

The search never waits for MLflow, nor dies of it. The event log is on the disk already, so that nothing is lost while
MLflow is away: a file beside it holds how much of it has arrived, and delivery goes on from there, in this process or
a later one, in order. What arrives twice is recorded once.
"""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from platform.study.event_log import Event
from platform.study.metadata import StudyFacts
from platform.study.request import DELIVERED, delivered_events
from platform.study.trials import OF_A_TRIAL, StudyListener, Trial
from platform.tracking.mlflow_recorder import OF_THE_STUDY, MlflowRecorder, is_refusal
from platform.tracking.mlflow_store import set_environment

PACE_S = 3.0  # what comes within it goes together: each call costs time of the cores that train
PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0  # before what failed is tried again: the first time, and at most


class Delivery(StudyListener):
    """The thread that follows an event log.

    Attributes:
        recorder: Talks to MLflow.
        last_error: Why the latest event that MLflow did not take was not taken, or "".
        refused: Events that MLflow will never take.
    """

    def __init__(
        self, study: StudyFacts, events: Sequence[Event], folder: Path, sync: Callable[[], None] | None = None
    ) -> None:
        """
        Args:
            study: Whose.
            events: The event log's, a list that grows.
            folder: Where is kept how much of it has arrived.
            sync: Called before anything is sent: waits until the disk holds it. MLflow must know nothing that a power
                failure takes from the event log.
        """
        set_environment()  # here already: MLflow reads its log level once, when Ray or we import it first
        self.study, self.events, self.file, self.sync = study, events, folder / DELIVERED, sync
        self.recorder = MlflowRecorder(study)
        self.last_error = ""
        self.refused: list[Event] = []
        to, position = delivered_events(folder)
        self._position = position if to == study.tracking_uri else 0  # all before have arrived
        self._done = 0  # events of the batch that begins there
        self._news, self._hurry = threading.Event(), threading.Event()
        self._attempts = 0
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._news.set()
        self._thread.start()

    def on_event(self, event: Event, trial: Trial | None) -> None:
        """Wake the thread. Returns at once."""
        self._news.set()

    def close(self, timeout: float = 120.0) -> int:
        """Waits for what is left, as long as it moves on.

        Args:
            timeout: Seconds without an attempt to deliver anything after which to stop waiting.

        Returns:
            How many events did not reach MLflow.
        """
        self._hurry.set()
        self._news.set()
        before = -1
        while self._thread.is_alive() and before != self._attempts:
            before = self._attempts
            self._thread.join(timeout)
        if self._thread.is_alive():
            self.last_error = self.last_error or f"MLflow took longer than {timeout:g} s"
        return self.undelivered

    @property
    def undelivered(self) -> int:
        """How many events have not arrived, or never will."""
        return _count(grouped(self.events[self._position :])) - self._done + len(self.refused)

    def _run(self) -> None:
        """The thread's whole life. Nothing may escape from it."""
        self.recorder.learn(self.events[: self._position])
        while True:
            self._news.wait()
            self._hurry.wait(PACE_S)
            self._news.clear()
            last = self._hurry.is_set()
            end = len(self.events)
            if not self._batch(self.events[self._position : end]):
                return
            if end > self._position:
                self._position, self._done = end, 0
                self._note()
            if last and end == len(self.events):
                return

    def _batch(self, events: Sequence[Event]) -> bool:
        """Delivers events; stops at one that does not arrive only if the study is over."""
        self.recorder.learn(events)
        for group in grouped(events):
            pause = PAUSE_S
            while not self._deliver(group):
                if self._hurry.is_set():
                    return False
                self._hurry.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            self._done += len(group)
        return True

    def _deliver(self, group: Sequence[Event]) -> bool:
        """Whether a group is done with."""
        self._attempts += 1
        try:
            if self.sync:
                self.sync()
            self.recorder.deliver(group)
        except Exception as error:  # MLflow raises of all kinds
            self.last_error = f"{group[0].kind}: {type(error).__name__}: {error}"
            if not is_refusal(error):
                return False
            if len(group) > 1:  # one of them is to blame
                return all(self._deliver([event]) for event in group)
            self.refused += [event for event in group if event not in self.refused]
        return True

    def _note(self) -> None:
        """Keeps how much has arrived: what MLflow refused has not, and goes once more the next time."""
        arrived = min([self._position, *map(self.events.index, self.refused)])
        try:
            partial = self.file.with_suffix(".partial")
            partial.write_text(json.dumps({"events": arrived, "to": self.study.tracking_uri}))
            partial.replace(self.file)
        except OSError:  # the disk is full, say: it goes once more the next time
            pass


def _count(groups: Sequence[Sequence[Event]]) -> int:
    return sum(map(len, groups))


def grouped(events: Sequence[Event]) -> list[list[Event]]:
    """Events of one trial together, as far as no event of the whole study lies between them; those without a call of
    their own are left out.
    """
    groups: list[list[Event]] = []
    of_trial: dict[str, list[Event]] = {}
    for event in events:
        if event.kind not in OF_A_TRIAL:
            if event.kind in OF_THE_STUDY:
                groups.append([event])
                of_trial = {}
        elif mine := of_trial.get(event.data["trial_id"]):
            mine.append(event)
        else:
            of_trial[event.data["trial_id"]] = mine = [event]
            groups.append(mine)
    return groups
