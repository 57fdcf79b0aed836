"""Videos opened by their header, and read frame by frame; video.py upscales them and writes them back."""

import contextlib
import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from utils import UserError, reason

if importlib.util.find_spec("av"):  # 104 MB that pictures do without
    import av

# The formats that are read, whatever the file is called. Others could make it read further files (concat, HLS).
READ = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}


class Video(NamedTuple):
    """What the header of a video says."""

    path: Path
    size: tuple  # width, height, upright
    frames: int  # about as many; 0 where it does not say
    rate: Fraction  # frames a second, on average


def open_video(path, limit=50_000_000):
    """The Video at `path`, by its header, and by its first frame, which says how it is turned.

    limit: pixels of a frame. Raises UserError where the file is no video, cannot be read or exceeds the limit.
    """
    path = Path(path)
    if not importlib.util.find_spec("av"):
        raise UserError(f"{path}: videos need PyAV; pip install 'av>=18,<19'")
    if not path.is_file():
        raise UserError(f"{path}: {'a folder or a device' if path.exists() else 'no such file'}; name a video")
    with one_line(path, "unreadable video"), av.open(path, options=READ) as file:
        if not file.streams.video:
            raise UserError(f"{path}: holds no video")
        stream = file.streams.video[0]
        if stream.codec_context is None:
            raise UserError(f"{path}: in a video codec that is not known")
        if not 0 < stream.width * stream.height <= limit:
            raise UserError(f"{path}: {stream.width}x{stream.height} exceeds the limit of {limit / 1e6:g} megapixels")
        rate = stream.average_rate or Fraction(0)
        frames = stream.frames or round(rate * Fraction(file.duration or 0, 1_000_000))
        size = stream.width, stream.height
        first = next(file.decode(stream), None)
        return Video(path, size[::-1] if first and first.rotation % 180 else size, frames, rate)


@contextlib.contextmanager
def one_line(path, what):
    """Turn what PyAV raises into one UserError."""
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"{path}: {what} ({reason(error)})") from error


def items_of(path, source, *streams):
    """Yield decoded frames, and packets of sound, as they come in the file; those without a time are left out."""
    packets = source.demux(streams)
    while True:
        with one_line(path, "unreadable video"):
            packet = next(packets, None)
            if packet is None:
                return
            items = packet.decode() if packet.stream.type == "video" else [packet]
        for item in items:
            time = item.pts if isinstance(item, av.VideoFrame) else item.dts
            if time is not None:
                yield item
