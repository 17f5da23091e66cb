"""Hides all packages but those that a model requires, as if no other were installed.

Python imports a file of the name sitecustomize before all else: a copy of this one under that name, on PYTHONPATH, acts
on a process and on those that it starts. REQUIREMENTS names the model's requirements.txt.
"""

import importlib.machinery
import importlib.metadata
import os
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(lines):
    """The names of the packages that are required, and of all that they require."""
    found, left = set(), [Requirement(line) for line in lines]
    while left:
        asked = left.pop()
        key = (canonicalize_name(asked.name), frozenset(asked.extras))
        if key in found:
            continue
        found.add(key)
        try:
            needs = importlib.metadata.requires(asked.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*asked.extras, "")):
                left.append(need)
    return {name for name, _ in found}


class Hide(importlib.machinery.PathFinder):
    """Finds what Python would, but for the hidden packages."""

    def __init__(self, lines):
        known = closure(lines)
        self.hidden = {
            module
            for module, owners in importlib.metadata.packages_distributions().items()
            if not known & {canonicalize_name(owner) for owner in owners}
        }

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.hidden else super().find_spec(name, path, target)


if "REQUIREMENTS" in os.environ:
    hide = Hide(Path(os.environ["REQUIREMENTS"]).read_text().split())
    sys.meta_path[:] = [hide if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
