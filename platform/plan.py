"""What a study is asked for, and the check that it can be done, before anything starts."""

import json
import os
import re
import shlex
import shutil
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

from platform import cluster, task
from platform.cluster import Resources
from platform.errors import Fault, InputError
from platform.space import Space
from platform.task import Dataset, Task

REQUEST, RESULT = "study.json", "result.json"
ROOM = 1 << 30  # bytes that must be free to start: a few checkpoints and the records


@dataclass(frozen=True)
class Request:
    """What the user asked for, as it is kept in the study's folder for resuming.

    Attributes:
        id: What tells the study from another of the same name.
        fingerprint: Of the data that the study began with.
    """

    task: str
    name: str
    storage: str
    experiment: str
    tracking_uri: str
    data: str | None = None
    settings: tuple[str, ...] = ()
    trials: int | None = None
    epochs: int | None = None
    seed: int = 0
    concurrent: int | None = None
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None
    time_budget: float | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    fingerprint: str = ""

    @property
    def folder(self) -> Path:
        """Everything of the study but MLflow's records."""
        return Path(self.storage) / self.name

    @property
    def cache(self) -> Path:
        """What studies share: decoded data."""
        return Path(self.storage) / ".cache"


@dataclass(frozen=True)
class Plan:
    """A request that has been checked: nothing has started yet."""

    request: Request
    task: Task
    space: Space
    dataset: Dataset
    resources: Resources


def read_request(folder: Path) -> Request:
    """What an earlier study was asked for.

    Raises:
        InputError: There is no such study.
    """
    try:
        kept = json.loads((folder / REQUEST).read_text())
    except (OSError, ValueError) as error:
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{REQUEST}"))
        remedy = f"Studies there: {', '.join(known)}." if known else "Start one without --resume."
        raise InputError(Fault("--resume needs a study of that name", str(folder), remedy)) from error
    return Request(**{**kept, "settings": tuple(kept["settings"])})


def make_plan(request: Request, resume: bool = False) -> Plan:
    """Checks everything before anything starts.

    Raises:
        InputError: With all faults of the request, the space, the data and the machine.
    """
    task.check_name(request.task)
    faults = _request_faults(request)
    module, space, dataset = task.load(request.task), task.space(request.task), None
    budget = {"max_epochs": request.epochs, "trials": request.trials}
    try:
        space = space.override(request.settings, **{key: value for key, value in budget.items() if value is not None})
    except InputError as error:
        faults += error.faults
    have = cluster.resources(request.cpus_per_trial, request.gpus_per_trial, request.concurrent)
    faults += have.faults()
    if resume and _is_done(request.folder):
        remedy = f"Search longer in a new study: --trials {2 * space.trials}."
        faults.append(Fault("--resume needs a study that was interrupted", f"{request.name}: all done", remedy))
    if (request.folder / REQUEST).exists() and not resume:
        go_on = "" if _is_done(request.folder) else f" Or go on with it: {resume_command(request)}"
        remedy = f"Choose another --name.{go_on}"
        faults.append(Fault("a study's name must be new", f"{request.name} in {request.storage}", remedy))
    storage_faults = _storage_faults(Path(request.storage))
    faults += storage_faults
    if not storage_faults:
        try:
            source = Path(request.data) if request.data is not None else None
            dataset = module.read(source, request.cache, request.seed)
            faults += module.check(space, dataset)
            if resume and request.fingerprint not in ("", dataset.fingerprint):
                remedy = "Restore the data, or start a new study."
                faults.append(Fault("--resume needs the data that the study began with", "other content", remedy))
        except InputError as error:
            faults += error.faults
    if faults or dataset is None:
        raise InputError(*faults)
    return Plan(replace(request, fingerprint=dataset.fingerprint), module, space, dataset, have)


def resume_command(request: Request) -> str:
    """What to type to go on with a study."""
    return f"python -m platform.tune {request.task} --resume --name {request.name}{storage_option(request)}"


def storage_option(request: Request) -> str:
    """What a command must be told to find a study, nothing where it is in the default place."""
    return "" if Path(request.storage) == Path("studies").resolve() else f" --storage {shlex.quote(request.storage)}"


def _is_done(folder: Path) -> bool:
    return (folder / RESULT).exists() and not json.loads((folder / RESULT).read_text())["interrupted"]


def _request_faults(request: Request) -> list[Fault]:
    faults = []
    if not re.fullmatch(r"\w[\w.-]*", request.name):
        rule = "a study's name must be letters, digits, dot, dash and underscore"
        faults.append(Fault(rule, repr(request.name), "It is a folder in --storage."))
    if not 0 <= request.seed < 2**32:
        faults.append(Fault("--seed must lie in 0..4294967295", str(request.seed), "Use --seed 0."))
    if request.time_budget is not None and not request.time_budget > 0:
        rule = "--time-budget must be positive seconds"
        faults.append(Fault(rule, f"{request.time_budget:g}", "Leave it out: none."))
    return faults


def _storage_faults(storage: Path) -> list[Fault]:
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [Fault("--storage must be a folder that can be made", f"{storage}: {error.strerror}", "Choose another.")]
    if not os.access(storage, os.W_OK):
        return [Fault("--storage must be writable", str(storage), "Choose another folder.")]
    free = shutil.disk_usage(storage).free
    if free < ROOM:
        rule = f"the disk of --storage needs {ROOM >> 20} MiB free"
        return [Fault(rule, f"{free >> 20} MiB in {storage}", "Free some space, or choose another --storage.")]
    return []
