"""Photographs: every kind of picture file comes back as it was, enlarged; what is damaged is refused in one line."""

import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageCms,
    ImageSequence,
    IptcImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
)
from test_bad_data import as_a_user, png_claiming
from thorough import often

from pictures import resize
from upscaling.network import Network
from upscaling.photo import writer as photo_writer
from upscaling.photo.reader import Frame, Strips, open_photo
from upscaling.photo.writer import write_photo
from upscaling.upscale_file import upscale_frame
from upscaling.upscaler import Upscaler
from utils import UserError

cv2 = pytest.importorskip("cv2")

ROOT = Path(__file__).parents[1]
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)
ALPHA = RANDOM.integers(0, 256, (20, 30), np.uint8)
DEEP = RANDOM.integers(0, 65536, (20, 30, 4), np.uint16)
FEW_COLOURS = RGB // 128 * 255
CLEAR = Image.fromarray(np.dstack([RGB, ALPHA]))


def nearest(scale):
    return lambda lr: lr.repeat(scale, axis=0).repeat(scale, axis=1)


def upscaler(scale, tile=33):
    """An Upscaler that repeats pixels; its tiles are smaller than the pictures."""
    return Upscaler(Network(lambda lr: lr.repeat(scale, axis=1).repeat(scale, axis=2), scale), tile=tile)


def unchanged(frame):
    return Strips(frame.picture.shape, frame.picture.dtype, [frame.picture], frame.info)


def through(path, out, scale=1, **options):
    """Read `path`, repeat its pixels `scale` times, write `out`; what was lost."""
    photo = open_photo(path, **options)
    enlarged = (unchanged(frame) if scale == 1 else upscale_frame(frame, upscaler(scale)) for frame in photo)
    return write_photo(out, photo, enlarged, scale)


def pixels(path, mode=None):
    with Image.open(path) as image:
        return np.asarray(image.convert(mode) if mode else image)


# Kinds

