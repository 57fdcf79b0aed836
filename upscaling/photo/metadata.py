"""The metadata that stays true when a photograph is enlarged, such as EXIF, and what of it each format holds."""

import contextlib
import re
import struct
from typing import Any

from PIL import Image, TiffImagePlugin
from PIL.ExifTags import IFD
from PIL.ExifTags import Base as Tag

from pictures import DAMAGED
from upscaling.photo.decoding import DAMAGE

LASTING_TAGS = (
    Tag.ImageDescription,
    Tag.Make,
    Tag.Model,
    Tag.Software,
    Tag.DateTime,
    Tag.Artist,
    Tag.Copyright,
)
# {EXIF directory on exposure or GPS: tags left out of it}
EXIF_FOLDERS: dict[int, tuple[int, ...]] = {IFD.Exif: (Tag.ExifImageWidth, Tag.ExifImageHeight), IFD.GPSInfo: ()}
# Captions in which tifffile, ImageJ and OME store the size for their own readers, which would complain of another one
SIZE_INSIDE = re.compile(r'\s*\{"shape":|ImageJ=|.*<OME\b', re.DOTALL)

# {what lasting_info returns: its name for users}, as far as it is said if it is lost; and which of it formats hold
TOLD = {
    "exif": "EXIF",
    "icc_profile": "a colour profile",
    "xmp": "XMP",
    "iptc": "IPTC",
    "comment": "a comment",
    "text": "texts",
}
HOLDS = {
    "PNG": {"exif", "icc_profile", "xmp", "comment", "text"},
    "JPEG": {"exif", "icc_profile", "xmp", "iptc", "comment"},
    "TIFF": {"exif", "icc_profile", "xmp", "iptc"},
    "WEBP": {"exif", "icc_profile", "xmp"},
    "GIF": {"comment"},
    "BMP": set(),
}
IPTC_RESOURCE = 0x404  # among Photoshop's resources in a JPEG
# Bytes that a segment of a JPEG holds, after its name; a colour profile may have several
SEGMENTS = {"exif": 65533, "xmp": 65533 - 29, "iptc": 65533 - 27, "comment": 65533}


def read_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF of Pillow's `image`, empty if it is damaged."""
    try:
        return image.getexif()
    except DAMAGED:
        return Image.Exif()


class Text(str):
    """Text of an EXIF entry, which is written as the bytes it was read from; Pillow would write ? for most letters."""

    def encode(self, encoding: str = "latin-1", errors: str = "replace") -> bytes:
        """Return those bytes, whatever the encoding asked for: Pillow reads text as Latin-1, and asks for ASCII."""
        return super().encode("latin-1", "replace")


def read_entries(exif: Image.Exif) -> dict[tuple[int, int], Any]:
    """Return {(folder, tag): value} of EXIF; the folder is 0 or one of EXIF_FOLDERS."""
    entries: dict[tuple[int, int], Any] = {}
    directories = set(IFD)  # their tags hold places in the file
    for folder in (0, *EXIF_FOLDERS):
        with contextlib.suppress(*DAMAGED):
            fields = exif.get_ifd(folder) if folder else exif
            entries |= {(folder, tag): fields[tag] for tag in fields if folder or tag not in directories}
    # A directory in that on exposure, which says whether colours are those of Adobe RGB; so far its place in the source
    if (IFD.Exif, IFD.Interop) in entries:
        interop = {tag: value for tag, value in exif.get_ifd(IFD.Interop).items() if tag in (1, 2)}  # others: the size
        entries[IFD.Exif, IFD.Interop] = interop
    return {entry: Text(value) if isinstance(value, str) else value for entry, value in entries.items()}


def packed(entries: dict[tuple[int, int], Any]) -> bytes:
    """Return EXIF as it stands in files, empty without entries. entries: see read_entries."""
    exif = Image.Exif()
    for folder in (0, *EXIF_FOLDERS):
        fields = {tag: value for (place, tag), value in entries.items() if place == folder}
        if folder and fields:
            exif[folder] = fields
        else:
            exif.update(fields)
    return exif.tobytes() if entries else b""


