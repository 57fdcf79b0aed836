"""Upscale videos frame by frame: times and colours are kept, frames are turned upright, sound is copied unchanged."""

import contextlib
import hashlib
import heapq
import importlib.util
import itertools
import operator
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from upscaling.kept_strips import KeptStrips
from upscaling.video_reader import READ, Video, as_user_error, frames_of, sound_of
from utils import UserError, atomic_write

if importlib.util.find_spec("av"):
    import av

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

# How frames are encoded: FFmpeg's name of the codec, and its options, of which crf is the constant quality.
Codec = tuple[Literal["libx264", "libvpx-vp9"], dict[str, str]]
H264: Codec = ("libx264", {"crf": "16"})
VP9: Codec = ("libvpx-vp9", {"crf": "20", "b:v": "0", "row-mt": "1"})
SECONDS = 10  # of work in a piece, which is what a stopped run loses at most
CONTAINERS = {".mp4": H264, ".mov": H264, ".m4v": H264, ".mkv": H264, ".webm": VP9}
MATRICES = {1: "ITU709", 7: "SMPTE240M", 9: "BT2020"}  # by H.273's numbers; all others count as ITU601
COLOURS = ("colorspace", "color_range", "color_primaries", "color_trc")


def upscale_video(
    video: Video,
    out: str | Path,
    network: Callable[[np.ndarray], np.ndarray],
    made_of: str = "",
    on_existing: Callable[[int], object] = lambda frames: None,
    kept: KeptStrips | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Upscale the frames of `video` with `network`, and write `out` (mp4, mov, m4v, mkv or webm) atomically.

    The result is made in pieces, which stay in a hidden folder beside `out` until it is complete, so that a stopped run
    can be resumed. network: maps uint8 (h, w, 3) to uint8 (scale*h, scale*w, 3). made_of: a text that identifies the
    network and its options; if it or `video` has changed, the pieces are made again. on_existing: called with the
    number of frames of each piece that exists already. kept: the strips that `network` keeps until a piece is complete;
    with them the network's time does not count for a piece, since short pieces make large files. clock: returns
    seconds. Raises UserError if `video` cannot be read or `out` written.
    """
    out = Path(out)
    if out.suffix.lower() not in CONTAINERS:
        raise UserError(f"{out}: unknown video format; choose from {' '.join(CONTAINERS)}")
    folder = out.with_name(f".{out.name}.pieces")
    try:
        with atomic_write(out) as temporary:
            source = video.path.stat()
            identity = (made_of, CONTAINERS[out.suffix.lower()], source.st_size, source.st_mtime_ns)
            name = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
            for path in folder.glob("*"):
                if not path.name.startswith((name, ".")):  # hidden files are being written by another process
                    path.unlink()
            _join(temporary, out, video, _pieces(video, out, folder / name, network, on_existing, kept, clock))
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # fails if there are pieces in it


def _pieces(
    video: Video,
    out: Path,
    path: Path,
    network: Callable[[np.ndarray], np.ndarray],
    on_existing: Callable[[int], object],
    kept: KeptStrips | None,
    clock: Callable[[], float],
) -> Iterator[tuple[Path, Fraction]]:
    """Yield (path, time of the first frame in seconds) of each piece in turn; missing ones are made."""
    with contextlib.ExitStack() as stack:
        with as_user_error(video.path, "unreadable video"):
            source = stack.enter_context(av.open(video.path, options=READ))
        in_stream = source.streams.video[0]
        frames = frames_of(video.path, source, in_stream)
        for index in itertools.count():
            first = next(frames, None)
            if first is None:
                return
            piece = path.with_name(f"{path.name}-{index:06}.nut")  # NUT keeps the times as they are, mov does not
            chunk = itertools.chain([first], frames)
            if piece.exists():  # decode its frames all the same, to get to those after them
                on_existing(sum(1 for _ in itertools.islice(chunk, _frame_count(piece))))
            else:
                _write_piece(piece, out, video.rate, in_stream, _for_seconds(chunk, network, kept, clock))
            if kept:
                kept.clear()
            yield piece, first.time_base * first.pts  # type: ignore[operator, misc]  # frames_of's all have a time


def _frame_count(piece: Path) -> int:
    with as_user_error(piece, "damaged; delete it"), av.open(str(piece)) as file:
        return sum(packet.size > 0 for packet in file.demux())


def _for_seconds(
    frames: Iterable["av.VideoFrame"],
    network: Callable[[np.ndarray], np.ndarray],
    kept: KeptStrips | None,
    clock: Callable[[], float],
) -> Iterator["av.VideoFrame"]:
    """Yield upscaled frames until they have taken SECONDS, not counting the network's time if its work is `kept`."""
    began = clock()
    for frame in frames:
        start = clock()
        large = _upscaled(frame, network)
        began += clock() - start if kept else 0
        yield large
        if clock() - began >= SECONDS:
            return


def _write_piece(
    path: Path, out: Path, rate: Fraction, in_stream: "av.VideoStream", frames: Iterable["av.VideoFrame"]
) -> None:
    """Encode upscaled `frames`, which came from `in_stream`, to `path` atomically. out: the name for messages."""
    codec, options = CONTAINERS[out.suffix.lower()]
    writing = f"cannot be written; {codec} holds 16384 pixels a side"
    with atomic_write(path) as temporary, contextlib.ExitStack() as stack:
        with as_user_error(out, writing):
            file = av.open(str(temporary), "w")
            stack.callback(_close_quietly, file)
            out_stream = file.add_stream(codec, rate=rate or None, options=options)
        context = out_stream.codec_context
        for frame in frames:
            with as_user_error(out, writing):
                if not context.is_open:
                    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
                    context.time_base = in_stream.time_base  # type: ignore[assignment]  # known: frames came
                    for name in COLOURS:
                        setattr(context, name, getattr(in_stream.codec_context, name))
                file.mux(out_stream.encode(frame))
        with as_user_error(out, writing):
            file.mux(out_stream.encode())  # the frames that the encoder has held back
            file.close()


def _join(temporary: Path, out: Path, video: Video, pieces: Iterator[tuple[Path, Fraction]]) -> None:
    """Copy the packets of all pieces, and those of the sound of `video`, into one file."""
    with contextlib.ExitStack() as stack:
        with as_user_error(video.path, "unreadable video"):
            source = stack.enter_context(av.open(video.path, options=READ))
        writing = "cannot be written"
        with as_user_error(out, writing):
            target = av.open(str(temporary), "w")
            stack.callback(_close_quietly, target)
            target.metadata.update(source.metadata)
        _check_sound(out, source, target)  # before the first piece is made
        first = next(pieces, None)
        if first is None:
            raise UserError(f"{video.path}: none of its frames can be read")
        with as_user_error(out, writing), av.open(str(first[0])) as piece:
            out_stream = target.add_stream_from_template(piece.streams.video[0])
            out_stream.codec_context.framerate = video.rate
            audio_streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams.audio}
        pictures = _in_one(itertools.chain([first], pieces))
        packets = heapq.merge(pictures, sound_of(video.path, source), key=operator.itemgetter(0))
        for _, packet in packets:
            with as_user_error(out, writing):
                is_audio = packet.stream.type == "audio"
                packet.stream = audio_streams[packet.stream_index] if is_audio else out_stream
                target.mux(packet)
        with as_user_error(out, writing):
            target.close()


