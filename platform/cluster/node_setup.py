"""Setup of a trial on a cluster node: check the node, fetch the data once, use folders on the node's own disk.

FOLDER/data/HASH            prepared data
FOLDER/features             feature store
FOLDER/studies/ID/trials    checkpoints, if they are sent to a bucket
"""

import functools
import importlib.metadata
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from platform import project
from platform.storage import filesystem
from platform.storage.checkpoint_mirror import StorageError
from platform.storage.manifest import DamagedError
from platform.training.feature_store import capacity

# With other versions of these, two trials of one config may give different results.
LIBRARIES = (
    "ray", "torch", "torchvision", "transformers", "open_clip_torch", "optuna", "mlflow", "faster-coco-eval", "numpy"
)  # fmt: skip


class UnfitNodeError(RuntimeError):
    """A trial cannot run on this node, but may run on another one."""


@dataclass(frozen=True)
class Site:
    """Facts about a study that its trials need on a cluster; trials find it in config["context"]["site"].

    Attributes:
        study: Id of the study.
        data: Place of the prepared data: a folder that all nodes see, or an address in a bucket.
        digest: Digest of the data's manifest.
        remote: Address of the study in a bucket, "" if all nodes see its folder.
        reuse: True if the outputs of frozen stages are stored.
        store_gb: Size limit of the feature store in GB, None to derive it from the free space.
        environment: Expected result of `environment()`; None to skip the check.
    """

    study: str
    data: str
    digest: str
    remote: str = ""
    reuse: bool = True
    store_gb: float | None = None
    environment: Mapping[str, str] | None = None


def node_folder() -> Path:
    """Return this node's folder, which only this user may access.

    Raises:
        OSError: It cannot be created, or belongs to another user.
    """
    folder = Path(tempfile.gettempdir()) / f"platform-tune-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder


@functools.cache
def environment() -> dict[str, str]:
    """Return the versions that must be equal on all nodes: Python, libraries and this project's code."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": sys.version.split()[0], **versions, "project": project.code_digest()[:12]}


def differences(actual: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return one phrase for each version that is not as expected."""
    return [f"{key} {actual.get(key)}, not {value}" for key, value in expected.items() if actual.get(key) != value]


def on_node(train: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Wrap a trainable for clusters: it gets the folders of the node that it runs on."""

    @functools.wraps(train)
    def trial(config: dict[str, Any]) -> None:
        context = {key: value for key, value in config["context"].items() if key != "site"}
        site = Site(**config["context"]["site"])
        try:
            _check(site, context["gpus"])
            context |= _folders(site, context)
        except (OSError, DamagedError) as error:
            raise UnfitNodeError(f"{node_name()}: {type(error).__name__}: {error}") from error
        try:
            train({**config, "context": context})
        except StorageError as error:  # the node's network or the bucket failed
            raise UnfitNodeError(f"{node_name()}: {error}") from error
        finally:
            if site.remote and context.get("folder"):  # the bucket has all that another attempt needs
                shutil.rmtree(context["folder"], ignore_errors=True)

    return trial


def node_name() -> str:
    """Return Ray's id of this node and its host name."""
    import ray

    return f"{ray.get_runtime_context().get_node_id()} ({socket.gethostname()})"


def fetch_data(place: str, digest: str) -> Path:
    """Return the folder of prepared data on this node. The first trial that asks copies and verifies it; others wait.

    Raises:
        DamagedError: The data differs from what was written.
        OSError: The data cannot be read, or this disk cannot be written.
    """
    data = node_folder() / "data" / digest
    data.parent.mkdir(exist_ok=True)
    with FileLock(f"{data}.lock"):
        if not data.exists():
            filesystem.download_verified(place, data)
            filesystem.record_origin(data, place)
    return data


def _check(site: Site, gpus: float) -> None:
    """Check versions and GPU again, as the node may have joined after the preflight check."""
    faults = differences(environment(), site.environment or {})
    if gpus and not torch.cuda.is_available():
        faults.append("torch cannot use its GPUs")
    if faults:
        raise UnfitNodeError(f"{node_name()}: {'; '.join(faults)}")


def _folders(site: Site, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a trial's context that differ from node to node."""
    own = node_folder()
    store = own / "features"
    folders: dict[str, Any] = {"data": str(fetch_data(site.data, site.digest))}
    folders["store"] = str(store) if site.reuse else ""
    folders["store_bytes"] = capacity(store, site.store_gb) if site.reuse else 0
    if site.remote and context["trial"]:
        study = own / "studies" / site.study
        folders |= {
            "folder": str(study / "trials" / context["trial"]),
            "shared_stages": str(study / "frozen"),
            "remote": f"{site.remote}/trials/{context['trial']}",
        }
    return folders
