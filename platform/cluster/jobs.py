"""Studies on a cluster as Ray jobs, controlled from the user's machine: submit, follow and stop them."""

import argparse
import asyncio
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape

from platform import project
from platform.cluster import head_node
from platform.cluster.head_node import Cluster, client_of, short
from platform.cluster.ray_runtime import NOT_SENT
from platform.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED, Fault, InputError, file_faults, raise_if_any
from platform.study.options import new_name, typed
from platform.study.settings import absolute_paths, paths_in, with_paths

MLFLOW = 5000  # port on the head; it listens on 127.0.0.1 only and is reached through a tunnel
READY_S = 60.0  # seconds until a head must accept jobs
STOP_S = 120  # seconds that a study has to save its state after --stop; Ray's default is 3
POLL_S = 0.3  # seconds between two checks for Ctrl-C
RETRY_S = 2.0  # seconds before the next attempt to reach a job
RUNNING = ("PENDING", "RUNNING")  # job statuses


def command(options: argparse.Namespace, console: Console) -> int:
    """Run `platform.tune` with --cluster, --follow or --stop and return the exit code.

    Call `head_node.use_token` first.

    Raises:
        InputError: The options do not fit together, or the cluster refuses.
    """
    from platform import task
    from platform.study.request import RESULT

    task.check_name(options.task)
    if not options.cluster:
        raise InputError(Fault("--follow and --stop need --cluster", "none", "Add --cluster cluster.yaml"))
    there = head_node.read(options.cluster)
    if options.json and not there.is_file:
        raise InputError(Fault("--json needs the cluster's yaml", options.cluster, "Name the file."))
    raise_if_any(file_faults("--json", options.json) if options.json else [])
    if options.resume and not options.name and not options.follow:
        raise InputError(Fault("--resume on a cluster needs --name", "none", "--follow NAME shows its state."))
    name = options.stop or options.follow or options.name or new_name(options.task)
    try:
        if options.stop:
            return stop(there, options.task, name, console)
        place = "" if options.follow and not options.json else head_node.storage_of(there, options.storage)
        if options.follow:
            code = follow(there, options.task, name, console)
        else:
            code = _send(there, name, place, options, console)
        if options.json and code in (0, EXIT_INCOMPLETE):
            head_node.download(there, f"{head_node.folder_of(place, name)}/{RESULT}", Path(options.json))
        return code or 0
    except KeyboardInterrupt:
        look = _command_line(there, options.task, "--follow", name)
        text = f"Interrupted. To see whether the study runs on the cluster: [bold]{look}[/]"
        console.print(text, highlight=False, soft_wrap=True)
        return EXIT_INTERRUPTED


def _send(there: Cluster, name: str, place: str, options: argparse.Namespace, console: Console) -> int | None:
    """Submit the study with the options as typed and paths as they are on the cluster. Returns the same as `run`."""
    from platform.tracking.mlflow_store import address_faults

    settings = [absolute_paths(setting) for setting in options.settings]
    faults = location_faults([*options.data, place], settings)
    raise_if_any([*faults, *address_faults(options.tracking_uri or "")])
    words = ["--name", name, "--storage", place]
    words += [word for setting in settings for word in ("--set", relative(setting))]
    words += typed(options, but={"task", "cluster", "name", "storage", "settings", "json", "list"})
    return run(there, options.task, name, place, words, console)


