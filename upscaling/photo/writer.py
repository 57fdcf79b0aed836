"""Write photographs frame by frame in the format that the file's suffix names, with all that the format holds."""

import itertools
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin
from PIL.ExifTags import Base as Tag

from pictures import rounded, scaled_length
from upscaling.photo.metadata import held, iptc_segment, read_entries
from upscaling.photo.reader import PHOTO_FORMATS, Format, Photo, Strips
from utils import UserError, atomic_write

# {Pillow's mode: its name} of pictures that become RGB or grey in every format
MODES_LOST = {"CMYK": "CMYK", "LAB": "LAB", "P": "a palette", "PA": "a palette", "1": "1 bit per pixel"}
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")  # Pillow's modes for which a GIF's 256 colours suffice


def write_photo(
    path: str | Path, photo: Photo, frames: Iterable[Strips], scale: float = 1, quality: int | None = None
) -> list[str]:
    """Write the frames of `photo`, which are now `scale` times as large, atomically.

    frames: iterating over them decodes and upscales; PNG and TIFF are written strip by strip, so that only one strip is
    in memory. quality: of JPEG and WebP, 1 to 100; None: 95, or lossless for a lossless WebP. Returns a line for each
    thing that was lost. Raises UserError if the format cannot hold the picture.
    """
    path = Path(path)
    kind = format_of(path, photo, scale)
    infos: list[dict[str, Any]] = []  # metadata of the frames
    frames = _with_infos(frames, infos)
    with atomic_write(path) as temporary:
        if kind.name == "TIFF":
            _write_tiff(temporary, path, frames)
        elif kind.name == "PNG" and photo.frames == 1:
            _write_png(temporary, *frames)
        else:
            _write_eight_bits(temporary, kind, frames, photo.lossless and quality is None, quality or 95)
    return [f"{path}: {line}" for line in _lost(kind, photo, infos[0])]


def _with_infos(frames: Iterable[Strips], infos: list[dict[str, Any]]) -> Iterator[Strips]:
    """Yield `frames`, and add the metadata of each to `infos`."""
    for frame in frames:
        infos.append(frame.info)
        yield frame


def _lost(kind: Format, photo: Photo, info: dict[str, Any]) -> Iterator[str]:
    """Yield what a file of `kind` does not hold of `photo`, whose first frame has the metadata `info`, in words."""
    lost = held(info, kind.name)[1]
    if photo.alpha and not kind.alpha:
        lost.append("transparency; it is white now")
    if photo.sixteen_bits and not kind.sixteen_bits:
        lost.append("16 bits per channel; it has 8 now")
    if kind.name == "GIF" and photo.suffix != ".gif" and photo.mode not in GREY:
        lost.append("more than 256 colours")
    yield from (f"{kind.name} does not hold {what}" for what in lost)
    if photo.mode in MODES_LOST and kind.name != "GIF":  # a GIF has a palette in any case
        yield f"{'grey' if photo.mode == '1' else 'RGB'} now; {photo.path} has {MODES_LOST[photo.mode]}"
    if photo.loses_bits:
        yield f"8 bits per channel now; {photo.path} has more"


def format_of(path: Path, photo: Photo, scale: float) -> Format:
    """Return the Format for the suffix of `path`. Raises UserError if it cannot hold `photo`, enlarged by `scale`."""
    kind = PHOTO_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: unknown format; choose from {' '.join(PHOTO_FORMATS)}")
    longest = scaled_length(max(photo.size), scale)
    if longest > kind.longest:
        raise UserError(f"{path}: {longest} pixels long, {kind.name} holds {kind.longest}; choose .png or .tiff")
    # Frames of an animation need a format with animations, pages of a TIFF another TIFF.
    animations = [suffix for suffix, other in PHOTO_FORMATS.items() if other.animation]
    fitting = [".tiff", ".tif"] if photo.paged else animations
    if photo.frames > 1 and path.suffix.lower() not in fitting:
        what = f"{photo.frames} {'pages' if photo.paged else 'frames'}"
        raise UserError(f"{path}: {kind.name} cannot hold these {what}; choose {' or '.join(fitting)}")
    return kind


