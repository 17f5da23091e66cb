"""Where studies and data are kept: a folder of this machine, one that all nodes see, or a bucket (s3://, gs://).

A place is an absolute path or such an address; pyarrow's file systems read and write both. Credentials are what the
cloud's own tools use: environment variables, profiles, the role of the machine.
"""

import posixpath
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from platform.errors import Fault, InputError
from platform.storage import atomic
from platform.storage.hashing import key_of
from platform.storage.manifest import MANIFEST, verify

BUCKETS = ("s3://", "gs://")
ORIGIN = ".origin"  # of a file beside prepared data: where nodes bring it from
MIRRORS = Path("~/.platform-tune")  # what is kept in buckets has its copy there
CACHES = Path("~/.cache/platform-tune")


def is_bucket(place: str) -> bool:
    """Whether a place is an address in a bucket."""
    return place.startswith(BUCKETS)


def resolved(place: str) -> str:
    """A place that means the same from anywhere."""
    return place.rstrip("/") if re.match(r"\w{2,}:", place) else str(Path(place).expanduser().resolve())


def here(place: str) -> Path:
    """The folder of this machine that a place of studies is worked on in: itself, or the copy of a bucket's."""
    return on_any(place).expanduser()


def on_any(place: str) -> Path:
    """The same on any machine, from the home of whoever works there."""
    return MIRRORS / place.replace("://", "/") if is_bucket(place) else Path(place)


def cache(place: str) -> Path:
    """Where what the studies of a place share is kept on this machine: decoded data, and what stages made of it."""
    return CACHES.expanduser() / place.replace("://", "/") if is_bucket(place) else Path(place) / ".cache"


def faults(place: str, option: str) -> list[Fault]:
    """What is wrong with a place as such."""
    scheme = re.match(r"\w{2,}://", place)
    if is_bucket(place) and re.search(r"[@?\s]", place):
        remedy = "Use the cloud's own ways: environment variables, a profile, the machine's role."
        return [Fault(f"{option} must hold no key: it is recorded and shown", "one with @, ? or a space", remedy)]
    if scheme is None or is_bucket(place):
        return []
    return [Fault(f"{option} must be a folder, or begin with {' or '.join(BUCKETS)}", place, "Choose another place.")]


def local(place: str, cache: Path) -> Path:
    """Data as a path of this machine: what lies in a bucket is brought, once for as long as it stays as it is there.

    Raises:
        InputError: There is nothing, or it does not answer.
    """
    if not is_bucket(place):
        return Path(place)
    with told("--data must be there and be readable", "Check the address, and the credentials for it."):
        remote, path = _open(place)
        infos = _files(remote, path)
        state = [[each.path, each.size, each.mtime_ns] for each in infos]
        folder = cache / "brought" / key_of({"files": sorted(state)})
        target = folder / posixpath.basename(path)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not target.exists():
                partial = folder.with_name(f".{folder.name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                bring(place, partial / target.name)
                _check_sizes(infos, path, partial / target.name)
                partial.rename(folder)
        return target


def send(folder: Path, place: str) -> None:
    """Copies a folder to a place; a manifest in it last.

    Raises:
        OSError: The place did not take it.
    """
    remote, path = _open(place)
    manifest = folder / MANIFEST
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path != manifest):
        _send(file, remote, posixpath.join(path, file.relative_to(folder).as_posix()))
    if manifest.exists():
        _send(manifest, remote, posixpath.join(path, MANIFEST))


def send_file(file: Path, place: str) -> None:
    """Copies a file to a place; whoever reads there sees the one before or all of the new one.

    Raises:
        OSError: The place did not take it.
    """
    _send(file, *_open(place))


def bring(place: str, target: Path) -> None:
    """Copies a file or a folder from a place.

    Args:
        place: Where it lies.
        target: The path that it gets.

    Raises:
        OSError: There is nothing, or it cannot be read.
    """
    from pyarrow import fs

    remote, path = _open(place)
    for each in _files(remote, path):
        own = _below(target, path, each.path)
        own.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(own) as partial:
            fs.copy_files(each.path, str(partial), remote, fs.LocalFileSystem())


