"""COCO's average precision of all classes from one evaluation; where they are many, also by how rare they are.

(torchmetrics has the average precision of each class, too, but evaluates all images once more for each of them.)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from platform.data import long_tail, sheets
from platform.task import PER_CLASS

MOST = 100  # detections of an image that count
MANY = 20  # classes, from more of which on groups of them are scored as well


def evaluate(
    detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]], classes: int
) -> np.ndarray:
    """The precision at each IoU from 0.5 to 0.95 in steps of 0.05, each recall from 0 to 1 in steps of 0.01, and class.

    Args:
        detections: For each image "boxes" (D, 4) as x1, y1, x2, y2, "labels" (D,) from 1, and "scores" (D,).
        targets: For each image "boxes" (K, 4) and "labels" (K,).
        classes: How many there are.

    Returns:
        (10, 101, classes); NaN for a class of which there is no box. Its mean is COCO's mean average precision.
    """
    # Here and not above: a model logged to MLflow predicts without.
    from faster_coco_eval import COCO, COCOeval_faster

    every = {"images": [{"id": image} for image in range(len(targets))],
             "categories": [{"id": label} for label in range(1, classes + 1)]}  # fmt: skip
    truth, found = COCO(), COCO()
    truth.dataset = every | {"annotations": list(_annotations(targets))}
    found.dataset = every | {"annotations": list(_annotations(detections))}
    truth.createIndex()
    found.createIndex()
    evaluation = COCOeval_faster(truth, found, "bbox", print_function=_silent)
    evaluation.params.maxDets = [MOST]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    values = evaluation.eval["precision"][:, :, :, 0, 0]  # all areas, all detections that count
    return np.where(values < 0, np.nan, values)


def scores(
    precision: np.ndarray, classes: Sequence[str], images: Sequence[int], split: str, each: bool
) -> dict[str, float]:
    """Metrics by name: map, map_50 and map_75; of MANY classes also map_rare, map_common and map_frequent.

    Args:
        precision: (10, 101, classes), as `evaluate` gives it. A class that is NaN counts for nothing.
        classes: Their names.
        images: In how many training images each class is.
        split: What the metrics' names begin with.
        each: Whether that of each class is told as well.
    """
    known = ~np.isnan(precision[0, 0])
    values = precision[:, :, known].mean((0, 1))
    found = {"map": values.mean(), "map_50": precision[0][:, known].mean(), "map_75": precision[5][:, known].mean()}
    if len(classes) > MANY:
        groups = np.array([long_tail.group_of(count) for count in images])[known]
        found |= {f"map_{group}": values[groups == group].mean() for group in long_tail.GROUPS if group in groups}
    if each:
        names = [name for name, is_known in zip(classes, known, strict=True) if is_known]
        found |= {f"map{PER_CLASS}{name}": value for name, value in zip(names, values, strict=True)}
    return {f"{split}/{name}": float(value) for name, value in found.items()}


def table(precision: np.ndarray, classes: Sequence[str], images: Sequence[int], boxes: Sequence[int]) -> str:
    """A line for each class as CSV, the weakest first; a class that is NaN comes last, without scores.

    Args:
        precision: (10, 101, classes), as `evaluate` gives it.
        classes: Their names.
        images: In how many training images each class is.
        boxes: How many of each class the evaluated split holds.
    """
    means = [(float(precision[:, :, k].mean()), float(precision[0, :, k].mean())) for k in range(len(classes))]
    rows = [
        {"class": name, "group": long_tail.group_of(images[k]), "training images": images[k], "boxes": boxes[k]}
        | ({} if np.isnan(means[k][0]) else {"map": round(means[k][0], 4), "map_50": round(means[k][1], 4)})
        for k, name in enumerate(classes)
    ]
    order = sorted(range(len(rows)), key=lambda k: (np.isnan(means[k][0]), means[k][0], -images[k]))
    return sheets.text(["class", "group", "training images", "boxes", "map", "map_50"], [rows[k] for k in order])


def _annotations(images: Sequence[Mapping[str, Tensor]]) -> Iterable[dict[str, Any]]:
    number = 0
    for image, each in enumerate(images):
        corners = each["boxes"].numpy()
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
        scores = each["scores"].tolist() if "scores" in each else [1.0] * len(sides)
        for box, label, score in zip(sides, each["labels"].tolist(), scores, strict=True):
            number += 1  # from 1: to the evaluation 0 is none
            yield {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3],
                   "iscrowd": 0, "score": score}  # fmt: skip


def _silent(*_: object) -> None:
    """In place of a line for each step."""
