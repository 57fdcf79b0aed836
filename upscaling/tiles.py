"""A network over a picture of any size, tile by tile, so that memory is bounded."""

import numpy as np


def windows(length, size, halo, border=0):
    """[(start, first, last)] along one axis of `length` pixels, for windows of `size` pixels.

    The windows also cover `border` pixels, at most `halo`, before and behind the axis, so that `start` may be negative.
    A window sees the pixels from `start` to `start + size`; its core, the part of the result that it contributes, is
    `first` to `last`. The cores follow each other without gaps. Inside the picture a window sees at least `halo`
    pixels beyond its core on either side.

    All windows have one size, because an engine prepares itself anew for each size that it meets.
    """
    padded = length + 2 * border
    if padded <= size:
        return [(-border, 0, length)]
    count = 1 + int(np.ceil((padded - size) / (size - 2 * halo)))
    starts = np.linspace(-border, length + border - size, count).astype(int)
    # Two neighbours overlap from the start of the second to the end of the first: cut in the middle of that.
    cuts = [0, *((starts[1:] + starts[:-1] + size) // 2), length]
    return list(zip(starts, cuts, cuts[1:]))


def cut_out(lr, y, x, height, width):
    """The part (height, width, c) of lr (h, w, c) from y and x on, its edge continued by its outermost pixels."""
    rows = np.arange(y, y + height).clip(0, lr.shape[0] - 1)
    columns = np.arange(x, x + width).clip(0, lr.shape[1] - 1)
    return lr[rows[:, None], columns]


def by_tiles(network, lr, tile=256, halo=40, batch=1, border=0):
    """lr (h, w, 3) -> strips of sr from top to bottom, each (rows, scale*w, 3), in the network's dtype and range.

    network: (N, h, w, 3) -> (N, scale*h, scale*w, 3). tile: side of a tile in pixels of lr. batch: tiles that the
    network takes at a time; memory grows with tile * tile * batch. halo: pixels beyond its core that a tile sees; 16
    residual blocks and the paper's 9x9 ends reach 40 pixels, so that with 40 no seam is possible. border: pixels by
    which the network sees the picture continued on all sides, by repetition of its edge; at most `halo`.
    Raises ValueError where a tile would be all halo.
    """
    if tile <= 2 * halo:
        raise ValueError(f"tile={tile}: must be more than twice the halo of {halo}")
    height, width = (min(tile, length + 2 * border) for length in lr.shape[:2])  # of every tile
    columns = windows(lr.shape[1], tile, halo, border)
    for y, top, bottom in windows(lr.shape[0], tile, halo, border):
        cores = []
        for chunk in (columns[n : n + batch] for n in range(0, len(columns), batch)):
            tiles = np.stack([cut_out(lr, y, x, height, width) for x, _, _ in chunk])
            srs = network(tiles)
            scale = srs.shape[1] // tiles.shape[1]
            for sr, (x, left, right) in zip(srs, chunk):
                cores.append(sr[scale * (top - y) : scale * (bottom - y), scale * (left - x) : scale * (right - x)])
        yield np.concatenate(cores, axis=1)
