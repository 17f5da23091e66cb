"""Even or odd digits: an autoencoder is pretrained without labels, then a classifier is trained on its encoder.

python -m platform.tune autoencoder                  # scikit-learn's digits, embedded
python -m platform.tune autoencoder --data DIR       # MNIST's idx files
"""

import functools
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from platform.data import augment, images
from platform.errors import Fault, InputError
from platform.evaluation import error_examples
from platform.evaluation.figures import captioned, confusion_matrix, labelled_strips, learning_curves
from platform.models.autoencoders import STAGES, Autoencoder, BinaryClassifier, load_encoder, save_encoder, saved_size
from platform.storage import checkpoints, filesystem, hashing
from platform.task import Evaluation, Graph, only_source
from platform.training.devices import device, device_of
from platform.training.examples import Batch, Examples, Look, shuffled, steps, view_faults, whole

if TYPE_CHECKING:
    from platform.data.classification.digits import DigitDataset
    from platform.space import Space
    from platform.training.context import Context
    from platform.training.reporters import ToFolder

INPUT = "image"
REQUIREMENTS = ("scikit-learn",)
CLASSES = ("even", "odd")
EVAL_BATCH = 512
PRETRAIN_BATCH = 64
SHOWN_IMAGES = 16
ENCODER, RECONSTRUCTIONS, CURVES = "encoder.safetensors", "reconstructions.png", "pretraining_curves.png"


@dataclass(frozen=True)
class EvenOdd:
    """Loaded classifier with its metadata."""

    module: BinaryClassifier
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Digits(Examples):
    """Examples of the prepared images, augmented as a config says.

    Attributes:
        images: (N, H, W) uint8, memory-mapped.
        labels: (N,) int64, the digits.
        split: Indices of the images of each split.
        folder: Folder of the arrays, named after their content.
        where: Device of the trial.
        views: Number of views of an image while stages are frozen; 0 for no augmentation.
        strength: Strength of the augmentation, the space's `augment`.
        seed: Seed of the augmentation.
    """

    images: np.ndarray
    labels: np.ndarray
    split: dict[str, np.ndarray]
    folder: Path
    where: torch.device
    views: int = 0
    strength: float = 0.0
    seed: int = 0

    def indices(self, split: str) -> np.ndarray:
        return self.split[split]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @functools.cached_property
    def draws(self) -> augment.ViewNumbers:
        """Random numbers for each view of each image."""
        return augment.ViewNumbers(len(self.labels), 4, self.seed)

    def inputs(self, indices: np.ndarray, view: int | None) -> dict[str, Tensor]:
        """Return images (n, 1, H, W) in [0, 1] as "x"."""
        pixels = torch.from_numpy(self.images[indices]).unsqueeze(1).to(self.where).float() / 255
        return {"x": pixels if view is None else augment.affine(pixels, self.strength, self.draws(indices, view))}

    def odd(self, indices: np.ndarray) -> Tensor:
        """Return targets (n,): 1.0 for each odd digit."""
        return torch.from_numpy(self.labels[indices] % 2).float().to(self.where)

    def facts(self, view: int | None) -> dict[str, Any]:
        drawn = {} if view is None else {"view": view, "seed": self.seed, "augment": self.strength}
        return {"images": self.folder.name, **drawn}


def depth(space: "Space") -> int:
    """Return the number of the encoder's stages."""
    return len(STAGES)


