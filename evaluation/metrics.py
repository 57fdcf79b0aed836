"""PSNR and SSIM as super-resolution papers measure them, on luma with the border cut; NIQE; features of VGG19."""

from pathlib import Path

import numpy as np
from keras import ops
from scipy.ndimage import convolve, correlate1d
from scipy.special import gamma

from pictures import resize

# Mean, covariance and Gaussian window of Mittal, Soundararajan and Bovik 2013 (LIVE, University of Texas
# at Austin; free with citation)
PRISTINE = Path(__file__).parents[1] / "data" / "niqe_pristine.npz"
BLOCK = 96  # side of the blocks that NIQE looks at
# Generalised Gaussians: shape parameters, and the ratio mean(|x|)^2 / mean(x^2) that each has
GAUSSIAN_SHAPES = np.arange(0.2, 10.001, 0.001)
SHAPE_RATIOS = gamma(2 / GAUSSIAN_SHAPES) ** 2 / (gamma(1 / GAUSSIAN_SHAPES) * gamma(3 / GAUSSIAN_SHAPES))


def luma(picture):
    """Y of BT.601 in 16..235, rounded, from uint8 RGB (h, w, 3), as MATLAB's rgb2ycbcr; grey (h, w) as it is."""
    if picture.ndim == 2:
        return picture.astype(float)
    return np.round(picture @ np.array([65.481, 128.553, 24.966]) / 255 + 16)


def shaved(picture, border):
    """The picture (h, w) or (h, w, c) without `border` pixels at each side."""
    return picture[border : picture.shape[0] - border, border : picture.shape[1] - border]