INDEXED = Image.fromarray(FEW_COLOURS).quantize(8)
KINDS = {  # name: (picture, mode that it comes back in)
    "bit.png": (CLEAR.convert("1"), "L"),
    "grey.png": (CLEAR.convert("L"), "L"),
    "grey-alpha.png": (CLEAR.convert("LA"), "LA"),
    "colour.png": (CLEAR.convert("RGB"), "RGB"),
    "alpha.png": (CLEAR, "RGBA"),
    "palette.png": (INDEXED, "RGB"),
    "deep-grey.png": (Image.fromarray(DEEP[..., 0]), "I;16"),
    "bit.tif": (CLEAR.convert("1"), "L"),
    "grey.tif": (CLEAR.convert("L"), "L"),
    "grey-alpha.tif": (CLEAR.convert("LA"), "LA"),
    "colour.tif": (CLEAR.convert("RGB"), "RGB"),
    "alpha.tif": (CLEAR, "RGBA"),
    "palette.tif": (INDEXED, "RGB"),
    "deep-grey.tif": (Image.fromarray(DEEP[..., 0]), "I;16"),
    "float.tif": (Image.fromarray(DEEP[..., 0].astype(np.float32)), "I;16"),
    "colour.webp": (CLEAR.convert("RGB"), "RGB"),
    "alpha.webp": (CLEAR, "RGBA"),
    "grey.bmp": (CLEAR.convert("L"), "L"),
    "colour.bmp": (CLEAR.convert("RGB"), "RGB"),
    "colour.gif": (INDEXED, "P"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_comes_back_as_that_kind_with_the_same_pixels(tmp_path, name):
    image, mode = KINDS[name]
    path, same, large = tmp_path / name, tmp_path / f"same-{name}", tmp_path / f"large-{name}"
    image.save(path, lossless=True, exact=True)
    kept = image.mode not in ("1", "P") or name.endswith(".gif")
    assert [len(through(path, target, scale)) for target, scale in ((same, 1), (large, 2))] == [not kept, not kept]
    compared = "RGB" if mode == "P" else None  # a GIF's own palette may differ
    expected = np.asarray(image.convert(compared or mode) if mode != "I;16" else image).astype(int)
    for found in (same, large):
        assert Image.open(found).mode == mode and Image.open(found).format == Image.open(path).format
    assert (pixels(same, compared) == expected).all()
    if mode in ("LA", "RGBA"):
        seen = nearest(2)(expected[..., -1]) > 0
        assert (pixels(large) == nearest(2)(expected))[seen][:, :-1].all()
        assert (pixels(large)[..., -1] == resize(expected[..., -1].astype(np.uint8), 2)).all()
    else:
        assert (pixels(large, compared) == nearest(2)(expected)).all()


@pytest.mark.parametrize("transparent", [3, bytes([255, 128, 0, 7])])
def test_a_transparent_palette_becomes_alpha(tmp_path, transparent):
    INDEXED.save(tmp_path / "p.png", transparency=transparent)
    through(tmp_path / "p.png", tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").mode == "RGBA"
    assert (pixels(tmp_path / "out.png") == pixels(tmp_path / "p.png", "RGBA")).all()


def test_jpeg_is_kept_and_written_well(tmp_path):
    smooth = resize(RGB, 4)
    for name, picture in (("colour.jpg", smooth), ("grey.jpeg", smooth[..., 0])):
        Image.fromarray(picture).save(tmp_path / name, quality=95, subsampling=0)
        through(tmp_path / name, tmp_path / f"out-{name}")
        with Image.open(tmp_path / f"out-{name}") as found:
            assert found.format == "JPEG" and found.mode == ("L" if picture.ndim == 2 else "RGB")
            assert picture.ndim == 2 or JpegImagePlugin.get_sampling(found) == 0
            assert np.abs(np.asarray(found).astype(int) - pixels(tmp_path / name)).max() <= 6


def cmyk_profile():
    """A colour profile whose cyan is red: white, red and black at the corners of CMYK."""
    white, red, black = bytes([255, 128, 128]), bytes([128, 188, 168]), bytes([0, 128, 128])  # L, a, b
    corners, curve = 4 * (white + black) + 4 * (red + black), bytes(range(256))
    matrix = [65536 * (n % 4 == 0) for n in range(9)]
    lut = struct.pack(">4sIBBBB9i", b"mft1", 0, 4, 3, 2, 0, *matrix) + 4 * curve + corners + 3 * curve
    daylight = (63190, 65536, 54061)  # D50
    names = struct.pack(">4sII2sIIHB67s", b"desc", 0, 2, b"x", 0, 0, 0, 0, b""), struct.pack(">4sI4s", b"text", 0, b"x")
    tags = {b"A2B0": lut, b"wtpt": struct.pack(">4sI3i", b"XYZ ", 0, *daylight), b"desc": names[0], b"cprt": names[1]}
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    kind = (b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp", 0)
    head = struct.pack(">I4sI4s4s4s12x4s28xI3i", 128 + len(table + body), *kind, *daylight)
    return head.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("valid", [True, False])
def test_cmyk_becomes_rgb_by_its_profile_which_goes(tmp_path, valid):
    picture = Image.new("CMYK", (3, 1))
    for x, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)]):
        picture.putpixel((x, 0), ink)
    profile = cmyk_profile() if valid else b"\0" * 16 + b"CMYK" + b"\0" * 108
    picture.save(tmp_path / "c.tif", icc_profile=profile)
    through(tmp_path / "c.tif", tmp_path / "out.tif")
    found = pixels(tmp_path / "out.tif")
    assert (
        found[0, [0, 2]].tolist() == [3 * [255], 3 * [0]] and "icc_profile" not in Image.open(tmp_path / "out.tif").info
    )
    red, green, blue = found[0, 1].astype(int)
    assert (red > 200 and green < 80 and blue < 80) if valid else (red, green, blue) == (0, 255, 255)


# 16 bits per channel


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_those_of_opencv(tmp_path, suffix, channels):
    path, out = tmp_path / f"d.{suffix}", tmp_path / f"out.{suffix}"
    cv2.imwrite(str(path), DEEP[..., :channels])
    (frame,) = open_photo(path)
    assert open_photo(path).sixteen_bits and frame.picture.dtype == np.uint16
    expected = DEEP[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]]
    assert np.array_equal(frame.picture, expected)
    through(path, out, 2)
    found = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    assert (found.reshape(40, 60, -1)[..., :3] == nearest(2)(DEEP[..., : min(channels, 3)])).all()


def test_grey_and_alpha_in_16_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "d.png"), DEEP)
    photo = open_photo(tmp_path / "d.png")
    frames = [unchanged(Frame(frame.picture[..., [0, 3]], frame.info)) for frame in photo]
    write_photo(tmp_path / "grey.png", photo, frames)
    through(tmp_path / "grey.png", tmp_path / "out.png")
    found = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert (found == DEEP[..., [2, 2, 2, 3]]).all()
    assert (tmp_path / "out.png").read_bytes()[24:26] == bytes([16, 4])  # bits, grey with alpha


def test_the_network_sees_and_gives_more_than_8_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "d.png"), np.dstack([DEEP[..., 0]] * 3))
    photo = open_photo(tmp_path / "d.png")
    brighter = Network(lambda lr: (lr + np.float32(2 * 3 / 65535)).repeat(4, axis=1).repeat(4, axis=2), 4)
    write_photo(tmp_path / "out.png", photo, (upscale_frame(frame, Upscaler(brighter)) for frame in photo), 4)
    expected = np.minimum(DEEP[..., 0].astype(int) + 3, 65535)
    assert (cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)[..., 1] == nearest(4)(expected)).all()


