"""Manifest of a folder: a hash of each of its files, written last, so that a folder with a manifest is complete."""

import json
from pathlib import Path
from typing import Any

from platform.storage import atomic, hashing

MANIFEST = "manifest.json"


class DamagedError(Exception):
    """Files differ from what was written; the message names them."""


def seal(folder: Path, **facts: Any) -> str:
    """Write the manifest of a folder, with a hash of each file and further facts, and return the manifest's hash."""
    files = {
        path.relative_to(folder).as_posix(): hashing.file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    text = json.dumps({"files": files, **facts}, indent=2)
    atomic.write_text(folder / MANIFEST, text)
    return hashing.digest(text.encode())


def verify(folder: Path) -> dict[str, Any]:
    """Check all files of a folder against its manifest, and return the manifest.

    Raises:
        DamagedError: A file is missing or differs from what was written.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        changed = [name for name, mark in manifest["files"].items() if hashing.file_digest(folder / name) != mark]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    if changed:
        raise DamagedError(f"{', '.join(changed)}: differs from what was written")
    return manifest
