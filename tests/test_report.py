"""Tests of the report page: opened in a real browser from a file without a network, and its statistics."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from browser import CONTRAST, HOSTILE, Opened, check
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ray.tune.search.sample import Categorical
from recorded_study import EPOCHS, RecordedStudy, searched

from platform import report, task
from platform.errors import EXIT_BAD_INPUT
from platform.reporting import advice, charts, compare_page, parameter_effects, study_charts, study_data, trial_marks
from platform.reporting.parameter_importance import importances
from platform.runner.plan import describe
from platform.space import Space

BREAKS = "all => all.map(one => getComputedStyle(one).breakInside)"


def confirmation() -> dict:
    def row(name, kind, scores, **more):
        runs = [{"trial_id": f"{name}-seed-{seed}", "seed": seed, "status": "finished" if score else "failed",
                 "metrics": {}, "test_metrics": {"test/score": score} if score else {}}
                for seed, score in enumerate(scores, start=1)]  # fmt: skip
        return {"name": name, "kind": kind, "trial_id": "", "config": {}, "runs": runs, "mean": None, "low": None,
                "high": None, "against": {}, **more}  # fmt: skip

    beside = {"only the heads": {"mean": 0.12, "low": 0.05, "high": 0.19, "p": 0.01, "better": True}}
    rows = [
        row("trial 002", "configuration", [0.6, 0.61, 0.62], mean=0.61, low=0.58, high=0.64, against=beside),
        row("only the heads", "baseline", [0.5, None, 0.48], mean=0.49),
        row("x", "baseline", [None] * 3),
    ]
    found = {"asked": "3x3", "metric": "val/score", "test_metric": "test/score", "seeds": [1, 2, 3], "rows": rows}
    return found | {"winner": "trial 002", "is_champion": True, "verdict": "trial 002 is better.", "note": "Of seeds."}


def whole(folder: Path) -> Path:
    """A study with everything: a confirmed best, baselines, references, alarms, troubles, names that mean harm."""
    study = RecordedStudy(folder, 12, facts={"tags": {"commit": HOSTILE}})
    for number in range(1, 9):
        config = {"freeze_depth": number % 4, "lr_head": 10 ** -(1 + number / 3), "unfreeze": "gradual"}
        scores = [0.1 * n + 0.01 * number for n in range(1, 7)]
        study.trial(f"{number:03d}", scores, "finished", first_unfreeze=number % 4 or None, **config)
    study.trial("009", [0.1], "failed", error=f"Traceback\nValueError: {HOSTILE}")
    study.trial("010", [0.2] * 6, "finished", baseline=HOSTILE, weights="none")
    study.trial("011", [math.nan, 0.1], "pruned", losses=math.inf)
    (folder / study_data.FINDINGS).write_text(f"{HOSTILE} is no picture\n" * 30)
    baselines = [{"baseline": HOSTILE, "trial_id": "010", "test_metrics": {"test/score": 0.2}}]
    return study.close(
        best=study.best("002", **{f"test/{HOSTILE}": 0.1}),
        baselines=baselines,
        alarms=[f"Look: {HOSTILE}"],
        references={f"{HOSTILE} 2": {"test/score": 0.3}},
        confirmation=confirmation(),
        left_out=[HOSTILE],
        stopped="the disk is full",
    )


def test_the_page_of_a_study_with_everything(tmp_path, chromium):
    folder = whole(tmp_path / "all of it")
    for name in ("confirmation", *[f"z_{number:02d}" for number in range(3, 28)]):
        Image.new("RGB", (8, 8)).save(folder / "figures" / f"{name}.png")
    (folder / "figures" / "long.txt").write_bytes(b"\xff" * 30_000)
    text = check(chromium, report.write(folder), charts=12)
    for part in (
        "0.600",
        "0.610 (0.580 to 0.640)",
        "+0.120 (+0.050 to +0.190), p 0.01",
        "Not shown here, but in the study's figures folder: z_26.png, z_27.png.",
        "trial 002 is better.",
        "The study had to stop: the disk is full",
        f"Look: {HOSTILE}",
        f"trial 009 failed: ValueError: {HOSTILE}",
        f"trial 010 ({HOSTILE})",
        "10 more",
        "Left out of these comparisons",
        "1 that failed",
    ):
        assert part in text
    assert "Confirmation\n" not in text, "a picture of what is drawn anew"
    assert "49" not in re.findall(r"H&M \"'(\w+)", text), "names are no templates"


def test_charts_are_files_as_well(tmp_path):
    folder = whole(tmp_path / "study")
    report.write(folder)
    pictures = {file.name for file in (folder / "figures" / "report").iterdir()}
    keys = {"comparison", "confirmation", "over_time", "by_cost", "by_depth", "by_schedule", "by_unfreeze_at"}
    keys |= {"importance", "parallel", "curves", "losses", "statuses"}
    assert pictures == {f"{key}.{kind}" for key in keys for kind in ("png", "svg")}
    for file in (folder / "figures" / "report").glob("*.svg"):
        assert "<script" not in file.read_text()


def test_a_chart_can_be_saved_and_the_table_sorted(tmp_path, chromium):
    with Opened(chromium, report.write(whole(tmp_path / "study")), "dark") as opened:
        for kind, begin in (("png", b"\x89PNG"), ("svg", b"<svg")):
            with opened.page.expect_download() as download:
                opened.page.click(f"button[data-key=curves][data-save={kind}]")
            assert download.value.suggested_filename == f"study-curves.{kind}"
            assert Path(download.value.path()).read_bytes().startswith(begin)
        scores = "all => all.map(row => row.cells[2].textContent)"
        for _ in range(2):
            opened.page.click(".tall th:nth-child(3) button")
            column = opened.page.eval_on_selector_all(".tall tbody tr", scores)
            known = [float(score) for score in column if score != "–"]
            down = opened.page.get_attribute(".tall th:nth-child(3)", "aria-sort") == "descending"
            assert known == sorted(known, reverse=down)
            assert column[len(known) :] == ["–"] * (len(column) - len(known))
        opened.page.emulate_media(color_scheme="light")
        opened.page.wait_for_selector("html[data-drawn=light]", state="attached")
        assert opened.page.evaluate(CONTRAST) == []
        assert opened.complaints == []


def test_on_paper_it_is_light_whole_and_without_controls(tmp_path, chromium):
    with Opened(chromium, report.write(whole(tmp_path / "study")), "dark") as opened:
        page = opened.page
        page.set_viewport_size({"width": 688, "height": 1016})  # of A4 less its margins
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 688
        clipped = "all => all.filter(one => one.scrollHeight > one.clientHeight + 1 || one.scrollWidth > 688).length"
        assert page.eval_on_selector_all(".scroll", clipped) == 0
        for gone in ("nav", ".save", ".chart"):
            assert not any(one.is_visible() for one in page.query_selector_all(gone)), gone
        pictures = page.query_selector_all(".printed")
        assert len(pictures) == 12
        assert all(one.is_visible() and one.evaluate("one => one.naturalWidth > 0") for one in pictures)
        heights = page.eval_on_selector_all("figure", "all => all.map(one => one.offsetHeight)")
        assert max(heights) < 1016, "a page has room for each"
        assert set(page.eval_on_selector_all("figure", BREAKS)) == {"avoid"}
        assert page.pdf().startswith(b"%PDF")
        assert opened.complaints == []


def test_without_scripts_the_charts_are_pictures(tmp_path, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.write(one(tmp_path / "study")).as_uri())
    assert page.locator(".printed").count() == 8
    assert all(each.is_visible() for each in page.locator(".printed").all())
    assert not any(each.is_visible() for each in page.locator(".chart, .save").all())
    context.close()


def nothing(folder: Path) -> Path:
    return RecordedStudy(folder).folder


def waiting(folder: Path) -> Path:
    study = RecordedStudy(folder)
    study.trial("001", [])
    return folder


def one(folder: Path) -> Path:
    study = RecordedStudy(folder, 1)
    study.trial("001", [0.1, 0.3, 0.2], "finished")
    return study.close(best=study.best("001"))


def running(folder: Path) -> Path:
    study = RecordedStudy(folder)
    study.trial("001", [0.1, 0.2], "pruned")
    study.trial("002", [0.3])
    study.trial_table.record("close", status="KILLED")
    (folder / "result.json").write_text(json.dumps({"best": None, "stopped": "of before"}))
    study.trial_table.record("open", cpus=1, gpus=0.0)
    return folder


def unscored(folder: Path) -> Path:
    study = RecordedStudy(folder)
    for number in range(1, 10):
        study.trial(f"{number:03d}", [math.nan] * 3, "finished")
    return study.close("FAILED", best=None)


def without_success(folder: Path) -> Path:
    study = RecordedStudy(folder)
    for number in range(1, 4):
        study.trial(f"{number:03d}", [], "failed", error="ValueError: no")
    return study.close("FAILED", best=None)


@pytest.mark.parametrize(
    ("made", "charts", "says"),
    [
        (nothing, 0, "No searched trial has finished an epoch yet"),
        (waiting, 1, "It was running when this page was made"),
        (one, 8, "Too few trials for advice"),
        (running, 7, "not scored on the test split yet"),
        (unscored, 1, "No epoch of a searched trial has a score"),
        (without_success, 1, "No searched trial has succeeded"),
    ],
)
def test_odd_studies_have_a_page_too(tmp_path, chromium, made, charts, says):
    text = check(chromium, report.write(made(tmp_path / "study")), charts, sizes=[("light", 1280), ("dark", 390)])
    assert says in text
    assert "of before" not in text, "the result of an earlier process is not this one's"


def test_a_thousand_trials(tmp_path, chromium):
    folder = searched(tmp_path / "study", 1000)
    text = check(chromium, report.write(folder), 10, sizes=[("light", 390), ("dark", 1280)])
    assert "Choose lr_head" in text
    assert "are not drawn" in text


def test_a_page_is_written_though_mlflow_cannot_be_reached(tmp_path, capsys):
    study = RecordedStudy(tmp_path / "study", facts={"tracking_uri": "http://127.0.0.1:9"})
    study.trial("001", [0.1], "finished")
    study.close()
    assert report.main(["study", "--storage", str(tmp_path)]) == 0
    assert "Not in MLflow at http://127.0.0.1:9" in capsys.readouterr().out
    assert (tmp_path / "study" / "report.html").exists()


def test_a_broken_picture_is_named(tmp_path, capsys):
    broken = one(tmp_path / "study") / "figures" / "test_images.png"
    broken.write_bytes(b"no picture")
    assert report.main(["study", "--storage", str(tmp_path)]) == EXIT_BAD_INPUT
    assert str(broken) in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["gone", "event log", "result"])
def test_what_is_damaged_is_reported(tmp_path, capsys, damage):
    folder = one(tmp_path / "study")
    file = folder / ("journal.log" if damage == "event log" else "result.json")
    file.write_bytes(file.read_bytes().replace(b"0.3", b"0.4") if damage == "event log" else b"{")
    name = "other" if damage == "gone" else "study"
    assert report.main([name, "--storage", str(tmp_path)]) == EXIT_BAD_INPUT
    assert ("must exist" if damage == "gone" else "must be") in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_reading_leaves_a_running_study_alone(tmp_path):
    folder = running(tmp_path / "study")
    before = (folder / "journal.log").read_bytes()
    with (folder / "journal.log").open("ab") as file:
        file.write(b"half a li")
    report.write(folder)
    assert (folder / "journal.log").read_bytes() == before + b"half a li"


def test_studies_side_by_side(tmp_path, chromium):
    first, second = whole(tmp_path / "first"), searched(tmp_path / "second", 12)
    assert report.main(["first", "--compare", "second", "--storage", str(tmp_path)]) == 0
    text = check(chromium, first / "comparison.html", charts=3)
    assert "cannot be compared" not in text
    heads = "only the heads\ttest/score\t0.490\t2"  # one of three seeds failed
    for part in ("first", "second", "0.610 (0.580 to 0.640)", heads, "Parameters that differ come first"):
        assert part in text
    assert (
        report.main(["--compare", "second", "first", "--storage", str(tmp_path), "--out", str(tmp_path / "p.html")])
        == 0
    )
    assert (tmp_path / "p.html").exists()
    assert second.exists()


def test_what_cannot_be_compared_is_reported(tmp_path, chromium):
    folders = [one(tmp_path / "first"), one(tmp_path / "a" / "first")]
    facts = {"task": "other", "dataset": None}
    other = RecordedStudy(tmp_path / "b" / "first", facts=facts, metric="val/error", mode="min")
    other.trial("001", [0.2], "finished")
    folders.append(other.close())
    studies = [study_data.read(folder) for folder in folders]
    assert compare_page.faults(dict(zip("ab", studies, strict=False))) == []
    assert len(compare_page.faults(dict(zip("abc", studies, strict=True)))) == 3
    compare_page.write(studies, tmp_path / "page.html")
    text = check(chromium, tmp_path / "page.html", 0, sizes=[("light", 1280)])
    assert "Their scores cannot be compared: these studies search for different metrics (first (1): val/score" in text


def test_repetitions_are_no_trials_of_the_search(tmp_path):
    data = study_data.read(searched(tmp_path / "study", 10))
    for trial in data.trials[5:]:
        trial.confirms = "003"  # type: ignore[attr-defined]
    assert [trial.id for trial in data.scored] == [f"{number:03d}" for number in range(1, 6)]
    assert not data.baselines


def labels(chart: charts.Chart | None) -> list[str]:
    """All words and numbers in a chart."""
    assert chart is not None
    return re.findall(r"<text[^>]*>([^<]+)</text>", chart.svg)


def test_numbers_beside_an_axis_are_those_of_its_marks(tmp_path):
    study = RecordedStudy(tmp_path / "study")
    for number in range(1, 4):
        study.trial(f"{number:03d}", [0.625] * 3, "finished")
    data = study_data.read(study.close())
    assert "0.625" in labels(study_charts.by_cost(data))
    epochs = labels(study_charts.curves(data))
    assert [epochs.count(each) for each in "123"] == [1, 1, 1], "a half of an epoch is none"


@pytest.mark.parametrize(("mode", "best"), [("max", [0.2, 0.4, 0.4]), ("min", [0.2, 0.1, 0.1])])
def test_the_best_so_far_begins_with_the_first_score(tmp_path, mode, best):
    study = RecordedStudy(tmp_path / "study", mode=mode)
    study.trial("001", [math.nan, 0.2, 0.1, 0.4], "finished")
    drawn = study_charts.over_time(study_data.read(study.close()))
    assert drawn is not None
    assert [step["score"] for step in drawn.spec["layer"][0]["data"]["values"]] == best


def test_a_trial_between_two_attempts_is_interrupted_only_where_nobody_is_at_work(tmp_path):
    study = RecordedStudy(tmp_path / "study")
    study.trial("001", [0.1])
    study.trial_table.record("attempt_failed", trial_id="001", error="OutOfMemoryError", gpus=None)
    data = study_data.read(tmp_path / "study")
    assert trial_marks.kind_of(data, study.trial_table.trials["001"]) == "running"
    data = study_data.read(study.close("KILLED"))
    assert trial_marks.kind_of(data, study.trial_table.trials["001"]) == "interrupted"


def test_a_planted_effect_is_found_with_its_size(tmp_path):
    data = study_data.read(searched(tmp_path / "study", 150))
    effects = parameter_effects.effects(data)
    rate, batch = effects["lr_head"], effects["batch_size"]
    assert rate.is_clear
    assert rate.low is not None
    assert 0 < rate.low < rate.difference
    assert not batch.is_clear
    found = importances(data)
    assert found[0].key == "lr_head"
    assert found[0].is_clear
    sentences = advice.advice(data, effects, found)
    assert any(each.kind == advice.CLEAR and each.lead.startswith("Choose lr_head ") for each in sentences)
    assert any(each.kind == advice.OPEN and each.lead.startswith("How to unfreeze") for each in sentences)


def test_few_trials_give_charts_but_no_advice_about_parameters(tmp_path):
    """One trial below the limit, however strong the effect is."""
    data = study_data.read(searched(tmp_path / "study", parameter_effects.LEAST_TRIALS - 1, effect=10.0))
    effects, found = parameter_effects.effects(data), importances(data)
    assert effects == {}
    assert found
    assert [each.lead for each in advice.advice(data, effects, found)[1:]] == ["Too few trials for advice"]


def test_parameters_without_an_effect_are_not_called_clear(tmp_path):
    """By chance one study in ten calls one clear: each of the two families of parameters does in one of twenty."""
    clear = 0
    for seed in range(12):
        data = study_data.read(searched(tmp_path / str(seed), 24, effect=0.0, seed=seed))
        effects = parameter_effects.effects(data)
        assert {"freeze_depth", "lr_head"} <= set(effects)
        clear += any(effect.is_clear for effect in effects.values())
    assert clear <= 3


def test_late_unfreezing_is_not_judged_by_pairs_in_which_it_was_still_frozen(tmp_path):
    """Trials that unfreeze late meet trials that were pruned early only while they are frozen."""
    study = RecordedStudy(tmp_path / "study")
    for number in range(1, 41):
        late = number % 2
        scores = [0.2 * late + 0.1 + 0.001 * number] * (2 if late else EPOCHS)
        study.trial(f"{number:03d}", scores, "finished", first_unfreeze=6 if not late else 1, unfreeze="at_once",
                   unfreeze_at=0.2 if late else 0.6)  # fmt: skip
    effect = parameter_effects.effects(study_data.read(study.close()))["unfreeze_at"]
    assert effect.difference == pytest.approx(0.2, abs=0.02)
    assert effect.p == 1.0


def test_a_parameter_that_goes_along_with_another_is_called_confounded(tmp_path):
    study = RecordedStudy(tmp_path / "study")
    for number in range(1, 31):
        high = number > 15
        score, rate, depth = 0.1 * high + 0.001 * (number * 7 % 30), 0.05 if high else 0.001, 4 if high else 1
        study.trial(f"{number:03d}", [score], "finished", lr_head=rate, freeze_depth=depth)
    data = study_data.read(study.close())
    effect = parameter_effects.effects(data)["freeze_depth"]
    assert effect.is_clear
    assert set(effect.confounded) >= {"lr_head", "order"}
    [sentence] = [
        each for each in advice.advice(data, parameter_effects.effects(data), []) if each.lead.startswith("Freeze")
    ]
    assert sentence.kind == advice.OPEN
    assert "also differ in lr_head" in sentence.text


def test_of_two_values_the_better_one_is_named(tmp_path):
    study = RecordedStudy(tmp_path / "study", batch_size="one of 4, 8")
    for number in range(1, 25):
        study.trial(f"{number:03d}", [0.1 * (number % 2)], "finished", batch_size=4 + 4 * (number % 2))
    effect = parameter_effects.effects(study_data.read(study.close()))["batch_size"]
    assert effect.values == (8,)


def effect(**more) -> parameter_effects.Effect:
    usual = {"key": "freeze_depth", "values": (1, 5), "trials": 9, "others": 5, "p": 0.4, "difference": 0.1}
    return parameter_effects.Effect(**{**usual, **more})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (effect(), "freeze 1 to 5 of 5 stages: the median is 0.100 val/score better (9 trials"),
        (effect(difference=-0.1), "freeze 1 to 5 of 5 stages: such trials won more often (9 trials"),
        (effect(values=(0, 0)), "freeze nothing: "),
        (effect(values=(3, 3)), "freeze 3 of 5 stages: "),
        (effect(values=(0, 2)), "freeze at most 2 of 5 stages: "),
    ],
)
def test_what_is_open_is_reported_as_far_as_it_goes(tmp_path, given, says):
    data = study_data.read(searched(tmp_path / "study", parameter_effects.LEAST_TRIALS))
    [sentence] = [each for each in advice.advice(data, {"freeze_depth": given}, []) if each.lead.startswith("How many")]
    assert sentence.kind == advice.OPEN
    assert says in sentence.text


@pytest.mark.parametrize(
    ("config", "first_unfreeze", "says"),
    [
        ({"freeze_depth": 0}, None, "It froze nothing."),
        ({"freeze_depth": 2}, None, "It froze 2 of 5 stages at first and unfroze nothing."),
        ({"unfreeze": "on_plateau"}, None, "It froze 2 of 5 stages at first and ended before it unfroze any."),
        (
            {"unfreeze": "gradual"},
            2,
            "2 of 5 stages at first and unfroze them one by one, beginning at 40% of the budget.",
        ),
    ],
)
def test_what_the_best_froze(tmp_path, config, first_unfreeze, says):
    study = RecordedStudy(tmp_path / "study")
    study.trial("001", [0.1, 0.2, 0.3], "finished", first_unfreeze=first_unfreeze, **config)
    assert says in advice.advice(study_data.read(study.close()), {}, [])[0].text


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=6), min_size=2, max_size=8),
    st.sampled_from(["max", "min"]),
)
def test_trials_are_compared_at_the_last_epoch_of_both(tmp_path_factory, curves, mode):
    study = RecordedStudy(tmp_path_factory.mktemp("study"), mode=mode)
    for number, scores in enumerate(curves):
        study.trial(f"{number:03d}", scores, "pruned")
    data = study_data.read(study.close())
    lead, _ = parameter_effects.pairwise_leads(data, data.scored)
    best = max if mode == "max" else min
    for i, mine in enumerate(curves):
        for j, other in enumerate(curves):
            common = min(len(mine), len(other))
            difference = best(mine[:common]) - best(other[:common])
            assert lead[i, j] == pytest.approx(difference if mode == "max" else -difference)
    assert np.array_equal(lead, -lead.T)


def test_gpu_seconds_follow_the_share_that_a_trial_got(tmp_path):
    study = RecordedStudy(tmp_path / "study")
    study.trial_table.record("open", cpus=4, gpus=0.25)
    study.trial_table.record("trial", trial_id="001", config={"freeze_depth": 1}, baseline="")
    study.close()
    lines, clock = [], 0
    for kind, data in (
        ("trial_start", {}), ("attempt_failed", {"error": "OutOfMemoryError", "gpus": 0.5}), ("trial_start", {}),
        ("report", {"step": 1, "metrics": {"val/score": 1.0}, "notes": {}, "last": True}),
        ("trial_end", {"status": "finished", "error": ""}),
    ):  # fmt: skip
        clock += 10_000
        lines.append(study_data.Event(kind, clock, {"trial_id": "001", **data}))
    events = [study_data.Event("open", 0, {"cpus": 4, "gpus": 0.25}), *lines]
    assert study_data._device_seconds(events) == ({"001": 10 * 0.25 + 20 * 0.5}, True)
    assert study_data._device_seconds([study_data.Event("open", 0, {"cpus": 2, "gpus": 0}), *lines[2:]]) == (
        {"001": 40.0},
        False,
    )


def test_waiting_between_two_processes_is_no_work_on_the_study():
    def event(kind, at, **data):
        return study_data.Event(kind, at * 1000, data)

    epoch = {"trial_id": "001", "metrics": {"m": 1.0}}
    events = [
        event("study", 0),
        event("open", 1),
        event("report", 5, **epoch),
        event("open", 9000),
        event("report", 9003, **epoch),
    ]
    assert [at for at, _, _ in study_data._over_time(events, "m")] == [4.0, 7.0]


@pytest.mark.parametrize("name", task.names()[0])
def test_a_space_is_understood_from_its_words(name):
    space: Space = task.space(name)
    generator = np.random.default_rng(0)
    configs = [{**space.fixed, **space.start}]
    for _ in range(30):
        configs.append({key: value.sample(random_state=generator) if key in space.searched else value
                        for key, value in space.params.items()})  # fmt: skip
    configs += space.baseline_configs().values()
    again = study_data.parse_space(describe(space), json.loads(json.dumps(configs, default=float)))
    assert set(again.searched) == set(space.searched)
    for key, domain in space.searched.items():
        other = again.searched[key]
        assert type(other) is type(domain)
        if isinstance(domain, Categorical):
            assert other.categories == domain.categories, "in their order"
        else:
            assert (other.lower, other.upper) == pytest.approx((domain.lower, domain.upper), rel=1e-5)
    for config, baseline in [(configs[0], ""), *((c, n) for n, c in space.baseline_configs().items())]:
        assert again.may_win(config, baseline) == space.may_win(config, baseline)