def read(sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> "DigitDataset":
    """Read the digits in a folder of idx files, or those of scikit-learn."""
    from platform.data.classification import digits

    return digits.read(only_source(sources), cache, seed)


def check(space: "Space", dataset: "DigitDataset | None") -> list[Fault]:
    """Check sizes and shares, and that the weights fit each encoder of the space.

    Without data the size of the images is read from the weights.
    """
    faults = view_faults(space)
    ranges = {"bottleneck": (1, 4096), "width": (1, 512), "patience": (1, 10_000), "pretrain_epochs": (0, 10_000)}
    for key, (least, most) in ranges.items():
        for value in space.values(key):
            if not least <= value <= most:
                faults.append(Fault(f"{key} must lie in {least}..{most}", str(value), f"Try --set {key}={least + 9}."))
    for share in space.values("label_fraction"):
        if not 0 < share <= 1:
            faults.append(Fault("label_fraction must lie in (0, 1]", str(share), "1 uses all labels."))
    if dataset is None and "none" in space.values("weights"):
        remedy = "Use --model STUDY, or --set weights=FILE with a file of a study's weights/."
        faults.append(Fault("an encoder must be trained before its embeddings are computed", "weights=none", remedy))
    for weights in [value for value in space.values("weights") if value != "none" and not faults]:
        for width, bottleneck in itertools.product(space.values("width"), space.values("bottleneck")):
            try:
                size = saved_size(Path(weights)) if dataset is None else dataset.images.shape[1:]
                _build(size, width, bottleneck, 0.0, weights)
            except InputError as error:
                faults += error.faults
    return faults


def prepare(space: "Space", dataset: "DigitDataset", cache: Path) -> Path:
    """Write the arrays once for all trials."""
    from platform.data.arrays import write_once

    def fill(folder: Path) -> None:
        for name in ("images", "labels", "splits"):
            np.save(folder / f"{name}.npy", getattr(dataset, name))

    folder = cache / f"digits-{dataset.fingerprint[:16]}"
    write_once(folder, fill, dataset.images.nbytes)
    return folder


def train(config: dict[str, Any]) -> None:
    """Train a config: pretrain, unless another trial did the same, then train the classifier of even and odd."""
    from platform.training.context import begin
    from platform.training.fit import fit
    from platform.training.freezing import Freezing
    from platform.training.optimization import Optimization

    context, config = begin(config)
    data = _open(Path(context.data), device())
    pretrained = _pretrain(config, data, context)
    torch.manual_seed(context.seed)
    model = _build(data.size, config["width"], config["bottleneck"], config["dropout"], config["weights"])
    if pretrained:
        load_encoder(model.encoder, pretrained / ENCODER)
    labelled = first_labelled(data.labels, data.split["train"], config["label_fraction"], context.seed)
    count = len(data.split["train"])
    views = config["views"] if config["augment"] else 0
    split = {**data.split, "train": labelled}
    examples = replace(data, split=split, views=views, strength=config["augment"], seed=context.seed)

    def batches(generator: np.random.Generator) -> Iterator[np.ndarray]:
        # The number of steps does not depend on the number of labels: few labels are repeated more often.
        order = np.concatenate([generator.permutation(labelled) for _ in range(steps(count, len(labelled)))])[:count]
        yield from np.array_split(order, steps(count, config["batch_size"]))

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = model(batch.state, batch.split_index)
        return {"loss": F.binary_cross_entropy_with_logits(logits, examples.odd(batch.indices))}

    fit(
        model,
        BinaryClassifier.stages(),
        examples=examples,
        loss=loss,
        batches=batches,
        steps_per_epoch=steps(count, config["batch_size"]),
        evaluate=lambda model, look: _score(_logits(model, look, data, "val"), data, "val"),
        freezing=Freezing(config["freeze_depth"], config["unfreeze"], config["unfreeze_at"]),
        optimization=Optimization.of(config),
        context=context,
        metadata={
            "task": "autoencoder",
            "classes": CLASSES,
            "size": data.size,
            "config": config,
            "pretrained": pretrained.name if pretrained else "",
        },
    )


def load(folder: Path) -> EvenOdd:
    """Load a saved classifier, on the GPU if there is one."""
    metadata = checkpoints.read_metadata(folder)
    config = metadata["config"]
    module = _build(
        (metadata["size"][0], metadata["size"][1]), config["width"], config["bottleneck"], config["dropout"], "none"
    )
    checkpoints.load_model(folder, module)
    return EvenOdd(module.to(device()).eval(), metadata)


@torch.inference_mode()
def test(model: EvenOdd, data: Path) -> Evaluation:
    """Evaluate a model on the test split: accuracy, precision, recall and F1 of "odd", and a sheet of images."""
    from platform.evaluation import classification_metrics

    arrays = _open(data, device_of(model.module))
    logits = _logits(model.module, functools.partial(whole, arrays), arrays, "test")
    metrics = _score(logits, arrays, "test")
    targets, predicted = arrays.labels[arrays.split["test"]] % 2, (logits > 0).astype(int)
    title = f"Test split: accuracy {metrics['test/accuracy']:.4f}"
    figures: dict[str, Any] = {
        "confusion_matrix.png": confusion_matrix(
            classification_metrics.confusion(targets, predicted, CLASSES), CLASSES, title
        ),
        "test_images.png": _sheet(arrays, logits, targets),
    }
    if model.metadata["pretrained"]:
        folder = _pretrained(data, model.metadata["pretrained"])
        figures |= {name: Image.open(folder / name) for name in (RECONSTRUCTIONS, CURVES)}
    return Evaluation(
        metrics, figures, {"classification_report.txt": classification_metrics.report(targets, predicted, CLASSES)}
    )


def references(space: "Space", data: Path) -> dict[str, dict[str, float]]:
    """Return the score of always answering with the commoner class."""
    arrays = _open(data, torch.device("cpu"))
    odd = {split: arrays.labels[arrays.split[split]] % 2 for split in ("train", "test")}
    commoner = round(odd["train"].mean())
    return {f"always {CLASSES[commoner]}": {"test/accuracy": float(np.mean(odd["test"] == commoner))}}


def write_weights(model: EvenOdd, data: Path, folder: Path) -> None:
    """Write the encoder as it was after pretraining and as it is after fine-tuning."""
    save_encoder(model.module.encoder, folder / "encoder_finetuned.safetensors")
    if model.metadata["pretrained"]:
        shutil.copy(
            _pretrained(data, model.metadata["pretrained"]) / ENCODER, folder / "encoder_pretrained.safetensors"
        )


@torch.inference_mode()
def predict(model: EvenOdd, inputs: Sequence[Image.Image]) -> Iterator[dict[str, Any]]:
    """Yield for each image {"class", "probability", "inverted"}.

    Dark strokes on light are inverted, as the training images are light on dark.
    """
    for first in range(0, len(inputs), EVAL_BATCH):
        pixels, inverted = _model_input(model, inputs[first : first + EVAL_BATCH])
        for odd, is_inverted in zip(model.module({"x": pixels}).sigmoid().tolist(), inverted, strict=True):
            yield {
                "class": CLASSES[int(odd > 0.5)],
                "probability": round(max(odd, 1 - odd), 4),
                "inverted": is_inverted,
            }


def answer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example of a prediction."""
    return {"class": CLASSES[0], "probability": 0.5, "inverted": False}


def draw(image: Image.Image, prediction: Mapping[str, Any]) -> Image.Image:
    """Draw the class below the image."""
    return captioned(image, f"{prediction['class']} {prediction['probability']:.2f}")


def onnx(model: EvenOdd) -> Graph:
    """Export encoder and head, from images to the probability of "odd"."""
    height, width = model.metadata["size"]
    return Graph(
        module=model.module,
        forward=lambda x: (model.module({"x": x}).sigmoid(),),
        inputs={"images": {0: "batch"}},
        outputs={"odd": {0: "batch"}},
        tensors=lambda loaded: {"images": _model_input(model, loaded)[0]},
        about={
            "classes": CLASSES,
            "images": f"(batch, 1, {height}, {width}) float32, grey, 0 … 1, light strokes on dark",
            "preprocessing": "turn to grey (ITU-R 601); resize to size, bilinear, antialiased; divide by 255; "
            "where the mean over the four edges is above 0.5, subtract from 1",
            "size": [height, width],
        },
    )


def pretrained(config: Mapping[str, Any]) -> EvenOdd:
    """Build a classifier with the encoder in a config's file of weights and a random head."""
    size = saved_size(Path(config["weights"]))
    module = _build(size, config["width"], config["bottleneck"], config["dropout"], config["weights"])
    return EvenOdd(module.to(device()).eval(), {"size": size, "config": dict(config)})


def stage_names(model: EvenOdd) -> list[str]:
    """Return the stages whose output can be an embedding; that of the last is the autoencoder's code."""
    return list(STAGES)


def labelled(dataset: "DigitDataset", split: str) -> tuple[list[np.ndarray], dict[str, list[str | None]]]:
    """Return the images (H, W), uint8, of a split with their classes and digits."""
    chosen = dataset.splits == split
    digits = dataset.labels[chosen].tolist()
    return list(dataset.images[chosen]), {"class": [CLASSES[d % 2] for d in digits], "digit": [str(d) for d in digits]}


@torch.inference_mode()
def embed(model: EvenOdd, inputs: Sequence[Path | np.ndarray], stage: str) -> np.ndarray:
    """Return the output of a stage for each image, averaged over places, (N, channels) float32."""
    vectors, count = [], STAGES.index(stage) + 1
    for first in range(0, len(inputs), EVAL_BATCH):
        some = inputs[first : first + EVAL_BATCH]
        arrays = isinstance(some[0], np.ndarray)
        loaded = [Image.fromarray(one) if isinstance(one, np.ndarray) else images.load(one) for one in some]
        pixels, _ = _model_input(model, loaded, may_invert=not arrays)
        made = model.module.run({"x": pixels}, 0, count)["x"]
        vectors.append((made.mean((2, 3)) if made.ndim == 4 else made).cpu().numpy())
    return np.concatenate(vectors)


def first_labelled(labels: np.ndarray, indices: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose the training images whose labels may be used, about as many of each digit.

    The choice for a small fraction is part of the choice for a larger one.

    Args:
        labels: (N,) digits of all images.
        indices: Indices of the training images.
        fraction: Share of the training images in (0, 1]; at least one image of each digit is chosen.
        seed: Seed of the choice.
    """
    shuffled = np.random.default_rng(seed).permutation(indices)
    rank = np.zeros(len(shuffled), int)
    for digit in np.unique(labels):
        is_digit = labels[shuffled] == digit
        rank[is_digit] = np.arange(is_digit.sum())
    wanted = max(len(np.unique(labels)), round(fraction * len(indices)))
    return shuffled[np.argsort(rank, kind="stable")][:wanted]


def _pretrain(config: Mapping[str, Any], data: Digits, context: "Context") -> Path | None:
    """Pretrain for a config, unless another trial did; return the folder, or None without pretraining."""
    from platform.storage.hashing import key_of
    from platform.training.pretraining import once

    if not config["pretrain_epochs"] or context.steps:  # a few steps are a speed measurement
        return None
    keys = ("bottleneck", "width", "dropout", "weights", "pretrain_epochs", "lr_pretrain", "patience")
    facts: dict[str, Any] = {key: config[key] for key in keys} | {"seed": context.seed, "torch": torch.__version__}
    facts["output"] = "linear"  # of the decoder
    if config["weights"] != "none":
        facts["weights"] = hashing.sha256_of(Path(config["weights"]))
    folder = _folder_of(Path(context.data), key_of(facts))
    origin = _origin_of(Path(context.data), folder.name)
    once(folder, lambda reporter: _train_autoencoder(dict(config), data, context, reporter), origin)
    return folder


def _train_autoencoder(config: dict[str, Any], data: Digits, context: "Context", reporter: "ToFolder") -> None:
    from platform.training.fit import fit
    from platform.training.freezing import Freezing
    from platform.training.optimization import Optimization

    indices = data.split["train"]
    torch.manual_seed(context.seed)
    model = Autoencoder(data.size, config["width"], config["bottleneck"], config["dropout"])
    if config["weights"] != "none":
        load_encoder(model.encoder, Path(config["weights"]))

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": F.mse_loss(model(batch.state["x"]), batch.state["x"])}

    def error(model: nn.Module, look: Look) -> dict[str, float]:
        parts = [look(some).state["x"] for some in _chunks(data.split["val"])]
        total = sum(float(F.mse_loss(model(part), part, reduction="sum")) for part in parts)
        return {"val/loss": total / sum(part.numel() for part in parts)}

    fit(
        model,
        Autoencoder.stages(),
        examples=data,
        loss=loss,
        batches=lambda generator: shuffled(indices, PRETRAIN_BATCH, generator),
        steps_per_epoch=steps(len(indices), PRETRAIN_BATCH),
        evaluate=error,
        freezing=Freezing(0),
        optimization=Optimization(config["lr_pretrain"], backbone_ratio=1.0, schedule="constant", warmup=0.02),
        context=replace(context, epochs=config["pretrain_epochs"], metric="val/loss", mode="min", config={}),
        metadata={"task": "autoencoder", "config": config, "context": asdict(context)},
        patience=config["patience"],
        reporter=reporter,
    )
    model.load_state_dict(load_file(reporter.folder / "best" / checkpoints.MODEL))
    save_encoder(model.encoder, reporter.folder / ENCODER)
    with torch.inference_mode():
        shown = data.inputs(data.split["val"][:SHOWN_IMAGES], None)["x"]
        pairs = torch.stack([shown, model.eval()(shown)]).cpu().clamp(0, 1).mul(255).round().byte().numpy()
    strips = [
        Image.fromarray(np.concatenate([np.pad(one[0], ((0, 0), (1, 1))) for one in row], axis=1)) for row in pairs
    ]
    labelled_strips(strips, ("validation", "rebuilt")).save(reporter.folder / RECONSTRUCTIONS)
    learning_curves(reporter.history(), "val/loss").savefig(reporter.folder / CURVES, dpi=144)


def _folder_of(data: Path, key: str) -> Path:
    return data.parent / f"{data.name}-pretrained" / key


def _origin_of(data: Path, key: str) -> str:
    """Return the place where the nodes of a cluster share a pretrained encoder, "" on one machine."""
    origin = filesystem.origin(data)
    return f"{origin}-pretrained/{key}" if origin else ""


def _pretrained(data: Path, key: str) -> Path:
    """Return the folder of an encoder that a trial pretrained on this node or on another."""
    from platform.training.pretraining import bring

    bring(_folder_of(data, key), _origin_of(data, key))
    return _folder_of(data, key)


def _open(folder: Path, where: torch.device) -> Digits:
    from platform.data.arrays import indices_by_split

    splits = indices_by_split(np.load(folder / "splits.npy"))
    images, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    return Digits(images, labels, splits, folder, where)


def _build(size: tuple[int, int], width: int, bottleneck: int, dropout: float, weights: str) -> BinaryClassifier:
    model = BinaryClassifier(size, width, bottleneck, dropout)
    if weights != "none":
        load_encoder(model.encoder, Path(weights))
    return model


def _model_input(model: EvenOdd, loaded: Sequence[Image.Image], may_invert: bool = True) -> tuple[Tensor, list[bool]]:
    """Convert images to the model's input (N, 1, H, W) in [0, 1].

    Args:
        model: The model.
        loaded: The images.
        may_invert: True to invert images that are dark on light; False for images of the training data.

    Returns:
        The input, and for each image whether it was inverted.
    """
    height, width = model.metadata["size"]
    grey = [image.convert("L").resize((width, height), Image.Resampling.BILINEAR) for image in loaded]
    pixels = np.stack([np.asarray(image, np.float32) / 255 for image in grey])
    edges = (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1])
    inverted = (np.concatenate(edges, axis=1).mean(1) > 0.5) & may_invert
    pixels[inverted] = 1 - pixels[inverted]
    return torch.from_numpy(pixels).unsqueeze(1).to(device_of(model.module)), inverted.tolist()


def _logits(model: nn.Module, look: Look, data: Digits, split: str) -> np.ndarray:
    batches = (look(some) for some in _chunks(data.split[split]))
    return np.concatenate([model(batch.state, batch.split_index).cpu().numpy() for batch in batches])


def _sheet(data: Digits, logits: np.ndarray, targets: np.ndarray) -> Image.Image:
    """Lay out test images with their predictions, the most confident mistakes first."""
    odd = torch.from_numpy(logits).sigmoid().numpy()
    chosen = error_examples.surest(np.stack([1 - odd, odd], axis=1), targets, CLASSES)
    pixels = [data.images[data.split["test"][row]] for row, _ in chosen]
    return error_examples.image_sheet([Image.fromarray(each) for each in pixels], [caption for _, caption in chosen])


def _chunks(indices: np.ndarray) -> list[np.ndarray]:
    return np.array_split(indices, steps(len(indices), EVAL_BATCH))


def _score(logits: np.ndarray, data: Digits, split: str) -> dict[str, float]:
    from platform.evaluation import classification_metrics

    odd = data.labels[data.split[split]] % 2
    loss = float(F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(odd).float()))
    return {
        **classification_metrics.classification(odd, (logits > 0).astype(int), CLASSES, split, positive=1),
        f"{split}/loss": loss,
    }
