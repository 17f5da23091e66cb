"""What MLflow holds of a study, and how one record gets there.

A parent run per study, a child run per trial with all that is new of it in one call, the best model (`registry.py`).
Nothing else writes to MLflow; `delivery.py` says when it is sent.
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
from platform.tracking.mlflow_store import artifact_location, first_opening, is_missing, set_environment, sqlite_file

METRICS_PER_BATCH = 1000  # MLflow's limit
PARAM_CHARACTERS, TAG_CHARACTERS, DIGEST_CHARACTERS = 6000, 5000, 36  # MLflow's limits
KIND = {"mlflow.experimentKind": "custom_model_development"}  # its pages open on training runs, not on chats
OF_THE_STUDY = ("open", "spent", "best", "close")  # events
RUN_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}


class MlflowRecorder:
    """Talks to MLflow. Finds what an earlier process left, by tags: what is told twice is there once."""

    def __init__(self, study: StudyFacts) -> None:
        self.study = study
        self.client: Any = None
        self.experiment_id = ""
        self.parent_id = ""
        self.proposed: dict[str, Event] = {}  # by trial
        self.runs: dict[str, str] = {}  # trial → run
        self.registered = ""  # what came of registering a champion
        self.model_uri = ""  # of the best model
        self.is_new = False  # nothing of the study was there before
        self.attempted: set[str] = set()  # trials whose run may have been created
        self.steps: dict[str, set[int]] = {}  # run → epochs recorded
        self.tags: dict[str, dict[str, str]] = {}  # run → what was said last

    def learn(self, events: Iterable[Event]) -> None:
        """Takes note of what was proposed: a trial gets a run once it begins."""
        self.proposed |= {event.data["trial_id"]: event for event in events if event.kind == "trial"}

    def deliver(self, events: Sequence[Event]) -> None:
        """Sends one event, or several of one trial in their order; raises if MLflow did not take them."""
        first = events[0]
        if not self.parent_id:
            self._open_store()
            self._open_parent(first.time_ms)
        if first.kind in OF_A_TRIAL:
            self._trial(first.data["trial_id"], events)
        elif first.kind == "open":
            self.client.update_run(self.parent_id, status="RUNNING")
        elif first.kind == "spent":
            told = ", ".join(f"{hours:.2f} h of {kind or 'nodes'}" for kind, hours in first.data["hours"].items())
            self.client.set_tag(self.parent_id, "spent", f"{told}; {first.data['total']:.2f} US dollars in all")
        elif first.kind == "best":
            self._best(first.time_ms, **first.data)
        else:
            self.client.set_terminated(self.parent_id, first.data["status"], first.time_ms)

    def pictures(
        self, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], figures: Mapping[str, Path]
    ) -> None:
        """Sends a run that holds nothing but pictures, and what they are of; raises if MLflow did not take it."""
        now = int(time.time() * 1000)
        self._open_store()
        run = self._create({"kind": "pictures"}, name, now)
        self._complete(run, params)
        self._log_metrics(run.info.run_id, metrics, now, step=0)
        self._log_figures(run.info.run_id, figures)
        self.client.set_terminated(run.info.run_id, "FINISHED")

    def _open_store(self) -> None:
        # The count that close() returns tells of a dead server, once; urllib3 would tell at each call.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        with first_opening(self.study.tracking_uri):
            self.client = MlflowClient(self.study.tracking_uri)
            experiment = self.client.get_experiment_by_name(self.study.experiment)
            if experiment is None:
                location = artifact_location(self.study.tracking_uri, self.study.experiment)
                try:
                    self.experiment_id = self.client.create_experiment(self.study.experiment, location, KIND)
                    return
                except MlflowException:  # another study's process was faster
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
            # An attempt that failed may have created it all the same.
            run = None if self.is_new and trial_id not in self.attempted else self._find(key)
            self.attempted.add(trial_id)
            event = self.proposed[trial_id]
            trial = proposed(event.data)
            if run is None:
                tags = key | {"mlflow.parentRunId": self.parent_id, "status": "running"}
                run = self._create(tags | _kind_of(trial), _run_name(trial), event.time_ms)
            self._complete(run, trial.config)
            self.steps[run.info.run_id] = self._steps_of(run)
            self.tags[run.info.run_id] = dict(run.data.tags)
            self.runs[trial_id] = run.info.run_id
        return self.runs[trial_id]

    def _find(self, key: dict[str, str]) -> Any:
        """The run of this study that an earlier process or a half-failed attempt made, or None."""
        key = {"study_id": self.study.id} | key
        wanted = " and ".join(f"tags.{tag} = {_quoted(value)}" for tag, value in key.items())
        return next(iter(self.client.search_runs([self.experiment_id], wanted, max_results=1)), None)

    def _create(self, tags: dict[str, str], name: str, time_ms: int) -> Any:
        tags = {**self.study.tags, "task": self.study.task, "study": self.study.name, "study_id": self.study.id, **tags}
        tags = {tag: str(value)[:TAG_CHARACTERS] for tag, value in tags.items()}
        return self.client.create_run(self.experiment_id, time_ms, tags, name)

    def _complete(self, run: Any, params: Mapping[str, Any]) -> None:
        """Logs the parameters and the data set, so far as the run has them not yet."""
        from mlflow.entities import Param

        # MLflow refuses a second value for a parameter, and a resumed study may have a larger budget.
        new = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in params.items() if key not in run.data.params]
        if new:
            self.client.log_batch(run.info.run_id, params=new)
        if self.study.dataset is not None and not (run.inputs and run.inputs.dataset_inputs):
            self.client.log_inputs(run.info.run_id, [_dataset_input(self.study.dataset)])

    def _steps_of(self, run: Any) -> set[int]:
        histories = (self.client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
        return {point.step for history in histories for point in history}

    def _log_metrics(self, run_id: str, metrics: Mapping[str, float], time_ms: int, step: int) -> None:
        self._log(run_id, [(metrics, time_ms, step)])

    def _log(
        self, run_id: str, told: Sequence[tuple[Mapping[str, float], int, int]], tags: Mapping[str, str] | None = None
    ) -> None:
        """Metrics with their time and step, and tags, in as few calls as MLflow allows."""
        from mlflow.entities import Metric, RunTag

        points = [
            Metric(key, value, time_ms, step) for metrics, time_ms, step in told for key, value in metrics.items()
        ]
        run_tags = [RunTag(key, value[:TAG_CHARACTERS]) for key, value in (tags or {}).items()]
        for first in range(0, max(len(points), bool(run_tags)), METRICS_PER_BATCH):
            some_tags = run_tags if first == 0 else []
            self.client.log_batch(run_id, metrics=points[first : first + METRICS_PER_BATCH], tags=some_tags)

    def _log_figures(self, run_id: str, figures: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, figure in figures.items():
                _save_picture(figure, Path(folder) / name)
            if figures:
                self.client.log_artifacts(run_id, folder, "figures")

    def _trial(self, trial_id: str, events: Sequence[Event]) -> None:
        """What happened to a trial. What is recorded already is left out."""
        run_id = self._run_of(trial_id)
        told: list[tuple[Mapping[str, float], int, int]] = []
        tags, end = dict[str, str](), None
        for event in events:
            end = None
            if event.kind == "trial_start":
                tags["status"] = "running"
            elif event.kind == "report":
                tags |= event.data["notes"]
                if event.data["step"] not in self.steps[run_id]:
                    told.append((event.data["metrics"], event.time_ms, event.data["step"]))
            elif event.kind == "attempt_failed":
                tags["moved" if event.data.get("moved") else "error_of_an_attempt"] = event.data["error"]
            else:
                tags |= {"status": event.data["status"]}
                tags |= {"error": event.data["error"]} if event.data["error"] else {}
                end = event.time_ms
        known = self.tags[run_id]
        new = {key: value[-TAG_CHARACTERS:] for key, value in tags.items()}
        new = {key: value for key, value in new.items() if known.get(key) != value}
        self._log(run_id, told, new)
        self.steps[run_id] |= {step for _, _, step in told}
        known |= new
        if end is not None:
            self.client.set_terminated(run_id, RUN_STATUS[tags["status"]], end)
        elif "status" in new:  # it was interrupted, and goes on
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
        """What came of the study: test metrics on the best trial's run and the parent, figures and the model; which is
        registered if it is a champion.
        """
        import mlflow

        mlflow.set_tracking_uri(self.study.tracking_uri)  # models and versions take the address from nowhere else
        run_id = self._run_of(trial_id)
        for target in (run_id, self.parent_id):
            there = self.client.get_run(target).data.metrics
            new = {key: value for key, value in metrics.items() if there.get(key) != value}
            self._log_metrics(target, new, time_ms, step=0)
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
    """Tags to find a trial's run by, among the runs of its study."""
    if trial.confirms:
        return {"kind": "confirmation", "confirms": trial.confirms, "seed": str(trial.seed)}
    return {"kind": "trial", **({"baseline": trial.baseline} if trial.baseline else {})}


