"""A folder with a manifest: a hash of each of its files, written last, so that what has one was written whole."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import xxhash

MANIFEST = "manifest.json"


class DamagedError(Exception):
    """Files are not as they were written, and which."""


def seal(folder: Path, **facts: Any) -> str:
    """Writes the manifest of a folder: a hash of each file, and what else is to be known of it.

    Returns:
        A hash of the manifest.
    """
    files = {path.relative_to(folder).as_posix(): file_mark(path) for path in _files(folder) if path.name != MANIFEST}
    text = json.dumps({"files": files, **facts}, indent=2)
    partial = folder / f".{MANIFEST}.{os.getpid()}"
    partial.write_text(text)
    partial.replace(folder / MANIFEST)
    return xxhash.xxh3_128_hexdigest(text.encode())


def verify(folder: Path) -> dict[str, Any]:
    """Reads all files of a sealed folder.

    Returns:
        Its manifest.

    Raises:
        DamagedError: One is missing or is not as it was written.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        changed = [name for name, mark in manifest["files"].items() if file_mark(folder / name) != mark]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    if changed:
        raise DamagedError(f"{', '.join(changed)}: not as written")
    return manifest


def file_mark(path: Path) -> str:
    """A hash of a file's bytes; against accidents, not against an attacker."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
