"""Read photographs of every kind, first the header, then frame by frame; writer.py writes them."""

import contextlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.ImageFile import ImageFile

from pictures import DAMAGED
from upscaling.photo.decoding import DAMAGE, has_hidden_bits, loses_bits, read_bands, silent_libtiff
from upscaling.photo.metadata import lasting_info, read_exif
from utils import UserError, reason

HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None  # optional, 26 MB


class Format(NamedTuple):
    """What a file format can hold."""

    name: str  # Pillow's
    alpha: bool
    sixteen_bits: bool
    animation: bool
    longest: int  # limit of a side in pixels


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
# AVIF and HEIC are read but not written; their results are PNG, which holds all that is in them.
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
PHOTO_SUFFIXES = [*PHOTO_FORMATS, ".avif", *HEIF_SUFFIXES]
PILLOW_FORMATS = [*sorted({kind.name for kind in PHOTO_FORMATS.values()}), "AVIF"]
if HEIC_IS_READ:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    PILLOW_FORMATS.append("HEIF")
# MPO is Pillow's name for a JPEG that contains further pictures; its first picture is a plain JPEG.
SUFFIX_OF = {"AVIF": ".png", "HEIF": ".png", "MPO": ".jpg"}
SUFFIX_OF |= {kind.name: suffix for suffix, kind in reversed(PHOTO_FORMATS.items())}
# Without a handler, Python would print the errors that Pillow logs; its exceptions say the same.
logging.getLogger("PIL").addHandler(logging.NullHandler())

ON_ITS_SIDE = (5, 6, 7, 8)  # orientations whose width becomes the height
STRIP_BYTES = 2**20  # size of a strip in files that are written strip by strip


class Frame(NamedTuple):
    """One picture of a file, upright."""

    picture: np.ndarray  # uint8 or uint16 (h, w, channels): 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    info: dict[str, Any]  # metadata, see metadata.lasting_info


