"""Average precision, compared with that of torchmetrics."""

import csv
import io

import numpy as np
import pytest
import torch

from platform.evaluation import detection_metrics

CLASSES = 7


@pytest.fixture(scope="module")
def found() -> tuple[list[dict], list[dict]]:
    """Make detections and targets of 30 images; the last class does not occur, and the last image is empty."""
    rng = np.random.default_rng(0)
    detections, targets = [], []
    for image in range(30):
        boxes = rng.integers(0 if image == 29 else 1, 1 if image == 29 else 5)
        corners = rng.uniform(0, 60, (boxes, 2))
        truth = np.concatenate([corners, corners + rng.uniform(8, 40, (boxes, 2))], 1)
        labels = rng.integers(1, CLASSES, boxes)
        chosen = rng.integers(0, max(1, boxes), 12 if boxes else 0)
        wrong = rng.random(len(chosen)) < 0.3
        detections.append({
            "boxes": torch.tensor(truth[chosen] + rng.normal(0, 2, (len(chosen), 4)), dtype=torch.float32),
            "labels": torch.tensor(np.where(wrong, rng.integers(1, CLASSES, len(chosen)), labels[chosen])),
            "scores": torch.tensor(rng.random(len(chosen)), dtype=torch.float32),
        })  # fmt: skip
        targets.append({"boxes": torch.tensor(truth, dtype=torch.float32), "labels": torch.tensor(labels)})
    return detections, targets


@pytest.fixture(scope="module")
def precision(found) -> np.ndarray:
    return detection_metrics.evaluate(*found, CLASSES)


def test_it_is_that_of_torchmetrics(found, precision):
    from torchmetrics.detection import MeanAveragePrecision

    # Its own thresholds are rounded to float32, and then a recall of 0.1 lies below 0.1.
    exact = {"iou_thresholds": np.linspace(0.5, 0.95, 10).tolist(), "rec_thresholds": np.linspace(0, 1, 101).tolist()}
    metric = MeanAveragePrecision(class_metrics=True, backend="faster_coco_eval", **exact)
    metric.update(*found)
    expected = metric.compute()
    names = [str(label) for label in range(1, CLASSES + 1)]
    scores = detection_metrics.scores(precision, names, [1] * CLASSES, "val", each=True)
    for key in ("map", "map_50", "map_75"):
        assert scores[f"val/{key}"] == pytest.approx(float(expected[key]), abs=1e-6)
    for label, value in zip(expected["classes"].tolist(), expected["map_per_class"].tolist(), strict=True):
        assert scores[f"val/map_class/{label}"] == pytest.approx(value, abs=1e-6)
    assert 0.1 < scores["val/map"] < 0.9
    assert f"val/map_class/{CLASSES}" not in scores, "the split holds none of it"


def test_detections_of_nothing_score_nothing(found):
    _, targets = found
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    precision = detection_metrics.evaluate([nothing] * len(targets), targets, CLASSES)
    assert detection_metrics.scores(precision, "abcdefg", [1] * CLASSES, "val", each=False)["val/map"] == 0


def test_many_classes_are_scored_in_groups():
    classes = [f"class {k}" for k in range(24)]
    precision = np.zeros((10, 101, 24))
    precision[:, :, :4], precision[:, :, 4:10], precision[:, :, 3] = 0.9, 0.5, np.nan
    images = [200] * 4 + [50] * 6 + [5] * 14
    scores = detection_metrics.scores(precision, classes, images, "test", each=False)
    assert scores == pytest.approx({
        "test/map": (3 * 0.9 + 6 * 0.5) / 23, "test/map_50": (3 * 0.9 + 6 * 0.5) / 23,
        "test/map_75": (3 * 0.9 + 6 * 0.5) / 23, "test/map_rare": 0, "test/map_common": 0.5, "test/map_frequent": 0.9,
    })  # fmt: skip
    few = detection_metrics.scores(precision[:, :, 4:10], classes[4:10], images[4:10], "test", each=False)
    assert set(few) == {"test/map", "test/map_50", "test/map_75"}


def test_a_group_of_which_a_split_holds_nothing_has_no_score():
    precision = np.zeros((10, 101, 24))
    precision[:, :, 20:] = np.nan
    scores = detection_metrics.scores(precision, ["x"] * 24, [50] * 20 + [5] * 4, "val", each=False)
    assert "val/map_rare" not in scores
    assert "val/map_common" in scores


def test_the_table_has_the_weakest_first():
    precision = np.stack([np.full((10, 101), value) for value in (0.8, 0.0, np.nan, 0.0)], axis=-1)
    rows = csv.DictReader(
        io.StringIO(detection_metrics.table(precision, ["a", "b", "c", "=d"], [300, 4, 5, 20], [9, 2, 0, 3]))
    )
    lines = [(row["class"], row["group"], row["training images"], row["boxes"], row["map"]) for row in rows]
    assert lines == [
        ("'=d", "common", "20", "3", "0.0"), ("b", "rare", "4", "2", "0.0"), ("a", "frequent", "300", "9", "0.8"),
        ("c", "rare", "5", "0", ""),
    ]  # fmt: skip
