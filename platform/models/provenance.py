"""Source and licence of the pretrained weights of a config.

Nothing is fetched: a model's card is read if it is on this machine. An unknown licence is reported as unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.models import backbones
from platform.models.open_clip_models import FOLDER, HUB
from platform.project import STARTERS, find_folder
from platform.storage import hashing

STARTER, NONE = "starter", "none"
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")


@dataclass(frozen=True)
class Origin:
    """Source and licence of weights.

    Attributes:
        source: Description of the source.
        licence: Description of the licence.
        licence_id: Identifier of the licence as model hubs write it: "apache-2.0", "unknown", …
        base_model: Name of the model on the hub, "" if it does not come from there.
    """

    source: str
    licence: str
    licence_id: str = "unknown"
    base_model: str = ""


def origin_of(config: Mapping[str, Any]) -> Origin:
    """Return the origin of the weights that a config names by `backbone` and `weights`."""
    backbone, weights = str(config.get("backbone", "")), str(config.get("weights", NONE))
    if weights == NONE:
        return Origin("random weights: nothing was pretrained elsewhere", "no one else's weights are in it", "other")
    if file := backbones.local_file(weights):
        source = f"the file {file.name}, SHA-256 {hashing.sha256_of(file)}"
        return Origin(source, "unknown: check where the file comes from")
    if STARTER in (backbone, weights):
        return _shipped(f" for {backbone}" if weights == STARTER else "")
    if backbone in backbones.NAMES:
        return _of_torchvision(backbone, weights)
    if backbone.startswith(HUB):
        return _of_the_hub(backbone.removeprefix(HUB))
    if folder := find_folder(backbone.removeprefix(FOLDER)):
        folder = folder.resolve()
        return _shipped(f", {folder.name}") if folder.parent == STARTERS else _of_a_folder(folder)
    return _of_the_hub(backbone) if weights == "DEFAULT" else _of_open_clip(backbone, weights)


def _shipped(which: str) -> Origin:
    source = f"a small model that ships with this project, its starter{which}"
    return Origin(source, "the project's own; starters/README.md says how it was made, and from what", "other")


def _of_torchvision(backbone: str, weights: str) -> Origin:
    from torchvision.models import get_model_weights

    known = get_model_weights(backbone)[weights]
    source = f"torchvision's {known}, {known.url}"
    if licence := known.meta.get("license"):
        return Origin(source, str(licence), "other")
    recipe = known.meta.get("recipe", "https://github.com/pytorch/vision")
    trained = ", ".join(known.meta.get("_metrics", {})) or "data that it does not name"
    return Origin(source, f"unknown: torchvision states none for these weights, trained on {trained}; check {recipe}")


def _of_open_clip(backbone: str, weights: str) -> Origin:
    from open_clip.pretrained import get_pretrained_cfg

    repository = str((get_pretrained_cfg(backbone, weights) or {}).get("hf_hub", "")).rpartition("/")[0].strip("/")
    found = _of_the_hub(repository) if repository else None
    source = f"open_clip's {backbone} with the weights {weights}"
    if found is None:
        return Origin(source, f"unknown: check the source of open_clip's {weights}")
    return Origin(f"{source}, {repository}", found.licence, found.licence_id, repository)


def _of_the_hub(name: str) -> Origin:
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, "README.md")
    except ValueError:  # not a name on the hub, e.g. a folder that no longer exists
        return Origin(name, "unknown: check where it comes from")
    licence = _licence_in(Path(cached)) if isinstance(cached, str) else ""
    unknown = f"unknown: its card is not on this machine; check https://huggingface.co/{name}"
    described = f"{licence}, by its own card" if licence else unknown
    return Origin(f"{name} of the Hugging Face hub", described, licence or "unknown", name)


def _of_a_folder(folder: Path) -> Origin:
    source = f"the model in the folder {folder.name}"
    if licence := _licence_in(folder / "README.md"):
        return Origin(source, f"{licence}, by the card in its folder", licence)
    for name in LICENCE_FILES:
        if (folder / name).is_file():
            return Origin(source, f"see {name} in its folder", "other")
    return Origin(source, "unknown: its folder says nothing about it; check where it comes from")


def _licence_in(card: Path) -> str:
    """Return the licence that a model's card states, "" if there is no card or it states none."""
    from huggingface_hub import ModelCard

    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except Exception:  # a README may hold anything; a licence that cannot be read is unknown
        return ""
    return found if isinstance(found, str) else ""
