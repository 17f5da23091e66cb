"""Object detection: torchvision detectors on a pretrained backbone, scored by mean average precision.

python -m platform.tune detector                 # handwritten digits in photographs, embedded
python -m platform.tune detector --data DIR      # COCO, Pascal VOC, YOLO or CSV
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.ops import box_iou, nms
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import sanitize_bounding_boxes

from platform.data import images, long_tail
from platform.data.detection.arrays import DetectionArrays, input_size_of, open_arrays, write_arrays
from platform.errors import Fault, InputError
from platform.evaluation import detection_metrics, error_examples
from platform.evaluation.figures import captioned, draw_boxes, many_precision_recall, precision_recall, sheet
from platform.models import backbones, detectors
from platform.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from platform.storage import checkpoints
from platform.task import Evaluation, Graph, only_source
from platform.training.devices import device, device_of
from platform.training.examples import Batch, Examples, Look, shuffled, steps, view_faults, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from platform.data.detection.dataset import DetectionDataset
    from platform.space import Space

INPUT = "image"
REQUIREMENTS: tuple[str, ...] = ()
EVAL_BATCH = 16
SHOWN_SCORE = 0.3  # predictions with a lower score are neither drawn nor printed
SAME_OBJECT_IOU = 0.5  # predictions of any class that overlap by more are one object
LEAST_SIDE, LEAST_AREA = 2, 8  # pixels; smaller remains of an object at the edge of a view are dropped

Target = dict[str, Tensor]  # "boxes" (K, 4) and "labels" (K,) of an image


@dataclass(frozen=True)
class Detector:
    """Loaded detector with its metadata."""

    module: detectors.Detector
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Scenes(Examples):
    """Examples of images with boxes, augmented as a config says.

    Attributes:
        data: The decoded images.
        folder: Folder of the images, named after their content and size.
        where: Device of the trial.
        views: Number of views of an image while stages are frozen; 0 for no augmentation.
        strength: Strength of the augmentation, the space's `augment`.
        flip: True to mirror half of the images.
        seed: Seed of the augmentation.
    """

    data: DetectionArrays
    folder: Path
    where: torch.device
    views: int = 0
    strength: float = 0.0
    flip: bool = False
    seed: int = 0

    def indices(self, split: str) -> np.ndarray:
        return self.data.split[split]

    @functools.cached_property
    def change(self) -> v2.Transform:
        return _augmentation(self.strength, self.flip)

    def inputs(self, indices: np.ndarray, view: int | None) -> dict[str, Tensor]:
        """Return images (n, 3, H, W) in [0, 1]."""
        if view is None:
            return {"images": torch.from_numpy(self.data.images[indices]).to(self.where).float() / 255}
        changed = [self._augmented(number, view, with_image=True)["image"] for number in indices]
        return {"images": torch.stack(changed).to(self.where).float() / 255}

    def targets(self, indices: np.ndarray, view: int | None) -> list[Target]:
        """Return the boxes as they lie in a view."""
        targets = [
            self.data.target(number) if view is None else self._augmented(number, view, with_image=False)
            for number in indices
        ]
        return [{key: target[key].to(self.where) for key in ("boxes", "labels")} for target in targets]

    def facts(self, view: int | None) -> dict[str, Any]:
        drawn = {} if view is None else {"view": view, "seed": self.seed, "augment": self.strength, "flip": self.flip}
        return {"images": f"{self.folder.parent.name}/{self.folder.name}", **drawn}

    def _augmented(self, number: int, view: int, with_image: bool) -> dict[str, Tensor]:
        """Return a view of an image and its boxes; the boxes are the same with and without the image."""
        target = self.data.target(number)
        sample = {"boxes": tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=self.data.input_size)}  # type: ignore[call-overload]
        if with_image:
            sample["image"] = tv_tensors.Image(self.data.image(number))
        with torch.random.fork_rng(devices=[]):
            # torchvision's transforms draw from torch's generator, so it is seeded by example and view.
            # torch.manual_seed would also seed the generators of a GPU, from which dropout draws.
            torch.default_generator.manual_seed(int(np.random.default_rng((self.seed, view, number)).integers(2**63)))
            sample = self.change(sample)
        boxes, stays = sanitize_bounding_boxes(sample["boxes"], min_size=LEAST_SIDE, min_area=LEAST_AREA)
        changed = {"boxes": boxes.as_subclass(Tensor), "labels": target["labels"][stays]}
        return {**changed, "image": sample["image"].as_subclass(Tensor)} if with_image else changed


def depth(space: "Space") -> int:
    """Return the number of the backbone's stages, the same for every backbone."""
    return len(backbones.STAGES)


