"""Upscale one file: read, enlarge and write a photograph or a video."""

import functools
from pathlib import Path

from restoration import needed
from upscaling.earlier_runs import FinishedStrips
from upscaling.photo.reader import PHOTO_FORMATS, PHOTO_SUFFIXES, Frame, Photo, Strips, open_photo
from upscaling.photo.writer import write_photo
from upscaling.upscaler import Part, Progress, Upscaler
from upscaling.video.reader import Video, open_video, some_frames
from upscaling.video.writer import CONTAINERS, upscale_video

FILE_SUFFIXES = [*PHOTO_SUFFIXES, *CONTAINERS]  # of files that are read
RESULT_SUFFIXES = [*PHOTO_FORMATS, *CONTAINERS]  # of files that are written


def open_file(path: Path) -> Photo | Video:
    """Read the header of the Video or Photo at `path`; the suffix tells which. Raises UserError if it is unreadable."""
    return open_video(path) if path.suffix.lower() in CONTAINERS else open_photo(path)


def restored_upscaler(opened: Photo | Video, upscaler: Upscaler) -> tuple[Upscaler, float, str]:
    """Return (an automatic `upscaler` as the file needs it, how much it restores, why); 0 and "" if it is another one.

    A photo's first frame decides for all, of a video some in the middle. Raises UserError if the file is unreadable.
    """
    if not upscaler.network_that_restores:
        return upscaler, 0.0, ""
    if isinstance(opened, Video):
        duration = float(opened.frames / opened.rate) if opened.rate else 0.0
        in_order = sorted(map(needed, some_frames(opened.path, duration)))
        restore, why = in_order[len(in_order) // 2] if in_order else (0.0, "no frame can be read")
    else:
        restore, why = needed(next(iter(opened)).picture, opened.jpeg_tables)
    return upscaler.restoring(restore), restore, why


def upscale_file(
    opened: Photo | Video,
    target: Path,
    upscaler: Upscaler,
    progress: Progress | None = None,
    name: str = "",
    quality: int | None = None,
    resumable: bool = False,
    part: Part | None = None,
) -> list[str]:
    """Upscale the Photo or Video `opened`, and write the result to `target` atomically.

    Returns a line for each thing that the format of `target` cannot hold. Raises UserError if a file cannot be read or
    written.

    upscaler: of restored_upscaler; an automatic one would choose for each frame anew.
    progress: called with (tiles done, tiles in all) of the whole file, without those that an earlier run has finished.
    name: the hash of the result's identity, see identity.py. quality: as for write_photo. resumable: whether finished
    strips of a photo stay on the disk until it is complete, and those of a video's frames until they are in a piece, so
    that a stopped run can be resumed; strips of an earlier run are used in any case. part: of a photo, of which nothing
    is made but the strips of this part.
    """
    frames = FramesProgress(progress, opened.frames, upscaler.tile_count(*opened.size))
    width, height = upscaler.result_size(*opened.size)
    # The result may need up to 8 bytes a pixel, a TIFF twice that, since it is written from a file beside it.
    room = 16 * width * height * (1 if isinstance(opened, Video) else opened.frames)
    strips = FinishedStrips(target, name, room)
    if part and isinstance(opened, Photo):
        for frame in opened:
            upscaler.add_part(frame.picture, part, strips, frames)
        return []
    finished = strips if resumable or strips.exist() else None
    if isinstance(opened, Video):
        network = functools.partial(upscaler, progress=frames, finished=finished)
        lost = upscale_video(opened, target, network, name, frames.skip, finished)
    else:
        pictures = (upscale_frame(frame, upscaler, frames, finished) for frame in opened)
        lost = write_photo(target, opened, pictures, upscaler.scale, quality)
    strips.clear()
    return lost


def upscale_frame(
    frame: Frame, upscaler: Upscaler, progress: Progress | None = None, finished: FinishedStrips | None = None
) -> Strips:
    """Return the upscaled frame of a photograph, which is made strip by strip. Other arguments: as for an Upscaler."""
    height, width, channels = frame.picture.shape
    width, height = upscaler.result_size(width, height)
    rows = upscaler.strips(frame.picture, progress, finished)
    return Strips((height, width, channels), frame.picture.dtype, rows, frame.info)


class FramesProgress:
    """Turns the progress of one frame after another, with which it is called, into that of the file.

    progress: called with (tiles done, tiles in all), or None. tiles_each: the expected number of tiles of a frame.
    """

    def __init__(self, progress: Progress | None, frames: int, tiles_each: int) -> None:
        self.progress, self.frames_left, self.tiles_each = progress, frames, tiles_each
        self.done = 0  # tiles of the frames that are complete

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of the `total` tiles of the current frame are done."""
        if self.progress:
            later = max(0, self.frames_left - 1) * self.tiles_each
            self.progress(self.done + done, self.done + total + later)
        if done == total:
            self.done += total
            self.frames_left -= 1

    def skip(self, frames: int) -> None:
        """Leave `frames` out of the count, because an earlier run has made them."""
        self.frames_left -= frames
