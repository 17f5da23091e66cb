"""Warm starts: the configs that a study takes over, and keeps whatever becomes of the earlier studies."""

import shutil
import uuid
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from platform.errors import InputError
from platform.search.controller import SearchController
from platform.search.warm_start import MAX_CONFIGS, first_configs, gather
from platform.space import Space
from platform.study import metadata, past_studies
from platform.study.event_log import EventLog
from platform.study.metadata import StudyFacts
from platform.study.request import EVENT_LOG, Request
from platform.study.trials import OF_A_TRIAL, TrialTable
from platform.tracking import past_runs
from platform.tracking.mlflow_recorder import OF_THE_STUDY, MlflowRecorder

SPACE = Space(
    {"lr": tune.loguniform(1e-4, 1e-1), "depth": tune.randint(0, 4), "head": tune.choice(["a", "b"]), "weights": "w"},
    metric="val/error",
    mode="min",
    max_epochs=3,
    grace_epochs=1,
    trials=30,
    start={"lr": 1e-2, "depth": 3, "head": "a"},
)
ONE = {"lr": 1e-3, "depth": 1, "head": "b", "weights": "w"}


@pytest.fixture
def request_of(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    asked = Request("toy", "new", str(tmp_path), "e", uri, fingerprint="mine")
    return lambda *names, **changes: replace(asked, id=uuid.uuid4().hex, warm_start=names, **changes)


@pytest.fixture
def begin(request_of):
    """Return a function that writes the event log of an earlier study, given (config, scores, status) of each trial."""

    def write(name: str, *trials: tuple[dict, list[float], str], fingerprint: str = "other", **changes) -> TrialTable:
        request = request_of(name=name, fingerprint=fingerprint)
        request.folder.mkdir()
        trial_table = TrialTable(EventLog(request.folder / EVENT_LOG))
        known = {"task": "toy", "metric": "val/error", "mode": "min", "max_epochs": 3, **changes}
        facts = StudyFacts(request.tracking_uri, "e", name, request.id, tags={"data_fingerprint": fingerprint}, **known)
        trial_table.record("study", request=asdict(request), space={}, facts=metadata.as_json(facts))
        trial_table.record("open")
        for number, (config, scores, status) in enumerate(trials, start=1):
            trial_id = f"{number:03d}"
            trial_table.record("trial", trial_id=trial_id, config=config, baseline="")
            trial_table.record("trial_start", trial_id=trial_id)
            for step, score in enumerate(scores, start=1):
                epoch = {"metrics": {"val/error": score}, "notes": {}, "last": False}
                trial_table.record("report", trial_id=trial_id, step=step, **epoch)
            if status != "running":
                trial_table.record("trial_end", trial_id=trial_id, status=status, error="")
        trial_table.record("close", status="FINISHED")
        trial_table.event_log.close()
        return trial_table

    return write


def refused(request, space: Space = SPACE) -> str:
    with pytest.raises(InputError) as error:
        gather(request, space, "mine")
    return str(error.value)


def tried(warm) -> list[tuple[str, str]]:
    return [(config["study"], config["trial"]) for config in warm.configs]


def test_the_best_come_first_and_what_does_not_fit_is_counted(begin, request_of):
    begin(
        "old",
        ({**ONE, "lr": 2e-3}, [0.9, 0.5, 0.6], "finished"),
        (ONE, [0.4], "pruned"),
        ({**ONE, "lr": 3e-3}, [0.01], "failed"),
        ({**ONE, "lr": 4e-3}, [0.01], "running"),
        ({**ONE, "lr": 0.5}, [0.01], "finished"),
        ({**ONE, "depth": 4}, [0.01], "finished"),
        ({**ONE, "head": "c"}, [0.01], "finished"),
        ({**ONE, "weights": "v"}, [0.01], "finished"),
        ({key: ONE[key] for key in ("lr", "head", "weights")}, [0.01], "finished"),
        ({**ONE, "gone": 1}, [0.01], "finished"),
        (ONE, [float("nan")], "finished"),
        (ONE, [0.8], "finished"),
    )
    warm = gather(request_of("old"), SPACE, "mine")
    assert tried(warm) == [("old", "trial 002"), ("old", "trial 001")], "the same configuration counts once"
    assert warm.configs[0]["values"] == {"lr": 1e-3, "depth": 1, "head": "b"}
    assert warm.studies == ["old (a study, other data): 3 of 12 trials fit"]
    assert warm.left_out == {
        "the trial failed, or is not over": 3,
        "lr was not in 0.0001..0.1 (log)": 1,
        "depth was not in 0..3": 1,
        "head was not in one of a, b": 1,
        "weights was not w": 1,
        "depth was not known": 1,
        "gone is not known": 1,
    }
    assert "3: the trial failed" in warm.lines()["left out"]


def test_studies_take_turns_and_the_same_data_come_first(begin, request_of):
    def trials(low: float) -> list:
        return [({**ONE, "lr": low * (1 + number)}, [number / 10], "finished") for number in range(9)]

    begin("far", *trials(1e-3))
    begin("near", *trials(1.5e-4), fingerprint="mine")
    warm = gather(request_of("far", "near", "far"), SPACE, "mine")
    assert len(warm.configs) == MAX_CONFIGS
    assert [study for study, _ in tried(warm)] == ["near", "far", "near", "far", "near"]
    assert warm.studies[0] == "near (a study, the same data): 9 of 9 trials fit"
    assert tried(gather(request_of("far"), replace(SPACE, trials=6), "mine")) == [
        ("far", "trial 001"),
        ("far", "trial 002"),
    ], "at most a third of the trials"
    assert len(gather(request_of("far"), replace(SPACE, trials=1), "mine").configs) == 1
    begin("again", (ONE, [0.05], "finished"), ({**ONE, "lr": 2e-3}, [0.25], "finished"))
    warm = gather(request_of("far", "again"), replace(SPACE, trials=12), "mine")
    assert tried(warm)[:3] == [("far", "trial 001"), ("far", "trial 002"), ("far", "trial 003")], "of one data set"
    warm = gather(request_of("again", "near"), replace(SPACE, trials=12), "mine")
    assert tried(warm) == [("near", "trial 001"), ("again", "trial 001"), ("near", "trial 002"), ("again", "trial 002")]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"task": "fish"}, "the task was fish"), ({"metric": "val/loss"}, "the metric was val/loss (min)"),
     ({"mode": "max"}, "the metric was val/error (max)")],
)  # fmt: skip
def test_where_nothing_fits_nothing_is_started(begin, request_of, changes, why):
    begin("old", (ONE, [0.4], "finished"), **changes)
    message = refused(request_of("old"))
    assert "--warm-start needs trials that this study could try" in message
    assert f"0 of 1 trials fit (1: {why})" in message


