"""TODO."""

import functools
import json
import os
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from platform.errors import Fault, InputError
from platform.project import COMMIT
from platform.storage import filesystem, study_mirror
from platform.study import event_log

EVENT_LOG, RESULT, TRIALS, FROZEN, LOCK = (
    "journal.log",
    "result.json",
    "trials",
    "frozen",
    ".lock",
)  # in a study's folder


@dataclass(frozen=True)
class Request:
    """What the user asked for; the study's event log begins with it.

    Attributes:
        confirm: What of `platform.search.confirmation`, e.g. "3x3" or "none"; "": what the space says.
        no_reuse: Whether frozen stages are run again in each epoch.
        storage: Where studies are kept: an absolute path, or an address in a bucket.
        store_gb: GB that the prefix store may hold; None: `features.capacity`.
        max_cost: US dollars that the nodes of a cluster may cost; None: no limit.
        wait_for_nodes: Seconds until a cluster must have room for a trial.
        training_seed: Of all training, where that is another one than `seed`; None: `seed`.
        warm_start: Earlier studies or MLflow experiments whose best configurations are tried first.
        id: What tells the study from another of the same name.
        fingerprint: Of the data that the study began with.
    """

    task: str
    name: str
    storage: str
    experiment: str
    tracking_uri: str
    data: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    warm_start: tuple[str, ...] = ()
    trials: int | None = None
    epochs: int | None = None
    seed: int = 0
    confirm: str = ""
    concurrent: int | None = None
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None
    time_budget: float | None = None
    no_reuse: bool = False
    store_gb: float | None = None
    max_cost: float | None = None
    wait_for_nodes: float = 600.0
    training_seed: int | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    fingerprint: str = ""

    @property
    def folder(self) -> Path:
        """Everything of the study but MLflow's records; of one in a bucket, the copy on this machine."""
        return filesystem.here(self.storage) / self.name

    @property
    def remote(self) -> str:
        """The study's address in a bucket, "" where it is kept in a folder."""
        return f"{self.storage}/{self.name}" if filesystem.is_bucket(self.storage) else ""

    def folder_of(self, trial_id: str) -> Path:
        """A trial's checkpoints."""
        return self.folder / TRIALS / trial_id

    def remote_of(self, trial_id: str) -> str:
        """Where they are sent, "" for nowhere."""
        return f"{self.remote}/{TRIALS}/{trial_id}" if self.remote else ""

    @property
    def cache(self) -> Path:
        """What studies share: decoded data, and what frozen stages made of it."""
        return filesystem.cache(self.storage)

    @property
    def store(self) -> Path | None:
        """Where what frozen stages made of the data is kept, None for nowhere."""
        return None if self.no_reuse else self.cache / "features"


def read_request(folder: Path) -> Request:
    """What an earlier study was asked for.

    Raises:
        InputError: There is no such study, or it is someone else's, or its event log is damaged or has lost its end.
    """
    if not (folder / EVENT_LOG).is_file():
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{EVENT_LOG}"))
        remedy = f"Studies there: {', '.join(known)}." if known else "No study is there: check --storage."
        raise InputError(Fault("a study of that name must be there", str(folder), remedy))
    for place in (folder, folder / EVENT_LOG):
        if hasattr(os, "getuid") and place.stat().st_uid != os.getuid():
            rule, remedy = "a study must be one's own", "Copy the folder, if its owner is to be trusted."
            raise InputError(Fault(rule, f"{place} belongs to user {place.stat().st_uid}", remedy))
    events = _events(folder)
    to, sent = delivered(folder)
    if sent > len(events):
        found = f"{folder / EVENT_LOG} holds {len(events)} events, of which {sent} were sent to {to}"
        remedy = "Restore the file from a copy, or start a new study: going on would falsify what is known."
        raise InputError(Fault("a study's event log must have its end", found, remedy))
    kept = events[0].data["request"]
    latest = [{"confirm": event.data["asked"]} for event in events if event.kind == "confirm"][-1:]
    lists = {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}
    return Request(**{**kept, **lists, **(latest[0] if latest else {})})


def studies_in(given: str, name: str | None = None) -> Path:
    """The folder of studies that --storage names. What a bucket holds of them, or of one, is brought to this machine.

    Raises:
        InputError: It does not answer, or a study went on here in another way than there.
    """
    place = filesystem.resolved(given)
    if filesystem.is_bucket(place):
        study_mirror.bring(place, EVENT_LOG, RESULT, (TRIALS, FROZEN), lambda study: name in (None, study))
    return filesystem.here(place)


def lock(request: Request) -> FileLock:
    """Held by the process that works on a study; the system gives it back when the process dies."""
    return FileLock(request.folder / LOCK)


def busy(request: Request) -> Fault:
    """What is told where another process works on a study."""
    remedy = "Wait for it, or stop it; for another study choose another --name."
    return Fault("one process at a time works on a study", f"{request.name} is being worked on", remedy)


def _events(folder: Path) -> list[event_log.Event]:
    """What a study's event log holds; it is asked for several times, and can be long.

    Raises:
        InputError: The event log is damaged, or empty.
    """
    return _read(folder / EVENT_LOG, (folder / EVENT_LOG).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(file: Path, changed_ns: int) -> list[event_log.Event]:
    if events := event_log.read(file):
        return events
    remedy = f"It was stopped before anything was done: delete {file.parent} and start anew."
    raise InputError(Fault("a study's event log must say what was asked for", f"{file}: nothing", remedy))


FINDINGS = "data_findings.txt"


@functools.cache  # as it was at first: MLflow sets the variable as soon as it is told an address
def usual_uri() -> str:
    """The address of MLflow where none is given."""

    folder = Path.home() if os.environ.get(COMMIT) else Path.cwd()  # a job's own folder does not stay
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


DELIVERED = "delivered.json"


def delivered(folder: Path) -> tuple[str, int]:
    """Where events of a study's event log have been delivered to, and how many; 0 where that is not known: they then go
    once more.
    """
    try:
        told = json.loads((folder / DELIVERED).read_text())
        return str(told["to"]), int(told["events"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0
