"""A cluster as its yaml describes it, and the way from one's own machine to its head: SSH, by Ray's own commands."""

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
from platform.errors import Fault, InputError, raise_if_any
from platform.storage import filesystem

DASHBOARD = 8265  # port on the head, for processes there alone: reached through a tunnel
TUNNEL_S = 60.0  # until it must stand
BLANK = "FILL-IN"  # what a cluster's yaml says where its user is to write


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


def storage_of(cluster: Cluster, asked: str | None) -> str:
    """Where a study on a cluster is kept.

    Raises:
        InputError: Neither the command nor the yaml says.
    """
    place = asked or cluster.storage
    if not place:
        remedy = "Use --storage s3://…, gs://… or a shared folder; or write it into the yaml, metadata: storage."
        raise InputError(Fault("a study on a cluster must be kept where all nodes see it", "no --storage", remedy))
    return filesystem.resolved(place) if filesystem.is_bucket(place) else place


def folder_of(place: str, name: str) -> str:
    """Where the head has a study's folder."""
    return f"{filesystem.on_any(place)}/{name}"


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


def ray_command(*words: str) -> list[str]:
    """A `ray` command of this environment."""
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


@contextmanager
def client_of(cluster: Cluster) -> Iterator[Any]:
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
                remedy = f"Is it up? ray up {short(cluster.place)}"
                found = (told or ["nothing was said"])[-1]
                raise InputError(Fault("the cluster's head must be reached through SSH", found, remedy))
            time.sleep(0.2)
        yield f"http://127.0.0.1:{mine}"
    finally:
        _end(process)
        log.close()


def short(place: str) -> str:
    """As one would type it here."""
    path = Path(place)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else place


def _blanks(told: Any, where: str) -> list[Fault]:
    """What is still to be filled in."""
    if isinstance(told, dict):
        return [fault for key, value in told.items() for fault in _blanks(value, f"{where}: {key}")]
    if isinstance(told, list):
        return [fault for value in told for fault in _blanks(value, where)]
    if isinstance(told, str) and BLANK in told:
        return [Fault("a cluster's yaml must be filled in", f"{where}: {told}", "Its first lines say with what.")]
    return []


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
