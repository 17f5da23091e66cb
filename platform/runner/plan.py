"""What a study is asked for, and the check that it can be done, before anything starts."""

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
from platform.errors import Fault, InputError
from platform.search import confirmation, warm_start
from platform.search.warm_start import WarmStart
from platform.space import Space, show
from platform.storage import filesystem
from platform.study.request import EVENT_LOG, RESULT, Request, _events, busy, lock
from platform.task import Dataset, Task, space_of
from platform.tracking.mlflow_store import address_faults

ROOM = 1 << 30  # bytes that must be free to start: a few checkpoints and the records


@dataclass(frozen=True)
class Plan:
    """A request that has been checked: nothing has started yet."""

    request: Request
    task: Task
    space: Space
    dataset: Dataset
    resources: Resources
    warm_start: WarmStart = field(default_factory=WarmStart)

    @property
    def confirm(self) -> str:
        """What is trained again over seeds, "" for nothing: as asked for, else for the embedded data what is usual."""
        asked = self.request.confirm or ("" if self.request.data else self.space.confirm)
        return "" if asked == confirmation.NONE else asked


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
    have = ray_runtime.resources(request.cpus_per_trial, request.gpus_per_trial, request.concurrent)
    # What a cluster has is known once it is connected.
    faults += [] if ray_runtime.joins() else have.faults()
    if resume and _is_done(request.folder):
        faults += _done_faults(request, space)
    if resume and not space_faults:
        faults += _other_space(space, _events(request.folder)[0].data["space"])
    if (request.folder / EVENT_LOG).exists() and not resume:
        go_on = "" if _is_done(request.folder) else f" Or go on with it: {resume_command(request)}"
        remedy = f"Choose another --name.{go_on}"
        faults.append(Fault("a study's name must be new", f"{request.name} in {request.storage}", remedy))
    elif not resume and request.remote:
        faults += _taken_faults(request)
    elif resume and _is_busy(request):
        faults.append(busy(request))
    storage_faults = filesystem.faults(request.storage, "--storage") or _storage_faults(
        filesystem.here(request.storage)
    )
    for place in request.data:
        storage_faults += filesystem.faults(place, "--data")
    faults += storage_faults
    if not storage_faults:
        try:
            sources = [filesystem.local(source, request.cache) for source in request.data]
            seed = request.seed % 2**32  # a seed out of range is told with all other faults
            dataset = module.read(sources, request.cache, seed, space)
            # A depth that could not be counted has told of the model already.
            faults += [fault for fault in module.check(space, dataset) if fault not in faults]
            if resume and request.fingerprint not in ("", dataset.fingerprint):
                remedy = "Restore the data, or start a new study."
                faults.append(Fault("--resume needs the data that the study began with", "other content", remedy))
        except InputError as error:
            faults += error.faults
    warm = WarmStart()
    if request.warm_start and not resume and dataset is not None and not space_faults:  # else the event log has it
        try:
            warm = warm_start.gather(request, space, dataset.fingerprint)
        except InputError as error:
            faults += error.faults
    if faults or dataset is None:
        raise InputError(*faults)
    return Plan(replace(request, fingerprint=dataset.fingerprint), module, space, dataset, have, warm)


def resume_command(request: Request) -> str:
    """What to type to go on with a study."""
    there = os.environ.get(project.CLUSTER)  # it was sent there, and is so again
    where = f" --cluster {shlex.quote(there)}" if there else ""
    return f"python -m platform.tune {request.task}{where} --resume --name {request.name}{storage_option(request)}"


def deliver_command(request: Request) -> str:
    """What to type to bring to MLflow what has not arrived there."""
    return f"python -m platform.deliver {request.name}{storage_option(request)}"


def storage_option(request: Request) -> str:
    """What a command must be told to find a study, nothing where it is in the default place."""
    usual = request.storage == filesystem.resolved("studies")
    return "" if usual else f" --storage {shlex.quote(request.storage)}"


def _budget(request: Request) -> dict[str, int]:
    asked = {"max_epochs": request.epochs, "trials": request.trials}
    return {key: value for key, value in asked.items() if value is not None}


