"""Studies on a cluster, from one's own machine: sent there as Ray jobs, followed, picked up again, stopped."""

import asyncio
import logging
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from platform import project, storage
from platform.cluster import NOT_SENT, keep_token_secret
from platform.errors import Fault, InputError, raise_if_any

DASHBOARD, MLFLOW = 8265, 5000  # ports on the head, for processes there alone: reached through a tunnel
TUNNEL_S = 60.0  # until it must stand
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


def run(cluster: Cluster, task: str, name: str, arguments: Sequence[str], again: bool, console: Console) -> int:
    """Sends a study to a cluster and follows it.

    Args:
        cluster: Where to.
        task: What is trained.
        name: The study's.
        arguments: Of `python -m platform.tune TASK` there.
        again: Whether it goes on with a study that was begun there.
        console: Shows what the study prints.

    Returns:
        The exit code of the study; 0 where following ended before it.
    """
    with _client(cluster) as client:
        known = [job.submission_id for job in client.list_jobs() if job.submission_id]
        if name in known and not again:
            remedy = f"Choose another --name, or follow it: --follow {name}"
            raise InputError(Fault("a study's name must be new", f"{name} on {cluster.place}", remedy))
        earlier = len([job for job in known if re.fullmatch(rf"{re.escape(name)}(\.\d+)?", job)])
        job = f"{name}.{earlier + 1}" if earlier else name
        entrypoint = shlex.join(["python", "-m", "platform.tune", task, *arguments])
        console.print(f"Sending [bold]{name}[/] to {cluster.place} …", highlight=False)
        client.submit_job(
            entrypoint=entrypoint,
            submission_id=job,
            metadata={"study": name, "task": task},
            runtime_env={
                "working_dir": str(project.ROOT),
                "excludes": list(NOT_SENT),
                "env_vars": {project.COMMIT: project.commit()},
            },
        )
        for line in reminders(cluster, task, name):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        return _follow(cluster, client, task, name, job, console)


def follow(cluster: Cluster, task: str, name: str, console: Console) -> int:
    """Picks up a study that runs on a cluster, or has: shows all that it printed. Returns as `run` does."""
    with _client(cluster) as client:
        return _follow(cluster, client, task, name, _newest(client, cluster, name), console)


def stop(cluster: Cluster, task: str, name: str, console: Console) -> int:
    """Interrupts a study that runs on a cluster. Returns the exit code."""
    with _client(cluster) as client:
        job = _newest(client, cluster, name)
        if str(client.get_job_status(job)) not in RUNNING:
            raise InputError(Fault("--stop needs a study that runs", f"{name}: {client.get_job_status(job)}", ""))
        client.stop_job(job)
        while str(client.get_job_status(job)) in RUNNING:
            time.sleep(0.5)
        go_on = _command(cluster, task, "--resume", "--name", name)
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
    return f"{storage.MIRRORS}/{place.replace('://', '/')}/{name}" if storage.is_bucket(place) else f"{place}/{name}"


def reminders(cluster: Cluster, task: str, name: str) -> list[str]:
    """What to type to leave a study, to pick it up again and to look at it in MLflow."""
    lines = [
        "Ctrl-C leaves it running there.",
        f"  follow it again:   {_command(cluster, task, '--follow', name)}",
        f"  stop it:           {_command(cluster, task, '--stop', name)}",
    ]
    if cluster.is_file:
        tunnel = shlex.join(["ray", "dashboard", _short(cluster.place), "--port", "5000", "--remote-port", "5000"])
        lines.append(f"  see it in MLflow:  {tunnel}      then open http://localhost:{MLFLOW}")
    return lines


@contextmanager
def tunnel(cluster: Cluster, port: int = DASHBOARD) -> Iterator[str]:
    """The address at which a port of the head answers on this machine, by Ray's own tunnel through SSH.

    Raises:
        InputError: It does not come to stand.
    """
    if not cluster.is_file:
        yield cluster.place
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mine = probe.getsockname()[1]
    command = ray_command("dashboard", cluster.place, "--port", str(mine), "--remote-port", str(port))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until = time.monotonic() + TUNNEL_S
        while not _answers(mine):
            if process.poll() is not None or time.monotonic() > until:
                process.terminate()
                told = (process.communicate()[0] or b"").decode(errors="replace").strip().splitlines()
                remedy = f"Is it up? ray up {_short(cluster.place)}"
                found = (told or ["nothing was said"])[-1]
                raise InputError(Fault("the cluster's head must be reached through SSH", found, remedy))
            time.sleep(0.2)
        yield f"http://127.0.0.1:{mine}"
    finally:
        _end(process)


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

        logging.getLogger("ray").setLevel(logging.ERROR)  # it would tell of each file that it does not send
        try:
            client = JobSubmissionClient(address)
        except (ConnectionError, RuntimeError, AuthenticationError) as error:
            remedy = "Is it up, and is ~/.ray/auth_token the one that it was made with?"
            raise InputError(Fault("the cluster must answer", f"{cluster.place}: {error}", remedy)) from error
        yield client


def _follow(cluster: Cluster, client: Any, task: str, name: str, job: str, console: Console) -> int:
    printed = _Printed()
    try:
        while True:
            try:
                asyncio.run(printed.tail(client, job))
            except (OSError, RuntimeError) as error:  # the tunnel broke, say: the study does not mind
                console.print(f"[yellow]Lost sight of it ({error}); looking again …[/]", highlight=False)
                time.sleep(2)
            info = client.get_job_info(job)
            if str(info.status) not in RUNNING:
                break
    except KeyboardInterrupt:
        console.print()
        for line in ["It goes on there.", *reminders(cluster, task, name)[1:]]:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        return 0
    if info.driver_exit_code is None:
        console.print(f"[red]{info.status}: {info.message}[/]", highlight=False, soft_wrap=True)
        return 1
    return int(info.driver_exit_code)


class _Printed:
    """What a job prints, once, however often its log is begun again."""

    def __init__(self) -> None:
        self.characters = 0

    async def tail(self, client: Any, job: str) -> None:
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
            if Path(value).is_absolute() and Path(value).exists() and not _in_checkout(Path(value)):
                remedy = f"Copy it into {project.ROOT}: that travels there."
                faults.append(Fault("a cluster does not see files of this machine", setting, remedy))
    return faults


def relative(setting: str) -> str:
    """A setting as it is to be understood where the checkout lies elsewhere: files in it are found from its root."""
    key, equals, value = setting.partition("=")
    parts = [
        os.path.relpath(part, project.ROOT) if Path(part).is_absolute() and _in_checkout(Path(part)) else part
        for part in value.split(",")
    ]
    return key + equals + ",".join(parts)


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
    import contextlib
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    if process.stdout:
        process.stdout.close()


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
