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


def by_tiles(network, lr, tile=256, halo=40, batch=1):
    """lr (h, w, 3) -> strips of sr from top to bottom, (rows, scale*w, 3).

    network: (N, h, w, 3) -> (N, scale*h, scale*w, 3). halo: 40 pixels are what 16 residual blocks
    and the paper's ends reach, so that no seam is possible; memory grows with tile * tile * batch.
    """
    if tile <= 2 * halo:
        raise ValueError(f"tile={tile}: must be more than twice the halo of {halo}")
    across = windows(lr.shape[1], tile, halo)
    for y, top, bottom in windows(lr.shape[0], tile, halo):
        parts = []
        for some in (across[n : n + batch] for n in range(0, len(across), batch)):
            seen = np.stack([lr[y : y + tile, x : x + tile] for x, _, _ in some])
            srs = network(seen)
            scale = srs.shape[1] // seen.shape[1]
            for sr, (x, left, right) in zip(srs, some):
                own = sr[scale * (top - y) : scale * (bottom - y), scale * (left - x) : scale * (right - x)]
                parts.append(own)
        yield np.concatenate(parts, axis=1)
