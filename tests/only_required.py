"""Hide all packages except those that a model requires, as if no others were installed.

Python imports a file named sitecustomize.py before anything else. A copy of this file with that name on PYTHONPATH
therefore affects a process and its children. The variable REQUIREMENTS names the model's requirements.txt.
"""

import importlib.machinery
import importlib.metadata
import os
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(lines):
    """Return the names of the required packages and of all packages that these require."""
    found, left = set(), [Requirement(line) for line in lines]
    while left:
        requirement = left.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in found:
            continue
        found.add(key)
        try:
            needs = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        extras = (*requirement.extras, "")
        for need in map(Requirement, needs):
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(need)
    return {name for name, _ in found}


class Hide(importlib.machinery.PathFinder):
    """Python's finder of modules, except that it does not find the hidden packages."""

    def __init__(self, lines):
        required = closure(lines)
        self.hidden = {
            module
            for module, owners in importlib.metadata.packages_distributions().items()
            if not required & {canonicalize_name(owner) for owner in owners}
        }

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.hidden else super().find_spec(name, path, target)


if "REQUIREMENTS" in os.environ:
    hide = Hide(Path(os.environ["REQUIREMENTS"]).read_text().split())
    sys.meta_path[:] = [hide if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