def chunks(path, *named):
    """Write a PNG of these (name, data)."""
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in named:
            PngImagePlugin.putchunk(file, name, data)


def test_16_bits_interlaced_with_a_transparent_colour(tmp_path):
    colour, rows = DEEP[..., :3], b""
    for left, top, right, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)):
        rows += b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour[top::down, left::right])
    rows += b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour[1::2])
    header, key = struct.pack(">IIBBBBB", 30, 20, 16, 2, 0, 0, 1), colour[3, 4].astype(">u2").tobytes()
    data = [(b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks(tmp_path / "i.png", *data)
    (frame,) = open_photo(tmp_path / "i.png")
    alpha = frame.picture[..., 3]
    assert (frame.picture[..., :3] == colour).all() and (alpha == 0).sum() == 1 and alpha[3, 4] == 0


# Alpha


@pytest.mark.parametrize("deep", [False, True])
def test_the_colour_of_transparent_pixels_does_not_bleed(tmp_path, deep):
    picture = np.zeros((12, 12, 4), np.uint16 if deep else np.uint8)
    picture[..., 2] = np.iinfo(picture.dtype).max  # OpenCV's red, hidden
    picture[:, :6] = np.array([1, 0, 0, 1]) * np.iinfo(picture.dtype).max  # blue, seen
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    photo = open_photo(tmp_path / "a.png")
    bicubic = Upscaler(Network(lambda lr: np.stack([resize(picture, 4) for picture in lr]), 4))
    write_photo(tmp_path / "out.png", photo, (upscale_frame(frame, bicubic) for frame in photo), 4)
    found = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert (found[..., 2] == 0).all() and (found[..., 0] == found[..., 0].max()).all()
    assert (found[..., 3] == np.round(resize(picture[..., 3], 4)).clip(0, found.max())).all()


# Orientation, profile and other metadata


def metadata(orientation=1):
    exif = Image.Exif()
    xmp = b'<x:xmpmeta tiff:Orientation="%d"/>' % orientation
    exif.update({0x112: orientation, 0x10F: "Maker", 0x8298: "Author", 700: xmp})
    exif[0x8769] = {0x829A: 0.5, 0x9003: "2024:01:01 00:00:00", 0xA002: 30, 0xA003: 20}
    exif[0x8825] = {1: "N", 2: (50.0, 30.0, 1.5)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {"exif": exif.tobytes(), "icc_profile": profile, "xmp": xmp, "dpi": (300, 300)}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_metadata_is_kept_but_what_the_size_changes(tmp_path, suffix):
    path, out, kept = tmp_path / f"f.{suffix}", tmp_path / f"out.{suffix}", metadata()
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", kept["xmp"].decode())
    CLEAR.convert("RGB").save(path, **kept, pnginfo=text)
    through(path, out, 2)
    with Image.open(path) as before, Image.open(out) as after:
        assert after.info["icc_profile"] == kept["icc_profile"]
        if suffix != "webp":
            assert after.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert after.info["xmp"] == kept["xmp"]
        exif = after.getexif()
        assert exif.get(0x112, 1) == 1 and exif[0x10F] == "Maker" and exif[0x8298] == "Author"
        assert exif.get_ifd(0x8769) == {0x829A: 0.5, 0x9003: "2024:01:01 00:00:00"}
        assert exif.get_ifd(0x8825) == before.getexif().get_ifd(0x8825) == {1: "N", 2: (50.0, 30.0, 1.5)}


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_the_caption_of_a_tiff_is_kept_byte_by_byte(tmp_path, suffix):
    path, out, caption = tmp_path / "t.tif", tmp_path / f"out.{suffix}", "Straße am Abend, 夕方".encode()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = tags[0x8298] = caption  # ImageDescription and Copyright
    CLEAR.convert("RGB").save(path, tiffinfo=tags)
    assert caption in path.read_bytes()
    through(path, out, 2)
    assert out.read_bytes().count(caption) == 2
    with Image.open(out) as found:
        assert found.getexif()[270] == caption.decode("latin-1")  # as Pillow reads it


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_once(tmp_path, suffix, orientation):
    path, out = tmp_path / f"t.{suffix}", tmp_path / f"out.{suffix}"
    CLEAR.convert("RGB").save(path, lossless=True, **metadata(orientation))
    through(path, out)
    stored = CLEAR.convert("RGB")
    turns = [None, 0, 3, 1, 5, 4, 6, 2]  # Image.Transpose of the orientations 1 to 8
    upright = stored if orientation == 1 else stored.transpose(turns[orientation - 1])
    assert (pixels(out) == np.asarray(upright)).all()
    assert Image.open(out).getexif().get(0x112, 1) == 1


def test_the_thumbnail_goes(tmp_path):
    CLEAR.convert("RGB").resize((16, 16)).save(tmp_path / "small.jpg")
    thumbnail = (tmp_path / "small.jpg").read_bytes()
    author, where = b"Me\0\0", 8 + 2 + 12 + 4  # of the second folder
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 0x8298, 2, 3, author, where)
    exif += struct.pack("<HHHIIHHIII", 2, 0x201, 4, 1, where + 30, 0x202, 4, 1, len(thumbnail), 0) + thumbnail
    CLEAR.convert("RGB").save(tmp_path / "t.jpg", exif=exif)
    through(tmp_path / "t.jpg", tmp_path / "out.jpg")
    before, after = (Image.open(tmp_path / name).getexif() for name in ("t.jpg", "out.jpg"))
    assert before.get_ifd(ExifTags.IFD.IFD1)[0x202] == len(thumbnail) and not after.get_ifd(ExifTags.IFD.IFD1)
    assert before[0x8298] == after[0x8298] == "Me"
    assert thumbnail[-200:] not in (tmp_path / "out.jpg").read_bytes()


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("A garden, 20x30 m", True),
        ('{"shape": [20, 30, 3]}', False),
        ("ImageJ=1.54f\nimages=1\nslices=1\n", False),
        ('<?xml version="1.0"?>\n<OME xmlns="x"><Pixels SizeX="30"/></OME>', False),
    ],
)
def test_a_caption_is_kept_unless_it_holds_the_size(tmp_path, caption, kept):
    CLEAR.convert("RGB").save(tmp_path / "a.tif", tiffinfo={270: caption, 305: "software"})
    through(tmp_path / "a.tif", tmp_path / "out.tif", 2)
    with Image.open(tmp_path / "out.tif") as found:
        assert found.tag_v2.get(270) == (caption if kept else None) and found.tag_v2[305] == "software"


