"""Upscale arrays with a network, tile by tile in the memory that there is."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy.ndimage import distance_transform_edt

from pictures import as_dtype, resize, scaled_length, to_float, to_uint8
from restoration import needed
from tiles import by_tiles, smallest_size, window_count, windows
from upscaling.earlier_runs import FinishedStrips, Tiling
from upscaling.free_memory import free_memory
from upscaling.network import Network
from utils import UserError

Progress = Callable[[int, int], object]  # called with (tiles done, tiles in all)
Part = tuple[int, int]  # (number of a part of a picture from the top, from 0; number of parts)

HALO = 16  # pixels beyond a tile's core; with the shipped weights, a larger halo changes no value by more than a level
BORDER = 8  # pixels by which a picture is continued beyond its edge; more would change no value by more than a level
LARGEST_TILE = 512  # side in pixels; larger tiles are no faster
# Memory that two networks need for each pixel of a tile; half restored, a picture needs both
BYTES_PER_PIXEL = 2 * 6_000
TRIAL = 128  # side in pixels of the tile on which time is measured
REACH = 2  # how many pixels of lr bicubic resampling sees on either side


def largest_tile() -> int:
    """Return the side in pixels of the largest tile that needs at most half of the free memory."""
    affordable = free_memory() / 2 / BYTES_PER_PIXEL  # pixels
    return int(np.clip(affordable**0.5, 4 * HALO, LARGEST_TILE))


class Upscaler:
    """Applies a network to whole pictures tile by tile, with fewer pixels at a time if memory runs out.

    Call it with lr, of shape (h, w) or (h, w, 1) for grey, (h, w, 2) for grey with alpha, (h, w, 3) for RGB or
    (h, w, 4) for RGB with alpha; uint8, uint16, or floats in 0..1. It returns sr with the same dtype, range and number
    of axes; h and w are `scale` times as large, rounded up. Alpha is resized bicubically and does not affect the
    colour. The picture is continued beyond its edge, mirrored, because the zeros of the network's padding, which mean
    grey, would show at the result's borders.

    Threads may share an Upscaler of load(); the network takes their tiles in turn, since it uses all cores anyway.

    scale, tile: as for load(). network_that_restores: returns the network for a picture that needs to be restored so
    much, 0 to 1; without it `network` is for all. progress: called with (tiles done, tiles in all) at the start and
    after every few tiles, without those of an earlier run. finished: strips of an earlier run, to which new ones are
    added.
    Raises ValueError for other arrays, and UserError if memory is too small even for the smallest tiles.
    """

    def __init__(
        self,
        network: Network,
        scale: float | None = None,
        tile: int | None = None,
        network_that_restores: Callable[[float], Network] | None = None,
    ) -> None:
        self.network, self.network_that_restores = network, network_that_restores
        self.restorers: dict[float, Upscaler] = {}  # {how much is restored: the Upscaler that does}
        self.scale = network.scale if scale is None else scale
        self.tile = largest_tile() if tile is None else tile
        if not self.scale > 0 or self.tile <= 2 * HALO:
            raise ValueError(f"scale must be above 0 and tile above {2 * HALO}. Received: scale={scale}, tile={tile}")
        self.batch = max(1, largest_tile() ** 2 // self.tile**2)  # tiles at a time

    def tile_count(self, width: int, height: int) -> int:
        """Return the number of tiles for a picture of `width` x `height` pixels."""
        across, down = (window_count(length + 2 * BORDER, self.tile, HALO) for length in (width, height))
        return across * down

    def network_pixels(self, width: int, height: int) -> int:
        """Return how many pixels of a `width` x `height` picture the network sees, overlaps and borders included."""
        tile_height, tile_width = tile_size(width, height, self.tile)
        seen = min(tile_height, height + 2 * BORDER) * min(tile_width, width + 2 * BORDER)  # of each tile
        return self.tile_count(width, height) * seen

    def result_size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of the result for a picture of `width` x `height` pixels."""
        return scaled_length(width, self.scale), scaled_length(height, self.scale)

    def with_scale(self, scale: float) -> "Upscaler":
        """Return a copy of this Upscaler with another factor of the result."""
        other = copy.copy(self)
        other.scale, other.restorers = scale, {}
        return other

    def restoring(self, restore: float) -> "Upscaler":
        """Return the Upscaler that restores each picture by `restore`, 0 to 1; self if it is not automatic.

        It is the same one each time, so that a tile size reduced for lack of memory holds for the other files too.
        """
        if not self.network_that_restores:
            return self
        if restore not in self.restorers:
            other = copy.copy(self)
            other.network, other.network_that_restores = self.network_that_restores(restore), None
            self.restorers[restore] = other
        return self.restorers[restore]

    def seconds(self, pixels: int) -> float:
        """Estimate the seconds that the network takes for `pixels`, see network_pixels, from the time of one tile."""
        side = min(self.tile, TRIAL)
        tile = np.zeros((1, side, side, 3), np.float32)
        self.network(tile)  # an engine prepares itself for each new size
        start = time.perf_counter()
        self.network(tile)
        return (time.perf_counter() - start) / side**2 * pixels

    def __call__(
        self, lr: np.ndarray, progress: Progress | None = None, finished: FinishedStrips | None = None
    ) -> np.ndarray:
        """Upscale lr to sr, as the class describes."""
        return np.concatenate(list(self.strips(lr, progress, finished)))

    def strips(
        self, lr: np.ndarray, progress: Progress | None = None, finished: FinishedStrips | None = None
    ) -> Iterator[np.ndarray]:
        """Yield sr in strips (rows, scale*w, ...) from top to bottom; in a single one if it has to be resampled."""
        lr = np.asarray(lr)
        check_picture(lr)
        lr = lr.astype(lr.dtype.newbyteorder("="), copy=False)
        bands = np.atleast_3d(lr)
        if self.network_that_restores:
            yield from self.restoring(needed(bands)[0]).strips(lr, progress, finished)
            return
        rgb, alpha = rgb_and_alpha(bands)
        grey = bands.shape[2] < 3
        white = np.iinfo(np.uint16).max if lr.dtype == np.uint16 else 1
        strips: Iterable[np.ndarray] = self._rgb_strips(rgb, progress, finished)
        if self.scale != self.network.scale:
            strips = [resize(np.concatenate(list(strips)), self.scale / self.network.scale)]
        top = 0
        for sr in strips:
            sr = sr if lr.dtype == np.uint8 else sr * white
            sr = as_dtype(sr.mean(2, keepdims=True) if grey else sr, lr.dtype)
            if alpha is not None:
                sr = np.dstack([sr, self._alpha_strip(alpha, top, top + len(sr))])
            top += len(sr)
            yield sr if lr.ndim == 3 else sr[..., 0]

    def add_part(self, bands: np.ndarray, part: Part, finished: FinishedStrips, progress: Progress | None) -> None:
        """Add the strips of a part of sr to `finished`, in which `strips`, perhaps on another machine, then finds them.

        bands: lr (h, w, 1 to 4), uint8 or uint16. self: not an automatic one, which would have to choose for each part.
        """
        for _ in self._rgb_strips(rgb_and_alpha(bands)[0], progress, finished, part):
            pass

    def _rgb_strips(
        self, lr: np.ndarray, progress: Progress | None, finished: FinishedStrips | None, part: Part = (0, 1)
    ) -> Iterator[np.ndarray]:
        """Yield strips of a part of sr at the network's own scale, for RGB lr as uint8 or as float32 in 0..1.

        If memory runs out, the strips so far stay valid, and the rest is made with less memory.
        """
        eight_bits, scale = lr.dtype == np.uint8, self.network.scale
        tiling = Tiling(0, self.tile, self.batch)
        tiles_done, (rows_done, end) = 0, rows_of_part(lr, self.tile, part)
        frame = finished.of_frame(lr) if finished else ""
        earlier = finished.read(frame, scale, rows_done, end) if finished else ()
        for strip, tiling in earlier:  # noqa: B007  # the last tiling goes on
            rows_done += len(strip) // scale
            yield strip
        if tiling.tile**2 * tiling.batch > self.tile**2 * self.batch:  # there is less memory than in the earlier run
            tiling = self._tiling_from(rows_done)
        tiles_in_all = tiles_left(lr, tiling, rows_done, end)

        def network(tiles: np.ndarray) -> np.ndarray:
            nonlocal tiles_done
            sr = self.network(to_float(tiles) if eight_bits else tiles * 2 - 1)
            tiles_done += len(tiles)
            if progress:
                progress(tiles_done, tiles_in_all)
            return to_uint8(sr) if eight_bits else ((sr + 1) / 2).clip(0, 1)

        if progress:
            progress(0, tiles_in_all)
        while rows_done < end:
            rest, done = lr[tiling.start :], rows_done - tiling.start
            size = tile_size(lr.shape[1], len(rest), tiling.tile)
            try:
                for strip in by_tiles(network, rest, size, HALO, tiling.batch, BORDER, done):
                    if finished:
                        finished.add(frame, rows_done, strip, tiling)
                    rows_done += len(strip) // scale
                    yield strip
                    if rows_done >= end:
                        break
            except MemoryError:
                self._use_less_memory(tiling)
                tiling = self._tiling_from(rows_done)
                tiles_in_all = tiles_done + tiles_left(lr, tiling, rows_done, end)

    def _tiling_from(self, rows_done: int) -> Tiling:
        """Return a Tiling of the rows after `rows_done`, which starts a halo earlier, since they are no edge."""
        return Tiling(max(0, rows_done - HALO), self.tile, self.batch)

    def _use_less_memory(self, tiling: Tiling) -> None:
        """Halve the number of tiles at a time of `tiling`, or their side, unless another thread has done so already.

        Raises UserError if tiles are the smallest.
        """
        if tiling.batch > 1:
            self.batch = min(self.batch, tiling.batch // 2)
        elif tiling.tile // 2 > 2 * HALO:
            self.batch, self.tile = 1, min(self.tile, tiling.tile // 2)
        else:
            raise UserError(f"too little memory, even for tiles of {tiling.tile} pixels") from None

    def _alpha_strip(self, alpha: np.ndarray, top: int, bottom: int) -> np.ndarray:
        """Return rows `top` to `bottom` of the resized alpha, (rows, scale*w)."""
        first = max(0, int(top / self.scale) - REACH)  # rows of lr that these rows depend on
        last = int(bottom / self.scale) + REACH + 1
        resized = as_dtype(resize(alpha[first:last], self.scale), alpha.dtype)
        return resized[round(top - self.scale * first) :][: bottom - top]


def tile_size(width: int, height: int, tile: int) -> tuple[int, int]:
    """Return (height, width), each at most `tile`, with which tiles over a `width` x `height` picture overlap least."""
    return smallest_size(height, tile, HALO, BORDER), smallest_size(width, tile, HALO, BORDER)


def rows_of_part(lr: np.ndarray, tile: int, part: Part) -> tuple[int, int]:
    """Return the rows of lr where the strips of `part` begin and end, which may be none."""
    height, _ = tile_size(lr.shape[1], len(lr), tile)
    cuts = [0, *(last for _, _, last in windows(len(lr), height, HALO, BORDER))]
    (number, count), strips = part, len(cuts) - 1
    return cuts[strips * number // count], cuts[strips * (number + 1) // count]


def tiles_left(lr: np.ndarray, tiling: Tiling, rows_done: int, end: int) -> int:
    """Return the number of tiles for the rows `rows_done` to `end` of lr."""
    height, width = len(lr) - tiling.start, lr.shape[1]
    tile_height, tile_width = tile_size(width, height, tiling.tile)
    rows = windows(height, tile_height, HALO, BORDER)
    down = sum(first < end - tiling.start and last > rows_done - tiling.start for _, first, last in rows)
    return down * window_count(width + 2 * BORDER, tile_width, HALO)


def check_picture(lr: np.ndarray) -> None:
    """Raise ValueError unless `lr` is an array that an Upscaler takes."""
    if lr.ndim not in (2, 3) or 0 in lr.shape or lr.ndim == 3 and lr.shape[2] > 4:
        raise ValueError(f"lr must be (h, w) or (h, w, 1 to 4). Received: shape={lr.shape}")
    if lr.dtype.newbyteorder("=") not in (np.uint8, np.uint16) and lr.dtype.kind != "f":
        raise ValueError(f"lr must be uint8, uint16 or floating point. Received: dtype={lr.dtype}")
    if lr.dtype.kind == "f" and not (lr.min() >= 0 and lr.max() <= 1):  # written so that NaN is refused too
        raise ValueError(f"lr must be in 0..1. Received: values from {lr.min()} to {lr.max()}")


def rgb_and_alpha(bands: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (RGB (h, w, 3), uint8 or float32 in 0..1; alpha (h, w) or None) of bands (h, w, 1 to 4)."""
    alpha = None if bands.shape[2] % 2 else bands[..., -1]
    rgb = visible_colour(bands, alpha)
    if rgb.shape[2] == 1:
        rgb = np.repeat(rgb, 3, axis=2)
    if bands.dtype != np.uint8:  # 8 bits stay as they are, to be resampled as MATLAB does
        rgb = rgb.astype(np.float32) / (np.iinfo(np.uint16).max if bands.dtype == np.uint16 else 1)
    return rgb, alpha


def visible_colour(bands: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Return the colour of bands (h, w, 1 to 4) without alpha; invisible pixels get that of the nearest visible one.

    Otherwise the network would mix hidden colours, which are often black, into the visible pixels beside them.
    """
    if alpha is None:
        return bands
    colour = bands[..., :-1]
    if alpha.any() and not alpha.all():
        nearest = distance_transform_edt(alpha == 0, return_distances=False, return_indices=True)
        colour = colour[tuple(nearest)]
    return colour
