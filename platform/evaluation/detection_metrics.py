"""COCO's average precision of all classes from one evaluation; of many classes also by frequency.

(torchmetrics computes the average precision of each class too, but evaluates all images again for each of them.)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from platform.data import long_tail, sheets
from platform.task import PER_CLASS

MOST = 100  # detections of an image that count
MANY = 20  # above this number of classes, groups of classes are scored too


def evaluate(
    detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]], classes: int
) -> np.ndarray:
    """Return the precision at each IoU from 0.5 to 0.95, at each recall from 0 to 1 and of each class.

    Args:
        detections: For each image "boxes" (D, 4) as x1, y1, x2, y2, "labels" (D,) from 1, and "scores" (D,).
        targets: For each image "boxes" (K, 4) and "labels" (K,).
        classes: Number of classes.

    Returns:
        (10, 101, classes), by IoU in steps of 0.05 and recall in steps of 0.01; NaN for a class without boxes. The mean
        of the others is COCO's mean average precision.
    """
    # Imported here, as a model logged to MLflow predicts without it.
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
    """Return metrics by name: map, map_50 and map_75; of many classes also map_rare, map_common and map_frequent.

    Args:
        precision: (10, 101, classes) as `evaluate` returns it. Classes with NaN are ignored.
        images: Number of training images with each class.
        split: Prefix of the metrics' names.
        each: True to return the average precision of each class too.
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
    """Return a CSV table with a line for each class, the weakest first; classes with NaN come last, without scores.

    The precision is that of `evaluate`. Each class has a number of training images and of boxes in the evaluated split.
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
            number += 1  # from 1, as 0 means no match in the evaluation
            yield {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3],
                   "iscrowd": 0, "score": score}  # fmt: skip


def _silent(*_: object) -> None:
    """Print nothing, in place of a line for each step."""