def test_a_missing_study_is_refused_with_the_names_of_those_there(begin, request_of, tmp_path):
    begin("old", (ONE, [0.4], "finished"))
    message = refused(request_of("odl", "../old"))
    assert message.count("--warm-start needs a study in --storage, or an MLflow experiment") == 2
    assert "Studies there: old" in message
    assert not (tmp_path / "mlflow.db").exists(), "asking made it"


def test_a_damaged_event_log_is_refused(begin, request_of):
    begin("old", (ONE, [0.4], "finished"))
    file = request_of(name="old").folder / EVENT_LOG
    file.write_bytes(file.read_bytes().replace(b"0.4", b"0.1"))
    assert "a study's event log must be as it was written" in refused(request_of("old"))


def test_an_experiment_gives_the_same_as_the_event_logs(begin, request_of):
    trials = [({**ONE, "lr": 0.1 / (3 + number)}, [0.5, number / 7], "finished") for number in range(4)]
    trial_table = begin("old", *trials, (ONE, [0.2], "pruned"), ({**ONE, "lr": 5e-3}, [], "failed"))
    other = begin("fish", (ONE, [0.1], "finished"), task="fish")
    recorder_of = {}
    for name, each in (("old", trial_table), ("fish", other)):
        recorder = recorder_of[name] = MlflowRecorder(metadata.from_json(each.events[0].data["facts"]))
        recorder.learn(each.events)
        for event in each.events:
            if event.kind in (*OF_A_TRIAL, *OF_THE_STUDY):
                recorder.deliver([event])
    of_event_log = past_studies.read_study(request_of(name="old").folder)
    [of_mlflow] = past_runs.studies_in_experiment(request_of().tracking_uri, "e", "toy", SPACE)
    assert of_mlflow.found == "a study in experiment e"
    for trial, same in zip(of_event_log.trials, of_mlflow.trials, strict=True):
        assert (trial.id, trial.config, trial.status) == (same.id, same.config, same.status)
        assert trial.scores("val/error") == same.scores("val/error")
    for key in ("name", "id", "task", "metric", "mode", "fingerprint"):
        assert getattr(of_event_log, key) == getattr(of_mlflow, key)
    by_name, by_experiment = (gather(request_of(name), SPACE, "mine") for name in ("old", "e"))
    assert by_name.configs == by_experiment.configs
    assert len(gather(request_of("old", "e"), SPACE, "mine").studies) == 1, "one study, found twice"
    assert past_runs.studies_in_experiment(request_of().tracking_uri, "none", "toy", SPACE) is None
    client = mlflow.MlflowClient(request_of().tracking_uri)
    client.delete_run(recorder_of["old"].parent_id)
    assert "0 of 6 trials fit (6: the metric was unknown (unknown))" in refused(request_of("e"))


