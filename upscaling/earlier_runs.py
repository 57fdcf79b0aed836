"""What earlier runs have made, and what other runs are making, in hidden files beside the results.

`.upscaled.jsonl` records each finished result of a folder, `.NAME.strips` and `.NAME.pieces` hold the finished parts of
an unfinished one, and `.NAME.lock` is locked while it is made. Results matter and these files only save work: where one
cannot be read it counts as missing, and where one cannot be written nothing is said.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pictures import DAMAGED
from utils import UserError, atomic_write, lock

RECORD = ".upscaled.jsonl"


def stamp(path: Path) -> tuple[int, int] | None:
    """Return (size in bytes, time of the last change in ns) of a file, or None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def fingerprint(path: Path) -> list[int | str] | None:
    """Return [size in bytes, time of the last change in ns, SHA-256] of a file, or None if it cannot be read."""
    now = stamp(path)
    try:
        return [*now, _sha256(path, *now)] if now else None
    except OSError:
        return None


def is_unchanged(path: Path, earlier: Any) -> bool:
    """Return whether the file at `path` has the content that it had when `earlier` was its fingerprint.

    A file is read only if its time is another, as after copying; fingerprints of earlier versions lack the SHA-256.
    """
    now = stamp(path)
    if not now or not isinstance(earlier, list) or earlier[:1] != [now[0]]:
        return False
    return earlier[1:2] == [now[1]] or len(earlier) == 3 and fingerprint(path) == [*now, earlier[2]]


@functools.cache
def _sha256(path: Path, size: int, time: int) -> str:
    """Return the SHA-256 of a file; its size and time are for the cache."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Records:
    """The records of all folders, each read when it is first needed.

    A record has one JSON object per line: the name of a result, its fingerprint when it was written, where its source
    is, and its identity. Beside the results it can be moved along with them, works for every format and leaves the
    pictures unchanged. Lines are only ever appended, each in one write, so that two runs may work in one folder; of two
    lines about a file the later one counts.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, dict[str, Any]]] = {}  # {folder: {name of a result: its line}}

    def identity(self, path: Path) -> dict[str, Any] | None:
        """Return the identity of the result at `path`; None if it is unknown or the file has changed since."""
        line = self._folder(path.parent).get(path.name)
        return line["made_of"] if line and is_unchanged(path, line["state"]) else None

    def source(self, path: Path) -> Path | None:
        """Return the file of which the result at `path` was made, or None if it is unknown or no longer there."""
        relative = self._folder(path.parent).get(path.name, {}).get("source_path")
        source = Path(os.path.normpath(path.parent.resolve() / relative)) if isinstance(relative, str) else None
        return source if source and source.exists() else None

    def add(self, path: Path, line: dict[str, Any]) -> None:
        """Record `line`, see record_line, of the result at `path`."""
        folder = path.parent.resolve()
        self._folder(folder)[path.name] = line
        with contextlib.suppress(OSError), open(folder / RECORD, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _folder(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Return {name of a result: its line} of one folder, without damaged lines."""
        folder = folder.resolve()
        if folder not in self.folders:
            lines = self.folders[folder] = {}
            with contextlib.suppress(OSError):
                for text in (folder / RECORD).read_text(encoding="utf-8", errors="replace").splitlines():
                    with contextlib.suppress(ValueError, TypeError, LookupError):
                        line = json.loads(text)
                        lines[line["result"]] = {"state": line["state"], "made_of": dict(line["made_of"])} | line
        return self.folders[folder]


def record_line(path: Path, source: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the line for Records on the result at `path`, which was just made from `source`."""
    source, folder = source.absolute(), path.parent.resolve()
    # A relative path stays right when pictures and results are moved together; between drives there is none.
    relative = os.path.relpath(source, folder) if source.drive == folder.drive else str(source)
    return {"result": path.name, "state": fingerprint(path), "source_path": relative, "made_of": identity}


class FinishedParts:
    """Files with the finished parts of a result, in a hidden folder beside it; parts of other results are deleted.

    kind: what the folder's name ends with. name: the hash of the result's identity, with which names of parts begin.
    """

    def __init__(self, target: Path, kind: str, name: str) -> None:
        self.folder, self.name = target.with_name(f".{target.name}.{kind}"), name
        for path in self.folder.glob("*") if self.exist() else ():
            if not path.name.startswith((name, ".")):  # hidden files are being written by another process
                _remove(path)

    def exist(self) -> bool:
        """Return whether an earlier run has left parts."""
        return os.path.isdir(self.folder)  # Path.is_dir raises if a name is too long

    def path(self, part: str) -> Path:
        """Return the path of a part."""
        return self.folder / f"{self.name}-{part}"

    def clear(self) -> None:
        """Delete all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Tiling(NamedTuple):
    """How a picture is divided into tiles; the same tiling gives the same strips, to the last bit."""

    start: int  # row of lr where the first tile begins
    tile: int  # longest side of a tile in pixels of lr
    batch: int  # number of tiles that the network takes at a time


class FinishedStrips(FinishedParts):
    """The finished strips of a result's frames; target, name: as for FinishedParts.

    room: bytes that stay free on the disk, for the result. Where there is less, or a strip cannot be written, all
    strips are deleted and no more are added.
    """

    def __init__(self, target: Path, name: str, room: int = 0) -> None:
        super().__init__(target, "strips", name)
        self.room, self.given_up = room, False

    def of_frame(self, lr: np.ndarray) -> str:
        """Return the hash of the frame lr, with which the names of its strips begin."""
        content = hashlib.sha256(repr((lr.shape, lr.dtype.str)).encode())
        content.update(np.ascontiguousarray(lr).data)
        return content.hexdigest()[:16]

    def read(self, frame: str, scale: int, row: int, end: int) -> Iterator[tuple[np.ndarray, Tiling]]:
        """Yield (strip, its Tiling) of the rows `row` to `end` of lr, up to the first that is missing or damaged.

        frame: see of_frame. scale: how many rows of a strip a row of lr gives.
        """
        with contextlib.suppress(*DAMAGED, zipfile.BadZipFile):
            while row < end:
                with np.load(self.path(f"{frame}-{row:06}.npz"), allow_pickle=False) as arrays:
                    strip, tiling = arrays["strip"], Tiling(*map(int, arrays["tiling"]))
                yield strip, tiling
                row += len(strip) // scale

    def add(self, frame: str, row: int, strip: np.ndarray, tiling: Tiling) -> None:
        """Write the strip that begins at `row` of lr, unless the disk is too full for strips."""
        if self.given_up:
            return
        try:
            self.given_up = shutil.disk_usage(self.folder.parent).free < self.room + strip.nbytes
            if not self.given_up:
                with atomic_write(self.path(f"{frame}-{row:06}.npz")) as temporary, open(temporary, "wb") as file:
                    np.savez(file, strip=strip, tiling=tiling)
        except (OSError, UserError):
            self.given_up = True
        if self.given_up:
            self.clear()


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[bool]:
    """Yield whether this process may make the result `target`; False while another one is making it.

    A claim is a locked file beside `target`, which is removed at the end. Where none can be made, each process may.
    """
    path = lock_path(target)
    with contextlib.ExitStack() as stack:
        ours = True
        with contextlib.suppress(OSError):  # for example a name that is too long
            while ours:
                file = stack.enter_context(open(path, "a"))
                ours = lock(file)
                # If its last owner has removed it since it was opened, another process may lock a new one of that name.
                if ours and path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    stack.callback(_remove, path)
                    break
        yield ours


def lock_path(target: Path) -> Path:
    """Return the path of the file that is locked while `target` is made."""
    return target.with_name(f".{target.name}.lock")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
