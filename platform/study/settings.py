"""Files and folders in the values of --set KEY=VALUE."""

from collections.abc import Callable
from pathlib import Path


def absolute_paths(setting: str) -> str:
    """Return a setting with absolute paths of files and folders, because trials run in folders of their own."""
    return with_paths(setting, _absolute)


def paths_in(setting: str) -> list[str]:
    """Return the parts of a setting that may be paths; of open_clip's local-dir:FOLDER this is FOLDER."""
    return [value.rpartition(":")[2] for value in setting.partition("=")[2].split(",")]


def with_paths(setting: str, change: Callable[[str], str]) -> str:
    """Return a setting with `change` applied to each part that may be a path."""
    key, equals, values = setting.partition("=")
    parts = [value.rpartition(":") for value in values.split(",")]
    return key + equals + ",".join(scheme + colon + change(path) for scheme, colon, path in parts)


def _absolute(path: str) -> str:
    try:
        is_model = (Path(path) / "config.json").is_file()  # a folder may have the name of an option
        is_path = Path(path).is_file() or is_model or ("/" in path and Path(path).is_dir())
    except (OSError, ValueError):  # no file can have this name
        return path
    return str(Path(path).resolve()) if is_path else path
