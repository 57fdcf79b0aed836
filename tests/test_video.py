"""Video: as many frames at the same times in the same colours, upright, with the sound as it was."""

import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from videos import write_video

from pictures import read_picture, resize
from upscaling import identity
from upscaling.earlier_runs import FinishedStrips
from upscaling.models import load
from upscaling.network import Network
from upscaling.upscale_file import restored_upscaler
from upscaling.upscaler import Upscaler
from upscaling.video import writer
from upscaling.video.reader import frames_from, open_video
from upscaling.video.writer import upscale_video
from utils import UserError, remove_partial_files

av = pytest.importorskip("av")

ROOT = Path(__file__).parents[1]
CORNERS = np.array([[[200, 90, 40], [90, 30, 220]], [[20, 200, 80], [128, 128, 128]]], np.uint8)
NTSC = Fraction(30000, 1001)


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(writer, "PIECE", 5)


def twice(lr):
    return lr.repeat(2, axis=0).repeat(2, axis=1)


def clip(path, rate=NTSC, matrix=None, span=None, turned=0, sound=True, varying=False):
    """Write 12 frames of 48 x 32, a colour in each corner, and half a second of a tone."""
    with av.open(str(path), "w") as file:
        out_stream = file.add_stream("libx264", rate=rate, options={"crf": "1"})
        out_stream.width, out_stream.height, out_stream.pix_fmt = 48, 32, "yuv420p"
        out_stream.codec_context.time_base = Fraction(1, 1000) if varying else 1 / rate
        out_stream.codec_context.colorspace, out_stream.codec_context.color_range = matrix or 2, span or 0
        if turned:
            out_stream.set_display_rotation(turned)
        audio_stream = file.add_stream("aac", rate=44100, layout="mono") if sound else None
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(np.roll(CORNERS, index, 0).repeat(16, 0).repeat(24, 1), format="rgb24")
            frame = frame.reformat(
                format="yuv420p",
                dst_colorspace="ITU709" if matrix == 1 else "ITU601",
                dst_color_range="JPEG" if span == 2 else "MPEG",
            )
            frame.pts, frame.time_base = (7 * index**2 if varying else index), out_stream.codec_context.time_base
            file.mux(out_stream.encode(frame))
        file.mux(out_stream.encode())
        for start in range(0, 22528 * sound, 1024):
            tone = np.sin(0.05 * np.arange(start, start + 1024, dtype=np.float32))[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            file.mux(audio_stream.encode(frame))
        if sound:
            file.mux(audio_stream.encode())


def photograph_clip(path, codec, options, count=14):
    """Write frames of a small photograph that moves."""
    picture = resize(read_picture(ROOT / "data/benchmark/Set14/HR/img_002.png"), 0.25)  # 180 x 144
    header_first = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=header_first) as file:
        stream = file.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
        for index in range(count):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, index, 1)))))
        file.mux(stream.encode())


