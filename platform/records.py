"""MLflow, asked: where it is, and what it knows of earlier runs."""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote


@functools.cache  # as it was at first: MLflow sets the variable as soon as it is told an address
def usual_uri() -> str:
    """The address of MLflow where none is given."""
    from platform.project import COMMIT

    folder = Path.home() if os.environ.get(COMMIT) else Path.cwd()  # a job's own folder does not stay
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def trials_page(experiment_id: str, study: str) -> str:
    """Where MLflow's pages compare the trials of a study: what comes after the server's address and a "#"."""
    wanted = quote(f"tags.study = '{study}' and tags.kind = 'trial'")
    view = "compareRunsMode=CHART&workflowType=machine_learning"  # else its pages open on chats
    return f"/experiments/{experiment_id}/runs?searchFilter={wanted}&{view}"


def is_missing(uri: str) -> bool:
    """Whether an address is a file that is not there: MLflow would make an empty one."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()


@contextlib.contextmanager
def asked(uri: str) -> Iterator[Any]:
    """An MlflowClient to read with.

    Raises:
        InputError: The address holds a password, there is nothing, or MLflow does not answer or refuses.
    """
    from platform.errors import Fault, InputError, raise_if_any
    from platform.plan import address_faults
    from platform.recorder import first_opening, set_environment

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
