"""Output in the terminal, read back from a recorded console."""

import io
from types import SimpleNamespace

import pytest
from ray import tune
from rich.console import Console

from platform import errors
from platform.cluster.ray_runtime import Resources
from platform.errors import Fault, InputError
from platform.runner import console as view
from platform.runner import live_view
from platform.runner.plan import Plan
from platform.space import Space
from platform.study.event_log import EventLog
from platform.study.request import Request
from platform.study.trials import TrialTable

SPACE = Space(
    params={"lr": tune.loguniform(1e-4, 1e-1), "weights": "starter"},
    metric="val/map",
    mode="max",
    max_epochs=4,
    grace_epochs=1,
    trials=5,
    start={"lr": 1e-2},
    baselines={"from scratch": {"weights": "none"}},
)


def console() -> Console:
    return Console(record=True, width=140, force_terminal=False, file=io.StringIO())


class Study:
    """Trial table with trials that a live view shows."""

    def __init__(self, folder) -> None:
        self.console = console()
        self.trial_table = TrialTable(EventLog(folder / "event log"))
        self.live = live_view.LiveView(SPACE, self.trial_table, self.console, time_budget=None)
        self.trial_table.listeners.append(self.live)

    def trial(self, number: int, epochs: int, best: float, status: str = "", baseline: str = "") -> None:
        trial_id = f"{number:03d}"
        config = {"lr": 0.01 * number, "weights": "starter"}
        self.trial_table.record("trial", trial_id=trial_id, config=config, baseline=baseline)
        self.trial_table.record("trial_start", trial_id=trial_id)
        for step in range(1, epochs + 1):
            self.trial_table.record(
                "report", trial_id=trial_id, step=step, metrics={"val/map": best}, notes={}, last=step == 4
            )
        if status:
            self.trial_table.record("trial_end", trial_id=trial_id, status=status, error="RuntimeError: x")


def rendered(live: live_view.LiveView) -> str:
    recorded = console()
    recorded.print(live._render())
    return recorded.export_text()


def test_the_live_view_shows_counts_best_score_and_time_left(tmp_path):
    study = Study(tmp_path)
    study.trial(1, 4, 0.5, "finished")
    study.trial(2, 1, 0.1, "pruned")
    study.trial(3, 1, 0.9, "failed")
    study.trial(4, 2, 0.4, baseline="from scratch")
    text = rendered(study.live)
    for part in ("3/5 trials", "1 running, 1 finished, 1 pruned, 1 failed", "best val/map 0.500", "left"):
        assert part in text
    [best] = [line for line in text.splitlines() if "←" in line]
    assert "trial 001" in best
    assert "trial 004 (from scratch)" in text


def test_a_resumed_study_counts_what_ended_before(tmp_path):
    before = Study(tmp_path)
    before.trial(1, 4, 0.5, "finished")
    before.trial(2, 1, 0.1)
    study = Study(tmp_path)
    study.trial_table.record("open")
    study.trial(3, 2, 0.3)
    text = rendered(study.live)
    assert "1/5 trials" in text
    assert "best val/map 0.500" in text
    assert "waiting" in text


def test_without_a_terminal_each_ended_trial_is_a_line(tmp_path):
    study = Study(tmp_path)
    study.live.open()
    study.trial(1, 4, 0.5, "finished")
    assert study.console.export_text() == "trial 001  finished    4 epochs  val/map 0.500    best 0.500    1/5 trials\n"


def test_a_failed_attempt_is_a_line(tmp_path):
    study = Study(tmp_path)
    study.trial(1, 1, 0.5)
    study.trial_table.record("attempt_failed", trial_id="001", error="Traceback\nValueError: [no] luck", gpus=None)
    assert study.console.export_text() == "trial 001  failed and will be tried again: ValueError: [no] luck\n"


def test_without_a_terminal_running_trials_are_a_line_each_minute(tmp_path, monkeypatch):
    now = 0.0  # a clock of its own: the last bits of the system's depend on the uptime
    monkeypatch.setattr(live_view, "time", SimpleNamespace(monotonic=lambda: now))
    study = Study(tmp_path)
    study.live.open()
    study.trial(1, 2, 0.5)
    study.trial(2, 1, 0.4)
    for _ in range(5):
        now += 30
        study.live.tick()
    assert study.console.export_text().splitlines() == [
        "running: trial 001 2/4, trial 002 1/4  1:00 so far, up to about 5:40 left",
        "running: trial 001 2/4, trial 002 1/4  2:00 so far, up to about 11:20 left",
    ]


