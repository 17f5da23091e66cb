"""How unlike two small grey pictures are once the one is cropped and lit as the other.

Lucas–Kanade alignment (Baker, Matthews: Lucas-Kanade 20 Years On, IJCV 2004) of four numbers, the edges of the one
picture in the other, from coarse to fine; then brightness, by least squares; then what is left, where most of it is
left. A word of a logo that was changed is a small part of the picture: what counts is the worst place, not the mean.
"""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, uniform_filter

SIDE = 64  # pixels of a picture's side
CROPPED = 1 / 16  # of a side: what may be missing at each edge of the one or the other

_COARSER = (4, 2)  # pixels that are one while pictures are aligned, before they are aligned to the pixel
_ALIKE = 0.8  # correlation of the coarse pictures below which the fine ones are not looked at
_STEPS = 4  # of Lucas–Kanade at each
_LONGEST = 0.02  # of a side that an edge moves in a step
_NOISE = 0.1  # brightness, 0 to 1: local contrast far below it counts as none
_SHADE = 2.5  # pixels: differences wider than this are light, or colours that reached white, and not what is shown


def unlikeness(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What is left of each pair's difference at its worst place, as a share of the contrast there; 0 if nothing, and
    infinity for pictures that have little in common.

    Args:
        ones: uint8 of shape (pairs, SIDE, SIDE), blurred by about a pixel.
        others: Likewise.
    """
    one, other = (np.asarray(each, np.float32) / 255 for each in (ones, others))
    edges = np.zeros((len(one), 4), np.float32)
    for pixels in _COARSER:
        edges = _aligned(_reduced(one, pixels), _reduced(other, pixels), edges)
    found = np.full(len(one), np.inf, np.float32)
    alike = _correlation(_inner(_reduced(one, pixels)), _cut(_reduced(other, pixels), edges)) >= _ALIKE
    if not alike.any():
        return found
    one, other, edges = one[alike], other[alike], _aligned(one[alike], other[alike], edges[alike])
    found[alike] = np.minimum(_worst(_inner(one), _cut(other, edges)), _worst(_inner(one), _cut(other, 0 * edges)))
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
    """The edges (left, right, upper, lower) after a Gauss–Newton step."""
    target, cut = _inner(one), _cut(other, edges)
    target, cut = (each - each.mean((1, 2), keepdims=True) for each in (target, cut))
    gain = ((target * cut).sum((1, 2)) + 1e-3) / ((cut * cut).sum((1, 2)) + 1e-3)
    cut *= gain[:, None, None]
    at = _at(one.shape[1])
    down, right = np.gradient(cut, 1 / one.shape[1], axis=(1, 2))
    slopes = (right * (1 - at), right * at, down * (1 - at)[:, None], down * at[:, None])
    jacobian = np.stack(slopes, 1).reshape(len(one), 4, -1)
    normal = jacobian @ jacobian.transpose(0, 2, 1) + np.eye(4, dtype=np.float32) * 1e-2
    move = np.linalg.solve(normal, jacobian @ (target - cut).reshape(len(one), -1, 1))[..., 0]
    return np.clip(edges + np.clip(move, -_LONGEST, _LONGEST), -CROPPED, CROPPED)


def _at(side: int) -> np.ndarray:
    """Where the inner pixels of a side lie, 0 to 1: those that are there in both pictures."""
    outer = round(side * CROPPED)
    return ((np.arange(outer, side - outer) + 0.5) / side).astype(np.float32)


def _inner(pictures: np.ndarray) -> np.ndarray:
    outer = round(pictures.shape[1] * CROPPED)
    return pictures[:, outer:-outer, outer:-outer]


def _cut(pictures: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The inner part of pictures whose edges are moved by these shares of a side."""
    wide = _sampled(pictures.transpose(0, 2, 1), edges[:, 0], edges[:, 1]).transpose(0, 2, 1)
    return _sampled(wide, edges[:, 2], edges[:, 3])


def _sampled(rows: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Rows between two moved edges, each interpolated between its two neighbours."""
    side = rows.shape[1]
    place = (first[:, None] + (1 + last - first)[:, None] * _at(side)) * side - 0.5
    above = np.clip(np.floor(place).astype(int), 0, side - 2)
    share = (place - above)[..., None]
    pair = np.arange(len(rows))[:, None]
    return rows[pair, above] * (1 - share) + rows[pair, above + 1] * share


def _worst(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    darker = (one.mean((1, 2)) < other.mean((1, 2)))[:, None, None]
    # The light one is explained by the dark one, not the other way round: its lightest parts may have become one white.
    dark, light = np.where(darker, one, other), np.where(darker, other, one)
    lit = _lit(dark, light)
    left = lit - light
    left -= gaussian_filter(left, (0, _SHADE, _SHADE))
    contrast = np.maximum(_range(lit), _range(light))
    return uniform_filter(np.abs(left) / (contrast + _NOISE), (0, 2, 2)).max((1, 2))


def _lit(dark: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The dark pictures as bright as the light ones: the parabola of their brightness that comes nearest."""
    pixels = dark.reshape(len(dark), -1)
    pixels = (pixels - pixels.mean(1, keepdims=True)) / (pixels.std(1, keepdims=True) + 1e-3)
    powers = np.stack([np.ones_like(pixels), pixels, pixels**2], 1)
    normal = powers @ powers.transpose(0, 2, 1) + np.eye(3, dtype=np.float32) * 0.1
    factors = np.linalg.solve(normal, powers @ light.reshape(len(light), -1, 1))
    return (factors.transpose(0, 2, 1) @ powers).reshape(dark.shape)


def _range(pictures: np.ndarray) -> np.ndarray:
    """Contrast: the range of brightness in the three by three pixels around each."""
    return maximum_filter(pictures, (1, 3, 3)) - minimum_filter(pictures, (1, 3, 3))
