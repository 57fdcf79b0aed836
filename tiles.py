"""Apply a network to a picture of any size, tile by tile in bounded memory, or to its flips and turns."""

from collections.abc import Callable, Iterator

import numpy as np


def windows(length: int, size: int, halo: int, border: int = 0) -> list[tuple[int, int, int]]:
    """Cover an axis of `length` pixels with windows of `size` pixels; return [(start, first, last)].

    A window sees the pixels from `start` to `start + size`; its core, the part of the result that it contributes, is
    `first` to `last`. The cores follow each other without gaps. Inside the picture a window sees at least `halo`
    pixels beyond its core on either side. The windows also cover `border` pixels, at most `halo`, before and after the
    axis, so `start` may be negative.

    All windows have the same size, because an engine has to prepare itself for each new size.
    """
    count = window_count(length + 2 * border, size, halo)
    if count == 1:
        return [(-border, 0, length)]
    starts = np.linspace(-border, length + border - size, count).astype(int)
    # Two neighbours overlap from the start of the second to the end of the first; the cut is in the middle of that.
    cuts = [0, *((starts[1:] + starts[:-1] + size) // 2).tolist(), length]
    return list(zip(starts.tolist(), cuts, cuts[1:]))


def window_count(length: int, size: int, halo: int) -> int:
    """Return how many windows of `size` pixels cover `length` pixels if neighbours share at least 2 * `halo` pixels."""
    return 1 + max(0, int(np.ceil((length - size) / (size - 2 * halo))))


def smallest_size(length: int, size: int, halo: int, border: int = 0) -> int:
    """Return the smallest window size with which windows() needs no more windows than with `size`.

    With `size` itself the windows may overlap far more than necessary: 1000 pixels take three windows of 512, but three
    of 355 do as well.
    """
    padded = length + 2 * border
    count = window_count(padded, size, halo)
    return max(2 * halo + 1, int(np.ceil((padded + 2 * halo * (count - 1)) / count)))


def by_tiles(
    network: Callable[[np.ndarray], np.ndarray],
    lr: np.ndarray,
    tile: int | tuple[int, int] = 256,
    halo: int = 40,
    batch: int = 1,
    border: int = 0,
    done: int = 0,
) -> Iterator[np.ndarray]:
    """Super-resolve lr (h, w, 3); yield strips of sr from top to bottom, (rows, scale*w, 3), in the network's dtype.

    network: (N, h, w, 3) -> (N, scale*h, scale*w, 3), in any range.
    tile: side of a tile in pixels of lr, or (height, width).
    halo: pixels that a tile sees beyond its core; 16 residual blocks and the paper's 9x9 convolutions see 40 pixels
    far, so that with 40 no seam is possible.
    batch: number of tiles that the network takes at a time; memory grows with batch times the pixels of a tile.
    border: by how many pixels, at most `halo`, the picture is continued on all sides, mirrored.
    done: number of rows of lr whose strips exist already; tiles within them are skipped.
    Raises ValueError if a tile would be nothing but halo.
    """
    from pictures import cut_out  # imported only here, because it needs SciPy, which the network alone does without

    if np.min(tile) <= 2 * halo:
        raise ValueError(f"tile={tile}: must be more than twice the halo of {halo}")
    tile_height, tile_width = np.broadcast_to(tile, 2)
    height = min(tile_height, lr.shape[0] + 2 * border)  # of every tile; smaller if the picture is smaller than a tile
    width = min(tile_width, lr.shape[1] + 2 * border)
    columns = windows(lr.shape[1], tile_width, halo, border)
    for y, top, bottom in windows(lr.shape[0], tile_height, halo, border):
        if bottom <= done:
            continue
        top, cores = max(top, done), []
        for chunk in (columns[n : n + batch] for n in range(0, len(columns), batch)):
            tiles = np.stack([cut_out(lr, y, x, height, width) for x, _, _ in chunk])
            srs = network(tiles)
            scale = srs.shape[1] // tiles.shape[1]
            for sr, (x, left, right) in zip(srs, chunk):
                cores.append(sr[scale * (top - y) : scale * (bottom - y), scale * (left - x) : scale * (right - x)])
        yield np.concatenate(cores, axis=1)


def mean_over_turns(network: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a network whose result is the mean over the eight flips and quarter turns of lr, each turned back.

    network: lr float32 (N, h, w, 3) -> sr float32 (N, scale*h, scale*w, 3).
    Source: Timofte et al. 2016, "Seven ways to improve example-based single image super resolution".
    """

    from pictures import turned, turned_back  # imported only here, because it needs SciPy

    def mean(lr: np.ndarray) -> np.ndarray:
        total: np.ndarray = np.zeros((), np.float32)
        for turn in range(8):
            srs = network(np.stack([turned(picture, turn) for picture in lr]))
            total = total + np.stack([turned_back(sr, turn) for sr in srs])
        return total / np.float32(8)

    return mean
