"""Text classification with several labels, e.g. genre and sentiment, on one pretrained text encoder.

python -m platform.tune sentences                                              # invented blurbs, embedded
python -m platform.tune sentences --data titles.csv --data reviews.csv         # rows may lack labels
python -m platform.tune sentences --data FILE --set backbone=bert-base-uncased
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from platform.data.arrays import write_once
from platform.data.text.arrays import MISSING, TextArrays, open_arrays, write
from platform.errors import Fault, InputError
from platform.evaluation import error_examples
from platform.evaluation.figures import confusion_matrix
from platform.models import saved_heads, text_encoders
from platform.models.multi_head import (
    DECLARATION,
    WEIGHTINGS,
    MultiHead,
    declared_heads,
    is_head_name,
    losses,
    weighted,
)
from platform.storage import checkpoints
from platform.storage.hashing import key_of
from platform.task import Evaluation, Graph
from platform.training.devices import device, device_of
from platform.training.examples import Batch, Examples, Look, shuffled, steps, whole

if TYPE_CHECKING:
    from platform.data.text.dataset import TextDataset
    from platform.space import Space

INPUT = "text"
REQUIREMENTS = ("transformers", "scikit-learn")
EVAL_BATCH = 64
HEADS_FILE, TOKENIZER = "heads.safetensors", "tokenizer"


@dataclass(frozen=True)
class Sentences:
    """Loaded model with its tokenizer and metadata."""

    module: MultiHead
    tokenizer: Any
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Texts(Examples):
    """Examples of the tokenized texts.

    Attributes:
        data: The tokenized texts.
        folder: Folder of the arrays, named after their content and their tokenizer.
        where: Device of the trial.
    """

    data: TextArrays
    folder: Path
    where: torch.device

    def indices(self, split: str) -> np.ndarray:
        return self.data.split[split]

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        return self.data.lengths[indices]

    def inputs(self, indices: np.ndarray, view: int | None) -> dict[str, Tensor]:
        """Return tokens and mask, both (n, T)."""
        tokens, mask = self.data.batch(indices)
        return {"tokens": torch.from_numpy(tokens).to(self.where), "mask": torch.from_numpy(mask).to(self.where)}

    def labels(self, indices: np.ndarray) -> Tensor:
        """Return the labels (n, heads)."""
        return torch.from_numpy(self.data.labels[indices]).to(self.where)

    def beside(self, indices: np.ndarray) -> dict[str, Tensor]:
        return {"mask": torch.from_numpy(self.data.mask(indices)).to(self.where)}

    def facts(self, view: int | None) -> dict[str, Any]:
        return {"texts": f"{self.folder.parent.name}/{self.folder.name}"}


def depth(space: "Space") -> int:
    """Return the number of the encoder's stages, embeddings and layers, of several encoders the least."""
    return min(text_encoders.stage_count(name) for name in space.values("backbone"))


