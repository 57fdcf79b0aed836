"""Video: every frame through a network in its turn, at its own time, upright; sound is copied as it is."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import UserError, written_whole

try:
    import av
except ImportError:  # 104 MB that pictures do without
    av = None

# how frames are written: codec and its constant quality, on a scale of its own
H264, VP9 = ("libx264", {"crf": "16"}), ("libvpx-vp9", {"crf": "20", "b:v": "0", "row-mt": "1"})
CONTAINERS = {".mp4": H264, ".mov": H264, ".m4v": H264, ".mkv": H264, ".webm": VP9}
# what CONTAINERS are read as; other formats, whatever the file is called, may name further files (concat, HLS)
READ = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}
MATRICES = {1: "ITU709", 7: "SMPTE240M", 9: "BT2020"}  # of the numbers in H.273; all others are ITU601
COLOURS = ("colorspace", "color_range", "color_primaries", "color_trc")


class Video(NamedTuple):
    """What the header of a video says."""

    path: Path
    size: tuple  # width, height, before it is turned upright
    frames: int  # about as many; 0 where it does not say
    rate: Fraction  # frames a second, on average


def open_video(path, limit=50_000_000):
    """The Video at `path`; decodes nothing. Raises UserError where it is none or has frames above `limit` pixels."""
    path = Path(path)
    if av is None:
        raise UserError(f"{path}: videos need PyAV; pip install 'av>=18,<19'")
    if not path.is_file():
        raise UserError(f"{path}: {'a folder or a device' if path.exists() else 'no such file'}; name a video")
    with _one_line(path, "unreadable video"), av.open(path, options=READ) as file:
        if not file.streams.video:
            raise UserError(f"{path}: holds no video")
        stream = file.streams.video[0]
        if stream.codec_context is None:
            raise UserError(f"{path}: in a video codec that is not known")
        if not 0 < stream.width * stream.height <= limit:
            raise UserError(f"{path}: {stream.width}x{stream.height} exceeds the limit of {limit / 1e6:g} megapixels")
        rate = stream.average_rate or Fraction(0)
        frames = stream.frames or round(rate * Fraction(file.duration or 0, 1_000_000))
        return Video(path, (stream.width, stream.height), frames, rate)


def upscale_video(video, out, network, told=lambda done: None):
    """Write `out` (mp4, mov, m4v, mkv, webm) with the frames of `video` through `network`; whole or not at all.

    network: maps uint8 (h, w, 3) to uint8 (scale*h, scale*w, 3). told: is called with the number of frames done.
    """
    out = Path(out)
    if out.suffix.lower() not in CONTAINERS:
        raise UserError(f"{out}: no video ends like this; choose from {' '.join(CONTAINERS)}")
    codec, options = CONTAINERS[out.suffix.lower()]
    with written_whole(out) as temporary, contextlib.ExitStack() as stack:
        with _one_line(video.path, "unreadable video"):
            source = stack.enter_context(av.open(video.path, options=READ))
        seen, writing = source.streams.video[0], f"cannot be written; .mkv holds all sound, {codec} 16384 pixels a side"
        with _one_line(out, writing):
            target = av.open(str(temporary), "w")
            stack.callback(_given_up, target)
            target.metadata.update(source.metadata)
            shown = target.add_stream(codec, rate=video.rate or None, options=options)
            heard = {stream.index: target.add_stream_from_template(stream) for stream in source.streams.audio}
        done, waiting = 0, []  # packets wait until the first frame has told the encoder what it is
        for item in _items(video.path, source, seen):
            if isinstance(item, av.Packet):
                item.stream = heard[item.stream_index]
                waiting.append(item)
            else:
                frame = _enlarged(item, network)
                with _one_line(out, writing):
                    if not done:
                        context = shown.codec_context
                        context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
                        context.time_base = seen.time_base
                        for name in COLOURS:
                            setattr(context, name, getattr(seen.codec_context, name))
                    waiting += shown.encode(frame)
                done += 1
                told(done)
            if done:
                with _one_line(out, writing):
                    target.mux(waiting)
                waiting = []
        if not done:
            raise UserError(f"{video.path}: no frame of it can be read")
        with _one_line(out, writing):
            target.mux(shown.encode())
            target.close()


def _given_up(target):
    """Close a file that is complete, or that nobody needs."""
    with contextlib.suppress(av.FFmpegError):
        target.close()


@contextlib.contextmanager
def _one_line(path, what):
    """Turn what PyAV raises into one UserError."""
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: {what} ({reason})") from error


def _items(path, source, seen):
    """Decoded frames, and packets of sound, as they come in the file."""
    packets = source.demux([seen, *source.streams.audio])
    packet = ()
    while packet is not None:
        with _one_line(path, "unreadable video"):
            packet = next(packets, None)
            items = [] if packet is None else packet.decode() if packet.stream is seen else [packet]
        yield from (item for item in items if not isinstance(item, av.Packet) or item.dts is not None)


def _enlarged(frame, network):
    """A frame through the network; the time, the matrix and the range stay those of the original."""
    matrix, span = MATRICES.get(frame.colorspace, "ITU601"), "JPEG" if frame.color_range == 2 else "MPEG"
    lr = frame.to_ndarray(format="rgb24", src_colorspace=matrix, src_color_range=span)
    sr = network(np.ascontiguousarray(np.rot90(lr, frame.rotation // 90)))
    large = av.VideoFrame.from_ndarray(np.ascontiguousarray(sr), format="rgb24")
    large = large.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=span)
    large.colorspace, large.color_range = frame.colorspace, frame.color_range
    large.pts, large.time_base, large.duration = frame.pts, frame.time_base, frame.duration
    return large
