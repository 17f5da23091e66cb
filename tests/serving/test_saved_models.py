"""Where a model is found: in a study, in a folder, by a run of MLflow, as the champion."""

import argparse
import json
import shutil

import logged_models
import pytest
import tiny_models

from platform import task
from platform.errors import InputError
from platform.serving import saved_models
from platform.tracking import model_registry


def asked(model: str, storage="none", uri: str = "sqlite:///none.db") -> argparse.Namespace:
    return argparse.Namespace(model=model, storage=str(storage), tracking_uri=uri)


def told(task: str, options: argparse.Namespace) -> str:
    with pytest.raises(InputError) as caught, saved_models.found(task, options):
        pass
    return str(caught.value)


@pytest.fixture
def storage(tmp_path):
    """Two finished studies of one task and one of another, as far as looking for their models goes."""
    for name, kind in (("first", "detector"), ("second", "detector"), ("third", "classifier")):
        (tmp_path / name / "best").mkdir(parents=True)
        (tmp_path / name / "best" / "model.json").write_text(json.dumps({"task": kind}))
    return tmp_path


def test_a_model_is_found_by_its_study_by_its_folder_and_as_the_newest(storage):
    first, second = storage / "first" / "best", storage / "second" / "best"
    for model, folder in (("first", first), (str(second), second), (str(first.parent), first), ("best", second)):
        with saved_models.found("detector", asked(model, storage)) as found:
            assert found.resolve() == folder.resolve()


def test_an_unknown_model_is_told_with_the_known_ones(storage):
    assert "Studies of detector: first, second." in told("detector", asked("other", storage))
    assert "Studies of detector: first, second." in told("detector", asked("x" * 5000, storage))


def test_a_model_of_another_task_is_refused(storage):
    assert "third of classifier" in told("detector", asked("third", storage))


@pytest.mark.parametrize("spoil", ["cut", "gone", "metadata", "other"])
def test_a_model_that_is_not_whole_is_told(spoil, tmp_path):
    model = tiny_models.save("autoencoder", tmp_path / "model")
    weights, metadata = model / "model.safetensors", model / "model.json"
    if spoil == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif spoil == "gone":
        weights.unlink()
    elif spoil == "metadata":
        metadata.write_text(metadata.read_text()[:-10])
    else:
        metadata.write_text(metadata.read_text().replace('"width": 8', '"width": 16'))
    with (
        pytest.raises(InputError, match="a model must be whole"),
        saved_models.found("autoencoder", asked(str(model))) as found,
    ):
        task.load("autoencoder").load(found)


@pytest.mark.parametrize("metadata", ["{", "[]", "{}", '"detector"'])
def test_another_study_s_damage_is_told_where_it_matters_alone(storage, metadata):
    (storage / "third" / "best" / "model.json").write_text(metadata)
    with saved_models.found("detector", asked("first", storage)) as found:
        assert found == storage / "first" / "best"
    for model in ("best", "third"):
        damage = told("detector", asked(model, storage))
        assert "a model must be whole" in damage
        assert str(storage / "third" / "best") in damage


def test_best_needs_a_finished_study(tmp_path):
    assert "platform.tune detector" in told("detector", asked("best", tmp_path))


def test_an_address_where_nothing_is_makes_no_empty_store(tmp_path):
    for model in ("champion", "0" * 32):
        assert "no file" in told("detector", asked(model, uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def mlflow_(tmp_path_factory):
    """A model in MLflow, and its address."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    model = tiny_models.save("autoencoder", folder / "model")
    there = logged_models.log("autoencoder", "image", model, uri, folder)
    there.uri = uri
    return there


def test_a_run_is_its_model_and_a_studys_run_its_best_trials(mlflow_):
    for run in (mlflow_.run.info.run_id, mlflow_.study):
        with saved_models.found("autoencoder", asked(run, uri=mlflow_.uri)) as found:
            assert (found / "model.safetensors").is_file()
            assert found.is_relative_to(mlflow_.model.artifact_location.removeprefix("file://"))


def test_a_run_that_is_not_there_or_of_another_task_is_told(mlflow_):
    assert mlflow_.uri in told("autoencoder", asked("0" * 32, uri=mlflow_.uri))
    assert "of autoencoder" in told("detector", asked(mlflow_.run.info.run_id, uri=mlflow_.uri))


def test_a_run_without_a_model_is_told(mlflow_):
    run = mlflow_.client.create_run(mlflow_.experiment.experiment_id)
    assert "must have logged a model" in told("autoencoder", asked(run.info.run_id, uri=mlflow_.uri))


def test_the_champion_is_found_and_of_several_one_must_be_named(mlflow_):
    assert "--confirm 3x3" in told("autoencoder", asked("champion", uri=mlflow_.uri))
    source = f"models:/{mlflow_.model.model_id}"
    for number, dataset in enumerate(("My digits (old)", "MNIST")):
        name = model_registry.name_of("autoencoder", dataset)
        mlflow_.client.create_registered_model(name, tags={"task": "autoencoder"})
        version = mlflow_.client.create_model_version(name, source, model_id=mlflow_.model.model_id if number else None)
        mlflow_.client.set_registered_model_alias(name, "champion", version.version)
        for model in ("champion", f"champion:{dataset}") if not number else (f"champion:{dataset}",):
            with saved_models.found("autoencoder", asked(model, uri=mlflow_.uri)) as found:
                assert (found / "model.json").is_file()
    several = told("autoencoder", asked("champion", uri=mlflow_.uri))
    assert "champion:MNIST, champion:My_digits_old_" in several
    assert "found 2 of them" in several
    with saved_models.found("autoencoder", asked("champion:My_digits_old_", uri=mlflow_.uri)):
        pass
    assert "champion:MNIST" in told("autoencoder", asked("champion:flowers", uri=mlflow_.uri))
    assert "--confirm 3x3" in told("detector", asked("champion", uri=mlflow_.uri))


@pytest.mark.parametrize(
    "text",
    [
        "flavors: {python_function: {artifacts: {model: {path: ../../../..}}}}",
        "flavors: {python_function: {artifacts: {model: {path: [1]}}}}",
        "flavors: {sklearn: {}}",
        "!!python/object/apply:os.system [ls]",
        "",
    ],
)
def test_a_model_that_no_study_logged_is_refused(mlflow_, tmp_path, text):
    from types import SimpleNamespace

    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(InputError, match="a model of MLflow must"):
        saved_models._packed(
            SimpleNamespace(artifact_location=tmp_path.as_uri(), model_id="m-1"), mlflow_.uri, tmp_path
        )


def test_what_a_server_holds_is_fetched_and_gone_afterwards(mlflow_, tmp_path, s3):
    """The bucket stands for any store that is not this machine's file system."""
    import boto3

    boto3.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    import mlflow

    mlflow.MlflowClient(uri).create_experiment("autoencoder", "s3://models/autoencoder")
    model = tiny_models.save("autoencoder", tmp_path / "model")
    there = logged_models.log("autoencoder", "image", model, uri, tmp_path)
    shutil.rmtree(model)
    with saved_models.found("autoencoder", asked(there.run.info.run_id, uri=uri)) as found:
        assert (found / "model.safetensors").is_file()
    assert not found.exists()
