"""Photographs of every kind: opened by their header, read frame by frame; photo_writer.py writes them."""

import contextlib
import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from pictures import DAMAGED, white_level
from upscaling.photo_metadata import lasting_info, read_exif
from upscaling.sixteen_bits import has_hidden_bits, loses_bits, read_sixteen_bits, with_key
from upscaling.strips import Progress, Strips, rounded
from utils import UserError, reason

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from upscaling.kept_strips import KeptStrips
    from upscaling.upscaler import Upscaler

HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None  # 26 MB that other pictures do without


class Format(NamedTuple):
    """What the files of one format hold."""

    name: str  # Pillow's
    alpha: bool
    sixteen_bits: bool
    animation: bool
    longest: int  # side in pixels


PHOTO_FORMATS = {
    ".png": Format("PNG", True, True, True, 2**31 - 1),
    ".jpg": Format("JPEG", False, False, False, 65500),
    ".jpeg": Format("JPEG", False, False, False, 65500),
    ".jfif": Format("JPEG", False, False, False, 65500),  # as Windows names it
    ".webp": Format("WEBP", True, False, True, 16383),
    ".tiff": Format("TIFF", True, True, False, 2**31 - 1),
    ".tif": Format("TIFF", True, True, False, 2**31 - 1),
    ".gif": Format("GIF", True, False, True, 65535),
    ".bmp": Format("BMP", False, False, False, 2**31 - 1),
}
# AVIF and HEIC are read alone; a PNG holds all that is in them.
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
PHOTO_SUFFIXES = [*PHOTO_FORMATS, ".avif", *HEIF_SUFFIXES]
NAMES = [*sorted({kind.name for kind in PHOTO_FORMATS.values()}), "AVIF"]
if HEIC_IS_READ:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    NAMES.append("HEIF")
# Pillow calls a JPEG that holds further pictures MPO; its first picture is a plain JPEG.
SUFFIX_OF = {"AVIF": ".png", "HEIF": ".png", "MPO": ".jpg"}
SUFFIX_OF |= {kind.name: suffix for suffix, kind in reversed(PHOTO_FORMATS.items())}
# Where nobody has set up logging, Pillow's errors would be printed; its exceptions say the same.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# TIFF's tags, by their numbers in the standard; EXIF has the same ones
BITS_PER_SAMPLE, ORIENTATION, SAMPLES_PER_PIXEL, PLANAR_CONFIGURATION = 258, 274, 277, 284
KIND_OF_PAGE, FURTHER_PAGES = 254, 330  # NewSubfileType, 1 for a smaller copy; SubIFDs
ON_ITS_SIDE = (5, 6, 7, 8)  # orientations whose width becomes the height


class Frame(NamedTuple):
    """One picture of a file, upright."""

    picture: np.ndarray  # uint8 or uint16 (h, w, channels): 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    info: dict[str, Any]  # what there is of icc_profile, exif, xmp, dpi, duration (ms), loop, as Pillow saves them

    def strips(self) -> Strips:
        """The frame as it is, as Strips."""
        return Strips(self.picture.shape, self.picture.dtype, [self.picture], self.info)

    def upscaled(
        self, upscaler: "Upscaler", progress: Progress | None = None, kept: "KeptStrips | None" = None
    ) -> Strips:
        """The frame through an Upscaler, as Strips. progress, kept: as of an Upscaler."""
        height, width, channels = self.picture.shape
        height, width = (int(np.ceil(upscaler.scale * length - 1e-9)) for length in (height, width))  # as resize does
        rows = upscaler.strips(self.picture, progress, kept)
        return Strips((height, width, channels), self.picture.dtype, rows, self.info)


@dataclass(frozen=True)
class Photo:
    """What the header of a picture says. Iterating gives its frames, each decoded when its turn comes."""

    path: Path
    suffix: str  # of the format inside, whatever the file is called; ".png" for one that is read alone
    size: tuple[int, int]  # width, height, upright
    frames: int
    alpha: bool
    sixteen_bits: bool
    lossless: bool  # of a WebP, which may be either
    first: int  # index of the first frame; 1 where a still picture, which viewers do not show, precedes an animation
    limit: int
    mode: str = "RGB"  # Pillow's, of the first frame
    loses_bits: bool = False  # more than 8 bits a channel are in the file, and 8 in the result

    def __iter__(self) -> Iterator[Frame]:
        with contextlib.ExitStack() as stack:
            with _one_line(self.path, self.limit):
                image = stack.enter_context(Image.open(self.path, formats=NAMES))
            for index in range(self.first, self.first + self.frames):
                with _one_line(self.path, self.limit):
                    frame = _frame(image, index, self.limit)
                yield frame