def read(sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> "DetectionDataset":
    """Read the data set in a folder, or the embedded scenes of handwritten digits."""
    # Imported here, as a model logged to MLflow predicts without the readers.
    from platform.data.detection import dataset as detection
    from platform.data.embedded import scenes

    dataset = detection.read(only_source(sources) or scenes.write(cache / f"scenes-{seed}", seed=seed), seed)
    counts = long_tail.counts(example.labels for example in dataset.examples if example.split == "train")
    advice = long_tail.advice([counts[label] for label in range(len(dataset.classes))])
    if not advice or any(space.values("oversample")):
        return dataset
    found = dataclasses.replace(dataset.found, warnings=(*dataset.found.warnings, advice))
    return dataclasses.replace(dataset, found=found)


def check(space: "Space", dataset: "DetectionDataset | None") -> list[Fault]:
    """Check the choices and load each backbone of the space once."""
    faults = []
    known = {"architecture": detectors.ARCHITECTURES, "backbone": backbones.NAMES}
    for key, names in known.items():
        for value in space.values(key):
            if value not in names:
                faults.append(Fault(f"{key} must be one of {', '.join(names)}", repr(value), "Choose one of them."))
    for size in space.values("image_size"):
        if not 32 <= size <= 4096:
            faults.append(Fault("image_size must lie in 32..4096 pixels", str(size), "Try 320."))
    for channels in space.values("channels"):
        if channels < 32 or channels % 32:
            faults.append(Fault("channels must be a multiple of 32 (group norm)", str(channels), "Try 64 or 128."))
    for share in space.values("oversample"):
        if isinstance(share, int | float) and not 0 <= share < 1:  # otherwise a range
            rule, remedy = "oversample is a share of the training images, 0 (off) or more and below 1", "Try 0.01."
            faults.append(Fault(rule, str(share), remedy))
    faults += view_faults(space)
    if not faults:
        for backbone in space.values("backbone"):
            for weights in space.values("weights"):
                try:
                    backbones.load(backbone, weights)
                except InputError as error:
                    faults += error.faults
    return faults


def prepare(space: "Space", dataset: "DetectionDataset", cache: Path) -> Path:
    """Decode the images once for each size of the space."""
    folder = cache / f"detection-{dataset.fingerprint[:16]}"
    for size in space.values("image_size"):
        write_arrays(dataset, size, folder / str(size))
    return folder


def train(config: dict[str, Any]) -> None:
    """Train a config: the Ray trainable function."""
    from platform.training.context import begin
    from platform.training.fit import fit
    from platform.training.freezing import Freezing
    from platform.training.optimization import Optimization

    context, config = begin(config)
    folder = Path(context.data) / str(config["image_size"])
    changes = {"strength": config["augment"], "flip": config["flip"]}
    views = config["views"] if any(changes.values()) else 0
    examples = Scenes(open_arrays(folder), folder, device(), views, **changes, seed=context.seed)
    data, indices = examples.data, examples.indices("train")
    metadata = {"task": "detector", "classes": data.classes, "input_size": data.input_size, "config": config}
    factors = long_tail.repeat_factors(data.training_labels, config["oversample"])
    model = _build(metadata, config["weights"])

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        targets = examples.targets(batch.indices, batch.view)
        for name, value in model(batch.state, targets, batch.split_index).items():
            part = detectors.LOSS_PARTS[name]
            parts[part] = parts[part] + value if part in parts else value
        total = torch.stack([config[f"weight_{part}"] * value for part, value in parts.items()]).sum()
        return {"loss": total, **parts}

    fit(
        model,
        detectors.stages(),
        examples=examples,
        loss=loss,
        batches=lambda generator: shuffled(indices, config["batch_size"], generator, factors),
        steps_per_epoch=steps(len(indices), config["batch_size"]),
        evaluate=lambda model, look: _validate(model, look, data),
        freezing=Freezing(config["freeze_depth"], config["unfreeze"], config["unfreeze_at"], config["batch_norm"]),
        optimization=Optimization.of(config),
        context=context,
        metadata=metadata,
    )


def load(folder: Path) -> Detector:
    """Load a saved detector, on the GPU if there is one."""
    metadata = checkpoints.read_metadata(folder)
    if "canvas" in metadata:  # the former name
        metadata["input_size"] = metadata.pop("canvas")
    module = _build(metadata, "none")
    checkpoints.load_model(folder, module)
    return Detector(module.to(device()).eval(), metadata)


@torch.inference_mode()
def test(model: Detector, data: Path) -> Evaluation:
    """Evaluate a model on the test split: average precision, curves, and sheets of the first and the worst images."""
    folder = data / str(model.metadata["config"]["image_size"])
    examples = Scenes(open_arrays(folder), folder, device_of(model.module))
    arrays = examples.data
    detections = _detect(model.module, functools.partial(whole, examples), arrays, "test")
    precision = _precision(detections, arrays, "test")
    metrics = detection_metrics.scores(precision, arrays.classes, arrays.training_images, "test", each=True)
    title = f"Test split at IoU 0.5: mAP@50 {metrics['test/map_50']:.3f}"
    indices, visible = arrays.split["test"], [_visible(each) for each in detections]
    mistakes = [
        error_examples.boxes(found, arrays.target(number)) for number, found in zip(indices, visible, strict=True)
    ]
    worst = sorted(range(len(indices)), key=lambda row: sum(map(len, mistakes[row])), reverse=True)
    drawn = [_draw_test(arrays, indices[row], visible[row]) for row in range(len(indices))[: error_examples.MOST]]
    marked = [
        _draw_mistakes(arrays, indices[row], visible[row], *mistakes[row]) for row in worst[: error_examples.MOST]
    ]
    figures: dict[str, Figure | Image.Image] = {
        "precision_recall.png": _draw_curves(precision, arrays, title),
        "test_images.png": sheet(drawn, columns=4),
        "worst_images.png": sheet(marked, columns=4),
    }
    return Evaluation(metrics, figures, {"classes.csv": _class_table(precision, arrays)})


def references(space: "Space", data: Path) -> dict[str, dict[str, float]]:
    """Return nothing, as no model finds these classes without training."""
    return {}


def write_weights(model: Detector, data: Path, folder: Path) -> None:
    """Write the backbone with torchvision's names for later studies: `--set weights=backbone.safetensors`."""
    state = model.module.trunk.body.torchvision_state()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "backbone.safetensors")


