"""Image classification: a pretrained encoder of open_clip or torchvision with an MLP head on its pooled output.

python -m platform.tune classifier                                  # handwritten digits in photographs, embedded
python -m platform.tune classifier --data DIR --set backbone=ViT-B-32 --set weights=laion2b_s34b_b79k
python -m platform.tune classifier --data DIR --set backbone=resnet50 --set weights=DEFAULT
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from platform.data import augment, images
from platform.data.arrays import write_once
from platform.data.classification.arrays import ImageArrays, open_arrays, square, write
from platform.errors import Fault, InputError
from platform.evaluation import error_examples
from platform.evaluation.figures import captioned, confusion_matrix
from platform.models import encoders, heads, open_clip_models
from platform.models.stages import Stage, State, run_stages
from platform.storage import checkpoints
from platform.storage.hashing import file_state, key_of
from platform.task import Evaluation, Graph, only_source
from platform.training.devices import device, device_of
from platform.training.examples import Batch, Examples, Look, shuffled, steps, view_faults, whole

if TYPE_CHECKING:
    from platform.data.classification.dataset import ImageDataset
    from platform.space import Space

INPUT = "image"
REQUIREMENTS = ("open_clip_torch", "scikit-learn")
CLASS_WEIGHTS = ("none", "balanced")
EVAL_BATCH = 64
ENCODER = "encoder.safetensors"


class Network(nn.Module):
    """Image encoder with a classification head.

    It maps {"x": images (N, 3, S, S) in [0, 1]}, or the output of its first `split_index` stages, to logits.

    Attributes:
        max_split_index: Number of the encoder's stages, which can be run apart from the head.
    """

    def __init__(self, encoder: encoders.Encoder, config: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        self.encoder, self.max_split_index = encoder, len(encoder)
        self.head = heads.mlp(
            encoder.channels,
            classes,
            **{key: config[f"head_{key}"] for key in ("layers", "width", "dropout", "norm")},
        )

    def run(self, state: State, start: int, stop: int) -> dict[str, Tensor]:
        return {"x": run_stages(self.encoder, state["x"], start, stop)}

    def prefix_facts(self, split_index: int) -> dict[str, Any]:
        return {"encoder": self.encoder.config}

    def forward(self, state: State, split_index: int = 0) -> Tensor:
        return self.head(self.run(state, split_index, self.max_split_index)["x"])

    def stages(self) -> list[Stage]:
        """Return the stages from input to output."""
        return [*self.encoder.stages(prefix="encoder"), Stage("head", ("head",))]


@dataclass(frozen=True)
class Classifier:
    """Loaded classifier with its metadata."""

    module: Network
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Images(Examples):
    """Examples of the decoded images, augmented as a config says.

    Attributes:
        data: The decoded images.
        folder: Folder of the images, named after their content and their crop.
        where: Device of the trial.
        views: Number of views of an image while stages are frozen; 0 for no augmentation.
        strength: Strength of the augmentation, the space's `augment`.
        flip: True to mirror half of the images.
        draws: Random numbers for each view of each image.
        seed: Seed of the augmentation.
    """

    data: ImageArrays
    folder: Path
    where: torch.device
    views: int = 0
    strength: float = 0.0
    flip: bool = False
    seed: int = 0

    def indices(self, split: str) -> np.ndarray:
        return self.data.split[split]

    @functools.cached_property
    def draws(self) -> augment.ViewNumbers:
        return augment.ViewNumbers(len(self.data.labels), 8, self.seed)

    def inputs(self, indices: np.ndarray, view: int | None) -> dict[str, Tensor]:
        pixels = torch.from_numpy(self.data.images[indices]).to(self.where).float() / 255
        if view is None:
            return {"x": pixels}
        draws = self.draws(indices, view)
        pixels = augment.mirror(pixels, draws[:, 0]) if self.flip else pixels
        pixels = augment.affine(pixels, self.strength, draws[:, 1:5])
        return {"x": augment.colour(pixels, self.strength, draws[:, 5:8])}

    def labels(self, indices: np.ndarray) -> Tensor:
        """Return the class indices (n,), int64."""
        return torch.from_numpy(self.data.labels[indices]).to(self.where)

    def facts(self, view: int | None) -> dict[str, Any]:
        drawn = {} if view is None else {"view": view, "seed": self.seed, "augment": self.strength, "flip": self.flip}
        return {"images": f"{self.folder.parent.name}/{self.folder.name}", **drawn}


def depth(space: "Space") -> int:
    """Return the number of the encoder's stages, of several encoders the least."""
    return min(encoders.stage_count(name) for name in space.values("backbone"))


