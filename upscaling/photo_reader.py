"""Photographs of every kind: opened by their header, read frame by frame, upscaled; photo_writer.py writes them."""

import contextlib
import os
import re
import struct
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError
from scipy.ndimage import distance_transform_edt

from pictures import resize
from utils import UserError


class Format(NamedTuple):
    """What the files of one format hold."""

    name: str  # Pillow's
    alpha: bool
    sixteen_bits: bool
    animation: bool
    longest: int  # side in pixels


FORMATS = {
    ".png": Format("PNG", True, True, True, 2**31 - 1),
    ".jpg": Format("JPEG", False, False, False, 65500),
    ".jpeg": Format("JPEG", False, False, False, 65500),
    ".webp": Format("WEBP", True, False, True, 16383),
    ".tiff": Format("TIFF", True, True, False, 2**31 - 1),
    ".tif": Format("TIFF", True, True, False, 2**31 - 1),
    ".gif": Format("GIF", True, False, True, 65535),
    ".bmp": Format("BMP", False, False, False, 2**31 - 1),
}
NAMES = sorted({kind.name for kind in FORMATS.values()})
# what Pillow raises on damaged files: benchmarks/fuzz_upscale.py
DAMAGED = (OSError, ValueError, TypeError, SyntaxError, LookupError, EOFError, struct.error)
DAMAGED_EXIF = (*DAMAGED, AttributeError, ArithmeticError)
TWO_BYTES = re.compile("(LA|RGB|RGBX|RGBA);16([BLN])")  # layouts that Pillow reduces to 8 bits, as it calls them
EXIF_KEPT = (0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x8298)  # title, camera, software, date, author, rights
EXIF_FOLDERS = {0x8769: (0xA002, 0xA003), 0x8825: ()}  # exposure and GPS: what is left out, the size in pixels


class Frame(NamedTuple):
    """One picture: colour (h, w, 3) or grey (h, w), and alpha (h, w) or None; both uint8 or both uint16."""

    colour: np.ndarray
    alpha: np.ndarray | None
    info: dict  # what there is of icc_profile, exif, xmp, dpi, duration (ms), loop, as Pillow saves them

    def strips(self):
        """The frame as one of Strips."""
        bands = np.dstack(self[: 1 if self.alpha is None else 2])
        return Strips(bands.shape, bands.dtype, [bands], self.info)


class Strips(NamedTuple):
    """A picture that comes from top to bottom, once, and need never be in memory as a whole."""

    shape: tuple  # height, width, 1 to 4 for grey or colour, with alpha or without
    dtype: np.dtype  # uint8 or uint16
    rows: Iterable  # of arrays (some, width, 1 to 4)
    info: dict  # as of Frame

    def whole(self):
        picture, top = np.empty(self.shape, self.dtype), 0
        for rows in self.rows:
            picture[top : top + len(rows)] = rows
            top += len(rows)
        return picture

    def in_equal(self, count):
        """Yield `count` rows at a time; the last may be fewer."""
        rest = np.empty((0, *self.shape[1:]), self.dtype)
        for rows in self.rows:
            rest = np.concatenate([rest, rows])
            while len(rest) > count:
                yield rest[:count]
                rest = rest[count:]
        yield rest


@dataclass(frozen=True)
class Photo:
    """What the header of a picture says. Iterating gives its frames, each decoded when its turn comes."""

    path: Path
    suffix: str  # of the format inside, whatever the file is called
    size: tuple  # width, height, before it is turned upright
    frames: int
    alpha: bool
    sixteen_bits: bool
    lossless: bool  # of a WebP, which may be either
    first: int  # 1 where a still picture, which viewers do not show, stands before an animation
    limit: int

    def __iter__(self):
        with contextlib.ExitStack() as stack:
            with _reading(self.path, self.limit):
                image = stack.enter_context(Image.open(self.path, formats=NAMES))
            for index in range(self.first, self.first + self.frames):
                with _reading(self.path, self.limit):
                    frame = _frame(image, index, self.limit)
                yield frame