def read(sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> "TextDataset":
    """Read labelled texts in CSV, TSV or Parquet files, or the embedded invented blurbs."""
    # Imported here, as a model logged to MLflow predicts without the readers.
    from platform.data.embedded import blurbs
    from platform.data.text import dataset as texts

    sources = list(sources) or [blurbs.write(cache / f"blurbs-{seed}.csv", seed=seed)]
    return texts.read(sources, declared_heads(space.params), str(space.values("encoding")[0]), seed)


def check(space: "Space", dataset: "TextDataset | None") -> list[Fault]:
    """Check the declarations of the heads and the choices, and load each encoder of the space."""
    faults = []
    for head in declared_heads(space.params):
        for key in (f"loss_weight_{head}", f"freeze_{head}"):
            if key not in space.params:
                faults.append(Fault("a head needs head_layers_X, loss_weight_X and freeze_X", f"no {key}", "Add it."))
        if not is_head_name(head):
            rule = "a head's name must be a word that no module, stage or parameter uses"
            better = re.sub(r"\W", "_", head) + "_label"
            faults.append(Fault(rule, repr(head), f"Rename it in the data and in the space, e.g. to {better}."))
    if len(space.values("encoding")) > 1:
        faults.append(
            Fault(
                "the encoding of the data must be one value", str(space.values("encoding")), "Fix it, or leave it out."
            )
        )
    for key, known in (
        ("pooling", text_encoders.POOLINGS),
        ("weighting", WEIGHTINGS),
        ("weights", ("DEFAULT", "none")),
    ):
        for value in space.values(key):
            if value not in known:
                faults.append(Fault(f"{key} must be one of {', '.join(known)}", repr(value), "Choose one of them."))
    for name in space.values("backbone"):
        for layer in space.values("layer"):
            try:
                encoder, _ = text_encoders.load(name, layer=layer)
            except InputError as error:
                faults += error.faults
                continue
            for most in space.values("max_tokens"):
                if not 3 <= most <= encoder.max_tokens:
                    rule = f"max_tokens must lie in 3..{encoder.max_tokens} for {name}"
                    faults.append(Fault(rule, str(most), f"Try --set max_tokens={min(64, encoder.max_tokens)}."))
    asked = replace(space, baselines={})
    switches = [key for head in declared_heads(space.params) if (key := f"freeze_{head}") in space.params]
    frozen = [key for key in switches if True in asked.values(key)]
    if frozen and "new" in asked.values("heads"):
        found = f"{frozen[0]}=true with heads=new"
        faults.append(
            Fault(
                "a frozen head must have been trained before", found, "Add --set heads=FILE with the heads of a study."
            )
        )
    for file in asked.values("heads"):
        faults += [] if file == "new" or dataset is None else saved_heads.faults(asked, dataset.classes, Path(file))
    return list(dict.fromkeys(faults))


def prepare(space: "Space", dataset: "TextDataset", cache: Path) -> Path:
    """Tokenize the texts once for each tokenizer and length of the space."""
    folder = cache / f"tokens-{dataset.fingerprint[:16]}"
    for name in space.values("backbone"):
        tokenizer = text_encoders.load_tokenizer(name)
        for most in space.values("max_tokens"):
            place = _tokens_folder(folder, name, most)
            tokens, mask = text_encoders.tokenize(tokenizer, [example.text for example in dataset.examples], most)
            write(dataset, tokens, mask, place)
        place = _tokens_folder(folder, name, 0)
        write_once(place, functools.partial(_save_tokenizer, tokenizer), 0)
    return folder


def train(config: dict[str, Any]) -> None:
    """Train a config: the Ray trainable function."""
    from platform.training.context import begin
    from platform.training.fit import fit
    from platform.training.freezing import Freezing
    from platform.training.optimization import Optimization

    context, config = begin(config)
    encoder, _ = text_encoders.load(config["backbone"], config["weights"] != "none", config["layer"])
    folder = _tokens_folder(Path(context.data), config["backbone"], config["max_tokens"])
    examples = Texts(open_arrays(folder), folder, device())
    data, indices = examples.data, examples.indices("train")
    model = _build(encoder, config, data.classes)
    if config["heads"] != "new":
        saved_heads.load(model, Path(config["heads"]))
    fixed = {} if model.log_variances is not None else {head: config[f"loss_weight_{head}"] for head in data.classes}

    def loss(model: Any, batch: Batch) -> dict[str, Tensor]:
        parts = losses(model(batch.state, batch.split_index), examples.labels(batch.indices))
        return {"loss": weighted(parts, fixed, model.log_variances), **parts}

    def evaluate(model: Any, look: Look) -> dict[str, float]:
        shares = {f"weight/{head}": weight for head, weight in model.weights(fixed).items()}
        return {**_score(_logits(model, look, data, "val"), data, "val"), **shares}

    fit(
        model,
        model.stages(),
        examples=examples,
        loss=loss,
        batches=lambda generator: shuffled(indices, config["batch_size"], generator),
        steps_per_epoch=steps(len(indices), config["batch_size"]),
        evaluate=evaluate,
        freezing=Freezing(
            min(config["freeze_depth"], len(encoder.stages())),
            config["unfreeze"],
            config["unfreeze_at"],
            always=_frozen_heads(model, config),
        ),
        optimization=Optimization.of(config),
        context=context,
        metadata={"task": "sentences", "classes": data.classes, "encoder": encoder.config(), "config": config},
        assets=_tokens_folder(Path(context.data), config["backbone"], 0) / TOKENIZER,
    )


def load(folder: Path) -> Sentences:
    """Load a saved model, on the GPU if there is one."""
    metadata = checkpoints.read_metadata(folder)
    module = _build(text_encoders.build(metadata["encoder"]), metadata["config"], metadata["classes"])
    checkpoints.load_model(folder, module)
    module.to(device()).eval()
    return Sentences(module, text_encoders.load_tokenizer(str(folder / checkpoints.ASSETS)), metadata)


@torch.inference_mode()
def test(model: Sentences, data: Path) -> Evaluation:
    """Evaluate a model on the test split: scores by head and their means, reports, confusion matrices, texts."""
    from platform.evaluation import classification_metrics

    folder = _tokens_folder(data, model.metadata["config"]["backbone"], model.metadata["config"]["max_tokens"])
    examples = Texts(open_arrays(folder), folder, device_of(model.module))
    arrays = examples.data
    logits = _logits(model.module, functools.partial(whole, examples), arrays, "test")
    metrics, figures, texts = _score(logits, arrays, "test"), dict[str, Any](), dict[str, str]()
    for head, (targets, predicted) in _answers(logits, arrays, "test").items():
        names = arrays.classes[head]
        title = f"{head}, test split: accuracy {metrics[f'test/{head}/accuracy']:.3f}"
        counts = classification_metrics.confusion(targets, predicted, names)
        figures[f"confusion_matrix_{head}.png"] = confusion_matrix(counts, names, title)
        texts[f"classification_report_{head}.txt"] = classification_metrics.report(targets, predicted, names)
        texts[f"test_texts_{head}.txt"] = _text_examples(arrays, head, logits[head])
    return Evaluation(metrics, figures, texts)


def references(space: "Space", data: Path) -> dict[str, dict[str, float]]:
    """Return the scores of TF-IDF models on the same splits, one model for each head."""
    from platform.evaluation import classification_metrics, tfidf_baseline

    # All folders hold the same texts, whatever the tokenizer.
    arrays = open_arrays(_tokens_folder(data, space.values("backbone")[0], space.values("max_tokens")[0]))
    metrics: dict[str, float] = {}
    every = arrays.texts
    for column, head in enumerate(arrays.classes):
        rows = {split: arrays.split[split] for split in ("train", "test")}
        rows = {split: indices[arrays.labels[indices, column] != MISSING] for split, indices in rows.items()}
        texts = {split: [every[number] for number in indices] for split, indices in rows.items()}
        predicted = tfidf_baseline.classify(texts["train"], arrays.labels[rows["train"], column], texts["test"])
        targets = arrays.labels[rows["test"], column]
        metrics |= classification_metrics.classification(targets, predicted, arrays.classes[head], f"test/{head}")
    return {tfidf_baseline.NAME: {**metrics, **_means(metrics, list(arrays.classes), "test")}}


def write_weights(model: Sentences, data: Path, folder: Path) -> None:
    """Write encoder and tokenizer (`--set backbone=…/encoder`) and heads (`--set heads=…`) for later studies."""
    text_encoders.save(folder / "encoder", model.module.encoder, model.tokenizer)
    saved_heads.save(model.module, folder / HEADS_FILE)


@torch.inference_mode()
def predict(model: Sentences, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield for each sentence, by head, {"class", "probability", "probabilities" by class}; a "note" if truncated."""
    most = model.metadata["config"]["max_tokens"]
    for first in range(0, len(inputs), EVAL_BATCH):
        some = list(inputs[first : first + EVAL_BATCH])
        truncated = text_encoders.is_truncated(model.tokenizer, some, most)
        tokens, mask = _tokenize(model, some)
        logits = model.module({"tokens": tokens, "mask": mask})
        shares = {head: values.softmax(1).cpu().numpy() for head, values in logits.items()}
        for row in range(len(some)):
            answers: dict[str, Any] = {}
            for head, share in shares.items():
                names = model.metadata["classes"][head]
                named = dict(zip(names, [round(float(value), 4) for value in share[row]], strict=True))
                best = names[int(share[row].argmax())]
                answers[head] = {"class": best, "probability": named[best], "probabilities": named}
            yield answers | {
                "note": f"truncated to {most} tokens, the most that the model reads" if truncated[row] else ""
            }


def answer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example of a prediction."""
    heads = {
        head: {"class": names[0], "probability": 0.5, "probabilities": dict.fromkeys(names, 0.5)}
        for head, names in metadata["classes"].items()
    }
    return {**heads, "note": ""}


def onnx(model: Sentences) -> Graph:
    """Export the model, from tokens to each head's probabilities; the tokenizer is written beside it."""
    varying, most = {0: "batch", 1: "length"}, model.metadata["config"]["max_tokens"]

    def forward(tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        logits = model.module({"tokens": tokens, "mask": mask})
        return tuple(logits[head].softmax(1) for head in model.module.classes)

    return Graph(
        module=model.module,
        forward=forward,
        inputs={"tokens": varying, "mask": varying},
        outputs={head: {0: "batch"} for head in model.module.classes},
        tensors=lambda texts: dict(zip(("tokens", "mask"), _tokenize(model, list(texts)), strict=True)),
        about={
            "classes": model.metadata["classes"],
            "tokens": f"(batch, length) int64, the tokenizer's, special ones included, truncated to {most}",
            "mask": "(batch, length) int64, 1 for a token, 0 for padding at the end",
            "padding": {"token": model.tokenizer.pad_token, "id": model.tokenizer.pad_token_id},
            "max_tokens": most,
        },
        beside={"tokenizer": lambda folder: text_encoders.save_tokenizer(folder, model.tokenizer)},
    )


def pretrained(config: Mapping[str, Any]) -> Sentences:
    """Build a model with a config's pretrained encoder and without heads."""
    encoder, tokenizer = text_encoders.load(config["backbone"], config["weights"] != "none", config["layer"])
    return Sentences(_build(encoder, config, {}).to(device()).eval(), tokenizer, {"config": dict(config)})


def stage_names(model: Sentences) -> list[str]:
    """Return the stages whose output can be an embedding."""
    return [stage.name for stage in model.module.encoder.stages()]


def labelled(dataset: "TextDataset", split: str) -> tuple[list[str], dict[str, list[str | None]]]:
    """Return the texts of a split with their class names by head, None for a missing label."""
    examples = [example for example in dataset.examples if example.split == split]
    named = {
        head: [None if (label := e.labels.get(head)) is None else names[label] for e in examples]
        for head, names in dataset.classes.items()
    }
    return [example.text for example in examples], named


@torch.inference_mode()
def embed(model: Sentences, inputs: Sequence[str], stage: str) -> np.ndarray:
    """Return the pooled hidden states of a stage for each sentence, (N, hidden) float32."""
    vectors, count = [], stage_names(model).index(stage) + 1
    for first in range(0, len(inputs), EVAL_BATCH):
        tokens, mask = _tokenize(model, list(inputs[first : first + EVAL_BATCH]))
        hidden = model.module.encoder.run(tokens, mask, 0, count)
        vectors.append(text_encoders.pool(hidden, mask, model.module.pooling).cpu().numpy())
    return np.concatenate(vectors)


def _build(
    encoder: text_encoders.TextEncoder, config: Mapping[str, Any], classes: Mapping[str, Sequence[str]]
) -> MultiHead:
    return MultiHead(
        encoder,
        classes,
        layers={head: config[DECLARATION + head] for head in classes},
        width=config["head_width"],
        dropout=config["head_dropout"],
        **{key: config[key] for key in ("pooling", "weighting")},
    )


def _frozen_heads(model: MultiHead, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the stages that stay frozen; if all heads are frozen, the loss weights are too."""
    frozen = tuple(head for head in model.classes if config[f"freeze_{head}"])
    if model.log_variances is not None and len(frozen) == len(model.classes):
        return (*frozen, "loss_weights")
    return frozen


def _tokens_folder(folder: Path, name: str, most: int) -> Path:
    """Return the folder of the texts for a tokenizer and a length, for length 0 that of the tokenizer itself."""
    key = key_of({"name": name, "files": text_encoders.tokenizer_state(name)})
    return folder / f"{key}-{most}" if most else folder / key


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    text_encoders.save_tokenizer(folder / TOKENIZER, tokenizer)


def _tokenize(model: Sentences, texts: list[str]) -> tuple[Tensor, Tensor]:
    tokens, mask = text_encoders.tokenize(model.tokenizer, texts, model.metadata["config"]["max_tokens"])
    return tuple(torch.from_numpy(array).long().to(device_of(model.module)) for array in (tokens, mask))  # type: ignore[return-value]


def _logits(model: nn.Module, look: Look, data: TextArrays, split: str) -> dict[str, np.ndarray]:
    """Return the logits (N, classes) of a split's texts by head."""
    indices = data.split[split]
    # Sorted by length, so that a batch has little padding.
    order = np.argsort(data.lengths[indices], kind="stable")
    batches = (look(part) for part in np.array_split(indices[order], steps(len(indices), EVAL_BATCH)))
    outputs = [model(batch.state, batch.split_index) for batch in batches]
    back = np.argsort(order)
    return {head: np.concatenate([output[head].cpu().numpy() for output in outputs])[back] for head in data.classes}


def _answers(
    logits: Mapping[str, np.ndarray], data: TextArrays, split: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the true and predicted classes of the labelled texts by head."""
    found = {}
    for column, head in enumerate(data.classes):
        targets = data.labels[data.split[split], column]
        known = targets != MISSING
        if known.any():
            found[head] = (targets[known], logits[head][known].argmax(1))
    return found


def _text_examples(data: TextArrays, head: str, logits: np.ndarray) -> str:
    """Lay out test texts with their predictions, the most confident mistakes first."""
    indices = data.split["test"]
    targets = data.labels[indices, list(data.classes).index(head)]
    known = targets != MISSING
    shares = torch.from_numpy(logits[known]).softmax(1).numpy()
    chosen = error_examples.surest(shares, targets[known], data.classes[head])
    every = data.texts
    return error_examples.text_sheet(
        [every[indices[known][row]] for row, _ in chosen], [caption for _, caption in chosen]
    )


def _score(logits: Mapping[str, np.ndarray], data: TextArrays, split: str) -> dict[str, float]:
    from platform.evaluation import classification_metrics

    metrics: dict[str, float] = {}
    answers = _answers(logits, data, split)
    for head, (targets, predicted) in answers.items():
        known = data.labels[data.split[split], list(data.classes).index(head)] != MISSING
        loss = F.cross_entropy(torch.from_numpy(logits[head][known]), torch.from_numpy(targets))
        metrics |= classification_metrics.classification(targets, predicted, data.classes[head], f"{split}/{head}")
        metrics[f"{split}/{head}/loss"] = float(loss)
    # The heads' F1 and accuracy come first, as some views show only the first metrics.
    first = [f"{split}/{head}/{key}" for key in ("f1", "accuracy") for head in answers]
    return {**_means(metrics, list(answers), split), **{key: metrics[key] for key in first}, **metrics}


def _means(metrics: Mapping[str, float], names: Sequence[str], split: str) -> dict[str, float]:
    """Return the means over the heads; the first one is the metric of a study."""
    return {
        f"{split}/{key}": float(np.mean([metrics[f"{split}/{h}/{key}"] for h in names])) for key in ("f1", "accuracy")
    }
