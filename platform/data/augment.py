"""Augmentation of a batch in single tensor operations: rotation, scale, translation, mirroring and colour.

The random numbers are drawn beforehand for each example and view (`Draws`), so that a view of an example always looks
the same. torchvision's transforms draw once for a whole batch, and applied image by image they cost more than a small
network does.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TURN, SCALE, SHIFT, LIGHT = math.radians(20), 0.2, 0.1, 0.4  # maxima at strength 1; SHIFT as a share of the image side


class ViewNumbers:
    """Random numbers for the views of examples, determined by seed, example and view."""

    def __init__(self, examples: int, numbers_each: int, seed: int) -> None:
        self.shape, self.seed = (examples, numbers_each), seed
        self._of_view = functools.lru_cache(maxsize=1)(self._draw)

    def __call__(self, indices: np.ndarray, view: int) -> Tensor:
        """Return the numbers of these examples, (n, numbers_each) float32, uniform in [-1, 1)."""
        return torch.from_numpy(self._of_view(view)[indices])

    def _draw(self, view: int) -> np.ndarray:
        return np.random.default_rng((self.seed, view)).random(self.shape, np.float32) * 2 - 1


def affine(images: Tensor, strength: float, draws: Tensor) -> Tensor:
    """Rotate, scale and move each image; pixels from outside the image are zero.

    Args:
        images: (N, C, H, W), float.
        strength: 0 changes nothing; 1 means up to 20 degrees, 20 % in size, a tenth of the side either way.
        draws: Random numbers, (N, 4) in [-1, 1).
    """
    if strength == 0:
        return images
    n, _, height, width = images.shape
    most = (draws * strength).to(images).unbind(1)
    angle, scale, right, down = (
        value * limit for value, limit in zip(most, (TURN, SCALE, 2 * SHIFT, 2 * SHIFT), strict=True)
    )
    cos, sin = angle.cos() * (1 + scale), angle.sin() * (1 + scale)
    # Coordinates run from -1 to 1 along both sides, so a turn of an oblong image needs its aspect.
    rows = torch.stack([cos, -sin * height / width, right, sin * width / height, cos, down], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def colour(images: Tensor, strength: float, draws: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of each image.

    Args:
        images: (N, 3, H, W) in [0, 1].
        strength: 0 changes nothing; 1 means up to 40 % either way.
        draws: Random numbers, (N, 3) in [-1, 1).
    """
    if strength == 0:
        return images
    factors = (1 + draws * LIGHT * strength).to(images).unbind(1)
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in factors)
    images = images * brightness
    images = (images - images.mean((1, 2, 3), keepdim=True)) * contrast + images.mean((1, 2, 3), keepdim=True)
    grey = images.mean(1, keepdim=True)
    return ((images - grey) * saturation + grey).clamp(0, 1)


def mirror(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror, left to right, those of the images (N, C, H, W) whose random number in `draws` (N,) is below 0."""
    return torch.where((draws < 0).view(-1, 1, 1, 1).to(images.device), images.flip(-1), images)
