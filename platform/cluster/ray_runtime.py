"""Where a study runs: ray.init, what a trial may use, and the checks that the machine has it."""

import contextlib
import json
import logging
import os
import secrets
import signal
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from platform.errors import Fault, InputError
from platform.project import ROOT

# glibc gives large blocks back to the system, which clears each page anew when the next batch asks for them: that took
# 3 to 20 % of small networks' training on CPUs. Workers keep them, where nobody has set it otherwise.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}

CONFIG = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves the cluster's yaml on its head
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in a submitted job
# Of the checkout, what no trial needs; what git ignores is not sent either.
NOT_SENT = (".git", ".ci", ".venv", "/tests", "/docs", "/benchmarks", "/studies", "*.db", "mlruns", "mlartifacts")


@dataclass(frozen=True)
class Resources:
    """What a study uses.

    Attributes:
        cpus: CPU cores in all.
        gpus: GPUs in all.
        cpus_per_trial: Cores, and torch threads, of a trial. On CPUs one thread a trial gives the most trials an hour.
        gpus_per_trial: GPUs of a trial; fractions share one.
        concurrent: Trials at the same time.
        nodes: Of a cluster, the cores and GPUs of each node that is there or may come; empty for one machine.
    """

    cpus: int
    gpus: int
    cpus_per_trial: int
    gpus_per_trial: float
    concurrent: int
    nodes: tuple[tuple[int, int], ...] = ()

    def faults(self) -> list[Fault]:
        """What was asked for beyond what there is: Ray would wait for it for ever."""
        faults = []
        each = self.nodes or ((self.cpus, self.gpus),)
        what, room = ("a node", "the cluster") if self.nodes else ("this machine", "this machine")
        for kind, wanted, have, least in (
            ("cpus", self.cpus_per_trial, max(cpus for cpus, _ in each), 1),
            ("gpus", self.gpus_per_trial, max(gpus for _, gpus in each), 0),
        ):
            if not least <= wanted <= have:
                rule = f"--{kind}-per-trial must lie in {least}..{have}, what {what} has"
                faults.append(
                    Fault(rule, f"{wanted:g}", f"Use --{kind}-per-trial {least if wanted < least else have}.")
                )
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            rule = "more than one GPU a trial must be whole GPUs"
            faults.append(Fault(rule, f"{self.gpus_per_trial:g}", "Round it."))
        most = self.most_at_once()
        if not faults and not 1 <= self.concurrent <= most:
            rule = f"--concurrent must lie in 1..{most}, what {room} has room for"
            faults.append(Fault(rule, str(self.concurrent), "Leave it out: as many as fit."))
        return faults

    def most_at_once(self) -> int:
        """How many trials fit, each on one node."""
        return sum(self._fit(cpus, gpus) for cpus, gpus in self.nodes or ((self.cpus, self.gpus),))

    def fits(self, cpus: int, gpus: int) -> bool:
        """Whether a node has room for a trial."""
        return self._fit(cpus, gpus) > 0

    def _fit(self, cpus: int, gpus: int) -> int:
        by_gpu = int(gpus / self.gpus_per_trial) if self.gpus_per_trial > 0 else cpus
        return min(by_gpu, cpus // max(1, self.cpus_per_trial))

    def describe(self) -> str:
        """One line for people."""
        gpus = f" and {self.gpus_per_trial:g} of {self.gpus} GPUs" if self.gpus else ", no GPU"
        trials = "1 trial" if self.concurrent == 1 else f"{self.concurrent} trials"
        count = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        where = f" on {count}, there or to come" if self.nodes else ""
        return f"{trials} at a time{where}, each {self.cpus_per_trial} of {self.cpus} CPU cores{gpus}"


def resources(
    cpus_per_trial: int | None = None, gpus_per_trial: float | None = None, concurrent: int | None = None
) -> Resources:
    """Fills in what was not asked for: one core a trial, or a whole GPU and its share of the cores; all at work."""
    import torch

    cpus, gpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 0
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
    return shared_out([(cpus, gpus)], cpus_per_trial, gpus_per_trial, concurrent)


def shared_out(
    rooms: Sequence[tuple[int, int]],
    cpus_per_trial: int | None,
    gpus_per_trial: float | None,
    concurrent: int | None,
    nodes: bool = False,
) -> Resources:
    """Fills in what was not asked for.

    Args:
        rooms: Cores and GPUs of the machine, or of each node of a cluster.
        cpus_per_trial: Left out: one; of a machine whose GPUs are shared, its part of the cores.
        gpus_per_trial: Left out: one, if there is any.
        concurrent: Left out: all that fit.
        nodes: Whether they are a cluster's.
    """
    cpus, gpus = sum(cpus for cpus, _ in rooms), sum(gpus for _, gpus in rooms)
    gpu_share = gpus_per_trial if gpus_per_trial is not None else (1.0 if gpus else 0.0)
    cpu_share = cpus_per_trial
    if cpu_share is None:
        beside = [cores // max(1, int(own / gpu_share)) for cores, own in rooms if own and gpu_share > 0]
        cpu_share = max(1, min(beside, default=1))
    have = Resources(cpus, gpus, cpu_share, gpu_share, concurrent or 1, tuple(rooms) if nodes else ())
    return replace(have, concurrent=have.most_at_once() if concurrent is None else concurrent)


def elsewhere(left_out: Collection[str]) -> dict[str, str]:
    """What Ray is told of a task or a bundle that must not run on some nodes, by their ids; {} where all will do."""
    return {"ray.io/node-id": f"!in({','.join(left_out)})"} if left_out else {}


def joins() -> bool:
    """Whether studies of this process run on a cluster that is there already."""
    return bool(os.environ.get("RAY_ADDRESS"))


def connect(have: Resources) -> None:
    """Starts Ray on this machine, or joins the cluster that RAY_ADDRESS names; once in a process.

    Workers find our packages: on a cluster they are sent there, unless this process came there as a job, with them.

    Raises:
        InputError: The cluster does not answer.
        KeyboardInterrupt: The process was told to end.
    """
    import ray

    if ray.is_initialized():  # for an earlier study of this process
        return
    quiet()
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    # Workers inherit the environment of a Ray started here, and are told it by a Ray that runs already.
    search_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    theirs = {**MALLOC, **{key: os.environ[key] for key in MALLOC if key in os.environ}, "PYTHONPATH": search_path}
    if joins():
        settings = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": {"env_vars": theirs}}
    else:
        os.environ |= theirs
        # Without "local" Ray would join whatever cluster was once started on this machine.
        settings |= {"address": "local", "num_cpus": have.cpus, "num_gpus": have.gpus}
        keep_token_secret()
    try:
        ray.init(**settings)
        came_with_code = "working_dir" in json.loads(os.environ.get(JOB, "{}")).get("runtime_env", {})
        if joins() and not came_with_code and _has_other_machines():
            ray.shutdown()
            settings["runtime_env"] |= {"working_dir": str(ROOT), "excludes": list(NOT_SENT)}
            ray.init(**settings)
    except ray.exceptions.AuthenticationError as error:
        rule, remedy = "the cluster's token must be here", "Copy the head's ~/.ray/auth_token to this machine."
        raise InputError(Fault(rule, str(error).split(". ")[0], remedy)) from error
    except ConnectionError as error:
        rule, remedy = "the cluster that RAY_ADDRESS names must answer", "Start it, or unset RAY_ADDRESS: this machine."
        raise InputError(Fault(rule, f"{os.environ.get('RAY_ADDRESS')}: {error}", remedy)) from error
    except SystemExit as stopped:
        if stopped.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from stopped  # Ray's own answer to SIGTERM


def _has_other_machines() -> bool:
    """Whether the cluster that is connected has nodes that do not see this one's files, or may get some."""
    import ray

    addresses = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    return len(addresses) > 1 or CONFIG.expanduser().exists()


def keep_token_secret() -> None:
    """Makes the token that Ray asks every process for, readable by its owner alone: Ray would write it for all to read.

    Where the user's own folder cannot be written, the token is for this Ray only.
    """
    # Nothing is said here of RAY_AUTH_MODE: a Ray that starts asks for the token where that is not set.
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    file = Path.home() / ".ray" / "auth_token"
    try:
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent) as whole:  # for its owner alone from the start
                whole.write(secrets.token_hex(32))
                whole.flush()
                with contextlib.suppress(FileExistsError):  # another study was faster
                    os.link(whole.name, file)
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def quiet() -> None:
    """Keeps Ray's chatter out of the live view; what matters reaches the user through the study.

    Best called before Ray is imported: some of it is read only then.
    """
    for key, value in {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # what Ray keeps of a study is not gone back to: its event log is
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial of no GPU sees none
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(key, value)
    if joins():  # an autoscaler is asked for the nodes of all trials at a time, not for one after the other
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")
    # A failed trial's reason is told in the view, the table and MLflow; Ray would print its traceback in between. And
    # its own snapshot of a study, which nothing reads, fails where it is copied while it is written: at Ctrl-C, say.
    for name in ("ray.tune.execution.tune_controller", "ray.tune.execution.experiment_state", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
