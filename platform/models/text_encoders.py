"""Pretrained text encoders by name, as stages that can be run one after the other: the embeddings, then the layers.

    name        model
    starter     the small BERT that ships with this project, starters/bert
    a folder    files that transformers' save_pretrained wrote: config.json, model.safetensors, the tokenizer's files;
                relative to the working directory or to the project's root
    any other   a model of the Hugging Face hub, e.g. "bert-base-uncased": from the local cache, or fetched once

Supported are BERT, RoBERTa, DistilBERT, ELECTRA and similar models: embeddings, then a list of layers, each of which
needs hidden states and a mask only. Every model is checked: its stages must compute what the whole model computes.
Weights must be safetensors, and code that comes with them is not run.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi, is_offline_mode
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import logging

from platform import project
from platform.errors import Fault, InputError, first_line
from platform.models.stages import Stage, assign
from platform.storage.hashing import file_state

STARTER = project.ROOT / "starters" / "bert"
POOLINGS = ("mean", "cls", "max")

_LAYERS = ("encoder.layer", "transformer.layer")  # paths of the layer list by family of models
_KINDS = "BERT, RoBERTa, DistilBERT, ELECTRA and similar models"
_CHUNK = 10_000  # texts tokenized at a time


class TextEncoder(nn.Module):
    """Embeddings and first layers of a transformers encoder.

    Attributes:
        body: The transformers model without its pooler and without the layers above the last one that is used.
        hidden: Width of the hidden states.
        max_tokens: Maximum length of a text in tokens, special tokens included.
    """

    def __init__(self, body: PreTrainedModel) -> None:
        super().__init__()
        self.body = body
        self._path = _layers_path(body)
        self.hidden: int = body.config.hidden_size
        padding = getattr(body.get_submodule("embeddings.position_embeddings"), "padding_idx", None)
        # RoBERTa's positions begin after the padding index.
        self.max_tokens: int = body.config.max_position_embeddings - (0 if padding is None else padding + 1)

    @property
    def layers(self) -> nn.ModuleList:
        return self.body.get_submodule(self._path)  # type: ignore[return-value]

    def run(self, x: Tensor, mask: Tensor, start: int, stop: int) -> Tensor:
        """Run the stages start … stop - 1: the embeddings are stage 0, then come the layers.

        Args:
            x: If start is 0, token ids (N, T), padded at the end; else the output (N, T, hidden) of the stage before.
            mask: (N, T), 1 for a token and 0 for padding.

        Returns:
            Hidden states (N, T, hidden); x itself if start equals stop.
        """
        hidden = self._embed(x) if start == 0 and stop > 0 else x
        layers = self.layers[max(0, start - 1) : max(0, stop - 1)]
        if not layers:
            return hidden
        attention: Any = create_bidirectional_mask(  # a tensor, or None where nothing is masked
            config=self.body.config, inputs_embeds=hidden, attention_mask=mask
        )
        for layer in layers:
            output = layer(hidden, attention)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def stages(self, prefix: str = "") -> list[Stage]:
        """Return the stages from input to output, of an encoder at the path `prefix` in the model."""
        at = f"{prefix}.body" if prefix else "body"
        embeddings = Stage("embeddings", (f"{at}.embeddings", f"{at}.embeddings_project"), backbone=True)
        layers = [Stage(f"layer{n}", (f"{at}.{self._path}.{n}",), backbone=True) for n in range(len(self.layers))]
        return [embeddings, *layers]

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the hidden states of the last layer, (N, T, hidden)."""
        return self.run(ids, mask, 0, 1 + len(self.layers))

    def forward(self, ids: Tensor, mask: Tensor, pooling: str = "mean") -> Tensor:
        """Return one vector for each text, (N, hidden): the pooled `states`."""
        return pool(self.states(ids, mask), mask, pooling)

    def config(self) -> dict[str, Any]:
        """Return the configuration from which `build` makes the same architecture, as JSON."""
        return json.loads(self.body.config.to_json_string(use_diff=False))

    def _embed(self, ids: Tensor) -> Tensor:
        hidden = self.body.get_submodule("embeddings")(input_ids=ids)
        projection = getattr(self.body, "embeddings_project", None)  # ELECTRA
        return hidden if projection is None else projection(hidden)


