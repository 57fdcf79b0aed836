"""PSNR and SSIM as super-resolution papers measure them, NIQE, mesh and colour shift.

PSNR and SSIM are computed on luma (Y), with some pixels cut off at the border.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import convolve, correlate1d
from scipy.special import gamma

from pictures import resize

# Mean and covariance of the features of natural pictures, and the Gaussian window, as published with NIQE by Mittal,
# Soundararajan and Bovik 2013 (LIVE, University of Texas at Austin; free with citation)
PRISTINE = Path(__file__).parents[1] / "data" / "niqe_pristine.npz"
BLOCK = 96  # side of NIQE's blocks in pixels
# Shape parameters of generalised Gaussian distributions, and the ratio mean(|x|)^2 / mean(x^2) for each of them
GAUSSIAN_SHAPES = np.arange(0.2, 10.001, 0.001)
SHAPE_RATIOS = gamma(2 / GAUSSIAN_SHAPES) ** 2 / (gamma(1 / GAUSSIAN_SHAPES) * gamma(3 / GAUSSIAN_SHAPES))


def luma(picture: np.ndarray) -> np.ndarray:
    """Return Y of BT.601, (h, w) float in 16..235 and rounded, of uint8 RGB (h, w, 3), as MATLAB's rgb2ycbcr does.

    Grey (h, w) is only converted to float.
    """
    if picture.ndim == 2:
        return picture.astype(float)
    return np.round(picture @ np.array([65.481, 128.553, 24.966]) / 255 + 16)


def shaved(picture: np.ndarray, border: int) -> np.ndarray:
    """Cut `border` pixels off each side of a picture (h, w) or (h, w, c)."""
    return picture[border : picture.shape[0] - border, border : picture.shape[1] - border]


def psnr(a: np.ndarray, b: np.ndarray, shave: int) -> float:
    """Peak signal-to-noise ratio in dB of two pictures (h, w) in 0..255, infinite if they are equal.

    shave: number of pixels cut at the border.
    """
    error = np.mean((shaved(a, shave).astype(float) - shaved(b, shave)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(a: np.ndarray, b: np.ndarray, shave: int) -> float:
    """SSIM of two pictures (h, w) in 0..255, as MATLAB's ssim_index computes it (Wang et al. 2004).

    shave: number of pixels cut at the border first. The window is an 11x11 Gaussian with sigma 1.5, and only windows
    that lie inside the picture count.
    """
    a, b = shaved(a, shave).astype(float), shaved(b, shave).astype(float)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        # The windows of the 5 outermost pixels reach beyond the border.
        return shaved(correlate1d(correlate1d(x, taps, 0), taps, 1), 5)

    return float(np.mean(similarity(a, b, blur)))


def ssim_daala(a: np.ndarray, b: np.ndarray, shave: int) -> float:
    """SSIM of two pictures (h, w) in 0..255 on 8-bit luma, as the paper's tool computes it, xiph/daala's dump_ssim.

    shave: number of pixels cut at the border first. It differs from `ssim` in three points: the Gaussian widens with
    the height of the picture, sigma = 1.5 * h / 256; its taps are multiples of 1/1024; and windows may reach beyond the
    border.
    """
    a, b = shaved(a, shave).astype(float), shaved(b, shave).astype(float)
    taps = [daala_taps(1.5 * a.shape[0] / 256, length) for length in a.shape]

    def weigh(x: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(x, taps[0], 0, mode="constant"), taps[1], 1, mode="constant")

    # Near the border a part of the window falls outside, where there are no pixels. So a local mean is divided by the
    # weight that is inside, and in the mean over the picture each pixel counts by that weight.
    weight = weigh(np.ones_like(a))
    similarities = similarity(a, b, lambda x: weigh(x) / weight)
    return float(np.sum(weight * similarities) / weight.sum())


def daala_taps(sigma: float, longest: int) -> np.ndarray:
    """Return the taps of daala's Gaussian, whole numbers with the sum 1024 (dump_ssim.c, gaussian_filter_init).

    sigma: in pixels. longest: length of the axis; the filter has at most 2 * longest - 1 taps.
    """
    whole = 1024
    # Further than `reach` the Gaussian, scaled to the sum 1024, is below 0.5 and would be rounded to 0: solve
    # 1024 / (sqrt(2 pi) sigma) * exp(-x^2 / (2 sigma^2)) = 0.5 for x.
    smallest = np.sqrt(0.5 * np.pi) * sigma / whole
    reach = 0 if smallest >= 1 else int(sigma * np.sqrt(-2 * np.log(smallest)))
    reach = min(reach, longest - 1)
    side = np.arange(1, reach + 1)
    half = np.floor(whole / (np.sqrt(2 * np.pi) * sigma) * np.exp(-0.5 * (side / sigma) ** 2) + 0.5)
    # The middle tap takes what rounding has left over, so that the sum is exact.
    return np.concatenate([half[::-1], [whole - 2 * half.sum()], half])


def similarity(a: np.ndarray, b: np.ndarray, blur: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the SSIM of each pixel of two pictures (h, w) in 0..255 (Wang et al. 2004, eq. 13).

    blur: computes the local means of an array (h, w).
    """
    # The constants keep flat areas, where means or variances are near 0, from a division by almost 0.
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = blur(a), blur(b)
    # Variance and covariance as the mean of products minus the product of means.
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    means = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return means * (2 * covariance + c2) / (var_a + var_b + c2)


