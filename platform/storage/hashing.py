"""Names for what is made once and kept: a hash of everything that it depends on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def key_of(facts: Mapping[str, Any]) -> str:
    """A short file name from JSON-able facts; equal facts give equal names."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def state_of(path: Path) -> list[list[Any]]:
    """What changes when a file, or a file in a folder, is written anew: name, size, time; empty where there is none."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
