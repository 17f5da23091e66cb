"""Brings records to MLflow from a background thread, a few seconds' worth at a time.

The search never waits for MLflow, nor dies of it: what could not be delivered is kept and told.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from platform.recorder import Record, Recorder, StudyFacts

PACE_S = 3.0  # what comes within it goes together: each call costs time of the cores that train
PATIENCE = 3  # failures in a row after which records go straight to `undelivered` ...
PAUSE_S = 30.0  # ... but for one attempt each PAUSE_S seconds, in case the server is back


class Delivery:
    """A queue and the thread that empties it.

    Attributes:
        undelivered: Records that did not reach MLflow, in order.
        last_error: Why the latest of them did not, or "".
    """

    def __init__(self, study: StudyFacts) -> None:
        self.study = study
        self.undelivered: list[Record] = []
        self.last_error = ""
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._in_hand: list[list[Record]] = []  # taken from the queue, the first on its way
        self._attempts = 0
        self._thread: threading.Thread | None = None

    def put(self, kind: str, **data: Any) -> None:
        """Takes a record, and returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
            self._thread.start()
        self._queue.put(Record(kind, int(time.time() * 1000), data))

    def close(self, timeout: float) -> int:
        """Waits for what is queued, as long as it moves on.

        Args:
            timeout: Seconds without an attempt to deliver anything after which to stop waiting.

        Returns:
            How many records did not reach MLflow.
        """
        assert self._thread is not None, "the last record is put before"
        self._hurry.set()
        self._queue.put(None)
        before = -1
        while self._thread.is_alive() and before != self._attempts:
            before = self._attempts
            self._thread.join(timeout)
        if self._thread.is_alive():
            self.last_error = self.last_error or f"MLflow took longer than {timeout:g} s"
            self.undelivered += [*(record for group in self._in_hand for record in group), *self._drain()]
        return len(self.undelivered)

    def _drain(self) -> list[Record]:
        """All that is queued, but for the word that no more will come."""
        records, ended = [], False
        with contextlib.suppress(queue.Empty):
            while True:
                record = self._queue.get_nowait()
                ended |= record is None
                records += [] if record is None else [record]
        if ended:
            self._queue.put(None)
        return records

    def _run(self) -> None:
        """The thread's whole life. Nothing may escape from it."""
        recorder = Recorder(self.study)
        failures, retry_at = 0, 0.0
        while (record := self._queue.get()) is not None:
            self._hurry.wait(PACE_S)
            self._in_hand = grouped([record, *self._drain()])
            while self._in_hand:
                self._attempts += 1
                if failures >= PATIENCE and time.monotonic() < retry_at:
                    self.undelivered += self._in_hand[0]
                elif self._deliver(recorder, self._in_hand[0]):
                    failures = 0
                else:
                    failures, retry_at = failures + 1, time.monotonic() + PAUSE_S
                self._in_hand.pop(0)
        # What was lost gets another chance at the end, in order; at the first failure the server counts as gone.
        left, self.undelivered = grouped(self.undelivered), []
        for number, group in enumerate(left):
            self._attempts += 1
            if not self._deliver(recorder, group):
                self.undelivered += [record for later in left[number + 1 :] for record in later]
                return

    def _deliver(self, recorder: Recorder, group: Sequence[Record]) -> bool:
        try:
            recorder.deliver(group)
        except Exception as error:  # MLflow raises of all kinds
            self.undelivered += group
            self.last_error = f"{group[0].kind}: {type(error).__name__}: {error}"
            return False
        return True


def grouped(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one trial together, as far as no record of the whole study lies between them."""
    groups: list[list[Record]] = []
    of_trial: dict[str, list[Record]] = {}
    for record in records:
        if record.kind not in Recorder.OF_A_TRIAL:
            groups.append([record])
            of_trial = {}
        elif mine := of_trial.get(record.data["trial_id"]):
            mine.append(record)
        else:
            of_trial[record.data["trial_id"]] = mine = [record]
            groups.append(mine)
    return groups