def bring_whole(place: str, folder: Path) -> None:
    """Copies a sealed folder from a place, all of it or nothing, and checks that each file is as it was written.

    Raises:
        sealed.DamagedError: It is not.
        OSError: There is nothing, or it cannot be read.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        bring(place, partial)
        verify(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read(place: str) -> bytes | None:
    """What a file holds, None where there is none.

    Raises:
        OSError: It cannot be read.
    """
    remote, path = _open(place)
    try:
        with remote.open_input_stream(path) as opened:
            return opened.read()
    except FileNotFoundError:
        return None


def write(place: str, content: bytes) -> None:
    """
    Raises:
        OSError: The place did not take it.
    """
    remote, path = _open(place)
    _make_parent(remote, path)
    with remote.open_output_stream(path) as opened:
        opened.write(content)


def names(place: str) -> list[str]:
    """What lies directly in a place, in order; nothing where there is no such place.

    Raises:
        OSError: It cannot be read.
    """
    from pyarrow import fs

    remote, path = _open(place)
    return sorted(each.base_name for each in remote.get_file_info(fs.FileSelector(path, allow_not_found=True)))


def delete(place: str) -> None:
    """Deletes a file, or a folder with all that is in it, if there is one.

    Raises:
        OSError: The place did not let us.
    """
    remote, path = _open(place)
    with suppress(FileNotFoundError):
        if remote.get_file_info(path).is_file:
            remote.delete_file(path)
        else:
            remote.delete_dir(path)


def origin(data: Path) -> str:
    """Where prepared data was brought from, or sent to for nodes; "" where all trials see it as it is."""
    file = data.with_name(data.name + ORIGIN)
    return file.read_text() if file.exists() else ""


def note_origin(data: Path, place: str) -> None:
    """Writes down where prepared data was brought from, or sent to."""
    file = data.with_name(data.name + ORIGIN)
    atomic.write_text(file, place)


@contextmanager
def told(rule: str, remedy: str) -> Iterator[None]:
    """Makes of what a place answers a fault that a user can act upon."""
    try:
        yield
    except (OSError, ValueError) as error:  # the second of an address that is none
        raise InputError(Fault(rule, str(error), remedy)) from error


def _check_sizes(infos: Sequence[Any], path: str, target: Path) -> None:
    for each in infos:
        arrived = _below(target, path, each.path).stat().st_size
        if arrived != each.size:
            raise OSError(f"{each.path} has {each.size} bytes, of which {arrived} arrived")


def _files(remote: Any, path: str) -> list[Any]:
    """The file of that path, or all that lie below it."""
    from pyarrow import fs

    infos = [remote.get_file_info(path)]
    if not infos[0].is_file:
        infos = [each for each in remote.get_file_info(fs.FileSelector(path, recursive=True)) if each.is_file]
    if not infos:
        raise FileNotFoundError(f"nothing lies in {path}")
    return infos


def _below(target: Path, path: str, file: str) -> Path:
    """Where a file of a place goes. A bucket may hold any names, and none may lead out of the target."""
    name = posixpath.relpath(file, path)
    if ".." in name.split("/"):
        raise OSError(f"{file} leads out of {path}")
    return target if file == path else target / name


def _open(place: str) -> tuple[Any, str]:
    from pyarrow import fs

    if not is_bucket(place):
        return fs.LocalFileSystem(), place
    scheme, _, rest = place.partition("://")
    bucket, _, path = rest.partition("/")  # names in it are no part of an address, which could not hold a space
    remote, root = fs.FileSystem.from_uri(f"{scheme}://{bucket}")
    return remote, f"{root}/{path}" if path else root


def _send(file: Path, remote: Any, path: str) -> None:
    from pyarrow import fs

    _make_parent(remote, path)
    # In a bucket a file is there once all of it has arrived; in a folder it is once it has its name.
    local = isinstance(remote, fs.LocalFileSystem)
    own = f".{posixpath.basename(path)}.{uuid.uuid4().hex}"
    target = posixpath.join(posixpath.dirname(path), own) if local else path
    fs.copy_files(str(file), target, fs.LocalFileSystem(), remote)
    if local:
        remote.move(target, path)


def _make_parent(remote: Any, path: str) -> None:
    from pyarrow import fs

    if isinstance(remote, fs.LocalFileSystem):
        remote.create_dir(posixpath.dirname(path), recursive=True)
