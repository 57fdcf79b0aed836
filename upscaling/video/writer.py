"""Upscale videos frame by frame: times and colours are kept, frames are turned upright, and all else is copied."""

import contextlib
import functools
import heapq
import importlib.util
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from upscaling.earlier_runs import FinishedParts, FinishedStrips
from upscaling.video.reader import (
    Video,
    as_user_error,
    frames_of,
    main_stream,
    open_source,
    packets_of,
    packets_of_pieces,
)
from upscaling.video.tracks import add_tracks, check_sound
from utils import UserError, atomic_write

if importlib.util.find_spec("av"):
    import av

if TYPE_CHECKING:
    from av.container import OutputContainer

# How frames are encoded: FFmpeg's name of the codec, and its options, of which crf is the constant quality.
Codec = tuple[Literal["libx264", "libvpx-vp9"], dict[str, str]]
H264: Codec = ("libx264", {"crf": "16"})
VP9: Codec = ("libvpx-vp9", {"crf": "20", "b:v": "0", "row-mt": "1"})
DEEP = "yuv420p10le"
# Frames in a piece, which a stopped run loses at most; where each takes long, its strips are stored besides. A piece
# begins with a frame that is not predicted from another, so that shorter ones would make a larger file.
PIECE = 48
CONTAINERS = {".mp4": H264, ".mov": H264, ".m4v": H264, ".mkv": H264, ".webm": VP9}
MATRICES = {1: "ITU709", 7: "SMPTE240M", 9: "BT2020"}  # by H.273's numbers; all others count as ITU601
COLOURS = ("colorspace", "color_range", "color_primaries", "color_trc")


def upscale_video(
    video: Video,
    out: str | Path,
    network: Callable[[np.ndarray], np.ndarray],
    name: str = "",
    on_existing: Callable[[int], object] = lambda frames: None,
    strips: FinishedStrips | None = None,
) -> list[str]:
    """Upscale the frames of `video` with `network`, and write `out` (mp4, mov, m4v, mkv or webm) atomically.

    Returns a line for each thing that `out` cannot hold.

    The result is made in pieces, which stay in a hidden folder beside `out` until it is complete, so that a stopped run
    can be resumed.

    network: maps uint8 (h, w, 3) to uint8 (scale*h, scale*w, 3), or uint16 to uint16 if the video has more than 8 bits
    and the codec too. name: the hash of the result's identity; pieces of another one are made again. on_existing:
    called with the number of frames of each piece that exists already. strips: those of frames that are in no piece
    yet, if `network` stores them. Raises UserError if `video` cannot be read or `out` written.
    """
    out = Path(out)
    if out.suffix.lower() not in CONTAINERS:
        raise UserError(f"{out}: unknown video format; choose from {' '.join(CONTAINERS)}")
    parts = FinishedParts(out, "pieces", f"{name}-{_pixel_format(out, video)}")
    try:
        with atomic_write(out) as temporary:
            remarks = _join(temporary, out, video, _pieces(video, out, parts, network, on_existing, strips))
        parts.clear()
    finally:
        with contextlib.suppress(OSError):
            parts.folder.rmdir()  # fails if there are pieces in it
    return [f"{out}: {remark}" for remark in [*remarks, *_lost(out, video)]]


def _lost(out: Path, video: Video) -> Iterator[str]:
    """Yield what the frames of `out` do not hold of those of `video`, in words."""
    yield from video.lost
    bits = 10 if _pixel_format(out, video) == DEEP else 8
    if video.bits > bits:
        yield f"{bits} bits per channel now; {video.path} has {video.bits}"
    if video.pixel != 1 and CONTAINERS[out.suffix.lower()] is VP9:  # H.264 holds it itself; PyAV cannot set WebM's
        yield f"pixels are square now; in {video.path} they are {video.pixel} as wide as high"


def _pixel_format(out: Path, video: Video) -> str:
    """Return FFmpeg's name of the format in which `out` is encoded: of 10 bits if `video` has more than 8."""
    codec, _ = CONTAINERS[out.suffix.lower()]
    deep = video.bits > 8 and DEEP in {pixels.name for pixels in av.Codec(codec, "w").video_formats or ()}
    return DEEP if deep else "yuv420p"


def _pieces(
    video: Video,
    out: Path,
    parts: FinishedParts,
    network: Callable[[np.ndarray], np.ndarray],
    on_existing: Callable[[int], object],
    strips: FinishedStrips | None,
) -> Iterator[tuple[Path, Fraction]]:
    """Yield (path, time of the first frame in seconds) of each piece in turn; missing ones are made."""
    upscaled = functools.partial(_upscaled, network=network, pixel_format=_pixel_format(out, video))
    with open_source(video.path) as source:
        stream = main_stream(source)
        if stream is None:
            raise UserError(f"{video.path}: holds no video")
        frames = frames_of(video.path, source, stream)
        for index in itertools.count():
            first = next(frames, None)
            if first is None:
                return
            piece = parts.path(f"{index:06}.nut")  # NUT keeps the times as they are, mov does not
            chunk = itertools.chain([first], frames)
            if piece.exists():  # decode its frames all the same, to get to those after them
                on_existing(sum(1 for _ in itertools.islice(chunk, _frame_count(piece))))
            else:
                _write_piece(piece, out, video, stream, map(upscaled, itertools.islice(chunk, PIECE)))
            if strips:
                strips.clear()
            yield piece, first.time_base * first.pts  # type: ignore[operator, misc]  # frames_of's all have a time


