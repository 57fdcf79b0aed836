"""How much a picture needs to be restored: what its file and its pixels tell of compression and noise.

Functions that need only NumPy, SciPy and Pillow, and the small network in artefacts.npz, so that the file can be used
alone. training/artefacts.py trained that network.
"""

import functools
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from scipy.fft import dct, dctn

NETWORK = Path(__file__).parent / "checkpoints/pretrained/artefacts.npz"
BLOCK = 8  # side in pixels of JPEG's blocks
WINDOW = 512  # side in pixels of the middle of a picture, which is enough to tell
SMALLEST = 64  # side in pixels; in smaller pictures artefacts cannot be told from texture
ENOUGH = 134**2  # pixels; of smaller pictures the estimate is less sure
GROUPS = 4  # of blocks, from the smoothest to the most detailed
EDGE = 8.0  # levels; larger coefficients belong to edges, which survive compression
DETAIL_OFFSET = 0.05  # levels, added before logarithms of detail
ERROR_OFFSET = 0.5  # levels, added before the logarithm of the error

# RGB to Y, Cb and Cr, as in JPEG (ITU-T T.871)
TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32).T
# (7, 64): the coefficients of a block in seven bands, from coarse to fine, each as its part of the band
DIAGONAL = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel()
BANDS = np.stack([np.isin(DIAGONAL, (odd, odd + 1)) for odd in range(1, 15, 2)]).astype(np.float32)
BANDS /= BANDS.sum(1, keepdims=True)


