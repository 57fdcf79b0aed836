"""Pictures of several methods side by side, with the detail in which they differ most."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import uniform_filter

from evaluation.metrics import luma
from pictures import as_colour, resize


def comparison(
    srs: dict[str, np.ndarray], hr: np.ndarray, scores: dict[str, list[dict[str, float]]], methods: Iterable[str]
) -> np.ndarray:
    """Show `methods`, as far as they are in `srs`, and HR side by side in one picture, an enlarged detail below each.

    srs: {method: uint8 (h, w) or (h, w, 3)}. scores: {method: [{metric: value}]}, of which the last is this picture's.
    """
    in_order = {method: srs[method] for method in methods if method in srs}
    labels = [f"{method} {scores[method][-1]['psnr']:.2f} dB" for method in in_order] + ["HR"]
    pictures = [as_colour(picture) for picture in [*in_order.values(), hr]]
    zoom = max(1, round(hr.shape[1] / 64))
    top, left, side = hardest_detail(srs["bicubic"], hr, hr.shape[1] // zoom)
    details = [resize(p[top : top + side, left : left + side], zoom, "nearest") for p in pictures]
    return grid([[labelled(p, text) for p, text in zip(pictures, labels)], details])


def hardest_detail(bicubic: np.ndarray, hr: np.ndarray, side: int) -> tuple[int, int, int]:
    """Return (top, left, side) of the square in which bicubic differs most from HR; its side is at most `side`."""
    side = min(side, *hr.shape[:2])
    error = uniform_filter((luma(bicubic) - luma(hr)) ** 2, side)  # mean over the square around each pixel
    # Only squares that lie inside the picture; index 0 is the one whose top left corner is (0, 0).
    before, after = side // 2, (side - 1) // 2  # pixels of a square on either side of its middle
    inner = error[before : hr.shape[0] - after, before : hr.shape[1] - after]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    return int(top), int(left), side


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    """Add a white strip with `text` above a picture: uint8 (h, w, 3) -> (h + 16, w, 3)."""
    strip = Image.new("RGB", (picture.shape[1], 16), "white")
    ImageDraw.Draw(strip).text((2, 2), text, fill="black")
    return np.concatenate([np.asarray(strip), picture])


def grid(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Arrange rows of uint8 pictures (h, w, 3) in one picture, with `gap` white pixels between them.

    The pictures of a row are aligned at their top; shorter pictures and rows are filled with white.
    """
    lines = []
    for row in rows:
        height = max(p.shape[0] for p in row)
        padded = [np.pad(p, ((0, height - p.shape[0]), (0, gap), (0, 0)), constant_values=255) for p in row]
        lines.append(np.concatenate(padded, axis=1)[:, :-gap])
    width = max(line.shape[1] for line in lines)
    lines = [np.pad(x, ((0, gap), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in lines]
    return np.concatenate(lines)[:-gap]
