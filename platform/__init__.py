"""The standard library's `platform`, given a package path, so that `platform.tune` and its neighbours are ours.

ray, torch, mlflow and pytest all call `platform.system()` and friends. Running from the project's root puts this folder
before the standard library, so this file hands the name back to the standard library's own module and only adds the
folder in which its submodules are found.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "platform",
    Path(sysconfig.get_path("stdlib")) / "platform.py",
    submodule_search_locations=[str(Path(__file__).parent)],
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["platform"] = _module
_spec.loader.exec_module(_module)
