"""Pictures that come strip by strip, from top to bottom, and their values as integers."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

Progress = Callable[[int, int], object]  # is called with (tiles done, tiles in all)


class Strips(NamedTuple):
    """A picture that comes from top to bottom, once, and never needs to be in memory as a whole."""

    shape: tuple[int, int, int]  # height, width, channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    dtype: np.dtype  # uint8 or uint16
    rows: Iterable[np.ndarray]  # (rows, width, channels) each
    info: dict[str, Any]  # metadata, as of photo_reader.Frame

    def whole(self) -> np.ndarray:
        """The picture as one array (height, width, channels)."""
        picture, top = np.empty(self.shape, self.dtype), 0
        for rows in self.rows:
            picture[top : top + len(rows)] = rows
            top += len(rows)
        return picture

    def in_equal(self, count: int) -> Iterator[np.ndarray]:
        """Yield `count` rows at a time; the last may be fewer."""
        rest = np.empty((0, *self.shape[1:]), self.dtype)
        for rows in self.rows:
            rest = np.concatenate([rest, rows])
            while len(rest) > count:
                yield rest[:count]
                rest = rest[count:]
        yield rest


def rounded(values: np.ndarray, dtype: np.dtype | type[np.unsignedinteger]) -> np.ndarray:
    """Float values on the scale of `dtype`, an unsigned integer type, as that type: rounded, clipped to its range."""
    if values.dtype == dtype:
        return values
    return values.round().clip(0, np.iinfo(dtype).max).astype(dtype)


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values on the scale of `dtype` as that dtype: integers rounded and clipped, floats clipped to 0..1."""
    return values.clip(0, 1).astype(dtype) if dtype.kind == "f" else rounded(values, dtype)
