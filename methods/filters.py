"""Enlargement without learning: MATLAB's kernels, edge-directed interpolation (NEDI) and iterative back-projection.

A new filter is one function and one line in FILTERS.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.ndimage import correlate1d, uniform_filter

from pictures import KERNELS, resize

WINDOW = 8  # side in pixels of the window in which NEDI's four weights are fitted
RIDGE = 1e-4  # how strongly these weights are drawn towards 1/4 each, as a fraction of (white - black)^2
BORDER = 2 * WINDOW  # pixels by which NEDI continues a picture beyond its edge


def enlarged(lr: np.ndarray, scale: int, name: str, back_projections: int = 0) -> np.ndarray:
    """Enlarge a uint8 picture (h, w) or (h, w, c) by the filter `name`; uint8 (scale*h, scale*w) or (..., c).

    back_projections: how often the result is corrected, see back_projected.
    """
    if name in KERNELS and not back_projections:
        return resize(lr, scale, name)  # rounded after each axis, as MATLAB rounds
    picture = np.atleast_3d(lr) / 255
    sr = back_projected(FILTERS[name](picture, scale), picture, back_projections)
    return np.clip(np.floor(255 * sr + 0.5), 0, 255).astype(np.uint8).reshape(*sr.shape[:2], *lr.shape[2:])


def enlarged_batch(lr: np.ndarray, scale: int, name: str) -> np.ndarray:
    """Enlarge lr (N, h, w, 3) to (N, scale*h, scale*w, 3), both in [-1, 1], as a network does, by the filter `name`."""
    srs = [FILTERS[name]((picture + 1) / 2, scale) for picture in lr]
    return (2 * np.stack(srs) - 1).astype(np.float32)


def back_projected(sr: np.ndarray, lr: np.ndarray, times: int) -> np.ndarray:
    """Correct sr (scale*h, scale*w, c) `times` times, so that it gives lr (h, w, c) when it is reduced; any range.

    sr <- sr + enlarge(lr - reduce(sr)), with MATLAB's bicubic for both. Source: Irani and Peleg 1991, eq. 3.
    """
    scale = sr.shape[0] // lr.shape[0]
    for _ in range(times):
        sr = sr + resize(lr - resize(sr, 1 / scale), scale)
    return sr


def with_back_projection(network: Callable[[np.ndarray], np.ndarray], times: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a network whose results are corrected `times` times, see back_projected.

    network: lr float32 (N, h, w, 3) -> sr float32 (N, scale*h, scale*w, 3), both about in [-1, 1].
    """

    def corrected(lr: np.ndarray) -> np.ndarray:
        pairs = zip(network(lr), lr)
        return np.stack([back_projected(sr, picture, times) for sr, picture in pairs]).astype(np.float32)

    return corrected


def bicubic_kernel(scale: int) -> np.ndarray:
    """Return MATLAB's bicubic enlargement as a convolution before a depth_to_space: (5, 5, 3, 3 * scale^2).

    A picture has to be continued by two mirrored pixels first.
    """
    impulse = np.zeros((9, 9))
    impulse[4, 4] = 1
    # What each pixel (i, j) of the block of sr at (y, x) takes of the pixel in the middle, 4 - y above and 4 - x to the
    # left of it; a convolution's kernel counts from the pixel that it looks at, the other way round.
    blocks = resize(impulse, scale).reshape(9, scale, 9, scale)[6:1:-1, :, 6:1:-1]  # (5, scale, 5, scale)
    by_colour = np.einsum("yixj,cd->yxcijd", blocks, np.eye(3))  # a colour takes nothing of another one
    return by_colour.reshape(5, 5, 3, 3 * scale**2)


# New Edge-Directed Interpolation