def _frame_count(piece: Path) -> int:
    with as_user_error(piece, "damaged; delete it"), av.open(str(piece)) as file:
        return sum(packet.size > 0 for packet in file.demux())


def _write_piece(
    path: Path, out: Path, video: Video, in_stream: "av.VideoStream", frames: Iterable["av.VideoFrame"]
) -> None:
    """Encode upscaled `frames`, which came from `in_stream`, to `path` atomically. out: the name for messages."""
    codec, options = CONTAINERS[out.suffix.lower()]
    with atomic_write(path) as temporary, _new_file(temporary, out, f"; {codec} holds 16384 pixels a side") as file:
        out_stream = file.add_stream(codec, rate=video.rate or None, options=options)
        context = out_stream.codec_context
        for frame in frames:
            if not context.is_open:
                context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
                context.time_base = in_stream.time_base  # type: ignore[assignment]  # known: frames came
                context.sample_aspect_ratio = video.pixel  # type: ignore[misc]  # can be set, whatever PyAV's hints say
                for name in COLOURS:
                    setattr(context, name, getattr(in_stream.codec_context, name))
            file.mux(out_stream.encode(frame))
        file.mux(out_stream.encode())  # the frames that the encoder has held back


def _join(temporary: Path, out: Path, video: Video, pieces: Iterator[tuple[Path, Fraction]]) -> list[str]:
    """Copy the packets of all pieces, and all else in `video`, into one file; return lines about what is missing."""
    count = 0
    with open_source(video.path) as source, _new_file(temporary, out) as target:
        target.metadata.update(source.metadata)
        check_sound(out, source, target)  # before the first piece is made
        first = next(pieces, None)
        if first is None:
            raise UserError(f"{video.path}: none of its frames can be read")
        with av.open(str(first[0])) as piece:
            out_stream = target.add_stream_from_template(piece.streams.video[0])
            out_stream.codec_context.framerate = video.rate
            tracks, remarks = add_tracks(source, target)
        pictures = packets_of_pieces(itertools.chain([first], pieces))
        copies = packets_of(video.path, source, [source.streams[index] for index in tracks])
        for _, packet in heapq.merge(pictures, copies, key=operator.itemgetter(0)):
            is_copy = packet.stream.container is source
            packet.stream = tracks[packet.stream_index] if is_copy else out_stream
            target.mux(packet)
            count += not is_copy
    if count < 0.9 * video.frames:  # which is only about right in Matroska
        remarks.append(f"{count} frames; {video.path} has about {video.frames}, but no more can be read")
    return remarks


@contextlib.contextmanager
def _new_file(temporary: Path, out: Path, hint: str = "") -> Iterator["OutputContainer"]:
    """Yield a file of PyAV, complete at the end. Its errors become UserErrors that name `out` and `hint`."""
    errors = (av.FFmpegError, av.codec.codec.UnknownCodecError)  # not those of the network, which runs inside
    with as_user_error(out, f"cannot be written{hint}", errors), contextlib.ExitStack() as stack:
        file = av.open(str(temporary), "w")
        stack.callback(_close_quietly, file)
        yield file
        file.close()


def _close_quietly(target: "OutputContainer") -> None:
    """Close a file that is complete, or that is not needed because of an earlier error."""
    with contextlib.suppress(av.FFmpegError):
        target.close()


def _upscaled(
    frame: "av.VideoFrame", network: Callable[[np.ndarray], np.ndarray], pixel_format: str
) -> "av.VideoFrame":
    """Upscale a frame to `pixel_format`; its time, colour matrix and range stay those of the original."""
    rgb = "rgb48le" if pixel_format == DEEP else "rgb24"  # uint16 or uint8
    matrix = MATRICES.get(frame.colorspace, "ITU601")
    value_range = "JPEG" if frame.color_range == 2 else "MPEG"  # 0..255, or 16..235
    lr = frame.to_ndarray(format=rgb, src_colorspace=matrix, src_color_range=value_range)
    upright = np.rot90(lr, frame.rotation // 90)
    sr = network(np.ascontiguousarray(upright))
    height, width = (length - length % 2 for length in sr.shape[:2])  # H.264 takes only even sizes
    large = av.VideoFrame.from_ndarray(np.ascontiguousarray(sr[:height, :width]), format=rgb)
    large = large.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=value_range)
    large.colorspace, large.color_range = frame.colorspace, frame.color_range
    large.pts, large.time_base, large.duration = frame.pts, frame.time_base, frame.duration
    return large
