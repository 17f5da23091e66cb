"""Files of studies and data sets in a local folder, a folder that all nodes share, or a bucket (s3://, gs://).

A place is an absolute path or the address of a bucket's folder; pyarrow's file systems read and write both. Credentials
come from where the cloud's own tools find them: environment variables, profiles, the machine's role. Functions that
access a place raise an OSError if it cannot be read or written.
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
ORIGIN = ".origin"  # end of the name of a file beside prepared data, which holds the place that nodes download it from
MIRRORS = Path("~/.platform-tune")  # holds the local copies of studies that are kept in buckets
CACHES = Path("~/.cache/platform-tune")


def is_bucket(place: str) -> bool:
    """Return whether a place is an address in a bucket."""
    return place.startswith(BUCKETS)


def resolved(place: str) -> str:
    """Return a place in a form that does not depend on the working directory: an absolute path or an address."""
    return place.rstrip("/") if re.match(r"\w{2,}:", place) else str(Path(place).expanduser().resolve())


def local_folder(place: str) -> Path:
    """Return the local folder that holds the studies of a place: the place itself, or the copy of a bucket's folder."""
    return folder_on_any_machine(place).expanduser()


def folder_on_any_machine(place: str) -> Path:
    """Return the local folder of a place relative to the user's home (~), as it is valid on every machine."""
    return MIRRORS / place.replace("://", "/") if is_bucket(place) else Path(place)


def cache_folder(place: str) -> Path:
    """Return the local cache that the studies of a place share: decoded data and the feature store."""
    return CACHES.expanduser() / place.replace("://", "/") if is_bucket(place) else Path(place) / ".cache"


def faults(place: str, option: str) -> list[Fault]:
    """Return the faults of a place's address; the place itself is not accessed."""
    scheme = re.match(r"\w{2,}://", place)
    if is_bucket(place) and re.search(r"[@?\s]", place):
        rule = f"{option} must not contain credentials, because the address is recorded and shown"
        remedy = "Give the credentials by environment variables, a profile or the machine's role."
        return [Fault(rule, "an address with @, ? or a space", remedy)]
    if scheme is None or is_bucket(place):
        return []
    rule = f"{option} must be a folder or an address that begins with {' or '.join(BUCKETS)}"
    return [Fault(rule, place, "Choose another place.")]


def local_copy(place: str, cache: Path) -> Path:
    """Return data as a local path; data of a bucket is downloaded, and again only after it has changed there.

    Raises:
        InputError: The bucket does not answer, or nothing is there.
    """
    if not is_bucket(place):
        return Path(place)
    with as_input_error("--data must exist and be readable"):
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
                download(place, partial / target.name)
                _check_sizes(infos, path, partial / target.name)
                partial.rename(folder)
        return target


def upload(folder: Path, place: str) -> None:
    """Copy a folder to a place, its manifest last."""
    remote, path = _open(place)
    manifest = folder / MANIFEST
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path != manifest):
        _upload(file, remote, posixpath.join(path, file.relative_to(folder).as_posix()))
    if manifest.exists():
        _upload(manifest, remote, posixpath.join(path, MANIFEST))


def upload_file(file: Path, place: str) -> None:
    """Copy a file to a place; a reader sees the file as it was before or all of the new one."""
    _upload(file, *_open(place))


def download(place: str, target: Path) -> None:
    """Copy a file or a folder from a place to a local path."""
    from pyarrow import fs

    remote, path = _open(place)
    for each in _files(remote, path):
        file = _below(target, path, each.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(file) as partial:
            fs.copy_files(each.path, str(partial), remote, fs.LocalFileSystem())


def download_verified(place: str, folder: Path) -> None:
    """Copy a folder with a manifest from a place, all of it or nothing, and check its files against the manifest.

    Raises:
        DamagedError: A file is missing or differs from what was written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        download(place, partial)
        verify(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read(place: str) -> bytes | None:
    """Return a file's bytes, None if there is no such file."""
    remote, path = _open(place)
    try:
        with remote.open_input_stream(path) as opened:
            return opened.read()
    except FileNotFoundError:
        return None


def write(place: str, content: bytes) -> None:
    """Write a file, and the folder that it lies in."""
    remote, path = _open(place)
    _make_parent(remote, path)
    with remote.open_output_stream(path) as opened:
        opened.write(content)


def names(place: str) -> list[str]:
    """Return the names of the files and folders directly in a place, sorted; empty if there is no such place."""
    from pyarrow import fs

    remote, path = _open(place)
    return sorted(each.base_name for each in remote.get_file_info(fs.FileSelector(path, allow_not_found=True)))


def delete(place: str) -> None:
    """Delete a file, or a folder with all its content, if it exists."""
    remote, path = _open(place)
    with suppress(FileNotFoundError):
        if remote.get_file_info(path).is_file:
            remote.delete_file(path)
        else:
            remote.delete_dir(path)


def origin(data: Path) -> str:
    """Return the place that prepared data was downloaded from or uploaded to; "" if all nodes see the folder itself."""
    file = data.with_name(data.name + ORIGIN)
    return file.read_text() if file.exists() else ""


def record_origin(data: Path, place: str) -> None:
    """Record the place that prepared data was downloaded from or uploaded to, for `origin`."""
    atomic.write_text(data.with_name(data.name + ORIGIN), place)


@contextmanager
def as_input_error(rule: str) -> Iterator[None]:
    """Turn an OSError, or a ValueError about an invalid address, into an InputError with this rule."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise InputError(Fault(rule, str(error), "Check the address and its credentials.")) from error


def _check_sizes(infos: Sequence[Any], path: str, target: Path) -> None:
    for each in infos:
        arrived = _below(target, path, each.path).stat().st_size
        if arrived != each.size:
            raise OSError(f"{each.path} has {each.size} bytes, but {arrived} of them arrived")


def _files(remote: Any, path: str) -> list[Any]:
    """Return pyarrow's FileInfo of the file at a path, or of all files below it."""
    from pyarrow import fs

    infos = [remote.get_file_info(path)]
    if not infos[0].is_file:
        infos = [each for each in remote.get_file_info(fs.FileSelector(path, recursive=True)) if each.is_file]
    if not infos:
        raise FileNotFoundError(f"there is no file in {path}")
    return infos


def _below(target: Path, path: str, file: str) -> Path:
    """Return the local path of a downloaded file: `path` in the bucket is downloaded to `target`.

    Raises:
        OSError: The file would lie outside the target. A bucket may hold names with "..".
    """
    name = posixpath.relpath(file, path)
    if ".." in name.split("/"):
        raise OSError(f"{file} does not lie in {path}")
    return target if file == path else target / name


def _open(place: str) -> tuple[Any, str]:
    """Return pyarrow's file system of a place, and the path in it."""
    from pyarrow import fs

    if not is_bucket(place):
        return fs.LocalFileSystem(), place
    scheme, _, rest = place.partition("://")
    bucket, _, path = rest.partition("/")  # a path may hold spaces, which an address may not
    remote, root = fs.FileSystem.from_uri(f"{scheme}://{bucket}")
    return remote, f"{root}/{path}" if path else root


def _upload(file: Path, remote: Any, path: str) -> None:
    from pyarrow import fs

    _make_parent(remote, path)
    # A bucket shows a file only when all of it has arrived; in a folder, renaming the finished file has that effect.
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
