"""Upscale arrays with a network: the Python interface, which upscale.py and demo.py use too.

from upscale import load

upscaler = load("srgan")  # or "srresnet", a filter such as "bicubic", or a file of your own
sr = upscaler(lr)  # lr: uint8 (h, w, 3) -> sr: uint8 (4*h, 4*w, 3)
"""

import copy
import functools
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy.ndimage import distance_transform_edt

from methods.filters import FILTERS, enlarged_batch, with_back_projection
from pictures import as_dtype, resize, scaled_length, to_float, to_uint8
from tiles import by_tiles, mean_over_turns, smallest_size, window_count, windows
from upscaling.earlier_runs import FinishedStrips, Tiling
from upscaling.free_memory import free_memory
from upscaling.interpolation import mixed
from upscaling.network import ENGINES, Network, load_network
from utils import UserError
from weights import model_path, read_metadata

Progress = Callable[[int, int], object]  # called with (tiles done, tiles in all)

HALO = 16  # pixels beyond a tile's core; with the shipped weights, a larger halo changes no value by more than a level
BORDER = 8  # pixels by which a picture is continued beyond its edge; more would change no value by more than a level
LARGEST_TILE = 512  # side in pixels; larger tiles are no faster
BYTES_PER_PIXEL = 6_000  # memory that the network needs for each pixel of a tile
TRIAL = 128  # side in pixels of the tile on which time is measured
FILTER_SCALE = 4  # the factor by which filters enlarge
REACH = 2  # how many pixels of lr bicubic resampling sees on either side


def load(
    model: str = "srgan",
    scale: float | None = None,
    engine: str = "auto",
    tile: int | None = None,
    trust_pickle: bool = False,
    self_ensemble: bool = False,
    back_projections: int | None = None,
    strength: float = 1.0,
) -> "Upscaler":
    """Return the Upscaler of a trained network or of a filter.

    model: "srgan" (sharp, invents), "srresnet" (soft, true), "srcnn" or "espcn" (small), the path of a weights file or
    of a file that export.py wrote, or one of FILTERS.
    scale: factor of the result, above 0, by default the network's. For another factor, its result is resampled.
    engine: "auto", "openvino", "keras" or "onnxruntime", as for load_network.
    tile: side of a tile in pixels, above 32; default: what free memory allows.
    trust_pickle: read a pickled g_srgan.npz of TensorLayer 1 or 2.
    self_ensemble: average the results for all flips and turns of a picture; better, but takes 8 times as long.
    back_projections: how often the result is corrected so that reducing it gives the picture again. Default: once for
    an SRGAN, whose white would otherwise be one level too dark, but not one trained with TRAIN.degradation=photo, and
    never for others.
    strength: how much of "srgan" is in the network, 0 to 1; the rest is "srresnet".
    Raises UserError if the model is missing, damaged or no generator, and ValueError for other values.
    """
    if engine not in ENGINES or not 0 <= strength <= 1 or (back_projections or 0) < 0:
        received = f"engine={engine!r}, strength={strength}, back_projections={back_projections}"
        raise ValueError(
            f"engine must be in {ENGINES}, strength in 0..1, back_projections 0 or more. Received: {received}"
        )
    if model in FILTERS and strength < 1:
        raise UserError(f"{model}: a filter has no strength; leave --strength out")
    if back_projections is None:
        back_projections = default_back_projections(model)
    if model in FILTERS:
        network = Network(functools.partial(enlarged_batch, scale=FILTER_SCALE, name=model), FILTER_SCALE)
    else:
        with mixed(model_path(model), strength) as path:
            network = load_network(path, engine, trust_pickle=trust_pickle)
    if self_ensemble:
        network = Network(mean_over_turns(network), network.scale)
    if back_projections:
        network = Network(with_back_projection(network, back_projections), network.scale)
    return Upscaler(network, scale, tile)


def default_back_projections(model: str) -> int:
    """Return how often results of `model` are corrected by default. Raises UserError if the model is missing.

    A network for photographs cleans its source; a correction would bring the blocks of a JPEG back.
    """
    if model in FILTERS:
        return 0
    metadata = read_metadata(model_path(model))
    return int(metadata.get("stage") == "srgan" and metadata.get("degradation") != "photo")


