"""The metadata of photographs that stays true when they are larger: EXIF, colour profile, XMP, resolution, timing."""

import contextlib
import re
from typing import Any

from PIL import Image

from pictures import DAMAGED

# EXIF: title, camera's maker and model, software, date, author, rights
EXIF_KEPT = (0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x8298)
CAPTION = 0x10E
# captions in which tifffile, ImageJ and OME keep the size for their own readers, which complain of another
SIZE_INSIDE = re.compile(r'\s*\{"shape":|ImageJ=|.*<OME\b', re.DOTALL)
# EXIF's folders on exposure and GPS, with what is left out of them: the width and height in pixels
EXIF_FOLDERS = {0x8769: (0xA002, 0xA003), 0x8825: ()}


def read_exif(image: Image.Image) -> Image.Exif:
    """The EXIF of Pillow's image; an empty one where it is damaged."""
    try:
        return image.getexif()
    except DAMAGED:
        return Image.Exif()


def as_stored(value: Any) -> Any:
    """A value of EXIF; text as the bytes that Pillow has read it from, as it would write ? for all but ASCII."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


def lasting_info(image: Image.Image, exif: Image.Exif, grey: bool) -> dict[str, Any]:
    """What there is of duration, loop, icc_profile, xmp, dpi and exif in Pillow's image, as Pillow saves them.

    A colour profile is kept if it is one for grey pictures or for RGB, whichever `grey` says. Orientation is dropped,
    because the pixels are turned upright, and a caption that holds the size. What is damaged is left out.
    """
    info: dict[str, Any] = {name: image.info[name] for name in ("duration", "loop") if name in image.info}
    if image.format == "AVIF":  # repeats for ever unless it says otherwise, which Pillow does not tell
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
