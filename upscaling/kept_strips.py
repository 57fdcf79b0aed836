"""Finished strips of a picture, kept beside its result until that is complete, so that a killed run can be resumed."""

import contextlib
import errno
import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pictures import DAMAGED
from utils import UserError, atomic_write


class Tiling(NamedTuple):
    """How a picture is divided into tiles; the same tiling gives the same strips, to the last bit."""

    start: int  # row of lr where the first tile begins
    tile: int  # longest side of a tile in pixels of lr
    batch: int  # number of tiles that the network takes at a time


class KeptStrips:
    """Strips of the frames of one result, each in a file of its own in a hidden folder.

    A file's name contains hashes of `made_of` and of the picture, and the strip's first row, so that only matching
    strips are read.

    target: the result. made_of: a text that identifies source, network and options; strips of others are deleted.
    room: bytes that stay free on the disk, for the result. Where there is less, or a strip cannot be written, all
    strips are deleted and no more are kept: the result matters, not that it can be resumed.
    """

    def __init__(self, target: Path, made_of: str, room: int = 0) -> None:
        self.folder = target.with_name(f".{target.name}.strips")
        self.name = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        self.room, self.given_up = room, False
        for path in self.folder.glob("*") if self.exist() else ():
            if not path.name.startswith((self.name, ".")):  # hidden files are being written by another process
                with contextlib.suppress(OSError):
                    path.unlink()

    def exist(self) -> bool:
        """Return whether an earlier run has left strips."""
        return os.path.isdir(self.folder)  # Path.is_dir raises if a name is too long

    def of_picture(self, lr: np.ndarray) -> str:
        """Return the name under which the strips of the array `lr` are kept."""
        content = hashlib.sha256(repr((lr.shape, lr.dtype.str)).encode())
        content.update(np.ascontiguousarray(lr).data)
        return f"{self.name}-{content.hexdigest()[:16]}"

    def read(self, picture: str, scale: int) -> Iterator[tuple[np.ndarray, Tiling]]:
        """Yield (strip, its Tiling) from the top down, up to the first missing one.

        picture: the name from of_picture. scale: how many rows of a strip a row of lr gives.
        """
        row = 0
        while strip_and_tiling := self._read_strip(picture, row):
            yield strip_and_tiling
            row += len(strip_and_tiling[0]) // scale

    def _read_strip(self, picture: str, row: int) -> tuple[np.ndarray, Tiling] | None:
        with contextlib.suppress(*DAMAGED, zipfile.BadZipFile):  # a damaged strip is made again
            with np.load(self._path(picture, row), allow_pickle=False) as arrays:
                return arrays["strip"], Tiling(*map(int, arrays["tiling"]))
        return None

    def add(self, picture: str, row: int, strip: np.ndarray, tiling: Tiling) -> None:
        """Keep the strip that begins at `row` of lr, unless the disk is too full for strips."""
        if self.given_up:
            return
        try:
            if shutil.disk_usage(self.folder.parent).free < self.room + strip.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with atomic_write(self._path(picture, row)) as temporary, open(temporary, "wb") as file:
                np.savez(file, strip=strip, tiling=tiling)
        except (OSError, UserError):
            self.given_up = True
            self.clear()

    def _path(self, picture: str, row: int) -> Path:
        return self.folder / f"{picture}-{row:06}.npz"

    def clear(self) -> None:
        """Delete all strips."""
        shutil.rmtree(self.folder, ignore_errors=True)