def read(sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> "ImageDataset":
    """Read labelled images in class folders or a CSV file, or the embedded digits in photographs."""
    # Imported here, as a model logged to MLflow predicts without the readers.
    from platform.data.classification import dataset as image_classes
    from platform.data.embedded import scenes

    return image_classes.read(only_source(sources) or scenes.write_objects(cache / f"objects-{seed}", seed=seed), seed)


def check(space: "Space", dataset: "ImageDataset") -> list[Fault]:
    """Check the choices and load each encoder of the space once."""
    faults = view_faults(space)
    for key, known in (("head_norm", heads.NORMS), ("class_weights", CLASS_WEIGHTS)):
        for value in space.values(key):
            if value not in known:
                faults.append(Fault(f"{key} must be one of {', '.join(known)}", repr(value), "Choose one of them."))
    for name, weights in _encoders_of(space):
        try:
            encoder = encoders.load(name, weights)
        except InputError as error:
            faults += error.faults
            continue
        for size in space.values("image_size"):
            if encoder.fixed_size and size not in (0, encoder.image_size):
                rule = f"{name} takes images of {encoder.image_size} pixels"
                faults.append(Fault(rule, f"image_size={size}", "Leave image_size at 0 for the encoder's own size."))
            elif size and not 32 <= size <= 4096:
                faults.append(Fault("image_size must be 0 or lie in 32..4096 pixels", str(size), "Try 224."))
    return list(dict.fromkeys(faults))


def prepare(space: "Space", dataset: "ImageDataset", cache: Path) -> Path:
    """Save each encoder apart from its model, and decode the images once for each size."""
    folder = cache / f"images-{dataset.fingerprint[:16]}"
    for name, weights in _encoders_of(space):
        encoder = encoders.load(name, weights)
        for size in space.values("image_size"):
            write(dataset, size or encoder.image_size, encoder.crop, _pixels_folder(folder, encoder, size))
        file, size_of_file = _encoder_file(folder, name, weights), 4 * sum(p.numel() for p in encoder.parameters())
        write_once(file.parent, functools.partial(_save_encoder, encoder), size_of_file)
    return folder


def train(config: dict[str, Any]) -> None:
    """Train a config: the Ray trainable function."""
    from platform.training.context import begin
    from platform.training.fit import fit
    from platform.training.freezing import Freezing
    from platform.training.optimization import Optimization

    context, config = begin(config)
    file = _encoder_file(Path(context.data), config["backbone"], config["weights"])
    scratch = config["weights"] == "none"  # drawn with the trial's seed, unlike those in the file
    encoder = encoders.build(encoders.read_config(file) or {}) if scratch else encoders.load_file(file)
    folder = _pixels_folder(Path(context.data), encoder, config["image_size"])
    changes = {"strength": config["augment"], "flip": config["flip"]}
    views = config["views"] if any(changes.values()) else 0
    examples = Images(open_arrays(folder), folder, device(), views, **changes, seed=context.seed)
    data, indices = examples.data, examples.indices("train")
    model = Network(encoder, config, len(data.classes))
    weight = class_weights(data.labels[indices], len(data.classes), config["class_weights"]).to(examples.where)

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits, labels = model(batch.state, batch.split_index), examples.labels(batch.indices)
        return {"loss": F.cross_entropy(logits, labels, weight, label_smoothing=config["label_smoothing"])}

    fit(
        model,
        model.stages(),
        examples=examples,
        loss=loss,
        batches=lambda generator: shuffled(indices, config["batch_size"], generator),
        steps_per_epoch=steps(len(indices), config["batch_size"]),
        evaluate=lambda model, look: _score(_logits(model, look, data, "val"), data, "val"),
        freezing=Freezing(config["freeze_depth"], config["unfreeze"], config["unfreeze_at"], config["batch_norm"]),
        optimization=Optimization.of(config),
        context=context,
        metadata={
            "task": "classifier",
            "classes": data.classes,
            "size": config["image_size"] or encoder.image_size,
            "encoder": encoder.config,
            "config": config,
        },
    )


def load(folder: Path) -> Classifier:
    """Load a saved classifier, on the GPU if there is one."""
    metadata = checkpoints.read_metadata(folder)
    module = Network(encoders.build(metadata["encoder"]), metadata["config"], len(metadata["classes"]))
    checkpoints.load_model(folder, module)
    return Classifier(module.to(device()).eval(), metadata)


@torch.inference_mode()
def test(model: Classifier, data: Path) -> Evaluation:
    """Evaluate a model on the test split: scores, report, confusion matrix and a sheet of images."""
    from platform.evaluation import classification_metrics

    folder = _pixels_folder(data, model.module.encoder, model.metadata["size"])
    examples = Images(open_arrays(folder), folder, device_of(model.module))
    arrays = examples.data
    logits = _logits(model.module, functools.partial(whole, examples), arrays, "test")
    metrics = _score(logits, arrays, "test")
    indices = arrays.split["test"]
    targets, predicted = arrays.labels[indices], logits.argmax(1)
    counts = classification_metrics.confusion(targets, predicted, arrays.classes)
    title = f"Test split: accuracy {metrics['test/accuracy']:.3f}"
    figures: dict[str, Any] = {
        "confusion_matrix.png": confusion_matrix(counts, arrays.classes, title),
        "test_images.png": _sheet(arrays, indices, logits),
    }
    return Evaluation(
        metrics,
        figures,
        {"classification_report.txt": classification_metrics.report(targets, predicted, arrays.classes)},
    )


def references(space: "Space", data: Path) -> dict[str, dict[str, float]]:
    """Return the zero-shot scores of the models that have a text tower."""
    from platform.evaluation import classification_metrics, zero_shot_baseline

    pretrained = [(name, weights) for name, weights in _encoders_of(space) if weights != "none"]
    found = {}
    for name, weights in pretrained:
        # CLIP needs images of its own size; the space may use another size for a backbone that takes any.
        pixels = _pixels_folder(data, encoders.load_file(_encoder_file(data, name, weights)), 0)
        if not pixels.exists():
            continue
        arrays = open_arrays(pixels)
        indices = arrays.split["test"]
        predicted = zero_shot_baseline.classify(name, weights, arrays.classes, arrays.images[indices])
        if predicted is not None:
            title = "zero-shot" if len(pretrained) == 1 else f"zero-shot {name} {weights}"
            found[title] = classification_metrics.classification(
                arrays.labels[indices], predicted, arrays.classes, "test"
            )
    return found


def write_weights(model: Classifier, data: Path, folder: Path) -> None:
    """Write the trained encoder for later studies: `--set backbone=… --set weights=encoder.safetensors`."""
    _save_encoder(model.module.encoder, folder)


@torch.inference_mode()
def predict(model: Classifier, inputs: Sequence[Image.Image]) -> Iterator[dict[str, Any]]:
    """Yield for each image {"class", "probability", "probabilities" by class}."""
    for first in range(0, len(inputs), EVAL_BATCH):
        pixels = _model_input(model, inputs[first : first + EVAL_BATCH])
        for shares in model.module({"x": pixels}).softmax(1).tolist():
            yield _named(model.metadata["classes"], shares)


def answer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example of a prediction."""
    return _named(metadata["classes"], [1 / len(metadata["classes"])] * len(metadata["classes"]))


def draw(image: Image.Image, prediction: Mapping[str, Any]) -> Image.Image:
    """Draw the class below the image."""
    return captioned(image, f"{prediction['class']} {prediction['probability']:.2f}")


def onnx(model: Classifier) -> Graph:
    """Export the whole model, from images to probabilities."""
    encoder, size = model.module.encoder, model.metadata["size"]
    return Graph(
        module=model.module,
        forward=lambda x: (model.module({"x": x}).softmax(1),),
        inputs={"images": {0: "batch"}},
        outputs={"probabilities": {0: "batch"}},
        tensors=lambda loaded: {"images": _model_input(model, loaded)},
        about={
            "classes": model.metadata["classes"],
            "images": f"(batch, 3, {size}, {size}) float32, RGB, 0 … 1",
            "preprocessing": "resize the shorter side, bicubic, antialiased; crop the middle to size; divide by 255",
            "resize": round(size / encoder.crop),
            "size": [size, size],
            "within the model": {"subtract the mean": encoder.mean, "divide by std": encoder.std},
        },
    )


def pretrained(config: Mapping[str, Any]) -> Classifier:
    """Build a classifier with a config's pretrained encoder and a random head."""
    encoder = encoders.load(config["backbone"], config["weights"])
    metadata = {"classes": ["none"], "size": config["image_size"] or encoder.image_size, "config": dict(config)}
    return Classifier(Network(encoder, config, 1).to(device()).eval(), metadata)


def stage_names(model: Classifier) -> list[str]:
    """Return the stages whose output can be an embedding."""
    return [stage.name for stage in model.module.encoder.stages()]


def labelled(dataset: "ImageDataset", split: str) -> tuple[list[Path], dict[str, list[str | None]]]:
    """Return the image files of a split with their classes."""
    examples = [example for example in dataset.examples if example.split == split]
    return [e.path for e in examples], {"class": [dataset.classes[e.label] for e in examples]}


@torch.inference_mode()
def embed(model: Classifier, inputs: Sequence[Path], stage: str) -> np.ndarray:
    """Return the pooled output of a stage for each image, (N, channels) float32."""
    vectors = []
    for first in range(0, len(inputs), EVAL_BATCH):
        pixels = _model_input(model, [images.load(path) for path in inputs[first : first + EVAL_BATCH]])
        vectors.append(model.module.encoder.pooled(pixels)[stage].cpu().numpy())
    return np.concatenate(vectors)


def class_weights(labels: np.ndarray, classes: int, kind: str) -> Tensor:
    """Return the weight of each class in the loss.

    With "none" all weights are 1, with "balanced" they make up for different numbers of images, with mean 1 an image.
    """
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return torch.tensor(len(labels) / (classes * counts) if kind == "balanced" else np.ones(classes)).float()


def _encoders_of(space: "Space") -> list[tuple[str, str]]:
    """Return backbone and weights of each encoder of a space."""
    return list(itertools.product(space.values("backbone"), space.values("weights")))


def _encoder_file(folder: Path, name: str, weights: str) -> Path:
    """Return the file of an encoder in the prepared data; its name depends on the state of the model's files."""
    own = [open_clip_models.folder_of(name)] if name.startswith(open_clip_models.FOLDER) else []
    files = [file_state(path) for path in (*own, Path(weights))]
    return folder / key_of({"name": name, "weights": weights, "files": files}) / ENCODER


def _pixels_folder(folder: Path, encoder: encoders.Encoder, size: int) -> Path:
    """Return the folder of the images as an encoder needs them; size 0 means the encoder's own size."""
    size = size or encoder.image_size
    return folder / f"{size}-of-{round(size / encoder.crop)}"


def _save_encoder(encoder: encoders.Encoder, folder: Path) -> None:
    encoders.save(encoder, folder / ENCODER)


def _named(classes: Sequence[str], shares: Sequence[float]) -> dict[str, Any]:
    """Return the most likely class and the probability of each class."""
    named = dict(zip(classes, [round(share, 4) for share in shares], strict=True))
    best = max(named, key=lambda name: named[name])
    return {"class": best, "probability": named[best], "probabilities": named}


def _model_input(model: Classifier, loaded: Sequence[Image.Image]) -> Tensor:
    """Convert images to the model's input (N, 3, S, S) in [0, 1]."""
    squares = [square(image, model.metadata["size"], model.module.encoder.crop) for image in loaded]
    return torch.from_numpy(np.stack(squares)).to(device_of(model.module)).float() / 255


def _logits(model: nn.Module, look: Look, data: ImageArrays, split: str) -> np.ndarray:
    """Return the logits (N, classes) of a split's images."""
    indices = data.split[split]
    batches = (look(part) for part in np.array_split(indices, steps(len(indices), EVAL_BATCH)))
    return np.concatenate([model(batch.state, batch.split_index).cpu().numpy() for batch in batches])


def _score(logits: np.ndarray, data: ImageArrays, split: str) -> dict[str, float]:
    from platform.evaluation import classification_metrics

    labels = data.labels[data.split[split]]
    loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    return {
        **classification_metrics.classification(labels, logits.argmax(1), data.classes, split),
        f"{split}/loss": loss,
    }


def _sheet(data: ImageArrays, indices: np.ndarray, logits: np.ndarray) -> Image.Image:
    """Lay out test images with their predictions, the most confident mistakes first."""
    shares = torch.from_numpy(logits).softmax(1).numpy()
    chosen = error_examples.surest(shares, data.labels[indices], data.classes)
    pixels = [np.ascontiguousarray(data.images[indices[row]].transpose(1, 2, 0)) for row, _ in chosen]
    return error_examples.image_sheet([Image.fromarray(each) for each in pixels], [caption for _, caption in chosen])
