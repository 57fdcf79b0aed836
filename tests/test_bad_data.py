"""A folder with files broken in every way: each is named once, in one line, and the rest is trained on."""

import os
import shutil
import struct
import tempfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from test_dataset import coloured

from dataset import Crops, Pictures
from pictures import find_pictures, write_picture

RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
IMAGE = Image.fromarray(RGB)


def content(kind, image=IMAGE, **options):
    """The bytes of a picture."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def flipped(data, *bytes_):
    data = bytearray(data)
    for at in bytes_:
        data[at] ^= 0x10
    return bytes(data)


def png_claiming(width, height):
    """A PNG of a few bytes whose header claims width x height pixels."""
    file = BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    PngImagePlugin.putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    PngImagePlugin.putchunk(file, b"IDAT", zlib.compress(b"\0" * 10**6))
    return file.getvalue()


def forbidden(path):
    path.write_bytes(content("png"))
    path.chmod(0)


def writes(data):
    return lambda path: path.write_bytes(data)


HALVES = {kind: content(kind)[: len(content(kind)) // 2] for kind in ("png", "jpeg", "webp", "tiff", "bmp")}
EXIF = b"Exif\0\0II*\0\x08\0\0\0\1\0\x86\x92\7\0\x60\xea\0\0\x1a\0\0\0\0\0\0\0" + b"x" * 60000  # a comment
BROKEN = {
    "zero.png": writes(b""),
    "zero.jpg": writes(b""),
    **{f"half.{suffix}": writes(data) for suffix, data in HALVES.items()},
    "head.png": writes(content("png")[:30]),
    "text.png": writes(b"no picture\n" * 20),
    "other.jpg": writes(content("ico", IMAGE.crop((0, 0, 48, 48)))),
    "program.png": writes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n"),
    "header.png": writes(flipped(content("png"), 18)),
    "header.jpg": writes(flipped(content("jpeg"), 0)),
    "pixels.png": writes(flipped(content("png"), 500, 501)),
    "folder.png": lambda path: path.mkdir(),
    "nowhere.png": lambda path: path.symlink_to("none.png"),
    "loop.png": lambda path: path.symlink_to(path.name),
    "pipe.png": os.mkfifo,
    "closed.png": forbidden,
    "closed": lambda path: path.mkdir(0),
    "bomb.png": writes(png_claiming(40000, 25000)),
    "short.png": writes(png_claiming(4000, 2500)),
    "small.png": writes(content("png", IMAGE.crop((0, 0, 64, 31)))),
    "two\nlines.png": writes(b""),
    "bytes \udcff.png": writes(b""),
}
FINE = {
    "named wrongly.png": content("jpeg"),
    "animation called.png": content("gif", save_all=True, append_images=[IMAGE.rotate(90)]),
    "exif.jpg": content("jpeg", exif=EXIF),
    "cmyk.jpg": content("jpeg", IMAGE.convert("CMYK")),
    "deep.png": content("png", Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)),
    "palette.png": content("png", IMAGE.convert("P"), transparency=3),
    "grey.webp": content("webp", IMAGE.convert("L")),
    "moving.png": content("png", save_all=True, append_images=[IMAGE.rotate(90)]),
    "moving.webp": content("webp", save_all=True, append_images=[IMAGE.rotate(90)]),
    "flips that nobody can see.jpg": flipped(content("jpeg"), 1500),
    "three\nlines\n.png": content("png"),
    "bytes \udcfe.png": content("png"),
    "-rf 'quoted' \"twice\" %s {} \u202e\U0001f600.png": content("png"),
}


def as_a_user(function):
    """What `function` gives where root's right to read everything is given up for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        return function()
    finally:
        os.seteuid(before)


@pytest.fixture(scope="module")
def folder():
    """200 files, 50 of them broken."""
    whole = content("png")
    broken = {f"{n}/{name}": make for n in (0, 1) for name, make in BROKEN.items()}
    broken |= {f"0/no picture {n}.png": writes(b"x") for n in range(50 - len(broken))}
    fine = {f"1/{name}": writes(data) for name, data in FINE.items()}
    fine |= {f"1/{n}.png": writes(whole) for n in range(150 - len(fine))}
    place = Path(tempfile.mkdtemp())  # tmp_path may be entered by its user alone
    place.chmod(0o755)
    for name in ("0", "1"):
        (place / name).mkdir()
    for name, make in (broken | fine).items():
        make(place / name)
    yield place, broken, fine
    shutil.rmtree(place)


