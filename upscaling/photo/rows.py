"""Pictures that come strip by strip, from top to bottom, and the rounding of their values."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Strips(NamedTuple):
    """A picture whose rows come once, from top to bottom, so that it need not be in memory as a whole."""

    shape: tuple[int, int, int]  # height, width, channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    dtype: np.dtype  # uint8 or uint16
    rows: Iterable[np.ndarray]  # (rows, width, channels) each
    info: dict[str, Any]  # metadata, as in reader.Frame

    def whole(self) -> np.ndarray:
        """Return the picture as one array (height, width, channels)."""
        picture, top = np.empty(self.shape, self.dtype), 0
        for rows in self.rows:
            picture[top : top + len(rows)] = rows
            top += len(rows)
        return picture

    def in_chunks(self, count: int) -> Iterator[np.ndarray]:
        """Yield the picture in chunks of `count` rows; the last may have fewer."""
        rest = np.empty((0, *self.shape[1:]), self.dtype)
        for rows in self.rows:
            rest = np.concatenate([rest, rows])
            while len(rest) > count:
                yield rest[:count]
                rest = rest[count:]
        yield rest


def rounded(values: np.ndarray, dtype: np.dtype | type[np.unsignedinteger]) -> np.ndarray:
    """Convert floats on the scale of `dtype`, an unsigned integer type, to it: rounded and clipped to its range."""
    if values.dtype == dtype:
        return values
    return values.round().clip(0, np.iinfo(dtype).max).astype(dtype)


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert values on the scale of `dtype` to it: integers are rounded and clipped, floats clipped to 0..1."""
    return values.clip(0, 1).astype(dtype) if dtype.kind == "f" else rounded(values, dtype)