def _is_writable(entry: tuple[int, int], value: Any) -> bool:
    """Return whether Pillow can write an EXIF entry, which may be damaged."""
    try:
        return bool(packed({entry: value}))
    except DAMAGED:
        return False


def lasting_info(image: Image.Image, exif: Image.Exif, grey: bool) -> dict[str, Any]:
    """Return what Pillow's `image` has of duration, loop, icc_profile, xmp, dpi, exif, comment, as Pillow saves them.

    Further "iptc", as bytes, and "text", of a PNG: {name: text}.

    A colour profile is kept only if it fits the result, which is grey or RGB as `grey` says. Orientation is dropped,
    because the pixels are turned upright, and so is a caption that contains the size. Damaged entries are left out.
    """
    info: dict[str, Any] = {name: image.info[name] for name in ("duration", "loop") if name in image.info}
    if image.format == "AVIF":  # repeats forever unless it says otherwise, which Pillow does not tell
        info["loop"] = 0
    profile, xmp, dpi, comment = (image.info.get(name) for name in ("icc_profile", "xmp", "dpi", "comment"))
    if isinstance(comment, bytes) and comment:
        info["comment"] = comment
    in_tiff = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    iptc = image.info.get("photoshop", {}).get(IPTC_RESOURCE) or in_tiff.get(Tag.IPTCNAA)
    if isinstance(iptc, bytes) and iptc:
        info["iptc"] = iptc
    if image.format == "PNG":
        texts = {name: text for name, text in image.info.items() if isinstance(text, str) and name != DAMAGE}
        # Profiles in text are EXIF and IPTC, with the orientation and the size.
        texts = {name: text for name, text in texts.items() if not str(name).startswith(("Raw profile", "XML:"))}
        info |= {"text": texts} if texts else {}
    if isinstance(profile, bytes) and profile[16:20] == (b"GRAY" if grey else b"RGB "):
        info["icc_profile"] = profile
    if isinstance(xmp, bytes):
        info["xmp"] = re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", xmp)
    with contextlib.suppress(*DAMAGED):
        if dpi and all(1 <= value <= 65535 for value in dpi):
            info["dpi"] = tuple(map(float, dpi))
    entries = {}
    for (folder, tag), value in read_entries(exif).items():
        has_size = tag == Tag.ImageDescription and SIZE_INSIDE.match(str(value))
        lasts = tag not in EXIF_FOLDERS[folder] if folder else tag in LASTING_TAGS and not has_size
        if lasts and _is_writable((folder, tag), value):
            entries[folder, tag] = value
    if entries:
        info["exif"] = packed(entries)
    return info


def held(info: dict[str, Any], kind: str) -> tuple[dict[str, Any], list[str]]:
    """Return what a file of Pillow's format `kind` can hold of `info` from lasting_info, and the names of the rest."""
    dropped = {name for name in TOLD if name in info and name not in HOLDS[kind]}
    if kind == "WEBP" and info.get("icc_profile", b"")[16:20] == b"GRAY":  # WebP is always in colour
        dropped.add("icc_profile")
    if kind == "JPEG":
        dropped |= {name for name, most in SEGMENTS.items() if len(info.get(name, b"")) > most}
    rest = {name: value for name, value in info.items() if name not in dropped}
    return rest, [TOLD[name] for name in TOLD if name in dropped]


def iptc_segment(iptc: bytes) -> bytes:
    """Return the segment of a JPEG in which Photoshop keeps IPTC, as the only one of its resources."""
    resource = struct.pack(">4sHHI", b"8BIM", IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    return struct.pack(">HH14s", 0xFFED, 2 + 14 + len(resource), b"Photoshop 3.0") + resource
