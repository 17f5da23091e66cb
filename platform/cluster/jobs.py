"""Studies on a cluster, from one's own machine: sent there as Ray jobs, followed, picked up again, stopped."""

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

MLFLOW = 5000  # port on the head, for processes there alone: reached through a tunnel
READY_S = 60.0  # until a head must take jobs
STOP_S = 120  # that a study has to write down how far it came, once it is told to stop; Ray's own are 3
LOOK_S = 0.3  # between two looks whether the user has had enough
AGAIN_S = 2.0  # before a study is looked for again
RUNNING = ("PENDING", "RUNNING")  # of a job's status


def command(options: argparse.Namespace, console: Console) -> int:
    """What is typed after `platform.tune` with --cluster, --follow or --stop; returns the exit code.

    To be called after `head.use_token`.

    Raises:
        InputError: It cannot be done.
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
        code = (
            follow(there, options.task, name, console)
            if options.follow
            else _send(there, name, place, options, console)
        )
        if options.json and code in (0, EXIT_INCOMPLETE):
            head_node.download(there, f"{head_node.folder_of(place, name)}/{RESULT}", Path(options.json))
        return code or 0
    except KeyboardInterrupt:
        look = _typed_for(there, options.task, "--follow", name)
        console.print(f"Interrupted. Look whether it runs there: [bold]{look}[/]", highlight=False, soft_wrap=True)
        return EXIT_INTERRUPTED


def _send(there: Cluster, name: str, place: str, options: argparse.Namespace, console: Console) -> int | None:
    """Sends the study as it was typed, with paths as they are there. Returns as `run` does."""
    from platform.tracking.mlflow_store import address_faults

    settings = [absolute_paths(setting) for setting in options.settings]
    faults = place_faults([*options.data, place], settings)
    raise_if_any([*faults, *address_faults(options.tracking_uri or "")])
    words = ["--name", name, "--storage", place]
    words += [word for setting in settings for word in ("--set", relative(setting))]
    words += typed(options, but={"task", "cluster", "name", "storage", "settings", "json", "list"})
    return run(there, options.task, name, place, words, console)


def run(cluster: Cluster, task: str, name: str, place: str, arguments: Sequence[str], console: Console) -> int | None:
    """Sends a study to a cluster and follows it.

    Args:
        cluster: Where to.
        task: What is trained.
        name: The study's.
        place: Its storage.
        arguments: Of `python -m platform.tune TASK` there.
        console: Shows what the study prints.

    Returns:
        The exit code of the study; None where following ended before it.
    """
    with client_of(cluster) as client:
        earlier = [job for job in client.list_jobs() if (job.metadata or {}).get("study") == name]
        if any(str(job.status) in RUNNING for job in earlier):
            remedy = f"Choose another --name, or follow it: --follow {name}"
            raise InputError(Fault("one job at a time works on a study", f"{name} on {cluster.place}", remedy))
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
    """Sends a job; to a head that has just come up, once it takes jobs."""
    until = time.monotonic() + READY_S
    while True:
        try:
            client.submit_job(**job)
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(1)


def follow(cluster: Cluster, task: str, name: str, console: Console) -> int | None:
    """Picks up a study that runs on a cluster, or has: shows all that it printed. Returns as `run` does."""
    with client_of(cluster) as client:
        job = _newest(client, cluster, name)
    return _follow(cluster, task, name, job, console)


def stop(cluster: Cluster, task: str, name: str, console: Console) -> int:
    """Interrupts a study that runs on a cluster. Returns the exit code."""
    with client_of(cluster) as client:
        job = _newest(client, cluster, name)
        if str(client.get_job_status(job)) not in RUNNING:
            found = f"{name}: {client.get_job_status(job)}"
            raise InputError(Fault("--stop needs a study that runs", found, f"See what it said: --follow {name}"))
        client.stop_job(job)
        while str(client.get_job_status(job)) in RUNNING:
            time.sleep(0.5)
        kept = ["--storage", client.get_job_info(job).metadata["storage"]]
        go_on = _typed_for(cluster, task, "--resume", "--name", name, *([] if kept[1] == cluster.storage else kept))
        console.print(f"Stopped. To go on: [bold]{go_on}[/]", highlight=False, soft_wrap=True)
    return 0


def running(cluster: Cluster) -> list[str]:
    """The studies and other jobs that run on a cluster, in words."""
    with client_of(cluster) as client:
        return [
            f"{job.submission_id or job.job_id} ({job.entrypoint[:60]})"
            for job in client.list_jobs()
            if str(job.status) in RUNNING
        ]


def reminders(cluster: Cluster, task: str, name: str) -> list[str]:
    """What to type to leave a study, to pick it up again and to look at it in MLflow."""
    lines = [
        "Ctrl-C leaves it running there.",
        f"  follow it again:   {_typed_for(cluster, task, '--follow', name)}",
        f"  stop it:           {_typed_for(cluster, task, '--stop', name)}",
    ]
    if cluster.is_file:
        tunnel = shlex.join(
            ["ray", "dashboard", short(cluster.place), "--port", str(MLFLOW), "--remote-port", str(MLFLOW)]
        )
        lines.append(f"  see it in MLflow:  {tunnel}      then open http://localhost:{MLFLOW}")
    return lines


def _follow(cluster: Cluster, task: str, name: str, job: str, console: Console) -> int | None:
    import aiohttp

    printed, lost = _Printed(), False
    before = signal.signal(signal.SIGINT, printed.leave)
    try:
        while True:
            try:
                with client_of(cluster) as client:
                    lost = False
                    asyncio.run(printed.tail(client, job))
                    info = client.get_job_info(job)
                if str(info.status) not in RUNNING:
                    break
            except (OSError, RuntimeError, InputError, aiohttp.ClientError) as error:
                if not lost:  # the tunnel broke, say: the study does not mind
                    console.print(f"[yellow]Lost sight of it, looking again: {escape(str(error))}[/]", highlight=False)
                lost = True
            time.sleep(AGAIN_S)
    except KeyboardInterrupt:
        console.print()
        for line in ["It goes on there.", *reminders(cluster, task, name)[1:]]:
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


class _Printed:
    """What a job prints, once, however often its log is begun again.

    Attributes:
        left: Whether the user has had enough of it.
    """

    def __init__(self) -> None:
        self.characters, self.left, self._tailing = 0, False, False

    def leave(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C. asyncio's own answer to it, a cancellation, can get lost on the way through the libraries."""
        self.left = True
        if not self._tailing:
            raise KeyboardInterrupt

    async def tail(self, client: Any, job: str) -> None:
        """Shows what is printed until the job ends.

        Raises:
            KeyboardInterrupt: The user has had enough.
        """
        self._tailing = True
        task = asyncio.create_task(self._tail(client, job))
        try:
            while not task.done() and not self.left:
                await asyncio.wait({task}, timeout=LOOK_S)
        finally:
            self._tailing = False
        if self.left:
            task.cancel()
            raise KeyboardInterrupt
        task.result()

    async def _tail(self, client: Any, job: str) -> None:
        seen = 0
        async for text in client.tail_job_logs(job):
            new = text[max(0, self.characters - seen) :]
            seen += len(text)
            self.characters = max(self.characters, seen)
            sys.stdout.write(new)
            sys.stdout.flush()


