"""Recorder of a study's events in MLflow.

A study has a parent run, each trial has a child run, and the best model is logged by `model_registry.py`. Nothing else
writes to MLflow. `delivery.py` determines when events are sent.
"""

import json
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from platform.space import DEPTH
from platform.study.event_log import Event
from platform.study.metadata import DatasetFacts, StudyFacts
from platform.study.trials import OF_A_TRIAL, Trial, proposed
from platform.tracking import model_registry
from platform.tracking.mlflow_store import artifact_location, creation_lock, is_missing, set_environment, sqlite_file

METRICS_PER_BATCH = 1000  # MLflow's limit
PARAM_CHARACTERS, TAG_CHARACTERS, DIGEST_CHARACTERS = 6000, 5000, 36  # MLflow's limits
KIND = {"mlflow.experimentKind": "custom_model_development"}  # its pages open on training runs, not on chats
OF_THE_STUDY = ("open", "spent", "best", "close")  # events
Report = tuple[Mapping[str, float], int, int]  # metrics, time in ms, step
RUN_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}


class MlflowRecorder:
    """Record events in MLflow. Runs of an earlier process are found by their tags, so each event is recorded once."""

    def __init__(self, study: StudyFacts) -> None:
        self.study = study
        self.client: Any = None
        self.experiment_id = ""
        self.parent_id = ""
        self.proposed: dict[str, Event] = {}  # by trial
        self.runs: dict[str, str] = {}  # trial → run
        self.registered = ""  # result of registering a champion, a sentence
        self.model_uri = ""  # of the best model
        self.is_new = False  # MLflow had no run of the study before
        self.attempted: set[str] = set()  # trials whose run may have been created
        self.steps: dict[str, set[int]] = {}  # run → epochs recorded
        self.tags: dict[str, dict[str, str]] = {}  # run → tags recorded last

    def learn(self, events: Iterable[Event]) -> None:
        """Remember proposed trials; a trial gets a run once it starts."""
        self.proposed |= {event.data["trial_id"]: event for event in events if event.kind == "trial"}

    def deliver(self, events: Sequence[Event]) -> None:
        """Record one event, or several of one trial in order. Raises if MLflow did not accept them."""
        first = events[0]
        if not self.parent_id:
            self._open_store()
            self._open_parent(first.time_ms)
        if first.kind in OF_A_TRIAL:
            self._trial(first.data["trial_id"], events)
        elif first.kind == "open":
            self.client.update_run(self.parent_id, status="RUNNING")
        elif first.kind == "spent":
            hours_text = ", ".join(f"{hours:.2f} h of {kind or 'nodes'}" for kind, hours in first.data["hours"].items())
            self.client.set_tag(self.parent_id, "spent", f"{hours_text}; {first.data['total']:.2f} US dollars in all")
        elif first.kind == "best":
            self._best(first.time_ms, **first.data)
        else:
            self.client.set_terminated(self.parent_id, first.data["status"], first.time_ms)

    def _open_store(self) -> None:
        # Delivery reports an unreachable server once; urllib3 would at each call.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        with creation_lock(self.study.tracking_uri):
            self.client = MlflowClient(self.study.tracking_uri)
            experiment = self.client.get_experiment_by_name(self.study.experiment)
            if experiment is None:
                location = artifact_location(self.study.tracking_uri, self.study.experiment)
                try:
                    self.experiment_id = self.client.create_experiment(self.study.experiment, location, KIND)
                    return
                except MlflowException:  # another process was faster
                    experiment = self.client.get_experiment_by_name(self.study.experiment)
                    if experiment is None:
                        raise
            self.experiment_id = experiment.experiment_id

    def _open_parent(self, time_ms: int) -> None:
        study = self.study
        run = self._find({"kind": "study"})
        self.is_new = run is None
        if run is None:
            warm = {"warm_start": study.warm_start} if study.warm_start else {}
            run = self._create({"kind": "study"} | warm, study.name, time_ms)
            for file in study.files:
                self.client.log_artifact(run.info.run_id, str(file))
        params = {"task": study.task, "metric": study.metric, "mode": study.mode, "max_epochs": study.max_epochs}
        self._complete(run, params | dict(study.params))
        self.parent_id = run.info.run_id

    def _run_of(self, trial_id: str) -> str:
        if trial_id not in self.runs:
            key = {"trial_id": trial_id}
            # A call that failed may have created it nevertheless.
            run = None if self.is_new and trial_id not in self.attempted else self._find(key)
            self.attempted.add(trial_id)
            event = self.proposed[trial_id]
            trial = proposed(event.data)
            if run is None:
                tags = key | {"mlflow.parentRunId": self.parent_id, "status": "running"}
                run = self._create(tags | _kind_of(trial), _run_name(trial), event.time_ms)
            self._complete(run, trial.config)
            histories = (self.client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
            self.steps[run.info.run_id] = {metric.step for history in histories for metric in history}
            self.tags[run.info.run_id] = dict(run.data.tags)
            self.runs[trial_id] = run.info.run_id
        return self.runs[trial_id]

    def _find(self, key: dict[str, str]) -> Any:
        """Return the run of this study with these tags that an earlier process or attempt created, or None."""
        key = {"study_id": self.study.id} | key
        wanted = " and ".join(f"tags.{tag} = {_quoted(value)}" for tag, value in key.items())
        return next(iter(self.client.search_runs([self.experiment_id], wanted, max_results=1)), None)

    def _create(self, tags: dict[str, str], name: str, time_ms: int) -> Any:
        tags = {**self.study.tags, "task": self.study.task, "study": self.study.name, "study_id": self.study.id, **tags}
        tags = {tag: str(value)[:TAG_CHARACTERS] for tag, value in tags.items()}
        return self.client.create_run(self.experiment_id, time_ms, tags, name)

    def _complete(self, run: Any, params: Mapping[str, Any]) -> None:
        """Log the parameters and the data set that the run does not have yet."""
        from mlflow.entities import Param

        # MLflow refuses to change a parameter, and a resumed study may have a larger budget.
        new = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in params.items() if key not in run.data.params]
        if new:
            self.client.log_batch(run.info.run_id, params=new)
        if self.study.dataset is not None and not (run.inputs and run.inputs.dataset_inputs):
            self.client.log_inputs(run.info.run_id, [_dataset_input(self.study.dataset)])

    def _log(self, run_id: str, reports: Sequence[Report], tags: Mapping[str, str] | None = None) -> None:
        """Log reports and tags in as few calls as MLflow allows."""
        from mlflow.entities import Metric, RunTag

        values = [Metric(key, value, at, step) for metrics, at, step in reports for key, value in metrics.items()]
        run_tags = [RunTag(key, value[:TAG_CHARACTERS]) for key, value in (tags or {}).items()]
        for first in range(0, max(len(values), bool(run_tags)), METRICS_PER_BATCH):
            some_tags = run_tags if first == 0 else []
            self.client.log_batch(run_id, metrics=values[first : first + METRICS_PER_BATCH], tags=some_tags)

    def _log_figures(self, run_id: str, figures: Mapping[str, Path]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, file in figures.items():
                shutil.copy(file, Path(folder) / f"{name}{file.suffix}")
            if figures:
                self.client.log_artifacts(run_id, folder, "figures")

    def _trial(self, trial_id: str, events: Sequence[Event]) -> None:
        """Record events of a trial, except for those that are recorded already."""
        run_id = self._run_of(trial_id)
        reports: list[Report] = []
        tags, end = dict[str, str](), None
        for event in events:
            end = None
            if event.kind == "trial_start":
                tags["status"] = "running"
            elif event.kind == "report":
                tags |= event.data["notes"]
                if event.data["step"] not in self.steps[run_id]:
                    reports.append((event.data["metrics"], event.time_ms, event.data["step"]))
            elif event.kind == "attempt_failed":
                tags["moved" if event.data.get("moved") else "error_of_an_attempt"] = event.data["error"]
            else:
                tags |= {"status": event.data["status"]}
                tags |= {"error": event.data["error"]} if event.data["error"] else {}
                end = event.time_ms
        known = self.tags[run_id]
        new = {key: value[-TAG_CHARACTERS:] for key, value in tags.items()}
        new = {key: value for key, value in new.items() if known.get(key) != value}
        self._log(run_id, reports, new)
        self.steps[run_id] |= {step for _, _, step in reports}
        known |= new
        if end is not None:
            self.client.set_terminated(run_id, RUN_STATUS[tags["status"]], end)
        elif "status" in new:  # it was interrupted and continues
            self.client.update_run(run_id, status="RUNNING")

    def _best(
        self,
        time_ms: int,
        trial_id: str,
        metrics: Mapping[str, float],
        model_dir: str | None,
        figures: Mapping[str, str],
        files: Sequence[str],
        note: str,
        champion: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the study's result: test metrics on the best trial's run and the parent, figures, files and the model.

        The model is registered if it is a champion.
        """
        import mlflow

        mlflow.set_tracking_uri(self.study.tracking_uri)  # models and versions take the address from here only
        run_id = self._run_of(trial_id)
        for target in (run_id, self.parent_id):
            known = self.client.get_run(target).data.metrics
            new = {key: value for key, value in metrics.items() if known.get(key) != value}
            self._log(target, [(new, time_ms, 0)])
        self.client.set_tag(self.parent_id, "best_trial_id", trial_id)
        self.client.set_tag(self.parent_id, "best_run_id", run_id)
        if note:
            self.client.set_tag(self.parent_id, "mlflow.note.content", note)  # shown as the run's description
        self._log_figures(run_id, {name: Path(file) for name, file in figures.items()})
        for file in map(Path, files):
            if file.is_dir():
                self.client.log_artifacts(run_id, str(file), f"files/{file.name}")
            else:
                self.client.log_artifact(run_id, str(file), "files")
        model = model_registry.model_of(self.client, self.experiment_id, run_id)
        if model is None and model_dir is not None:
            model_registry.log(self.client, self.study, self.experiment_id, run_id, Path(model_dir))
            model = model_registry.model_of(self.client, self.experiment_id, run_id)
        self.model_uri = f"models:/{model.model_id}" if model else ""
        if champion is not None and model is not None:
            self.registered = model_registry.register(self.client, self.study.task, model, champion)
            self.client.set_tag(self.parent_id, "champion", self.registered)


def _kind_of(trial: Trial) -> dict[str, str]:
    """Return tags that tell the kind of a trial."""
    if trial.confirms:
        return {"kind": "confirmation", "confirms": trial.confirms, "seed": str(trial.seed)}
    return {"kind": "trial", **({"baseline": trial.baseline} if trial.baseline else {})}


def _run_name(trial: Trial) -> str:
    """Return a run's name: the trial with its baseline or its freezing, which users look for in the list."""
    freezing = [f"freeze {trial.config[DEPTH]}"] if DEPTH in trial.config and trial.is_searched else []
    freezing += [trial.config["unfreeze"]] if freezing and "unfreeze" in trial.config and trial.config[DEPTH] else []
    return ", ".join([trial.name, *([trial.baseline] if trial.baseline else freezing)])


def record_figures(
    tracking_uri: str,
    experiment: str,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    figures: Mapping[str, Path],
) -> str:
    """Record figures that belong to no study in a run of their own; return "", or why MLflow did not accept them."""
    set_environment()
    recorder = MlflowRecorder(StudyFacts(tracking_uri, experiment, name, uuid.uuid4().hex, experiment, "", "", 0))
    now = int(time.time() * 1000)
    try:
        recorder._open_store()
        run = recorder._create({"kind": "pictures"}, name, now)
        recorder._complete(run, params)
        recorder._log(run.info.run_id, [(metrics, now, 0)])
        recorder._log_figures(run.info.run_id, figures)
        recorder.client.set_terminated(run.info.run_id, "FINISHED")
    except Exception as error:  # MLflow raises exceptions of all kinds; the figures are on the disk already
        return f"Not recorded in MLflow at {tracking_uri}: {type(error).__name__}: {error}"
    return ""


def record_page(study: StudyFacts, file: Path) -> str:
    """Log a page to a study's existing run, where it replaces one of the same name; return "", or why that failed."""
    set_environment()
    if is_missing(study.tracking_uri):
        return f"Not in MLflow: there is no {sqlite_file(study.tracking_uri)}"
    from mlflow import MlflowClient

    recorder = MlflowRecorder(study)
    try:
        recorder.client = MlflowClient(study.tracking_uri)
        experiment = recorder.client.get_experiment_by_name(study.experiment)
        recorder.experiment_id = experiment.experiment_id if experiment else ""
        run = recorder._find({"kind": "study"}) if experiment else None
        if run is None:
            return f"Not in MLflow at {study.tracking_uri}: it holds no run of this study"
        recorder.client.log_artifact(run.info.run_id, str(file))
    except Exception as error:  # MLflow raises exceptions of all kinds; the page is on the disk already
        return f"Not in MLflow at {study.tracking_uri}: {type(error).__name__}: {error}"
    return ""


def is_refusal(error: Exception) -> bool:
    """Return True if MLflow will always reject the request, False if it is worth another attempt."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return 400 <= status < 500 and status not in (401, 403, 408, 429)
    if isinstance(error, OSError):  # a failed connection, or a missing file
        return isinstance(error, FileNotFoundError)
    return isinstance(error, LookupError | TypeError | ValueError | AttributeError)  # an error in this project


def _quoted(value: str) -> str:
    """Quote a value for MLflow's filter language, which has two kinds of quotes and no escape."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _dataset_input(dataset: DatasetFacts) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=dataset.name,
        digest=dataset.digest[:DIGEST_CHARACTERS],
        source_type="local",
        source=json.dumps({"uri": dataset.source}),
        profile=json.dumps(dict(dataset.profile)),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])