def open_photo(path, limit=200_000_000):
    """The Photo at `path`; decodes nothing. Raises UserError where it is none or has more than `limit` pixels.

    limit: of one picture or page, or of all frames of an animation, which are in memory together when it is written.
    """
    path = Path(path)
    with _reading(path, limit):
        if not path.is_file():
            raise UserError(f"{path}: {'a folder or a device' if path.exists() else 'no such file'}; name a picture")
        with Image.open(path, formats=NAMES) as image:
            suffix = next((suffix for suffix, kind in FORMATS.items() if kind.name == image.format), ".jpg")  # MPO
            first = int(bool(image.info.get("default_image")))
            frames = 1 if suffix == ".jpg" else getattr(image, "n_frames", 1) - first
            if (frames if FORMATS[suffix].animation else 1) * image.width * image.height > limit:
                raise Image.DecompressionBombError
            alpha, sixteen_bits = image.has_transparency_data, image.mode[0] in "IF" or _two_bytes(image) is not None
        pixels = re.search(rb"VP8[ L]", path.read_bytes()) if suffix == ".webp" else None  # Pillow does not tell
    lossless = pixels is not None and pixels.group() == b"VP8L"
    return Photo(path, suffix, image.size, frames, alpha, sixteen_bits, lossless, first, limit)


@contextlib.contextmanager
def _reading(path, limit):
    """Turn whatever Pillow raises on a damaged file, or on more than `limit` pixels, into one UserError.

    Nothing else is said: libtiff would tell its own standard error of every damaged strip.
    """
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limit // 2  # it refuses twice that
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: claims more than {limit / 1e6:g} megapixels, which is the limit") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: damaged, or no picture that can be read ({' '.join(FORMATS)})") from error
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise UserError(f"{path}: unreadable picture ({reason.splitlines()[0]})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _two_bytes(image):
    """The match of TWO_BYTES for a frame that Pillow would reduce to 8 bits, else None."""
    args = image.tile[0][3] if image.tile and not (image.format == "PNG" and image.is_animated) else None
    return TWO_BYTES.fullmatch(str(args[0] if isinstance(args, tuple) else args))


def _frame(image, index, limit):
    """Frame `index` of an opened file, turned upright as its EXIF says."""
    image.seek(index)
    if image.width * image.height > limit:
        raise Image.DecompressionBombError
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if tags.get(284) == 2 and tags.get(277, 1) > 1 and max(tags.get(258, (1,))) > 8:
        raise ValueError("16 bits a channel in separate planes; save it with interleaved channels")
    deep = _two_bytes(image)
    bands = _sixteen_bits(image, *deep.groups()) if deep else _as_pillow_reads(image)
    exif = _exif(image)
    turn = exif.get(0x112)
    bands = bands.swapaxes(0, 1) if turn in (5, 6, 7, 8) else bands
    bands = bands[:: -1 if turn in (3, 4, 7, 8) else 1, :: -1 if turn in (2, 3, 6, 7) else 1]
    colour = bands[..., 0] if bands.shape[2] < 3 else bands[..., :3]
    alpha = None if bands.shape[2] % 2 else np.ascontiguousarray(bands[..., -1])
    return Frame(np.ascontiguousarray(colour), alpha, _info(image, exif, colour.ndim == 2))


def _as_pillow_reads(image):
    """uint8, or uint16 for deep grey, (h, w, 1 to 4): grey or RGB, with alpha where there is transparency."""
    if image.mode[0] in "IF":
        grey = np.nan_to_num(np.asarray(image).astype(np.float64))
        most = grey.max() if image.mode in ("I", "F") else 65535  # 32-bit files do not say what is white
        white = 1 if image.mode == "F" and most <= 1 else 255 if most <= 255 else 65535
        return _with_key(rounded(grey * (65535 / white), np.uint16)[..., None], image.info.get("transparency"))
    if image.mode == "CMYK":
        image = _without_inks(image)
    grey = image.mode in ("1", "L", "LA", "La") and image.format != "GIF"
    bands = np.asarray(image.convert(("L" if grey else "RGB") + "A" * image.has_transparency_data))
    return bands if bands.ndim == 3 else bands[..., None]


def _without_inks(image):
    """CMYK to RGB, by its colour profile where it has one that works."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info.get("icc_profile", b"")))
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (*DAMAGED, ImageCms.PyCMSError):
        return image.convert("RGB")


def _sixteen_bits(image, layout, order):
    """uint16 (h, w, 2 to 4), which Pillow has no mode for: it decodes all high bytes, and then all low bytes."""
    if layout == "LA":  # as many bytes as 8-bit RGBA
        return _decoded(image, "RGBA").view(">u2").astype(np.uint16)
    order = sys.byteorder[0].upper() if order == "N" else order
    high = _decoded(image, f"{layout};16{order}")
    with Image.open(image.filename, formats=NAMES) as again:
        again.seek(image.tell())
        low = _decoded(again, f"{layout};16{'B' if order == 'L' else 'L'}")
    return _with_key(high.astype(np.uint16) << 8 | low, image.info.get("transparency"))


def _decoded(image, rawmode):
    """uint8 (h, w, c): the file's bytes unpacked as `rawmode`."""
    for index, tile in enumerate(image.tile):
        image.tile[index] = tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:]))
    return np.array(image)


