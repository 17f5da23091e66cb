"""Checks of a request before anything starts, and the plan that results from them."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import Timeout

from platform import project, task
from platform.cluster import ray_runtime
from platform.cluster.ray_runtime import Resources
from platform.errors import Fault, InputError, raise_if_any
from platform.search import confirmation, warm_start
from platform.search.warm_start import WarmStart
from platform.space import BUDGET, Space, show
from platform.storage import filesystem
from platform.study.request import EVENT_LOG, RESULT, Request, busy_fault, lock, read_events
from platform.task import Dataset, Task, space_of
from platform.tracking.mlflow_store import address_faults

MIN_FREE_BYTES = 1 << 30  # that --storage needs at the start: a few checkpoints and the records


@dataclass(frozen=True)
class Plan:
    """A request that has been checked, with what the checks have loaded. Nothing has started yet."""

    request: Request
    task: Task
    space: Space
    dataset: Dataset
    resources: Resources
    warm_start: WarmStart = field(default_factory=WarmStart)

    @property
    def confirm(self) -> str:
        """Extent of the confirmation, e.g. "3x3", or "" for none. The space has a default for the embedded data."""
        asked = self.request.confirm or ("" if self.request.data else self.space.confirm)
        return "" if asked == confirmation.NONE else asked


def make_plan(request: Request, resume: bool = False) -> Plan:
    """Check everything that can be checked before a study starts, or is continued if `resume` is set.

    Raises:
        InputError: With all faults of the request, the space, the data and the machine.
    """
    task.check_name(request.task)
    module = task.load(request.task)
    budget = {"max_epochs": request.epochs, "trials": request.trials}
    given = {key: value for key, value in budget.items() if value is not None}
    space, space_faults = space_of(module, request.task, request.settings, **given)
    resources = ray_runtime.resources(request.cpus_per_trial, request.gpus_per_trial, request.concurrent)
    faults = [*_option_faults(request), *space_faults]
    if not ray_runtime.joins_cluster():  # the resources of a cluster are known once it is connected
        faults += resources.faults()
    if resume:
        faults += _resume_faults(request, space)
        faults += [] if space_faults else _changed_space_faults(space, read_events(request.folder)[0].data["space"])
    else:
        faults += _taken_name_faults(request)
    place_faults = [*_storage_faults(request.storage)]
    for place in request.data:
        place_faults += filesystem.faults(place, "--data")
    dataset, data_faults = (None, place_faults) if place_faults else _read_data(request, module, space, resume)
    faults += data_faults
    warm = WarmStart()
    if request.warm_start and not resume and dataset is not None and not space_faults:  # the event log has it later
        try:
            warm = warm_start.gather(request, space, dataset.fingerprint)
        except InputError as error:
            faults += error.faults
    raise_if_any(dict.fromkeys(faults))  # a model that cannot be loaded is a fault of the space and of the data
    assert dataset is not None, "data that could not be read is a fault"
    return Plan(replace(request, fingerprint=dataset.fingerprint), module, space, dataset, resources, warm)


def resume_command(request: Request) -> str:
    """Return the command that continues a study."""
    cluster = os.environ.get(project.CLUSTER)  # the study was sent there, and is sent there again
    where = f" --cluster {shlex.quote(cluster)}" if cluster else ""
    return f"python -m platform.tune {request.task}{where} --resume --name {request.name}{storage_option(request)}"


def deliver_command(request: Request) -> str:
    """Return the command that sends the remaining records of a study to MLflow."""
    return f"python -m platform.deliver {request.name}{storage_option(request)}"


def storage_option(request: Request) -> str:
    """Return the option with which a command finds a study, "" if the study is in the default place."""
    is_default = request.storage == filesystem.resolved("studies")
    return "" if is_default else f" --storage {shlex.quote(request.storage)}"


def describe(space: Space) -> dict[str, str]:
    """Return a space and its budget in words, as the event log keeps them to recognize a changed space."""
    budget = {key: str(getattr(space, key)) for key in BUDGET}
    return {**budget, **{key: show(value) for key, value in space.params.items()}}


def _option_faults(request: Request) -> list[Fault]:
    """Check the options that need neither the task nor the data."""
    faults = []
    if not re.fullmatch(r"\w[\w.-]*", request.name):
        rule = "a study's name must be letters, digits, dot, dash and underscore"
        faults.append(Fault(rule, repr(request.name), "It becomes the name of a folder in --storage."))
    if not 0 <= request.seed < 2**32:
        faults.append(Fault("--seed must lie in 0..4294967295", str(request.seed), "Use --seed 0."))
    faults += address_faults(request.tracking_uri)
    for option, value, rule, remedy in (
        ("--time-budget", request.time_budget, "positive seconds", "Leave it out for no limit."),
        ("--max-cost", request.max_cost, "positive US dollars", "Leave it out for no limit."),
        ("--wait-for-nodes", request.wait_for_nodes, "positive seconds", "Leave it out for 600 seconds."),
        ("--store-gb", request.store_gb, "positive", "Leave it out, or use --no-reuse to keep nothing."),
    ):
        if value is not None and not value > 0:
            faults.append(Fault(f"{option} must be {rule}", f"{value:g}", remedy))
    if request.max_cost is not None and not ray_runtime.joins_cluster():
        rule = "--max-cost is for clusters, whose yaml has prices"
        faults.append(Fault(rule, "one machine", "Leave it out, or use --max-hours."))
    return faults + confirmation.faults(request.confirm)


def _resume_faults(request: Request, space: Space) -> list[Fault]:
    """Check that a study has something left to do and that no other process works on it."""
    if _is_done(request.folder) and (faults := _finished_study_faults(request, space)):
        return faults
    try:
        with lock(request).acquire(blocking=False):
            return []
    except Timeout:
        return [busy_fault(request)]


def _is_done(folder: Path) -> bool:
    last = read_events(folder)[-1]
    return last.kind == "close" and last.data["status"] != "KILLED" and (folder / RESULT).exists()


def _finished_study_faults(request: Request, space: Space) -> list[Fault]:
    """Return why a finished study cannot be continued, [] if more confirmations are asked for."""
    rule, remedy = "--resume needs a study that was interrupted", "To use its best configurations in a new study:"
    result = json.loads((request.folder / RESULT).read_text())
    if result.get("out_of_time") and request.time_budget:
        remedy += f" --warm-start {request.name} --time-budget {2 * request.time_budget:g}."
        return [Fault(rule, f"{request.name}, whose time budget is used up", remedy)]
    if result.get("out_of_money") and request.max_cost:
        remedy += f" --warm-start {request.name} --max-cost {2 * request.max_cost:g}."
        return [Fault(rule, f"{request.name}, whose budget of money is used up", remedy)]
    confirmed = [event.data["asked"] for event in read_events(request.folder) if event.kind == "confirm"]
    if request.confirm not in ("", confirmation.NONE, *confirmed[-1:]):
        return []
    remedy = f"To search longer, start a new study with --trials {2 * space.trials}."
    return [Fault(rule, f"{request.name}, which is finished", remedy)]


def _changed_space_faults(space: Space, before: Mapping[str, str]) -> list[Fault]:
    """Compare a space with the one that the study began with: its file may have changed in between."""
    now = describe(space)
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    rule, remedy = "--resume needs the space that the study began with", "Restore its file, or start a new study."
    return [Fault(rule, f"{key}: {before.get(key)} then, {now.get(key)} now", remedy) for key in changed]


def _taken_name_faults(request: Request) -> list[Fault]:
    """Check that no study of this name exists, here or in the bucket."""
    is_done = False
    if (request.folder / EVENT_LOG).exists():
        is_done = _is_done(request.folder)
    elif not request.remote:
        return []
    else:
        try:
            with filesystem.as_input_error("--storage must be reachable and writable"):
                if filesystem.read(f"{request.remote}/{EVENT_LOG}") is None:
                    return []
        except InputError as error:
            return list(error.faults)
    remedy = "Choose another --name." + ("" if is_done else f" To continue that study: {resume_command(request)}")
    return [Fault("a study's name must be new", f"{request.name} in {request.storage}", remedy)]


def _storage_faults(place: str) -> list[Fault]:
    """Check that studies can be kept in --storage, of a bucket in its copy on this machine."""
    if faults := filesystem.faults(place, "--storage"):
        return faults
    folder = filesystem.local_folder(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        rule = "--storage must be a folder that can be made"
        return [Fault(rule, f"{folder}: {error.strerror}", "Choose another folder.")]
    if not os.access(folder, os.W_OK):
        return [Fault("--storage must be writable", str(folder), "Choose another folder.")]
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        rule = f"the disk of --storage needs {MIN_FREE_BYTES >> 20} MiB free"
        return [Fault(rule, f"{free >> 20} MiB in {folder}", "Free some space, or choose another --storage.")]
    return []


def _read_data(request: Request, module: Task, space: Space, resume: bool) -> tuple[Dataset | None, list[Fault]]:
    """Read the data and check it against the task; return it, None if it cannot be read, and the faults."""
    dataset = None
    try:
        sources = [filesystem.local_copy(source, request.cache) for source in request.data]
        seed = request.seed % 2**32  # a seed out of range is a fault that _option_faults reports
        dataset = module.read(sources, request.cache, seed, space)
        faults = list(module.check(space, dataset))
    except InputError as error:
        faults = list(error.faults)
    if resume and dataset is not None and request.fingerprint not in ("", dataset.fingerprint):
        remedy = "Restore the data, or start a new study."
        faults.append(Fault("--resume needs the data that the study began with", "other content", remedy))
    return dataset, faults