def content(path):
    """(rate, times, frames upright (h, w, 3), packets of sound) of a video."""
    with av.open(str(path)) as file:
        rate, times, frames = file.streams.video[0].average_rate, [], []
        for frame in file.decode(video=0):
            matrix, span = ("ITU709" if frame.colorspace == 1 else "ITU601"), frame.color_range == 2
            rgb = frame.to_ndarray(format="rgb24", src_colorspace=matrix, src_color_range="JPEG" if span else "MPEG")
            times.append(frame.time)
            frames.append(np.rot90(rgb, frame.rotation // 90).astype(int))
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux() if packet.dts is not None]
        sound = [bytes(packet) for packet in packets if packet.stream.type == "audio"]
    return rate, times, frames, sound


CLIPS = {
    "ntsc": {},
    "25 a second, silent": {"rate": Fraction(25), "sound": False},
    "BT.709": {"matrix": 1, "span": 1},
    "full range": {"span": 2},
    "turned": {"turned": 90},
    "turned over": {"turned": 180},
    "varying rate": {"varying": True},
}


SILENT = "25 a second, silent"  # WebM does not hold AAC


@pytest.mark.parametrize("name, suffix", [*itertools.product(CLIPS, ["mp4", "mov", "mkv"]), (SILENT, "webm")])
def test_a_video_comes_back_twice_as_large(tmp_path, name, suffix):
    clip(tmp_path / "in.mp4", **CLIPS[name])
    video = open_video(tmp_path / "in.mp4")
    upscale_video(video, tmp_path / f"out.{suffix}", twice)
    rate, times, frames, sound = content(tmp_path / "in.mp4")
    rate_out, times_out, frames_out, sound_out = content(tmp_path / f"out.{suffix}")
    assert video.size == frames[0].shape[1::-1] and video.frames == len(frames) == 12
    assert "varying" in name or video.rate == rate == rate_out
    late = times_out[0] - times[0]  # Matroska has no times before 0, where AAC begins: all is moved by its start
    assert [time - late for time in times_out] == pytest.approx(times, abs=0.001) and 0 <= late < 0.025
    assert sound == sound_out and bool(sound) == CLIPS[name].get("sound", True)
    for before, after in zip(frames, frames_out, strict=True):
        assert after.shape == twice(before).shape
        inside = np.abs(after - twice(before))[8::16, 8::16]  # away from the edges between colours
        assert inside.max() <= 8


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_a_result_of_an_odd_size_loses_its_last_row_and_column(tmp_path, suffix):
    clip(tmp_path / "in.mp4", sound=False)

    def one_larger(lr):
        return np.pad(lr, ((0, 1), (0, 1), (0, 0)), "edge")

    upscale_video(open_video(tmp_path / "in.mp4"), tmp_path / f"out.{suffix}", one_larger)
    assert {frame.shape for frame in content(tmp_path / f"out.{suffix}")[2]} == {(32, 48, 3)}


def test_bad_input_is_one_line(tmp_path):
    clip(tmp_path / "whole.mp4")
    (tmp_path / "half.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:3000])
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    for name in ("half.mp4", "text.mp4", "empty.mp4", "missing.mp4", ""):
        with pytest.raises(UserError) as refused:
            open_video(tmp_path / name)
        assert str(refused.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(refused.value)
    with pytest.raises(UserError, match="limit"):
        open_video(tmp_path / "whole.mp4", limit=1000)


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    clip(tmp_path / "in.mp4")
    video = open_video(tmp_path / "in.mp4")
    for name in ("x.webm", "x.txt", "in.mp4/x.mp4"):
        with pytest.raises(UserError, match=name.split("/")[0]):
            upscale_video(video, tmp_path / name, twice)
    with pytest.raises(RuntimeError, match="network"):
        upscale_video(video, tmp_path / "x.mp4", lambda lr: (_ for _ in ()).throw(RuntimeError("network")))
    with pytest.raises(UserError, match="16384"):
        upscale_video(video, tmp_path / "x.mp4", lambda lr: np.zeros((16, 20000, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def pan(path, count=23):
    """Write a detail that moves over a picture, so that frames are predicted from later ones."""
    picture = read_picture(ROOT / "data/benchmark/Set14/HR/img_003.png")
    frames = [picture[2 * index : 2 * index + 48, 3 * index : 3 * index + 64] for index in range(count)]
    write_video(path, frames, NTSC, crf="10")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_killed_run_goes_on_and_ends_in_the_same_frames(tmp_path, suffix):
    pan(tmp_path / "in.mp4")
    out, straight = tmp_path / f"out.{suffix}", tmp_path / f"straight.{suffix}"
    upscale_video(open_video(tmp_path / "in.mp4"), straight, twice)
    program = f"""if True:
        import os, signal
        from upscaling.video import reader, writer
        calls = []
        def network(lr):
            calls.append(lr)
            if len(calls) == 18:  # the third frame of the fourth piece
                os.kill(os.getpid(), signal.SIGKILL)
            return lr.repeat(2, axis=0).repeat(2, axis=1)
        writer.PIECE = 5
        writer.upscale_video(reader.open_video({str(tmp_path / "in.mp4")!r}), {str(out)!r}, network)"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == -signal.SIGKILL
    assert not out.exists()
    remove_partial_files.cache_clear()  # as in a new process
    seen, existing = [], []

    def network(lr):
        seen.append(lr)
        return twice(lr)

    upscale_video(open_video(tmp_path / "in.mp4"), out, network, "", existing.append)
    assert len(seen) == 23 - 15 and existing == [5, 5, 5]
    _, times, frames, _ = content(out)
    _, straight_times, straight_frames, _ = content(straight)
    assert len(frames) == 23 and times == straight_times and np.array_equal(frames, straight_frames)
    with av.open(str(out)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    assert any(packet.pts > later.pts for packet, later in itertools.pairwise(packets)) == (suffix != "webm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", out.name, straight.name]


@pytest.mark.parametrize("change", ["source", "network", "time of the source", None])
def test_pieces_of_another_network_or_source_are_made_again(tmp_path, change):
    clip(tmp_path / "in.mp4")
    seen = []

    def network(lr):
        seen.append(lr)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return twice(lr)

    def name():
        model = "another" if change == "network" and seen else "one"
        return identity.hashed(identity.of_result({"model": model}, tmp_path / "in.mp4"))

    with pytest.raises(KeyboardInterrupt):
        upscale_video(open_video(tmp_path / "in.mp4"), tmp_path / "out.mp4", network, name())
    if change == "source":
        with open(tmp_path / "in.mp4", "ab") as file:
            file.write(b"\0\0\0\x08free")  # an empty box
    if change == "time of the source":
        os.utime(tmp_path / "in.mp4", (1, 1))
    upscale_video(open_video(tmp_path / "in.mp4"), tmp_path / "out.mp4", network, name())
    assert len(seen) - 8 == (12 if change in ("source", "network") else 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_of_slow_frames_a_stopped_run_loses_one(tmp_path, monkeypatch):
    """Its strips are stored, until all 23 frames are in a piece."""
    monkeypatch.setattr(writer, "PIECE", 48)
    pan(tmp_path / "in.mp4")
    target, seen = tmp_path / "out.mp4", []

    def function(lr):
        seen.append(lr)
        if len(seen) == 9:
            raise KeyboardInterrupt
        return lr.repeat(2, axis=1).repeat(2, axis=2)

    def work():
        strips = FinishedStrips(target, "one")
        network = functools.partial(Upscaler(Network(function, 2), tile=128), finished=strips)
        upscale_video(open_video(tmp_path / "in.mp4"), target, network, strips=strips)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert [path.name for path in tmp_path.iterdir() if "strips" in path.name] == [".out.mp4.strips"]
    work()
    assert len(seen) == 23 + 1  # the frame that was stopped went through the network again
    with av.open(str(target)) as file:
        assert [frame.key_frame for frame in file.decode(video=0)] == [True, *22 * [False]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


MILLISECONDS = Fraction(1, 1000)
TITLES = [{"id": n + 1, "start": 200 * n, "end": 200 * n + 200, "time_base": MILLISECONDS} for n in range(2)]
CHAPTERS = [chapter | {"metadata": {"title": f"Part {chapter['id']}"}} for chapter in TITLES]
WORDS = {"subrip": [b"Hello", b"Gr\xc3\xbc\xc3\x9fe"], "mov_text": [b"\0\5Hello", b"\0\7Gr\xc3\xbc\xc3\x9fe"]}


def encoded(stream, frames):
    return [packet for frame in [*frames, None] for packet in stream.encode(frame)]


def rich(path, subtitles, pixels="yuv420p10le"):
    """Write 12 frames of 48 x 32, each a little lighter; two tracks of sound, subtitles, chapters, a cover, a second
    video, and in Matroska an attached file."""
    with av.open(str(path), "w") as file:
        videos = [file.add_stream("libx264", rate=25, options={"crf": "1"}) for _ in range(2)]
        for stream in videos:
            stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        sounds = [file.add_stream("aac", rate=44100, layout="mono") for _ in range(2)]
        texts = file.add_mux_stream(subtitles)
        texts.time_base = MILLISECONDS
        sounds[0].metadata["language"], sounds[1].metadata["language"], texts.metadata["language"] = "eng", "fra", "deu"
        file.set_chapters(CHAPTERS)
        cover = np.zeros((8, 8, 3), np.uint8)
        if path.suffix == ".mkv":
            file.add_attachment("font.ttf", "font/ttf", b"a font")
        else:
            picture = file.add_stream("png", rate=1)
            picture.width, picture.height, picture.pix_fmt = 8, 8, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
            file.mux(encoded(picture, [av.VideoFrame.from_ndarray(cover, format="rgb24")]))
        for stream in videos:
            for index in range(12):
                frame = av.VideoFrame(48, 32, pixels)  # of 10 bits
                for plane, level in zip(frame.planes, (400 + index, 512, 512)):
                    plane.update(np.full(plane.buffer_size // 2, level, np.uint16))
                frame.pts = index
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        for stream in sounds:
            for start in range(0, 20480, 1024):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 44100, start
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        for number, words in enumerate(WORDS[subtitles]):
            packet = av.Packet(words)
            packet.stream, packet.time_base = texts, MILLISECONDS
            packet.pts = packet.dts = 200 * number
            packet.duration = 150
            file.mux(packet)


def beside_the_pictures(path):
    """(streams but the first, chapters, words with their times, other packets) of a video."""
    with av.open(str(path)) as file:
        chapters = [
            (float(chapter["start"] * chapter["time_base"]), chapter["metadata"]["title"])
            for chapter in file.chapters()
        ]
        streams = [
            (s.type, s.name, s.metadata.get("language"), s.disposition, getattr(s, "data", b""))
            for s in list(file.streams)[1:]
        ]
        packets = [
            packet for packet in file.demux(list(file.streams)[1:]) if packet.size > 2
        ]  # MP4 fills gaps with 2 bytes
        words = [
            (bytes(p), float(p.pts * p.time_base), float(p.duration * p.time_base))
            for p in packets
            if p.stream.type == "subtitle"
        ]
        others = [(p.stream_index, bytes(p)) for p in packets if p.stream.type != "subtitle"]
    return sorted(streams), chapters, words, sorted(others)


@pytest.mark.parametrize("name, subtitles", [("in.mkv", "subrip"), ("in.mp4", "mov_text"), ("in.mov", "mov_text")])
def test_what_a_video_holds_beside_its_pictures_is_kept_after_an_interruption_too(tmp_path, name, subtitles):
    rich(tmp_path / name, subtitles)
    out, seen = tmp_path / f"out{Path(name).suffix}", []

    def stopped(lr):
        seen.append(lr)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return twice(lr)

    with pytest.raises(KeyboardInterrupt):
        upscale_video(open_video(tmp_path / name), out, stopped)
    lost = upscale_video(open_video(tmp_path / name), out, stopped)
    assert lost == [f"{out}: copied, but not upscaled: video track 1 (h264)"]
    streams, chapters, words, others = beside_the_pictures(out)
    assert (streams, chapters, words, others) == beside_the_pictures(tmp_path / name)
    assert [word for word, *_ in words] == WORDS[subtitles] and len(chapters) == 2 and len(streams) >= 5 and others
    with av.open(str(out)) as file:
        assert file.streams.video[0].format.name == "yuv420p10le"
        levels = [frame.to_ndarray()[:64].mean() for frame in file.decode(video=0)]
    assert np.abs(np.array(levels) - np.arange(400, 412)).max() < 1  # with 8 bits up to 2


def test_what_a_video_loses_is_said(tmp_path):
    rich(tmp_path / "in.mkv", "subrip", "yuv444p10le")
    lost = upscale_video(open_video(tmp_path / "in.mkv"), tmp_path / "out.mp4", twice)
    assert [line.removeprefix(f"{tmp_path / 'out.mp4'}: ") for line in lost] == [
        "lost: subtitle track 4 (srt), attachment track 5 (font.ttf)",
        "copied, but not upscaled: video track 1 (h264)",
        "colours have half the width and height now (4:2:0)",
    ]
    clip(tmp_path / "silent.mp4", sound=False)
    assert upscale_video(open_video(tmp_path / "silent.mp4"), tmp_path / "out.webm", twice) == []


def test_a_video_of_which_the_end_is_missing_says_so(tmp_path):
    pan(tmp_path / "whole.mkv")
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    assert upscale_video(open_video(tmp_path / "whole.mkv"), tmp_path / "whole.mp4", twice) == []
    (line,) = upscale_video(open_video(tmp_path / "cut.mkv"), tmp_path / "cut.mp4", twice)
    with av.open(str(tmp_path / "cut.mp4")) as file:
        count = sum(1 for _ in file.decode(video=0))
    assert 5 < count < 20 and line.startswith(f"{tmp_path / 'cut.mp4'}: {count} frames; ") and "about 23" in line


def test_8_bits_and_no_hdr_are_said(tmp_path):
    with av.open(str(tmp_path / "in.mkv"), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"x264-params": "cll=1000,400"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p10le"
        file.mux(encoded(stream, [av.VideoFrame(48, 32, "yuv420p10le")]))
    lost = upscale_video(open_video(tmp_path / "in.mkv"), tmp_path / "out.webm", twice)
    assert [line.removeprefix(f"{tmp_path / 'out.webm'}: ") for line in lost] == [
        "HDR's data about brightness lost",
        f"8 bits per channel now; {tmp_path / 'in.mkv'} has 10",
    ]


def test_a_cover_is_not_the_video(tmp_path):
    """iTunes' data, which hold the cover, may stand before the tracks: these are their boxes in another order."""
    rich(tmp_path / "in.mp4", "mov_text")
    content = (tmp_path / "in.mp4").read_bytes()
    start = content.index(b"moov") + 4
    boxes, end = [], start
    while end < start + int.from_bytes(content[start - 8 : start - 4], "big") - 8:
        length = int.from_bytes(content[end : end + 4], "big")
        boxes.append(content[end : end + length])
        end += length
    boxes.sort(key=lambda box: [b"mvhd", b"udta"].index(box[4:8]) if box[4:8] in (b"mvhd", b"udta") else 2)
    (tmp_path / "first.mp4").write_bytes(content[:start] + b"".join(boxes) + content[end:])
    with av.open(str(tmp_path / "first.mp4")) as file:
        assert file.streams.video[0].name == "png"
    assert open_video(tmp_path / "first.mp4").size == (48, 32)
    upscale_video(open_video(tmp_path / "first.mp4"), tmp_path / "out.mp4", twice)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [(s.name, s.width) for s in file.streams.video] == [("h264", 96), ("h264", 48), ("png", 8)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("turned, shape", [(0, Fraction(64, 45)), (90, Fraction(45, 64))])
def test_pixels_that_are_not_square_stay_so(tmp_path, suffix, turned, shape):
    with av.open(str(tmp_path / "in.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)
        if turned:
            stream.set_display_rotation(turned)
        file.mux(encoded(stream, [av.VideoFrame(48, 32, "yuv420p")]))
    out = tmp_path / f"out.{suffix}"
    lost = upscale_video(open_video(tmp_path / "in.mp4"), out, twice)
    if suffix == "webm":
        assert lost == [f"{out}: pixels are square now; in {tmp_path / 'in.mp4'} they are {shape} as wide as high"]
        return
    with av.open(str(out)) as file:
        assert (file.streams.video[0].sample_aspect_ratio, lost) == (shape, [])


X264, VP9 = "libx264", "libvpx-vp9"


@pytest.mark.parametrize(
    ("name", "codec", "fine", "coarse"),
    [
        ("a.mp4", X264, {"crf": "8"}, {"crf": "34"}),
        ("a.webm", VP9, {"crf": "4", "b:v": "0"}, {"crf": "60", "b:v": "0"}),
        ("a.mp4", "mpeg4", {"qmin": "1", "qmax": "1"}, {"qmin": "20", "qmax": "20"}),
    ],
)
def test_a_coarse_video_is_restored_more(tmp_path, name, codec, fine, coarse):
    restored = []
    for options in (fine, coarse):
        photograph_clip(tmp_path / name, codec, options)
        restored.append(restored_upscaler(open_video(tmp_path / name), load("srgan"))[1])
    assert restored[0] < restored[1] and restored[1] >= 0.75


def test_a_video_that_ends_too_early_is_judged_by_what_there_is(tmp_path):
    """Its header promises a middle that is missing."""
    path = tmp_path / "a.mp4"
    photograph_clip(path, X264, {"crf": "34", "g": "20"}, count=80)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    video = open_video(path)
    assert video.frames == 80 and frames_from(path, 0.0)
    with contextlib.suppress(UserError, av.FFmpegError):
        assert not frames_from(path, float(40 / video.rate))
    _, restore, why = restored_upscaler(video, load("srgan"))
    assert restore >= 0.75 and "levels" in why
