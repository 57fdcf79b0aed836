"""Files upscaled: photographs and videos, each read, enlarged and written back."""

import functools
from pathlib import Path

from upscaling.kept_strips import KeptStrips
from upscaling.photo_reader import PHOTO_FORMATS, PHOTO_SUFFIXES, Photo, open_photo
from upscaling.photo_writer import write_photo
from upscaling.strips import Progress
from upscaling.upscaler import Upscaler
from upscaling.video import CONTAINERS, upscale_video
from upscaling.video_reader import Video, open_video

FILE_SUFFIXES = [*PHOTO_SUFFIXES, *CONTAINERS]  # that are read
RESULT_SUFFIXES = [*PHOTO_FORMATS, *CONTAINERS]  # that are written


def open_file(path: Path) -> Photo | Video:
    """The Video at `path`, by its suffix, or else the Photo; by its header. Raises UserError where it is neither."""
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
    """Write the Photo or Video `opened`, upscaled by an Upscaler, to `target`, atomically.

    progress: is called with (tiles done, tiles in all) of the whole file; what an earlier run has made of a video is
    in neither. made_of: as of upscale_video. quality: as of write_photo. keep: keep the finished strips of a photo
    until it is whole, and of the frames of a video until they are in a piece, so that a run goes on after a stopped
    one; what one has left is used in any case.
    Returns what is lost, a line each. Raises UserError where it cannot be read or written.
    """
    tiles = FileProgress(progress, opened.frames, upscaler.tile_count(*opened.size))
    strips = KeptStrips(target, made_of)
    kept = strips if keep or strips.folder.is_dir() else None
    if isinstance(opened, Video):
        lost: list[str] = []
        network = functools.partial(upscaler, progress=tiles.of_frame, kept=kept)
        upscale_video(opened, target, network, made_of, tiles.leave_out, kept)
    else:
        frames = (frame.upscaled(upscaler, tiles.of_frame, kept) for frame in opened)
        lost = write_photo(target, opened, frames, upscaler.scale, quality)
    strips.clear()
    return lost


class FileProgress:
    """Counts the tiles of one frame after another for a callback that wants those of all frames."""

    def __init__(self, progress: Progress | None, frames: int, tiles_each: int) -> None:
        """progress: called with (tiles done, tiles in all), or None. tiles_each: how many a frame takes, about."""
        self.progress, self.frames_left, self.tiles_each = progress, frames, tiles_each
        self.done = 0  # tiles of the frames that are complete

    def of_frame(self, done: int, total: int) -> None:
        """The callback for an Upscaler: `done` of the `total` tiles of the present frame."""
        if self.progress:
            later = max(0, self.frames_left - 1) * self.tiles_each
            self.progress(self.done + done, self.done + total + later)
        if done == total:
            self.done += total
            self.frames_left -= 1

    def leave_out(self, frames: int) -> None:
        """Count `frames` no longer: they are there already."""
        self.frames_left -= frames
