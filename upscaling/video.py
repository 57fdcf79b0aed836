"""Video: every frame through a network in its turn, at its own time, upright; sound is copied as it is."""

import contextlib
import hashlib
import heapq
import itertools
import shutil
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import UserError, atomic_write

try:
    import av
except ImportError:  # 104 MB that pictures do without
    av = None

# how frames are written: codec and its constant quality, on a scale of its own
H264, VP9 = ("libx264", {"crf": "16"}), ("libvpx-vp9", {"crf": "20", "b:v": "0", "row-mt": "1"})
PIECE = 100  # frames that are made again at most when a run was stopped
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


def upscale_video(video, out, network, made_of="", found=lambda frames: None):
    """Write `out` (mp4, mov, m4v, mkv, webm) with the frames of `video` through `network`; whole or not at all.

    It is made in pieces, which stay in a hidden folder beside `out` until it is whole: a stopped run goes on after
    them. network: maps uint8 (h, w, 3) to uint8 (scale*h, scale*w, 3). made_of: says which network it is; pieces
    of another, or of another `video`, are made again. found: is called with the frames of each piece that is there.
    """
    out = Path(out)
    if out.suffix.lower() not in CONTAINERS:
        raise UserError(f"{out}: no video ends like this; choose from {' '.join(CONTAINERS)}")
    folder = out.with_name(f".{out.name}.pieces")
    try:
        with atomic_write(out) as temporary:
            source = video.path.stat()
            made_of = (made_of, PIECE, CONTAINERS[out.suffix.lower()], source.st_size, source.st_mtime_ns)
            name = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
            for path in folder.glob("*"):
                if not path.name.startswith((name, ".")):  # . another process writes
                    path.unlink()
            _join(temporary, out, video, _pieces(video, out, folder / name, network, found))
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if no piece is in it


def _pieces(video, out, path, network, found):
    """Yield (path, time of its first frame in seconds) of each piece in turn, made if it is missing."""
    with contextlib.ExitStack() as stack:
        with _one_line(video.path, "unreadable video"):
            source = stack.enter_context(av.open(video.path, options=READ))
        seen = source.streams.video[0]
        frames = _items(video.path, source, seen)
        for index in itertools.count():
            first = next(frames, None)
            if first is None:
                return
            piece = path.with_name(f"{path.name}-{index:06}.nut")  # NUT keeps the times as they are, mov does not
            some = itertools.chain([first], itertools.islice(frames, PIECE - 1))
            if piece.exists():
                found(sum(1 for _ in some))
            else:
                _write_piece(piece, out, video.rate, seen, (_enlarged(frame, network) for frame in some))
            yield piece, first.time_base * first.pts


def _write_piece(path, out, rate, seen, frames):
    """Encode `frames`, which came from the stream `seen`, whole or not at all."""
    codec, options = CONTAINERS[out.suffix.lower()]
    writing = f"cannot be written; {codec} holds 16384 pixels a side"
    with atomic_write(path) as temporary, contextlib.ExitStack() as stack:
        with _one_line(out, writing):
            file = av.open(str(temporary), "w")
            stack.callback(_given_up, file)
            shown = file.add_stream(codec, rate=rate or None, options=options)
        context = shown.codec_context
        for frame in frames:
            with _one_line(out, writing):
                if not context.is_open:
                    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
                    context.time_base = seen.time_base
                    for name in COLOURS:
                        setattr(context, name, getattr(seen.codec_context, name))
                file.mux(shown.encode(frame))
        with _one_line(out, writing):
            file.mux(shown.encode())
            file.close()


def _join(temporary, out, video, pieces):
    """Copy the packets of all pieces and of the sound of `video` into one file."""
    with contextlib.ExitStack() as stack:
        with _one_line(video.path, "unreadable video"):
            source = stack.enter_context(av.open(video.path, options=READ))
        writing = "cannot be written"
        with _one_line(out, writing):
            target = av.open(str(temporary), "w")
            stack.callback(_given_up, target)
            target.metadata.update(source.metadata)
            known = [stream.name for stream in source.streams.audio if stream.codec_context]
            unheard = [name for name in known if name not in target.supported_codecs]
        if unheard:  # before the first piece is made
            raise UserError(f"{out}: does not hold sound in {unheard[0]}; name it .mkv, which holds all")
        first = next(pieces, None)
        if first is None:
            raise UserError(f"{video.path}: no frame of it can be read")
        with _one_line(out, writing), av.open(str(first[0])) as piece:
            shown = target.add_stream_from_template(piece.streams.video[0])
            shown.codec_context.framerate = video.rate
            heard = {stream.index: target.add_stream_from_template(stream) for stream in source.streams.audio}
        sound = _items(video.path, source, *source.streams.audio) if heard else ()
        packets = heapq.merge(_in_one(itertools.chain([first], pieces)), sound, key=_decoded_at)
        for packet in packets:
            with _one_line(out, writing):
                packet.stream = heard[packet.stream_index] if packet.stream.type == "audio" else shown
                target.mux(packet)
        with _one_line(out, writing):
            target.close()


def _decoded_at(packet):
    return packet.dts * packet.time_base


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


def _items(path, source, *streams):
    """Decoded frames, and packets of sound, as they come in the file."""
    packets = source.demux(streams)
    packet = ()
    while packet is not None:
        with _one_line(path, "unreadable video"):
            packet = next(packets, None)
            items = [] if packet is None else packet.decode() if packet.stream.type == "video" else [packet]
        yield from (item for item in items if (item.pts if isinstance(item, av.VideoFrame) else item.dts) is not None)


def _in_one(pieces):
    """The packets of pieces one after the other, at times that go on from one to the next."""
    earlier = []  # pts of the frames that the next ones may be shown before
    for path, start in pieces:
        with av.open(str(path)) as file:
            packets = [packet for packet in file.demux() if packet.size]
            times = sorted(packet.pts for packet in packets)
            shift = round(start / packets[0].time_base) - times[0]
            times = [time + shift for time in times]
            if not earlier:
                delay = file.streams.video[0].codec_context.reorder_depth
                step = times[1] - times[0] if len(times) > 1 else 1
                earlier = [times[0] - step * count for count in range(delay, 0, -1)]
            for packet, dts in zip(packets, earlier + times):
                packet.pts, packet.dts = packet.pts + shift, dts
                yield packet
        earlier = (earlier + times)[len(times) :]


def _enlarged(frame, network):
    """A frame through the network; the time, the matrix and the range stay those of the original."""
    matrix, span = MATRICES.get(frame.colorspace, "ITU601"), "JPEG" if frame.color_range == 2 else "MPEG"
    lr = frame.to_ndarray(format="rgb24", src_colorspace=matrix, src_color_range=span)
    sr = network(np.ascontiguousarray(np.rot90(lr, frame.rotation // 90)))
    sr = sr[: len(sr) & ~1, : sr.shape[1] & ~1]  # H.264 takes even sizes alone
    large = av.VideoFrame.from_ndarray(np.ascontiguousarray(sr), format="rgb24")
    large = large.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=span)
    large.colorspace, large.color_range = frame.colorspace, frame.color_range
    large.pts, large.time_base, large.duration = frame.pts, frame.time_base, frame.duration
    return large