@torch.inference_mode()
def predict(model: Detector, inputs: Sequence[Image.Image]) -> Iterator[dict[str, Any]]:
    """Yield for each image {"detections": [{"class", "score", "box": [x1, y1, x2, y2] in pixels}]}, best first."""
    for first in range(0, len(inputs), EVAL_BATCH):
        some = inputs[first : first + EVAL_BATCH]
        pixels, scales = _model_input(model, some)
        for image, scale, found in zip(some, scales, model.module({"images": pixels}), strict=True):
            yield {"detections": _plain_detections(_visible(found), model.metadata["classes"], image.size, scale)}


def answer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example of a prediction."""
    return {"detections": [{"class": metadata["classes"][0], "score": 0.5, "box": [0.0, 0.0, 1.0, 1.0]}]}


def draw(image: Image.Image, prediction: Mapping[str, Any]) -> Image.Image:
    """Draw the boxes on the image."""
    found = prediction["detections"]
    names = sorted({detection["class"] for detection in found})
    return draw_boxes(
        image,
        [detection["box"] for detection in found],
        [detection["class"] for detection in found],
        [names.index(detection["class"]) for detection in found],
        [detection["score"] for detection in found],
    )


def pretrained(config: Mapping[str, Any]) -> Detector:
    """Build a detector for square images with a config's pretrained backbone and random neck and heads."""
    side = config["image_size"]
    metadata = {"classes": ["none"], "input_size": input_size_of([(side, side)], side), "config": dict(config)}
    return Detector(_build(metadata, config["weights"]).to(device()).eval(), metadata)


def stage_names(model: Detector) -> list[str]:
    """Return the stages whose output can be an embedding, those of the backbone."""
    return list(backbones.STAGES)


def labelled(dataset: "DetectionDataset", split: str) -> tuple[list[Path], dict[str, list[str | None]]]:
    """Return the image files of a split with the most frequent class of each, None for an image without boxes."""
    examples = [example for example in dataset.examples if example.split == split]
    most = [Counter(example.labels).most_common(1) for example in examples]
    return [e.path for e in examples], {"class": [dataset.classes[m[0][0]] if m else None for m in most]}


