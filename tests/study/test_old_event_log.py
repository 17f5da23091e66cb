"""Studies of earlier versions can be read, but not resumed."""

import json

import pytest
import xxhash
from ray import tune

from platform.errors import InputError
from platform.reporting import study_data
from platform.search.warm_start import gather
from platform.space import Space
from platform.study.event_log import EventLog, read
from platform.study.options import parser, resumed
from platform.study.request import Request

FACTS = {
    "tracking_uri": "sqlite:///mlflow.db", "experiment": "toy", "name": "old", "id": "a1", "task": "toy",
    "metric": "val/score", "mode": "max", "max_epochs": 2, "params": {}, "tags": {"commit": "060f3db"},
    "input": "image", "requirements": [], "warm_start": "", "dataset": None, "files": [], "code_paths": [],
}  # fmt: skip
WORDS = {
    "trials": "1", "max_epochs": "2", "grace_epochs": "1", "metric": "val/score", "mode": "max",
    "freeze_depth": "0..5", "thaw_at": "0.1..0.7",
}  # fmt: skip
CONFIG = {"freeze_depth": 2, "thaw_at": 0.4}


@pytest.fixture
def storage(tmp_path):
    """A folder with a study as commit 060f3db wrote it."""
    request = {"task": "toy", "name": "old", "storage": str(tmp_path), "experiment": "toy", "tracking_uri": "sqlite://",
               "data": [], "settings": [], "warm_start": [], "id": "a1"}  # fmt: skip
    warm_start = {"points": [{"values": {"thaw_at": 0.4, "freeze_depth": 2}, "study": "older", "trial": "trial 001"}],
                  "studies": ["older"], "left_out": {}}  # fmt: skip
    epoch = {"trial_id": "001", "notes": {}, "thaw": 1}
    events = [
        ["study", 1000, {"request": request, "space": WORDS, "facts": FACTS, "warm_start": warm_start}],
        ["open", 2000, {"cpus": 1, "gpus": 0.0}],
        ["trial", 3000, {"trial_id": "001", "config": CONFIG, "baseline": ""}],
        ["trial_start", 4000, {"trial_id": "001"}],
        ["epoch", 5000, {**epoch, "step": 1, "metrics": {"val/score": 0.5}, "last": False}],
        ["epoch", 6000, {**epoch, "step": 2, "metrics": {"val/score": 0.6}, "last": True}],
        ["trial_end", 7000, {"trial_id": "001", "status": "finished", "error": ""}],
        ["close", 8000, {"status": "KILLED"}],
    ]
    (tmp_path / "old").mkdir()
    with (tmp_path / "old" / "journal.log").open("w") as log:
        line_hash = ""
        for event in events:
            text = json.dumps(event, ensure_ascii=False)
            line_hash = xxhash.xxh3_64_hexdigest((line_hash + text).encode())
            log.write(f"{line_hash} {text}\n")
    return tmp_path


def test_an_old_log_is_read_in_the_current_format(storage):
    data = study_data.read(storage / "old")
    [trial] = data.trials
    assert trial.config == {"freeze_depth": 2, "unfreeze_at": 0.4}
    assert (trial.scores("val/score"), trial.first_unfreeze, trial.status) == ([0.5, 0.6], 1, "finished")
    assert "unfreeze_at" in data.space.searched
    events = read(storage / "old" / "journal.log")
    assert [event.kind for event in events].count("report") == 2
    assert events[0].data["warm_start"]["configs"][0]["values"] == trial.config


def test_an_old_study_serves_as_a_warm_start(storage):
    params = {"freeze_depth": tune.randint(0, 6), "unfreeze_at": tune.uniform(0.1, 0.7)}
    start = {"freeze_depth": 5, "unfreeze_at": 0.2}
    space = Space(params, "val/score", "max", max_epochs=2, grace_epochs=1, trials=9, start=start)
    request = Request("toy", "new", str(storage), "toy", "sqlite://", warm_start=("old",))
    [config] = gather(request, space, "").configs
    assert config["values"] == {"freeze_depth": 2, "unfreeze_at": 0.4}


def test_an_old_study_is_not_resumed(storage):
    options = parser().parse_args(["toy", "--resume", "--name", "old", "--storage", str(storage)])
    with pytest.raises(InputError) as error:
        resumed(options)
    assert "old was begun at commit 060f3db" in str(error.value)
    assert "--warm-start old" in str(error.value)


def test_a_log_of_a_later_version_is_refused(tmp_path):
    log = EventLog(tmp_path / "journal.log")
    log.append("study", {"format": 99})
    log.close()
    with pytest.raises(InputError, match="format must be"):
        read(tmp_path / "journal.log")
