"""Files are uploaded to and downloaded from a folder or a bucket whole and unchanged."""

import os
from pathlib import Path

import boto3
import pytest

from platform.errors import InputError
from platform.storage import filesystem
from platform.storage.manifest import MANIFEST, DamagedError, seal, verify


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path) -> str:
    return str(tmp_path / "place") if request.param == "folder" else request.getfixturevalue("bucket") + "/deep"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "sent" / "sub").mkdir(parents=True)
    (tmp_path / "sent" / "a.bin").write_bytes(os.urandom(100_000))
    (tmp_path / "sent" / "sub" / "b c.txt").write_text("ä")
    (tmp_path / "sent" / "empty").touch()
    seal(tmp_path / "sent", best=True)
    return tmp_path / "sent"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_downloaded_as_it_was_uploaded(place, folder, tmp_path):
    filesystem.upload(folder, f"{place}/x")
    filesystem.download_verified(f"{place}/x", tmp_path / "back")
    assert content(tmp_path / "back") == content(folder)
    assert verify(tmp_path / "back")["best"] is True
    assert filesystem.names(place) == ["x"]
    assert filesystem.names(f"{place}/nothing") == []


@pytest.mark.parametrize("name", ["a name of words", "100 %", "größe#1?x=y", "a+b&c"])
def test_a_place_may_have_any_name(place, name):
    filesystem.write(f"{place}/{name}/one", b"1")
    assert filesystem.read(f"{place}/{name}/one") == b"1"
    assert filesystem.names(f"{place}/{name}") == ["one"]
    assert filesystem.names(place) == [name]


def test_a_file_that_was_altered_on_the_way_is_refused(place, folder, tmp_path):
    filesystem.upload(folder, f"{place}/x")
    filesystem.write(f"{place}/x/a.bin", b"other")
    with pytest.raises(DamagedError, match=r"a\.bin: differs from what was written"):
        filesystem.download_verified(f"{place}/x", tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(("back", "partial"))) == []


def test_a_folder_that_was_uploaded_in_part_is_refused(place, folder, tmp_path):
    (folder / MANIFEST).unlink()  # it is uploaded last
    filesystem.upload(folder, f"{place}/x")
    with pytest.raises(DamagedError):
        filesystem.download_verified(f"{place}/x", tmp_path / "back")


def test_files_are_written_read_and_deleted(place, tmp_path):
    assert filesystem.read(f"{place}/d/one") is None
    filesystem.write(f"{place}/d/one", b"1")
    filesystem.write(f"{place}/d/one", b"2")
    assert filesystem.read(f"{place}/d/one") == b"2"
    filesystem.download(f"{place}/d/one", tmp_path / "got" / "renamed")
    assert (tmp_path / "got" / "renamed").read_bytes() == b"2"
    filesystem.delete(f"{place}/d")
    filesystem.delete(f"{place}/d")
    assert filesystem.read(f"{place}/d/one") is None
    with pytest.raises(OSError, match="d"):
        filesystem.download(f"{place}/d", tmp_path / "nothing")


def test_data_of_a_bucket_is_downloaded_again_only_after_a_change(bucket, folder, tmp_path, monkeypatch):
    filesystem.upload(folder, f"{bucket}/data/animals")
    downloaded = filesystem.local_copy(f"{bucket}/data/animals", tmp_path / "cache")
    assert (downloaded.name, content(downloaded)) == ("animals", content(folder))
    (downloaded / "mark").touch()
    assert (filesystem.local_copy(f"{bucket}/data/animals", tmp_path / "cache") / "mark").exists()
    filesystem.write(f"{bucket}/data/animals/empty", b"no longer")
    again = filesystem.local_copy(f"{bucket}/data/animals", tmp_path / "cache")
    assert (again / "empty").read_bytes() == b"no longer"
    one = filesystem.local_copy(f"{bucket}/data/animals/a.bin", tmp_path / "cache")
    assert one.read_bytes() == (folder / "a.bin").read_bytes()
    assert filesystem.local_copy("relative/path", tmp_path) == Path("relative/path")


def test_no_name_in_a_bucket_leads_out_of_the_target(bucket, tmp_path):
    key = "data/../../../escaped"
    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"x")
    with pytest.raises((InputError, OSError)):
        filesystem.local_copy(f"{bucket}/data", tmp_path / "a" / "b" / "c")
    assert not list(tmp_path.rglob("escaped"))
    with pytest.raises(OSError, match="does not lie in"):
        filesystem._below(tmp_path, "bucket/data", "bucket/other")


def test_data_that_is_not_there_is_a_fault(bucket, tmp_path):
    with pytest.raises(InputError, match="--data must exist and be readable"):
        filesystem.local_copy(f"{bucket}/nothing", tmp_path)
    with pytest.raises(InputError, match="--data must exist and be readable"):
        filesystem.local_copy("s3://no-such-bucket-of-ours/x", tmp_path)


@pytest.mark.parametrize(
    ("place", "is_fault"), [("ftp://host/x", True), ("http://host/x", True), ("s3://b/x", False), ("/a/b", False)]
)
def test_other_addresses_are_faults(place, is_fault):
    assert bool(filesystem.faults(place, "--storage")) == is_fault


def test_a_place_means_the_same_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert filesystem.resolved("studies") == str(tmp_path / "studies")
    assert filesystem.resolved("s3://b/x/") == "s3://b/x"
    assert filesystem.local_folder("s3://b/x") == tmp_path / ".platform-tune" / "s3" / "b" / "x"
    assert filesystem.local_folder(str(tmp_path)) == tmp_path
