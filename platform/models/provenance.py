"""Where a configuration's pretrained weights come from, and under which licence, as far as that can be read here.

Nothing is fetched: a model's own card is read where it is on this machine. What is not known is said to be so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.data.files import is_folder
from platform.models import backbones
from platform.project import ROOT
from platform.storage import checkpoints

HUB, FOLDER, STARTER, NONE = "hf-hub:", "local-dir:", "starter", "none"
STARTERS = ROOT / "starters"
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        told: The same in words.
        licence: What is known of it, in words.
        licence_id: As model hubs write it: "apache-2.0", "unknown", …
        base_model: The model's name on the hub, "" where it is none of there.
    """

    told: str
    licence: str
    licence_id: str = "unknown"
    base_model: str = ""


def origin_of(config: Mapping[str, Any]) -> Origin:
    """Of a trial's configuration, by its `backbone` and `weights` as the tasks take them."""
    backbone, weights = str(config.get("backbone", "")), str(config.get("weights", NONE))
    if weights == NONE:
        return Origin("random weights: nothing was pretrained elsewhere", "no one else's weights are in it", "other")
    if file := backbones.local_file(weights):
        told = f"the file {file.name}, SHA-256 {checkpoints.file_hash(file)}"
        return Origin(told, "unknown: check where the file comes from")
    if STARTER in (backbone, weights):
        return _shipped(f" for {backbone}" if weights == STARTER else "")
    if backbone in backbones.NAMES:
        return _of_torchvision(backbone, weights)
    if backbone.startswith(HUB):
        return _of_the_hub(backbone.removeprefix(HUB))
    if folder := _folder(backbone.removeprefix(FOLDER)):
        return _shipped(f", {folder.name}") if folder.parent == STARTERS else _of_a_folder(folder)
    return _of_the_hub(backbone) if weights == "DEFAULT" else _of_open_clip(backbone, weights)


def _shipped(which: str) -> Origin:
    told = f"a small model that ships with this project, its starter{which}"
    return Origin(told, "the project's own; starters/README.md tells how it was made, and from what", "other")


def _of_torchvision(backbone: str, weights: str) -> Origin:
    from torchvision.models import get_model_weights

    known = get_model_weights(backbone)[weights]
    told = f"torchvision's {known}, {known.url}"
    if licence := known.meta.get("license"):
        return Origin(told, str(licence), "other")
    recipe = known.meta.get("recipe", "https://github.com/pytorch/vision")
    trained = ", ".join(known.meta.get("_metrics", {})) or "data that it does not name"
    return Origin(told, f"unknown: torchvision states none for these weights, trained on {trained}; check {recipe}")


def _of_open_clip(backbone: str, weights: str) -> Origin:
    from open_clip.pretrained import get_pretrained_cfg

    repository = str((get_pretrained_cfg(backbone, weights) or {}).get("hf_hub", "")).rpartition("/")[0].strip("/")
    found = _of_the_hub(repository) if repository else None
    told = f"open_clip's {backbone} with the weights {weights}"
    if found is None:
        return Origin(told, f"unknown: check the source of open_clip's {weights}")
    return Origin(f"{told}, {repository}", found.licence, found.licence_id, repository)


def _of_the_hub(name: str) -> Origin:
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, "README.md")
    except ValueError:  # no name of the hub's; a folder that is gone, say
        return Origin(name, "unknown: check where it comes from")
    licence = _licence_in(Path(cached)) if isinstance(cached, str) else ""
    unknown = f"unknown: its card is not on this machine; check https://huggingface.co/{name}"
    told = f"{licence}, by its own card" if licence else unknown
    return Origin(f"{name} of the Hugging Face hub", told, licence or "unknown", name)


def _of_a_folder(folder: Path) -> Origin:
    told = f"the model in the folder {folder.name}"
    if licence := _licence_in(folder / "README.md"):
        return Origin(told, f"{licence}, by the card in its folder", licence)
    for name in LICENCE_FILES:
        if (folder / name).is_file():
            return Origin(told, f"see {name} in its folder", "other")
    return Origin(told, "unknown: its folder tells nothing of it; check where it comes from")


def _licence_in(card: Path) -> str:
    """What a model's card says, "" where there is no card or it says nothing."""
    from huggingface_hub import ModelCard

    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except Exception:  # a README may be anything; what it does not tell is told to be unknown
        return ""
    return found if isinstance(found, str) else ""


def _folder(name: str) -> Path | None:
    """The folder that a backbone names, from here or from the project's root."""
    places = [Path(name).expanduser(), ROOT / name] if name else []
    return next((place.resolve() for place in places if is_folder(place)), None)