def psnr(a, b, shave):
    """Peak signal-to-noise ratio in dB of two (h, w) in 0..255, without `shave` pixels of border."""
    error = np.mean((shaved(a, shave).astype(float) - shaved(b, shave)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(a, b, shave):
    """SSIM of two (h, w) in 0..255 as MATLAB's ssim_index: 11x11 Gaussian of sigma 1.5, valid part (Wang 2004)."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(x):
        return shaved(correlate1d(correlate1d(x, taps, 0), taps, 1), 5)

    return float(np.mean(similarity(shaved(a, shave).astype(float), shaved(b, shave).astype(float), blur)))


def ssim_daala(a, b, shave):
    """SSIM of two (h, w) in 0..255 as the paper's tool, xiph/daala's dump_ssim, on 8-bit luma.

    The Gaussian widens with the height, sigma = 1.5 * h / 256, its taps are integers of 10 bits, the
    window is cut at the border and the mean weighs each pixel with the window's mass there.
    """
    a, b = (shaved(x, shave).astype(float) for x in (a, b))
    taps = [daala_taps(1.5 * a.shape[0] / 256, length) for length in a.shape]

    def weigh(x):
        return correlate1d(correlate1d(x, taps[0], 0, mode="constant"), taps[1], 1, mode="constant")

    mass = weigh(np.ones_like(a))
    return float(np.sum(mass * similarity(a, b, lambda x: weigh(x) / mass)) / mass.sum())


def daala_taps(sigma, longest):
    """dump_ssim.c, gaussian_filter_init: taps of a whole sum of 1024, the first left out below 0.5."""
    whole = 1024
    smallest = np.sqrt(0.5 * np.pi) * sigma / whole
    reach = 0 if smallest >= 1 else int(sigma * np.sqrt(-2 * np.log(smallest)))
    reach = min(reach, longest - 1)
    side = np.arange(1, reach + 1)
    half = np.floor(whole / (np.sqrt(2 * np.pi) * sigma) * np.exp(-0.5 * (side / sigma) ** 2) + 0.5)
    return np.concatenate([half[::-1], [whole - 2 * half.sum()], half])


def similarity(a, b, blur):
    """The SSIM map (Wang 2004, eq. 13) for the local mean `blur`."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    means = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return means * (2 * covariance + c2) / (var_a + var_b + c2)


def mesh(sr, hr, shave, period=4):
    """How strong a mesh of `period` pixels is in sr, in levels of 255: 0 is none; uint8 (h, w) or (h, w, 3).

    Sub-pixel convolutions make the pixels at each place of a 4x4 cell by kernels of their own; where these differ, flat
    areas show a pattern. It is the standard deviation, over the places in the cell, of the mean difference to hr.
    """
    difference = shaved(sr, shave).astype(float) - shaved(hr, shave)
    rows = np.arange(difference.shape[0]) % period
    columns = np.arange(difference.shape[1]) % period
    means = [
        difference[rows == row][:, columns == column].mean(axis=(0, 1))  # a number, or one a channel
        for row in range(period)
        for column in range(period)
    ]
    return float(np.std(means, axis=0).mean())


def colour_shift(sr, reference):
    """Largest difference of two pictures' mean red, green or blue, in levels of 255; uint8 (h, w) or (h, w, 3)."""
    shift = sr.astype(float).mean(axis=(0, 1)) - reference.astype(float).mean(axis=(0, 1))
    return float(np.abs(shift).max())


PERCEPTUAL_LAYERS = ["block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4"]  # of VGG19


def feature_distance(a, b):
    """Squared distance of features scaled to unit length, mean over places and layers: (N,), 0 (equal) to 4.

    a, b: a list, a layer an item, of (N, h, w, c); b may hold one picture for all of a. LPIPS without its
    learnt weights (Zhang et al. 2018, eq. 1).
    """
    squares = [ops.square(ops.normalize(x, axis=-1) - ops.normalize(y, axis=-1)) for x, y in zip(a, b, strict=True)]
    return sum(ops.mean(ops.sum(square, axis=-1), axis=(1, 2)) for square in squares) / len(squares)


def niqe(picture):
    """NIQE of luma (h, w) in 0..255, lower is more natural; NaN below two textured blocks of 96x96.

    Source: Mittal et al. 2013, "Making a completely blind image quality analyzer".
    """
    with np.load(PRISTINE, allow_pickle=False) as pristine:
        mean, covariance, window = (pristine[name] for name in ("mu_pris_param", "cov_pris_param", "gaussian_window"))
    height, width = (length - length % BLOCK for length in picture.shape)
    if height * width < 2 * BLOCK**2:
        return float("nan")
    picture, features = picture[:height, :width].astype(float), []
    for block in (BLOCK, BLOCK // 2):  # the same blocks, at half the size the second time
        normal = normalised(picture, window)
        rows = [
            block_features(normal[y : y + block, x : x + block])
            for x in range(0, normal.shape[1], block)
            for y in range(0, normal.shape[0], block)
        ]
        features.append(rows)
        picture = resize(picture, 0.5)
    features = np.concatenate(features, axis=1)  # (blocks, 36)
    textured = features[~np.isnan(features).any(axis=1)]
    if len(textured) < 2:
        return float("nan")
    here, spread = np.nanmean(features, axis=0), np.cov(textured, rowvar=False)
    away = mean.ravel() - here
    return float(np.sqrt(away @ np.linalg.pinv((covariance + spread) / 2) @ away))


def normalised(picture, window):
    """Each pixel less its local mean, in units of its local deviation plus one."""
    mean = convolve(picture, window, mode="nearest")
    deviation = np.sqrt(np.abs(convolve(picture**2, window, mode="nearest") - mean**2))
    normal = (picture - mean) / (deviation + 1)
    return np.where(np.abs(normal) < 1e-9, 0, normal)  # in flat areas rounding noise would count as texture


def block_features(block):
    """18 numbers: shape and scale of a block's values, and of their products with four neighbours."""
    shape, left, right = asymmetric_gaussian(block)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = asymmetric_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return features


def asymmetric_gaussian(values):
    """(shape, left scale, right scale) of the generalised Gaussian that fits `values`, by moments; NaN if flat."""
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt(np.sum(side**2) / side.size) for side in (values[values < 0], values[values > 0]))
        tilt = left / right
        ratio = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
        ratio *= (tilt**3 + 1) * (tilt + 1) / (tilt**2 + 1) ** 2
    shape = GAUSSIAN_SHAPES[np.argmin((SHAPE_RATIOS - ratio) ** 2)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
