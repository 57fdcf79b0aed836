"""Pictures of several methods side by side, with the detail in which they differ most."""

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import uniform_filter

from evaluation.metrics import luma
from pictures import as_colour, grid, labelled, resize


def comparison(
    srs: dict[str, np.ndarray], hr: np.ndarray, scores: dict[str, list[dict[str, float]]], methods: Iterable[str]
) -> np.ndarray:
    """Show `methods`, as far as they are in `srs`, and HR side by side in one picture, an enlarged detail below each.

    srs: {method: uint8 (h, w) or (h, w, 3)}. scores: {method: [{metric: value}]}, of which the last is this picture's.
    """
    shown = {method: srs[method] for method in methods if method in srs}
    labels = [f"{method} {scores[method][-1]['psnr']:.2f} dB" for method in shown] + ["HR"]
    pictures = [as_colour(picture) for picture in [*shown.values(), hr]]
    zoom = max(1, round(hr.shape[1] / 64))
    top, left, side = hardest_detail(srs["bicubic"], hr, hr.shape[1] // zoom)
    details = [resize(p[top : top + side, left : left + side], zoom, "nearest") for p in pictures]
    return grid([[labelled(p, text) for p, text in zip(pictures, labels)], details])


def hardest_detail(bicubic: np.ndarray, hr: np.ndarray, side: int) -> tuple[int, int, int]:
    """Return (top, left, side) of the square in which bicubic differs most from HR; its side is at most `side`."""
    side = min(side, *hr.shape[:2])
    error = uniform_filter((luma(bicubic) - luma(hr)) ** 2, side)  # mean over the square around each pixel
    # Only squares that lie inside the picture; index 0 is the one whose top left corner is (0, 0).
    inner = error[side // 2 : hr.shape[0] - side // 2 + 1, side // 2 : hr.shape[1] - side // 2 + 1]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    return int(top), int(left), side