def _write_eight_bits(path: Path, kind: Format, frames: Iterable[Strips], lossless: bool, quality: int) -> None:
    """Write a picture or an animation with Pillow, 8 bits per channel."""
    images, infos = [], []
    for frame in frames:
        images.append(_image(frame, kind))
        infos.append(frame.info)
    info, _ = held(infos[0], kind.name)
    options = info | {"quality": quality, "subsampling": 0, "lossless": lossless, "exact": True, "optimize": False}
    if kind.name == "PNG":
        options["pnginfo"] = _png_text(info)
    if kind.name == "JPEG" and "iptc" in info:
        options["extra"] = iptc_segment(info["iptc"])
    if kind.name != "GIF":
        options.setdefault("loop", 1)  # a GIF without "loop" plays once, so its result in another format should too
    if len(images) > 1:
        options |= {"save_all": True, "append_images": images[1:]}
        options["duration"] = [info.get("duration", 0) for info in infos]
        # A GIF with transparency must clear each frame before the next, or the old one would show through.
        transparent = any("transparency" in image.info for image in images)
        options["disposal"] = 2 if kind.name == "GIF" and transparent else 0
    images[0].save(path, kind.name, **options)


def _image(frame: Strips, kind: Format) -> Image.Image:
    """Return a frame as an 8-bit Pillow image, with what the format can hold."""
    bands = frame.whole()
    bands = bands if bands.dtype == np.uint8 else rounded(bands / 257, np.uint8)
    colour = bands[..., 0] if bands.shape[2] < 3 else bands[..., :3]
    alpha = None if bands.shape[2] % 2 else bands[..., -1]
    if alpha is not None and not kind.alpha:  # on white
        share = (alpha if colour.ndim == 2 else alpha[..., None]) / 255
        colour, alpha = rounded(colour * share + 255 * (1 - share), np.uint8), None
    image = Image.fromarray(colour).convert("RGB" if kind.name in ("GIF", "WEBP") else None)
    if kind.name == "GIF":
        return _with_palette(image, alpha)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def _with_palette(image: Image.Image, alpha: np.ndarray | None) -> Image.Image:
    """Reduce a frame to a GIF's 256 colours, one of them transparent, which is used where alpha is below one half."""
    if alpha is None or alpha.min() >= 128:
        return image.quantize(256)
    image = image.quantize(255)
    image.paste(255, mask=Image.fromarray(alpha < 128))
    image.info["transparency"] = 255
    return image


def _png_text(info: dict[str, Any]) -> PngImagePlugin.PngInfo:
    """Return the chunks in which PNG stores texts, and XMP among them."""
    text = PngImagePlugin.PngInfo()
    for name, value in info.get("text", {}).items():
        text.add_text(name, value)
    if "comment" in info:
        text.add_text("Comment", info["comment"].decode("latin-1"))
    if "xmp" in info:
        text.add_itxt("XML:com.adobe.xmp", info["xmp"].decode(errors="replace"))
    return text


def _write_png(path: Path, frame: Strips) -> None:
    """Write a PNG of 8 or 16 bits per channel, strip by strip.

    Pillow makes the chunks of a picture of one pixel, whose header and pixels are then replaced by those of the frame.
    """
    height, width, channels = frame.shape
    bits, colour_type = 8 * frame.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        options = frame.info | {"pnginfo": _png_text(frame.info)}
        for name, data, _ in PngImagePlugin.getchunks(Image.new("L", (1, 1)), **options):
            for part in _deflated(frame) if name == b"IDAT" else [header if name == b"IHDR" else data]:
                PngImagePlugin.putchunk(file, name, part)