@torch.inference_mode()
def embed(model: Detector, inputs: Sequence[Path], stage: str) -> np.ndarray:
    """Return the output of a stage for each image, averaged over the image, (N, channels) float32."""
    vectors = []
    for first in range(0, len(inputs), EVAL_BATCH):
        loaded = [images.load(path) for path in inputs[first : first + EVAL_BATCH]]
        fitted = [images.letterbox(picture, *model.metadata["input_size"]) for picture in loaded]
        pixels = torch.from_numpy(np.stack([array for array, _ in fitted])).to(device_of(model.module)).float() / 255
        maps = model.module.run({"images": pixels}, 0, backbones.STAGES.index(stage) + 1)[stage]
        # The black padding is left out: otherwise images of one shape would lie close together.
        for one, picture, (_, scale) in zip(maps, loaded, fitted, strict=True):
            sides = zip(one.shape[1:], (picture.height, picture.width), model.metadata["input_size"], strict=True)
            height, width = (max(1, math.ceil(cells * side * scale / input_size)) for cells, side, input_size in sides)
            vectors.append(one[:, :height, :width].mean((1, 2)).cpu().numpy())
    return np.stack(vectors)


def onnx(model: Detector) -> Graph:
    """Export the whole model for one image at a time, to boxes, labels and scores as `predict` gives them."""
    height, width = model.metadata["input_size"]

    def forward(pixels: Tensor) -> tuple[Tensor, ...]:
        [found] = model.module({"images": pixels})
        shown = _visible(found)
        return shown["boxes"], shown["labels"], shown["scores"]

    return Graph(
        module=model.module,
        forward=forward,
        inputs={"images": {}},
        outputs={key: {0: "found"} for key in ("boxes", "labels", "scores")},
        tensors=lambda loaded: {"images": _model_input(model, loaded)[0]},
        about={
            "classes": model.metadata["classes"],
            "images": f"(1, 3, {height}, {width}) float32, RGB, 0 … 1",
            "preprocessing": "scale until it fits into size, bilinear, antialiased; fill up to the right or below with "
            "black; divide by 255",
            "size": [height, width],
            "within the model": {"subtract the mean": IMAGENET_MEAN, "divide by std": IMAGENET_STD},
            "boxes": "(found, 4), x1 y1 x2 y2 in pixels of the input size: divide by the scale",
            "labels": "(found,), from 1: classes[label - 1]",
            "scores": f"(found,), from {SHOWN_SCORE} on, the surest first; overlapping boxes are one",
        },
        traced=True,
    )


def _build(metadata: Mapping[str, Any], weights: str) -> detectors.Detector:
    config = metadata["config"]
    body = backbones.load(config["backbone"], weights)
    input_size = (metadata["input_size"][0], metadata["input_size"][1])
    return detectors.build(config["architecture"], body, len(metadata["classes"]), input_size, config["channels"])


def _augmentation(strength: float, flip: bool) -> v2.Transform:
    """Return a random change of colour, scale and place; at strength 0 only the flip, if any."""
    changes: list[nn.Module] = [v2.RandomHorizontalFlip(0.5)] if flip else []
    if strength > 0:
        s = 0.4 * strength
        shift, scale = 0.2 * strength, (1 - 0.3 * strength, 1 + 0.3 * strength)
        changes.append(v2.ColorJitter(brightness=s, contrast=s, saturation=s, hue=0.1 * s))
        changes.append(v2.RandomAffine(degrees=0, translate=(shift, shift), scale=scale))
        changes.append(v2.ClampBoundingBoxes())
    return v2.Compose(changes or [v2.Identity()])


def _detect(model: nn.Module, look: Look, data: DetectionArrays, split: str) -> list[dict[str, Tensor]]:
    """Return the detections on each image of a split, in pixels of the input size."""
    indices, found = data.split[split], []
    for first in range(0, len(indices), EVAL_BATCH):
        batch = look(indices[first : first + EVAL_BATCH])
        detections = model(batch.state, None, batch.split_index)
        found += [{key: value.cpu() for key, value in detection.items()} for detection in detections]
    return found


def _precision(detections: list[dict[str, Tensor]], data: DetectionArrays, split: str) -> np.ndarray:
    """Return the precision by IoU, recall and class, see `platform.evaluation.detection_metrics`."""
    targets = [data.target(number) for number in data.split[split]]
    return detection_metrics.evaluate(detections, targets, len(data.classes))


def _validate(model: nn.Module, look: Look, data: DetectionArrays) -> dict[str, float]:
    """Return the scores of an epoch, with those of single classes only if there are few classes."""
    precision = _precision(_detect(model, look, data, "val"), data, "val")
    each = len(data.classes) <= detection_metrics.MANY
    return detection_metrics.scores(precision, data.classes, data.training_images, "val", each)


