"""Decode a picture: with all its bits, of a damaged one what there is, and without a word from libtiff."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile

from pictures import DAMAGED, rounded, white_level

END_OF_JPEG = b"\xff\xd9"
DAMAGE = "damage\0"  # the entry of a Pillow image's info that says what is missing; no text in a PNG has such a name
# The 16-bit layouts that Pillow reduces, in its own notation, with the order of bytes: big, little or native
TWO_BYTES = re.compile("(LA|RGB|RGBX|RGBA);16([BLN])")
# The configuration box of an AVIF (AV1 in ISOBMFF, 2.3.3): version, level, and a byte with a bit for 10 or 12 bits
DEEP_AVIF = re.compile(rb"av1C\x81.[\x40-\x7f\xc0-\xff]", re.DOTALL)


def has_hidden_bits(image: ImageFile) -> bool:
    """Return whether Pillow would reduce the current frame of `image` to 8 bits, and read_bands reads all of them."""
    if image.format == "HEIF":
        return image.info["bit_depth"] > 8 and image.mode != "RGBa"
    return _layout(image) is not None and not _is_animated_png(image)


def loses_bits(image: ImageFile) -> bool:
    """Return whether `image` has more than 8 bits per channel but its result only 8; AVIF, HEIC or animated PNG."""
    if image.format == "AVIF":
        return DEEP_AVIF.search(Path(os.fsdecode(image.filename)).read_bytes()) is not None
    if image.format == "HEIF":
        return image.info["bit_depth"] > 8 and not has_hidden_bits(image)
    return _is_animated_png(image) and (image.mode[0] == "I" or _layout(image) is not None)


def _is_animated_png(image: ImageFile) -> bool:
    return image.format == "PNG" and getattr(image, "is_animated", False)


def _layout(image: ImageFile) -> re.Match[str] | None:
    """Return the match of TWO_BYTES if Pillow would reduce the frame to 8 bits, else None."""
    args = image.tile[0].args if image.tile else ""
    return TWO_BYTES.fullmatch(str(args[0] if isinstance(args, tuple) else args))


def read_bands(image: ImageFile) -> np.ndarray:
    """Decode the current frame of Pillow's `image` as (h, w, 1 to 4), with alpha if it has transparency.

    The dtype is uint16 if the file has more than 8 bits per channel and all of them can be read, else uint8.
    """
    if not has_hidden_bits(image):
        return _as_pillow_reads(decoded(image))
    if image.format == "HEIF":
        return _read_heif(os.fsdecode(image.filename), image.tell())
    bands, order = _layout(image).groups()  # type: ignore[union-attr]  # it has hidden bits
    if bands == "LA":  # two bytes each for grey and alpha are decoded as the four bytes of an 8-bit RGBA
        return _decoded_as(image, "RGBA").view(">u2").astype(np.uint16)
    # Pillow takes the high byte of each value. When told the opposite order of bytes, it takes the low byte.
    order = sys.byteorder[0].upper() if order == "N" else order
    high = _decoded_as(image, f"{bands};16{order}")
    with Image.open(image.filename, formats=[str(image.format)]) as again:
        again.seek(image.tell())
        low = _decoded_as(again, f"{bands};16{'B' if order == 'L' else 'L'}")
    return _with_key(high.astype(np.uint16) << 8 | low, image.info.get("transparency"))


def _decoded_as(image: ImageFile, rawmode: str) -> np.ndarray:
    """Decode the frame as uint8 (h, w, c), with the file's bytes taken as Pillow's `rawmode`."""
    for index, tile in enumerate(image.tile):
        args = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
        image.tile[index] = tile._replace(args=args)
    return np.array(decoded(image))


def _read_heif(path: str, index: int) -> np.ndarray:
    """Decode picture `index` of a HEIF of 10 or 12 bits as uint16 (h, w, c), its values stretched to 16 bits."""
    import pillow_heif  # it must be installed, since it has opened this file

    picture = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)[index]
    return np.atleast_3d(rounded(np.asarray(picture) * (65535 / (2 ** picture.info["bit_depth"] - 1)), np.uint16))


def _as_pillow_reads(image: Image.Image) -> np.ndarray:
    """Return a decoded image as uint8, or as uint16 for grey of more than 8 bits, (h, w, 1 to 4)."""
    if image.mode[0] in "IF":
        grey = np.nan_to_num(np.asarray(image).astype(np.float64))
        grey = rounded(grey * (65535 / white_level(image.mode, grey)), np.uint16)
        return _with_key(np.atleast_3d(grey), image.info.get("transparency"))
    if image.mode == "CMYK":
        image = _cmyk_to_rgb(image)
    is_grey = image.mode in ("1", "L", "LA", "La") and image.format != "GIF"
    mode = "L" if is_grey else "RGB"
    return np.atleast_3d(np.asarray(image.convert(mode + "A" * image.has_transparency_data)))


def _with_key(bands: np.ndarray, key: int | tuple[int, ...] | None) -> np.ndarray:
    """Add alpha to bands (h, w, c) that is 0 at PNG's transparent colour `key`; unchanged if that is None."""
    if key is None:
        return bands
    alpha = np.where((bands == key).all(-1), 0, 65535).astype(np.uint16)
    return np.dstack([bands, alpha])


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """Convert CMYK to RGB, by its colour profile if it has a valid one."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info.get("icc_profile", b"")))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (*DAMAGED, ImageCms.PyCMSError):
        converted = None
    return converted or image.convert("RGB")


def decoded(image: ImageFile) -> Image.Image:
    """Return the current frame of `image` decoded; of a damaged picture what can be decoded, if it is a single one.

    What is missing is black, transparent, or in a JPEG grey, and image.info[DAMAGE] says how much that is. Raises one
    of DAMAGED if nothing can be decoded, or only every other row, as of an interlaced PNG.
    """
    try:
        image.load()
        return image
    except DAMAGED:
        is_jpeg = image.format in ("JPEG", "MPO")  # the further pictures of an MPO are not read
        is_single = is_jpeg or image.format in ("PNG", "BMP", "TIFF") and getattr(image, "n_frames", 1) == 1
        if not is_single or image.info.get("interlace"):
            raise
        image.tile = []  # Pillow now takes for the picture what its decoder has painted so far, on 0
        if image.format == "TIFF":
            image.load_end()  # turns it upright
        pixels = np.atleast_3d(np.asarray(image))
        whole = _completed(image) if is_jpeg else image
        if not pixels.any() and not (image.info.get("progressive") and _is_picture(whole)):
            raise
    share = 0.0
    # A progressive JPEG is only painted at its end, so that its coarse rows cannot be told from missing ones.
    if pixels.any():
        rows, columns = pixels.any(axis=(1, 2)), pixels.any(axis=(0, 2))
        share = 1 - float(rows.mean()) or 1 - float(columns.mean())  # columns of a TIFF that was turned upright
    missing = f"about {max(0.01, share):.0%} of it is missing"
    image.info[DAMAGE] = missing if share else "parts of it may be missing or wrong"
    return whole


def _completed(image: ImageFile) -> Image.Image:
    """Decode a JPEG that ends too early as viewers do: what is missing is grey, or coarse if it is progressive."""
    data = Path(os.fsdecode(image.filename)).read_bytes()
    whole = Image.open(BytesIO(data + END_OF_JPEG), formats=["JPEG"])
    whole.load()
    return whole


def _is_picture(image: Image.Image) -> bool:
    """Return whether the pixels of `image` differ."""
    pixels = np.asarray(image)
    return bool((pixels != pixels[0, 0]).any())


@contextlib.contextmanager
def silent_libtiff(image: ImageFile) -> Iterator[None]:
    """Silence the process's stderr while a TIFF is decoded, because libtiff prints a line there for each damaged strip.

    This is done for each page, not once per file, because the progress bar is drawn between two pages.
    """
    with contextlib.ExitStack() as stack:
        if image.format == "TIFF":
            stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            for file in (stderr, nowhere):
                stack.callback(os.close, file)
            stack.callback(os.dup2, stderr, 2)
            os.dup2(nowhere, 2)
        yield
