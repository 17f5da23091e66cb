"""Files and folders that appear whole or not at all."""

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"  # beginning of the name of a folder that is being written


@contextmanager
def new_file(target: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary path, and rename it to the target when the block has succeeded.

    A reader sees the file as it was before or all of the new one. The temporary file is deleted if the block fails. It
    lies in the target's folder, or in `scratch` on the same disk.
    """
    partial = (scratch or target.parent) / f".{target.name}.{uuid.uuid4().hex[:8]}"
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path, prefix: str = PARTIAL, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside the target, and rename it to the target when the block has succeeded.

    The temporary folder is deleted if the block fails.

    Args:
        target: Folder to make, in an existing folder.
        prefix: Beginning of the temporary folder's name, by which cleanup code recognises it.
        replace: Delete a target that exists, just before the renaming.

    Raises:
        OSError: The target exists and is not empty, or the disk is full.
    """
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp makes a folder that only its owner may read
        if replace and target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file's bytes, whole or not at all."""
    with new_file(file) as partial:
        partial.write_bytes(content)


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with new_file(file) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(file: Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(file, json.dumps(content, indent=indent, ensure_ascii=False))
