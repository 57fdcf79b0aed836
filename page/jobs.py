"""Pictures sent to the server: one at work at a time, in the order in which they came, and no more than fit."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anyio import from_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

from upscaling.files import upscale_file
from upscaling.photo_reader import open_photo
from upscaling.upscaler import Upscaler
from utils import UserError

MEGAPIXELS = 4  # of a source; browsers show 64 megapixels, and hardly more


@dataclass
class Job:
    """A picture that was sent: how many tiles are done, and whether the result is on its way back."""

    request: Request
    done: int = 0
    total: int = 0
    finished: bool = False


class Jobs:
    """The jobs of a server, at most `most` from the first byte of a picture to the last of its result."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.all: dict[str, Job] = {}  # in the order in which they came
        self.stopping: Callable[[], bool] = lambda: False  # whether the server ends

    @contextlib.contextmanager
    def place(self, name: str, job: Job) -> Iterator[None]:
        """Keep a place for a job. Raises HTTPException: 503 where all are taken, 409 for a known name."""
        if len(self.all) >= self.most:
            raise HTTPException(503, f"all places are taken (--jobs {self.most}); try again in a minute")
        if name in self.all:
            raise HTTPException(409, "job: there is one of this name; choose another")
        self.all[name] = job
        try:
            yield
        finally:
            del self.all[name]

    def waiting(self) -> list[Job]:
        """Return the jobs that wait or are at work."""
        return [job for job in self.all.values() if not job.finished]

    async def turn(self, job: Job) -> None:
        """Wait until no job that came before is left. Raises HTTPException where nobody waits for the result."""
        while self.waiting()[0] is not job:
            await asyncio.sleep(0.1)
            await self.check(job)

    async def check(self, job: Job) -> None:
        """Raise HTTPException where the server ends or the one who sent the picture has gone."""
        if self.stopping() or await job.request.is_disconnected():
            raise HTTPException(503, "the server has been stopped; try again later")

    def upscale(self, job: Job, source: Path, target: Path, upscaler: Upscaler) -> dict[str, str]:
        """Write the picture `source`, upscaled, to `target`; return headers: X-Source and X-Result in pixels, X-Note.

        Called in a thread of the server. Raises HTTPException 422 where the picture cannot be read, written in this
        format, or is too large; 503 where nobody waits for it any more.
        """

        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total
            from_thread.run(self.check, job)

        try:
            photo = open_photo(source, MEGAPIXELS * 10**6)
            notes = upscale_file(photo, target, upscaler, progress)
        except UserError as error:
            raise HTTPException(422, str(error).replace(f"{source.parent}/", "")) from error
        width, height = photo.size
        result = open_photo(target, 10**9).size
        headers = {"X-Source": f"{width}x{height}", "X-Result": "{}x{}".format(*result)}
        if notes:
            headers["X-Note"] = "; ".join(notes).replace(f"{source.parent}/", "").encode("ascii", "replace").decode()
        return headers