def run(cluster: Cluster, task: str, name: str, place: str, arguments: Sequence[str], console: Console) -> int | None:
    """Submit a study to a cluster and follow it.

    Args:
        cluster: The cluster.
        task: Name of the task.
        name: Name of the study.
        place: Storage of the study.
        arguments: Arguments of `python -m platform.tune TASK` on the cluster.
        console: Console for what the study prints.

    Returns:
        The exit code of the study; None if following ended earlier.
    """
    with client_of(cluster) as client:
        earlier = [job for job in client.list_jobs() if (job.metadata or {}).get("study") == name]
        if any(str(job.status) in RUNNING for job in earlier):
            remedy = f"Choose another --name, or follow it: --follow {name}"
            raise InputError(Fault("only one job at a time may work on a study", f"{name} on {cluster.place}", remedy))
        job = f"{name}.{len(earlier) + 1}" if earlier else name
        entrypoint = shlex.join(["python", "-m", "platform.tune", task, *arguments])
        console.print(f"Sending [bold]{name}[/] to {cluster.place} …", highlight=False)
        runtime_env = {
            "working_dir": str(project.ROOT),
            "excludes": list(NOT_SENT),
            "env_vars": {
                project.COMMIT: project.commit(),
                project.CLUSTER: short(cluster.place),
                "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
            },
        }
        metadata = {"study": name, "task": task, "storage": place}
        _submit(client, entrypoint=entrypoint, submission_id=job, metadata=metadata, runtime_env=runtime_env)
    for line in reminders(cluster, task, name):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return _follow(cluster, task, name, job, console)


