"""Read videos, first the header, then frame by frame; video.py upscales and writes them."""

import contextlib
import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from utils import UserError, reason

if importlib.util.find_spec("av"):  # optional, 104 MB
    import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

# The formats that are read, whatever the file is called. Others, such as concat and HLS, could name further files.
READ = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}


class Video(NamedTuple):
    """What the header of a video says."""

    path: Path
    size: tuple[int, int]  # width, height, upright
    frames: int  # about how many; 0 if unknown
    rate: Fraction  # average number of frames per second


def open_video(path: str | Path, limit: int = 50_000_000) -> Video:
    """Read the header of the video at `path`, and its first frame, which says how it is rotated.

    limit: number of pixels allowed in a frame. Raises UserError if the file is no video, is unreadable or exceeds it.
    """
    path = Path(path)
    if not importlib.util.find_spec("av"):
        raise UserError(f"{path}: videos need PyAV; pip install 'av>=18,<19'")
    if not path.is_file():
        raise UserError(f"{path}: {'a folder or a device' if path.exists() else 'no such file'}; name a video")
    with as_user_error(path, "unreadable video"), av.open(path, options=READ) as file:
        if not file.streams.video:
            raise UserError(f"{path}: holds no video")
        stream = file.streams.video[0]
        if stream.codec_context is None:
            raise UserError(f"{path}: its video codec is unknown")
        if not 0 < stream.width * stream.height <= limit:
            raise UserError(f"{path}: {stream.width}x{stream.height} exceeds the limit of {limit / 1e6:g} megapixels")
        rate = stream.average_rate or Fraction(0)
        frames = stream.frames or round(rate * Fraction(file.duration or 0, 1_000_000))
        size = stream.width, stream.height
        first = next(file.decode(stream), None)
        return Video(path, size[::-1] if first and first.rotation % 180 else size, frames, rate)


@contextlib.contextmanager
def as_user_error(path: Path, what: str) -> Iterator[None]:
    """Turn PyAV's exceptions into a UserError. what: the message, to which the reason is added."""
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"{path}: {what} ({reason(error)})") from error


def frames_of(path: Path, source: "InputContainer", stream: "av.VideoStream") -> Iterator["av.VideoFrame"]:
    """Yield the decoded frames of a stream, except those without a time."""
    for packet in _packets(path, source, stream):
        with as_user_error(path, "unreadable video"):
            frames = packet.decode()
        yield from (frame for frame in frames if frame.pts is not None)


def sound_of(path: Path, source: "InputContainer") -> Iterator[tuple[Fraction, "av.Packet[Any]"]]:
    """Yield (dts in seconds, packet) of all sound, in the file's order, except packets without dts."""
    for packet in _packets(path, source, *source.streams.audio) if source.streams.audio else ():
        if packet.dts is not None:
            yield packet.dts * packet.time_base, packet


def _packets(path: Path, source: "InputContainer", *streams: "Stream") -> Iterator["av.Packet[Any]"]:
    """Yield the packets of one or more streams, and finally an empty one for each, which ends decoding."""
    packets = source.demux(streams)
    while True:
        with as_user_error(path, "unreadable video"):
            packet = next(packets, None)
        if packet is None:
            return
        yield packet
