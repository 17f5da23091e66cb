"""Champions in a real model registry: each is a version, and the better one gets the alias."""

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import _parse_model_uri as parse_model_uri
from mlflow_stores import new_store

from platform.tracking import model_registry
from platform.tracking.mlflow_store import set_environment


@pytest.fixture
def registered(tmp_path):
    """A function that registers a model without content, with a mean score, and returns the result's sentence."""
    set_environment()
    uri = new_store(tmp_path / "m.db")
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", (tmp_path / "artifacts").as_uri())
    models = {}

    def register(
        name: str, mean: float, mode: str = "max", data: str = "d1", metric: str = "test/map", called="my bricks/v2"
    ) -> str:
        if name not in models:
            run = client.create_run(experiment)
            models[name] = client.create_logged_model(experiment, name=name, source_run_id=run.info.run_id)
        tags = {"task": "toy", "mean": str(mean), "mode": mode, "metric": metric, "data_fingerprint": data}
        champion = {"data": called, "tags": tags, "note": "because"}
        return model_registry.register(client, "toy", models[name], champion)

    register.client = client
    return register


@pytest.mark.parametrize(
    ("data", "name"), [("my bricks/v2", "toy-my_bricks_v2"), ("數字:a", "toy-數字_a"), ("it's é?", "toy-it_s_é_")]
)
def test_a_data_set_may_be_called_anything(registered, data, name):
    assert registered("a", 0.5, called=data) == f"{name} version 1"
    assert registered("b", 0.6, called=data) == f"{name} version 2"
    assert registered.client.get_model_version_by_alias(name, "champion").version == 2
    assert parse_model_uri(f"models:/{name}@champion").name == name


def test_a_registry_that_is_away_has_not_said_that_there_is_no_champion(registered):
    registered("a", 0.9)
    away = MlflowClient(registry_uri="http://127.0.0.1:9")
    with pytest.raises(MlflowException, match="API request"):
        model_registry._champion(away, "toy-my_bricks_v2")


def champion(client) -> str:
    return str(client.get_model_version_by_alias("toy-my_bricks_v2", "champion").version)


def test_a_champion_is_registered_once_and_described(registered):
    assert registered("a", 0.5) == "toy-my_bricks_v2 version 1"
    assert registered("a", 0.5) == "toy-my_bricks_v2 version 1", "registered twice, it exists once"
    version = registered.client.get_model_version_by_alias("toy-my_bricks_v2", "champion")
    assert (version.description, version.tags["mean"], version.tags["task"]) == ("because", "0.5", "toy")
    model = registered.client.get_registered_model("toy-my_bricks_v2")
    assert model.tags == {"task": "toy", "data": "my bricks/v2"}


@pytest.mark.parametrize(("mode", "better", "worse"), [("max", 0.6, 0.4), ("min", 0.4, 0.6)])
def test_the_alias_goes_to_the_better_on_the_same_data(registered, mode, better, worse):
    registered("a", 0.5, mode)
    verdict = registered("b", worse, mode)
    assert verdict.startswith("toy-my_bricks_v2 version 2; version 1 stays the champion, test/map 0.500 against ")
    assert champion(registered.client) == "1"
    registered("c", better, mode)
    assert champion(registered.client) == "3"
    registered("c", better, mode)
    assert champion(registered.client) == "3"


@pytest.mark.parametrize("change", [{"data": "d2"}, {"metric": "test/map_50"}])
def test_on_other_data_the_newest_is_the_champion(registered, change):
    registered("a", 0.9)
    registered("b", 0.1, **change)
    assert champion(registered.client) == "2"
