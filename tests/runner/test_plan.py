"""Faults of a request, which are reported before anything starts."""

import json
import os
from dataclasses import replace

import pytest

from platform.errors import InputError
from platform.runner.plan import make_plan
from platform.study.event_log import EventLog
from platform.study.request import DELIVERED, EVENT_LOG, Request, lock, read_request


@pytest.fixture
def request_of(known_toy_project, tmp_path):
    asked = Request("toy", "mine", str(tmp_path), "e", "uri", settings=("freeze_depth=99", "lr_head=1e-3"))
    return lambda **changes: replace(asked, **changes)


def event_log(folder, *events: tuple[str, dict]) -> None:
    folder.mkdir(exist_ok=True)
    event_log = EventLog(folder / EVENT_LOG)
    for kind, data in events:
        event_log.append(kind, data)
    event_log.close()


def faults_of(request, resume: bool = True) -> str:
    with pytest.raises(InputError) as refused:
        make_plan(request, resume)
    return str(refused.value)


def test_a_name_is_new_unless_its_study_is_continued(request_of, tmp_path):
    taken, done, go_on = "a study's name must be new", "needs a study that was interrupted", "To continue that study"
    assert taken not in faults_of(request_of(), resume=False)
    event_log(tmp_path / "mine", ("study", {}), ("close", {"status": "KILLED"}))
    message = faults_of(request_of(), resume=False)
    assert taken in message
    assert go_on in message
    assert done not in faults_of(request_of())
    event_log(tmp_path / "mine", ("close", {"status": "FINISHED"}))
    assert go_on in faults_of(request_of(), resume=False), "it has no result yet"
    (tmp_path / "mine" / "result.json").write_text("{}")
    message = faults_of(request_of(), resume=False)
    assert taken in message
    assert go_on not in message
    assert done in faults_of(request_of())
    assert done not in faults_of(request_of(confirm="1x2"))
    limits = {"out_of_time": {"time_budget": 60.0}, "out_of_money": {"max_cost": 1.5}}
    for ended, remedy in {"out_of_time": "--time-budget 120", "out_of_money": "--max-cost 3"}.items():
        (tmp_path / "mine" / "result.json").write_text(json.dumps({ended: True}))
        message = faults_of(request_of(confirm="1x2", **limits[ended]))
        assert f"--warm-start mine {remedy}." in message


def begun(request, space: dict[str, str] | None = None) -> None:
    from platform.runner.plan import describe
    from platform.task import load, space_of

    now = describe(space_of(load("toy"), "toy", request.settings)[0])
    data = {"request": {**vars(request)}, "space": {**now, **(space or {})}}
    event_log(request.folder, ("study", data))


@pytest.mark.parametrize("uri", ["http://me:secret@host:5000", "postgresql://h/db?user=me&password=secret"])
def test_a_password_is_neither_kept_nor_shown(request_of, uri):
    with pytest.raises(InputError) as refused:
        make_plan(request_of(tracking_uri=uri, settings=("pause=1",)))
    assert "must hold no password" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_study_continues_only_with_the_space_and_data_that_it_began_with(request_of, tmp_path):
    request = request_of(settings=("pause=1",))
    begun(request, {"lr_head": "1..2", "gone": "x"})
    message = faults_of(replace(request, fingerprint="other data"))
    assert "lr_head: 1..2 then, " in message
    assert "gone: x then, None now" in message
    assert "--resume needs the data that the study began with" in message
    assert read_request(request.folder) == request


def test_one_process_at_a_time(request_of):
    request = request_of(settings=("pause=1",))
    begun(request)
    with lock(request):
        assert "another process that works on mine" in faults_of(request)


def test_a_damaged_event_log_is_refused(request_of):
    request = request_of()
    begun(request)
    file = request.folder / EVENT_LOG
    file.write_bytes(file.read_bytes().replace(b"mine", b"yours"))
    with pytest.raises(InputError, match="line 1"):
        read_request(request.folder)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="start a new one"):
        read_request(request.folder)


def test_an_event_log_shorter_than_what_mlflow_received_is_refused(request_of):
    request = request_of()
    begun(request)
    sent = {"events": 1, "to": "http://host:5000"}
    (request.folder / DELIVERED).write_text(json.dumps(sent))
    assert read_request(request.folder) == request
    (request.folder / DELIVERED).write_text(json.dumps(sent | {"events": 2}))
    with pytest.raises(InputError, match="holds 1 events, of which 2 were sent to http://host:5000"):
        read_request(request.folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_the_folder_of_another_user_is_refused(request_of):
    request = request_of()
    begun(request)
    os.chown(request.folder / EVENT_LOG, 12345, -1)
    with pytest.raises(InputError, match="belong to you"):
        read_request(request.folder)


def test_a_seed_out_of_range_is_reported_with_the_other_faults(tmp_path):
    message = faults_of(Request("autoencoder", "mine", str(tmp_path), "e", "uri", seed=-5, trials=0), resume=False)
    assert "--seed must lie in 0..4294967295" in message
    assert "at least one trial" in message