def open_photo(path: str | Path, limit: int = 200_000_000) -> Photo:
    """The Photo at `path`, by its header; no pixel is decoded.

    limit: pixels of one picture or page, or of all frames of an animation, which are in memory together when it is
    written. Raises UserError where the file is no picture, cannot be read or claims more than `limit`.
    """
    path = Path(path)
    with _one_line(path, limit):
        if not path.is_file():
            raise UserError(f"{path}: {'a folder or a device' if path.exists() else 'no such file'}; name a picture")
        if path.suffix.lower() in HEIF_SUFFIXES and not HEIC_IS_READ:
            raise UserError(f"{path}: HEIC needs pillow-heif; pip install 'pillow-heif>=1.8,<1.9'")
        with Image.open(path, formats=NAMES) as image:
            tags = getattr(image, "tag_v2", {})
            if tags.get(KIND_OF_PAGE) == 1 and FURTHER_PAGES in tags:
                raise UserError(f"{path}: a camera's raw file, of which the preview alone is read; save it as TIFF")
            suffix, first = SUFFIX_OF[str(image.format)], int(bool(image.info.get("default_image")))
            frames = 1 if suffix == ".jpg" else getattr(image, "n_frames", 1) - first
            if image.format == "HEIF":  # of several pictures one is the photograph
                first, frames = image.tell(), 1
            frames_in_memory = frames if PHOTO_FORMATS[suffix].animation else 1
            if frames_in_memory * image.width * image.height > limit:
                raise Image.DecompressionBombError
            alpha = image.has_transparency_data
            lost = loses_bits(image)
            sixteen_bits = not lost and (image.mode[0] in "IF" or has_hidden_bits(image))
            # Where a PNG has no EXIF in front of its pixels, Pillow would decode them to look behind them.
            has_exif = image.format != "PNG" or "exif" in image.info
            on_its_side = has_exif and read_exif(image).get(ORIENTATION) in ON_ITS_SIDE
            size = image.size[::-1] if on_its_side else image.size
        lossless = suffix == ".webp" and _is_lossless_webp(path)
    return Photo(path, suffix, size, frames, alpha, sixteen_bits, lossless, first, limit, image.mode, lost)


def _is_lossless_webp(path: Path) -> bool:
    """Is the first picture in a WebP stored without loss? Pillow does not tell."""
    chunk = re.search(rb"VP8[ L]", path.read_bytes())
    return chunk is not None and chunk.group() == b"VP8L"


@contextlib.contextmanager
def _one_line(path: Path, limit: int) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged file, or on more than `limit` pixels, into one UserError."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limit // 2  # Pillow refuses twice that
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: claims more than {limit / 1e6:g} megapixels, which is the limit") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: damaged, or no picture that can be read ({' '.join(PHOTO_SUFFIXES)})") from error
    except (*DAMAGED, RuntimeError) as error:  # the latter from libheif and libavif
        raise UserError(f"{path}: unreadable picture ({reason(error)})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def _silent_libtiff(image: "ImageFile") -> Iterator[None]:
    """Keep the process's standard error quiet while a TIFF is decoded: libtiff reports each damaged strip there.

    It is done for each page and not once a file, because between two pages the network works and progress is shown.
    That costs 5 microseconds a page; to decode one of 200x200 pixels takes 150 or more.
    """
    if image.format != "TIFF":
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _frame(image: "ImageFile", index: int, limit: int) -> Frame:
    """Frame `index` of an opened file, turned upright as its EXIF says."""
    with _silent_libtiff(image):
        image.seek(index)
        if image.width * image.height > limit:
            raise Image.DecompressionBombError
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
        in_planes = tags.get(PLANAR_CONFIGURATION) == 2 and tags.get(SAMPLES_PER_PIXEL, 1) > 1
        if in_planes and max(tags.get(BITS_PER_SAMPLE, (1,))) > 8:
            raise ValueError("16 bits a channel in separate planes; save it with interleaved channels")
        bands = read_sixteen_bits(image) if has_hidden_bits(image) else _as_pillow_reads(image)
        exif = read_exif(image)
        bands = _upright(bands, exif.get(ORIENTATION))
        return Frame(np.ascontiguousarray(bands), lasting_info(image, exif, grey=bands.shape[2] < 3))


def _upright(bands: np.ndarray, orientation: int | None) -> np.ndarray:
    """(h, w, c) turned as EXIF's orientation, 1 to 8, asks for."""
    if orientation in ON_ITS_SIDE:  # rows of the file are columns of the picture
        bands = bands.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        bands = bands[::-1]
    if orientation in (2, 3, 6, 7):
        bands = bands[:, ::-1]
    return bands


def _as_pillow_reads(image: Image.Image) -> np.ndarray:
    """uint8, or uint16 for grey of more than 8 bits, (h, w, 1 to 4): with alpha where there is transparency."""
    if image.mode[0] in "IF":
        grey = np.nan_to_num(np.asarray(image).astype(np.float64))
        grey = rounded(grey * (65535 / white_level(image.mode, grey)), np.uint16)
        return with_key(grey[..., None], image.info.get("transparency"))
    if image.mode == "CMYK":
        image = _without_inks(image)
    is_grey = image.mode in ("1", "L", "LA", "La") and image.format != "GIF"
    mode = "L" if is_grey else "RGB"
    if image.has_transparency_data:
        mode += "A"
    bands = np.asarray(image.convert(mode))
    return bands if bands.ndim == 3 else bands[..., None]


def _without_inks(image: Image.Image) -> Image.Image:
    """CMYK to RGB, by its colour profile where it has one that works."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info.get("icc_profile", b"")))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (*DAMAGED, ImageCms.PyCMSError):
        converted = None
    return converted or image.convert("RGB")