def test_the_plan_names_only_the_baselines_that_will_run():
    recorded = console()
    dataset = SimpleNamespace(name="bricks", lines=lambda: {"images": "8"})
    for name, space in {"x": SPACE, "y": SPACE.override([], trials=1)}.items():
        request = Request("toy", name, "/studies", "e", "uri", no_reuse=True)
        view.print_plan(recorded, Plan(request, None, space, dataset, Resources(4, 0, 1, 0.0, 4)), resume=name == "y")
    first, second = recorded.export_text().split("Continuing study y")
    for line in ("Study x", "data           bricks", "images         8", "4 trials at a time, each 1 of 4 CPU cores"):
        assert line in first
    assert "from scratch: the start with weights=none" in first
    assert "5 trials, the baselines among them; up to 4 epochs each" in first
    assert "from scratch" not in second
    assert "1 trial; up to 4 epochs each" in second
    assert "former name" not in first


def test_a_former_name_in_a_setting_is_pointed_out():
    recorded = console()
    dataset = SimpleNamespace(name="bricks", lines=dict)
    request = Request("toy", "x", "/studies", "e", "uri", no_reuse=True, settings=("thaw_at=0.5",))
    view.print_plan(recorded, Plan(request, None, SPACE, dataset, Resources(4, 0, 1, 0.0, 4)))
    assert "Note: thaw_at is the former name of unfreeze_at" in recorded.export_text()


def test_the_result_puts_the_best_first_and_a_failed_trial_last():
    def record(number, state, score, error=""):
        metrics = {} if score is None else {"val/map": score}
        return {
            "trial_id": f"t{number}", "name": f"trial {number}", "baseline": "", "status": state, "error": error,
            "config": {"lr": number / 100}, "metrics": metrics, "epochs": 4, "seconds": 1.0,
            "notes": {"resumed": "the checkpoint of epoch 3 is damaged; resumed from epoch-2"} if number == 2 else {},
            "retried": ["a worker died"] * 2 if number == 2 else [],
            "moved": ["its node went away"] * 3 if number == 1 else [],
        }  # fmt: skip

    trials = [record(1, "failed", 0.9, "the loss was NaN"), record(2, "pruned", 0.1), record(3, "finished", 0.5)]
    best = {**trials[2], "test_metrics": {"test/map": 0.45}, "model": "best"}
    result = {"metric": "val/map", "mode": "max", "best": best, "trials": trials, "pareto": ["t3"]}
    result |= {
        "out_of_time": True,
        "out_of_money": True,
        "spent": {"hours": {"head": 1.0, "worker": 2.5}, "total": 3.456},
    }
    result |= {
        "baselines": [{"baseline": "from scratch", "test_metrics": {"test/map": 0.1}}],
        "references": {"chance": {}},
        "left_out": ["x must be there"],
        "no_map": ["No embedding map: x"],
        "reuse": {"loaded": 5000, "computed": 700, "saved": 65, "without": {"trial 2": "without the store: no room"}},
        "alarms": ["trial 1 and trial 2 ended with equal weights"],
        "confirmation": {
            "test_metric": "test/map", "winner": "trial 3", "is_champion": False, "verdict": "No champion.",
            "rows": [
                {"trial_id": "t3", "name": "trial 3", "mean": 0.44, "low": 0.4, "high": 0.48,
                 "runs": [{"test_metrics": {"x": 1}}] * 3},
                {"name": "only the heads", "trial_id": "", "mean": 0.43, "low": None, "high": None,
                 "runs": [{"test_metrics": {}}]},
            ],
        },
    }  # fmt: skip
    recorded = console()
    view.print_result(recorded, result, {"study": "here"}, ["mlflow ui"])
    text = recorded.export_text()
    order = [line.split()[1] for line in text.splitlines() if line.startswith("trial ")][1:]
    assert order[:3] == ["3", "2", "1"]
    for part in ("trial 1 failed: the loss was NaN", "mlflow ui", "trial 2: the checkpoint of epoch 3 is damaged",
                 "trial 2 was tried again, 2 times: a worker died",
                 "trial 1 moved to another node, 3 times: its node went away",
                 "Spent 1.00 h of head, 2.50 h of worker; 3.46 US dollars in all. The search ended"):  # fmt: skip
        assert part in text
    scores = [line.split() for line in text.splitlines()]
    for line in ("trial 3         0.440     0.400 to 0.480  3", "only the heads  0.430     –               0",
                 "No champion.", "The time budget ended before all trials were trained.",
                 "Alarm: trial 1 and trial 2 ended with equal weights"):  # fmt: skip
        assert line in text
    for row in (["test/map"], ["best", "0.450"], ["from", "scratch", "0.100"], ["chance", "–"]):
        assert row in scores
    assert "A reference is missing: x must be there" in text
    assert "the outputs of frozen stages were loaded for 5,000 examples and computed for 700; about 1:05 of" in text
    assert "trial 2: without the store: no room" in text
    assert "Not dominated in the objectives (Pareto front) trial 3" in text


