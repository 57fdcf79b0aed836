"""Read pictures with more than 8 bits per channel, which Pillow reduces to 8 unless they are grey."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pictures import rounded
from upscaling.photo.decoding import decoded

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# The 16-bit layouts that Pillow reduces, in its own notation, with the order of bytes: big, little or native
TWO_BYTES = re.compile("(LA|RGB|RGBX|RGBA);16([BLN])")
# The configuration box of an AVIF (AV1 in ISOBMFF, 2.3.3): version, level, and a byte with a bit for 10 or 12 bits
DEEP_AVIF = re.compile(rb"av1C\x81.[\x40-\x7f\xc0-\xff]", re.DOTALL)


def has_hidden_bits(image: "ImageFile") -> bool:
    """Return whether Pillow would reduce the current frame of `image` to 8 bits, and read_sixteen_bits can read all."""
    if image.format == "HEIF":
        return image.info["bit_depth"] > 8 and image.mode != "RGBa"
    return _two_bytes(image) is not None


def loses_bits(image: "ImageFile") -> bool:
    """Return whether `image` has more than 8 bits per channel but its result only 8; AVIF, HEIC or animated PNG."""
    if image.format == "AVIF":
        return DEEP_AVIF.search(Path(os.fsdecode(image.filename)).read_bytes()) is not None
    if image.format == "PNG":
        return _is_animated_png(image) and (image.mode[0] == "I" or _layout(image) is not None)
    return image.format == "HEIF" and image.info["bit_depth"] > 8 and not has_hidden_bits(image)


def read_sixteen_bits(image: "ImageFile") -> np.ndarray:
    """Decode the current frame of Pillow's `image` as uint16 (h, w, 1 to 4), with alpha if it has transparency.

    Raises ValueError unless has_hidden_bits(image).
    """
    if image.format == "HEIF":
        return _read_heif(os.fsdecode(image.filename), image.tell())
    match = _two_bytes(image)
    if match is None:
        raise ValueError(f"image must have 16 bits that Pillow reduces to 8. Received: mode={image.mode}")
    layout, order = match.groups()
    if layout == "LA":  # two bytes each for grey and alpha are decoded as the four bytes of an 8-bit RGBA
        return _decoded(image, "RGBA").view(">u2").astype(np.uint16)
    # Pillow takes the high byte of each value. When told the opposite order of bytes, it takes the low byte.
    order = sys.byteorder[0].upper() if order == "N" else order
    high = _decoded(image, f"{layout};16{order}")
    with Image.open(image.filename, formats=[str(image.format)]) as again:
        again.seek(image.tell())
        low = _decoded(again, f"{layout};16{'B' if order == 'L' else 'L'}")
    return with_key(high.astype(np.uint16) << 8 | low, image.info.get("transparency"))


def with_key(bands: np.ndarray, key: int | tuple[int, ...] | None) -> np.ndarray:
    """Add alpha to bands (h, w, c) that is 0 at PNG's transparent colour `key`; unchanged if that is None."""
    if key is None:
        return bands
    alpha = np.where((bands == key).all(-1), 0, 65535).astype(np.uint16)
    return np.dstack([bands, alpha])


def _two_bytes(image: "ImageFile") -> re.Match[str] | None:
    """Return the match of TWO_BYTES if Pillow would reduce the frame to 8 bits and all bits can be read, else None."""
    return None if _is_animated_png(image) else _layout(image)


def _is_animated_png(image: "ImageFile") -> bool:
    return image.format == "PNG" and getattr(image, "is_animated", False)


def _layout(image: "ImageFile") -> re.Match[str] | None:
    """Return the match of TWO_BYTES if Pillow would reduce the frame to 8 bits, else None."""
    if not image.tile:
        return None
    args = image.tile[0].args
    return TWO_BYTES.fullmatch(str(args[0] if isinstance(args, tuple) else args))


def _decoded(image: "ImageFile", rawmode: str) -> np.ndarray:
    """Decode the frame as uint8 (h, w, c), with the file's bytes taken as Pillow's `rawmode`."""
    for index, tile in enumerate(image.tile):
        args = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
        image.tile[index] = tile._replace(args=args)
    return np.array(decoded(image))


def _read_heif(path: str, index: int) -> np.ndarray:
    """Decode picture `index` of a HEIF of 10 or 12 bits as uint16 (h, w, c), its values stretched to 16 bits."""
    import pillow_heif  # it must be installed, since it has opened this file

    picture = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)[index]
    bands = np.asarray(picture)
    bands = bands if bands.ndim == 3 else bands[..., None]
    return rounded(bands * (65535 / (2 ** picture.info["bit_depth"] - 1)), np.uint16)