def test_too_large_an_exif_block_is_told(tmp_path):
    exif = Image.Exif()
    exif[0x8769] = {0x927C: bytes(70000)}
    CLEAR.convert("RGB").save(tmp_path / "a.png", exif=exif)
    assert through(tmp_path / "a.png", tmp_path / "out.png") == []
    assert len(Image.open(tmp_path / "out.png").getexif().get_ifd(0x8769)[0x927C]) == 70000
    assert through(tmp_path / "a.png", tmp_path / "out.jpg") == [f"{tmp_path}/out.jpg: JPEG does not hold EXIF"]


@pytest.mark.parametrize(
    "source, suffix, told",
    [
        ("a.png", "png", []),
        ("a.png", "tif", ["texts"]),
        ("a.png", "jpg", ["XMP", "texts"]),  # it is too large
        ("a.png", "bmp", ["EXIF", "a colour profile", "XMP", "texts"]),
        ("a.jpg", "jpg", []),
        ("a.jpg", "png", []),
        ("a.jpg", "gif", ["EXIF", "a colour profile", "XMP"]),
        ("a.jpg", "webp", ["a comment"]),
        ("grey.jpg", "webp", ["a colour profile"]),
    ],
)
def test_metadata_that_a_format_does_not_hold_is_told(tmp_path, source, suffix, told):
    out, text, kept = tmp_path / f"out.{suffix}", PngImagePlugin.PngInfo(), metadata()
    for name, value in {"damage": "none", "Author": "夕方", "Raw profile type exif": "orientation 6"}.items():
        text.add_text(name, value)
    text.add_itxt("XML:com.adobe.xmp", 70000 * "x")
    if source == "a.png":
        CLEAR.convert("RGB").save(tmp_path / source, pnginfo=text, exif=kept["exif"], icc_profile=kept["icc_profile"])
    elif source == "a.jpg":
        CLEAR.convert("RGB").quantize(9).convert("RGB").save(
            tmp_path / source, comment="café".encode("latin-1"), **kept
        )
    else:
        CLEAR.convert("L").save(tmp_path / source, icc_profile=b"\0" * 16 + b"GRAY" + b"\0" * 108)
    lines = [line for line in through(tmp_path / source, out) if "colours" not in line]
    assert lines == [f"{out}: {Image.open(out).format} does not hold {what}" for what in told]
    found = Image.open(out).info
    if source == "a.png" and suffix == "png":
        assert found["damage"] == "none" and found["Author"] == "夕方" and "Raw profile type exif" not in found
    if source == "a.jpg" and suffix in ("jpg", "png", "gif"):
        assert found.get("Comment", found.get("comment")) in ("café", "café".encode("latin-1"))


