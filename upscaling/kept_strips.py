"""Finished strips of a picture, kept beside its result until that is whole: a killed run goes on after them."""

import contextlib
import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pictures import DAMAGED
from utils import atomic_write


class Tiling(NamedTuple):
    """How tiles lie over a picture: the same tiling gives the same strips, to the last bit."""

    start: int  # row of lr where the first tile lies
    tile: int  # the longest side of a tile
    batch: int  # tiles at a time


class KeptStrips:
    """Strips of the frames of one result, each in a file of its own in a hidden folder.

    The name of a file says of what network and options it comes, of what picture, and with which row it begins. What
    comes of others is never read.
    """

    def __init__(self, target: Path, made_of: str) -> None:
        """target: the result. made_of: a text that identifies source, network and options; strips of others go."""
        self.folder = target.with_name(f".{target.name}.strips")
        self.name = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        for path in self.folder.glob("*"):
            if not path.name.startswith((self.name, ".")):  # hidden files are being written by another process
                path.unlink(missing_ok=True)

    def of_picture(self, lr: np.ndarray) -> str:
        """What the strips of the array `lr` are called."""
        content = hashlib.sha256(repr((lr.shape, lr.dtype.str)).encode())
        content.update(np.ascontiguousarray(lr).data)
        return f"{self.name}-{content.hexdigest()[:16]}"

    def read(self, picture: str, scale: int) -> Iterator[tuple[np.ndarray, Tiling]]:
        """Yield (strip, its Tiling) from the top on, as far as they are there. picture: its name; scale: of strips."""
        row = 0
        while strip_and_tiling := self._read_strip(picture, row):
            yield strip_and_tiling
            row += len(strip_and_tiling[0]) // scale

    def _read_strip(self, picture: str, row: int) -> tuple[np.ndarray, Tiling] | None:
        with contextlib.suppress(*DAMAGED, zipfile.BadZipFile):  # is made again
            with np.load(self._path(picture, row), allow_pickle=False) as arrays:
                return arrays["strip"], Tiling(*map(int, arrays["tiling"]))
        return None

    def add(self, picture: str, row: int, strip: np.ndarray, tiling: Tiling) -> None:
        """Keep the strip that begins at `row` of lr. Raises UserError where it cannot be written."""
        with atomic_write(self._path(picture, row)) as temporary, open(temporary, "wb") as file:
            np.savez(file, strip=strip, tiling=tiling)

    def _path(self, picture: str, row: int) -> Path:
        return self.folder / f"{picture}-{row:06}.npz"

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
