"""MLflow model registry: the best model of a study is logged with its run, and registered if it is a champion.

Each pair of task and data set has a registered model with a version for each champion. The version with the alias
"champion" is used by `platform.predict --model champion` and `mlflow models serve -m models:/NAME@champion`. A new
version gets the alias unless the version that has it scored better on the same data.
"""

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platform.project import ROOT
from platform.study.metadata import StudyFacts

ALIAS = "champion"
# Packages that every model needs.
REQUIREMENTS = ("matplotlib", "mlflow", "numpy", "pillow", "safetensors", "torch", "torchvision", "xxhash")


def model_of(client: Any, experiment_id: str, run_id: str) -> Any:
    """Return the logged model of a run, None if there is no complete one."""
    found = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    return next((model for model in found if model.status == "READY"), None)


def log(client: Any, study: StudyFacts, experiment_id: str, run_id: str, model_dir: Path) -> None:
    """Log the folder as the MLflow model of the best run.

    `mlflow.pyfunc.log_model` only logs to the active run, and `Model.log` with just a run puts the model into the
    default experiment. Hence the model's entry is created in its experiment first and then filled.
    """
    from mlflow.models import Model

    from platform.tracking.model_signature import NotRun, example_of, signature_of

    signature = signature_of(study.task, study.input, model_dir)
    params, tags = client.get_run(run_id).data.params, {"task": study.task}
    entry = client.create_logged_model(experiment_id, name="model", source_run_id=run_id, params=params, tags=tags)
    Model.log(
        artifact_path=None,
        name="model",
        flavor=NotRun,
        run_id=run_id,
        model_id=entry.model_id,
        python_model=str(ROOT / "platform" / "tracking" / "pyfunc_model.py"),
        artifacts={"model": str(model_dir)},
        code_paths=[str(path) for path in study.code_paths],
        signature=signature,
        input_example=example_of(study.input),
        validate_serving_input=False,
        # Without these, MLflow loads the model to infer them.
        pip_requirements=[_pinned(name) for name in sorted({*REQUIREMENTS, *study.requirements})],
    )


def name_of(task: str, data: str) -> str:
    """Return the name of the registered model for a task and a data set."""
    return re.sub(r"[^\w\-.]+", "_", f"{task}-{data}")


def register(client: Any, task: str, model: Any, champion: Mapping[str, Any]) -> str:
    """Register a logged model as a new version and give it the alias unless a better version has it.

    A version that an earlier process registered is used again.

    Args:
        client: An MlflowClient.
        task: The task's name.
        model: The LoggedModel.
        champion: "data": the data set's name; "tags": of the version, with "mean", "mode", "metric", "task" and
            "data_fingerprint"; "note": its description.

    Returns:
        A phrase that describes the result.
    """
    from mlflow.exceptions import MlflowException

    name, tags = name_of(task, champion["data"]), champion["tags"]
    try:
        client.create_registered_model(name, {"task": task, "data": champion["data"]})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((each for each in versions if each.tags.get("model_id") == model.model_id), None)
    if version is None:
        version = client.create_model_version(
            name,
            f"models:/{model.model_id}",
            run_id=model.source_run_id,
            tags={**tags, "model_id": model.model_id},
            description=champion["note"],
            model_id=model.model_id,
        )
    holder = _champion(client, name)
    if holder is not None and str(holder.version) != str(version.version) and _is_better(holder.tags, tags):
        scores = f"{tags['metric']} {float(holder.tags['mean']):.3f} against {float(tags['mean']):.3f} on the same data"
        return f"{name} version {version.version}; version {holder.version} stays the champion, {scores}"
    client.set_registered_model_alias(name, ALIAS, version.version)
    return f"{name} version {version.version}"


def _champion(client: Any, name: str) -> Any:
    """Return the version with the alias, None if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            raise  # an unreachable server does not mean that there is no champion
        return None


def _is_better(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return True if one version scored better than another; False if they cannot be compared."""
    same = ("data_fingerprint", "metric", "mode")
    if any(one.get(key) != other.get(key) for key in same) or "mean" not in one:
        return False
    lead = float(one["mean"]) - float(other["mean"])
    return lead > 0 if one["mode"] == "max" else lead < 0


def _pinned(package: str) -> str:
    """Pin a package to the installed version, without a local suffix such as "+cu130" that no registry lists."""
    return f"{package}=={importlib.metadata.version(package).split('+')[0]}"