def _submit(client: Any, **job: Any) -> None:
    """Submit a job; wait for a head that was just started until it accepts jobs."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            client.submit_job(**job)
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(1)


def follow(cluster: Cluster, task: str, name: str, console: Console) -> int | None:
    """Follow a study that runs or ran on a cluster; everything it printed is shown. Returns the same as `run`."""
    with client_of(cluster) as client:
        job = _newest(client, cluster, name)
    return _follow(cluster, task, name, job, console)


def stop(cluster: Cluster, task: str, name: str, console: Console) -> int:
    """Interrupt a study that runs on a cluster and return the exit code."""
    with client_of(cluster) as client:
        job = _newest(client, cluster, name)
        if str(client.get_job_status(job)) not in RUNNING:
            found = f"{name}: {client.get_job_status(job)}"
            raise InputError(Fault("--stop needs a study that runs", found, f"Show what it printed: --follow {name}"))
        client.stop_job(job)
        while str(client.get_job_status(job)) in RUNNING:
            time.sleep(0.5)
        place = client.get_job_info(job).metadata["storage"]
        storage = [] if place == cluster.storage else ["--storage", place]
        resume = _command_line(cluster, task, "--resume", "--name", name, *storage)
        console.print(f"Stopped. To continue: [bold]{resume}[/]", highlight=False, soft_wrap=True)
    return 0


def running(cluster: Cluster) -> list[str]:
    """Return a phrase for each study or other job that runs on a cluster."""
    with client_of(cluster) as client:
        return [
            f"{job.submission_id or job.job_id} ({job.entrypoint[:60]})"
            for job in client.list_jobs()
            if str(job.status) in RUNNING
        ]


def reminders(cluster: Cluster, task: str, name: str) -> list[str]:
    """Return lines with the commands to leave a study, follow it again, stop it and see it in MLflow."""
    lines = [
        "Ctrl-C stops following; the study keeps running on the cluster.",
        f"  follow it again:   {_command_line(cluster, task, '--follow', name)}",
        f"  stop it:           {_command_line(cluster, task, '--stop', name)}",
    ]
    if cluster.is_file:
        port = str(MLFLOW)
        tunnel = shlex.join(["ray", "dashboard", short(cluster.place), "--port", port, "--remote-port", port])
        lines.append(f"  see it in MLflow:  {tunnel}      then open http://localhost:{MLFLOW}")
    return lines


def _follow(cluster: Cluster, task: str, name: str, job: str, console: Console) -> int | None:
    import aiohttp

    log, lost = _JobLog(), False
    before = signal.signal(signal.SIGINT, log.leave)
    try:
        while True:
            try:
                with client_of(cluster) as client:
                    lost = False
                    asyncio.run(log.tail(client, job))
                    info = client.get_job_info(job)
                if str(info.status) not in RUNNING:
                    break
            except (OSError, RuntimeError, InputError, aiohttp.ClientError) as error:
                if not lost:  # for example, the tunnel broke; the study goes on
                    console.print(f"[yellow]Connection lost, trying again: {escape(str(error))}[/]", highlight=False)
                lost = True
            time.sleep(RETRY_S)
    except KeyboardInterrupt:
        console.print()
        for line in ["The study keeps running on the cluster.", *reminders(cluster, task, name)[1:]]:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        return None
    finally:
        signal.signal(signal.SIGINT, before)
    if str(info.status) == "STOPPED":
        return EXIT_INTERRUPTED
    if info.driver_exit_code is None:
        console.print(f"[red]{info.status}: {info.message}[/]", highlight=False, soft_wrap=True)
        return EXIT_INCOMPLETE
    return int(info.driver_exit_code)


class _JobLog:
    """Print a job's log; text that was printed is skipped when the log is read again from its beginning."""

    def __init__(self) -> None:
        self.characters, self.left, self._tailing = 0, False, False

    def leave(self, number: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C. A cancellation, asyncio's own way, can get lost in libraries."""
        self.left = True
        if not self._tailing:
            raise KeyboardInterrupt

    async def tail(self, client: Any, job: str) -> None:
        """Print the log until the job ends; KeyboardInterrupt after Ctrl-C."""
        self._tailing = True
        task = asyncio.create_task(self._tail(client, job))
        try:
            while not task.done() and not self.left:
                await asyncio.wait({task}, timeout=POLL_S)
        finally:
            self._tailing = False
        if self.left:
            task.cancel()
            raise KeyboardInterrupt
        task.result()

    async def _tail(self, client: Any, job: str) -> None:
        position = 0
        async for text in client.tail_job_logs(job):
            new = text[max(0, self.characters - position) :]
            position += len(text)
            self.characters = max(self.characters, position)
            sys.stdout.write(new)
            sys.stdout.flush()


def _newest(client: Any, cluster: Cluster, name: str) -> str:
    """Return the id of the last job that worked on a study; an InputError if there is none."""
    jobs = [job for job in client.list_jobs() if (job.metadata or {}).get("study") == name]
    if not jobs:
        known = sorted({job.metadata["study"] for job in client.list_jobs() if "study" in (job.metadata or {})})
        remedy = f"Studies there: {', '.join(known)}." if known else "No study was sent to it."
        raise InputError(Fault("a study of that name must be on the cluster", f"{name} on {cluster.place}", remedy))
    return max(jobs, key=lambda job: job.start_time or 0).submission_id


def location_faults(places: Sequence[str], settings: Sequence[str]) -> list[Fault]:
    """Return a fault for each place and file that a cluster cannot see."""
    faults = []
    for place in places:
        if not re.match(r"\w{2,}:", place) and not Path(place).is_absolute():
            remedy = "Use s3://…, gs://…, or the absolute path of a folder that all nodes share."
            faults.append(Fault("a cluster cannot see folders of this machine", place, remedy))
    for setting in settings:
        for value in paths_in(setting):
            if Path(value).is_absolute() and Path(value).exists() and not _in_checkout(Path(value)):
                remedy = f"Copy it into {project.ROOT}, which is sent to the cluster."
                faults.append(Fault("a cluster cannot see files of this machine", setting, remedy))
    return faults


def relative(setting: str) -> str:
    """Return a setting with paths in the checkout relative to its root, as they are valid on the cluster."""
    return with_paths(setting, _relative)


def _relative(path: str) -> str:
    if Path(path).is_absolute() and _in_checkout(Path(path)):
        return os.path.relpath(path, project.ROOT)
    return path


def _in_checkout(path: Path) -> bool:
    return path.resolve().is_relative_to(project.ROOT)


def _command_line(cluster: Cluster, task: str, *words: str) -> str:
    return shlex.join(["python", "-m", "platform.tune", task, "--cluster", short(cluster.place), *words])
