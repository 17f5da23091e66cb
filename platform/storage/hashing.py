"""Hashes: keys of cached results, and digests of bytes, files and tensors.

Digests use xxHash, which reads as fast as memory does. They protect against accidents, not against an attacker.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    from torch import Tensor


def key_of(facts: Mapping[str, Any]) -> str:
    """Return a short file name for a result from the JSON-able facts that it depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def digest(content: Any) -> str:
    """Return the digest of bytes, or of anything that has a buffer."""
    return xxhash.xxh3_128_hexdigest(content)


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def tensor_digest(tensor: "Tensor") -> str:
    """Return the digest of a tensor's bytes."""
    import torch

    return digest(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as model hubs publish it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(path: Path) -> list[list[Any]]:
    """Return name, size and time of a file, or of each file in a folder; empty if there is none.

    The state changes whenever a file is written anew.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
