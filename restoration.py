"""How much a picture needs to be restored: what its file and its pixels tell of compression and noise.

Functions that need only NumPy, SciPy and Pillow, so that the file can be used alone.
"""

import functools
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from scipy.fft import dct, dctn

BLOCK = 8  # side in pixels of JPEG's blocks
WINDOW = 1024  # side in pixels of the middle of a picture, which is enough to tell
FEWEST = 280  # blocks; in smaller pictures texture cannot be told from noise, nor a grid from chance
EDGE = 8.0  # levels; larger coefficients belong to edges, which survive compression
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
FINE = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)) >= 5  # (8, 8): the coefficients that JPEG rounds most coarsely

# Takes an even slope and the mean from 4x4 values: (n, 16) @ NO_SLOPE
SLOPES = np.stack([np.ones((4, 4)), *np.mgrid[-1.5:2, -1.5:2]]).reshape(3, 16)
NO_SLOPE = (np.eye(16) - np.linalg.pinv(SLOPES) @ SLOPES).astype(np.float32)


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


def middle(picture: np.ndarray) -> np.ndarray:
    """Return the luma (h, w), 0..255, of the middle of a picture (h, w, 1 to 4): uint8, uint16, or floats in 0..1."""
    top, left = (max(0, (length - WINDOW) // 2) for length in picture.shape[:2])
    window = picture[top : top + WINDOW, left : left + WINDOW].astype(np.float32)
    luma = window[..., :3] @ LUMA if picture.shape[2] > 2 else window[..., 0]
    return luma * np.float32(255 / (np.iinfo(picture.dtype).max if picture.dtype.kind == "u" else 1))


def lost_detail(luma: np.ndarray) -> float:
    """Return which part of the fine detail is missing in blocks of JPEG, wherever their grid begins; 0 without a grid.

    luma: (h, w) in 0..255. JPEG rounds fine detail to zero in its own blocks, but not in others, which overlap them. So
    the grid is where it is smallest, and the loss is the difference from the blocks half-way between. Measured: below
    0.03 for a clean picture, 0.15 for quality 95, 0.35 for 90, 0.5 for 85, 0.63 for 75, 0.75 for 50.
    """
    if luma.size < FEWEST * BLOCK**2 or min(luma.shape) < 3 * BLOCK:
        return 0.0
    top, left = grid_start(luma.T), grid_start(luma)
    here = fine_in_blocks(luma[top:, left:])
    between = fine_in_blocks(luma[(top + BLOCK // 2) % BLOCK :, (left + BLOCK // 2) % BLOCK :])
    return max(0.0, 1 - here / between) if between > 0.1 else 0.0


def grid_start(luma: np.ndarray) -> int:
    """Return the column of luma (h, w), 0 to 7, at which blocks of JPEG would begin, those with least fine detail."""
    return int(np.argmin([fine_in_rows(luma[:, start:]) for start in range(BLOCK)]))


def fine_in_rows(luma: np.ndarray) -> float:
    """Return the mean size of fine horizontal detail in blocks from the left edge of luma (h, w) on, in levels."""
    height, width = luma.shape
    pieces = luma[:, : width // BLOCK * BLOCK].reshape(height, -1, BLOCK)
    return float(np.abs(dct(pieces, norm="ortho")[..., BLOCK // 2 :]).clip(0, EDGE).mean())


def blocks(luma: np.ndarray) -> np.ndarray:
    """Cut luma (h, w) into blocks (n, 8, 8) from the upper left corner; what is left over is dropped."""
    down, across = (length // BLOCK for length in luma.shape)
    cut = luma[: down * BLOCK, : across * BLOCK].reshape(down, BLOCK, across, BLOCK)
    return cut.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)


def fine_in_blocks(luma: np.ndarray) -> float:
    """Return the mean size of fine detail in the blocks of luma (h, w), in levels."""
    return float(np.abs(dctn(blocks(luma), axes=(1, 2), norm="ortho")[:, FINE]).clip(0, EDGE).mean())


def noise(luma: np.ndarray) -> float:
    """Estimate the standard deviation of noise, in levels, from the flattest blocks of luma (h, w) in 0..255.

    It is 0 for a picture in which no place is flat, since texture hides noise, and for one too small to tell.
    """
    cells = blocks(luma)
    cells = cells[(cells.min((1, 2)) > 2) & (cells.max((1, 2)) < 253)]  # black and white hide noise too
    if len(cells) < FEWEST:
        return 0.0
    # Haar's wavelet, whose four bands have the noise's own deviation. Its finest band is noise and texture; the coarse
    # one without an even slope, such as a sky's, is noise and everything else.
    a, b, c, d = (cells[:, row::2, column::2] for row in (0, 1) for column in (0, 1))  # (n, 4, 4) each
    fine = np.sqrt(np.square((a - b - c + d) / 2).mean((1, 2)))
    coarse = (((a + b + c + d) / 2).reshape(len(cells), -1) @ NO_SLOPE).std(1)
    flattest = np.argsort(coarse)[: len(cells) // 20]
    deviation = float(np.median(fine[flattest]))
    return deviation if np.median(coarse[flattest]) < 1.5 * deviation else 0.0


# {what a picture shows: how much restoration brought it nearest to HR in VGG19's features}, on the validation pictures
BY_QUALITY = {75.0: 1.0, 85.0: 0.75, 92.0: 0.5, 97.0: 0.25, 99.0: 0.0}
BY_LOST_DETAIL = {0.14: 0.0, 0.15: 0.25, 0.35: 0.5, 0.5: 0.75, 0.6: 1.0}
BY_NOISE = {1.4: 0.0, 1.5: 0.3, 2.0: 0.5, 3.0: 0.75, 5.0: 1.0}  # levels; texture can look like less than the first
# {codec: {how coarsely it rounds the first frames on average: ...}}, H.264's 0 to 51 and VP9's 0 to 255
BY_QUANTIZER = {
    "h264": {10.0: 0.2, 15.0: 0.38, 20.0: 0.6, 25.0: 0.88, 28.0: 1.0},
    "vp9": {0.0: 0.1, 70.0: 0.32, 110.0: 0.63, 165.0: 0.9, 190.0: 1.0},
}
LOSSY = 0.5  # for files that are compressed in another way; measured for WebP and AVIF, used for HEIC and others too
STEPS = 4  # a network is made for each step that occurs


def needed(
    picture: np.ndarray, tables: Mapping[int, Sequence[int]] | None = None, lossy: bool = False
) -> tuple[float, str]:
    """Return how much a picture needs to be restored, 0 to 1 in quarters, and why, in a few words.

    picture: (h, w, 1 to 4), as for middle. tables: those of a JPEG, as for jpeg_quality. lossy: whether the picture
    comes from another kind of compressed file.
    """
    luma = middle(picture)
    deviation = noise(luma)
    reasons = [(0.0, "clean"), (looked_up(deviation, BY_NOISE), f"noise of {deviation:.1f} levels")]
    if lossy:
        reasons.append((LOSSY, "a compressed file"))
    if tables:
        quality = jpeg_quality(tables)
        reasons.append((looked_up(quality, BY_QUALITY), f"JPEG quality {quality:.0f}"))
    else:
        lost = lost_detail(luma)
        reasons.append((looked_up(lost, BY_LOST_DETAIL), f"JPEG before, {lost:.0%} of fine detail lost"))
    restore, why = max(reasons, key=lambda reason: reason[0])
    return in_steps(restore), why


def needed_by_video(codec: str, quantizer: float | None) -> tuple[float, str]:
    """Return how much a video needs to be restored, 0 to 1 in quarters, and why, in a few words.

    quantizer: how coarsely the codec rounds, in its own measure; None if that is unknown.
    """
    if quantizer is None or codec not in BY_QUANTIZER:
        return LOSSY, "a video"
    return in_steps(looked_up(quantizer, BY_QUANTIZER[codec])), f"{codec} video with quantizer {quantizer:.0f}"


def in_steps(restore: float) -> float:
    """Return the nearest of the steps from 0 to 1."""
    return round(STEPS * restore) / STEPS


def looked_up(value: float, table: Mapping[float, float]) -> float:
    """Interpolate between the entries of `table`; beyond them the nearest one counts."""
    return float(np.interp(value, list(table), list(table.values())))
