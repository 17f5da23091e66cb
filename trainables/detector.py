"""Object detection: torchvision detectors on a pretrained backbone, scored by mean average precision.

python -m platform.tune detector                 # handwritten digits in photographs, embedded
python -m platform.tune detector --data DIR      # COCO, Pascal VOC or YOLO
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.ops import nms
from torchvision.transforms import v2

from platform import backbones, checkpoints, detectors, pictures
from platform.data import images
from platform.data.detection_arrays import DetectionArrays, open_arrays, write_arrays
from platform.devices import device, device_of
from platform.errors import Fault, InputError
from platform.task import Evaluation, only_source

if TYPE_CHECKING:
    from platform.data.detection import DetectionDataset
    from platform.space import Space

INPUT = "image"
REQUIREMENTS: tuple[str, ...] = ()
EVAL_BATCH = 16
SHOWN_SCORE = 0.3  # predictions below it are not drawn nor printed
SAME_OBJECT_IOU = 0.5  # boxes of any class that overlap by more are one object there
SHEET_IMAGES = 12

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


@dataclass(frozen=True)
class Detector:
    """A saved detector, loaded."""

    module: nn.Module
    card: dict[str, Any]


def depth(space: "Space") -> int:
    """Every backbone is cut into the same stages."""
    return len(backbones.STAGES)


def read(sources: Sequence[Path], cache: Path, seed: int, space: "Space") -> "DetectionDataset":
    """The data set in a folder; without one, scenes of handwritten digits."""
    # Here and not above: a model logged to MLflow predicts without the readers and what they need.
    from platform.data import detection, scenes

    return detection.read(only_source(sources) or scenes.write(cache / f"scenes-{seed}", seed=seed), seed)


def check(space: "Space", dataset: "DetectionDataset") -> list[Fault]:
    """Builds each model that the space can ask for, once."""
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
    if not faults:
        for backbone in space.values("backbone"):
            for weights in space.values("weights"):
                try:
                    backbones.load(backbone, weights)
                except InputError as error:
                    faults += error.faults
    return faults


def prepare(space: "Space", dataset: "DetectionDataset", cache: Path) -> Path:
    """Decodes the images once for each size that the space can ask for."""
    folder = cache / f"detection-{dataset.fingerprint[:16]}"
    for size in space.values("image_size"):
        write_arrays(dataset, size, folder / str(size))
    return folder


def train(config: dict[str, Any]) -> None:
    """The Ray trainable function."""
    from platform.fit import Context, Optimization, fit
    from platform.freezing import Freezing

    context = Context(**config["context"])
    point = {key: value for key, value in config.items() if key != "context"}
    torch.manual_seed(context.seed)
    data = open_arrays(Path(context.data) / str(point["image_size"]))
    card = {"task": "detector", "classes": data.classes, "canvas": data.canvas, "config": point}
    model = _build(card, point["weights"])
    numbers, batch_size = data.split["train"], point["batch_size"]
    augment = _augmentation(point["augment"], point["flip"])
    where = device()

    def batches(epoch: int, generator: np.random.Generator) -> Iterator[Batch]:
        order = generator.permutation(numbers)
        # Of nearly equal size: a short last batch would weigh more in its step, and BatchNorm cannot take a single one.
        for batch in np.array_split(order, -(-len(order) // batch_size)):
            yield _collate([augment(*data.example(n)) for n in batch], where)

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        for name, value in model(*batch).items():
            part = detectors.LOSS_PARTS[name]
            parts[part] = parts[part] + value if part in parts else value
        total = torch.stack([point[f"weight_{part}"] * value for part, value in parts.items()]).sum()
        return {"loss": total, **parts}

    fit(
        model,
        detectors.stages(),
        loss=loss,
        batches=batches,
        steps_per_epoch=-(-len(numbers) // batch_size),
        evaluate=lambda model: _score(_detect(model, data, "val", where), data, "val"),
        freezing=Freezing(point["freeze_depth"], point["unfreeze"], point["thaw_at"], point["batch_norm"]),
        optimization=Optimization.of(point),
        context=context,
        card=card,
    )


def load(folder: Path) -> Detector:
    """A saved detector, on the GPU if there is one."""
    card = checkpoints.read_card(folder)
    module = _build(card, "none")
    checkpoints.load_model(folder, module)
    return Detector(module.to(device()).eval(), card)


@torch.inference_mode()
def test(model: Detector, data: Path) -> Evaluation:
    """Mean average precision on the test split, its precision-recall curve, and a sheet of test images."""
    arrays = open_arrays(data / str(model.card["config"]["image_size"]))
    detections = _detect(model.module, arrays, "test", device_of(model.module))
    precision: dict[str, np.ndarray] = {}
    metrics = _score(detections, arrays, "test", precision)
    title = f"Test split at IoU 0.5: mAP@50 {metrics['test/map_50']:.3f}"
    numbers = arrays.split["test"][:SHEET_IMAGES]
    drawn = [_draw_test(arrays, n, d) for n, d in zip(numbers, detections[:SHEET_IMAGES], strict=True)]
    figures: dict[str, Figure | Image.Image] = {
        "precision_recall.png": pictures.precision_recall(precision, title),
        "test_images.png": pictures.sheet(drawn, columns=4),
    }
    return Evaluation(metrics, figures)


def references(space: "Space", data: Path) -> dict[str, dict[str, float]]:
    """Nothing finds these classes without training."""
    return {}


def export(model: Detector, data: Path, folder: Path) -> None:
    """Writes the backbone as torchvision names its tensors: `--set weights=backbone.safetensors`."""
    state = model.module.backbone.body.torchvision_state()  # type: ignore[union-attr,operator]
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "backbone.safetensors")


@torch.inference_mode()
def predict(model: Detector, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """For each image {"path", "detections": [{"class", "score", "box": [x1, y1, x2, y2] in its pixels}]}."""
    where = device_of(model.module)
    for path in paths:
        picture = images.load(path)
        array, scale = images.letterbox(picture, *model.card["canvas"])
        [found] = model.module([torch.from_numpy(array).to(where).float() / 255])
        shown = _shown(found)
        detections = [
            {
                "class": model.card["classes"][label - 1],
                "score": round(score, 4),
                "box": [
                    round(min(max(side / scale, 0.0), limit), 1)
                    for side, limit in zip(box, picture.size * 2, strict=True)
                ],
            }
            for box, label, score in zip(*(shown[key].tolist() for key in ("boxes", "labels", "scores")), strict=True)
        ]
        yield {"path": str(path), "detections": detections}


def draw(prediction: Mapping[str, Any]) -> Image.Image:
    """The image of a prediction with its boxes."""
    found = prediction["detections"]
    names = sorted({detection["class"] for detection in found})
    return pictures.draw_boxes(
        images.load(Path(prediction["path"])),
        [detection["box"] for detection in found],
        [detection["class"] for detection in found],
        [names.index(detection["class"]) for detection in found],
        [detection["score"] for detection in found],
    )


def _build(card: Mapping[str, Any], weights: str) -> nn.Module:
    point = card["config"]
    body = backbones.load(point["backbone"], weights)
    canvas = (card["canvas"][0], card["canvas"][1])
    return detectors.build(point["architecture"], body, len(card["classes"]), canvas, point["channels"])


def _augmentation(strength: float, flip: bool) -> v2.Transform:
    """Colour, scale and place at random; at strength 0 nothing but the flip, if that is allowed."""
    steps: list[nn.Module] = [v2.RandomHorizontalFlip(0.5)] if flip else []
    if strength > 0:
        s = 0.4 * strength
        shift, scale = 0.2 * strength, (1 - 0.3 * strength, 1 + 0.3 * strength)
        steps.append(v2.ColorJitter(brightness=s, contrast=s, saturation=s, hue=0.1 * s))
        steps.append(v2.RandomAffine(degrees=0, translate=(shift, shift), scale=scale))
        steps.append(v2.ClampBoundingBoxes())
        steps.append(v2.SanitizeBoundingBoxes(min_size=2, min_area=8))
    return v2.Compose([_Wrap(), *steps])


class _Wrap(nn.Module):
    """Tells torchvision's transforms which tensor is an image and which holds boxes."""

    def forward(self, image: Tensor, target: dict[str, Tensor]) -> tuple[tv_tensors.Image, dict[str, Tensor]]:
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[-2:])  # type: ignore[call-overload]
        return tv_tensors.Image(image), {"boxes": boxes, "labels": target["labels"]}


