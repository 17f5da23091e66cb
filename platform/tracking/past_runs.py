"""Past studies read from the runs of an MLflow experiment."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Integer

from platform.space import Space, current_names
from platform.study.past_studies import PastStudy
from platform.study.trials import Trial
from platform.tracking import mlflow_store

RUNS_PER_PAGE = 1000


def studies_in_experiment(tracking_uri: str, experiment: str, task: str, space: Space) -> list[PastStudy] | None:
    """Return the studies of a task in an MLflow experiment, None if there is no such experiment.

    Raises:
        InputError: MLflow does not answer.
    """
    if mlflow_store.is_missing(tracking_uri):
        return None
    with mlflow_store.open_client(tracking_uri) as client:
        known = client.get_experiment_by_name(experiment)
        return None if known is None else _studies(client, known.experiment_id, experiment, task, space)


def _studies(client: Any, experiment_id: str, experiment: str, task: str, space: Space) -> list[PastStudy]:
    trials: dict[str, list[Trial]] = defaultdict(list)
    parents: dict[str, Any] = {}
    for run in _runs(client, experiment_id):
        tags = run.data.tags
        if tags.get("task") != task or "study_id" not in tags:
            continue
        if tags.get("kind") == "study":
            parents[tags["study_id"]] = run
        elif tags.get("kind") == "trial":
            history = client.get_metric_history(run.info.run_id, space.metric)
            scores = {metric.step: metric.value for metric in history}
            metrics = [{space.metric: scores[step]} for step in sorted(scores)]
            config, status = parsed(space, current_names(run.data.params)), tags.get("status", "")
            trials[tags["study_id"]].append(Trial(tags.get("trial_id", ""), config, status=status, metrics=metrics))
    studies = []
    for study_id in dict.fromkeys([*parents, *trials]):
        run = parents.get(study_id)  # a user may have deleted it but not its trials
        params, tags = (run.data.params, run.data.tags) if run else ({}, {})
        studies.append(
            PastStudy(
                name=tags.get("study", study_id),
                id=study_id,
                found=f"a study in experiment {experiment}",
                task=task,
                metric=params.get("metric", "unknown"),
                mode=params.get("mode", "unknown"),
                fingerprint=tags.get("data_fingerprint", ""),
                trials=sorted(trials[study_id], key=lambda trial: trial.id),
            )
        )
    return studies


def _runs(client: Any, experiment_id: str) -> list[Any]:
    runs, token = [], None
    while True:
        page = client.search_runs([experiment_id], order_by=["attributes.start_time"], max_results=RUNS_PER_PAGE,
                                  page_token=token)  # fmt: skip
        runs += page
        if not (token := page.token):
            return runs


def parsed(space: Space, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a config with each text parsed by its domain in the space; a text that does not fit stays a text."""
    return {key: _value(space.params[key], text) if key in space.params else text for key, text in texts.items()}


def _value(param: Any, text: str) -> Any:
    if isinstance(param, Categorical) or not isinstance(param, Domain):
        choices = param.categories if isinstance(param, Categorical) else [param]
        return next((choice for choice in choices if str(choice) == text), text)
    try:
        return int(text) if isinstance(param, Integer) else float(text)
    except ValueError:
        return text
