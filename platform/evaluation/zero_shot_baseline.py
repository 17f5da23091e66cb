"""Zero-shot classification with an open_clip model, from the names of the classes and without training.

Each class becomes a few sentences; the class whose mean text embedding lies nearest to the image is predicted. See
Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, section 3.1.4.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from platform.errors import Fault, InputError, first_line
from platform.models import backbones, encoders, open_clip_models
from platform.training.devices import device

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a close-up photo of a {}.",
)


@torch.inference_mode()
def classify(
    name: str, weights: str, class_names: Sequence[str], images: np.ndarray, batch: int = 64
) -> np.ndarray | None:
    """Predict the class of each image.

    Args:
        name: Name of the model as in `platform.models.encoders`, which has those of its `weights`, too.
        class_names: Names of the classes, in which "_" and "-" are read as blanks.
        images: (N, 3, S, S), uint8, of the model's own size.

    Returns:
        The index of the class of each image, (N,), or None if the model has no text tower.

    Raises:
        InputError: The model, its weights or its tokenizer cannot be loaded.
    """
    if name in backbones.NAMES or encoders.read_config(Path(weights).expanduser()) is not None:
        return None
    import open_clip

    source = open_clip_models.find(name, weights)
    where = device()
    model, tokenize = _whole_model(source).to(where).eval(), _tokenizer(name, source)
    readable = [class_name.replace("_", " ").replace("-", " ") for class_name in class_names]
    classes = open_clip.build_zero_shot_classifier(model, tokenize, readable, TEMPLATES, device=where)
    normalise, found = v2.Normalize(source.mean, source.std), [np.zeros(0, np.int64)]
    for first in range(0, len(images), batch):
        pixels = torch.from_numpy(images[first : first + batch]).to(where).float() / 255
        features = model.encode_image(normalise(pixels), normalize=True)
        found.append((features @ classes).argmax(1).cpu().numpy())
    return np.concatenate(found)


def _whole_model(source: open_clip_models.Source) -> Any:
    """Build both towers and load their weights."""
    from open_clip import CLIP, CoCa, CustomTextCLIP, load_checkpoint

    config = {key: value for key, value in source.model.items() if key != "custom_text"}
    config["vision_cfg"] = {**config["vision_cfg"], "timm_model_pretrained": False}
    custom = source.model.get("custom_text", False)
    if config["text_cfg"].get("hf_model_name"):
        custom, config["text_cfg"] = True, {**config["text_cfg"], "hf_model_pretrained": False}
        # fails at once if it cannot be fetched
        open_clip_models.fetch(config["text_cfg"]["hf_model_name"], ["config.json"])
    kind = CLIP if not custom else CoCa if "multimodal_cfg" in config else CustomTextCLIP
    if source.file is not None:
        # Refuses pickled code: if torch.load fails, open_clip's reader tries again without weights_only.
        backbones.read_file(source.file)
    try:
        model = kind(**config)
        if source.file is not None:
            load_checkpoint(model, str(source.file))
    except Exception as error:  # a wrong configuration, a damaged file, weights of another model
        rule, found = "both towers of the model must be built and loaded", f"{source.name}, {source.file}"
        remedy = "Use weights that were saved from this model."
        raise InputError(Fault(rule, f"{found}: {first_line(error)}", remedy)) from error
    return model


def _tokenizer(name: str, source: open_clip_models.Source) -> Callable[[list[str]], Tensor]:
    """Return the tokenizer, from sentences to token ids (N, context length)."""
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text = source.model["text_cfg"]
    options = {"context_length": text.get("context_length", DEFAULT_CONTEXT_LENGTH), **text.get("tokenizer_kwargs", {})}
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(**options)
    own = source.name.startswith(open_clip_models.FOLDER)
    place = source.name.removeprefix(open_clip_models.FOLDER) if own else text["hf_tokenizer_name"]
    if name.startswith(open_clip_models.HUB):
        place = name.removeprefix(open_clip_models.HUB)
    options["tokenizer_mode"] = text.get("tokenizer_mode")
    try:
        return HFTokenizer(place, local_files_only=True, **options)
    except Exception as error:  # it is neither in the folder nor in the cache
        if own and not name.startswith(open_clip_models.HUB):
            rule = "the model's folder must hold its tokenizer (tokenizer.json and tokenizer_config.json)"
            raise InputError(Fault(rule, f"{place}: {first_line(error)}", "Add its files.")) from error
    open_clip_models.fetch(place, ["tokenizer_config.json"])  # fails at once if it cannot be fetched
    return HFTokenizer(place, **options)
