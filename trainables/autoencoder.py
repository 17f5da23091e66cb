"""Does unsupervised pretraining pay? An autoencoder on digits, then a head on its encoder: even or odd?

python -m platform.tune autoencoder                  # scikit-learn's digits, embedded
python -m platform.tune autoencoder --data DIR       # MNIST's idx files
"""

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

from platform import augment, checkpoints, pictures
from platform.autoencoders import STAGES, Autoencoder, BinaryClassifier, load_encoder, save_encoder
from platform.data import images
from platform.devices import device, device_of
from platform.errors import Fault, InputError
from platform.task import Evaluation, only_source

if TYPE_CHECKING:
    from platform.data.digits import DigitDataset
    from platform.fit import Context
    from platform.reporters import ToFolder
    from platform.space import Space

INPUT = "image"
REQUIREMENTS = ("scikit-learn",)
CLASSES = ("even", "odd")
EVAL_BATCH = 512
PRETRAIN_BATCH = 64
SHOWN_IMAGES = 16
ENCODER, RECONSTRUCTIONS, CURVES = "encoder.safetensors", "reconstructions.png", "pretraining_curves.png"


@dataclass(frozen=True)
class EvenOdd:
    """A saved classifier, loaded."""

    module: BinaryClassifier
    card: dict[str, Any]


@dataclass(frozen=True)
class Arrays:
    """The prepared data.

    Attributes:
        images: (N, H, W) uint8, memory-mapped.
        labels: (N,) int64, the digits.
        split: The numbers of the images in each split.
    """

    images: np.ndarray
    labels: np.ndarray
    split: dict[str, np.ndarray]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def batch(self, numbers: np.ndarray, where: torch.device) -> tuple[Tensor, Tensor]:
        """Images (N, 1, H, W) in [0, 1], and 1.0 for each odd digit, (N,)."""
        pixels = torch.from_numpy(self.images[numbers]).unsqueeze(1)
        odd = torch.from_numpy(self.labels[numbers] % 2).float()
        return pixels.to(where).float() / 255, odd.to(where)


def depth(space: "Space") -> int:
    """The encoder's stages."""
    return len(STAGES)


