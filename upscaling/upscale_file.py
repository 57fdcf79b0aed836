"""Upscale one file: read, enlarge and write a photograph or a video."""

import functools
from pathlib import Path

from pictures import scaled_length
from upscaling.kept_strips import KeptStrips
from upscaling.photo.reader import PHOTO_FORMATS, PHOTO_SUFFIXES, Photo, open_photo
from upscaling.photo.rows import Progress
from upscaling.photo.writer import write_photo
from upscaling.upscaler import Upscaler
from upscaling.video.reader import Video, open_video
from upscaling.video.writer import CONTAINERS, upscale_video

FILE_SUFFIXES = [*PHOTO_SUFFIXES, *CONTAINERS]  # of files that are read
RESULT_SUFFIXES = [*PHOTO_FORMATS, *CONTAINERS]  # of files that are written


def open_file(path: Path) -> Photo | Video:
    """Read the header of the Video or Photo at `path`; the suffix tells which. Raises UserError if it is unreadable."""
    return open_video(path) if path.suffix.lower() in CONTAINERS else open_photo(path)


def upscale_file(
    opened: Photo | Video,
    target: Path,
    upscaler: Upscaler,
    progress: Progress | None = None,
    made_of: str = "",
    quality: int | None = None,
    keep: bool = False,
) -> list[str]:
    """Upscale the Photo or Video `opened`, and write the result to `target` atomically.

    Returns a line for each thing that the format of `target` cannot hold. Raises UserError if a file cannot be read or
    written.

    progress: called with (tiles done, tiles in all) of the whole file, without the pieces of a video from an earlier
    run. made_of: as for upscale_video. quality: as for write_photo. keep: whether to keep finished strips of a photo
    until it is complete, and of a video's frames until they are in a piece, so that a stopped run can be resumed;
    strips that an earlier run has left are used in any case.
    """
    tiles = FileProgress(progress, opened.frames, upscaler.tile_count(*opened.size))
    strips = KeptStrips(target, made_of, room_for(opened, target, upscaler.scale))
    kept = strips if keep or strips.exist() else None
    if isinstance(opened, Video):
        network = functools.partial(upscaler, progress=tiles.of_frame, kept=kept)
        lost = upscale_video(opened, target, network, made_of, tiles.skip, kept)
    else:
        frames = (frame.upscaled(upscaler, tiles.of_frame, kept) for frame in opened)
        lost = write_photo(target, opened, frames, upscaler.scale, quality)
    strips.clear()
    return lost


def room_for(opened: Photo | Video, target: Path, scale: float) -> int:
    """Return how many bytes the result of `opened`, or a frame of a video, may need on the disk."""
    width, height = opened.size
    pixels = scaled_length(width, scale) * scaled_length(height, scale)
    if isinstance(opened, Video):
        return 3 * pixels
    size = pixels * opened.frames * (4 if opened.alpha else 3) * (2 if opened.sixteen_bits else 1)
    return 2 * size if target.suffix.lower() in (".tif", ".tiff") else size  # a TIFF is written from a file beside it


class FileProgress:
    """Turns the progress of single frames into the progress of all frames.

    progress: called with (tiles done, tiles in all), or None. tiles_each: the expected number of tiles of a frame.
    """

    def __init__(self, progress: Progress | None, frames: int, tiles_each: int) -> None:
        self.progress, self.frames_left, self.tiles_each = progress, frames, tiles_each
        self.done = 0  # tiles of the frames that are complete

    def of_frame(self, done: int, total: int) -> None:
        """Report that `done` of the `total` tiles of the current frame are done; the callback for an Upscaler."""
        if self.progress:
            later = max(0, self.frames_left - 1) * self.tiles_each
            self.progress(self.done + done, self.done + total + later)
        if done == total:
            self.done += total
            self.frames_left -= 1

    def skip(self, frames: int) -> None:
        """Leave `frames` out of the count, because an earlier run has made them."""
        self.frames_left -= frames