def largest_tile() -> int:
    """Return the side in pixels of the largest tile that needs at most half of the free memory, see memory.py."""
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

    scale, tile: as for load(). progress: called with (tiles done, tiles in all) at the start and after every few tiles,
    without those of an earlier run. finished: strips of an earlier run, to which new ones are added.
    Raises ValueError for other arrays, and UserError if memory is too small even for the smallest tiles.
    """

    def __init__(self, network: Network, scale: float | None = None, tile: int | None = None) -> None:
        self.network = network
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
        other.scale = scale
        return other

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
        bands = lr if lr.ndim == 3 else lr[..., None]
        alpha = None if bands.shape[2] % 2 else bands[..., -1]
        rgb = visible_colour(bands, alpha)
        grey = rgb.shape[2] == 1
        if grey:
            rgb = np.repeat(rgb, 3, axis=2)
        white = np.iinfo(np.uint16).max if lr.dtype == np.uint16 else 1
        if lr.dtype != np.uint8:  # 8 bits stay as they are, to be resampled as MATLAB does
            rgb = rgb.astype(np.float32) / white
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

    def _rgb_strips(
        self, lr: np.ndarray, progress: Progress | None, finished: FinishedStrips | None
    ) -> Iterator[np.ndarray]:
        """Yield strips of sr at the network's own scale, for RGB lr as uint8 or as float32 in 0..1.

        If memory runs out, the strips so far stay valid, and the rest is made with less memory.
        """
        eight_bits, scale = lr.dtype == np.uint8, self.network.scale
        tiling = Tiling(0, self.tile, self.batch)
        rows_done = tiles_done = 0
        frame = finished.of_frame(lr) if finished else ""
        if finished:
            for strip, tiling in finished.read(frame, scale):  # noqa: B007  # the last tiling goes on
                rows_done += len(strip) // scale
                yield strip
        if tiling.tile**2 * tiling.batch > self.tile**2 * self.batch:  # there is less memory than in the earlier run
            tiling = self._tiling_from(rows_done)
        tiles_in_all = tiles_left(lr, tiling, rows_done)

        def network(tiles: np.ndarray) -> np.ndarray:
            nonlocal tiles_done
            sr = self.network(to_float(tiles) if eight_bits else tiles * 2 - 1)
            tiles_done += len(tiles)
            if progress:
                progress(tiles_done, tiles_in_all)
            return to_uint8(sr) if eight_bits else ((sr + 1) / 2).clip(0, 1)

        if progress:
            progress(0, tiles_in_all)
        while rows_done < len(lr):
            rest, done = lr[tiling.start :], rows_done - tiling.start
            size = tile_size(lr.shape[1], len(rest), tiling.tile)
            try:
                for strip in by_tiles(network, rest, size, HALO, tiling.batch, BORDER, done):
                    if finished:
                        finished.add(frame, rows_done, strip, tiling)
                    rows_done += len(strip) // scale
                    yield strip
            except MemoryError:
                self._use_less_memory(tiling)
                tiling = self._tiling_from(rows_done)
                tiles_in_all = tiles_done + tiles_left(lr, tiling, rows_done)

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


def tiles_left(lr: np.ndarray, tiling: Tiling, rows_done: int) -> int:
    """Return the number of tiles for the rows of lr after `rows_done`."""
    height, width = len(lr) - tiling.start, lr.shape[1]
    tile_height, tile_width = tile_size(width, height, tiling.tile)
    down = sum(last > rows_done - tiling.start for _, _, last in windows(height, tile_height, HALO, BORDER))
    return down * window_count(width + 2 * BORDER, tile_width, HALO)


def check_picture(lr: np.ndarray) -> None:
    """Raise ValueError unless `lr` is an array that an Upscaler takes."""
    if lr.ndim not in (2, 3) or 0 in lr.shape or lr.ndim == 3 and lr.shape[2] > 4:
        raise ValueError(f"lr must be (h, w) or (h, w, 1 to 4). Received: shape={lr.shape}")
    if lr.dtype.newbyteorder("=") not in (np.uint8, np.uint16) and lr.dtype.kind != "f":
        raise ValueError(f"lr must be uint8, uint16 or floating point. Received: dtype={lr.dtype}")
    if lr.dtype.kind == "f" and not (lr.min() >= 0 and lr.max() <= 1):  # written so that NaN is refused too
        raise ValueError(f"lr must be in 0..1. Received: values from {lr.min()} to {lr.max()}")


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
