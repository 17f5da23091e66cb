"""Folder of this project, and the state of its code."""

import functools
import os
import subprocess
from pathlib import Path

import xxhash

ROOT = Path(__file__).resolve().parent.parent
STARTERS = ROOT / "starters"  # small pretrained models that ship with the project
# Environment variables of a job on a cluster: the commit that it was submitted from, since the job's copy has no .git,
# and the cluster file, to name in the command that submits it again.
COMMIT, CLUSTER = "PLATFORM_COMMIT", "PLATFORM_CLUSTER"


def find_folder(name: str) -> Path | None:
    """Return the folder of a name, relative to the working directory or to the project's root; None if there is none.

    A trial runs in another working directory than the command did.
    """
    given = os.path.expanduser(name)  # noqa: PTH111 (no error on any name)
    places = [Path(given), ROOT / given] if name else []
    return next((place for place in places if os.path.isdir(place)), None)  # noqa: PTH112 (likewise)


@functools.cache
def code_digest() -> str:
    """Return a digest of the code that builds and trains models, which changes whenever a file of it does."""
    digest = xxhash.xxh3_128()
    for folder in ("platform", "trainables"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def commit() -> str:
    """Return the commit of the checkout, followed by " with changes" if files differ from it; "unknown" without git."""
    if submitted := os.environ.get(COMMIT):
        return submitted
    git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    head, changes = git(["git", "rev-parse", "HEAD"]), git(["git", "status", "--porcelain"])
    return (head.stdout.strip() or "unknown") + (" with changes" if changes.stdout.strip() else "")