def _is_done(folder: Path) -> bool:
    last = _events(folder)[-1]
    return last.kind == "close" and last.data["status"] != "KILLED" and (folder / RESULT).exists()


def _done_faults(request: Request, space: Space) -> list[Fault]:
    """Why a study that came to its end cannot be gone on with; nothing where it is to train its best again."""
    rule, go_on = "--resume needs a study that was interrupted", f"--warm-start {request.name}"
    result = json.loads((request.folder / RESULT).read_text())
    if result.get("out_of_time") and request.time_budget:
        remedy = f"Go on from its best in a new study: {go_on} --time-budget {2 * request.time_budget:g}."
        return [Fault(rule, f"{request.name}: its time is up", remedy)]
    if result.get("out_of_money") and request.max_cost:
        remedy = f"Go on from its best in a new study: {go_on} --max-cost {2 * request.max_cost:g}."
        return [Fault(rule, f"{request.name}: its money is spent", remedy)]
    if _confirms_more(request):
        return []
    return [Fault(rule, f"{request.name}: all done", f"Search longer in a new study: --trials {2 * space.trials}.")]


def _confirms_more(request: Request) -> bool:
    """Whether a study is asked to train again what it has not."""
    done = [event.data["asked"] for event in _events(request.folder) if event.kind == "confirm"]
    return request.confirm not in ("", confirmation.NONE, *done[-1:])


def _taken_faults(request: Request) -> list[Fault]:
    """A study of that name in the bucket, begun on another machine."""
    try:
        with filesystem.told("--storage must be reached and written", "Check the address, and the credentials for it."):
            if filesystem.read(f"{request.remote}/{EVENT_LOG}") is None:
                return []
    except InputError as error:
        return list(error.faults)
    remedy = f"Choose another --name. Or go on with it: {resume_command(request)}"
    return [Fault("a study's name must be new", f"{request.name} in {request.storage}", remedy)]


def _is_busy(request: Request) -> bool:
    try:
        with lock(request).acquire(blocking=False):
            return False
    except Timeout:
        return True


def _other_space(space: Space, before: Mapping[str, str]) -> list[Fault]:
    """What a study would search now that it did not before: its file was changed in between."""
    now = describe(space)
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    rule, remedy = "--resume needs the space that the study began with", "Restore its file, or start a new study."
    return [Fault(rule, f"{key}: {before.get(key)} then, {now.get(key)} now", remedy) for key in changed]


def describe(space: Space) -> dict[str, str]:
    """A space and its budget in words, to tell whether it is another one."""
    budget = {key: str(getattr(space, key)) for key in ("trials", "max_epochs", "grace_epochs", "metric", "mode")}
    return {**budget, **{key: show(value) for key, value in space.params.items()}}


def _request_faults(request: Request) -> list[Fault]:
    faults = []
    if not re.fullmatch(r"\w[\w.-]*", request.name):
        rule = "a study's name must be letters, digits, dot, dash and underscore"
        faults.append(Fault(rule, repr(request.name), "It is a folder in --storage."))
    if not 0 <= request.seed < 2**32:
        faults.append(Fault("--seed must lie in 0..4294967295", str(request.seed), "Use --seed 0."))
    faults += address_faults(request.tracking_uri)
    if request.time_budget is not None and not request.time_budget > 0:
        rule = "--time-budget must be positive seconds"
        faults.append(Fault(rule, f"{request.time_budget:g}", "Leave it out: none."))
    if request.max_cost is not None and not request.max_cost > 0:
        faults.append(Fault("--max-cost must be positive US dollars", f"{request.max_cost:g}", "Leave it out: none."))
    if request.max_cost is not None and not ray_runtime.joins():
        rule, remedy = "--max-cost is for clusters, whose yaml has prices", "Leave it out, or use --max-hours."
        faults.append(Fault(rule, "one machine", remedy))
    if not request.wait_for_nodes > 0:
        rule = "--wait-for-nodes must be positive seconds"
        faults.append(Fault(rule, f"{request.wait_for_nodes:g}", "Leave it out: 600."))
    faults += confirmation.faults(request.confirm)
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