def test_of_many_classes_the_best_and_the_weakest_are_shown():
    few = {"test/loss": 0.5, **{f"test/f1_class/{k}": k / 20 for k in range(20)}}
    assert view._summarized(few) == [f"{key:36s}{value:.4f}" for key, value in few.items()]
    lines = view._summarized({"test/loss": 0.5, **{f"test/map_class/{k}": max(0, k - 100) / 400 for k in range(400)}})
    assert len(lines) == 13
    assert lines[0].split() == ["test/loss", "0.5000"]
    assert lines[1].split(maxsplit=1) == [
        "test/map_class/…",
        "0.2487, the median of 400 classes; 101 scored 0; all are in the result",
    ]
    assert [line.split() for line in lines[2:9]] == [
        ["399", "0.7475"], ["398", "0.7450"], ["397", "0.7425"], ["396", "0.7400"], ["395", "0.7375"], ["…"],
        ["96", "0.0000"],
    ]  # fmt: skip


def test_a_baseline_that_did_better_and_could_not_win_is_named():
    order = [
        {"trial_id": f"t{number}", "baseline": baseline, "metrics": {"val/map": score}}
        for number, (baseline, score) in enumerate([("scratch", 0.9), ("", 0.8), ("linear", 0.7), ("", 0.6), ("", 0.1)])
    ]
    result = {"metric": "val/map", "best": {"trial_id": "t3"}, "confirmation": None}
    line = "scratch did better, val/map 0.900 against 0.600, but is not in the space that was searched."
    confirmation = {"rows": [{"trial_id": trial_id} for trial_id in ("t1", "t2", "t3", "")]}  # t3 won there
    assert view._better_baselines(result | {"confirmation": confirmation}, order) == [line]
    assert view._better_baselines(result | {"best": {"trial_id": "t0"}}, order) == []


@pytest.mark.parametrize(
    ("status", "epochs", "out_of_time", "why"),
    [
        ("interrupted", 0, True, "--time-budget was reached before an epoch ended"),
        ("failed", 0, True, "No trial of the search succeeded"),
        ("failed", 0, False, "No trial of the search succeeded"),
    ],
)
def test_without_a_best_trial_the_reason_is_printed(status, epochs, out_of_time, why):
    trial = {
        "trial_id": "t", "name": "trial 1", "baseline": "", "status": status, "error": "", "config": {}, "metrics": {},
        "epochs": epochs, "seconds": 0.0, "notes": {}, "retried": [], "moved": [],
    }  # fmt: skip
    result = {"metric": "val/map", "mode": "max", "best": None, "trials": [trial], "pareto": [], "reuse": {}}
    result |= {"confirmation": None, "alarms": []}
    recorded = console()
    budget = {"out_of_time": out_of_time, "out_of_money": False, "spent": None}
    view.print_result(recorded, result | budget, {}, [])
    assert why in recorded.export_text()


def test_faults_are_a_line_each():
    recorded = console()
    errors.print_error(recorded, InputError(Fault("a must be 1", "2", "Use 1."), Fault("b must be 3", "4", "Use 3.")))
    assert recorded.export_text().splitlines() == [
        "Cannot start: 2 faults.",
        "  · a must be 1; found 2. Use 1.",
        "  · b must be 3; found 4. Use 3.",
    ]
