"""Replay of a run that MLflow has recorded, and the comparison of both.

The config, the seed, the budget and the data are taken from the record. A replay is a study of that one config, with
nothing left to search.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from platform.errors import Fault, InputError, raise_if_any
from platform.runner.plan import Plan
from platform.space import current_names
from platform.study.event_log import Event
from platform.study.request import Request
from platform.tracking.mlflow_store import open_client

PLACES = "data_places"  # tag with the places that the data was read from
COMPARED_TAGS = ("commit", "data_fingerprint", "python")  # besides the versions of libraries


@dataclass(frozen=True)
class RecordedRun:
    """MLflow's record of a trial.

    Attributes:
        run_id: Id of the run.
        task: Task of the study.
        config: Values of the parameters as they are typed after --set.
        seed: Seed of the study, with which its data was split.
        training_seed: Seed of the training.
        epochs: Budget of the trial.
        data: Places that the data was read from.
        metric: Metric of the study.
        scores: Values of the metric by epoch.
        tags: Tags of the run, e.g. the versions of libraries.
    """

    run_id: str
    task: str
    config: Mapping[str, str]
    seed: int
    training_seed: int
    epochs: int
    data: Sequence[str]
    metric: str
    scores: Mapping[int, float]
    tags: Mapping[str, str]


def read(run_id: str, uri: str) -> RecordedRun:
    """Read the record of a run from the MLflow store at an address.

    Raises:
        InputError: MLflow does not know the run, or it is not a trial of this platform.
    """
    with open_client(uri) as client:
        run = client.get_run(run_id)
        tags = run.data.tags
        if "mlflow.parentRunId" not in tags or "trial_id" not in tags or PLACES not in tags:
            remedy = "Choose the run of a trial."
            if "best_run_id" in tags:
                remedy = f"The best trial of this study has the run {tags['best_run_id']}."
            raise InputError(Fault("--replay needs the run of a trial", f"{run_id}, {run.info.run_name}", remedy))
        study = client.get_run(tags["mlflow.parentRunId"])
        metric = study.data.params["metric"]
        scores = {entry.step: entry.value for entry in client.get_metric_history(run_id, metric)}
    if not scores:
        found = f"{run_id} without any value of {metric}"
        raise InputError(Fault("--replay needs a run with scores", found, "Choose another run."))
    return RecordedRun(
        run_id=run_id,
        task=tags["task"],
        config=run.data.params,
        seed=int(study.data.tags["seed"]),
        training_seed=int(tags.get("training_seed", tags["seed"])),
        epochs=int(study.data.params["max_epochs"]),
        data=json.loads(tags[PLACES]),
        metric=metric,
        scores=scores,
        tags=tags,
    )


def request_of(recorded: RecordedRun, asked_for: Request) -> Request:
    """Return the request of the study that trains a recorded run again.

    `asked_for` is the request as it was typed. It determines where the study runs and is kept, and, if --data was
    given, where the data is.

    Raises:
        InputError: The run is of another task, or an option was typed that the record determines.
    """
    given = {"--set": asked_for.settings, "--trials": asked_for.trials, "--epochs": asked_for.epochs,
             "--seed": asked_for.seed, "--confirm": asked_for.confirm,
             "--warm-start": asked_for.warm_start}  # fmt: skip
    rule = "--replay takes this from the record"
    faults = [Fault(rule, key, "Leave it out.") for key, value in given.items() if value]
    if recorded.task != asked_for.task:
        remedy = f"python -m platform.tune {recorded.task} --replay {recorded.run_id}"
        faults.append(Fault("--replay needs a run of the task", f"{recorded.run_id} of {recorded.task}", remedy))
    raise_if_any(faults)
    return replace(
        asked_for,
        settings=tuple(f"{key}={value}" for key, value in current_names(recorded.config).items()),
        data=asked_for.data or tuple(recorded.data),
        trials=1,
        epochs=recorded.epochs,
        seed=recorded.seed,
        training_seed=recorded.training_seed,
        confirm="none",
    )


def check(plan: Plan, recorded: RecordedRun) -> None:
    """Check that a plan has the data of a recorded run.

    Raises:
        InputError: The data has other content.
    """
    if plan.dataset.fingerprint != recorded.tags["data_fingerprint"]:
        rule, remedy = "--replay needs the data that the run was trained on", "Give that data with --data."
        raise InputError(Fault(rule, f"{plan.dataset.name} with other content", remedy))


def verdict(recorded: RecordedRun, events: Sequence[Event], tolerance: float) -> tuple[bool, list[str]]:
    """Compare a replay with the recorded run.

    Args:
        recorded: The run.
        events: Event log of the replay.
        tolerance: Largest accepted difference of the scores after the last recorded epoch.

    Returns:
        Whether the replay reproduced the run, and the comparison in sentences.
    """
    scores = {e.data["step"]: e.data["metrics"].get(recorded.metric, math.nan) for e in events if e.kind == "report"}
    if missing := sorted(set(recorded.scores) - set(scores)):
        return False, [f"The replay ended before epoch {missing[0]}, which the record has."]
    differences = {epoch: abs(scores[epoch] - score) for epoch, score in recorded.scores.items()}
    last, is_equal = max(differences), not any(differences.values())
    is_within = is_equal or differences[last] <= tolerance  # false for NaN
    before, now = recorded.scores[last], scores[last]
    outcome = f"within {tolerance:g}" if is_within else "not the same"
    outcome = "equal in each epoch, to the last bit" if is_equal else outcome
    lines = [f"{recorded.metric} after epoch {last}: {before:.4f} in the record, {now:.4f} in the replay: {outcome}."]
    if not is_equal:
        lines.append(f"The largest difference in an epoch is {max(differences.values()):.2g}.")
    tags = events[0].data["facts"]["tags"]
    keys = [key for key in tags if key in COMPARED_TAGS or key.startswith("version.")]
    changed = [f"{k} {recorded.tags.get(k)} then, {tags[k]} now" for k in keys if recorded.tags.get(k) != tags[k]]
    lines += [f"The replay ran with other software or data: {'; '.join(changed)}."] if changed else []
    return is_within, lines