def test_iptc_is_kept_where_it_can_be(tmp_path):
    caption = b"\x1c\x02\x78" + struct.pack(">H", 9) + b"A garden."
    CLEAR.convert("RGB").save(tmp_path / "a.tif", tiffinfo={33723: caption})
    assert through(tmp_path / "a.tif", tmp_path / "b.jpg") == through(tmp_path / "b.jpg", tmp_path / "c.tif") == []
    for name in ("b.jpg", "c.tif"):
        with Image.open(tmp_path / name) as found:
            assert IptcImagePlugin.getiptcinfo(found) == {(2, 120): b"A garden."}
    assert through(tmp_path / "b.jpg", tmp_path / "d.png") == [f"{tmp_path}/d.png: PNG does not hold IPTC"]


def test_one_damaged_entry_does_not_take_the_others_with_it(tmp_path):
    top = struct.pack("<HHHI4sHHIII", 2, 0x10F, 2, 3, b"Me\0\0", 0x8769, 4, 1, 38, 0)
    folder = struct.pack("<HHHI4sHHIII", 2, 0xA433, 2, 3, b"It\0\0", 0xFDE9, 16, 1, 68, 0)  # a number of 8 bytes
    exif = b"Exif\0\0II*\0\x08\0\0\0" + top + folder + struct.pack("<Q", 2**40)
    CLEAR.convert("RGB").save(tmp_path / "a.jpg", exif=exif)
    assert Image.open(tmp_path / "a.jpg").getexif().get_ifd(0x8769) == {0xA433: "It", 0xFDE9: 2**40}
    through(tmp_path / "a.jpg", tmp_path / "out.jpg")
    found = Image.open(tmp_path / "out.jpg").getexif()
    assert found[0x10F] == "Me" and found.get_ifd(0x8769) == {0xA433: "It"}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_folder_within_a_folder_of_exif_is_kept(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x8769] = {0x829A: 0.5, 0xA005: {1: "R03", 0x1001: 30}}
    CLEAR.convert("RGB").save(tmp_path / "a.jpg", exif=exif.tobytes())
    through(tmp_path / "a.jpg", tmp_path / f"out.{suffix}")
    with Image.open(tmp_path / f"out.{suffix}") as found:
        assert found.getexif().get_ifd(0x8769)[0x829A] == 0.5 and found.getexif().get_ifd(0xA005) == {1: "R03"}


def test_each_page_of_a_tiff_keeps_its_caption(tmp_path):
    captions = ["first", "second"]
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "p.tif", new=True) as file:
        for caption in captions:
            CLEAR.save(file, "TIFF", tiffinfo={270: caption})
            file.newFrame()
    through(tmp_path / "p.tif", tmp_path / "out.tif")
    with Image.open(tmp_path / "out.tif") as found:
        assert [page.tag_v2[270] for page in ImageSequence.Iterator(found)] == captions


# Animations and pages

TURNS = [CLEAR, CLEAR.rotate(180), CLEAR.transpose(Image.Transpose.FLIP_LEFT_RIGHT), CLEAR.rotate(180)]
DURATIONS = [100, 50, 70, 200]


def composed(path):
    """[RGBA (h, w, 4)] of an animation, black where nothing is seen."""
    with Image.open(path) as image:
        frames = [np.array(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)]
        return [frame * (frame[..., 3:] > 0) for frame in frames]


def durations(path):
    with Image.open(path) as image:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(image) if [frame.load()]]


@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_comes_back_frame_by_frame(tmp_path, suffix, clear):
    path, out, large = (tmp_path / f"{name}.{suffix}" for name in ("a", "out", "large"))
    frames = [np.array(frame) // 128 * 255 if suffix == "gif" else np.array(frame) for frame in TURNS]
    frames = [Image.fromarray(frame if clear else frame[..., :3].copy()) for frame in frames]
    options = {"duration": DURATIONS, "loop": 3, "lossless": True, "exact": True, "disposal": 2 * (suffix == "gif")}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert open_photo(path).frames == 4
    through(path, out)
    through(path, large, 2)
    assert durations(out) == durations(path) == DURATIONS
    assert Image.open(out).info["loop"] == 3
    for before, after, grown in zip(composed(path), composed(out), composed(large), strict=True):
        assert (before == after).all()
        assert clear or (grown == nearest(2)(before)).all()


def test_partial_frames_and_disposal_are_composed(tmp_path):
    base = Image.fromarray(FEW_COLOURS)
    frames = [base.copy() for _ in range(3)]
    for index, frame in enumerate(frames):
        frame.paste((255, 255, 0), (5 * index, 5, 5 * index + 4, 9))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[40, 60, 80])
    through(tmp_path / "a.gif", tmp_path / "out.gif")
    found = composed(tmp_path / "out.gif")
    assert len(found) == 3 and all((a[..., :3] == np.asarray(b)).all() for a, b in zip(found, frames, strict=True))
    assert "loop" not in Image.open(tmp_path / "out.gif").info


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_frames_that_are_alike_may_become_one(tmp_path, suffix):
    TURNS[0].save(tmp_path / "a.png", save_all=True, append_images=[TURNS[1]], duration=[100, 50])
    photo = open_photo(tmp_path / "a.png")
    write_photo(tmp_path / f"out.{suffix}", photo, [unchanged(next(iter(photo))) for _ in range(2)])
    assert composed(tmp_path / f"out.{suffix}")[0].shape == (20, 30, 4)


