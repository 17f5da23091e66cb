"""torchvision's detectors on a staged backbone: FCOS, RetinaNet, Faster R-CNN and SSDlite.

All images of a batch have one fixed size, the input size, so that the output of a frozen stage for an image never
depends on its neighbours in the batch. Labels run from 1; 0 is the background, as in torchvision.

The stages of the backbone and then the neck can be run apart from the heads. The output of the first stages is all that
the rest needs: that of the last stage and the levels below it that the neck reads; after the neck, the neck's outputs.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.transforms.v2.functional import normalize

from platform.models.backbones import IMAGENET_MEAN, IMAGENET_STD, STAGES, Backbone
from platform.models.stages import Stage, State

ARCHITECTURES = ("fcos", "retinanet", "faster_rcnn", "ssdlite")

# Low, as average precision uses all scores; predictions are filtered later.
LEAST_SCORE = 0.02

# Part of the loss by torchvision's name; quality is FCOS's centerness and the RPN's objectness.
LOSS_PARTS = {
    "classification": "classification",
    "loss_classifier": "classification",
    "bbox_regression": "box",
    "loss_box_reg": "box",
    "loss_rpn_box_reg": "box",
    "bbox_ctrness": "quality",
    "loss_objectness": "quality",
}


class BackboneWithNeck(nn.Module):
    """Backbone with a neck, in stages that can be run apart from the heads.

    Attributes:
        body: The backbone.
        levels: Names of the stages whose outputs the neck reads.
    """

    def __init__(self, body: Backbone, levels: Sequence[str]) -> None:
        super().__init__()
        self.body, self.levels = body, tuple(levels)

    def run(self, state: State, start: int, stop: int) -> dict[str, Tensor]:
        """Run the stages start … stop - 1, of which the neck is the last of all.

        The state is {"images": (N, 3, H, W), normalised} if start is 0, else the output of the stages before.
        """
        if start > len(STAGES):  # the neck was run
            return dict(state)
        maps = dict(state)
        x = maps.pop("images") if start == 0 else maps[STAGES[start - 1]]
        for name in STAGES[start : min(stop, len(STAGES))]:
            x = maps[name] = self.body.get_submodule(name)(x)
        if stop > len(STAGES):
            return self.top(OrderedDict((level, maps[level]) for level in self.levels))
        return {name: x for name, x in maps.items() if name in self.levels or name == STAGES[stop - 1]}

    def top(self, maps: "OrderedDict[str, Tensor]") -> "OrderedDict[str, Tensor]":
        """Run the neck on the levels that it reads."""
        raise NotImplementedError

    def forward(self, batch: "_Images") -> "OrderedDict[str, Tensor]":
        return OrderedDict(self.run(batch.state, batch.split_index, len(STAGES) + 1))


class PyramidBackbone(BackboneWithNeck):
    """Backbone with a feature pyramid over the outputs of stride 8, 16 and 32 (Lin et al. 2017)."""

    def __init__(self, body: Backbone, channels: int) -> None:
        super().__init__(body, STAGES[2:])
        self.neck = FeaturePyramidNetwork([body.channels[level] for level in self.levels], channels)
        self.out_channels = channels

    def top(self, maps: "OrderedDict[str, Tensor]") -> "OrderedDict[str, Tensor]":
        return self.neck(maps)


class CascadeBackbone(BackboneWithNeck):
    """Backbone with three smaller maps on top of the outputs of stride 16 and 32, for SSDlite (Sandler et al. 2018)."""

    def __init__(self, body: Backbone, channels: int) -> None:
        super().__init__(body, STAGES[3:])
        widths = [body.channels["layer4"], channels * 2, channels, channels]
        self.neck = nn.ModuleList(_halving(a, b) for a, b in itertools.pairwise(widths))
        self.out_channels = [body.channels[level] for level in self.levels] + widths[1:]

    def top(self, maps: "OrderedDict[str, Tensor]") -> "OrderedDict[str, Tensor]":
        outputs = list(maps.values())
        for layer in self.neck:
            outputs.append(layer(outputs[-1]))
        return OrderedDict((str(i), output) for i, output in enumerate(outputs))


class Detector(nn.Module):
    """Torchvision detector whose first stages can be run apart.

    It takes {"images": (N, 3, H, W) in [0, 1]} or the output of its first `split_index` stages. In training mode, with
    targets, it returns the losses by torchvision's names; else boxes, labels and scores of each image.

    Attributes:
        net: Torchvision's model.
        input_size: Height and width of every image in pixels.
    """

    max_split_index = len(STAGES) + 1

    def __init__(self, net: nn.Module, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.net, self.input_size = net, input_size
        net.transform = _NoTransform()

    @property
    def trunk(self) -> BackboneWithNeck:
        return self.net.backbone  # type: ignore[return-value]

    def run(self, state: State, start: int, stop: int) -> dict[str, Tensor]:
        return self.trunk.run(self._normalised(state) if start == 0 else state, start, stop)

    def prefix_facts(self, split_index: int) -> dict[str, Any]:
        neck = type(self.trunk).__name__ if split_index > len(STAGES) else ""
        needed = (*self.trunk.levels, STAGES[min(split_index, len(STAGES)) - 1])
        kept = [name for name in STAGES[:split_index] if name in needed]
        return {"kept": kept, "neck": neck, "input_size": self.input_size, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}

    def forward(self, state: State, targets: list[dict[str, Tensor]] | None = None, split_index: int = 0) -> Any:
        given = self._normalised(state) if split_index == 0 else state
        return self.net(_Images(given, split_index, self.input_size), targets)

    @staticmethod
    def _normalised(state: State) -> State:
        return {"images": normalize(state["images"], list(IMAGENET_MEAN), list(IMAGENET_STD))}


class _Images:
    """Stand-in for a batch of images: torchvision's code reads the shapes, the trunk reads the state."""

    def __init__(self, state: State, split_index: int, input_size: tuple[int, int]) -> None:
        self.state, self.split_index = state, split_index
        self.shape = torch.Size((len(next(iter(state.values()))), 3, *input_size))

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.empty(self.shape, device="meta"))


