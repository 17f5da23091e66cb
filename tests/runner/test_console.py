"""What is told in a terminal, read back from a recorded console."""

import io

import pytest
from ray import tune
from rich.console import Console

from platform import errors
from platform.errors import Fault, InputError
from platform.runner import console as view
from platform.space import Space
from platform.study.event_log import EventLog
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
    """A trial_table with trials that a live view looks at."""

    def __init__(self, folder, told: Console | None = None, budget: float | None = None) -> None:
        self.console = told or console()
        self.trial_table = TrialTable(EventLog(folder / "event log"))
        self.live = view.LiveView(SPACE, self.trial_table, self.console, budget)
        self.trial_table.listeners.append(self.live.told)

    def trial(self, number: int, epochs: int, best: float, status: str = "", baseline: str = "") -> None:
        trial_id = f"{number:03d}"
        config = {"lr": 0.01 * number, "weights": "starter"}
        self.trial_table.tell("trial", trial_id=trial_id, config=config, baseline=baseline)
        self.trial_table.tell("trial_start", trial_id=trial_id)
        for step in range(1, epochs + 1):
            self.trial_table.tell(
                "epoch", trial_id=trial_id, step=step, metrics={"val/map": best}, notes={}, last=step == 4
            )
        if status:
            self.trial_table.tell("trial_end", trial_id=trial_id, status=status, error="RuntimeError: x")


def rendered(live: view.LiveView) -> str:
    told = console()
    told.print(live._render())
    return told.export_text()


def test_the_live_view_tells_counts_best_and_time_left(tmp_path):
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
    study.trial_table.tell("open")
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


def test_what_is_tried_again_is_told(tmp_path):
    study = Study(tmp_path)
    study.trial(1, 1, 0.5)
    study.trial_table.tell("attempt_failed", trial_id="001", error="Traceback\nValueError: [no] luck", gpus=None)
    assert study.console.export_text() == "trial 001  failed and will be tried again: ValueError: [no] luck\n"


def test_without_a_terminal_a_long_trial_is_heard_of_once_a_minute(tmp_path, monkeypatch):
    study = Study(tmp_path)
    now = study.live.started
    monkeypatch.setattr(view.time, "monotonic", lambda: now)
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


def test_the_plan_tells_only_the_baselines_that_will_run():
    told = console()
    view.print_plan(told, "Study x", SPACE, {"data": "here"}, "1 core")
    view.print_plan(told, "Study y", SPACE.override([], trials=1), {}, "1 core")
    first, second = told.export_text().split("Study y")
    assert "from scratch: the start with weights=none" in first
    assert "5 trials, the baselines among them; up to 4 epochs each" in first
    assert "from scratch" not in second
    assert "1 trial; up to 4 epochs each" in second


def test_the_result_puts_the_best_first_and_a_failed_trial_last():
    def record(number, state, score, error=""):
        metrics = {} if score is None else {"val/map": score}
        return {
            "trial_id": f"t{number}", "name": f"trial {number}", "baseline": "", "status": state, "error": error,
            "config": {"lr": number / 100}, "metrics": metrics, "epochs": 4, "seconds": 1.0,
            "notes": {"resumed": "the checkpoint of epoch 3 is damaged; went on from epoch-2"} if number == 2 else {},
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
    told = console()
    view.print_result(told, result, {"study": "here"}, ["mlflow ui"])
    text = told.export_text()
    order = [line.split()[1] for line in text.splitlines() if line.startswith("trial ")][1:]
    assert order[:3] == ["3", "2", "1"]
    for part in ("trial 1 failed: the loss was NaN", "mlflow ui", "trial 2: the checkpoint of epoch 3 is damaged",
                 "trial 2 was tried again, 2 times: a worker died",
                 "trial 1 moved to another node, 3 times: its node went away",
                 "Spent 1.00 h of head, 2.50 h of worker; 3.46 US dollars in all. The search ended there"):  # fmt: skip
        assert part in text
    scores = [line.split() for line in text.splitlines()]
    for line in ("trial 3         0.440     0.400 to 0.480  3", "only the heads  0.430     –               0",
                 "No champion.", "Time was up before all was trained: --time-budget.",
                 "Alarm: trial 1 and trial 2 ended with equal weights"):  # fmt: skip
        assert line in text
    for row in (["test/map"], ["best", "0.450"], ["from", "scratch", "0.100"], ["chance", "–"]):
        assert row in scores
    assert "No reference beside it: x must be there" in text
    assert "5,000 times an example came out of frozen stages ready, 700 times it was computed" in text
    assert "trial 2: without the store: no room" in text
    assert "Beaten by none in all objectives (Pareto) trial 3" in text


def test_of_many_classes_the_best_and_the_weakest_are_told():
    few = {"test/loss": 0.5, **{f"test/f1_class/{k}": k / 20 for k in range(20)}}
    assert view._in_short(few) == [f"{key:36s}{value:.4f}" for key, value in few.items()]
    lines = view._in_short({"test/loss": 0.5, **{f"test/map_class/{k}": max(0, k - 100) / 400 for k in range(400)}})
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


def test_a_baseline_that_did_better_and_could_not_win_is_told():
    order = [
        {"trial_id": f"t{number}", "baseline": baseline, "metrics": {"val/map": score}}
        for number, (baseline, score) in enumerate([("scratch", 0.9), ("", 0.8), ("linear", 0.7), ("", 0.6), ("", 0.1)])
    ]
    result = {"metric": "val/map", "best": {"trial_id": "t3"}, "confirmation": None}
    told = "scratch did better, val/map 0.900 against 0.600, but is not among what was searched."
    again = {"rows": [{"trial_id": trial_id} for trial_id in ("t1", "t2", "t3", "")]}  # and t3 won there
    assert view._better_baselines(result | {"confirmation": again}, order) == [told]
    assert view._better_baselines(result | {"best": {"trial_id": "t0"}}, order) == []


@pytest.mark.parametrize(
    ("status", "epochs", "out_of_time", "why"),
    [
        ("interrupted", 0, True, "Time was up before an epoch ended"),
        ("failed", 0, True, "No trial of what was searched succeeded"),
        ("failed", 0, False, "No trial of what was searched succeeded"),
    ],
)
def test_without_a_best_it_is_told_why(status, epochs, out_of_time, why):
    trial = {
        "trial_id": "t", "name": "trial 1", "baseline": "", "status": status, "error": "", "config": {}, "metrics": {},
        "epochs": epochs, "seconds": 0.0, "notes": {}, "retried": [], "moved": [],
    }  # fmt: skip
    result = {"metric": "val/map", "mode": "max", "best": None, "trials": [trial], "pareto": [], "reuse": {}}
    result |= {"confirmation": None, "alarms": []}
    told = console()
    budget = {"out_of_time": out_of_time, "out_of_money": False, "spent": None}
    view.print_result(told, result | budget, {}, [])
    assert why in told.export_text()


def test_faults_are_told_a_line_each():
    told = console()
    errors.print_error(told, InputError(Fault("a must be 1", "2", "Use 1."), Fault("b must be 3", "4", "Use 3.")))
    assert told.export_text().splitlines() == [
        "Cannot start: 2 faults.",
        "  · a must be 1; found 2. Use 1.",
        "  · b must be 3; found 4. Use 3.",
    ]
