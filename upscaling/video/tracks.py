"""What a video holds beside its pictures: sound, subtitles, chapters, covers and attached files, copied as they are."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscaling.video.reader import is_picture, main_stream
from utils import UserError

if importlib.util.find_spec("av"):
    import av

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream


def check_sound(out: Path, source: "InputContainer", target: "OutputContainer") -> None:
    """Raise UserError if the container `target` cannot hold the sound of `source`. out: the name for messages."""
    names = [stream.name for stream in source.streams.audio if stream.codec_context]
    for name in names:
        if name not in target.supported_codecs:
            raise UserError(f"{out}: does not hold sound in {name}; name it .mkv, which holds all")


def add_tracks(source: "InputContainer", target: "OutputContainer") -> tuple[dict[int, "Stream"], list[str]]:
    """Add the chapters of `source`, and all its streams but the one that is upscaled, to `target`.

    Returns {index in source: the stream in target whose packets are still to be copied}, and lines about what is lost
    and what is copied in its old size.
    """
    tracks: dict[int, Stream] = {}
    lost, small = [], []
    chapters = source.chapters()
    target.set_chapters(chapters)
    for stream in source.streams:
        words = f"{stream.type} track {stream.index} ({stream.name or 'of unknown kind'})"
        if stream == main_stream(source) or stream.type == "data" and chapters:  # MP4 has chapters as a track too
            continue
        if target.format.name == "matroska" and (stream.type == "attachment" or is_picture(stream)):
            target.add_attachment(*attached_file(Path(source.name), stream))
            continue
        try:
            if stream.type not in ("audio", "subtitle", "video") or stream.codec_context is None:
                raise ValueError(f"{words}: cannot be copied")
            track = target.add_stream_from_template(stream)
        except ValueError:  # the container does not hold it
            lost.append(words)
            continue
        track.metadata.update(stream.metadata)
        track.disposition = stream.disposition
        tracks[stream.index] = track
        if stream.type == "video" and not is_picture(stream):
            small.append(words)
    remarks = {"lost": lost, "copied, but not upscaled": small}
    return tracks, [f"{remark}: {', '.join(names)}" for remark, names in remarks.items() if names]


def attached_file(path: Path, stream: Any) -> tuple[str, str, bytes]:
    """Return (name, MIME type, content) of an attached file, or of an attached picture of the video at `path`."""
    if stream.type == "attachment":
        return stream.name or "attachment", stream.mimetype or "application/octet-stream", bytes(stream.data)
    kind = "jpeg" if stream.name == "mjpeg" else stream.name
    with av.open(path) as file:  # once more, since its packet comes only once
        content = b"".join(bytes(packet) for packet in file.demux(file.streams[stream.index]))
    name = stream.metadata.get("filename", f"cover.{kind}")
    return name, stream.metadata.get("mimetype", f"image/{kind}"), content
