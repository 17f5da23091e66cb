"""Studies on a cluster, from one's own machine: sent there as Ray jobs, followed, picked up again, stopped."""

import asyncio
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from platform import project, storage
from platform.cluster import NOT_SENT, keep_token_secret
from platform.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED, Fault, InputError, raise_if_any

DASHBOARD, MLFLOW = 8265, 5000  # ports on the head, for processes there alone: reached through a tunnel
TUNNEL_S = 60.0  # until it must stand
READY_S = 60.0  # until a head must take jobs
STOP_S = 120  # that a study has to write down how far it came, once it is told to stop; Ray's own are 3
LOOK_S = 0.3  # between two looks whether the user has had enough
AGAIN_S = 2.0  # before a study is looked for again
BLANK = "FILL-IN"  # what a cluster's yaml says where its user is to write
RUNNING = ("PENDING", "RUNNING")  # of a job's status


@dataclass(frozen=True)
class Cluster:
    """A cluster as its yaml describes it, or one that answers at an address.

    Attributes:
        place: The yaml's path, or "http://HOST:PORT" of the dashboard.
        metadata: What the yaml says to us.
    """

    place: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether `ray` commands can be given the place."""
        return not self.place.startswith("http")

    @property
    def storage(self) -> str:
        """Where its studies are kept by default, "" if it does not say."""
        return str(self.metadata.get("storage") or "")


def use_token() -> None:
    """Shows the cluster the token of ~/.ray, which is made if there is none. To be called before Ray is imported."""
    keep_token_secret()
    os.environ.setdefault("RAY_AUTH_MODE", "token")


def read(place: str) -> Cluster:
    """
    Raises:
        InputError: There is no such file, it is no cluster's, or something in it is still to be filled in.
    """
    if place.startswith("http"):
        return Cluster(place.rstrip("/"))
    rule, remedy = "--cluster must be a cluster's yaml", "cluster.yaml and cluster-onprem.yaml are beside the README."
    try:
        text = Path(place).read_text()
        told = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(Fault(rule, f"{place}: {error}", remedy)) from error
    if not isinstance(told, dict) or "cluster_name" not in told:
        raise InputError(Fault(rule, f"{place} without cluster_name", remedy))
    raise_if_any(_blanks(told, place))
    return Cluster(str(Path(place).resolve()), told.get("metadata") or {})


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
    with _client(cluster) as client:
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
                project.CLUSTER: _short(cluster.place),
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
    with _client(cluster) as client:
        job = _newest(client, cluster, name)
    return _follow(cluster, task, name, job, console)


def stop(cluster: Cluster, task: str, name: str, console: Console) -> int:
    """Interrupts a study that runs on a cluster. Returns the exit code."""
    with _client(cluster) as client:
        job = _newest(client, cluster, name)
        if str(client.get_job_status(job)) not in RUNNING:
            found = f"{name}: {client.get_job_status(job)}"
            raise InputError(Fault("--stop needs a study that runs", found, f"See what it said: --follow {name}"))
        client.stop_job(job)
        while str(client.get_job_status(job)) in RUNNING:
            time.sleep(0.5)
        kept = ["--storage", client.get_job_info(job).metadata["storage"]]
        go_on = _command(cluster, task, "--resume", "--name", name, *([] if kept[1] == cluster.storage else kept))
        console.print(f"Stopped. To go on: [bold]{go_on}[/]", highlight=False, soft_wrap=True)
    return 0


def running(cluster: Cluster) -> list[str]:
    """The studies and other jobs that run on a cluster, in words."""
    with _client(cluster) as client:
        return [
            f"{job.submission_id or job.job_id} ({job.entrypoint[:60]})"
            for job in client.list_jobs()
            if str(job.status) in RUNNING
        ]


def bring(cluster: Cluster, source: str, target: Path) -> None:
    """Copies a file or, where it ends with a slash, what is in a folder of the head to this machine, by rsync.

    Raises:
        InputError: It did not arrive.
    """
    command = ray_command("rsync-down", cluster.place, source, str(target))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        told = (done.stdout.strip().splitlines() or ["nothing was said"])[-1]
        raise InputError(Fault("what is on the head must arrive here", f"{source}: {told}", "Is it up? Try again."))


def on_head(place: str, name: str) -> str:
    """Where the head has a study's folder."""
    return f"{storage.on_any(place)}/{name}"


def reminders(cluster: Cluster, task: str, name: str) -> list[str]:
    """What to type to leave a study, to pick it up again and to look at it in MLflow."""
    lines = [
        "Ctrl-C leaves it running there.",
        f"  follow it again:   {_command(cluster, task, '--follow', name)}",
        f"  stop it:           {_command(cluster, task, '--stop', name)}",
    ]
    if cluster.is_file:
        tunnel = shlex.join(
            ["ray", "dashboard", _short(cluster.place), "--port", str(MLFLOW), "--remote-port", str(MLFLOW)]
        )
        lines.append(f"  see it in MLflow:  {tunnel}      then open http://localhost:{MLFLOW}")
    return lines


