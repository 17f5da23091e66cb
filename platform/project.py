"""This project itself: its folder, and which state of its code this is."""

import functools
import os
import subprocess
from pathlib import Path

import xxhash

ROOT = Path(__file__).resolve().parent.parent
# Variables that tell a job on a cluster, which travels without .git, what it was sent from, and how it is sent again.
COMMIT, CLUSTER = "PLATFORM_COMMIT", "PLATFORM_CLUSTER"


@functools.cache
def code_digest() -> str:
    """Of the code that makes and trains models: it may be written anew under the same name."""
    digest = xxhash.xxh3_128()
    for folder in ("platform", "trainables"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def commit() -> str:
    """The commit of the checkout, and whether files differ from it."""
    if told := os.environ.get(COMMIT):
        return told
    git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    head, changes = git(["git", "rev-parse", "HEAD"]), git(["git", "status", "--porcelain"])
    return (head.stdout.strip() or "unknown") + (" with changes" if changes.stdout.strip() else "")
