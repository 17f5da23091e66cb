"""Torchvision's detectors with hundreds of classes."""

import pytest
import torch

from platform.models import backbones, detectors

TARGETS = [{"boxes": torch.tensor([[4.0, 4.0, 30.0, 36.0]]), "labels": torch.tensor([2])}] * 2


def build(architecture: str, classes: int) -> detectors.Detector:
    torch.manual_seed(0)
    return detectors.build(architecture, backbones.load("mobilenet_v2", "starter"), classes, (64, 64), channels=32)


@pytest.mark.parametrize("architecture", ["fcos", "retinanet"])
def test_a_focal_loss_begins_low_with_any_number_of_classes(architecture):
    images = {"images": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    few, many = (build(architecture, classes).train()(images, TARGETS)["classification"] for classes in (10, 400))
    assert float(many) == pytest.approx(float(few), rel=0.2)
    assert many < 2


@pytest.mark.parametrize("architecture", ["faster_rcnn", "ssdlite"])
def test_a_softmax_over_many_classes_that_is_undecided_keeps_its_detections(architecture):
    images = {"images": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    with torch.inference_mode():
        found = build(architecture, 400).eval()(images)
    scores = torch.cat([each["scores"] for each in found])
    assert len(scores)
    assert scores.max() < detectors.LEAST_SCORE, "all of it would have been"
    assert [detectors._least_score(classes) for classes in (1, 10, 400)] == [0.02, 0.02, 0.0005]
