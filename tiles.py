"""A network over a picture of any size, window by window, so that memory is bounded."""

import numpy as np


def windows(length, size, halo):
    """[(start, first, last)] along one axis: a window sees `size` pixels from `start`, and first..last are its own.

    All windows have one size, or the network would be prepared for each; inside the picture each sees `halo`
    pixels or more beyond its own.
    """
    if length <= size:
        return [(0, 0, length)]
    count = 1 + int(np.ceil((length - size) / (size - 2 * halo)))
    starts = np.linspace(0, length - size, count).astype(int)
    cuts = [0, *((starts[1:] + starts[:-1] + size) // 2), length]  # in the middle of what two windows see
    return list(zip(starts, cuts, cuts[1:]))


def super_resolve(network, lr, scale, tile=256, halo=40, batch=1):
    """lr float32 (h, w, 3) in [-1, 1] -> rows of sr, float32 (rows, scale*w, 3), from top to bottom.

    network: (N, h, w, 3) -> (N, scale*h, scale*w, 3). halo: 40 pixels are what 16 residual blocks and the
    paper's ends reach, so that no seam is possible.
    """
    if tile <= 2 * halo:
        raise ValueError(f"tile={tile}: must be more than twice the halo of {halo}")
    across = windows(lr.shape[1], tile, halo)
    for y, top, bottom in windows(lr.shape[0], tile, halo):
        strip = np.empty((scale * (bottom - top), scale * lr.shape[1], 3), np.float32)
        for some in (across[n : n + batch] for n in range(0, len(across), batch)):
            seen = np.stack([lr[y : y + tile, x : x + tile] for x, _, _ in some])
            for (x, left, right), sr in zip(some, network(seen)):
                own = sr[scale * (top - y) : scale * (bottom - y), scale * (left - x) : scale * (right - x)]
                strip[:, scale * left : scale * right] = own
        yield strip