def load(name: str, weights: bool = True, layer: int = -1) -> tuple[TextEncoder, PreTrainedTokenizerBase]:
    """Load an encoder in float32 and in eval mode, and its tokenizer.

    Args:
        name: "starter", a folder, or the name of a model on the hub.
        weights: True for the pretrained weights, False for random weights drawn with torch's current seed.
        layer: Layer whose output is used: -1 for the last, -2 for the one below it. The layers above are dropped.

    Raises:
        InputError: The model cannot be found, fetched or divided into stages, or lacks weights or a tokenizer.
    """
    config = _read_config(name)
    _kept_layers(name, config, layer)  # refuses a wrong layer before anything is fetched
    tokenizer = load_tokenizer(name)
    if len(tokenizer) > config.vocab_size:
        rule = "the encoder must have an embedding for every token of its tokenizer"
        raise InputError(Fault(rule, f"{config.vocab_size} for {len(tokenizer)} in {name}", "Use files of one model."))
    body = _read_weights(name, config) if weights else _random(config)
    return _staged(body, name, layer), tokenizer


def build(config: dict[str, Any]) -> TextEncoder:
    """Build the architecture of a `TextEncoder.config` with random weights, in eval mode, without network."""
    options = {key: value for key, value in config.items() if key != "model_type"}
    known = AutoConfig.for_model(config["model_type"], **options)
    _refuse_kernel(str(config["model_type"]), known)
    return _staged(_random(known), str(config["model_type"]), -1)


def _random(config: PretrainedConfig) -> PreTrainedModel:
    return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model that is named as for `load`.

    Raises:
        InputError: There is no tokenizer, or it has no padding token.
    """
    tokenizer = _fetch(_read_tokenizer, name, "a tokenizer (tokenizer.json and tokenizer_config.json)")
    if tokenizer.pad_token_id is None:
        raise InputError(Fault("the tokenizer must have a padding token", f"none in {name}", f"Use one of {_KINDS}."))
    return tokenizer


def save(folder: Path, encoder: TextEncoder, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a folder that `load` and transformers' AutoModel and AutoTokenizer can read."""
    logging.disable_progress_bar()  # for a single file
    encoder.body.save_pretrained(folder)
    save_tokenizer(folder, tokenizer)


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a folder that `load_tokenizer` can read."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # settings of the last call, which would be saved too
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)


def stage_count(name: str, layer: int = -1) -> int:
    """Return the number of stages of the encoder that `load` gives, from its configuration alone.

    Raises:
        InputError: The configuration cannot be found or fetched, or there is no such layer.
    """
    return 1 + _kept_layers(name, _read_config(name), layer)


def tokenizer_state(name: str) -> list[list[Any]]:
    """Return the state of the tokenizer's files, which changes when they are written; empty for a model of the hub."""
    folder = _folder(name)
    states = [] if folder is None else file_state(folder)
    return [state for state in states if not state[0].endswith((".safetensors", ".bin"))]


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool hidden states (N, T, hidden) into vectors (N, hidden): their mean, their maximum or the first state."""
    if pooling == "cls":
        return states[:, 0]
    present = mask.bool()[..., None]
    if pooling == "max":
        return states.masked_fill(~present, -torch.inf).amax(1)
    if pooling == "mean":
        return (states * present).sum(1) / present.sum(1)
    raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}; found {pooling!r}")


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenize texts, truncated to max_tokens and padded to the longest.

    Returns:
        Token ids (N, T), int32, and the mask (N, T), bool, True for a token.
    """
    rows: list[np.ndarray] = []
    for first in range(0, len(texts), _CHUNK):  # lists of Python integers take ten times the memory
        chunk = list(texts[first : first + _CHUNK])
        encoded = tokenizer(chunk, truncation=True, max_length=max_tokens)["input_ids"]
        rows += [np.array(ids, np.int32) for ids in encoded]
    lengths = np.array([len(row) for row in rows], int)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    ids = np.full(mask.shape, tokenizer.pad_token_id, np.int32)
    if rows:
        ids[mask] = np.concatenate(rows)
    return ids, mask


