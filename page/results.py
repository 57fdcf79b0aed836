"""Results that stay on the server while their page is open, so that another format only needs encoding anew."""

import contextlib
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.exceptions import HTTPException

from upscaling.photo.reader import Frame, Photo, Strips, open_photo
from upscaling.photo.writer import write_photo
from utils import UserError

SECONDS = 3600  # after which a result that nobody has asked for is deleted
BYTES = 4 * 2**30  # of all results and their sources; beyond, the one that was asked for longest ago is deleted


@dataclass
class Result:
    """A result on the disk."""

    folder: Path  # with the source `picture`, `result.png` (or .tif of several pages), and the result in other formats
    title: str  # name of saved files, without a suffix
    used: float  # when it was asked for last, in seconds

    def made(self) -> Photo:
        """Return the result as it was made."""
        path = self.folder / "result.png"
        return open_photo(path if path.exists() else path.with_suffix(".tif"), 10**9)


def with_pixels(source: Iterable[Frame], sr: Iterable[Frame]) -> Iterator[Strips]:
    """Yield the pixels of `sr` with the metadata of `source`, as if they had been written so at once."""
    for frame, pixels in zip(source, sr):
        yield Strips(pixels.picture.shape, pixels.picture.dtype, [pixels.picture], frame.info)


def folder_size(folder: Path) -> int:
    """Return the bytes of the files in a folder, without those that are renamed or deleted meanwhile."""
    size = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


class Results:
    """The results of a server; a page whose result has been deleted sends its picture again."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # one picture is encoded at a time, because each may need 400 MB
        self.all: dict[str, Result] = {}  # by an id of 128 random bits, which is all that opens a result

    def add(self, folder: Path, title: str) -> str:
        """Take over `folder`, with the source `picture` and its result; return an id. title: of saved files."""
        name, now = secrets.token_urlsafe(16), time.monotonic()
        self.all[name] = Result(folder.rename(folder.with_name(name)), title, now)
        by_use = sorted(self.all, key=lambda name: self.all[name].used)
        sizes = {name: folder_size(self.all[name].folder) for name in by_use}
        for old in by_use[:-1]:
            if self.all[old].used < now - SECONDS or sum(sizes.values()) > BYTES:
                self.remove(old)
                del sizes[old]
        return name

    def remove(self, name: str) -> None:
        """Delete a result, if there is such a one."""
        if result := self.all.pop(name, None):
            shutil.rmtree(result.folder, ignore_errors=True)

    def encoded(self, name: str, ending: str) -> tuple[Path, str]:
        """Return the path of a result in a format, encoded now unless it has been, and the title.

        Raises HTTPException as opened does: 422 if the format cannot hold the result.
        """
        with self.opened(name) as result:
            target = result.folder / f"result.{ending}"
            with self.lock:
                if not target.exists():
                    source, sr = open_photo(result.folder / "picture"), result.made()
                    write_photo(target, source, with_pixels(source, sr), sr.size[0] / source.size[0])
            return target, result.title

    def view(self, name: str) -> Path:
        """Return the path of a PNG for browsers to show, of several pages the first. Raises HTTPException as opened."""
        with self.opened(name) as result:
            sr = result.made()
            if not sr.paged:
                return sr.path
            target = result.folder / "view.png"
            with self.lock:
                if not target.exists():
                    first = replace(sr, frames=1)
                    write_photo(target, first, with_pixels(first, first))
            return target

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Result]:
        """Yield a result whose files are to be read or written.

        Raises HTTPException: 404 if there is no such result, or not any more, and 422 with the line of a UserError.
        """
        result = self.asked(name)
        try:
            yield result
        except UserError as error:
            self.asked(name)  # it may have been deleted meanwhile
            raise HTTPException(422, str(error).replace(f"{result.folder}/result", result.title)) from error

    def asked(self, name: str) -> Result:
        """Return a result, which has been used now. Raises HTTPException 404 if there is no such one."""
        result = self.all.get(name)
        if result is None:
            raise HTTPException(404, "no such result; it may have been deleted since")
        result.used = time.monotonic()
        return result

    def archive(self, names: Sequence[str], ending: str) -> Iterator[bytes]:
        """Yield a ZIP of results piece by piece; missing.txt says which were deleted or do not fit the format."""
        pieces: list[bytes] = []

        def write(piece: bytes) -> int:
            pieces.append(bytes(piece))
            return len(piece)

        # All that ZipFile needs of a file; without tell() it writes what can be read without going back.
        stream: Any = SimpleNamespace(write=write, flush=lambda: None)
        with zipfile.ZipFile(stream, "w") as archive:  # stored, since pictures hardly shrink
            missing = ""
            for number, name in enumerate(names, 1):
                try:
                    path, title = self.encoded(name, ending)
                except HTTPException as error:
                    missing += f"picture {number}: {error.detail}\n"
                    continue
                same = sum(member.startswith(title) for member in archive.namelist())
                inside = f"{title} ({same + 1}).{ending}" if same else f"{title}.{ending}"
                with open(path, "rb") as file, archive.open(inside, "w", force_zip64=True) as member:
                    while piece := file.read(2**20):
                        member.write(piece)
                        yield b"".join(pieces)
                        pieces.clear()
            if missing:
                archive.writestr("missing.txt", missing)
        yield b"".join(pieces)
