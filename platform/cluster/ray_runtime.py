"""Starting Ray or joining a cluster, and the resources of trials."""

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

from platform.errors import Fault, InputError, first_line
from platform.project import ROOT

# glibc returns large blocks to the system, which clears each page again when the next batch needs them. That took
# 3 to 20 % of the training time of small networks on CPUs. With these settings workers keep the blocks.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}

CONFIG = Path("~/ray_bootstrap_config.yaml")  # the cluster's yaml, put there by `ray up` on the head
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in a submitted job
# Parts of the checkout that no trial needs. Files that git ignores are not sent either.
NOT_SENT = (".git", ".ci", ".venv", "/tests", "/docs", "/benchmarks", "/studies", "*.db", "mlruns", "mlartifacts")


@dataclass(frozen=True)
class Resources:
    """Resources of a study.

    Attributes:
        cpus: CPU cores in total.
        gpus: GPUs in total.
        cpus_per_trial: Cores and torch threads of a trial. On CPUs, one thread per trial gives the most trials an hour.
        gpus_per_trial: GPUs of a trial; trials with a fraction share a GPU.
        concurrent: Number of trials at the same time.
        nodes: Cores and GPUs of each node of a cluster that exists or may be added; empty for one machine.
    """

    cpus: int
    gpus: int
    cpus_per_trial: int
    gpus_per_trial: float
    concurrent: int
    nodes: tuple[tuple[int, int], ...] = ()

    def faults(self) -> list[Fault]:
        """Return a fault for each request beyond what exists, which Ray would wait for forever."""
        faults = []
        sizes = self.nodes or ((self.cpus, self.gpus),)
        machine, total = ("a node", "the cluster") if self.nodes else ("this machine", "this machine")
        for kind, wanted, high, low in (
            ("cpus", self.cpus_per_trial, max(cpus for cpus, _ in sizes), 1),
            ("gpus", self.gpus_per_trial, max(gpus for _, gpus in sizes), 0),
        ):
            if not low <= wanted <= high:
                rule = f"--{kind}-per-trial must lie in {low}..{high}, what {machine} has"
                faults.append(Fault(rule, f"{wanted:g}", f"Use --{kind}-per-trial {low if wanted < low else high}."))
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            rule = "more than one GPU a trial must be whole GPUs"
            faults.append(Fault(rule, f"{self.gpus_per_trial:g}", "Use a whole number."))
        most = self.max_concurrent()
        if not faults and not 1 <= self.concurrent <= most:
            rule = f"--concurrent must lie in 1..{most}, what {total} has room for"
            faults.append(Fault(rule, str(self.concurrent), "Leave it out to run as many as fit."))
        return faults

    def max_concurrent(self) -> int:
        """Return how many trials fit at the same time; each needs a single node."""
        return sum(self._fit(cpus, gpus) for cpus, gpus in self.nodes or ((self.cpus, self.gpus),))

    def fits(self, cpus: int, gpus: int) -> bool:
        """Return True if a node of this size has room for a trial."""
        return self._fit(cpus, gpus) > 0

    def _fit(self, cpus: int, gpus: int) -> int:
        by_gpu = int(gpus / self.gpus_per_trial) if self.gpus_per_trial > 0 else cpus
        return min(by_gpu, cpus // max(1, self.cpus_per_trial))

    def describe(self) -> str:
        """Return a line for the console."""
        gpus = f" and {self.gpus_per_trial:g} of {self.gpus} GPUs" if self.gpus else ", no GPU"
        trials = "1 trial" if self.concurrent == 1 else f"{self.concurrent} trials"
        count = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        where = f" on {count}, existing or to be added" if self.nodes else ""
        return f"{trials} at a time{where}, each {self.cpus_per_trial} of {self.cpus} CPU cores{gpus}"


def resources(
    cpus_per_trial: int | None = None, gpus_per_trial: float | None = None, concurrent: int | None = None
) -> Resources:
    """Return the resources of a study on this machine; see `fill_in_resources` for the defaults."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return fill_in_resources([(cpus, gpus)], cpus_per_trial, gpus_per_trial, concurrent)


def fill_in_resources(
    sizes: Sequence[tuple[int, int]],
    cpus_per_trial: int | None,
    gpus_per_trial: float | None,
    concurrent: int | None,
    is_cluster: bool = False,
) -> Resources:
    """Return the resources of a study with a default for each argument that is None.

    Args:
        sizes: Cores and GPUs of the machine, or of each node of a cluster.
        cpus_per_trial: Default: one core, or on a machine with GPUs the trial's share of the cores.
        gpus_per_trial: Default: one GPU if there is any.
        concurrent: Default: as many as fit.
        is_cluster: True if the sizes are those of a cluster's nodes.
    """
    if gpus_per_trial is None:
        gpus_per_trial = 1.0 if any(gpus for _, gpus in sizes) else 0.0
    if cpus_per_trial is None:
        shares = [cpus // max(1, int(gpus / gpus_per_trial)) for cpus, gpus in sizes if gpus and gpus_per_trial > 0]
        cpus_per_trial = max(1, min(shares, default=1))
    cpus, gpus = sum(cpus for cpus, _ in sizes), sum(gpus for _, gpus in sizes)
    nodes = tuple(sizes) if is_cluster else ()
    resources = Resources(cpus, gpus, cpus_per_trial, gpus_per_trial, concurrent or 1, nodes)
    return replace(resources, concurrent=resources.max_concurrent() if concurrent is None else concurrent)


def node_selector(left_out: Collection[str]) -> dict[str, str]:
    """Return Ray's label selector that excludes nodes by their ids; {} if none is excluded."""
    return {"ray.io/node-id": f"!in({','.join(left_out)})"} if left_out else {}


def joins_cluster() -> bool:
    """Return True if studies of this process run on an existing cluster, the one that RAY_ADDRESS names."""
    return bool(os.environ.get("RAY_ADDRESS"))


def connect(resources: Resources) -> None:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names. Later calls in a process do nothing.

    Workers need our packages. A cluster gets them with this call, unless this process is a job that came with them.

    Raises:
        InputError: The cluster does not answer, or Ray does not start on this machine.
        KeyboardInterrupt: The process received SIGTERM.
    """
    import ray

    if ray.is_initialized():
        return
    silence_ray_logs()
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    # Workers inherit the environment of a Ray that is started here; a running Ray gets it as runtime_env.
    search_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    variables = {**MALLOC, **{key: os.environ[key] for key in MALLOC if key in os.environ}, "PYTHONPATH": search_path}
    if joins_cluster():
        settings["runtime_env"] = {"env_vars": variables}
    else:
        os.environ |= variables
        # Without "local" Ray would join any cluster that was once started on this machine.
        settings |= {"address": "local", "num_cpus": resources.cpus, "num_gpus": resources.gpus}
        settings["include_dashboard"] = False
        keep_token_secret()
    try:
        ray.init(**settings)
        has_code = "working_dir" in json.loads(os.environ.get(JOB, "{}")).get("runtime_env", {})
        if joins_cluster() and not has_code and _has_other_machines():
            ray.shutdown()
            settings["runtime_env"] |= {"working_dir": str(ROOT), "excludes": list(NOT_SENT)}
            ray.init(**settings)
    except ray.exceptions.AuthenticationError as error:
        rule, remedy = "this machine must have the cluster's token", "Copy ~/.ray/auth_token from the head to here."
        raise InputError(Fault(rule, str(error).split(". ")[0], remedy)) from error
    except ConnectionError as error:
        rule, remedy = "the cluster that RAY_ADDRESS names must answer", "Start it, or unset RAY_ADDRESS to run here."
        raise InputError(Fault(rule, f"{os.environ.get('RAY_ADDRESS')}: {error}", remedy)) from error
    except SystemExit as stopped:
        if stopped.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from stopped  # Ray turns SIGTERM into SystemExit
    except Exception as error:
        if type(error) is not Exception:  # Ray raises a bare Exception when its processes do not start in time
            raise
        rule, remedy = "Ray must start within 30 seconds", "Try again when fewer programs run on this machine."
        raise InputError(Fault(rule, first_line(error), remedy)) from error


def _has_other_machines() -> bool:
    """Return True if the connected cluster has, or may get, nodes that do not see the files of this machine."""
    import ray

    addresses = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    return len(addresses) > 1 or CONFIG.expanduser().exists()


def keep_token_secret() -> None:
    """Create the token that Ray requires of every process, readable by its owner only, unlike the one Ray creates.

    If the user's home cannot be written, the token is valid for this process and its children only.
    """
    # RAY_AUTH_MODE is not set here: a Ray that starts requires the token by default.
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    file = Path.home() / ".ray" / "auth_token"
    try:
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent) as temporary:  # readable by its owner only
                temporary.write(secrets.token_hex(32))
                temporary.flush()
                with contextlib.suppress(FileExistsError):  # another process was faster
                    os.link(temporary.name, file)
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def silence_ray_logs() -> None:
    """Keep Ray's own messages out of the live view, which shows everything that matters.

    Call this before Ray is imported, because Ray reads some of these variables only then.
    """
    for key, value in {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Ray's own snapshot is not used; the event log is
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without a GPU sees none
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(key, value)
    if joins_cluster():  # so that an autoscaler is asked for the nodes of all trials at once
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")
    # Why a trial failed is shown in the view, the result and MLflow; Ray would also print the traceback. Its own
    # snapshot of a study, which nothing reads, can fail, for example when Ctrl-C interrupts the copy.
    for name in ("ray.tune.execution.tune_controller", "ray.tune.execution.experiment_state", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