def test_an_animation_changes_its_format(tmp_path):
    frames = [frame.convert("RGB") for frame in TURNS]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=DURATIONS, loop=0)
    through(tmp_path / "a.png", tmp_path / "out.webp")
    through(tmp_path / "out.webp", tmp_path / "out.png")
    for name in ("out.webp", "out.png"):
        assert durations(tmp_path / name) == DURATIONS and Image.open(tmp_path / name).info["loop"] == 0


def test_a_still_picture_in_front_of_an_animation_is_left_out(tmp_path):
    options = {"save_all": True, "append_images": TURNS[:3], "duration": DURATIONS[:3], "default_image": True}
    ImageChops.invert(CLEAR).save(tmp_path / "a.png", **options)
    through(tmp_path / "a.png", tmp_path / "out.png")
    assert len(composed(tmp_path / "out.png")) == 3
    assert (composed(tmp_path / "out.png")[0] == np.asarray(CLEAR) * (ALPHA > 0)[..., None]).all()


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3)])  # PNG's numbers for grey and RGB
def test_an_animation_of_16_bits_is_said_to_come_back_with_eight(tmp_path, kind, channels):
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP[..., :channels]))
    frames = [(b"fcTL", struct.pack(">IIIIIHHBB", number, 30, 20, 0, 0, 1, 10, 0, 0)) for number in (0, 1)]
    head = [(b"IHDR", struct.pack(">IIBBBBB", 30, 20, 16, kind, 0, 0, 0)), (b"acTL", struct.pack(">II", 2, 0))]
    pictures = [frames[0], (b"IDAT", rows), frames[1], (b"fdAT", struct.pack(">I", 2) + rows), (b"IEND", b"")]
    chunks(tmp_path / "a.png", *head, *pictures)
    (line,) = through(tmp_path / "a.png", tmp_path / "out.png")
    assert line == f"{tmp_path}/out.png: 8 bits per channel now; {tmp_path}/a.png has more"
    first = composed(tmp_path / "out.png")[0][..., :3].astype(int)
    assert np.abs(first - DEEP[..., :channels] / 257).max() <= 1


def test_pages_of_a_tiff_may_differ(tmp_path):
    pages = [CLEAR, CLEAR.convert("L").resize((50, 40)), Image.fromarray(DEEP[..., 0]), CLEAR.convert("RGB")]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:], dpi=(300, 300), exif=metadata()["exif"])
    through(tmp_path / "p.tif", tmp_path / "out.tif")
    with Image.open(tmp_path / "out.tif") as found:
        assert found.n_frames == 4
        for page, expected in zip(ImageSequence.Iterator(found), pages, strict=True):
            assert page.mode == expected.mode and (np.asarray(page) == np.asarray(expected)).all()


# Other formats


def test_what_a_format_does_not_hold_is_said_in_one_line(tmp_path):
    CLEAR.save(tmp_path / "a.png")
    assert through(tmp_path / "a.png", tmp_path / "out.tiff") == []
    assert through(tmp_path / "a.png", tmp_path / "out.webp") == []
    (lost,) = through(tmp_path / "a.png", tmp_path / "out.jpg")
    assert str(tmp_path / "out.jpg") in lost and "transparency" in lost and "\n" not in lost
    cv2.imwrite(str(tmp_path / "d.png"), DEEP[..., :3])
    (lost,) = through(tmp_path / "d.png", tmp_path / "out.webp")
    assert "16 bits" in lost
    CLEAR.convert("RGB").save(tmp_path / "c.png")
    CLEAR.convert("L").save(tmp_path / "l.png")
    assert through(tmp_path / "c.png", tmp_path / "out.gif") == [
        f"{tmp_path}/out.gif: GIF does not hold more than 256 colours"
    ]
    assert through(tmp_path / "l.png", tmp_path / "out.gif") == []


def test_transparency_becomes_white_in_a_jpeg(tmp_path):
    picture = np.zeros((16, 48, 4), np.uint8)
    picture[:, 16:, 3], picture[:, 32:, 3] = 128, 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    through(tmp_path / "a.png", tmp_path / "out.jpg")
    found = pixels(tmp_path / "out.jpg")[8, [8, 24, 40]].astype(int)
    assert np.abs(found - np.array([[255] * 3, [127] * 3, [0] * 3])).max() <= 3


