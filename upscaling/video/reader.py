"""Read videos, first the header, then frame by frame; writer.py upscales and writes them."""

import contextlib
import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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
    pixel: Fraction = Fraction(1)  # width of a pixel, upright, relative to its height
    bits: int = 8  # per channel
    lost: tuple[str, ...] = ()  # what results, which are 4:2:0 without alpha, do not hold, in words


def open_video(path: str | Path, limit: int = 50_000_000) -> Video:
    """Read the header of the video at `path`, and its first frame, which says how it is rotated.

    limit: number of pixels allowed in a frame. Raises UserError if the file is no video, is unreadable or exceeds it.
    """
    path = Path(path)
    if not importlib.util.find_spec("av"):
        raise UserError(f"{path}: videos need PyAV; pip install 'av>=18,<19'")
    if not path.is_file():
        raise UserError(f"{path}: {'a folder or a device' if path.exists() else 'no such file'}; name a video")
    with open_source(path) as file, as_user_error(path, "unreadable video"):
        stream = main_stream(file)
        if stream is None:
            raise UserError(f"{path}: holds no video")
        if stream.codec_context is None:
            raise UserError(f"{path}: its video codec is unknown")
        if not 0 < stream.width * stream.height <= limit:
            raise UserError(f"{path}: {stream.width}x{stream.height} exceeds the limit of {limit / 1e6:g} megapixels")
        rate = stream.average_rate or Fraction(0)
        frames = stream.frames or round(rate * Fraction(file.duration or 0, 1_000_000))
        size = stream.width, stream.height
        first = next(file.decode(stream), None)
        pixel = stream.sample_aspect_ratio or Fraction(1)
        if first and first.rotation % 180:
            size, pixel = size[::-1], 1 / pixel
        return Video(path, size, frames, rate, pixel, *_depth(first))


def some_frames(path: Path, duration: float) -> list[np.ndarray]:
    """Return a few frames of the video at `path`, RGB uint8 (h, w, 3), by which it can be judged.

    They are from its middle, since many begin black, or if that cannot be read, the first ones. duration: in seconds.
    Raises UserError if the video is unreadable.
    """
    with contextlib.suppress(UserError, av.FFmpegError):
        frames = frames_from(path, duration / 2)
        if frames:
            return frames
    return frames_from(path, 0.0)


def frames_from(path: Path, time: float) -> list[np.ndarray]:
    """Return every third of twelve frames from `time` in seconds on, or from a little before, where decoding can begin.

    Raises UserError if the video is unreadable, and FFmpegError if `time` cannot be found.
    """
    with open_source(path) as file:
        stream = main_stream(file)
        if stream is None:
            return []
        if time:
            file.seek(round(time * 1_000_000))
        frames = itertools.islice(frames_of(path, file, stream), 0, 12, 3)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def main_stream(source: "InputContainer") -> "av.VideoStream | None":
    """Return the stream that is upscaled, the first one that is no attached picture such as a cover."""
    return next((stream for stream in source.streams.video if not is_picture(stream)), None)


def is_picture(stream: "Stream") -> bool:
    """Return whether `stream` is an attached picture, such as a cover."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _depth(frame: "av.VideoFrame | None") -> tuple[int, tuple[str, ...]]:
    """Return (bits per channel, what results do not hold) of a frame, as in Video."""
    if frame is None:
        return 8, ()
    pixels, lost = frame.format, []
    coloured = sum(not part.is_alpha for part in pixels.components) == 3
    if pixels.is_rgb or coloured and (pixels.chroma_width(16), pixels.chroma_height(16)) != (8, 8):
        lost.append("colours have half the width and height now (4:2:0)")
    if any(part.is_alpha for part in pixels.components):
        lost.append("transparency lost")
    if "MASTERING_DISPLAY_METADATA" in frame.side_data or "CONTENT_LIGHT_LEVEL" in frame.side_data:
        lost.append("HDR's data about brightness lost")
    return max((part.bits for part in pixels.components), default=8), tuple(lost)


@contextlib.contextmanager
def as_user_error(path: Path, what: str, errors: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn `errors`, by default all of PyAV's, into a UserError. what: the message, to which the reason is added."""
    errors = errors or (av.FFmpegError, ValueError)
    try:
        yield
    except errors as error:
        raise UserError(f"{path}: {what} ({reason(error)})") from error