def read(sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> "DigitDataset":
    """The digits in a folder of idx files; without one, scikit-learn's."""
    from platform.data import digits

    return digits.read(only_source(sources), cache, seed)


def check(space: "Space", dataset: "DigitDataset") -> list[Fault]:
    """Sizes and shares in their ranges, and weights that fit each encoder that the space can ask for."""
    faults = []
    ranges = {"bottleneck": (1, 4096), "width": (1, 512), "patience": (1, 10_000), "pretrain_epochs": (0, 10_000)}
    for key, (least, most) in ranges.items():
        for value in space.values(key):
            if not least <= value <= most:
                faults.append(Fault(f"{key} must lie in {least}..{most}", str(value), f"Try --set {key}={least + 9}."))
    for share in space.values("label_fraction"):
        if not 0 < share <= 1:
            faults.append(Fault("label_fraction must lie in (0, 1]", str(share), "1 uses all labels."))
    for weights in [value for value in space.values("weights") if value != "none" and not faults]:
        for width, bottleneck in itertools.product(space.values("width"), space.values("bottleneck")):
            try:
                _build(dataset.images.shape[1:], width, bottleneck, 0.0, weights)
            except InputError as error:
                faults += error.faults
    return faults


def prepare(space: "Space", dataset: "DigitDataset", cache: Path) -> Path:
    """Writes the arrays once for all trials."""
    from platform.data.arrays import write_once

    def fill(folder: Path) -> None:
        for name in ("images", "labels", "splits"):
            np.save(folder / f"{name}.npy", getattr(dataset, name))

    folder = cache / f"digits-{dataset.fingerprint[:16]}"
    write_once(folder, fill, dataset.images.nbytes)
    return folder


def train(config: dict[str, Any]) -> None:
    """The Ray trainable function: pretraining, unless another trial did the same, then even against odd."""
    from platform.fit import Context, Optimization, fit
    from platform.freezing import Freezing

    context = Context(**config["context"])
    point = {key: value for key, value in config.items() if key != "context"}
    data, where = _open(Path(context.data)), device()
    pretrained = _pretrain(point, data, context)
    torch.manual_seed(context.seed)
    model = _build(data.size, point["width"], point["bottleneck"], point["dropout"], point["weights"])
    if pretrained:
        load_encoder(model.encoder, pretrained / ENCODER)
    labelled = first_labelled(data.labels, data.split["train"], point["label_fraction"], context.seed)
    numbers, batch_size = len(data.split["train"]), point["batch_size"]

    def batches(epoch: int, generator: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        # As many steps whatever the labels: few of them are seen more often, not trained on for less time.
        repeats = -(-numbers // len(labelled))
        order = np.concatenate([generator.permutation(labelled) for _ in range(repeats)])[:numbers]
        for batch in np.array_split(order, -(-numbers // batch_size)):
            pixels, odd = data.batch(batch, where)
            yield augment.affine(pixels, point["augment"]), odd

    fit(
        model,
        BinaryClassifier.stages(),
        loss=lambda model, batch: {"loss": F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])},
        batches=batches,
        steps_per_epoch=-(-numbers // batch_size),
        evaluate=lambda model: _score(_logits(model, data, "val", where), data, "val"),
        freezing=Freezing(point["freeze_depth"], point["unfreeze"], point["thaw_at"]),
        optimization=Optimization.of(point),
        context=context,
        card={
            "task": "autoencoder",
            "classes": CLASSES,
            "size": data.size,
            "config": point,
            "pretrained": pretrained.name if pretrained else "",
        },
    )


def load(folder: Path) -> EvenOdd:
    """A saved classifier, on the GPU if there is one."""
    card = checkpoints.read_card(folder)
    point = card["config"]
    module = _build((card["size"][0], card["size"][1]), point["width"], point["bottleneck"], point["dropout"], "none")
    checkpoints.load_model(folder, module)
    return EvenOdd(module.to(device()).eval(), card)


@torch.inference_mode()
def test(model: EvenOdd, data: Path) -> Evaluation:
    """Accuracy, precision, recall and F1 of "odd" on the test split, with report and confusion matrix."""
    from platform import scores

    arrays = _open(data)
    logits = _logits(model.module, arrays, "test", device_of(model.module))
    metrics = _score(logits, arrays, "test")
    targets, predicted = arrays.labels[arrays.split["test"]] % 2, (logits > 0).astype(int)
    title = f"Test split: accuracy {metrics['test/accuracy']:.4f}"
    figures: dict[str, Any] = {
        "confusion_matrix.png": pictures.confusion_matrix(scores.confusion(targets, predicted, CLASSES), CLASSES, title)
    }
    if model.card["pretrained"]:
        folder = _folder_of(data, model.card["pretrained"])
        figures |= {name: Image.open(folder / name) for name in (RECONSTRUCTIONS, CURVES)}
    return Evaluation(metrics, figures, {"classification_report.txt": scores.report(targets, predicted, CLASSES)})


def references(space: "Space", data: Path) -> dict[str, dict[str, float]]:
    """What one gets for always answering with the commoner class."""
    arrays = _open(data)
    odd = {split: arrays.labels[arrays.split[split]] % 2 for split in ("train", "test")}
    commoner = round(odd["train"].mean())
    return {f"always {CLASSES[commoner]}": {"test/accuracy": float(np.mean(odd["test"] == commoner))}}


def export(model: EvenOdd, data: Path, folder: Path) -> None:
    """Writes the encoder as stage one left it, and as it is after stage two."""
    save_encoder(model.module.encoder, folder / "encoder_finetuned.safetensors")
    if model.card["pretrained"]:
        shutil.copy(_folder_of(data, model.card["pretrained"]) / ENCODER, folder / "encoder_pretrained.safetensors")


@torch.inference_mode()
def predict(model: EvenOdd, inputs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """For each image {"path", "class", "probability", "inverted"}: dark strokes on light are turned into what was seen
    in training, light on dark."""
    height, width = model.card["size"]
    where = device_of(model.module)
    for path in inputs:
        grey = images.load(path).convert("L").resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(grey, np.float32) / 255
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        inverted = bool(border.mean() > 0.5)
        seen = torch.from_numpy(1 - pixels if inverted else pixels)
        odd = float(model.module(seen[None, None].to(where)).sigmoid())
        answer = {"class": CLASSES[int(odd > 0.5)], "probability": round(max(odd, 1 - odd), 4), "inverted": inverted}
        yield {"path": str(path), **answer}


def draw(prediction: Mapping[str, Any]) -> Image.Image:
    """The image of a prediction, with its class."""
    text = f"{prediction['class']} {prediction['probability']:.2f}"
    return pictures.captioned(images.load(Path(prediction["path"])), text)


def first_labelled(labels: np.ndarray, numbers: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The images whose labels may be used: as many of each digit, and a smaller share within each larger one.

    Args:
        labels: (N,) of all images.
        numbers: Of the training images.
        fraction: In (0, 1]; at least one image of each digit is taken.
        seed: Of the choice.
    """
    shuffled = np.random.default_rng(seed).permutation(numbers)
    rank = np.zeros(len(shuffled), int)
    for digit in np.unique(labels):
        mine = labels[shuffled] == digit
        rank[mine] = np.arange(mine.sum())
    wanted = max(len(np.unique(labels)), round(fraction * len(numbers)))
    return shuffled[np.argsort(rank, kind="stable")][:wanted]


def _pretrain(point: Mapping[str, Any], data: Arrays, context: "Context") -> Path | None:
    """The folder of stage one for a configuration, trained now if no trial has done it; None if there is none."""
    from platform.keys import key_of
    from platform.pretraining import once

    if not point["pretrain_epochs"]:
        return None
    keys = ("bottleneck", "width", "dropout", "weights", "pretrain_epochs", "lr_pretrain", "patience")
    facts: dict[str, Any] = {key: point[key] for key in keys} | {"seed": context.seed, "torch": torch.__version__}
    facts["output"] = "linear"  # of the decoder
    if point["weights"] != "none":
        facts["weights"] = checkpoints.file_hash(Path(point["weights"]))
    folder = _folder_of(Path(context.data), key_of(facts))
    once(folder, lambda reporter: _train_autoencoder(dict(point), data, context, reporter))
    return folder


def _train_autoencoder(point: dict[str, Any], data: Arrays, context: "Context", reporter: "ToFolder") -> None:
    from platform.fit import Optimization, fit
    from platform.freezing import Freezing

    where, numbers = device(), data.split["train"]
    torch.manual_seed(context.seed)
    model = Autoencoder(data.size, point["width"], point["bottleneck"], point["dropout"])
    if point["weights"] != "none":
        load_encoder(model.encoder, Path(point["weights"]))
    steps = -(-len(numbers) // PRETRAIN_BATCH)

    def batches(epoch: int, generator: np.random.Generator) -> Iterator[Tensor]:
        for batch in np.array_split(generator.permutation(numbers), steps):
            yield data.batch(batch, where)[0]

    def error(model: nn.Module) -> dict[str, float]:
        parts = [data.batch(some, where)[0] for some in _chunks(data.split["val"])]
        total = sum(float(F.mse_loss(model(part), part, reduction="sum")) for part in parts)
        return {"val/loss": total / sum(part.numel() for part in parts)}

    fit(
        model,
        Autoencoder.stages(),
        loss=lambda model, batch: {"loss": F.mse_loss(model(batch), batch)},
        batches=batches,
        steps_per_epoch=steps,
        evaluate=error,
        freezing=Freezing(0),
        optimization=Optimization(point["lr_pretrain"], backbone_ratio=1.0, schedule="constant", warmup=0.02),
        context=replace(context, epochs=point["pretrain_epochs"], metric="val/loss", mode="min"),
        card={"task": "autoencoder", "config": point, "context": asdict(context)},
        patience=point["patience"],
        reporter=reporter,
    )
    model.load_state_dict(load_file(reporter.folder / "best" / checkpoints.MODEL))
    save_encoder(model.encoder, reporter.folder / ENCODER)
    with torch.inference_mode():
        shown = data.batch(data.split["val"][:SHOWN_IMAGES], where)[0]
        pairs = torch.stack([shown, model.eval()(shown)]).cpu().clamp(0, 1).mul(255).round().byte().numpy()
    strips = [
        Image.fromarray(np.concatenate([np.pad(one[0], ((0, 0), (1, 1))) for one in row], axis=1)) for row in pairs
    ]
    pictures.rows(strips, ("validation", "rebuilt")).save(reporter.folder / RECONSTRUCTIONS)
    pictures.learning_curves(reporter.history(), "val/loss").savefig(reporter.folder / CURVES, dpi=144)


def _folder_of(data: Path, key: str) -> Path:
    return data.parent / f"{data.name}-pretrained" / key


def _open(folder: Path) -> Arrays:
    from platform.data.arrays import numbers_by_split

    splits = numbers_by_split(np.load(folder / "splits.npy"))
    return Arrays(np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy"), splits)


def _build(size: tuple[int, int], width: int, bottleneck: int, dropout: float, weights: str) -> BinaryClassifier:
    model = BinaryClassifier(size, width, bottleneck, dropout)
    if weights != "none":
        load_encoder(model.encoder, Path(weights))
    return model


def _logits(model: nn.Module, data: Arrays, split: str, where: torch.device) -> np.ndarray:
    return np.concatenate([model(data.batch(some, where)[0]).cpu().numpy() for some in _chunks(data.split[split])])


def _chunks(numbers: np.ndarray) -> list[np.ndarray]:
    return np.array_split(numbers, -(-len(numbers) // EVAL_BATCH))


def _score(logits: np.ndarray, data: Arrays, split: str) -> dict[str, float]:
    from platform import scores

    odd = data.labels[data.split[split]] % 2
    loss = float(F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(odd).float()))
    return {**scores.classification(odd, (logits > 0).astype(int), CLASSES, split, positive=1), f"{split}/loss": loss}