def _collate(examples: list[tuple[Tensor, dict[str, Tensor]]], where: torch.device) -> Batch:
    inputs = [image.as_subclass(Tensor).to(where).float() / 255 for image, _ in examples]
    targets = [{key: value.as_subclass(Tensor).to(where) for key, value in t.items()} for _, t in examples]
    return inputs, targets


def _detect(model: nn.Module, data: DetectionArrays, split: str, where: torch.device) -> list[dict[str, Tensor]]:
    """Detections on each image of a split, in pixels of the canvas."""
    numbers, found = data.split[split], []
    for first in range(0, len(numbers), EVAL_BATCH):
        inputs, _ = _collate([data.example(n) for n in numbers[first : first + EVAL_BATCH]], where)
        found += [{key: value.cpu() for key, value in detection.items()} for detection in model(inputs)]
    return found


def _score(
    detections: list[dict[str, Tensor]],
    data: DetectionArrays,
    split: str,
    precision: dict[str, np.ndarray] | None = None,
) -> dict[str, float]:
    """COCO's mean average precision; fills `precision` with each class's curve at IoU 0.5, if given."""
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(
        backend="faster_coco_eval", class_metrics=True, extended_summary=precision is not None
    )
    metric.warn_on_many_detections = False
    metric.update(detections, [data.example(n)[1] for n in data.split[split]])
    result = metric.compute()
    scores = {f"{split}/{key}": float(result[key]) for key in ("map", "map_50", "map_75")}
    labels = result["classes"].reshape(-1).tolist()
    for label, value in zip(labels, result["map_per_class"].reshape(-1).tolist(), strict=True):
        if value >= 0:  # torchmetrics says -1 for a class that the split does not hold
            scores[f"{split}/map_class/{data.classes[label - 1]}"] = value
    if precision is not None:
        curves = result["precision"][0, :, :, 0, -1].numpy()  # IoU 0.5, all areas, most detections
        precision |= {data.classes[label - 1]: curves[:, index] for index, label in enumerate(labels)}
    return scores


def _draw_test(data: DetectionArrays, number: int, detection: dict[str, Tensor]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(data.images[number].transpose(1, 2, 0)))
    enlarged = image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)
    shown = _shown(detection)
    labels = shown["labels"].tolist()
    return pictures.draw_boxes(
        enlarged,
        (shown["boxes"] * 2).tolist(),
        [data.classes[label - 1] for label in labels],
        labels,
        shown["scores"].tolist(),
    )


def _shown(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a person is shown: scores from SHOWN_SCORE on, and one class for an object, its likeliest.

    Average precision wants all of them: there an object may be found as a 3 and, less surely, as an 8.
    """
    likely = found["scores"] >= SHOWN_SCORE
    boxes, scores, labels = (found[key][likely] for key in ("boxes", "scores", "labels"))
    kept = nms(boxes, scores, SAME_OBJECT_IOU)
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
