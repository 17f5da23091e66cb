"""Difference of two small grey images after aligning their crop and brightness.

Lucas–Kanade alignment (Baker, Matthews: Lucas-Kanade 20 Years On, IJCV 2004) of four parameters, the edges of one image
in the other, from coarse to fine; then least squares for brightness; then the largest local difference. The largest one
counts, not the mean, because a changed word of a logo is a small part of the image.
"""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, uniform_filter

SIDE = 64  # pixels of a picture's side
CROPPED = 1 / 16  # of a side: largest part missing at each edge of either image

_COARSER = (4, 2)  # pixels averaged into one in the first alignments
_ALIKE = 0.8  # correlation of the coarse images below which the fine ones are not compared
_STEPS = 4  # of Lucas–Kanade at each resolution
_LONGEST = 0.02  # of a side: largest move of an edge in a step
_NOISE = 0.1  # brightness, 0 to 1; much lower local contrast counts as none
_SHADE = 2.5  # pixels; wider differences come from lighting or clipped colours


def unlikeness(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the largest local difference of each pair, as a share of the local contrast.

    It is 0 for equal images, and infinity for images that have little in common.

    Args:
        ones: uint8 of shape (pairs, SIDE, SIDE), blurred by about a pixel.
        others: Likewise.
    """
    one, other = (np.asarray(each, np.float32) / 255 for each in (ones, others))
    edges = np.zeros((len(one), 4), np.float32)
    for pixels in _COARSER:
        edges = _aligned(_reduced(one, pixels), _reduced(other, pixels), edges)
    found = np.full(len(one), np.inf, np.float32)
    alike = _correlation(_inner(_reduced(one, pixels)), _crop(_reduced(other, pixels), edges)) >= _ALIKE
    if not alike.any():
        return found
    one, other, edges = one[alike], other[alike], _aligned(one[alike], other[alike], edges[alike])
    found[alike] = np.minimum(_worst(_inner(one), _crop(other, edges)), _worst(_inner(one), _crop(other, 0 * edges)))
    return found


def _aligned(one: np.ndarray, other: np.ndarray, edges: np.ndarray) -> np.ndarray:
    for _ in range(_STEPS):
        edges = _step(one, other, edges)
    return edges


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (each - each.mean((1, 2), keepdims=True) for each in (one, other))
    return (one * other).sum((1, 2)) / np.sqrt((one**2).sum((1, 2)) * (other**2).sum((1, 2)) + 1e-9)


def _reduced(pictures: np.ndarray, pixels: int) -> np.ndarray:
    side = SIDE // pixels
    return pictures.reshape(-1, side, pixels, side, pixels).mean((2, 4))


def _step(one: np.ndarray, other: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the edges (left, right, upper, lower) after a Gauss–Newton step."""
    target, crop = _inner(one), _crop(other, edges)
    target, crop = (each - each.mean((1, 2), keepdims=True) for each in (target, crop))
    gain = ((target * crop).sum((1, 2)) + 1e-3) / ((crop * crop).sum((1, 2)) + 1e-3)
    crop *= gain[:, None, None]
    at = _at(one.shape[1])
    down, right = np.gradient(crop, 1 / one.shape[1], axis=(1, 2))
    slopes = (right * (1 - at), right * at, down * (1 - at)[:, None], down * at[:, None])
    jacobian = np.stack(slopes, 1).reshape(len(one), 4, -1)
    normal = jacobian @ jacobian.transpose(0, 2, 1) + np.eye(4, dtype=np.float32) * 1e-2
    move = np.linalg.solve(normal, jacobian @ (target - crop).reshape(len(one), -1, 1))[..., 0]
    return np.clip(edges + np.clip(move, -_LONGEST, _LONGEST), -CROPPED, CROPPED)


def _at(side: int) -> np.ndarray:
    """Return the positions, 0 to 1, of a side's inner pixels, which both images contain."""
    outer = round(side * CROPPED)
    return ((np.arange(outer, side - outer) + 0.5) / side).astype(np.float32)


def _inner(pictures: np.ndarray) -> np.ndarray:
    outer = round(pictures.shape[1] * CROPPED)
    return pictures[:, outer:-outer, outer:-outer]


def _crop(pictures: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the inner part of images whose edges are moved by these shares of a side."""
    wide = _sampled(pictures.transpose(0, 2, 1), edges[:, 0], edges[:, 1]).transpose(0, 2, 1)
    return _sampled(wide, edges[:, 2], edges[:, 3])


def _sampled(rows: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return the rows between two moved edges, each interpolated between its two neighbours."""
    side = rows.shape[1]
    place = (first[:, None] + (1 + last - first)[:, None] * _at(side)) * side - 0.5
    above = np.clip(np.floor(place).astype(int), 0, side - 2)
    share = (place - above)[..., None]
    pair = np.arange(len(rows))[:, None]
    return rows[pair, above] * (1 - share) + rows[pair, above + 1] * share


def _worst(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    darker = (one.mean((1, 2)) < other.mean((1, 2)))[:, None, None]
    # The light image is predicted from the dark one, as its lightest parts may be clipped to white.
    dark, light = np.where(darker, one, other), np.where(darker, other, one)
    lit = _lit(dark, light)
    left = lit - light
    left -= gaussian_filter(left, (0, _SHADE, _SHADE))
    contrast = np.maximum(_range(lit), _range(light))
    return uniform_filter(np.abs(left) / (contrast + _NOISE), (0, 2, 2)).max((1, 2))


def _lit(dark: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return the dark images with the brightness of the light ones, by a fitted parabola."""
    pixels = dark.reshape(len(dark), -1)
    pixels = (pixels - pixels.mean(1, keepdims=True)) / (pixels.std(1, keepdims=True) + 1e-3)
    powers = np.stack([np.ones_like(pixels), pixels, pixels**2], 1)
    normal = powers @ powers.transpose(0, 2, 1) + np.eye(3, dtype=np.float32) * 0.1
    factors = np.linalg.solve(normal, powers @ light.reshape(len(light), -1, 1))
    return (factors.transpose(0, 2, 1) @ powers).reshape(dark.shape)


def _range(pictures: np.ndarray) -> np.ndarray:
    """Return the contrast: the range of brightness in the 3 × 3 pixels around each."""
    return maximum_filter(pictures, (1, 3, 3)) - minimum_filter(pictures, (1, 3, 3))
