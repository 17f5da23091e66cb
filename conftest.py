"""Lets a bare `pytest` find our `platform`: pytest imports the standard library's before the root is on the path."""

import sys
from pathlib import Path

import platform

ROOT = Path(__file__).parent
if not hasattr(platform, "__path__"):
    platform.__path__ = [str(ROOT / "platform")]  # type: ignore[attr-defined]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
