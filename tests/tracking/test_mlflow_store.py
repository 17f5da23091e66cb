"""Errors of an MLflow store are reported as such; the caller's own errors are not."""

import pytest

from platform.errors import InputError
from platform.tracking import mlflow_store


@pytest.fixture
def uri(tmp_path) -> str:
    """An empty store."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'm.db'}"
    MlflowClient(uri).search_experiments()
    return uri


def test_what_mlflow_does_not_know_is_reported(uri):
    with (
        pytest.raises(InputError, match=r"hold the requested run or model; found .*none"),
        mlflow_store.open_client(uri) as client,
    ):
        client.get_run("none")


def test_a_store_that_cannot_be_opened_is_reported(tmp_path):
    with pytest.raises(InputError, match="no file"), mlflow_store.open_client(f"sqlite:///{tmp_path / 'none.db'}"):
        pass
    (tmp_path / "m.db.lock").mkdir()
    (tmp_path / "m.db").touch()
    with (
        pytest.raises(InputError, match="MLflow must answer"),
        mlflow_store.open_client(f"sqlite:///{tmp_path / 'm.db'}"),
    ):
        pass


def test_faults_of_the_callers_own_files_are_not_mlflows(uri):
    with pytest.raises(FileNotFoundError, match="mine"), mlflow_store.open_client(uri):
        raise FileNotFoundError("mine")
