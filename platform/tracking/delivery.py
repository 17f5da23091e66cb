"""Background thread that delivers a study's event log to MLflow, in batches of a few seconds.

The search neither waits for MLflow nor fails with it. Events are on the disk already, so nothing is lost while MLflow
is unreachable: a file beside the event log holds how many events have arrived, and this or a later process continues
there, in order. Events that are delivered twice are recorded once.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from platform.storage import atomic
from platform.study.event_log import Event
from platform.study.metadata import StudyFacts
from platform.study.request import DELIVERED, delivered_events
from platform.study.trials import OF_A_TRIAL, StudyListener, Trial
from platform.tracking.mlflow_recorder import OF_THE_STUDY, MlflowRecorder, is_refusal
from platform.tracking.mlflow_store import set_environment

PACE_S = 3.0  # seconds of a batch; each call to MLflow costs training time
PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0  # seconds before the second try, and the maximum


class Delivery(StudyListener):
    """Deliver an event log as it grows.

    Attributes:
        recorder: Writes to MLflow.
        last_error: Why events have not arrived: a refusal, or else that MLflow cannot be reached now; "" if all did.
        refused: Events that MLflow rejected and will always reject.
    """

    def __init__(
        self, study: StudyFacts, events: Sequence[Event], folder: Path, sync: Callable[[], None] | None = None
    ) -> None:
        """
        Args:
            study: Facts about the study.
            events: Events of the event log, a list that grows.
            folder: Folder of the study, where the number of delivered events is stored.
            sync: Function that returns once the event log is on the disk; called before each delivery, so that MLflow
                holds nothing that a power failure removes from the event log.
        """
        set_environment()  # before Ray or this project imports MLflow, which reads its log level only then
        self.study, self.events, self.file, self.sync = study, events, folder / DELIVERED, sync
        self.recorder = MlflowRecorder(study)
        self.last_error = ""
        self.refused: list[Event] = []
        to, position = delivered_events(folder)
        self._position = position if to == study.tracking_uri else 0  # all earlier events have arrived, or were refused
        self._done = 0  # delivered events of the batch that begins there
        self._news, self._closing = threading.Event(), threading.Event()
        self._tries, self._refusal = 0, ""
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._news.set()
        self._thread.start()

    def on_event(self, event: Event, trial: Trial | None) -> None:
        """Wake the thread. Returns at once."""
        self._news.set()

    def close(self, timeout: float = 120.0) -> int:
        """Deliver the remaining events, end the thread, and return the number of events that did not reach MLflow.

        `timeout` is the number of seconds without a new try after which to stop waiting.
        """
        self._closing.set()
        self._news.set()
        before = -1
        while self._thread.is_alive() and before != self._tries:
            before = self._tries
            self._thread.join(timeout)
        if self._thread.is_alive():
            self.last_error = self.last_error or f"MLflow took longer than {timeout:g} s"
        return self.undelivered

    @property
    def undelivered(self) -> int:
        """Number of events that have not reached MLflow, including those that it refused."""
        return sum(map(len, grouped(self.events[self._position :]))) - self._done + len(self.refused)

    def _run(self) -> None:
        """Run the thread. An exception ends it; what it has not delivered is counted and kept for the next process."""
        try:
            self._deliver_all()
        except Exception as error:
            self.last_error = f"{type(error).__name__}: {error}"

    def _deliver_all(self) -> None:
        self.recorder.learn(self.events[: self._position])
        while True:
            self._news.wait()
            self._closing.wait(PACE_S)
            self._news.clear()
            last = self._closing.is_set()
            end = len(self.events)
            if not self._batch(self.events[self._position : end]):
                return
            if end > self._position:
                self._position, self._done = end, 0
                self._save_position()
            if last and end == len(self.events):
                return

    def _batch(self, events: Sequence[Event]) -> bool:
        """Deliver events in order. Returns False if one cannot be delivered and the study is over."""
        self.recorder.learn(events)
        for group in grouped(events):
            pause = PAUSE_S
            while not self._deliver(group):
                if self._closing.is_set():
                    return False
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            self._done += len(group)
        return True

    def _deliver(self, group: Sequence[Event]) -> bool:
        """Try to deliver a group. Returns True if MLflow accepted or refused it, False to try again."""
        self._tries += 1
        try:
            if self.sync:
                self.sync()
            self.recorder.deliver(group)
        except Exception as error:  # MLflow raises exceptions of all kinds
            reason = f"{group[0].kind}: {type(error).__name__}: {error}"
            if not is_refusal(error):
                self.last_error = reason
                return False
            if len(group) > 1:  # find the one that is refused
                return all(self._deliver([event]) for event in group)
            self.refused += [event for event in group if event not in self.refused]
            self._refusal = self._refusal or reason
        self.last_error = self._refusal
        return True

    def _save_position(self) -> None:
        """Store the number of delivered events, up to the first refused one, which the next process tries again."""
        arrived = min([self._position, *map(self.events.index, self.refused)])
        with suppress(OSError):  # for example, a full disk; the next process then delivers more events again
            atomic.write_json(self.file, {"events": arrived, "to": self.study.tracking_uri})


def grouped(events: Sequence[Event]) -> list[list[Event]]:
    """Group events so that each group needs one call: those of a trial up to the next event of the whole study.

    Events that are not recorded in MLflow are left out.
    """
    groups: list[list[Event]] = []
    of_trial: dict[str, list[Event]] = {}
    for event in events:
        if event.kind not in OF_A_TRIAL:
            if event.kind in OF_THE_STUDY:
                groups.append([event])
                of_trial = {}
        elif group := of_trial.get(event.data["trial_id"]):
            group.append(event)
        else:
            of_trial[event.data["trial_id"]] = group = [event]
            groups.append(group)
    return groups