@contextlib.contextmanager
def open_source(path: Path) -> Iterator["InputContainer"]:
    """Open a video to read it. Raises UserError if its header is unreadable."""
    with contextlib.ExitStack() as stack:
        with as_user_error(path, "unreadable video"):
            file = stack.enter_context(av.open(path, options=READ))
        yield file


def frames_of(path: Path, source: "InputContainer", stream: "av.VideoStream") -> Iterator["av.VideoFrame"]:
    """Yield the decoded frames of a stream, except those without a time."""
    for packet in _packets(path, source, stream):
        with as_user_error(path, "unreadable video"):
            frames = packet.decode()
        yield from (frame for frame in frames if frame.pts is not None)


def packets_of(
    path: Path, source: "InputContainer", streams: Sequence["Stream"]
) -> Iterator[tuple[Fraction, "av.Packet[Any]"]]:
    """Yield (dts in seconds, packet) of `streams`, in the file's order, except packets without any time."""
    early: dict[int, list[av.Packet[Any]]] = {}  # {stream: its first packets, whose dts Matroska leaves out}
    for packet in _packets(path, source, *streams) if streams else ():
        if packet.size and is_picture(packet.stream):
            packet.pts = packet.dts = 0  # it has none
        if packet.size and packet.dts is None and packet.pts is not None:
            early.setdefault(packet.stream_index, []).append(packet)
            continue
        first = early.pop(packet.stream_index, [])
        before = min((other.pts or 0 for other in first), default=0) if packet.dts is None else packet.dts
        for number, other in enumerate(first):
            other.dts = before - (len(first) - number) * (other.duration or 1)
            yield other.dts * other.time_base, other
        if packet.dts is not None:
            yield packet.dts * packet.time_base, packet


def packets_of_pieces(pieces: Iterable[tuple[Path, Fraction]]) -> Iterator[tuple[Fraction, "av.Packet[Any]"]]:
    """Yield (dts in seconds, packet) of all pieces in turn, with times that continue from one piece to the next.

    Packets come in the order in which they are decoded. A frame may be predicted from a later one, which is decoded
    before it. Each packet therefore has a time to be shown (pts) and an earlier or equal one to be decoded (dts), and
    dts must increase from packet to packet. Each piece has dts of its own; here they are counted over all pieces: they
    are the sorted pts, delayed by as many frames as the encoder reorders.
    """
    delayed: list[int] = []  # the latest times, as many as the encoder reorders frames
    for path, start in pieces:
        with av.open(str(path)) as file:
            packets = [(packet, packet.pts) for packet in file.demux() if packet.size and packet.pts is not None]
            times = sorted(pts for _, pts in packets)
            shift = round(start / packets[0][0].time_base) - times[0]
            times = [time + shift for time in times]
            if not delayed:  # before the first frame, times continue backwards in steps of one frame
                count = file.streams.video[0].codec_context.reorder_depth
                step = times[1] - times[0] if len(times) > 1 else 1
                delayed = [times[0] - step * number for number in range(count, 0, -1)]
            decoding_times = delayed + times
            for (packet, pts), dts in zip(packets, decoding_times):
                packet.pts, packet.dts = pts + shift, dts
                yield dts * packet.time_base, packet
        delayed = decoding_times[len(times) :]


def _packets(path: Path, source: "InputContainer", *streams: "Stream") -> Iterator["av.Packet[Any]"]:
    """Yield the packets of one or more streams, and finally an empty one for each, which ends decoding."""
    packets = source.demux(streams)
    while True:
        with as_user_error(path, "unreadable video"):
            packet = next(packets, None)
        if packet is None:
            return
        yield packet