@pytest.mark.parametrize("memory", [0, 1e6, 1e9])
def test_of_two_hundred_files_fifty_are_broken_and_each_is_named_once(folder, memory, capfd):
    place, broken, fine = folder
    pictures = as_a_user(lambda: Pictures(find_pictures(place), 4, 32, memory))
    for n in range(len(pictures)):  # past the budget, pixels are looked at when they are drawn
        as_a_user(lambda n=n: pictures[n])
    assert pictures.usable == 150 and len(pictures.skipped) == 50
    used = {path for n, path in enumerate(pictures.paths) if n not in pictures.broken}
    assert used == {place / name for name in fine}
    for name in broken:
        shown = str(place / name).replace("\n", r"\n").replace("\udcff", r"\udcff")
        (line,) = [line for line in pictures.skipped if line.startswith(f"{shown}: ")]
        assert line.isprintable() and line.encode() and len(line) > len(f"{shown}: ")
    assert not capfd.readouterr().out


def test_crops_are_the_same_whichever_broken_pictures_are_known(tmp_path):
    """Within the budget a broken picture is found at the start, past it when it is drawn."""
    for n in range(12):
        write_picture(tmp_path / f"{n}.png", np.full((48 + n, 64, 3), 20 * n, np.uint8))
    for n in (3, 7, 8):
        path = tmp_path / f"{n}.png"
        path.write_bytes(path.read_bytes()[:-40])
    early, late = (Pictures(find_pictures(tmp_path), 4, 32, memory) for memory in (1e9, 0))
    assert (early.usable, late.usable) == (9, 12)
    for update in (5, 0, 3, 1, 2, 4):  # in any order
        batches = [Crops(pictures, 8, seed=0, first=0, last=6)[update] for pictures in (early, late)]
        assert all(np.array_equal(*pair) for pair in zip(*batches))
        levels = batches[0][1][:, 0, 0, 0].tolist()
        assert not set(levels) & {60, 140, 160} and len(set(levels)) >= 7  # two in place of broken ones may meet
    assert late.usable == 9 and sorted(late.skipped) == sorted(early.skipped)


def batch(pictures, update):
    crops = Crops(pictures, 4, seed=0, first=update, last=update + 1)
    return crops[0][1][:, 0, 0, 0], crops.failures


CHANGES = {
    "vanishes": lambda path: path.unlink(),
    "shrinks": lambda path: write_picture(path, np.zeros((16, 16, 3), np.uint8)),
    "grows": lambda path: write_picture(path, np.zeros((64, 64, 3), np.uint8)),
    "is cut": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "becomes a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "becomes a folder": lambda path: (path.unlink(), path.mkdir()),
}


def test_pictures_that_change_while_it_trains_are_replaced_and_the_others_stay(tmp_path):
    levels = list(range(5, 205, 5))
    pictures = Pictures(coloured(tmp_path, levels), 4, 32, 0)
    before = np.array([batch(pictures, update)[0] for update in range(12)])
    changed = dict(zip(dict.fromkeys(before.flat), CHANGES))  # {level: its change}, of the first that are drawn
    paths = [pictures.paths[levels.index(level)] for level in changed]
    for path, change in zip(paths, CHANGES.values()):
        change(path)
    after = np.array([batch(pictures, update)[0] for update in range(12)])
    assert not set(after.flat) & {0, *changed}  # what shrinks and what grows becomes black
    hit = np.isin(before, list(changed))
    assert (before == after)[~hit].all() and not hit.all()
    assert {line.partition(": ")[0] for line in pictures.skipped} == set(map(str, paths))
    assert len(pictures.skipped) == len(CHANGES)


def test_replacements_are_drawn_as_often_as_they_are_large(tmp_path):
    for name, width in (("a", 128), ("b", 96), ("c", 32)):
        write_picture(tmp_path / f"{name}.png", np.full((32, width, 3), width, np.uint8))
    cut = tmp_path / "a.png"
    cut.write_bytes(cut.read_bytes()[:-40])  # its header is whole, so that it is drawn
    pictures = Pictures(find_pictures(tmp_path), 4, 32, 1e9)
    drawn = 4000
    levels = Crops(pictures, drawn, seed=0, first=0, last=1)[0][1][:, 0, 0, 0]
    assert abs(np.mean(levels == 96) - 0.75) < 5 * (0.75 * 0.25 / drawn) ** 0.5


def test_when_most_pictures_have_gone_training_is_to_stop(tmp_path):
    pictures = Pictures(coloured(tmp_path, range(0, 50, 5)), 4, 32, 0)
    for path in pictures.paths[:5]:
        path.unlink()
    assert all(not batch(pictures, update)[1] for update in range(10)) and pictures.usable == 5
    pictures.paths[5].unlink()
    failures = [failure for update in range(10, 30) for failure in batch(pictures, update)[1]]
    assert failures and str(failures[0]).startswith("6 of 10 pictures") and "05.png" in str(failures[0])
    assert len(pictures.skipped) == 6