def nedi(lr: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge lr (h, w, c) in 0..1 by New Edge-Directed Interpolation; scale: 2, 4, 8.

    Each new pixel is a weighted mean of its four neighbours. The weights are those which, in a window of the coarser
    picture, predict its pixels best from their own four neighbours (least squares): along an edge, not across it. All
    colours share the weights. Source: Li and Orchard 2001, eq. 3 to 8. Unlike there, the weights sum to 1, so that
    adding a constant to lr adds it to sr, and a ridge, not a threshold on the variance, makes flat areas bilinear.
    """
    height, width = lr.shape[:2]
    x = np.pad(lr, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), "edge")
    for _ in range(scale.bit_length() - 1):
        x = doubled(x)
    # Pixel i of lr is pixel scale * i here, but its centre belongs between pixels scale * i + scale / 2 - 1 and
    # scale * i + scale / 2: the picture has to move by (scale - 1) / 2, which is always half a pixel more than a whole.
    for axis in (0, 1):  # Keys' cubic kernel halfway between two pixels; the result lies before pixel i
        x = correlate1d(x, np.array([-1, 9, 9, -1]) / 16, axis, mode="nearest")
    top = scale * BORDER - scale // 2 + 1
    return x[top : top + scale * height, top : top + scale * width]


def doubled(x: np.ndarray) -> np.ndarray:
    """NEDI by 2: x (h, w, c) -> (2h, 2w, c), with pixel i of x as pixel 2 * i."""
    height, width, colours = x.shape
    sr = np.zeros((2 * height, 2 * width, colours))
    sr[::2, ::2] = x
    # First the pixels between four diagonal neighbours. The coarser picture is x itself.
    diagonal = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    weights = fitted_weights(x, diagonal, np.ones((height, width)), WINDOW)
    around = neighbours(x, [(0, 0), (0, 1), (1, 0), (1, 1)])
    sr[1::2, 1::2] = predicted(around, weights)
    # Then all others, between neighbours above, below, left and right: known pixels form a lattice turned by 45
    # degrees, and the coarser one has twice the distances.
    known = np.indices(sr.shape[:2]).sum(0) % 2 == 0
    axial = [(-1, 0), (0, -1), (0, 1), (1, 0)]
    weights = fitted_weights(sr, [(2 * y, 2 * x) for y, x in axial], known, 2 * WINDOW - 1)
    filled = predicted(neighbours(sr, axial), weights)
    sr[~known] = filled[~known]
    return sr


def neighbours(x: np.ndarray, offsets: list[tuple[int, int]]) -> np.ndarray:
    """Return the neighbours (4, h, w, c) of all pixels of x (h, w, c) at four `offsets` (down, right); wraps around."""
    return np.stack([np.roll(x, (-down, -right), (0, 1)) for down, right in offsets])


def fitted_weights(x: np.ndarray, offsets: list[tuple[int, int]], known: np.ndarray, window: int) -> np.ndarray:
    """Fit weights with which the neighbours of x (h, w, c) at four `offsets` predict it, in a window around each pixel.

    known: (h, w), 1 where x is a pixel to predict, else 0. Returns what each weight is above 1/4, (h, w, 4). A window
    of an even side is centred on the corner between a pixel and the one below and to the right.
    """

    def windowed(product: np.ndarray) -> np.ndarray:
        return uniform_filter(product.mean(-1) * known, window, origin=window % 2 - 1, mode="nearest")

    around = neighbours(x, offsets)
    mean = around.mean(0)  # (h, w, c), the bilinear prediction
    around -= mean
    rest = x - mean  # what the weights have to explain
    covariances = np.empty((*x.shape[:2], 4, 4))
    for n in range(4):
        for m in range(n, 4):
            covariances[..., n, m] = covariances[..., m, n] = windowed(around[n] * around[m])
    with_rest = np.stack([windowed(difference * rest) for difference in around], -1)  # (h, w, 4)
    return np.linalg.solve(covariances + RIDGE * np.eye(4), with_rest[..., None])[..., 0]


def predicted(around: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of the neighbours (4, h, w, c), weighted by 1/4 and `weights` (h, w, 4) above it; (h, w, c)."""
    mean = around.mean(0)
    return mean + np.einsum("hwn,nhwc->hwc", weights, around - mean)


# name: function that enlarges lr (h, w, c), floats in 0..1, by a factor
FILTERS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    **{kernel: partial(resize, kernel=kernel) for kernel in ("nearest", "bicubic", "lanczos")},
    "nedi": nedi,
}
