import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from platform.errors import InputError
from platform.space import Space, current_names, former_name_notices, show

GOOD = {
    "params": {
        "depth": tune.randint(0, 6),
        "lr": tune.loguniform(1e-4, 1e-2),
        "warmup": tune.uniform(0.0, 0.5),
        "unfreeze": tune.choice(["never", "gradual"]),
        "batch_size": tune.choice([4, 8, 16]),
        "weights": "starter",
        "flip": False,
        "size": 64,
    },
    "metric": "val/map",
    "mode": "max",
    "max_epochs": 9,
    "grace_epochs": 3,
    "trials": 8,
    "start": {"depth": 3, "lr": 1e-3, "warmup": 0.1, "unfreeze": "never", "batch_size": 8},
    "baselines": {"scratch": {"weights": "none", "depth": 0}},
}
SPACE = Space(**GOOD)


def test_all_faults_of_a_space_are_reported_at_once():
    with pytest.raises(InputError) as error:
        Space(
            **{**GOOD, "mode": "best", "grace_epochs": 20, "trials": 0, "start": {**GOOD["start"], "depth": 6, "x": 1}}
        )
    assert len(error.value.faults) == 5


def test_override_fixes_and_narrows():
    space = SPACE.override(["depth=2", "lr=1e-3..5e-3", "unfreeze=gradual", "batch_size=4,16", "weights=/a=b.pth"])
    assert space.fixed == {"depth": 2, "unfreeze": "gradual", "weights": "/a=b.pth", "flip": False, "size": 64}
    assert show(space.params["lr"]) == "0.001..0.005 (log)"
    assert show(space.params["batch_size"]) == "one of 4, 16"
    assert space.start["batch_size"] in (4, 16)
    assert SPACE.params["depth"] is GOOD["params"]["depth"]  # the shipped space is as it was


def test_a_narrowed_choice_of_numbers_starts_next_to_where_it_would_have():
    assert SPACE.override(["batch_size=16,4"]).start["batch_size"] in (4, 16)
    wide = Space(**{**GOOD, "params": {**GOOD["params"], "batch_size": tune.choice([0, 4, 8, 16])}})
    assert wide.override(["batch_size=0,4"]).start["batch_size"] == 4
    mixed = Space(**{**GOOD, "params": {**GOOD["params"], "batch_size": tune.choice(["auto", 2, 8])}})
    assert mixed.override(["batch_size=auto,2"]).start["batch_size"] == 2
    assert wide.override(["batch_size=16,0"]).start["batch_size"] in (0, 16)


def test_a_text_with_two_dots_is_a_path_not_a_range():
    assert SPACE.override(["weights=../a..b.pth"]).fixed["weights"] == "../a..b.pth"


def test_a_fixed_value_can_become_a_choice():
    space = SPACE.override(["weights=starter,none"])
    assert space.start["weights"] == "starter"
    assert space.values("weights") == ("starter", "none")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("dpeth=2", "Did you mean depth?"),
        ("depth=6", "0..5"),
        ("depth=2.5", "whole number"),
        ("depth=-1", "0..5"),
        ("lr=fast", "a number"),
        ("lr=nan", "a number"),
        ("lr=5e-3..1e-3", "low..high"),
        ("lr=1e-3..1", "must lie in"),
        ("unfreeze=gradul", "Did you mean gradual?"),
        ("flip=3", "bool"),
        ("size=64.5", "int"),
        ("size=64..256", "accepts a choice"),
        ("depth", "key=value"),
        ("=3", "parameter of the space"),
    ],
)
def test_impossible_settings_are_reported_with_a_remedy(setting, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        SPACE.override([setting])


def test_all_wrong_settings_are_reported_together():
    with pytest.raises(InputError) as error:
        SPACE.override(["a=1", "depth=9", "lr=x"], trials=0, max_epochs=0)
    assert len(error.value.faults) == 5


def test_a_fixed_whole_number_stays_one():
    assert repr(SPACE.override(["size=128.0"]).fixed["size"]) == "128"


@given(st.sampled_from(sorted(GOOD["params"])), st.text(max_size=30))
def test_any_text_is_a_valid_space_or_an_input_error(key, text):
    try:
        space = SPACE.override([f"{key}={text}"])
    except InputError:
        return
    assert set(space.params) == set(SPACE.params)


@given(st.floats(1e-4, 1e-2), st.floats(1e-4, 1e-2))
def test_a_narrowed_range_has_its_bounds_and_keeps_its_scale(low, high):
    if low < high:
        domain = SPACE.override([f"lr={low!r}..{high!r}"]).params["lr"]
        assert (domain.lower, domain.upper) == (low, high)
        assert show(domain).endswith("(log)")


def test_baselines_are_whole_configurations():
    assert SPACE.baseline_configs() == {
        "scratch": {**GOOD["start"], "flip": False, "size": 64, "weights": "none", "depth": 0},
    }


def test_a_baseline_wins_only_with_what_the_space_can_try():
    space = SPACE.override(["depth=1..3"])
    config = {**space.fixed, **space.start}
    assert space.may_win(config, "plain")
    assert not space.may_win({**config, "depth": 0}, "plain")
    assert not space.may_win({**config, "weights": "other"}, "plain")
    assert space.may_win({**config, "weights": "other"}, "")


def test_of_baselines_that_settings_made_equal_one_is_left():
    two = Space(**{**GOOD, "baselines": {"given": {"size": 64}, "scratch": {"weights": "none", "depth": 0}}})
    assert list(two.baseline_configs()) == ["given", "scratch"]
    assert list(two.override(["weights=none", "depth=0"]).baseline_configs()) == ["scratch"]


def test_a_former_name_of_a_parameter_is_understood():
    unfreezing = Space(**{**GOOD, "params": {**GOOD["params"], "unfreeze_at": 0.5}})
    assert unfreezing.override(["thaw_at=0.25"]).fixed == unfreezing.override(["unfreeze_at=0.25"]).fixed
    [notice] = former_name_notices(["thaw_at=0.25", "depth=3", "thaw_at=0.5"])
    assert notice.startswith("thaw_at is the former name of unfreeze_at")
    assert current_names({"thaw_at": 0.25, "lr": 1e-3}) == {"unfreeze_at": 0.25, "lr": 1e-3}


def test_a_space_pickles():
    assert pickle.loads(pickle.dumps(SPACE)).start == SPACE.start


def deep(depth: int = 6) -> Space:
    """Return a space that was written for a backbone of six stages."""
    params = {"freeze_depth": tune.randint(0, depth + 1), "lr": tune.loguniform(1e-4, 1e-2)}
    start = {"freeze_depth": depth, "lr": 1e-3}
    baselines = {"all": {"freeze_depth": depth}, "half": {"freeze_depth": depth // 2}, "none": {"freeze_depth": 0}}
    return Space(**{**GOOD, "params": params, "start": start, "baselines": baselines, "depth": depth})


def test_the_range_of_the_depth_follows_the_backbone():
    shipped = deep()
    space = shipped.of_depth(14)
    assert show(space.params["freeze_depth"]) == "0..14"
    assert space.start["freeze_depth"] == 14
    assert [baseline["freeze_depth"] for baseline in space.baselines.values()] == [14, 7, 0]
    assert shipped.of_depth(6) is shipped
    assert space.override(["freeze_depth=3..12"]).start["freeze_depth"] == 12
    assert show(space.of_depth(2).params["freeze_depth"]) == "0..2"


def test_a_depth_that_was_fixed_stays():
    fixed = deep().override(["freeze_depth=2"])
    assert fixed.of_depth(14) is fixed
