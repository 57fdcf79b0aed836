"""Pictures: resized as MATLAB's benchmark files are, read from every kind of file, written whole or not at all."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.grids import grid
from pictures import KERNELS, find_pictures, read_picture, resize, write_picture
from utils import UserError, atomic_write

ROOT = Path(__file__).parents[1]
BENCHMARK = ROOT / "data/benchmark"
HR_FILES = [BENCHMARK / f"Set{count}/HR/img_{n:03}.png" for count in (5, 14) for n in range(1, count + 1)]


@pytest.fixture
def random():
    return np.random.default_rng(0)


def apart(a, b):
    assert a.shape == b.shape
    return np.abs(a.astype(int) - b.astype(int)).max()


# Resizing


@pytest.mark.parametrize("path", HR_FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_reduction_gives_the_benchmarks_lr_files(path):
    hr, lr = read_picture(path, grey=True), read_picture(path.parents[1] / "LRx4" / path.name, grey=True)
    assert apart(resize(hr, 1 / 4)[4:-4, 4:-4], lr[4:-4, 4:-4]) <= 1
    # the MATLAB that made them repeated the border pixel, where today's mirrors the picture
    repeated = np.pad(hr, [(16, 16), (16, 16), (0, 0)][: hr.ndim], mode="edge")
    assert apart(resize(repeated, 1 / 4)[4:-4, 4:-4], lr) == 0


@pytest.mark.parametrize("scale", [1 / 4, 1 / 2, 2, 4])
@pytest.mark.parametrize("kernel, name", [("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)])
def test_away_from_the_border_resizing_is_pillows(kernel, name, scale):
    picture = read_picture(BENCHMARK / "Set5/HR/img_005.png")[:96, :128, 0] // 2 + 64  # nothing is clipped
    exact = Image.fromarray(picture.astype(np.float32)).resize((round(128 * scale), round(96 * scale)), name)
    difference = np.abs(resize(picture, scale, kernel) - np.asarray(exact))
    border = int(np.ceil(3 * max(scale, 1)))
    # half a level for each rounding, the first spread by the second axis' weights, whose sizes sum to 1.5 at most
    assert difference[border:-border, border:-border].max() < 0.5 + 0.5 * 1.5


def test_the_border_is_mirrored(random):
    picture = random.integers(0, 256, (24, 32, 3), np.uint8)
    mirrored = np.pad(picture, [(16, 16), (16, 16), (0, 0)], mode="symmetric")
    assert apart(resize(mirrored, 1 / 4)[4:-4, 4:-4], resize(picture, 1 / 4)) == 0
    assert apart(resize(mirrored, 2)[32:-32, 32:-32], resize(picture, 2)) == 0


def test_nearest_repeats_pixels(random):
    picture = random.integers(0, 256, (5, 7, 3), np.uint8)
    assert apart(resize(picture, 4, "nearest"), picture.repeat(4, axis=0).repeat(4, axis=1)) == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [1 / 8, 1 / 3, 1, 2, 8])
def test_one_colour_stays_that_colour(kernel, scale):
    picture = np.full((24, 48, 3), (3, 128, 255), np.uint8)
    assert (resize(picture, scale, kernel) == (3, 128, 255)).all()


def test_a_reduction_rounds_the_size_up_as_matlab_does():
    assert resize(np.zeros((9, 8, 3), np.uint8), 1 / 4).shape == (3, 2, 3)


# Reading

COLOURS = np.array([[255, 0, 0], [0, 128, 255], [7, 77, 177], [250, 251, 3]], np.uint8)
INDICES = np.arange(24).reshape(4, 6) % 4


@pytest.mark.parametrize("transparent", [None, 2])
def test_a_palette_is_looked_up(tmp_path, transparent):
    image = Image.fromarray(INDICES.astype(np.uint8), "P")
    image.putpalette(COLOURS.tobytes())
    image.save(tmp_path / "p.png", **({} if transparent is None else {"transparency": transparent}))
    assert apart(read_picture(tmp_path / "p.png"), COLOURS[INDICES]) == 0
    assert apart(read_picture(tmp_path / "p.png", grey=True), COLOURS[INDICES]) == 0


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_three_equal_channels_or_stays_grey(tmp_path, mode):
    grey = np.where(INDICES % 2, 255, 0).astype(np.uint8) if mode == "1" else (10 * INDICES).astype(np.uint8)
    image = Image.fromarray(grey)
    if mode == "LA":
        image.putalpha(Image.fromarray((255 - 60 * INDICES).astype(np.uint8)))
    (image.convert("1") if mode == "1" else image).save(tmp_path / "g.png")
    assert Image.open(tmp_path / "g.png").mode == mode
    assert apart(read_picture(tmp_path / "g.png"), np.stack([grey] * 3, axis=-1)) == 0
    assert apart(read_picture(tmp_path / "g.png", grey=True), grey) == 0


def test_alpha_is_dropped_and_colour_kept_where_it_is_transparent(tmp_path):
    Image.fromarray(np.dstack([COLOURS[INDICES], 85 * INDICES]).astype(np.uint8)).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "RGBA"
    assert apart(read_picture(tmp_path / "a.png"), COLOURS[INDICES]) == 0


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_reduced_to_8_bits(tmp_path, suffix):
    deep = np.array([[0, 257, 257 * 2], [65535, 257 * 100 + 100, 257 * 200 + 200]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(deep).save(path)
    assert Image.open(path).mode.startswith("I")
    assert apart(read_picture(path, grey=True), np.array([[0, 1, 2], [255, 100, 201]])) == 0
    assert read_picture(path).shape == (2, 3, 3)


def test_cmyk_is_converted(tmp_path):
    inks = {(255, 0, 0, 0): (0, 255, 255), (0, 255, 255, 0): (255, 0, 0)}  # cyan, red
    inks |= {(0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 0): (255, 255, 255)}  # black, paper
    stripes, expected = (
        np.array([list(colours)], np.uint8).repeat(16, axis=0).repeat(16, axis=1) for colours in (inks, inks.values())
    )
    Image.fromarray(stripes, "CMYK").save(tmp_path / "c.jpg", quality=100, subsampling=0)
    assert Image.open(tmp_path / "c.jpg").mode == "CMYK"
    assert apart(read_picture(tmp_path / "c.jpg"), expected) <= 3


UPRIGHT = {  # EXIF 2.3, tag 0x112: what the first row and column of the file show
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_is_turned_as_its_exif_says(tmp_path, orientation, grey):
    stored = np.array([[20, 90, 160], [200, 230, 50]], np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    stored = stored if grey else np.stack([stored, 255 - stored, stored // 2], axis=-1)
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(stored).save(tmp_path / "e.jpg", quality=100, subsampling=0, exif=exif)
    assert apart(read_picture(tmp_path / "e.jpg", grey=True), UPRIGHT[orientation](stored)) <= 3


def test_a_picture_that_has_gone_is_one_line_that_names_it(tmp_path):  # broken ones: tests/test_bad_data.py
    with pytest.raises(UserError, match=rf"^{tmp_path}/a.png: .+$"):
        read_picture(tmp_path / "a.png")


def test_pictures_are_found_below_folders_sorted_and_whatever_the_case_of_their_suffix(tmp_path):
    for name in ("b/2.png", "b/1.JPG", "a.webp", "notes.txt", "c.png/inside.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)]
    assert found == ["a.webp", "b/1.JPG", "b/2.png", "c.png/inside.bmp"]
    assert find_pictures([tmp_path / "b", tmp_path / "a.webp"])[2:] == [tmp_path / "a.webp"]
    assert find_pictures(tmp_path / "a.webp") == [tmp_path / "a.webp"]


def test_a_tilde_stands_for_home_and_may_begin_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("~a.png", "~$b/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert find_pictures("~/~a.png") == [tmp_path / "~a.png"]
    assert find_pictures(["~a.png", "~$b"]) == [Path("~a.png"), Path("~$b/c.png")]
    with pytest.raises(UserError, match="^~x.y: no such folder or file$"):
        find_pictures("~x.y")


def test_linked_folders_are_searched_once_and_a_loop_ends(tmp_path):
    for name in ("here/1.png", "there/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for link, folder in {"here/a": "there", "here/b": "there", "there/loop": "here"}.items():
        (tmp_path / link).symlink_to(tmp_path / folder)
    assert find_pictures(tmp_path / "here") == [tmp_path / "here/1.png", tmp_path / "here/a/2.png"]


def test_a_folder_without_pictures_and_no_folder_are_said(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=str(folder)):
            find_pictures(folder)


# Grids and writing


def test_a_grid_has_white_gaps_and_white_where_nothing_is():
    sizes = [(5, 9), (7, 4), (3, 6)]
    wide, high, small = (np.full((*size, 3), level, np.uint8) for level, size in enumerate(sizes, 1))
    expected = np.full((7 + 2 + 3, 9 + 2 + 4, 3), 255, np.uint8)
    expected[:5, :9], expected[:7, 11:], expected[9:, :6] = 1, 2, 3
    assert apart(grid([[wide, high], [small]], gap=2), expected) == 0


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "sub/folder/x.png"])
@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7)])
def test_what_is_written_is_read_back(random, tmp_path, name, shape):
    picture = random.integers(0, 256, shape, np.uint8)
    write_picture(tmp_path / name, picture)
    assert apart(read_picture(tmp_path / name, grey=True), picture) == 0
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["file/x.png", "file/sub/x.png", "taken.png"])
def test_what_cannot_be_written_is_said_and_nothing_temporary_is_left(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}/{name.partition('/')[0]}"):
        write_picture(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    assert files(tmp_path) == ["file", "taken.png"]


def test_a_write_that_fails_half_way_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and files(tmp_path) == ["x.txt"]


def test_of_two_processes_that_write_one_file_each_leaves_it_whole(tmp_path):
    path = tmp_path / "x.txt"
    other = f"from utils import write_text; write_text({str(path)!r}, 'theirs')"
    with atomic_write(path) as temporary:
        temporary.write_text("ours")
        subprocess.run([sys.executable, "-c", other], cwd=ROOT, check=True)
        assert path.read_text() == "theirs"
    assert path.read_text() == "ours" and files(tmp_path) == ["x.txt"]


def test_what_a_killed_process_left_half_written_is_deleted_by_the_next(tmp_path):
    path = tmp_path / "x.txt"
    killed = f"""if True:
        import os, utils
        with utils.atomic_write({str(path)!r}) as temporary:
            temporary.touch()
            os.kill(os.getpid(), 9)"""
    assert subprocess.run([sys.executable, "-c", killed], cwd=ROOT).returncode == -9
    assert len(files(tmp_path)) == 1
    path.with_name(".mine").touch()
    with atomic_write(path) as temporary:
        temporary.touch()
    assert files(tmp_path) == [".mine", "x.txt"]
