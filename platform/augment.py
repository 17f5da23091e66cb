"""Images of a batch turned, scaled, moved, mirrored and lit at random, each in its own way, in one tensor operation.

torchvision's transforms draw once for a whole batch, and image by image they cost more than a small network does.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TURN, SCALE, SHIFT, LIGHT = math.radians(20), 0.2, 0.1, 0.4  # the most at strength 1; SHIFT in image sides


def affine(images: Tensor, strength: float) -> Tensor:
    """Turns, scales and moves each image; what comes in from outside is zero.

    Args:
        images: (N, C, H, W), float.
        strength: 0: as they are; 1: up to 20 degrees, 20 % in size, a tenth of the side either way.
    """
    if strength == 0:
        return images
    n, _, height, width = images.shape
    angle, scale, right, down = (_uniform(images, most * strength) for most in (TURN, SCALE, 2 * SHIFT, 2 * SHIFT))
    cos, sin = angle.cos() * (1 + scale), angle.sin() * (1 + scale)
    # Coordinates run from -1 to 1 along both sides, so a turn of an oblong image needs its aspect.
    rows = torch.stack([cos, -sin * height / width, right, sin * width / height, cos, down], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def colour(images: Tensor, strength: float) -> Tensor:
    """Changes brightness, contrast and saturation of each image.

    Args:
        images: (N, 3, H, W) in [0, 1].
        strength: 0: as they are; 1: up to 40 % either way.
    """
    if strength == 0:
        return images
    brightness, contrast, saturation = (1 + _uniform(images, LIGHT * strength).view(-1, 1, 1, 1) for _ in range(3))
    images = images * brightness
    images = (images - images.mean((1, 2, 3), keepdim=True)) * contrast + images.mean((1, 2, 3), keepdim=True)
    grey = images.mean(1, keepdim=True)
    return ((images - grey) * saturation + grey).clamp(0, 1)


def mirror(images: Tensor) -> Tensor:
    """Mirrors half of the images, left to right."""
    chosen = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


def _uniform(images: Tensor, most: float) -> Tensor:
    """A number between -most and most for each image."""
    return (torch.rand(len(images), device=images.device) * 2 - 1) * most
