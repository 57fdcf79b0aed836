"""The queue of pictures sent to the server: one is upscaled at a time, in the order in which they arrived whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anyio import from_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

from upscaling.photo.reader import open_photo
from upscaling.upscale_file import restored_upscaler, upscale_file
from upscaling.upscaler import Upscaler
from utils import UserError

MEGAPIXELS = 4  # limit of a source; 16 times as many are about what browsers can show


@dataclass(eq=False)  # two jobs are never the same
class Job:
    """A picture that was sent."""

    request: Request
    done: int = 0  # tiles
    total: int = 0  # tiles
    finished: bool = False  # whether the result is being sent back


class Jobs:
    """The jobs of a server, at most `most`, each from the first byte of a picture to the last of its result."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.all: dict[str, Job] = {}  # {name: job}
        self.queue: list[Job] = []  # those whose picture has arrived and whose result is not made yet, in turn
        self.stopping: Callable[[], bool] = lambda: False  # returns whether the server is shutting down

    def require_place(self) -> None:
        """Raise HTTPException 503 if all places are taken."""
        if len(self.all) >= self.most:
            raise HTTPException(503, f"all places are taken (--jobs {self.most}); try again in a minute")

    @contextlib.contextmanager
    def place(self, name: str, job: Job) -> Iterator[None]:
        """Keep a place for a job. Raises HTTPException: 503 if all are taken, 409 if the name is in use."""
        self.require_place()
        if name in self.all:
            raise HTTPException(409, "job: the name is in use; choose another")
        self.all[name] = job
        try:
            yield
        finally:
            del self.all[name]

    @contextlib.asynccontextmanager
    async def turn(self, job: Job) -> AsyncIterator[None]:
        """Enter the block when all earlier jobs are done. Raises HTTPException as check does."""
        self.queue.append(job)
        try:
            while self.queue[0] is not job:
                await asyncio.sleep(0.1)
                await self.check(job)
            yield
        finally:
            self.queue.remove(job)

    def before(self, job: Job) -> int:
        """Return how many jobs are upscaled before `job`."""
        return self.queue.index(job) if job in self.queue else len(self.queue)

    async def check(self, job: Job) -> None:
        """Raise HTTPException if the server is shutting down or the client has disconnected."""
        if self.stopping() or await job.request.is_disconnected():
            raise HTTPException(503, "the server has been stopped; try again later")

    def upscale(
        self, job: Job, source: Path, target: Path, load: Callable[[], Upscaler], stays: bool = False
    ) -> dict[str, str]:
        """Upscale the picture `source` to `target`; return {"source", "result"}, sizes in pixels, and "note".

        load: returns the Upscaler. stays: whether the result stays for the page; that of several pages is a TIFF then.
        Call this in a worker thread. Raises HTTPException 422 if the picture is unreadable, too large, or cannot be
        written in this format, and 503 if nobody is waiting for it any more.
        """

        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total
            from_thread.run(self.check, job)

        def unnamed(text: str) -> str:  # the page and the sender know which picture it is
            return text.replace(f"{source}: ", "").replace(f"{source.parent}/", "")

        try:
            photo = open_photo(source)
            width, height = photo.size
            if photo.pixels() > MEGAPIXELS * 10**6:
                several = f"{photo.frames} {'pages' if photo.paged else 'frames'} together"
                size = several if photo.frames > 1 else f"{width}x{height}"
                limit = f"more than {MEGAPIXELS} megapixels, the limit of this page"
                raise HTTPException(422, f"{size} are {limit}; on your computer, python upscale.py FILE takes it")
            target = target.with_suffix(".tif") if stays and photo.paged else target
            upscaler, restore, why = restored_upscaler(photo, load())
            notes = upscale_file(photo, target, upscaler, progress) + photo.damage
            if restore:
                notes.insert(0, f"{why}: restore {restore:g}")
            if stays and photo.paged:
                notes.insert(0, f"{photo.frames} pages, of which the first is in view; save as tif, which holds all")
        except UserError as error:
            raise HTTPException(422, unnamed(str(error))) from error
        facts = {"source": f"{width}x{height}", "result": "{}x{}".format(*open_photo(target, 10**9).size)}
        return facts | ({"note": unnamed("; ".join(notes))} if notes else {})
