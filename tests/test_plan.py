"""What can be told of a request at once."""

import json
from dataclasses import replace

import pytest

from platform.plan import REQUEST, RESULT, Request, looks_right


@pytest.fixture
def request_of(tmp_path):
    asked = Request("classifier", "mine", str(tmp_path), "e", "uri", settings=("freeze_depth=99", "lr_head=1e-3"))
    return lambda **changes: replace(asked, **changes)


def test_what_needs_the_model_or_the_data_is_left_open(request_of, tmp_path):
    assert looks_right(request_of(), resume=False)
    assert looks_right(request_of(data=(str(tmp_path), "torchvision:MNIST")), resume=False)


@pytest.mark.parametrize(
    "changes",
    [{"settings": ("lr_haed=1",)}, {"data": ("/none",)}, {"name": "../up"}, {"trials": 0}, {"cpus_per_trial": 999}],
)
def test_what_is_plainly_wrong_makes_nothing_ready(request_of, changes):
    assert not looks_right(request_of(**changes), resume=False)


def test_a_name_is_new_or_gone_on_with(request_of, tmp_path):
    assert not looks_right(request_of(), resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / REQUEST).write_text("{}")
    assert not looks_right(request_of(), resume=False)
    assert looks_right(request_of(), resume=True)
    (tmp_path / "mine" / RESULT).write_text(json.dumps({"interrupted": False}))
    assert not looks_right(request_of(), resume=True)
