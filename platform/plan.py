"""What a study is asked for, and the check that it can be done, before anything starts."""

import json
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from platform import cluster, task
from platform.cluster import Resources
from platform.errors import Fault, InputError
from platform.space import DEPTH, Space, split_setting
from platform.task import Dataset, Task

REQUEST, RESULT = "study.json", "result.json"
ROOM = 1 << 30  # bytes that must be free to start: a few checkpoints and the records


@dataclass(frozen=True)
class Request:
    """What the user asked for, as it is kept in the study's folder for resuming.

    Attributes:
        no_reuse: Whether frozen stages are run again in each epoch.
        store_gb: GB that the prefix store may hold; None: `features.default_capacity`.
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
    trials: int | None = None
    epochs: int | None = None
    seed: int = 0
    concurrent: int | None = None
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None
    time_budget: float | None = None
    no_reuse: bool = False
    store_gb: float | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    fingerprint: str = ""

    @property
    def folder(self) -> Path:
        """Everything of the study but MLflow's records."""
        return Path(self.storage) / self.name

    @property
    def cache(self) -> Path:
        """What studies share: decoded data, and what frozen stages made of it."""
        return Path(self.storage) / ".cache"

    @property
    def store(self) -> Path | None:
        """Where what frozen stages made of the data is kept, None for nowhere."""
        return None if self.no_reuse else self.cache / "features"


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
    return Request(**{**kept, "settings": tuple(kept["settings"]), "data": tuple(kept["data"])})


def looks_right(request: Request, resume: bool) -> bool:
    """Whether a request may pass, as far as can be told at once: for one that cannot, nothing need be made ready."""
    others = [setting for setting in request.settings if split_setting(setting)[0] != DEPTH]
    try:
        task.space(request.task).override(others, **_budget(request))
    except InputError:
        return False
    have = cluster.resources(request.cpus_per_trial, request.gpus_per_trial, request.concurrent)
    places = all(":" in place or Path(place).exists() for place in request.data)
    named = (request.folder / REQUEST).exists() == resume and not (resume and _is_done(request.folder))
    return places and named and not _request_faults(request) and not have.faults()


def make_plan(request: Request, resume: bool = False) -> Plan:
    """Checks everything before anything starts.

    Raises:
        InputError: With all faults of the request, the space, the data and the machine.
    """
    task.check_name(request.task)
    faults = _request_faults(request)
    module, dataset = task.load(request.task), None
    space, space_faults = space_of(module, request.task, request.settings, **_budget(request))
    faults += space_faults
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
            dataset = module.read([Path(source) for source in request.data], request.cache, request.seed, space)
            # A depth that could not be counted has told of the model already.
            faults += [fault for fault in module.check(space, dataset) if fault not in faults]
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


def _budget(request: Request) -> dict[str, int]:
    asked = {"max_epochs": request.epochs, "trials": request.trials}
    return {key: value for key, value in asked.items() if value is not None}


def _is_done(folder: Path) -> bool:
    return (folder / RESULT).exists() and not json.loads((folder / RESULT).read_text())["interrupted"]


def space_of(module: Task, name: str, settings: Sequence[str], **budget: int) -> tuple[Space, list[Fault]]:
    """A task's space with settings, for as many stages as the backbone has; and what is wrong with the settings."""
    space, faults = task.space(name), list[Fault]()
    try:
        # Which backbone is settled first: the range of the freeze depth follows from it.
        others = [setting for setting in settings if split_setting(setting)[0] != DEPTH]
        space = space.of_depth(module.depth(space.override(others)))
    except InputError as error:
        faults += error.faults
    try:
        space = space.override(settings, **budget)
    except InputError as error:
        faults += [fault for fault in error.faults if fault not in faults]
    return space, faults


def absolute_paths(setting: str) -> str:
    """A setting whose values that are files or folders are found from anywhere: trials work in folders of their own."""
    key, equals, value = setting.partition("=")
    return key + equals + ",".join(_absolute(part) for part in value.split(","))


def _absolute(value: str) -> str:
    scheme, colon, path = value.rpartition(":")  # local-dir:FOLDER, as open_clip writes it
    is_model = (Path(path) / "config.json").is_file()  # a folder may well be called as an option is
    is_path = Path(path).is_file() or is_model or ("/" in path and Path(path).is_dir())
    return scheme + colon + str(Path(path).resolve()) if is_path else value


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
    if request.store_gb is not None and not request.store_gb > 0:
        rule = "--store-gb must be positive"
        faults.append(Fault(rule, f"{request.store_gb:g}", "Leave it out, or use --no-reuse to keep nothing."))
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