@functools.cache
def luma_table(quality: int) -> np.ndarray:
    """Return the 64 steps, in levels, to which libjpeg rounds the coefficients of luma at `quality`, 1 to 100."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "JPEG", quality=quality)
    file.seek(0)
    return np.array(JpegImageFile(file).quantization[0], np.float64)


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> float:
    """Return the quality, 1 to 100, of a JPEG. tables: {0: the steps of luma, ...}, Pillow's `image.quantization`.

    It is libjpeg's. Of a camera with tables of its own it is the one whose table comes nearest (least squares).
    """
    steps, usual = np.array(tables[0], np.float64), luma_table(50)
    percent = 100 * (steps @ usual) / (usual @ usual)
    return float(np.clip(5000 / percent if percent > 100 else 100 - percent / 2, 1, 100))  # as libjpeg scales its table


def statistics(picture: np.ndarray) -> np.ndarray:
    """Return the 88 numbers by which artefacts are told, of a picture (h, w, 3), RGB in 0..255, from 64x64 pixels on.

    They say how much detail of each fineness there is, in luma and chroma, from smooth to detailed places; how much
    less fine detail the blocks of one grid have than others; and how smooth the picture is.
    """
    channels = picture.astype(np.float32) @ TO_YCBCR  # (h, w, 3)
    luma = channels[..., 0]
    detail = np.concatenate([detail_in_blocks(channels), detail_in_blocks(channels[BLOCK // 2 :, BLOCK // 2 :])])
    coarse = detail[:, 0, :2].sum(1)  # of luma
    groups = np.array_split(detail[np.argsort(coarse)], GROUPS)
    spectra = np.log([group.mean(0) + DETAIL_OFFSET for group in groups])  # (4, 3, 7)
    directions = [luma, luma.T]
    grid = np.mean([missing_in_grid(lines) for lines in directions])
    smooth = np.mean([smoothness(lines) for lines in directions], axis=0)  # (3,)
    return np.concatenate([spectra.ravel(), [grid], smooth]).astype(np.float32)


def detail_in_blocks(channels: np.ndarray) -> np.ndarray:
    """Return the mean size of the coefficients in each band, (n, 3, 7) in levels, of the blocks of (h, w, 3).

    Blocks with black or white in them are left out if others remain: there is no noise in these.
    """
    down, across = (length // BLOCK for length in channels.shape[:2])
    cut = channels[: down * BLOCK, : across * BLOCK].reshape(down, BLOCK, across, BLOCK, 3)
    blocks = cut.transpose(0, 2, 4, 1, 3).reshape(-1, 3, BLOCK, BLOCK)
    between = (blocks[:, 0].min((1, 2)) > 3) & (blocks[:, 0].max((1, 2)) < 252)
    blocks = blocks[between] if between.sum() >= 5 * GROUPS else blocks
    return np.abs(dctn(blocks, axes=(2, 3), norm="ortho")).reshape(-1, 3, BLOCK**2) @ BANDS.T


def missing_in_grid(lines: np.ndarray) -> float:
    """Return how much less fine detail there is in pieces of 8 pixels of `lines` (n, w) from one column on than others.

    JPEG rounds fine detail to zero in its own blocks, but not in those half-way between. 0 without a grid.
    """
    fine = []
    for start in range(BLOCK):
        pieces = lines[:, start:]
        pieces = pieces[:, : pieces.shape[1] // BLOCK * BLOCK].reshape(len(lines), -1, BLOCK)
        fine.append(np.abs(dct(pieces, norm="ortho")[..., BLOCK // 2 :]).clip(0, EDGE).mean() + DETAIL_OFFSET)
    grid = int(np.argmin(fine))
    return float(np.log(fine[(grid + BLOCK // 2) % BLOCK] / fine[grid]))


def smoothness(lines: np.ndarray) -> tuple[float, float, float]:
    """Return which part of `lines` (n, w) is straight within half a level, and how curved they are on average."""
    curvature = np.abs(np.diff(lines, 2, axis=1))
    mean, median = curvature.mean(), np.median(curvature)
    return float((curvature < 0.5).mean()), float(np.log(mean + DETAIL_OFFSET)), float(np.log(median + DETAIL_OFFSET))


@functools.cache
def layers() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return [(kernel, bias)] of the network in NETWORK."""
    with np.load(NETWORK, allow_pickle=False) as arrays:
        return [(arrays[f"kernel{number}"], arrays[f"bias{number}"]) for number in range(len(arrays) // 2)]


def artefacts(picture: np.ndarray) -> float:
    """Estimate how far a picture (h, w, 3), RGB in 0..255, is from what it was before noise and compression.

    The result is the root mean square of luma's error in levels. Blur is no error, since nothing can be taken away.
    """
    x = statistics(picture)
    for kernel, bias in layers():
        y = x @ kernel + bias
        x = np.maximum(y, 0)
    logarithm = float(y[0])  # the last layer's, which has no ReLU
    return max(0.0, math.exp(logarithm) - ERROR_OFFSET)


def middle(picture: np.ndarray) -> np.ndarray:
    """Return the middle of a picture (h, w, 1 to 4), uint8, uint16, or floats in 0..1, as RGB (h, w, 3) in 0..255."""
    top, left = (max(0, (length - WINDOW) // 2) for length in picture.shape[:2])
    window = picture[top : top + WINDOW, left : left + WINDOW].astype(np.float32)
    rgb = window[..., :3] if picture.shape[2] > 2 else window[..., :1].repeat(3, axis=2)
    return rgb * np.float32(255 / (np.iinfo(picture.dtype).max if picture.dtype.kind == "u" else 1))


# {what a file shows: how much restoration brought it nearest to HR in VGG19's features}, on the validation pictures
BY_QUALITY = {75.0: 1.0, 85.0: 0.8, 90.0: 0.7, 95.0: 0.5, 98.0: 0.2, 99.0: 0.0}
BY_ARTEFACTS = {1.3: 0.0, 1.5: 0.25, 1.9: 0.5, 2.6: 0.75, 7.0: 1.0}
ERROR_BY_QUALITY = {50.0: 7.0, 75.0: 5.0, 85.0: 3.7, 90.0: 2.8, 95.0: 1.7, 98.0: 0.9}  # levels, medians
STEPS = 4  # finer ones would say more than the estimate knows


def needed(picture: np.ndarray, tables: Mapping[int, Sequence[int]] | None = None) -> tuple[float, str]:
    """Return how much a picture needs to be restored, 0 to 1 in quarters, and why, in a few words.

    picture: (h, w, 1 to 4), as for middle. tables: those of a JPEG, as for jpeg_quality.
    """
    reasons, explained = [(0.0, "clean")], 0.0
    if tables:
        quality = jpeg_quality(tables)
        reasons.append((looked_up(quality, BY_QUALITY), f"JPEG quality {quality:.0f}"))
        explained = looked_up(quality, ERROR_BY_QUALITY)
    if min(picture.shape[:2]) >= SMALLEST:
        levels = artefacts(middle(picture))
        # What the tables do not explain happened before; independent errors add in squares.
        before = math.sqrt(max(0.0, levels**2 - explained**2))
        sure = min(1.0, picture[..., 0].size / ENOUGH)  # clean pictures lose most by a wrong estimate
        reasons.append((looked_up(sure * before, BY_ARTEFACTS), f"about {levels:.0f} levels of compression and noise"))
    restore, why = max(reasons, key=lambda reason: reason[0])
    return round(STEPS * restore) / STEPS, why


def looked_up(value: float, table: Mapping[float, float]) -> float:
    """Interpolate between the entries of `table`; beyond them the nearest one counts."""
    return float(np.interp(value, list(table), list(table.values())))
