"""Request that a study began with, and the files of its folder."""

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

# Files and folders of a study's folder.
EVENT_LOG, RESULT, TRIALS, FROZEN, LOCK = "journal.log", "result.json", "trials", "frozen", ".lock"
FINDINGS, DELIVERED = "data_findings.txt", "delivered.json"
BEST, FIGURES, WEIGHTS = "best", "figures", "weights"


@dataclass(frozen=True)
class Request:
    """User's request. The study's event log begins with it.

    Attributes:
        storage: Folder of studies: an absolute path, or an address in a bucket.
        warm_start: Earlier studies or MLflow experiments whose best configs are tried first.
        confirm: Extent of the confirmation, e.g. "3x3" or "none"; "" for the default of the space.
        no_reuse: Whether frozen stages are run again in each epoch.
        store_gb: Size limit of the feature store in GB, None for `feature_store.capacity`.
        max_cost: Cost limit of a cluster's nodes in US dollars, None for no limit.
        wait_for_nodes: Seconds until a cluster must have room for a trial.
        training_seed: Seed of all training if it differs from `seed`, else None.
        id: Distinguishes the study from others of the same name.
        fingerprint: Fingerprint of the data that the study began with.
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
        """Folder of the study; if the study is kept in a bucket, the copy on this machine."""
        return filesystem.local_folder(self.storage) / self.name

    @property
    def remote(self) -> str:
        """Address of the study in a bucket, "" if it is kept in a folder."""
        return f"{self.storage}/{self.name}" if filesystem.is_bucket(self.storage) else ""

    def folder_of(self, trial_id: str) -> Path:
        """Return the folder of a trial's checkpoints."""
        return self.folder / TRIALS / trial_id

    def remote_of(self, trial_id: str) -> str:
        """Return the address that a trial's checkpoints are copied to, "" for none."""
        return f"{self.remote}/{TRIALS}/{trial_id}" if self.remote else ""

    @property
    def cache(self) -> Path:
        """Folder that studies share: decoded data and outputs of frozen stages."""
        return filesystem.cache_folder(self.storage)

    @property
    def store(self) -> Path | None:
        """Folder of the feature store, None if frozen stages are not reused."""
        return None if self.no_reuse else self.cache / "features"


def read_request(folder: Path) -> Request:
    """Return the request of an earlier study.

    Raises:
        InputError: The study does not exist or belongs to another user, or its event log is damaged or incomplete.
    """
    if not (folder / EVENT_LOG).is_file():
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{EVENT_LOG}"))
        remedy = f"Studies there: {', '.join(known)}." if known else "No study is there: check --storage."
        raise InputError(Fault("a study of that name must exist", str(folder), remedy))
    for place in (folder, folder / EVENT_LOG):
        if hasattr(os, "getuid") and place.stat().st_uid != os.getuid():
            rule, remedy = "a study must belong to you", "Copy the folder if you trust its owner."
            raise InputError(Fault(rule, f"{place} belongs to user {place.stat().st_uid}", remedy))
    events = read_events(folder)
    to, sent = delivered_events(folder)
    if sent > len(events):
        found = f"{folder / EVENT_LOG} holds {len(events)} events, of which {sent} were sent to {to}"
        remedy = "Restore the file from a copy, or start a new study: continuing would falsify the results."
        raise InputError(Fault("a study's event log must be complete", found, remedy))
    kept = events[0].data["request"]
    confirm = [kept.get("confirm", ""), *(event.data["asked"] for event in events if event.kind == "confirm")][-1]
    lists = {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}
    return Request(**{**kept, **lists, "confirm": confirm})


def studies_in(given: str, name: str | None = None) -> Path:
    """Return the folder of studies that --storage names. Studies in a bucket are copied to this machine first.

    Args:
        given: Value of --storage.
        name: Name of the only study to copy, None for all.

    Raises:
        InputError: The bucket does not answer, or a study was continued both here and on another machine.
    """
    place = filesystem.resolved(given)
    if filesystem.is_bucket(place):
        study_mirror.download(place, EVENT_LOG, RESULT, (TRIALS, FROZEN), lambda study: name in (None, study))
    return filesystem.local_folder(place)


def lock(request: Request) -> FileLock:
    """Return the lock of the process that works on a study. The system releases it when the process dies."""
    return FileLock(request.folder / LOCK)


def busy_fault(request: Request) -> Fault:
    """Return the fault that another process works on a study."""
    rule, found = "only one process at a time can work on a study", f"another process that works on {request.name}"
    return Fault(rule, found, "Wait for it, or stop it; for another study choose another --name.")


def read_events(folder: Path) -> list[event_log.Event]:
    """Return the events of a study. They are cached, because the log can be long and is read several times.

    Raises:
        InputError: The event log is damaged or empty.
    """
    return _read(folder / EVENT_LOG, (folder / EVENT_LOG).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(file: Path, changed_ns: int) -> list[event_log.Event]:
    if events := event_log.read(file):
        return events
    remedy = f"The study was stopped before it began: delete {file.parent} and start a new one."
    raise InputError(Fault("a study's event log must hold its request", f"an empty {file}", remedy))


@functools.cache  # the first answer stays: MLflow itself sets the variable once it has an address
def default_tracking_uri() -> str:
    """Return the address of the MLflow store if none is given."""
    folder = Path.home() if os.environ.get(COMMIT) else Path.cwd()  # the folder of a job is temporary
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def delivered_events(folder: Path) -> tuple[str, int]:
    """Return the MLflow store that a study's events were sent to, and their number.

    The number is 0 if it is unknown; the events are then sent again.
    """
    try:
        state = json.loads((folder / DELIVERED).read_text())
        return str(state["to"]), int(state["events"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0
