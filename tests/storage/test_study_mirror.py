"""The copy of a study in a bucket lets another machine continue it, and never replaces newer work by older."""

import time

import boto3
import pytest

from platform.errors import InputError
from platform.storage import filesystem, study_mirror
from platform.storage.study_mirror import StudyMirror

NAMES = (("journal.log",), ("trials",))


@pytest.fixture
def study(bucket, tmp_path):
    """Return the bucket's folder of studies, and the local folder of a study that was uploaded to it."""
    place = f"{bucket}/studies"
    folder = filesystem.local_folder(place) / "one"
    (folder / "trials" / "001").mkdir(parents=True)
    (folder / "best").mkdir()
    for name in ("journal.log", "best/model.json", "trials/001/large"):
        (folder / name).write_text(f"first\n{name}\n")
    copy = started(folder, f"{place}/one")
    assert copy.upload_all() == ""
    copy.stop()
    return place, folder


def started(folder, place) -> StudyMirror:
    copy = StudyMirror(folder, place, *NAMES)
    assert copy.start()
    return copy


def download(place: str) -> None:
    study_mirror.download(place, "journal.log", "result.json", ("trials",), lambda name: name == "one")


def test_all_files_but_checkpoints_reach_another_machine(study, tmp_path, monkeypatch):
    place, folder = study
    assert filesystem.names(f"{place}/one") == ["best", "journal.log"]
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    download(place)
    other = filesystem.local_folder(place) / "one"
    assert other != folder
    assert (other / "best" / "model.json").read_text() == (folder / "best" / "model.json").read_text()
    assert not (other / "trials").exists()


def test_a_study_that_was_continued_elsewhere_replaces_the_local_copy(study):
    place, folder = study
    filesystem.write(f"{place}/one/journal.log", (folder / "journal.log").read_bytes() + b"more\n")
    download(place)
    assert (folder / "journal.log").read_text().endswith("more\n")


def test_a_partial_download_is_completed(study):
    place, folder = study
    filesystem.write(f"{place}/one/result.json", b"{}")  # written after this machine had downloaded the rest
    download(place)
    assert (folder / "result.json").read_bytes() == b"{}"


def test_a_study_that_was_continued_here_stays(study):
    place, folder = study
    with (folder / "journal.log").open("a") as file:
        file.write("more\n")
    download(place)
    assert (folder / "journal.log").read_text().endswith("more\n")


def test_a_study_that_was_continued_on_two_machines_is_refused(study):
    place, folder = study
    filesystem.write(f"{place}/one/journal.log", b"other\n")
    with pytest.raises(InputError, match="a study must be continued on one machine at a time"):
        download(place)
    assert (folder / "journal.log").read_text().startswith("first")


def test_files_that_cannot_be_uploaded_are_reported(tmp_path, monkeypatch, bucket):
    (tmp_path / "journal.log").write_text("x")
    with pytest.raises(InputError, match="--storage must be reachable and writable"):
        StudyMirror(tmp_path, "s3://no-such-bucket-of-ours/one", *NAMES).start()
    copy = started(tmp_path, f"{bucket}/one")
    boto3.resource("s3").Bucket(bucket.removeprefix("s3://")).objects.delete()
    boto3.client("s3").delete_bucket(Bucket=bucket.removeprefix("s3://"))
    assert "journal.log" in copy.upload_all()
    copy.stop()


def test_a_machine_that_was_unreachable_notices_its_successor(tmp_path, monkeypatch, bucket):
    monkeypatch.setattr(study_mirror, "INTERVAL_S", 0.3)
    one = started(tmp_path, f"{bucket}/one")
    filesystem.write(f"{bucket}/one/{study_mirror.MARK}", b"another's")
    until = time.monotonic() + 20
    while not one.taken and time.monotonic() < until:
        time.sleep(0.1)
    assert one.taken
    one.stop()
    assert filesystem.read(f"{bucket}/one/{study_mirror.MARK}") == b"another's"


def test_one_machine_at_a_time_works_on_a_study(tmp_path, monkeypatch, bucket):
    monkeypatch.setattr(study_mirror, "INTERVAL_S", 0.5)
    (tmp_path / "journal.log").write_text("x")
    one = started(tmp_path, f"{bucket}/one")
    assert not StudyMirror(tmp_path, f"{bucket}/one", *NAMES).start()
    one.stop()
    two = started(tmp_path, f"{bucket}/one")
    two._stopped.set()  # like a killed machine, whose mark stays unchanged
    two._thread.join()
    three = started(tmp_path, f"{bucket}/one")
    three.upload_all()
    three.stop()
    assert filesystem.names(f"{bucket}/one") == ["journal.log"]