def _newest(client: Any, cluster: Cluster, name: str) -> str:
    """The job that worked last on a study.

    Raises:
        InputError: None has.
    """
    jobs = [job for job in client.list_jobs() if (job.metadata or {}).get("study") == name]
    if not jobs:
        known = sorted({job.metadata["study"] for job in client.list_jobs() if "study" in (job.metadata or {})})
        remedy = f"Studies there: {', '.join(known)}." if known else "None was sent there."
        raise InputError(Fault("a study of that name must be on the cluster", f"{name} on {cluster.place}", remedy))
    return max(jobs, key=lambda job: job.start_time or 0).submission_id


def place_faults(places: Sequence[str], settings: Sequence[str]) -> list[Fault]:
    """What is wrong with data, storage and files for a study that runs elsewhere."""
    faults = []
    for place in places:
        if not re.match(r"\w{2,}:", place) and not Path(place).is_absolute():
            remedy = "Use s3://…, gs://…, or the absolute path of a folder that all nodes share."
            faults.append(Fault("a cluster does not see folders of this machine", place, remedy))
    for setting in settings:
        for value in paths_in(setting):
            if Path(value).is_absolute() and Path(value).exists() and not _in_checkout(Path(value)):
                remedy = f"Copy it into {project.ROOT}: that travels there."
                faults.append(Fault("a cluster does not see files of this machine", setting, remedy))
    return faults


def relative(setting: str) -> str:
    """A setting as it is to be understood where the checkout lies elsewhere: files in it are found from its root."""
    return with_paths(setting, _relative)


def _relative(path: str) -> str:
    if Path(path).is_absolute() and _in_checkout(Path(path)):
        return os.path.relpath(path, project.ROOT)
    return path


def _in_checkout(path: Path) -> bool:
    return path.resolve().is_relative_to(project.ROOT)


def _typed_for(cluster: Cluster, task: str, *words: str) -> str:
    return shlex.join(["python", "-m", "platform.tune", task, "--cluster", short(cluster.place), *words])
