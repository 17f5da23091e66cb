"""What a trial does first on a node of a cluster: it looks whether the node will do, brings the data there, once, and
finds folders of the node's own.

    FOLDER/data/HASH            prepared data, as brought
    FOLDER/features             the prefix store
    FOLDER/studies/ID/trials    checkpoints, where they are sent to a bucket
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

# Where these differ, two trials of one configuration would not be the same.
LIBRARIES = (
    "ray", "torch", "torchvision", "transformers", "open_clip_torch", "optuna", "mlflow", "faster-coco-eval", "numpy"
)  # fmt: skip


class UnfitNodeError(RuntimeError):
    """A trial cannot run on this node, and why; it can on another."""


@dataclass(frozen=True)
class Site:
    """What trials are told of a study whose nodes have folders of their own; travels in config["context"]["site"].

    Attributes:
        study: Its id.
        data: Where the prepared data lies, a folder that all nodes see or an address in a bucket.
        digest: Of its manifest.
        remote: The study's address in a bucket, "" where all nodes see its folder.
        reuse: Whether what frozen stages made is kept.
        store_gb: How much of it, None for what the node has room for.
        alike: What a node must have like the driver, by name.
    """

    study: str
    data: str
    digest: str
    remote: str = ""
    reuse: bool = True
    store_gb: float | None = None
    alike: Mapping[str, str] | None = None


def folder() -> Path:
    """This node's own, for this user alone.

    Raises:
        OSError: It cannot be made, or is someone else's.
    """
    mine = Path(tempfile.gettempdir()) / f"platform-tune-{os.getuid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    if mine.stat().st_uid != os.getuid():
        raise PermissionError(f"{mine} belongs to another user")
    return mine


@functools.cache
def alike() -> dict[str, str]:
    """What must be the same on all nodes: Python, the libraries, this project's code."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": sys.version.split()[0], **versions, "project": project.code_digest()[:12]}


def unlike(theirs: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """What differs, in words."""
    return [f"{key} {theirs.get(key)}, not {value}" for key, value in mine.items() if theirs.get(key) != value]


def on_node(train: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """A trainable for clusters: it is called with places of the node that it runs on."""

    @functools.wraps(train)
    def trial(config: dict[str, Any]) -> None:
        context = {key: value for key, value in config["context"].items() if key != "site"}
        site = Site(**config["context"]["site"])
        try:
            _check(site, context["gpus"])
            context |= _places(site, context)
        except (OSError, DamagedError) as error:
            raise UnfitNodeError(f"{name()}: {type(error).__name__}: {error}") from error
        try:
            train({**config, "context": context})
        except StorageError as error:  # of its network, or of the bucket: then no node will do
            raise UnfitNodeError(f"{name()}: {error}") from error
        finally:
            if site.remote and context.get("folder"):  # the bucket has all that another attempt needs
                shutil.rmtree(context["folder"], ignore_errors=True)

    return trial


def name() -> str:
    """What Ray and people call this node."""
    import ray

    return f"{ray.get_runtime_context().get_node_id()} ({socket.gethostname()})"


def brought(place: str, digest: str) -> Path:
    """Prepared data on this node: brought and verified by the first trial that asks, while others wait.

    Raises:
        DamagedError: It is not as it was written.
        OSError: It cannot be read, or the disk does not take it.
    """
    data = folder() / "data" / digest
    data.parent.mkdir(exist_ok=True)
    with FileLock(f"{data}.lock"):
        if not data.exists():
            filesystem.bring_whole(place, data)
            filesystem.note_origin(data, place)
    return data


def _check(site: Site, gpus: float) -> None:
    """What can go wrong on a node that came after the others were asked; for data, storage and disk it is tried."""
    faults = unlike(alike(), site.alike or {})
    if gpus and not torch.cuda.is_available():
        faults.append("torch cannot use its GPUs")
    if faults:
        raise UnfitNodeError(f"{name()}: {'; '.join(faults)}")


def _places(site: Site, context: Mapping[str, Any]) -> dict[str, Any]:
    mine = folder()
    store = mine / "features"
    places: dict[str, Any] = {"data": str(brought(site.data, site.digest))}
    places["store"] = str(store) if site.reuse else ""
    places["store_bytes"] = capacity(store, site.store_gb) if site.reuse else 0
    if site.remote and context["trial"]:
        study = mine / "studies" / site.study
        places |= {
            "folder": str(study / "trials" / context["trial"]),
            "shelf": str(study / "frozen"),
            "remote": f"{site.remote}/trials/{context['trial']}",
        }
    return places