def is_truncated(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> list[bool]:
    """Check for each text whether `tokenize` truncates it."""
    whole = tokenizer(list(texts), verbose=False)["input_ids"]  # without a warning for long texts
    return [len(ids) > max_tokens for ids in whole]


def _read_config(name: str) -> PretrainedConfig:
    """Read the configuration of a model and check that its layers can be frozen one by one."""
    config = _fetch(AutoConfig.from_pretrained, name, "a configuration (config.json)")
    _refuse_kernel(name, config)
    rule, remedy = "the text encoder must be a stack of layers with weights of their own", f"Use one of {_KINDS}."
    if hasattr(config, "num_hidden_groups"):
        found = f"{name} ({config.model_type}), whose layers share their weights and cannot be frozen one by one"
        raise InputError(Fault(rule, found, remedy))
    try:
        with torch.device("meta"):  # shapes alone, without weights
            _layers_path(AutoModel.from_config(config, trust_remote_code=False))
    except Exception as error:  # another kind of model, another layer list, sizes that do not match, …
        found = f"{name} ({config.model_type}: {first_line(error)})"
        raise InputError(Fault(rule, found, remedy)) from error
    return config


def _refuse_kernel(name: str, config: PretrainedConfig) -> None:
    """Refuse a configuration with a kernel for the attention, whose code transformers would fetch and run."""
    asked = str(getattr(config, "_attn_implementation", None))
    if "/" in asked:
        rule, remedy = "the text encoder must not bring its own code", "Remove attn_implementation from config.json."
        raise InputError(Fault(rule, f"the kernel {asked} for {name}", remedy))


def _layers_path(body: nn.Module) -> str:
    modules = dict(body.named_modules())
    found = [path for path in _LAYERS if isinstance(modules.get(path), nn.ModuleList)]
    if "embeddings" not in modules or not found:
        raise ValueError(f"it needs a module named embeddings, and layers in {' or '.join(_LAYERS)}")
    return found[0]


def _kept_layers(name: str, config: PretrainedConfig, layer: int) -> int:
    layers: int = config.num_hidden_layers
    if not -layers <= layer <= -1:
        rule = f"layer must lie in -{layers}..-1 for {name}, counted from the last layer"
        raise InputError(Fault(rule, str(layer), "Use -1 for the last layer, -2 for the one below it."))
    return layers + 1 + layer


def _read_weights(name: str, config: PretrainedConfig) -> PreTrainedModel:
    options = {"config": config, "use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    body, report = _fetch(AutoModel.from_pretrained, name, "weights (model.safetensors)", **options)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        rule = "the weights must fill the whole encoder"
        found = f"{len(missing)} missing in {name} (first: {missing[0]})"
        raise InputError(Fault(rule, found, "Use the weights that belong to this config.json."))
    return body


def _staged(body: PreTrainedModel, name: str, layer: int) -> TextEncoder:
    """Drop unused modules and check that the stages compute what the whole model computes."""
    path, kept = _layers_path(body), _kept_layers(name, body.config, layer)
    body.set_submodule(path, body.get_submodule(path)[:kept])  # type: ignore[index]
    body.config.num_hidden_layers = kept
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # type: ignore[assignment]
    ids = torch.arange(12).reshape(2, 6)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    try:
        encoder = TextEncoder(body).eval()
        assign(encoder, encoder.stages())
        with torch.no_grad():
            torch.testing.assert_close(encoder.states(ids, mask), body(ids, mask).last_hidden_state)
    except Exception as error:  # layers that need more inputs, weights outside of stages, another order, …
        rule, found = "the layers must need hidden states and a mask only", f"{name} ({body.config.model_type})"
        raise InputError(Fault(rule, found, f"Use one of {_KINDS}.")) from error
    return encoder


def _fetch(read: Callable[..., Any], name: str, what: str, **options: Any) -> Any:
    """Read a part of a model by one of transformers' from_pretrained, from the local cache if it is there."""
    folder = _folder(name)
    place = str(folder or name)
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # it would report every weight that is dropped
    logging.disable_progress_bar()
    try:
        try:
            return read(place, local_files_only=True, trust_remote_code=False, **options)
        except Exception:
            if folder or is_offline_mode():
                raise
            HfApi().model_info(name, timeout=10)  # fails at once, not after many attempts
            return read(place, trust_remote_code=False, **options)
    except Exception as error:  # OSError, ValueError, errors of parsers and of the hub, …
        found = f"none for {name} ({first_line(error)})"
        in_hub = "Name a folder, starter, or a model of the hub. What is not in the local cache needs the network."
        remedy = "Check the folder's files." if folder else in_hub
        raise InputError(Fault(f"{what} must be found for the text encoder", found, remedy)) from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _folder(name: str) -> Path | None:
    return STARTER if name == "starter" else project.find_folder(name)


def _read_tokenizer(place: str, **options: Any) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # transformers makes up a tokenizer if there are no files
        raise OSError(f"no vocabulary in {place}")
    return tokenizer
