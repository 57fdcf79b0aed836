"""Pictures that come strip by strip, from top to bottom, and their values as integers."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Strips(NamedTuple):
    """A picture that comes from top to bottom, once, and never needs to be in memory as a whole."""

    shape: tuple  # height, width, channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    dtype: np.dtype  # uint8 or uint16
    rows: Iterable  # of arrays (rows, width, channels)
    info: dict  # metadata, as of photo_reader.Frame

    def whole(self):
        """The picture as one array (height, width, channels)."""
        picture, top = np.empty(self.shape, self.dtype), 0
        for rows in self.rows:
            picture[top : top + len(rows)] = rows
            top += len(rows)
        return picture

    def in_equal(self, count):
        """Yield `count` rows at a time; the last may be fewer."""
        rest = np.empty((0, *self.shape[1:]), self.dtype)
        for rows in self.rows:
            rest = np.concatenate([rest, rows])
            while len(rest) > count:
                yield rest[:count]
                rest = rest[count:]
        yield rest


def rounded(values, dtype):
    """Float values on the scale of `dtype`, an unsigned integer type, as that type: rounded, clipped to its range."""
    if values.dtype == dtype:
        return values
    return values.round().clip(0, np.iinfo(dtype).max).astype(dtype)
