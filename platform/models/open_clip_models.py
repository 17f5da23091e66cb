"""Open_clip models by name: configuration, weights and image tower.

Names and weights are those of `platform.models.encoders`. open_clip is imported only where it is needed, so that models
of torchvision work without it.
"""

import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from platform.errors import Fault, InputError, first_line
from platform.models import backbones
from platform.project import ROOT, find_folder

HUB, FOLDER = "hf-hub:", "local-dir:"

_CONFIG = "open_clip_config.json"
_TIMEOUT = 10  # seconds for the hub to answer


@dataclass(frozen=True)
class Source:
    """Configuration and weights of an open_clip model.

    Attributes:
        name: Name by which open_clip knows it: an architecture, or "local-dir:" and a folder.
        model: Configuration of both towers.
        mean: Mean of each colour channel for the normalisation.
        std: Standard deviation of each colour channel for the normalisation.
        file: Checkpoint, None for random weights.
    """

    name: str
    model: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    file: Path | None


def find(name: str, weights: str) -> Source:
    """Find the configuration and the weights of a model, and fetch those of a hub model that are not in the cache.

    Raises:
        InputError: The model or its weights are unknown or cannot be fetched.
    """
    return (_find_own if name.startswith((HUB, FOLDER)) else _find_known)(name, weights)


def image_config(source: Source) -> dict[str, Any]:
    """Return the configuration of the image tower as JSON."""
    vision = {**source.model["vision_cfg"], "timm_model_pretrained": False}
    config = {"embed_dim": source.model["embed_dim"], "vision_cfg": vision}
    config |= {"quick_gelu": source.model.get("quick_gelu", False), "mean": source.mean, "std": source.std, "crop": 1.0}
    return json.loads(json.dumps(config))  # turns tuples into lists, as reading it again would


def image_tower(config: dict[str, Any]) -> nn.Module:
    """Build the tower that `image_config` describes, with random weights."""
    from open_clip.model import _build_vision_tower  # the whole model may fetch its text tower

    return _build_vision_tower(config["embed_dim"], dict(config["vision_cfg"]), config["quick_gelu"])


def load_image_tower(tower: nn.Module, file: Path) -> None:
    """Load the image tower's part of a whole model's checkpoint.

    Raises:
        InputError: The file is not a checkpoint, holds pickled code, or does not fit.
    """
    from open_clip.convert import convert_state_dict

    # open_clip's own reader is not used: if torch.load fails, it loads the file again without weights_only.
    state = {key.removeprefix("module."): value for key, value in backbones.read_file(file).items()}
    model = nn.Module()
    model.visual = tower
    try:
        state = convert_state_dict(model, state)  # type: ignore[arg-type]
        visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    except Exception as error:  # every reader has its own errors; all of them mean an unusable file
        rule = "a weights file must be a checkpoint of an open_clip model, without pickled code"
        remedy = "Save it with safetensors.torch.save_file(model.state_dict(), path)."
        raise InputError(Fault(rule, f"{file}: {first_line(error)}", remedy)) from error
    wanted = tower.state_dict()
    differing = [key for key in wanted if key not in visual or visual[key].shape != wanted[key].shape]
    differing += [key for key in visual if key not in wanted]
    if differing:
        rule, found = "the weights must fit the image tower", f"{len(differing)} tensors differ (first: {differing[0]})"
        raise InputError(Fault(rule, f"{file}: {found}", "Name the architecture from which they were saved."))
    tower.load_state_dict(visual)


