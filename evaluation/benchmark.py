"""The benchmark sets, and each of their pictures as lr and hr."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evaluation.published import PAPER
from pictures import as_colour, cut_to_multiple, find_pictures, read_picture, resize
from utils import UserError

SMALLEST = 11  # pixels, the side of the window of MATLAB's SSIM


def benchmark_sets(
    folder: str | Path, scale: int, remarks: list[str]
) -> Iterator[tuple[str, list[tuple[Path, np.ndarray, np.ndarray]]]]:
    """Yield (name, [(path, lr, hr)]) for each set in the benchmark folder, those of the paper first.

    A picture that cannot be measured is left out, and a line is added to `remarks`. Raises UserError if there is no set
    or no picture that can be measured.
    """
    sets = [path for path in Path(folder).glob("*") if (path / "HR").is_dir()]
    if not sets:
        raise UserError(f"{folder}: no set in it (a folder with HR/ inside)")
    known = list(PAPER)
    sets.sort(key=lambda path: (known.index(path.name) if path.name in known else len(known), path.name))
    measurable = 0
    for path in sets:
        pictures = []
        for hr_path in find_pictures(path / "HR"):
            try:
                pictures.append((hr_path, *benchmark_pair(hr_path, path / f"LRx{scale}" / hr_path.name, scale)))
            except UserError as error:
                remarks.append(f"left out: {error}")
        measurable += len(pictures)
        if pictures:
            yield path.name, pictures
    if not measurable:
        raise UserError(f"{folder}: no picture in it can be measured; {remarks[-1]}")


def benchmark_pair(hr_path: Path, lr_path: Path, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (lr, hr), uint8, both grey (h, w) or both colour (h, w, 3); LR is made from HR if there is no file of it.

    Raises UserError if a file is unreadable, HR is too small, or their sizes do not match.
    """
    whole = read_picture(hr_path, grey=True)
    hr = cut_to_multiple(whole, scale)
    if min(hr.shape[:2]) < SMALLEST + 2 * scale:
        raise UserError(f"{hr_path}: {whole.shape[1]}x{whole.shape[0]} is too small to measure SSIM on")
    lr = read_picture(lr_path, grey=True) if lr_path.exists() else resize(hr, 1 / scale)
    if hr.shape[:2] != (scale * lr.shape[0], scale * lr.shape[1]):
        raise UserError(f"{lr_path}: is not 1/{scale} of {hr_path.name} in size; delete it to have it made")
    return (lr, hr) if lr.ndim == hr.ndim else (as_colour(lr), as_colour(hr))
