"""The files and folders that --set KEY=VALUE names."""

from collections.abc import Callable
from pathlib import Path


def absolute_paths(setting: str) -> str:
    """A setting whose values that are files or folders are found from anywhere: trials work in folders of their own."""
    return with_paths(setting, _absolute)


def paths_in(setting: str) -> list[str]:
    """What of a setting's values may be files or folders: of local-dir:FOLDER, as open_clip writes it, the FOLDER."""
    return [value.rpartition(":")[2] for value in setting.partition("=")[2].split(",")]


def with_paths(setting: str, change: Callable[[str], str]) -> str:
    """A setting in which all that may be a file or folder is changed."""
    key, equals, values = setting.partition("=")
    parts = [value.rpartition(":") for value in values.split(",")]
    return key + equals + ",".join(scheme + colon + change(path) for scheme, colon, path in parts)


def _absolute(path: str) -> str:
    try:
        is_model = (Path(path) / "config.json").is_file()  # a folder may well be called as an option is
        is_path = Path(path).is_file() or is_model or ("/" in path and Path(path).is_dir())
    except (OSError, ValueError):  # what no file can be called
        return path
    return str(Path(path).resolve()) if is_path else path