def _with_key(bands, key):
    """The bands, with alpha that is 0 at PNG's transparent colour `key` if there is one."""
    return bands if key is None else np.dstack([bands, np.where((bands == key).all(-1), 0, 65535).astype(np.uint16)])


def _exif(image):
    """The EXIF of a frame; none where it is damaged."""
    try:
        return image.getexif()
    except DAMAGED_EXIF:
        return Image.Exif()


def _info(image, exif, grey):
    """What the file says beside its pixels and stays true when they become more."""
    info = {name: image.info[name] for name in ("duration", "loop") if name in image.info}
    profile, xmp, dpi = (image.info.get(name) for name in ("icc_profile", "xmp", "dpi"))
    if isinstance(profile, bytes) and profile[16:20] == (b"GRAY" if grey else b"RGB "):
        info["icc_profile"] = profile
    if isinstance(xmp, bytes):
        info["xmp"] = re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", xmp)
    with contextlib.suppress(*DAMAGED_EXIF):
        if dpi and all(1 <= value <= 65535 for value in dpi):
            info["dpi"] = tuple(map(float, dpi))
        kept = Image.Exif()
        kept.update({tag: exif[tag] for tag in EXIF_KEPT if tag in exif})
        for tag, left_out in EXIF_FOLDERS.items():
            if fields := {key: value for key, value in exif.get_ifd(tag).items() if key not in left_out}:
                kept[tag] = fields
        if kept:
            info["exif"] = kept.tobytes()
    return info


def upscaled(frame, network, scale):
    """The frame `scale` times as large, as Strips; alpha is resized bicubically and does not touch the colour.

    network: maps uint8, or for uint16 float32 in 0..1, (h, w, 3) to strips of the like, from top to bottom, that are
    (scale*h, scale*w, 3) together.
    """
    colour, alpha, info = frame
    kind, grey = colour.dtype, colour.ndim == 2
    if alpha is not None and alpha.any() and not alpha.all():  # where nothing is seen, the nearest colour that is
        colour = colour[tuple(distance_transform_edt(alpha == 0, return_distances=False, return_indices=True))]
    lr = np.repeat(colour[..., None], 3, -1) if grey else colour

    def rows():
        top = 0
        for sr in network(lr if kind == np.uint8 else lr.astype(np.float32) / 65535):
            sr = sr if kind == np.uint8 else sr * 65535
            bands = [rounded(sr.mean(-1) if grey else sr, kind)]
            if alpha is not None:
                first, last = max(0, int(top / scale) - 2), int((top + len(sr)) / scale) + 3  # two that bicubic sees
                shown = rounded(resize(alpha[first:last], scale), kind)
                bands.append(shown[round(top - scale * first) :][: len(sr)])
            top += len(sr)
            yield np.dstack(bands)

    height, width = (int(np.ceil(scale * length - 1e-9)) for length in colour.shape[:2])  # as of resize
    return Strips((height, width, (1 if grey else 3) + (alpha is not None)), kind, rows(), info)


def rounded(picture, kind):
    """The picture as an unsigned dtype: rounded, cut to its range."""
    return picture if picture.dtype == kind else picture.round().clip(0, np.iinfo(kind).max).astype(kind)