@contextmanager
def tunnel(cluster: Cluster) -> Iterator[str]:
    """The address at which the head's dashboard answers on this machine, by Ray's own tunnel through SSH.

    Raises:
        InputError: It does not come to stand.
    """
    if not cluster.is_file:
        yield cluster.place
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mine = probe.getsockname()[1]
    command = ray_command("dashboard", cluster.place, "--port", str(mine), "--remote-port", str(DASHBOARD))
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (not a pipe: the ssh that Ray starts would keep it open)
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until = time.monotonic() + TUNNEL_S
        while not _answers(mine):
            if process.poll() is not None or time.monotonic() > until:
                log.seek(0)
                told = log.read().strip().splitlines()
                remedy = f"Is it up? ray up {_short(cluster.place)}"
                found = (told or ["nothing was said"])[-1]
                raise InputError(Fault("the cluster's head must be reached through SSH", found, remedy))
            time.sleep(0.2)
        yield f"http://127.0.0.1:{mine}"
    finally:
        _end(process)
        log.close()


def ray_command(*words: str) -> list[str]:
    """A `ray` command of this environment."""
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


@contextmanager
def _client(cluster: Cluster) -> Iterator[Any]:
    """The jobs of a cluster.

    Raises:
        InputError: It does not answer.
    """
    with tunnel(cluster) as address:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for chatty in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
            logging.getLogger(chatty).setLevel(logging.ERROR)  # of each file that is not sent, say
        try:
            yield JobSubmissionClient(address)
        except (OSError, RuntimeError, AuthenticationError) as error:
            remedy = "Is it up, and is ~/.ray/auth_token the one that it was made with?"
            raise InputError(Fault("the cluster must answer", f"{cluster.place}: {error}", remedy)) from error
        except ValueError as error:  # of a checkout that is too large, say
            remedy = "Leave large files out of the checkout, or let git ignore them; data belongs into the storage."
            raise InputError(Fault("the cluster must take what is sent", str(error), remedy)) from error


def _follow(cluster: Cluster, task: str, name: str, job: str, console: Console) -> int | None:
    import aiohttp

    printed, lost = _Printed(), False
    before = signal.signal(signal.SIGINT, printed.leave)
    try:
        while True:
            try:
                with _client(cluster) as client:
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


def _blanks(told: Any, where: str) -> list[Fault]:
    """What is still to be filled in."""
    if isinstance(told, dict):
        return [fault for key, value in told.items() for fault in _blanks(value, f"{where}: {key}")]
    if isinstance(told, list):
        return [fault for value in told for fault in _blanks(value, where)]
    if isinstance(told, str) and BLANK in told:
        return [Fault("a cluster's yaml must be filled in", f"{where}: {told}", "Its first lines say with what.")]
    return []


def place_faults(places: Sequence[str], settings: Sequence[str]) -> list[Fault]:
    """What is wrong with data, storage and files for a study that runs elsewhere."""
    faults = []
    for place in places:
        if not re.match(r"\w{2,}:", place) and not Path(place).is_absolute():
            remedy = "Use s3://…, gs://…, or the absolute path of a folder that all nodes share."
            faults.append(Fault("a cluster does not see folders of this machine", place, remedy))
    for setting in settings:
        for value in setting.partition("=")[2].split(","):
            value = value.rpartition(":")[2]  # local-dir:FOLDER
            if Path(value).is_absolute() and Path(value).exists() and not _in_checkout(Path(value)):
                remedy = f"Copy it into {project.ROOT}: that travels there."
                faults.append(Fault("a cluster does not see files of this machine", setting, remedy))
    return faults


def relative(setting: str) -> str:
    """A setting as it is to be understood where the checkout lies elsewhere: files in it are found from its root."""
    key, equals, value = setting.partition("=")
    return key + equals + ",".join(map(_relative, value.split(",")))


def _relative(value: str) -> str:
    scheme, colon, path = value.rpartition(":")  # local-dir:FOLDER
    if Path(path).is_absolute() and _in_checkout(Path(path)):
        path = os.path.relpath(path, project.ROOT)
    return scheme + colon + path


def _in_checkout(path: Path) -> bool:
    return path.resolve().is_relative_to(project.ROOT)


def _command(cluster: Cluster, task: str, *words: str) -> str:
    return shlex.join(["python", "-m", "platform.tune", task, "--cluster", _short(cluster.place), *words])


def _short(place: str) -> str:
    """As one would type it here."""
    path = Path(place)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else place


def _answers(port: int) -> bool:
    """Whether the far end of a tunnel does: its near end stands before."""
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        return True
    except urllib.error.HTTPError:
        return True  # 401, say: somebody is there
    except OSError:
        return False


def _end(process: subprocess.Popen) -> None:
    """Ends Ray's command and the ssh that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def storage_of(cluster: Cluster, asked: str | None) -> str:
    """Where a study on a cluster is kept.

    Raises:
        InputError: Neither the command nor the yaml says.
    """
    place = asked or cluster.storage
    if not place:
        remedy = "Use --storage s3://…, gs://… or a shared folder; or write it into the yaml, metadata: storage."
        raise InputError(Fault("a study on a cluster must be kept where all nodes see it", "no --storage", remedy))
    return storage.resolved(place) if storage.is_bucket(place) else place
