"""Winner of a confirmation, and the baselines that it must beat."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from platform.search import confirmation
from platform.search.confirmation import EVERYTHING, ONLY_HEADS, ConfirmationSize
from platform.space import Space
from platform.study.trials import Trial

SPACE = Space(
    params={"lr": tune.loguniform(1e-4, 1e-1), "freeze_depth": tune.randint(0, 4), "unfreeze": "gradual", "w": "a"},
    metric="val/map",
    mode="max",
    max_epochs=2,
    grace_epochs=1,
    trials=5,
    depth=3,
    start={"lr": 1e-2, "freeze_depth": 1},
)


def trial(number: int, score: float, config: dict | None = None, **changes) -> Trial:
    config = config or {"lr": number / 1000, "freeze_depth": 1, "unfreeze": "gradual", "w": "a"}
    return Trial(f"{number:03d}", config, status="finished", metrics=[{"val/map": score}], **changes)


def table(own: list[float], heads: list[float], everything: list[float], space: Space = SPACE) -> dict:
    """Return the outcome for test scores of a winner and the baselines. Validation scores are equal to test scores."""
    found = trial(1, 0.5)
    rows = [*confirmation.chosen([found], space, 1), *confirmation.baselines(space)]
    trials, tested = {}, {}
    for row, scores in zip(rows, (own, heads, everything), strict=True):
        for seed, score in enumerate(scores, start=1):
            run = trial(0, score, dict(row.config), confirms=row.name, seed=seed)
            run.id = f"{row.slug}-{seed}"
            trials[run.id], tested[run.id] = run, {"test/map": score}
    runs = confirmation.runs_of(rows, trials.values())
    return confirmation.table(rows, "1x3", [1, 2, 3], runs, tested, space)


def test_the_baselines_are_the_start_with_everything_frozen_and_nothing():
    heads, everything = confirmation.baselines(SPACE)
    assert heads.config == {"lr": 1e-2, "freeze_depth": 3, "unfreeze": "never", "w": "a"}
    assert everything.config == {"lr": 1e-2, "freeze_depth": 0, "unfreeze": "never", "w": "a"}
    assert not confirmation.baselines(replace(SPACE, params={"lr": 1.0}, start={}))


def test_the_best_configurations_are_those_that_may_win_each_once():
    failed = replace(trial(1, 0.9), status="failed")
    outside = trial(2, 0.8, {"lr": 1.0, "freeze_depth": 0, "unfreeze": "gradual", "w": "none"}, baseline="scratch")
    again = trial(3, 0.99, confirms="trial 005", seed=1)
    good, same, worse, none = trial(5, 0.7), trial(6, 0.6, trial(5, 0).config), trial(7, 0.1), trial(8, 0.5)
    none.metrics = []
    rows = confirmation.chosen([failed, outside, again, worse, none, same, good], SPACE, 3)
    assert [(row.name, row.trial_id) for row in rows] == [("trial 005", "005"), ("trial 007", "007")]


def test_each_row_is_trained_with_each_seed_and_equal_configurations_once():
    rows = [
        *confirmation.chosen([trial(1, 0.5), trial(2, 0.4, dict(confirmation.baselines(SPACE)[0].config))], SPACE, 2)
    ]
    rows += confirmation.baselines(SPACE)
    seeds = confirmation.seeds_of(ConfirmationSize(2, 2), 7)
    left = list(confirmation.missing(rows, seeds, []))
    assert [(row.name, seed) for row, seed in left] == [
        ("trial 001", 8), ("trial 002", 8), (EVERYTHING, 8), ("trial 001", 9), ("trial 002", 9), (EVERYTHING, 9),
    ]  # fmt: skip
    done = [trial(0, 0.1, dict(row.config), confirms=row.name, seed=seed) for row, seed in left]
    assert not list(confirmation.missing(rows, seeds, done))
    assert [len(runs) for runs in confirmation.runs_of(rows, done).values()] == [2, 2, 2, 2]


def test_the_seeds_are_new_and_stay_in_range():
    assert confirmation.seeds_of(ConfirmationSize(1, 3), 0) == [1, 2, 3]
    assert confirmation.seeds_of(ConfirmationSize(1, 2), 2**32 - 1) == [0, 1]


def test_a_clear_winner_is_a_champion():
    found = table([0.80, 0.82, 0.81], [0.50, 0.53, 0.51], [0.60, 0.63, 0.61])
    assert (found["winner"], found["is_champion"]) == ("trial 001", True)
    assert found["rows"][0]["against"][ONLY_HEADS]["better"]
    assert found["verdict"].startswith("trial 001 beats only the heads (+0.297")
    mean, low, high = (found["rows"][0][key] for key in ("mean", "low", "high"))
    assert mean == pytest.approx(0.81)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)  # t of 2


def test_luck_is_no_champion():
    found = table([0.80, 0.60, 0.70], [0.50, 0.53, 0.51], [0.70, 0.69, 0.68])
    assert not found["is_champion"]
    assert "not shown to beat" in found["verdict"]
    assert EVERYTHING in found["verdict"]
    same = table([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], [0.1, 0.2, 0.3])
    lead = same["rows"][0]["against"][ONLY_HEADS]
    assert lead == {"mean": 0, "low": 0, "high": 0, "p": 1.0, "better": False, "same": False}
    assert not same["is_champion"]


def test_a_lead_counts_where_its_interval_excludes_nothing():
    found = table([0.66, 0.67, 0.73], [0.5, 0.5, 0.5], [0.60, 0.63, 0.61])
    lead = found["rows"][0]["against"][EVERYTHING]
    assert 0.05 < lead["p"] < 0.1  # one-sided it would be below 0.05
    assert lead["low"] < 0
    assert not lead["better"]
    assert found["rows"][0]["against"][ONLY_HEADS]["better"]


def test_a_winner_that_is_a_baseline_says_so():
    [heads, _] = confirmation.baselines(SPACE)
    best = trial(1, 0.5, dict(heads.config))
    rows = [*confirmation.chosen([best], SPACE, 1), *confirmation.baselines(SPACE)]
    run = trial(2, 0.5, dict(heads.config), confirms="trial 001", seed=1)
    found = confirmation.table(rows, "1x2", [1], confirmation.runs_of(rows, [run]), {run.id: {"test/map": 0.5}}, SPACE)
    assert "only the heads (the same configuration)" in found["verdict"]
    assert not found["is_champion"]


def test_where_less_is_better_a_lead_is_less():
    least = replace(SPACE, mode="min")
    assert table([0.10, 0.12, 0.11], [0.50, 0.53, 0.51], [0.60, 0.63, 0.61], least)["is_champion"]
    assert not table([0.80, 0.82, 0.81], [0.50, 0.53, 0.51], [0.60, 0.63, 0.61], least)["is_champion"]


def test_failed_trainings_are_left_out():
    found = table([0.80], [0.50, 0.53, 0.51], [0.60, 0.63, 0.61])
    assert (found["rows"][0]["low"], found["is_champion"]) == (None, False)
    assert "one seed" in found["verdict"]
    found = table([], [0.5], [0.6])
    assert (found["winner"], found["is_champion"]) == ("", False)
    assert "| trial 001 |  |  | 0 |" in confirmation.markdown(found)


def test_a_training_that_failed_counts_in_no_mean():
    rows = confirmation.chosen([trial(1, 0.5)], SPACE, 1)
    runs = [trial(10 + seed, 0.7, dict(rows[0].config), seed=seed) for seed in (1, 2, 3)]
    runs[2].status = "failed"
    tested = {run.id: {"test/map": 0.6} for run in runs[:2]}
    found = confirmation.table(rows, "1x3", [1, 2, 3], {"trial 001": runs}, tested, SPACE)
    assert "| trial 001 | 0.600 | 0.600 to 0.600 | 2 |" in confirmation.markdown(found)
    assert "0.600 over 2 seeds" in found["verdict"]


def test_a_confirmation_without_trainings_says_so():
    found = table([], [], [])
    assert found["verdict"] == "No configuration was trained again to its end: nothing is confirmed."
    assert [(row["mean"], confirmation.scored(row)) for row in found["rows"]] == [(None, 0)] * 3


def test_validation_scores_choose_among_configurations_and_the_test_split_does_not():
    rows = confirmation.chosen([trial(1, 0.5), trial(2, 0.6)], SPACE, 2)
    runs = {
        row.name: [trial(int(row.trial_id) * 10 + seed, val, dict(row.config), seed=seed) for seed in (1, 2)]
        for row, val in zip(rows, (0.7, 0.9), strict=True)
    }
    tested = {run.id: {"test/map": 1.6 - run.metrics[0]["val/map"]} for each in runs.values() for run in each}
    assert confirmation.table(rows, "2x2", [1, 2], runs, tested, SPACE)["winner"] == "trial 001"


@pytest.mark.parametrize(
    "text", ["3", "x", "0x3", "3x1", "101x3", "3x101", "3x3x3", "-1x3", "all", "٣x3", "9" * 5000 + "x3"]
)
def test_the_value_of_confirm_is_checked(text):
    [fault] = confirmation.faults(text)
    assert "--confirm 3x3" in fault.remedy
    assert not confirmation.faults("3x3") + confirmation.faults("none") + confirmation.faults("")
    assert confirmation.parse("2x5") == ConfirmationSize(2, 5)
    assert confirmation.parse("none") is None


scores = st.lists(st.floats(0, 1), min_size=3, max_size=3)


@given(scores, scores, scores)
def test_a_champion_leads_each_baseline_by_more_than_nothing(own, heads, everything):
    found = table(own, heads, everything)
    for row in found["rows"]:
        assert row["low"] <= row["mean"] <= row["high"]
    leads = found["rows"][0]["against"].values()
    assert found["is_champion"] == all(lead["better"] for lead in leads)
    assert all(lead["low"] > 0 for lead in leads if lead["better"])
