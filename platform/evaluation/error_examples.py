"""Selection of test examples to show to people: a model's worst mistakes and its most confident right answers."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from platform.evaluation import figures

MOST = 12  # examples
FOUND_IOU = 0.5  # least overlap of a detection with the box that it finds
LINE, MOST_TEXT = 100, 400  # characters


def surest(shares: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> list[tuple[int, str]]:
    """Select the most confident mistakes, then the most confident right answers.

    Returns:
        At most MOST rows of the probabilities `shares` (N, C), each with a caption of answer, probability and, of a
        mistake, true class.
    """
    answers, sure = shares.argmax(1), shares.max(1)
    chosen = np.lexsort((-sure, answers == targets))[:MOST]
    return [(int(n), f"{classes[answers[n]]} {sure[n]:.2f}{_truth(answers[n], targets[n], classes)}") for n in chosen]


def image_sheet(images: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Lay out images over their captions."""
    captioned = [figures.captioned(image, caption) for image, caption in zip(images, captions, strict=True)]
    return figures.sheet(captioned, columns=4, cell=260)


def text_sheet(texts: Sequence[str], captions: Sequence[str]) -> str:
    """Lay out texts below their captions; long texts are shortened."""
    wrapped = [textwrap.fill(textwrap.shorten(text, MOST_TEXT, placeholder=" …"), LINE) for text in texts]
    parts = [f"{caption}\n{textwrap.indent(text, '    ')}\n" for caption, text in zip(captions, wrapped, strict=True)]
    return "\n".join(parts)


def boxes(found: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    """Find the boxes of an image that were missed and the detections that are wrong.

    A detection finds one box of its class that it overlaps by FOUND_IOU at least. Detections are matched to boxes so
    that as many as possible are found. Both have "boxes" (n, 4) as x1, y1, x2, y2 and "labels" (n,).

    Returns:
        Indices into the target, indices into the detections.
    """
    from scipy.optimize import linear_sum_assignment
    from torchvision.ops import box_iou

    fits = (box_iou(found["boxes"], target["boxes"]) >= FOUND_IOU) & (found["labels"][:, None] == target["labels"])
    pairs = [(d, k) for d, k in zip(*linear_sum_assignment(fits.numpy(), maximize=True), strict=True) if fits[d, k]]
    right, hit = {int(d) for d, _ in pairs}, {int(k) for _, k in pairs}
    missed = [k for k in range(len(target["labels"])) if k not in hit]
    return missed, [d for d in range(len(found["labels"])) if d not in right]


def _truth(answer: int, target: int, classes: Sequence[str]) -> str:
    return "" if answer == target else f", not {classes[target]}"
