"""A recorded run trained once more from its record alone, and whether it comes to the same.

The record is MLflow's: the configuration, seed, budget and data of the run. What is run is a study of that one
configuration, with nothing left to search.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from platform.errors import Fault, InputError
from platform.runner.plan import Plan
from platform.study.event_log import Event
from platform.study.request import Request
from platform.tracking.mlflow_store import asked

PLACES = "data_places"  # tag: where the data was read from
COMPARED = ("commit", "data_fingerprint", "python")  # tags; and the versions of libraries


@dataclass(frozen=True)
class Recorded:
    """What MLflow holds of a run.

    Attributes:
        run_id: The run's.
        task: What was trained.
        config: As it is typed: by key, in words.
        seed: Of the study, which its data was split with.
        training_seed: Of its training.
        epochs: Its budget.
        data: Where its data was read from.
        metric: The score.
        scores: By epoch.
        tags: What it ran with.
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


def read(run_id: str, uri: str) -> Recorded:
    """
    Raises:
        InputError: MLflow does not know it, or it is no trial of ours.
    """
    with asked(uri) as client:
        run = client.get_run(run_id)
        tags = run.data.tags
        if "mlflow.parentRunId" not in tags or "trial_id" not in tags or PLACES not in tags:
            remedy = f"A study's best: {tags['best_run_id']}." if "best_run_id" in tags else "Choose a trial's run."
            raise InputError(Fault("--replay needs the run of a trial", f"{run_id}, {run.info.run_name}", remedy))
        study = client.get_run(tags["mlflow.parentRunId"])
        metric = study.data.params["metric"]
        scores = {point.step: point.value for point in client.get_metric_history(run_id, metric)}
    if not scores:
        raise InputError(Fault("--replay needs a run with scores", f"{run_id}: none of {metric}", "Choose another."))
    return Recorded(
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


def request_of(recorded: Recorded, asked_for: Request) -> Request:
    """What a study is asked for that trains a recorded run once more.

    Args:
        recorded: The run.
        asked_for: What was typed: of it holds where it runs and is kept, and where the data is if that was typed.

    Raises:
        InputError: The run is of another task, or something was typed that its record says.
    """
    given = {"--set": asked_for.settings, "--trials": asked_for.trials, "--epochs": asked_for.epochs,
             "--seed": asked_for.seed, "--confirm": asked_for.confirm,
             "--warm-start": asked_for.warm_start}  # fmt: skip
    faults = [
        Fault("--replay takes this from the record", key, "Leave it out.") for key, value in given.items() if value
    ]
    if recorded.task != asked_for.task:
        remedy = f"python -m platform.tune {recorded.task} --replay {recorded.run_id}"
        faults.append(Fault("--replay needs a run of the task", f"{recorded.run_id} of {recorded.task}", remedy))
    if faults:
        raise InputError(*faults)
    return replace(
        asked_for,
        settings=tuple(f"{key}={value}" for key, value in recorded.config.items()),
        data=asked_for.data or tuple(recorded.data),
        trials=1,
        epochs=recorded.epochs,
        seed=recorded.seed,
        training_seed=recorded.training_seed,
        confirm="none",
    )


def check(plan: Plan, recorded: Recorded) -> None:
    """
    Raises:
        InputError: The data is not what the run was trained on.
    """
    if plan.dataset.fingerprint != recorded.tags["data_fingerprint"]:
        rule, remedy = "--replay needs the data that the run was trained on", "Name it with --data, as it was then."
        raise InputError(Fault(rule, f"{plan.dataset.name}, of other content", remedy))


def verdict(recorded: Recorded, events: Sequence[Event], tolerance: float) -> tuple[bool, list[str]]:
    """Whether a replay came to the same, and lines that tell.

    Args:
        recorded: The run.
        events: Of the replay's event log.
        tolerance: How far the score after the last recorded epoch may be off.
    """
    scores = {e.data["step"]: e.data["metrics"].get(recorded.metric, math.nan) for e in events if e.kind == "epoch"}
    if missing := sorted(set(recorded.scores) - set(scores)):
        return False, [f"The replay ended before epoch {missing[0]}, which the record has."]
    off = {epoch: abs(scores[epoch] - score) for epoch, score in recorded.scores.items()}
    last, equal = max(off), not any(off.values())
    within = equal or off[last] <= tolerance  # NaN is not
    ends = recorded.scores[last], scores[last]
    told = f"{recorded.metric} after epoch {last}: {ends[0]:.4f} in the record, {ends[1]:.4f} in the replay"
    how = "equal in each epoch, to the last bit" if equal else f"within {tolerance:g}" if within else "not the same"
    lines = [f"{told}: {how}."]
    if not equal:
        lines.append(f"The largest difference in an epoch is {max(off.values()):.2g}.")
    now = events[0].data["facts"]["tags"]
    keys = [key for key in now if key in COMPARED or key.startswith("version.")]
    differ = [
        f"{key} {recorded.tags.get(key)} then, {now[key]} now" for key in keys if recorded.tags.get(key) != now[key]
    ]
    lines += [f"It ran with other things: {'; '.join(differ)}."] if differ else []
    return within, lines