def _find_own(name: str, weights: str) -> Source:
    """Find a model with its own configuration in a folder or on the hub."""
    file = None if weights == "none" else backbones.local_file(weights)
    if file is None and weights not in ("DEFAULT", "none"):
        rule = f"the weights of {name} must be DEFAULT, none or a file"
        raise InputError(Fault(rule, repr(weights), "Use DEFAULT for the model's own weights."))
    hub = name.startswith(HUB)
    folder = fetch(name.removeprefix(HUB), [_CONFIG]).parent if hub else folder_of(name)
    try:
        content = json.loads((folder / _CONFIG).read_text())
        model, preprocess = content["model_cfg"], content.get("preprocess_cfg", {})
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model):
            raise KeyError("embed_dim, vision_cfg or text_cfg")
        if not all(isinstance(part, dict) for part in (model["vision_cfg"], model["text_cfg"], preprocess)):
            raise TypeError("vision_cfg, text_cfg or preprocess_cfg is no object")
        source = _source(f"{FOLDER}{folder}", model, preprocess, None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        rule = f"the model's folder must hold {_CONFIG} with model_cfg, as open_clip writes it"
        raise InputError(Fault(rule, f"{folder}: {first_line(error)}", "Check the folder.")) from error
    if weights == "DEFAULT":
        file = fetch(name.removeprefix(HUB), _checkpoint_names()) if hub else _checkpoint(folder)
    return replace(source, file=file)


def _find_known(name: str, weights: str) -> Source:
    """Find one of open_clip's own architectures."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    known = open_clip.list_models()
    if name not in known:
        names = [*backbones.NAMES, *known]
        close = difflib.get_close_matches(name, names, n=5, cutoff=0.5) or [*backbones.NAMES, "ViT-B-32", "RN50"]
        rule = f"an encoder must be of torchvision, an open_clip architecture, {HUB}ORG/MODEL or {FOLDER}FOLDER"
        raise InputError(Fault(rule, repr(name), f"Close: {', '.join(close)}."))
    model = open_clip.get_model_config(name)
    path = None if weights == "none" else backbones.local_file(weights)
    if weights == "none" or path is not None:
        return _source(name, model, {}, path)
    tag = get_pretrained_cfg(name, weights)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "no tags"
        rule = "the weights must be a tag of open_clip's, a file, or none"
        raise InputError(Fault(rule, repr(weights), f"{name} has {tags}."))
    repository, _, file_name = tag["hf_hub"].rpartition("/")
    file = fetch(repository, [file_name] if file_name else _checkpoint_names())
    # open_clip only warns if the weights were trained with another activation than the architecture has.
    return _source(name, {**model, "quick_gelu": model.get("quick_gelu") or tag.get("quick_gelu", False)}, tag, file)


def _source(name: str, model: dict[str, Any], preprocess: dict[str, Any], file: Path | None) -> Source:
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    mean = _colours(preprocess.get("mean") or OPENAI_DATASET_MEAN)
    std = _colours(preprocess.get("std") or OPENAI_DATASET_STD)
    text = model["text_cfg"]
    if text.get("hf_tokenizer_name"):  # transformers gets these options unchanged
        options = {**(text.get("tokenizer_kwargs") or {}), "trust_remote_code": False}
        model = {**model, "text_cfg": {**text, "tokenizer_kwargs": options}}
    return Source(name, model, mean, std, file)


def _colours(values: Sequence[float]) -> tuple[float, ...]:
    red, green, blue = map(float, values)
    return red, green, blue


def folder_of(name: str) -> Path:
    """Return the folder that local-dir:FOLDER names, relative to the working directory or to the project's root.

    Raises:
        InputError: There is no such folder.
    """
    given = name.removeprefix(FOLDER)
    if folder := find_folder(given):
        return folder.resolve()
    raise InputError(Fault("the model's folder must exist", f"no {given} here or in {ROOT}", "Check the path."))


def _checkpoint(folder: Path) -> Path:
    found = [folder / name for name in _checkpoint_names() if (folder / name).is_file()]
    if not found:
        rule, remedy = f"the model's folder must hold {' or '.join(_checkpoint_names())}", "Or use weights none."
        raise InputError(Fault(rule, f"neither in {folder}", remedy))
    return found[0]


def _checkpoint_names() -> list[str]:
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    return [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]


def fetch(repository: str, names: Sequence[str]) -> Path:
    """Return the first of several files that a repository of the hub has, from the local cache if it is there.

    Raises:
        InputError: None of the files is in the cache, and none can be fetched.
    """
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    try:
        for name in names:
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str | os.PathLike):
                return Path(cached)
        # Fails at once, where the download would fail after many attempts.
        there = {file.rfilename for file in HfApi().model_info(repository, timeout=_TIMEOUT).siblings or []}
        wanted = next(name for name in names if name in there)
        return Path(hf_hub_download(repository, wanted))
    except Exception as error:  # errors of the hub or the network, or none of these files
        found = f"none from {repository} ({first_line(error) if str(error) else 'the repository does not hold it'})"
        remedy = "Check the name. A file that is not in the local cache needs the network."
        raise InputError(Fault(f"{' or '.join(names)} must be had from the hub", found, remedy)) from error
