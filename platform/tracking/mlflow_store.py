"""MLflow: where it is, how it is opened, and what it is asked about earlier runs."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from filelock import FileLock

from platform.errors import Fault, InputError, raise_if_any

MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # with MLflow's own 7 retries one call to a dead server takes 244 s
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # what matters raises; the rest would break into the search's own output
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def set_environment() -> None:
    """Sets what MLflow reads from its environment, where the user has not; before anything imports mlflow."""
    for name, value in MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def trials_page(experiment_id: str, study: str) -> str:
    """Where MLflow's pages compare the trials of a study: what comes after the server's address and a "#"."""
    wanted = quote(f"tags.study = '{study}' and tags.kind = 'trial'")
    view = "compareRunsMode=CHART&workflowType=machine_learning"  # else its pages open on chats
    return f"/experiments/{experiment_id}/runs?searchFilter={wanted}&{view}"


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file that an address names, None where it is a server's."""
    return Path(tracking_uri.removeprefix("sqlite:///")).resolve() if tracking_uri.startswith("sqlite:///") else None


def is_missing(tracking_uri: str) -> bool:
    """Whether an address is a file that is not there: MLflow would make an empty one."""
    database = sqlite_file(tracking_uri)
    return database is not None and not database.exists()


def artifact_location(tracking_uri: str, experiment: str) -> str | None:
    """Where an experiment's files go: beside a sqlite file, as an absolute path; else where the server puts them.

    MLflow's own choice is ./mlruns of whichever folder the first process was started in.
    """
    database = sqlite_file(tracking_uri)
    if database is None:
        return None
    return (database.parent / "mlartifacts" / re.sub(r"[^\w\-.]", "_", experiment)).as_uri()


def first_opening(tracking_uri: str) -> contextlib.AbstractContextManager:
    """Held while a store is opened: two processes that open one new sqlite file at a time both create its tables, and
    one crashes.
    """
    database = sqlite_file(tracking_uri)
    if database is None:
        return contextlib.nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", timeout=60)


@contextlib.contextmanager
def open_client(uri: str) -> Iterator[Any]:
    """An MlflowClient to read with.

    Raises:
        InputError: The address holds a password, there is nothing, or MLflow does not answer or refuses.
    """
    raise_if_any(address_faults(uri))
    if is_missing(uri):
        raise InputError(Fault("there must be an MLflow at --tracking-uri", f"no file {uri}", "Name its address."))
    set_environment()
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    def told(error: Exception) -> InputError:
        rule, first = "MLflow must answer, and know what it is asked for", (str(error).splitlines() or [repr(error)])[0]
        return InputError(Fault(rule, f"{uri}: {first}", "Check the name and --tracking-uri."))

    mlflow.set_tracking_uri(uri)
    try:
        with first_opening(uri):
            client = mlflow.MlflowClient(uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise told(error) from error
    try:
        yield client
    except (MlflowException, SQLAlchemyError) as error:  # an OSError here is of the caller's own files
        raise told(error) from error


def address_faults(uri: str) -> list[Fault]:
    """What is wrong with the address of MLflow."""
    parts = urlsplit(uri)
    if not parts.password and "password" not in parse_qs(parts.query):
        return []
    rule = "MLflow's address must hold no password: it is recorded and shown"
    remedy = "Put it into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; a database's into its own file."
    return [Fault(rule, "--tracking-uri with one", remedy)]