PLAIN = st.one_of(st.booleans(), st.integers(), st.text(max_size=9), st.floats(allow_nan=False, allow_infinity=False))
DOMAINS = st.one_of(
    st.lists(PLAIN, min_size=1, max_size=4, unique_by=str).map(tune.choice),
    st.tuples(st.integers(-9, 9), st.integers(1, 99)).map(lambda at: tune.randint(at[0], at[0] + at[1])),
    st.tuples(st.floats(-9, 9), st.floats(0.1, 9)).map(lambda at: tune.uniform(at[0], at[0] + at[1])),
    st.tuples(st.floats(1e-9, 1), st.floats(1.5, 99)).map(lambda at: tune.loguniform(at[0], at[0] * at[1])),
    PLAIN,
)


@given(params=st.dictionaries(st.text(min_size=1, max_size=5), DOMAINS, max_size=5), texts=st.text(max_size=9))
def test_a_configuration_comes_back_from_its_texts(params, texts):
    searched = {key: domain.sample() for key, domain in params.items() if isinstance(domain, tune.search.sample.Domain)}
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in searched.items()}
    budget = {"metric": "m", "mode": "max", "max_epochs": 1, "grace_epochs": 1, "trials": 1}
    space = Space(params, start=plain, **budget)
    config = {**space.fixed, **plain}
    back = past_runs.parsed(space, {key: str(value) for key, value in config.items()})
    assert back == config
    assert {key: type(value) for key, value in back.items()} == {key: type(value) for key, value in config.items()}
    assert space.misfit(back) == ""
    for key in params:  # whatever a text is, it is taken for no value that it is not
        other = past_runs.parsed(space, {**{key: str(value) for key, value in config.items()}, key: texts})
        assert space.misfit(other) or str(other[key]) == texts or float(texts) == other[key]


def simulate(file: Path, warm: dict, stops: set[int]) -> list[tuple]:
    """Run a study that is stopped after some events and resumed; return the proposed configs."""
    space = replace(SPACE, trials=12, baselines={"scratch": {"weights": "none"}})
    while True:
        trial_table = TrialTable(EventLog(file))
        if not trial_table.events:
            trial_table.record("study", warm_start=warm)
        trial_table.record("open")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = SearchController(space, 0, trial_table)
        while trial := search.next_trial():
            search.on_trial_start(trial)
            while search.on_report(
                trial, trial.epochs + 1, {"val/error": trial.config["lr"] + 1 / (1 + trial.epochs)}, {}
            ):
                if stops and len(trial_table.events) > min(stops):
                    break
            else:
                search.on_trial_complete(trial)
            if stops and len(trial_table.events) > min(stops):
                stops.remove(min(stops))
                break
        else:
            return [(trial.id, trial.config, trial.status) for trial in trial_table.trials.values()]


@pytest.mark.parametrize("stops", [{4}, {6, 9}, {11, 13, 30}])
def test_a_study_that_goes_on_proposes_what_it_would_have(begin, request_of, tmp_path, stops):
    begin("old", *[({**ONE, "lr": 1e-3 + number / 1000}, [number], "finished") for number in range(4)])
    warm = gather(request_of("old"), SPACE, "mine").as_json()
    shutil.rmtree(tmp_path / "old")
    whole = simulate(tmp_path / "whole", warm, set())
    lrs = [config["lr"] for _, config, _ in whole if config["weights"] == "w"]
    assert lrs[:5] == [1e-3, 2e-3, 3e-3, 4e-3, SPACE.start["lr"]]
    assert simulate(tmp_path / "stopped", warm, set(stops)) == whole


def test_without_a_warm_start_a_search_begins_where_its_space_does(tmp_path):
    assert first_configs([], SPACE) == [SPACE.start]
