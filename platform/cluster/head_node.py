"""Cluster as its yaml describes it, and the connection from the user's machine to its head by Ray's SSH commands."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from platform.cluster.ray_runtime import keep_token_secret
from platform.errors import Fault, InputError, last_line, raise_if_any
from platform.storage import filesystem

DASHBOARD = 8265  # port on the head; it listens on 127.0.0.1 only and is reached through a tunnel
TUNNEL_S = 60.0  # seconds until the tunnel must be open
BLANK = "FILL-IN"  # placeholder in a yaml that the user must replace


@dataclass(frozen=True)
class Cluster:
    """Cluster that a yaml describes, or that answers at an address.

    Attributes:
        place: The yaml's path, or "http://HOST:PORT" of the dashboard.
        metadata: The yaml's "metadata" section, which only this project reads.
    """

    place: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """True if `ray` commands can be given the place."""
        return not self.place.startswith("http")

    @property
    def storage(self) -> str:
        """Default storage of its studies, "" if the yaml has none."""
        return str(self.metadata.get("storage") or "")


def use_token() -> None:
    """Authenticate with the token in ~/.ray, which is created if it is missing. Call this before Ray is imported."""
    keep_token_secret()
    os.environ.setdefault("RAY_AUTH_MODE", "token")


def read(place: str) -> Cluster:
    """Read a cluster's yaml, or accept the address of a dashboard.

    Raises:
        InputError: The file is missing, does not describe a cluster, or has a placeholder that is not filled in.
    """
    if place.startswith("http"):
        return Cluster(place.rstrip("/"))
    rule, remedy = "--cluster must be a cluster's yaml", "cluster.yaml and cluster-onprem.yaml are beside the README."
    try:
        text = Path(place).read_text()
        settings = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(Fault(rule, f"{place}: {error}", remedy)) from error
    if not isinstance(settings, dict) or "cluster_name" not in settings:
        raise InputError(Fault(rule, f"{place} without cluster_name", remedy))
    raise_if_any(_placeholder_faults(settings, place))
    return Cluster(str(Path(place).resolve()), settings.get("metadata") or {})


def storage_of(cluster: Cluster, asked: str | None) -> str:
    """Return the storage of a study on a cluster.

    Raises:
        InputError: Neither the command nor the yaml names one.
    """
    place = asked or cluster.storage
    if not place:
        remedy = "Use --storage s3://…, gs://… or a shared folder; or write it into the yaml, metadata: storage."
        raise InputError(Fault("a study on a cluster must be kept where all nodes see it", "no --storage", remedy))
    return filesystem.resolved(place) if filesystem.is_bucket(place) else place


def folder_of(place: str, name: str) -> str:
    """Return the path of a study's folder on the head."""
    return f"{filesystem.folder_on_any_machine(place)}/{name}"


def download(cluster: Cluster, source: str, target: Path) -> None:
    """Copy a file from the head to this machine, or the content of a folder if `source` ends with a slash.

    Raises:
        InputError: The copy failed.
    """
    command = ray_command("rsync-down", cluster.place, source, str(target))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        message = last_line(done.stdout, "no message")
        remedy = "Check that the head is up, then try again."
        raise InputError(Fault("files of the head must be copied to this machine", f"{source}: {message}", remedy))


def ray_command(*words: str) -> list[str]:
    """Return a `ray` command line that uses this Python environment."""
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


@contextmanager
def client_of(cluster: Cluster) -> Iterator[Any]:
    """Open a client for the jobs of a cluster.

    Raises:
        InputError: The cluster does not answer.
    """
    with tunnel(cluster) as address:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for chatty in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
            logging.getLogger(chatty).setLevel(logging.ERROR)  # one message for each file that is not sent, for example
        try:
            yield JobSubmissionClient(address)
        except (OSError, RuntimeError, AuthenticationError) as error:
            remedy = "Check that it is up and that ~/.ray/auth_token is the token it was started with."
            raise InputError(Fault("the cluster must answer", f"{cluster.place}: {error}", remedy)) from error
        except ValueError as error:  # for example, the checkout is too large
            remedy = "Keep large files out of the checkout or let git ignore them; data belongs in the storage."
            raise InputError(Fault("the cluster must accept the checkout", str(error), remedy)) from error


@contextmanager
def tunnel(cluster: Cluster) -> Iterator[str]:
    """Open Ray's SSH tunnel and yield the address at which the head's dashboard answers on this machine.

    Raises:
        InputError: The tunnel could not be opened.
    """
    if not cluster.is_file:
        yield cluster.place
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ray_command("dashboard", cluster.place, "--port", str(port), "--remote-port", str(DASHBOARD))
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (not a pipe: the ssh that Ray starts would keep it open)
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + TUNNEL_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                message = (log.read().strip().splitlines() or ["no message"])[-1]
                remedy = f"Start the cluster if it is down: ray up {short(cluster.place)}"
                raise InputError(Fault("the cluster's head must be reached through SSH", message, remedy))
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(process)
        log.close()


def short(place: str) -> str:
    """Return a place as the user would type it: a path relative to the current folder if possible."""
    path = Path(place)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else place


def _placeholder_faults(settings: Any, where: str) -> list[Fault]:
    """Return a fault for each value that is not filled in."""
    if isinstance(settings, dict):
        return [fault for key, value in settings.items() for fault in _placeholder_faults(value, f"{where}: {key}")]
    if isinstance(settings, list):
        return [fault for value in settings for fault in _placeholder_faults(value, where)]
    if isinstance(settings, str) and BLANK in settings:
        remedy = "The first lines of the file say how."
        return [Fault("a cluster's yaml must be filled in", f"{where}: {settings}", remedy)]
    return []


def _answers(port: int) -> bool:
    """Return True if the far end of a tunnel answers; the near end is open earlier."""
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        return True
    except urllib.error.HTTPError:
        return True  # any status, 401 for example, shows that a server answers
    except OSError:
        return False


def _end(process: subprocess.Popen) -> None:
    """End Ray's command and the ssh process that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
