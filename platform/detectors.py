"""torchvision's detectors on a staged backbone: FCOS, RetinaNet, Faster R-CNN and SSDlite.

All take a batch of images of one fixed size (the canvas), so that what a frozen stage computes for an image never
depends on its neighbours in the batch. Labels run from 1; 0 is the background, as in torchvision.
"""

import itertools
from collections import OrderedDict
from functools import partial

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, MultiScaleRoIAlign

from platform.backbones import STAGES, Backbone
from platform.freezing import Stage

ARCHITECTURES = ("fcos", "retinanet", "faster_rcnn", "ssdlite")

# What each torchvision loss is called here: classification, box, and quality (FCOS's centerness, the RPN's objectness).
LOSS_PARTS = {
    "classification": "classification",
    "loss_classifier": "classification",
    "bbox_regression": "box",
    "loss_box_reg": "box",
    "loss_rpn_box_reg": "box",
    "bbox_ctrness": "quality",
    "loss_objectness": "quality",
}


class Pyramid(nn.Module):
    """A backbone and a feature pyramid over its outputs of stride 8, 16 and 32 (Lin et al. 2017)."""

    def __init__(self, body: Backbone, channels: int) -> None:
        super().__init__()
        self.levels = STAGES[2:]
        self.body = body
        self.neck = FeaturePyramidNetwork([body.channels[level] for level in self.levels], channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        maps = self.body.maps(images)
        return self.neck(OrderedDict((level, maps[level]) for level in self.levels))


class Cascade(nn.Module):
    """A backbone's outputs of stride 16 and 32 and three smaller maps on top of them, as SSDlite reads them."""

    def __init__(self, body: Backbone, channels: int) -> None:
        super().__init__()
        self.body = body
        self.levels = STAGES[3:]
        widths = [body.channels["layer4"], channels * 2, channels, channels]
        self.neck = nn.ModuleList(_halving(a, b) for a, b in itertools.pairwise(widths))
        self.out_channels = [body.channels[level] for level in self.levels] + widths[1:]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        maps = self.body.maps(images)
        outputs = [maps[level] for level in self.levels]
        for layer in self.neck:
            outputs.append(layer(outputs[-1]))
        return OrderedDict((str(i), output) for i, output in enumerate(outputs))


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    """A depthwise-separable convolution of stride 2, the extra layer of SSDlite (Sandler et al. 2018)."""
    block = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)
    return nn.Sequential(block(inputs, inputs, stride=2, groups=inputs), block(inputs, outputs, kernel_size=1))


def build(
    architecture: str, body: Backbone, classes: int, canvas: tuple[int, int], channels: int = 128, convolutions: int = 2
) -> nn.Module:
    """A torchvision detector on a given backbone.

    Args:
        architecture: One of ARCHITECTURES.
        body: The staged backbone.
        classes: Number of classes, the background not counted.
        canvas: Height and width of every image, in pixels.
        channels: Width of the pyramid and the heads.
        convolutions: Depth of FCOS's heads.
    """
    height, width = canvas
    # Images arrive at the size of the canvas: torchvision's own transform is left with nothing but to normalise them.
    fixed = {"fixed_size": (width, height), "min_size": min(canvas), "max_size": max(canvas)}
    # A low threshold: average precision is taken over all scores; what is worth showing is decided at prediction.
    scores = {"score_thresh": 0.02, "nms_thresh": 0.6, "detections_per_img": 100}
    if architecture == "ssdlite":
        return _ssdlite(Cascade(body, channels), classes, canvas)
    pyramid = Pyramid(body, channels)
    strides = [8 * 2**i for i in range(len(pyramid.levels))]
    if architecture == "fcos":
        anchors = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
        head = FCOSHead(channels, 1, classes + 1, convolutions)
        return FCOS(pyramid, classes + 1, anchor_generator=anchors, head=head, **fixed, **scores)
    if architecture == "retinanet":
        sizes = tuple(tuple(3 * stride * 2 ** (i / 3) for i in range(3)) for stride in strides)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(strides))
        norm = partial(nn.GroupNorm, 32)
        retina_head = RetinaNetHead(channels, 9, classes + 1, norm_layer=norm)
        return RetinaNet(pyramid, classes + 1, anchor_generator=anchors, head=retina_head, **fixed, **scores)
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
        box_score_thresh=scores["score_thresh"],
        **fixed,
    )


def _ssdlite(cascade: Cascade, classes: int, canvas: tuple[int, int]) -> nn.Module:
    height, width = canvas
    anchors = DefaultBoxGenerator([[2, 3] for _ in cascade.out_channels], min_ratio=0.15, max_ratio=0.95)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(cascade.out_channels, anchors.num_anchors_per_location(), classes + 1, norm)
    return SSD(
        cascade,
        anchors,
        size=(width, height),
        num_classes=classes + 1,
        head=head,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        score_thresh=0.02,
        nms_thresh=0.55,
        detections_per_img=100,
    )


def stages() -> list[Stage]:
    """The stages of a detector of `build`, from input to output."""
    body = [Stage(name, (f"backbone.body.{name}",), backbone=True) for name in STAGES]
    return [*body, Stage("neck", ("backbone.neck",)), Stage("head", ("head", "rpn", "roi_heads"))]