class Strips(NamedTuple):
    """A picture whose rows come once, from top to bottom, so that it need not be in memory as a whole."""

    shape: tuple[int, int, int]  # height, width, channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    dtype: np.dtype  # uint8 or uint16
    rows: Iterable[np.ndarray]  # (rows, width, channels) each
    info: dict[str, Any]  # metadata, as in Frame

    def whole(self) -> np.ndarray:
        """Return the picture as one array (height, width, channels)."""
        picture, top = np.empty(self.shape, self.dtype), 0
        for rows in self.rows:
            picture[top : top + len(rows)] = rows
            top += len(rows)
        return picture

    @property
    def height(self) -> int:
        """The number of rows of a strip in a file that is written strip by strip."""
        return max(1, STRIP_BYTES // (self.shape[1] * self.shape[2] * self.dtype.itemsize))

    def strips(self) -> Iterator[np.ndarray]:
        """Yield the picture in strips of `height` rows; the last may have fewer."""
        rest = np.empty((0, *self.shape[1:]), self.dtype)
        for rows in self.rows:
            rest = np.concatenate([rest, rows])
            while len(rest) > self.height:
                yield rest[: self.height]
                rest = rest[self.height :]
        yield rest


@dataclass(frozen=True)
class Photo:
    """What the header of a picture says. Iterating over it decodes and yields one frame after another."""

    path: Path
    suffix: str  # of the format inside, whatever the file is called; ".png" for formats that are not written
    size: tuple[int, int]  # width, height, upright
    frames: int
    alpha: bool
    sixteen_bits: bool
    lossless: bool  # whether it is a lossless WebP
    first: int  # index of the first frame; 1 if an animation is preceded by a still picture that viewers do not show
    limit: int  # as for open_photo
    mode: str = "RGB"  # Pillow's, of the first frame
    jpeg_tables: dict[int, list[int]] | None = None  # of a JPEG: the steps to which it is rounded, Pillow's
    loses_bits: bool = False  # whether more than 8 bits per channel in the file become 8 in the result
    damage: list[str] = field(default_factory=list, compare=False)  # lines on what could not be decoded

    @property
    def paged(self) -> bool:
        """Whether its frames are the pages of a TIFF, and no animation."""
        return self.frames > 1 and not PHOTO_FORMATS[self.suffix].animation

    def pixels(self) -> int:
        """Return the number of pixels of all frames together. Raises UserError if a page cannot be read."""
        if not self.paged:
            return self.frames * self.size[0] * self.size[1]
        total = 0
        with _as_user_error(self.path, self.limit), Image.open(self.path, formats=PILLOW_FORMATS) as image:
            for index in range(self.frames):
                image.seek(index)
                total += image.width * image.height
        return total

    def __iter__(self) -> Iterator[Frame]:
        self.damage.clear()
        with contextlib.ExitStack() as stack:
            with _as_user_error(self.path, self.limit):
                image = stack.enter_context(Image.open(self.path, formats=PILLOW_FORMATS))
            for index in range(self.first, self.first + self.frames):
                with _as_user_error(self.path, self.limit):
                    frame = _frame(image, index, self.limit)
                if DAMAGE in image.info:
                    self.damage.append(f"{self.path}: damaged; {image.info[DAMAGE]}, the rest is upscaled")
                yield frame


def open_photo(path: str | Path, limit: int = 200_000_000) -> Photo:
    """Read the header of the picture at `path`, without decoding pixels.

    limit: number of pixels allowed in a picture or page, or in all frames of an animation together, since these are in
    memory together when it is written. Raises UserError if the file is no picture, is unreadable or exceeds `limit`.
    """
    path = Path(path)
    with _as_user_error(path, limit):
        if not path.is_file():
            raise UserError(f"{path}: {'a folder or a device' if path.exists() else 'no such file'}; name a picture")
        if path.suffix.lower() in HEIF_SUFFIXES and not HEIC_IS_READ:
            raise UserError(f"{path}: HEIC needs pillow-heif; pip install 'pillow-heif>=1.8,<1.9'")
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            tags = getattr(image, "tag_v2", {})
            if tags.get(Tag.NewSubfileType) == 1 and Tag.SubIFDs in tags:  # 1: a smaller copy of another page
                raise UserError(f"{path}: a camera's raw file; only its preview could be read; save it as TIFF")
            return _photo(path, image, limit)


def _photo(path: Path, image: ImageFile, limit: int) -> Photo:
    """Return the Photo of an opened file. Raises DecompressionBombError if it exceeds `limit`."""
    suffix, first = SUFFIX_OF[str(image.format)], int(bool(image.info.get("default_image")))
    frames = 1 if suffix == ".jpg" else getattr(image, "n_frames", 1) - first
    if image.format == "HEIF":  # of its pictures only the primary one is the photograph
        first, frames = image.tell(), 1
    frames_in_memory = frames if PHOTO_FORMATS[suffix].animation else 1
    if frames_in_memory * image.width * image.height > limit:
        raise Image.DecompressionBombError
    lost = loses_bits(image)
    # If a PNG has no EXIF before its pixels, Pillow would decode them all to look after them.
    has_exif = image.format != "PNG" or "exif" in image.info
    on_its_side = has_exif and read_exif(image).get(Tag.Orientation) in ON_ITS_SIDE
    lossless = suffix == ".webp" and _is_lossless_webp(path)
    return Photo(
        path,
        suffix,
        image.size[::-1] if on_its_side else image.size,
        frames,
        alpha=image.has_transparency_data,
        sixteen_bits=not lost and (image.mode[0] in "IF" or has_hidden_bits(image)),
        lossless=lossless,
        jpeg_tables=getattr(image, "quantization", None),
        first=first,
        limit=limit,
        mode=image.mode,
        loses_bits=lost,
    )


def _is_lossless_webp(path: Path) -> bool:
    """Return whether the first picture in a WebP is stored without loss, which Pillow does not tell."""
    chunk = re.search(rb"VP8[ L]", path.read_bytes())
    return chunk is not None and chunk.group() == b"VP8L"


@contextlib.contextmanager
def _as_user_error(path: Path, limit: int) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged file, or on more than `limit` pixels, into a UserError."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limit // 2  # Pillow refuses more than twice that
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


def _frame(image: ImageFile, index: int, limit: int) -> Frame:
    """Decode frame `index` of an opened file, turned upright as its EXIF says."""
    with silent_libtiff(image):
        image.seek(index)
        if image.width * image.height > limit:
            raise Image.DecompressionBombError
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
        in_planes = tags.get(Tag.PlanarConfiguration) == 2 and tags.get(Tag.SamplesPerPixel, 1) > 1
        if in_planes and max(tags.get(Tag.BitsPerSample, (1,))) > 8:
            raise ValueError("16 bits per channel in separate planes; save it with interleaved channels")
        bands, exif = read_bands(image), read_exif(image)
        bands = _upright(bands, exif.get(Tag.Orientation))
        return Frame(np.ascontiguousarray(bands), lasting_info(image, exif, grey=bands.shape[2] < 3))


def _upright(bands: np.ndarray, orientation: int | None) -> np.ndarray:
    """Turn bands (h, w, c) upright. orientation: EXIF's, 1 to 8."""
    if orientation in ON_ITS_SIDE:  # rows of the file are columns of the picture
        bands = bands.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        bands = bands[::-1]
    if orientation in (2, 3, 6, 7):
        bands = bands[:, ::-1]
    return bands