def _run_name(trial: Trial) -> str:
    """What a run is called: what people look for in a list of them."""
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
    """Records pictures that no study made as a run of their own.

    Returns:
        "", or why MLflow did not take them.
    """
    set_environment()
    recorder = MlflowRecorder(StudyFacts(tracking_uri, experiment, name, uuid.uuid4().hex, experiment, "", "", 0))
    try:
        recorder.pictures(name, params, metrics, figures)
    except Exception as error:  # MLflow raises of all kinds; the pictures are on the disk already
        return f"Not recorded in MLflow at {tracking_uri}: {type(error).__name__}: {error}"
    return ""


def record_page(study: StudyFacts, file: Path) -> str:
    """Keeps a page with a study's run, which must be there already; one of the same name is replaced.

    Returns:
        "", or why MLflow did not take it.
    """
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
    except Exception as error:  # MLflow raises of all kinds; the page is on the disk already
        return f"Not in MLflow at {study.tracking_uri}: {type(error).__name__}: {error}"
    return ""


def is_refusal(error: Exception) -> bool:
    """Whether MLflow will never take what it was sent, as far as can be told; else it is tried again."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return 400 <= status < 500 and status not in (401, 403, 408, 429)
    if isinstance(error, OSError):  # a connection, or a file that is gone
        return isinstance(error, FileNotFoundError)
    return isinstance(error, LookupError | TypeError | ValueError | AttributeError)  # a fault of our own


def _quoted(value: str) -> str:
    """A value in MLflow's filter language, which has two kinds of quotes and no escape."""
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


def _save_picture(figure: Any, target: Path) -> None:
    """Writes a matplotlib figure as PNG, or copies a picture file, under the name people will see."""
    if isinstance(figure, str | Path):
        shutil.copy(figure, target.with_name(target.name + Path(figure).suffix))
    else:
        figure.savefig(target.with_name(target.name + ".png"), bbox_inches="tight")