class _NoTransform(GeneralizedRCNNTransform):
    """Replacement of torchvision's resizing: images have the input size already, and boxes are in its pixels."""

    def __init__(self) -> None:
        super().__init__(1, 1, list(IMAGENET_MEAN), list(IMAGENET_STD))

    def forward(self, images: Any, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(images, [tuple(images.shape[2:])] * images.shape[0]), targets  # type: ignore[arg-type]


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    """Build a depthwise-separable convolution of stride 2, the extra layer of SSDlite (Sandler et al. 2018)."""
    block = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)
    return nn.Sequential(block(inputs, inputs, stride=2, groups=inputs), block(inputs, outputs, kernel_size=1))


def build(
    architecture: str,
    body: Backbone,
    classes: int,
    input_size: tuple[int, int],
    channels: int = 128,
    convolutions: int = 2,
) -> Detector:
    """Build a torchvision detector on a backbone.

    Args:
        architecture: One of ARCHITECTURES.
        body: Backbone.
        classes: Number of classes without the background.
        input_size: Height and width of every image in pixels.
        channels: Width of the pyramid and the heads.
        convolutions: Number of convolutions in FCOS's heads.
    """
    if architecture == "ssdlite":
        return Detector(_ssdlite(CascadeBackbone(body, channels), classes, input_size), input_size)
    return Detector(_on_pyramid(architecture, body, classes, channels, convolutions), input_size)


def _on_pyramid(architecture: str, body: Backbone, classes: int, channels: int, convolutions: int) -> nn.Module:
    scores = {"score_thresh": LEAST_SCORE, "nms_thresh": 0.6, "detections_per_img": 100}
    pyramid = PyramidBackbone(body, channels)
    strides = [8 * 2**i for i in range(len(pyramid.levels))]
    if architecture == "fcos":
        anchors = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
        head = FCOSHead(channels, 1, classes + 1, convolutions)
        return FCOS(pyramid, classes + 1, anchor_generator=anchors, head=head, **scores)
    if architecture == "retinanet":
        sizes = tuple(tuple(3 * stride * 2 ** (i / 3) for i in range(3)) for stride in strides)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(strides))
        retina_head = RetinaNetHead(channels, 9, classes + 1, norm_layer=partial(nn.GroupNorm, 32))
        return RetinaNet(pyramid, classes + 1, anchor_generator=anchors, head=retina_head, **scores)
    anchors = AnchorGenerator(tuple((3 * stride, 5 * stride) for stride in strides), ((0.5, 1.0, 2.0),) * len(strides))
    return FasterRCNN(
        pyramid,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_train=250,
        rpn_post_nms_top_n_test=250,
        box_roi_pool=MultiScaleRoIAlign(list(pyramid.levels), output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(channels * 7**2, 4 * channels),
        box_predictor=FastRCNNPredictor(4 * channels, classes + 1),
        box_batch_size_per_image=128,
        box_score_thresh=_least_score(classes),
    )


def _ssdlite(cascade: CascadeBackbone, classes: int, input_size: tuple[int, int]) -> nn.Module:
    height, width = input_size
    anchors = DefaultBoxGenerator([[2, 3] for _ in cascade.out_channels], min_ratio=0.15, max_ratio=0.95)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(cascade.out_channels, anchors.num_anchors_per_location(), classes + 1, norm)
    return SSD(
        cascade,
        anchors,
        size=(width, height),
        num_classes=classes + 1,
        head=head,
        score_thresh=_least_score(classes),
        nms_thresh=0.55,
        detections_per_img=100,
    )


def _least_score(classes: int) -> float:
    """Return the least score for a softmax, lower for many classes: its scores sum to one."""
    return min(LEAST_SCORE, 10 * LEAST_SCORE / classes)


def stages() -> list[Stage]:
    """Return the stages of a detector from `build`, from input to output."""
    body = [Stage(name, (f"net.backbone.body.{name}",), backbone=True) for name in STAGES]
    return [*body, Stage("neck", ("net.backbone.neck",)), Stage("head", ("net.head", "net.rpn", "net.roi_heads"))]