def _check_sound(out: Path, source: "InputContainer", target: "OutputContainer") -> None:
    """Raise UserError if the container `target` cannot hold the sound of `source`. out: the name for messages."""
    names = [stream.name for stream in source.streams.audio if stream.codec_context]
    for name in names:
        if name not in target.supported_codecs:
            raise UserError(f"{out}: does not hold sound in {name}; name it .mkv, which holds all")


def _close_quietly(target: "OutputContainer") -> None:
    """Close a file that is complete, or that is not needed because of an earlier error."""
    with contextlib.suppress(av.FFmpegError):
        target.close()


def _in_one(pieces: Iterable[tuple[Path, Fraction]]) -> Iterator[tuple[Fraction, "av.Packet[Any]"]]:
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


def _upscaled(frame: "av.VideoFrame", network: Callable[[np.ndarray], np.ndarray]) -> "av.VideoFrame":
    """Upscale a frame; its time, colour matrix and range stay those of the original."""
    matrix = MATRICES.get(frame.colorspace, "ITU601")
    value_range = "JPEG" if frame.color_range == 2 else "MPEG"  # 0..255, or 16..235
    lr = frame.to_ndarray(format="rgb24", src_colorspace=matrix, src_color_range=value_range)
    upright = np.rot90(lr, frame.rotation // 90)
    sr = network(np.ascontiguousarray(upright))
    height, width = (length - length % 2 for length in sr.shape[:2])  # H.264 takes only even sizes
    large = av.VideoFrame.from_ndarray(np.ascontiguousarray(sr[:height, :width]), format="rgb24")
    large = large.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=value_range)
    large.colorspace, large.color_range = frame.colorspace, frame.color_range
    large.pts, large.time_base, large.duration = frame.pts, frame.time_base, frame.duration
    return large