def mesh(sr: np.ndarray, hr: np.ndarray, scale: int) -> float:
    """Strength of a pattern that repeats every `scale` pixels in sr but not in hr, in levels of 0..255; 0 is none.

    sr, hr: uint8 (h, w) or (h, w, 3); `scale` pixels are cut at the border.

    Sub-pixel convolutions compute each pixel of a cell of `scale` x `scale` pixels with a kernel of its own. If these
    kernels respond differently to a flat area, it shows a mesh. The strength is the standard deviation, over the pixels
    of the cell, of the mean difference between sr and hr.
    """
    difference = shaved(sr, scale).astype(float) - shaved(hr, scale)
    cell = np.ndindex(scale, scale)
    means = [difference[row::scale, column::scale].mean(axis=(0, 1)) for row, column in cell]  # scalars, or (3,)
    return float(np.std(means, axis=0).mean())


def colour_shift(sr: np.ndarray, reference: np.ndarray) -> float:
    """Difference between the mean colours of two pictures, in levels of 0..255, in the channel where it is largest.

    sr, reference: uint8 (h, w) or (h, w, 3).
    """
    shift = sr.astype(float).mean(axis=(0, 1)) - reference.astype(float).mean(axis=(0, 1))
    return float(np.abs(shift).max())


def niqe(picture: np.ndarray) -> float:
    """NIQE of luma (h, w) in 0..255; lower is more natural. NaN if fewer than two blocks of 96x96 have texture.

    It compares the statistics of the picture's blocks with those of natural pictures. Source: Mittal et al. 2013,
    "Making a completely blind image quality analyzer".
    """
    with np.load(PRISTINE, allow_pickle=False) as pristine:
        mean, covariance, window = (pristine[name] for name in ("mu_pris_param", "cov_pris_param", "gaussian_window"))
    # Whole blocks only: their statistics are compared, so they must be of one size.
    height, width = (length - length % BLOCK for length in picture.shape)
    if height * width < 2 * BLOCK**2:
        return float("nan")
    picture = picture[:height, :width].astype(float)
    scales = []
    for block in (BLOCK, BLOCK // 2):  # the same blocks, the second time in the picture at half the size
        normal = normalised(picture, window)
        blocks = [
            block_features(normal[y : y + block, x : x + block])
            for x in range(0, normal.shape[1], block)
            for y in range(0, normal.shape[0], block)
        ]
        scales.append(blocks)  # (blocks, 18)
        picture = resize(picture, 0.5)  # some distortions, such as blur, show at one scale but not at the other
    features = np.concatenate(scales, axis=1)  # (blocks, 36)
    # A flat block has no distribution to fit, and some of its features are NaN.
    textured = features[~np.isnan(features).any(axis=1)]
    if len(textured) < 2:
        return float("nan")
    # The distance between two Gaussian distributions of features, that of natural pictures and that of this picture. As
    # in the authors' implementation, the mean is taken over all blocks, leaving out single NaNs, but the covariance
    # only over textured blocks.
    difference = mean.ravel() - np.nanmean(features, axis=0)
    pooled = (covariance + np.cov(textured, rowvar=False)) / 2
    # With few blocks the covariance is singular, so it has only a pseudo-inverse.
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def normalised(picture: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Subtract the local mean of a picture (h, w) and divide by its local standard deviation plus 1.

    window: the weights of a pixel's neighbourhood, with the sum 1. In natural pictures the result has almost a Gaussian
    distribution; distortions change its shape.
    """
    mean = convolve(picture, window, mode="nearest")
    # The variance as mean of squares minus square of the mean; rounding can make it slightly negative.
    deviation = np.sqrt(np.abs(convolve(picture**2, window, mode="nearest") - mean**2))
    normal = (picture - mean) / (deviation + 1)
    return np.where(np.abs(normal) < 1e-9, 0, normal)  # rounding errors in flat areas are no texture


def block_features(block: np.ndarray) -> list[float]:
    """Return NIQE's 18 features of a normalised block (h, w); some are NaN if it is flat.

    They are parameters of the distributions of the pixels (2) and of their products with the neighbours in four
    directions (4 each), which measure how neighbours depend on one another.
    """
    shape, left, right = asymmetric_gaussian(block)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        # Neighbours that resemble one another have more positive products than negative ones: left and right differ.
        shape, left, right = asymmetric_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)  # of the fitted distribution
        features += [shape, mean, left, right]
    return features


def asymmetric_gaussian(values: np.ndarray) -> tuple[float, float, float]:
    """Fit an asymmetric generalised Gaussian distribution to `values` by its moments (Lasmar et al. 2009).

    Returns (shape, left scale, right scale). If there are no values below or above 0, scales are NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt(np.sum(side**2) / side.size) for side in (values[values < 0], values[values > 0]))
        asymmetry = left / right
        ratio = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
        # What the ratio would be if both sides had the same scale, so that it depends on the shape alone.
        ratio *= (asymmetry**3 + 1) * (asymmetry + 1) / (asymmetry**2 + 1) ** 2
    # The equation for the shape cannot be solved in closed form, so the nearest entry of a table is taken.
    shape = GAUSSIAN_SHAPES[np.argmin((SHAPE_RATIOS - ratio) ** 2)]
    # From the standard deviation of each side to its scale parameter.
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