def _deflated(frame: Strips) -> Iterator[bytes]:
    """Yield the pixels as PNG stores them, strip by strip: differences from Paeth's prediction, deflated.

    Paeth's filter (PNG standard, 9.4) predicts a byte as that of its neighbours left, above and above left which is
    nearest to left + above - above left. It suits photographs, and one filter for all rows needs no search.
    """
    _, width, channels = frame.shape
    step, deflate = channels * frame.dtype.itemsize, zlib.compressobj(strategy=zlib.Z_FILTERED)
    last_row = np.zeros((1, step + step * width), np.uint8)
    for chunk in frame.strips():
        rows = chunk.astype(frame.dtype.newbyteorder(">")).view(np.uint8).reshape(len(chunk), -1)
        padded = np.concatenate([last_row, np.pad(rows, ((0, 0), (step, 0)))])  # 0 outside the picture
        last_row = padded[-1:]
        left, up, corner = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
        a, b, c = (x.astype(np.int16) for x in (left, up, corner))
        to_left, to_up, to_corner = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        nearest_is_left = (to_left <= to_up) & (to_left <= to_corner)
        predicted = np.where(nearest_is_left, left, np.where(to_up <= to_corner, up, corner))
        filtered = np.insert(rows - predicted, 0, 4, axis=1)  # each row begins with the number of its filter
        yield deflate.compress(filtered.tobytes())
    yield deflate.flush()


def _write_tiff(path: Path, target: Path, frames: Iterable[Strips]) -> None:
    """Write pages of 8 or 16 bits per channel to `path`, strip by strip. target: the name for messages."""
    try:
        with TiffImagePlugin.AppendingTiffWriter(path, new=True) as file:
            for index, frame in enumerate(frames):
                # A page's fields precede its strips and hold their lengths, so the strips wait in another file.
                with tempfile.TemporaryFile(dir=path.parent) as strips:
                    _page(frame, strips, with_folders=index == 0).save(file)
                    strips.seek(0)
                    shutil.copyfileobj(strips, file)
                file.newFrame()
    except struct.error as error:
        raise UserError(f"{target}: more than 4 GB, which is a TIFF's limit; name it .png") from error


def _page(frame: Strips, file: IO[bytes], with_folders: bool) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Write the strips of a page to `file`, deflated, and return the page's fields.

    with_folders: whether to write EXIF's folders; Pillow can do so in the first page alone.
    """
    (height, width, channels), info = frame.shape, frame.info
    lengths = []
    for rows in frame.strips():
        differences = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))  # they compress better
        lengths.append(file.write(zlib.compress(differences.astype(frame.dtype.newbyteorder("<")).tobytes())))
    fields = TiffImagePlugin.ImageFileDirectory_v2()
    if "exif" in info:
        exif = Image.Exif()
        exif.load(info["exif"])
        for (folder, tag), value in read_entries(exif).items():
            if not folder:
                fields[tag] = value
            elif with_folders:
                fields[folder] = fields.get(folder, {}) | {tag: value}
    starts = tuple(itertools.accumulate(lengths[:-1], initial=0))  # Pillow adds the position of the first
    fields[Tag.ImageWidth], fields[Tag.ImageLength] = width, height
    fields[Tag.BitsPerSample], fields[Tag.SamplesPerPixel] = (8 * frame.dtype.itemsize,) * channels, channels
    fields[Tag.Compression], fields[Tag.Predictor] = 8, 2  # deflate; differences
    fields[Tag.PhotometricInterpretation] = 1 if channels < 3 else 2  # grey, RGB
    fields[Tag.RowsPerStrip] = frame.height
    fields[Tag.StripOffsets], fields[Tag.StripByteCounts] = starts, tuple(lengths)
    if channels in (2, 4):
        fields[Tag.ExtraSamples] = 2  # alpha, not premultiplied
    if "dpi" in info:
        fields[Tag.XResolution], fields[Tag.YResolution] = info["dpi"]
        fields[Tag.ResolutionUnit] = 2  # inches
    for tag, name in ((Tag.InterColorProfile, "icc_profile"), (Tag.XMLPacket, "xmp"), (Tag.IPTCNAA, "iptc")):
        if name in info:
            fields[tag] = info[name]
    return fields
