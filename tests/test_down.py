"""Checks of fetched studies before a cluster is ended."""

import json
from pathlib import Path

import pytest

from platform import down
from platform.study.event_log import EventLog
from platform.study.request import EVENT_LOG, RESULT


def study(folder: Path, status: str = "FINISHED", **result) -> Path:
    """Write a fetched study."""
    folder.mkdir(parents=True)
    event_log = EventLog(folder / EVENT_LOG)
    event_log.append("study", {"request": {"storage": "s3://b"}})
    if status:
        event_log.append("close", {"status": status})
    event_log.close()
    (folder / RESULT).write_text(json.dumps({"undelivered": 0, "not_copied": "", **result}))
    return folder


def test_what_is_finished_may_go(tmp_path):
    study(tmp_path / "s3" / "b" / "one")
    study(tmp_path / "s3" / "b" / "two", "FAILED")
    assert down._unfinished(tmp_path, "c.yaml") == []
    assert down._unfinished(tmp_path / "nothing", "c.yaml") == []


@pytest.mark.parametrize(
    ("status", "result", "message"),
    [
        ("KILLED", {}, "one: interrupted"),
        ("", {}, "one: interrupted"),
        ("FINISHED", {"undelivered": 3}, "one: 3 did not. Deliver them: ray dashboard c.yaml"),
        ("FINISHED", {"not_copied": "best/model.json: refused"}, "its bucket; found one: best/model.json: refused"),
    ],
)
def test_what_is_not_keeps_the_cluster_up(tmp_path, status, result, message):
    study(tmp_path / "one", status, **result)
    [fault] = down._unfinished(tmp_path, "c.yaml")
    assert message in str(fault)


def test_an_incomplete_event_log_keeps_the_cluster_up(tmp_path):
    file = study(tmp_path / "one") / EVENT_LOG
    file.write_bytes(file.read_bytes().replace(b"close", b"clone"))
    [fault] = down._unfinished(tmp_path, "c.yaml")
    assert "a study's event log must be fetched completely" in str(fault)


def test_a_yaml_is_needed(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # which the command would set, for this process and all after
    monkeypatch.setenv("HOME", str(tmp_path))
    assert down.main(["http://127.0.0.1:8265"]) == 2
    assert "this needs the cluster's yaml" in capsys.readouterr().err