def _class_table(precision: np.ndarray, data: DetectionArrays) -> str:
    """Return the scores on the test split by class as CSV."""
    labels = np.concatenate([data.target(number)["labels"] for number in data.split["test"]])
    boxes = np.bincount(labels, minlength=len(data.classes) + 1)[1:].tolist()
    return detection_metrics.table(precision, data.classes, data.training_images, boxes)


def _draw_curves(precision: np.ndarray, data: DetectionArrays, title: str) -> "Figure":
    """Draw precision against recall at IoU 0.5; of many classes only groups, the best and the weakest."""
    curves = {name: precision[0, :, k] for k, name in enumerate(data.classes) if not np.isnan(precision[0, 0, k])}
    if len(curves) <= detection_metrics.MANY:
        return precision_recall(curves, title)
    images = dict(zip(data.classes, data.training_images, strict=True))
    groups = {group: [name for name in curves if long_tail.group_of(images[name]) == group]
              for group in long_tail.GROUPS}  # fmt: skip
    often = sorted(curves, key=lambda name: -images[name])  # of equally weak classes the most frequent are drawn
    return many_precision_recall({name: curves[name] for name in often}, groups, title)


def _draw_test(data: DetectionArrays, number: int, shown: Mapping[str, Tensor]) -> Image.Image:
    """Draw the visible detections on a test image of twice the size."""
    labels = shown["labels"].tolist()
    names = [data.classes[label - 1] for label in labels]
    return draw_boxes(_enlarged(data, number), (shown["boxes"] * 2).tolist(), names, labels, shown["scores"].tolist())


def _draw_mistakes(
    data: DetectionArrays, number: int, shown: Mapping[str, Tensor], missed: Sequence[int], wrong: Sequence[int]
) -> Image.Image:
    """Draw missed boxes and wrong detections on a test image of twice the size.

    A wrong detection over a missed box is drawn as one mistake, "4, not 6", as two plates would hide each other.
    """
    target = data.target(number)
    missed_boxes, wrong_boxes = target["boxes"][list(missed)], shown["boxes"][list(wrong)]
    lost, given = ([data.classes[n - 1] for n in each.tolist()]
                  for each in (target["labels"][list(missed)], shown["labels"][list(wrong)]))  # fmt: skip
    over = box_iou(wrong_boxes, missed_boxes) >= error_examples.FOUND_IOU
    names = [f"{name}, not {lost[int(row.int().argmax())]}" if row.any() else f"wrong: {name}"
             for name, row in zip(given, over, strict=True)]  # fmt: skip
    alone = [k for k in range(len(lost)) if not over[:, k].any()]
    boxes = torch.cat([wrong_boxes, missed_boxes[alone]])
    names += [f"missed: {lost[k]}" for k in alone]
    colours = [5] * len(wrong) + [1] * len(alone)
    image = draw_boxes(_enlarged(data, number), (boxes * 2).tolist(), names, colours)
    return captioned(image, f"{len(missed)} missed, {len(wrong)} wrong")


def _enlarged(data: DetectionArrays, number: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(data.images[number].transpose(1, 2, 0)))
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)


def _model_input(model: Detector, loaded: Sequence[Image.Image]) -> tuple[Tensor, list[float]]:
    """Convert images to the model's input (N, 3, H, W) in [0, 1]; return it and the scale of each image."""
    fitted = [images.letterbox(image, *model.metadata["input_size"]) for image in loaded]
    pixels = torch.from_numpy(np.stack([array for array, _ in fitted]))
    return pixels.to(device_of(model.module)).float() / 255, [scale for _, scale in fitted]


def _plain_detections(
    found: Mapping[str, Tensor], classes: Sequence[str], size: tuple[int, int], scale: float
) -> list[dict[str, Any]]:
    """Convert detections to plain values, with boxes in the pixels of an image of (width, height)."""
    detections = []
    for box, label, score in zip(*(found[key].tolist() for key in ("boxes", "labels", "scores")), strict=True):
        sides = [round(min(max(side / scale, 0.0), limit), 1) for side, limit in zip(box, size * 2, strict=True)]
        detections.append({"class": classes[label - 1], "score": round(score, 4), "box": sides})
    return detections


def _visible(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the detections for people: scores from SHOWN_SCORE on, and only the most likely class of an object.

    Average precision needs all detections: an object may be found as a 3 and, with a lower score, as an 8.
    """
    likely = found["scores"] >= SHOWN_SCORE
    boxes, scores, labels = (found[key][likely] for key in ("boxes", "scores", "labels"))
    kept = nms(boxes, scores, SAME_OBJECT_IOU)
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
