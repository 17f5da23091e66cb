"""Small model of each task with random heads, saved as a study saves it, without training or data."""

import re
from pathlib import Path
from typing import Any

import torch

from platform import task
from platform.models import encoders, text_encoders
from platform.storage import checkpoints

SETTINGS = {
    "classifier": ["backbone=mobilenet_v2", "weights=starter", "image_size=64", "head_width=64"],
    "autoencoder": ["width=8", "bottleneck=32"],
    "detector": ["image_size=64", "channels=32", "weights=none"],
    "sentences": ["head_width=64"],
}
CLASSES: dict[str, Any] = {
    "classifier": ["cat", "dog", "red panda"],
    "autoencoder": ["even", "odd"],
    "detector": ["cat", "dog"],
    "sentences": {"genre": ["crime", "travel"], "sentiment": ["bad", "good"]},
}

# Standard deviation of a detector's last layers for scores between 0 and 1. That of SSDlite is large, as untrained
# BatchNorm leaves only small activations before them.
WIDE = {
    r"(cls_logits|bbox_ctrness)\.weight": 0.05,
    r"cls_score\.weight": 0.5,
    r"classification_head\.module_list\.\d\.1\.weight": 6e5,
}


def save(name: str, folder: Path, settings: list[str] | None = None) -> Path:
    """Write a model of a task into a folder, with the same weights each time."""
    module: Any = task.load(name)
    space = task.space(name).override([*SETTINGS[name], *(settings or [])])
    metadata = {"task": name, "classes": CLASSES[name], "config": {**space.fixed, **space.start}}
    config, assets = metadata["config"], None
    torch.manual_seed(0)
    if name == "classifier":
        encoder = encoders.load(config["backbone"], config["weights"])
        metadata |= {"size": 64, "encoder": encoder.config}
        model = module.Network(encoder, config, 3)
    elif name == "autoencoder":
        metadata |= {"size": [8, 8], "pretrained": ""}
        model = module._build((8, 8), config["width"], config["bottleneck"], 0.0, "none")
    elif name == "detector":
        metadata |= {"input_size": [64, 64]}
        model = module._build(metadata, "none")
        sure_of_much(model)
    else:
        encoder, tokenizer = text_encoders.load("starter")
        metadata |= {"encoder": encoder.config()}
        assets = folder.parent / "tokenizer"
        text_encoders.save_tokenizer(assets, tokenizer)
        model = module._build(encoder, config, CLASSES[name])
    checkpoints.save(folder, model, metadata, torch.optim.AdamW(model.parameters()), {}, assets)
    return folder


def sure_of_much(model: Any) -> None:
    """Draw the last layers of a detector's heads with a larger deviation, so that it finds something nearly everywhere.

    The scores must stay below 1, as the order of equal scores is undefined.
    """
    for key, parameter in model.named_parameters():
        for end, wide in WIDE.items():
            if re.search(end, key):
                torch.nn.init.normal_(parameter, std=wide)
        if key.endswith(("cls_logits.bias", "bbox_ctrness.bias")):
            torch.nn.init.zeros_(parameter)
