"""The metadata that stays true when a photograph is enlarged: EXIF, colour profile, XMP, resolution, timing."""

import contextlib
import re
from typing import Any

from PIL import Image

from pictures import DAMAGED

# EXIF tags: title, camera's maker and model, software, date, author, rights
EXIF_KEPT = (0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x8298)
CAPTION = 0x10E
# Captions in which tifffile, ImageJ and OME store the size for their own readers, which would complain of another one
SIZE_INSIDE = re.compile(r'\s*\{"shape":|ImageJ=|.*<OME\b', re.DOTALL)
# {EXIF directory on exposure or GPS: tags left out of it}, which are the width and height in pixels
EXIF_FOLDERS = {0x8769: (0xA002, 0xA003), 0x8825: ()}


def read_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF of Pillow's `image`, empty if it is damaged."""
    try:
        return image.getexif()
    except DAMAGED:
        return Image.Exif()


def as_stored(value: Any) -> Any:
    """Return an EXIF value, text as the bytes it was read from, since Pillow would write ? for non-ASCII letters."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


def lasting_info(image: Image.Image, exif: Image.Exif, grey: bool) -> dict[str, Any]:
    """Return what Pillow's `image` has of duration, loop, icc_profile, xmp, dpi and exif, as Pillow saves them.

    A colour profile is kept only if it fits the result, which is grey or RGB as `grey` says. Orientation is dropped,
    because the pixels are turned upright, and so is a caption that contains the size. Damaged entries are left out.
    """
    info: dict[str, Any] = {name: image.info[name] for name in ("duration", "loop") if name in image.info}
    if image.format == "AVIF":  # repeats forever unless it says otherwise, which Pillow does not tell
        info["loop"] = 0
    profile, xmp, dpi = (image.info.get(name) for name in ("icc_profile", "xmp", "dpi"))
    if isinstance(profile, bytes) and profile[16:20] == (b"GRAY" if grey else b"RGB "):
        info["icc_profile"] = profile
    if isinstance(xmp, bytes):
        info["xmp"] = re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", xmp)
    with contextlib.suppress(*DAMAGED):
        if dpi and all(1 <= value <= 65535 for value in dpi):
            info["dpi"] = tuple(map(float, dpi))
        kept = Image.Exif()
        kept.update({tag: as_stored(exif[tag]) for tag in EXIF_KEPT if tag in exif})
        if SIZE_INSIDE.match(str(exif.get(CAPTION, ""))):
            del kept[CAPTION]
        for tag, left_out in EXIF_FOLDERS.items():
            if fields := {key: value for key, value in exif.get_ifd(tag).items() if key not in left_out}:
                kept[tag] = fields
        if kept:
            info["exif"] = kept.tobytes()
    return info
