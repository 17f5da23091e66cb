"""Saved models are found by study, by folder, by MLflow run and as the champion."""

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


def options_for(model: str, storage="none", uri: str = "sqlite:///none.db") -> argparse.Namespace:
    return argparse.Namespace(model=model, storage=str(storage), tracking_uri=uri)


def refusal(task: str, options: argparse.Namespace) -> str:
    with pytest.raises(InputError) as caught, saved_models.model_folder(task, options):
        pass
    return str(caught.value)


@pytest.fixture
def storage(tmp_path):
    """Return a folder with the metadata of two models of one task and one model of another task."""
    for name, kind in (("first", "detector"), ("second", "detector"), ("third", "classifier")):
        (tmp_path / name / "best").mkdir(parents=True)
        (tmp_path / name / "best" / "model.json").write_text(json.dumps({"task": kind}))
    return tmp_path


def test_a_model_is_found_by_study_by_folder_and_as_the_newest(storage):
    first, second = storage / "first" / "best", storage / "second" / "best"
    for model, folder in (("first", first), (str(second), second), (str(first.parent), first), ("best", second)):
        with saved_models.model_folder("detector", options_for(model, storage)) as found:
            assert found.resolve() == folder.resolve()


def test_the_error_for_an_unknown_model_names_the_known_ones(storage):
    assert "Studies of detector: first, second." in refusal("detector", options_for("other", storage))
    assert "Studies of detector: first, second." in refusal("detector", options_for("x" * 5000, storage))


def test_a_model_of_another_task_is_refused(storage):
    assert "third of classifier" in refusal("detector", options_for("third", storage))


@pytest.mark.parametrize("spoil", ["truncated", "missing", "metadata", "other"])
def test_a_damaged_model_is_refused(spoil, tmp_path):
    model = tiny_models.save("autoencoder", tmp_path / "model")
    weights, metadata = model / "model.safetensors", model / "model.json"
    if spoil == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif spoil == "missing":
        weights.unlink()
    elif spoil == "metadata":
        metadata.write_text(metadata.read_text()[:-10])
    else:
        metadata.write_text(metadata.read_text().replace('"width": 8', '"width": 16'))
    with (
        pytest.raises(InputError, match="a model's files must be complete"),
        saved_models.model_folder("autoencoder", options_for(str(model))) as found,
    ):
        task.load("autoencoder").load(found)


@pytest.mark.parametrize("metadata", ["{", "[]", "{}", '"detector"'])
def test_another_study_s_damage_matters_only_if_its_model_is_needed(storage, metadata):
    (storage / "third" / "best" / "model.json").write_text(metadata)
    with saved_models.model_folder("detector", options_for("first", storage)) as found:
        assert found == storage / "first" / "best"
    for model in ("best", "third"):
        damage = refusal("detector", options_for(model, storage))
        assert "a model's files must be complete" in damage
        assert str(storage / "third" / "best") in damage


def test_best_needs_a_finished_study(tmp_path):
    assert "platform.tune detector" in refusal("detector", options_for("best", tmp_path))


def test_an_address_without_a_store_creates_none(tmp_path):
    for model in ("champion", "0" * 32):
        assert "no file" in refusal("detector", options_for(model, uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def mlflow_(tmp_path_factory):
    """Return a model in MLflow, with the store's address as `uri`."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    model = tiny_models.save("autoencoder", folder / "model")
    logged = logged_models.log("autoencoder", "image", model, uri, folder)
    logged.uri = uri
    return logged


def test_a_run_gives_its_model_and_a_study_s_run_that_of_its_best_trial(mlflow_):
    for run in (mlflow_.run.info.run_id, mlflow_.study):
        with saved_models.model_folder("autoencoder", options_for(run, uri=mlflow_.uri)) as found:
            assert (found / "model.safetensors").is_file()
            assert found.is_relative_to(mlflow_.model.artifact_location.removeprefix("file://"))


def test_a_missing_run_or_one_of_another_task_is_refused(mlflow_):
    assert mlflow_.uri in refusal("autoencoder", options_for("0" * 32, uri=mlflow_.uri))
    assert "of autoencoder" in refusal("detector", options_for(mlflow_.run.info.run_id, uri=mlflow_.uri))


def test_a_run_without_a_model_is_refused(mlflow_):
    run = mlflow_.client.create_run(mlflow_.experiment.experiment_id)
    assert "must have logged a model" in refusal("autoencoder", options_for(run.info.run_id, uri=mlflow_.uri))


def test_the_champion_is_found_and_must_be_named_if_there_are_several(mlflow_):
    assert "--confirm 3x3" in refusal("autoencoder", options_for("champion", uri=mlflow_.uri))
    source = f"models:/{mlflow_.model.model_id}"
    for number, dataset in enumerate(("My digits (old)", "MNIST")):
        name = model_registry.name_of("autoencoder", dataset)
        mlflow_.client.create_registered_model(name, tags={"task": "autoencoder"})
        version = mlflow_.client.create_model_version(name, source, model_id=mlflow_.model.model_id if number else None)
        mlflow_.client.set_registered_model_alias(name, "champion", version.version)
        for model in ("champion", f"champion:{dataset}") if not number else (f"champion:{dataset}",):
            with saved_models.model_folder("autoencoder", options_for(model, uri=mlflow_.uri)) as found:
                assert (found / "model.json").is_file()
    several = refusal("autoencoder", options_for("champion", uri=mlflow_.uri))
    assert "champion:MNIST, champion:My_digits_old_" in several
    assert "found 2 of them" in several
    with saved_models.model_folder("autoencoder", options_for("champion:My_digits_old_", uri=mlflow_.uri)):
        pass
    assert "champion:MNIST" in refusal("autoencoder", options_for("champion:flowers", uri=mlflow_.uri))
    assert "--confirm 3x3" in refusal("detector", options_for("champion", uri=mlflow_.uri))


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
    with pytest.raises(InputError, match="a model in MLflow must"):
        saved_models._local_folder(
            SimpleNamespace(artifact_location=tmp_path.as_uri(), model_id="m-1"), mlflow_.uri, tmp_path
        )


def test_a_model_on_a_server_is_downloaded_and_deleted_afterwards(mlflow_, tmp_path, s3):
    """The bucket stands for any store outside this machine's file system."""
    import boto3

    boto3.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    import mlflow

    mlflow.MlflowClient(uri).create_experiment("autoencoder", "s3://models/autoencoder")
    model = tiny_models.save("autoencoder", tmp_path / "model")
    logged = logged_models.log("autoencoder", "image", model, uri, tmp_path)
    shutil.rmtree(model)
    with saved_models.model_folder("autoencoder", options_for(logged.run.info.run_id, uri=uri)) as found:
        assert (found / "model.safetensors").is_file()
    assert not found.exists()