def test_a_webp_stays_lossless_or_lossy_unless_it_gets_a_quality(tmp_path):
    out, sizes = tmp_path / "out.webp", []
    for lossless, quality in ((False, None), (True, None), (True, 90), (True, 30)):
        CLEAR.resize((300, 200)).convert("RGB").save(tmp_path / "w.webp", lossless=lossless)
        photo = open_photo(tmp_path / "w.webp")
        write_photo(out, photo, map(unchanged, photo), quality=quality)
        sizes.append(out.stat().st_size)
        assert open_photo(out).lossless == (lossless and quality is None)
        assert (pixels(out) == pixels(tmp_path / "w.webp")).all() == open_photo(out).lossless
    assert sizes[1] > sizes[2] > 1.5 * sizes[3]


REFUSED = {  # name of the result: (size of the picture, scale, what is said)
    "x.webp": ((4100, 2), 4, "16400 .* WEBP .* .png"),
    "x.jpg": ((2, 16380), 4, "65520 .* JPEG .* .png"),
    "x.xyz": ((2, 2), 4, "choose from .*.png"),
    "file/x.png": ((2, 2), 4, "file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_result_that_cannot_be_written_is_refused_before_any_work(tmp_path, name):
    size, scale, said = REFUSED[name]
    (tmp_path / "file").write_text("no folder")
    Image.new("L", size).save(tmp_path / "in.png")
    photo = open_photo(tmp_path / "in.png")
    with pytest.raises(UserError, match=said):
        write_photo(tmp_path / name, photo, (pytest.fail("worked") for _ in photo), scale)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in.png"]


def test_frames_go_where_frames_can_be(tmp_path):
    TURNS[0].save(tmp_path / "a.gif", save_all=True, append_images=TURNS[1:])
    TURNS[0].save(tmp_path / "p.tif", save_all=True, append_images=TURNS[1:])
    animated, paged = "4 frames; choose .png or .webp or .gif$", "4 pages; choose .tiff or .tif$"
    refused = [("a.gif", "x.jpg", animated), ("a.gif", "x.tif", animated), ("p.tif", "x.png", paged)]
    for source, out, said in [*refused, ("p.tif", "x.bmp", paged)]:
        with pytest.raises(UserError, match=said):
            through(tmp_path / source, tmp_path / out)
    through(tmp_path / "a.gif", tmp_path / "a.gif", 2)  # in its own place
    assert Image.open(tmp_path / "a.gif").size == (60, 40)


def test_a_tiff_above_4_gb_is_refused(tmp_path, monkeypatch):
    def page(*arguments, **options):
        fields = whole_page(*arguments, **options)
        fields[273] = 2**32 - 1
        return fields

    whole_page = photo_writer._page
    monkeypatch.setattr(photo_writer, "_page", page)
    CLEAR.save(tmp_path / "x.png")
    with pytest.raises(UserError, match="out.tif: more than 4 GB.*.png"):
        through(tmp_path / "x.png", tmp_path / "out.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_result_may_be_exactly_as_long_as_its_format_holds(tmp_path):
    for length in range(1, 100):  # 16383 / 25 * 25 is more than 16383
        Image.new("L", (length, 1)).save(tmp_path / "a.png")
        photo = open_photo(tmp_path / "a.png")
        photo_writer.format_of(tmp_path / "out.webp", photo, 16383 / length)
        with pytest.raises(UserError, match="16384 pixels long, WEBP holds 16383"):
            photo_writer.format_of(tmp_path / "out.webp", photo, 16384 / length)


# Bad input


def part(name, share, **options):
    def write(path):
        source = path.with_name(f"whole{Path(name).suffix}")
        CLEAR.resize((64, 64)).convert("RGB").save(source, **options)
        path.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
        source.unlink()

    return write


BAD = {
    "empty.png": lambda path: path.write_bytes(b""),
    "text.png": lambda path: path.write_text("no picture\n" * 20),
    "folder.png": lambda path: path.mkdir(),
    "pipe.png": lambda path: os.mkfifo(path),
    "missing.png": lambda path: None,
    "long.png" + "x" * 300: lambda path: None,
    "bomb.png": lambda path: path.write_bytes(png_claiming(40000, 25000)),
    "nothing.gif": lambda path: path.write_bytes(b"GIF89a\0\0\0\0\0\0\0;"),
    "head.png": part("x.png", 0.005),
    "head.jpg": part("x.jpg", 0.15),
    "head-progressive.jpg": part("x.jpg", 0.08, progressive=True),
    "half.webp": part("x.webp", 0.5),
    "half.gif": part("x.gif", 0.5),
    "half-packed.tif": part("x.tif", 0.5, compression="tiff_lzw"),
    "unlike.png": lambda path: Image.new("RGB", (4, 4)).save(path, "ICO"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_that_names_the_file(tmp_path, capfd, name):
    path = tmp_path / name
    BAD[name](path)
    with pytest.raises(UserError) as refused:
        through(path, tmp_path / "out.png")
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
    assert not (tmp_path / "out.png").exists() and not any(capfd.readouterr())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "deep.png"])
def test_of_a_damaged_picture_what_is_there_comes_back(tmp_path, name):
    colour = np.kron(RGB | 1, np.ones((8, 8, 1), np.uint8))  # 160 rows; no pixel is black
    if name == "deep.png":
        cv2.imwrite(str(tmp_path / name), colour * np.uint16(257))
    else:
        Image.fromarray(colour).save(tmp_path / name)
    ((whole, _),) = open_photo(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    photo = open_photo(tmp_path / name)
    ((rest, _),) = photo
    there = (rest == whole).all(axis=(1, 2))
    assert 0.5 < there.mean() < 0.75 and np.ptp(rest[0 if name == "a.bmp" else -1]) == 0
    (line,) = photo.damage
    share = int(re.fullmatch(r".*: damaged; about (\d+)% of it is missing, the rest is upscaled", line)[1]) / 100
    assert line.startswith(f"{tmp_path / name}: ") and share == pytest.approx(1 - there.mean(), abs=0.1)


def test_a_damaged_tiff_is_turned_upright(tmp_path):
    Image.fromarray(RGB | 1).save(tmp_path / "a.tif", **metadata(6))
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:-900])  # 10 of 20 rows
    photo = open_photo(tmp_path / "a.tif")
    ((rest, _),) = photo
    assert (rest[:, 10:] == np.rot90(RGB | 1, -1)[:, 10:]).all() and not rest[:, :10].any()
    assert "about 50% of it is missing" in photo.damage[0]


def test_of_a_progressive_jpeg_the_coarse_picture_comes_back(tmp_path):
    smooth = resize(RGB, 8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 2 // 3])
    photo = open_photo(tmp_path / "a.jpg")
    ((rest, _),) = photo
    assert np.abs(rest.astype(int) - smooth).mean() < 10 and "parts of it may be missing" in photo.damage[0]


def test_a_raw_file_is_not_taken_for_its_preview(tmp_path):
    CLEAR.convert("RGB").save(tmp_path / "picture", "TIFF", tiffinfo={254: 1, 330: 8})
    with pytest.raises(UserError, match="picture: a camera's raw file.* TIFF$"):
        open_photo(tmp_path / "picture")


def test_a_picture_that_may_not_be_read_is_said(tmp_path):
    CLEAR.save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(UserError, match="x.png.*Permission denied"):
        as_a_user(lambda: open_photo(tmp_path / "x.png"))


def test_the_limit_counts_all_frames_of_an_animation_and_one_page(tmp_path):
    for name in ("a.gif", "p.tif"):
        TURNS[0].save(tmp_path / name, save_all=True, append_images=TURNS[1:])
    with pytest.raises(UserError, match="0.002 megapixels"):
        open_photo(tmp_path / "a.gif", limit=2000)
    assert len(list(open_photo(tmp_path / "p.tif", limit=600))) == open_photo(tmp_path / "a.gif", limit=2400).frames
    with pytest.raises(UserError, match="megapixels"):
        open_photo(tmp_path / "p.tif", limit=599)


def test_a_bomb_on_a_later_page_is_refused(tmp_path):
    CLEAR.save(tmp_path / "p.tif", save_all=True, append_images=[Image.new("1", (300, 300))])
    with pytest.raises(UserError, match="megapixels"):
        through(tmp_path / "p.tif", tmp_path / "out.tif", limit=2000)
    assert not (tmp_path / "out.tif").exists()


def test_pillows_own_limit_and_standard_error_are_left_as_they_were(tmp_path, capfd):
    before = Image.MAX_IMAGE_PIXELS
    CLEAR.save(tmp_path / "x.png")
    list(open_photo(tmp_path / "x.png", limit=10**12))
    os.write(2, b"heard")
    assert before == Image.MAX_IMAGE_PIXELS and capfd.readouterr().err == "heard"


def test_damaged_files_end_in_a_picture_or_in_one_line(tmp_path):
    cases = often("24", "144")  # each kind is damaged twice in 144
    fuzz = [sys.executable, ROOT / "benchmarks/fuzz_upscale.py", cases, "7"]
    done = subprocess.run(fuzz, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and f"{cases} cases from" in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""  # neither Pillow's log nor libtiff speaks
