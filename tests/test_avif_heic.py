"""AVIF and HEIC: read upright with their colours, alpha, bits and metadata; results are PNG."""

import numpy as np
import pytest
from PIL import Image
from test_photos import ALPHA, CLEAR, DEEP, DURATIONS, RGB, TURNS, composed, durations, metadata, pixels, through

from pictures import resize
from upscaling.paths import choose_targets, find_files
from upscaling.photo import reader as photo_reader
from upscaling.photo.reader import open_photo
from utils import UserError

pillow_heif = pytest.importorskip("pillow_heif")
# quality -1 and matrix 0, which is RGB, lose nothing; AVIF of Pillow has YCbCr alone
LOSSLESS = {"heic": {"quality": -1, "chroma": 444, "matrix_coefficients": 0}, "avif": {"quality": 100}}
LEVELS = {"heic": 0, "avif": 4}  # 8-bit YCbCr rounds blue by 2, and the encoder its coefficients
SMOOTH = Image.fromarray(np.dstack([resize(RGB[:5, :6], 5), resize(ALPHA[:5, :6], 5)]))


def save(image, path, **options):
    suffix = path.suffix[1:]
    image.save(path, subsampling="4:4:4", **LOSSLESS[suffix], **options)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_pixels_and_alpha_are_those_that_were_saved(tmp_path, suffix, mode):
    image = SMOOTH.convert(mode)
    save(image, tmp_path / f"x.{suffix}")
    photo = open_photo(tmp_path / f"x.{suffix}")
    assert photo.size == (30, 25) and photo.frames == 1 and photo.alpha == (mode == "RGBA") and not photo.sixteen_bits
    assert through(tmp_path / f"x.{suffix}", tmp_path / "out.png") == []
    found = Image.open(tmp_path / "out.png").mode
    assert found == ("RGB" if (suffix, mode) == ("avif", "L") else mode)  # Pillow reads a grey AVIF as RGB
    expected = np.asarray(image.convert(found)).astype(int)
    assert np.abs(pixels(tmp_path / "out.png") - expected).max() <= LEVELS[suffix]


@pytest.mark.parametrize("suffix", ["heic", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_upright_once(tmp_path, suffix, orientation):
    path, stored = tmp_path / f"x.{suffix}", SMOOTH.convert("RGB")
    save(stored, path, **metadata(orientation))
    turns = [None, 0, 3, 1, 5, 4, 6, 2]  # Image.Transpose of the orientations 1 to 8
    upright = stored if orientation == 1 else stored.transpose(turns[orientation - 1])
    assert open_photo(path).size == upright.size
    through(path, tmp_path / "out.png")
    assert np.abs(pixels(tmp_path / "out.png").astype(int) - np.asarray(upright)).max() <= LEVELS[suffix]
    assert Image.open(tmp_path / "out.png").getexif().get(0x112, 1) == 1


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_metadata_is_kept_but_what_the_size_changes(tmp_path, suffix):
    kept = metadata()
    save(SMOOTH, tmp_path / f"x.{suffix}", **kept)
    through(tmp_path / f"x.{suffix}", tmp_path / "out.png", 2)
    with Image.open(tmp_path / "out.png") as found:
        assert found.info["icc_profile"] == kept["icc_profile"] and found.info["xmp"] == kept["xmp"]
        exif = found.getexif()
        assert exif[0x10F] == "Maker" and exif[0x8298] == "Author"
        assert exif.get_ifd(0x8769) == {0x829A: 0.5, 0x9003: "2024:01:01 00:00:00"}
        assert exif.get_ifd(0x8825) == {1: "N", 2: (50.0, 30.0, 1.5)}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_ten_bits_of_a_heic_become_sixteen(tmp_path, channels):
    mode = {1: "I;16", 3: "RGB;16", 4: "RGBA;16"}[channels]
    picture = DEEP[..., :channels].copy()
    picture[0, 0], picture[0, 1] = 0, 65535
    pillow_heif.from_bytes(mode, (30, 20), picture.tobytes()).save(tmp_path / "x.heic", **LOSSLESS["heic"])
    photo = open_photo(tmp_path / "x.heic")
    (frame,) = photo
    assert photo.sixteen_bits and frame.picture.dtype == np.uint16
    ten_bits = (picture >> 6).astype(float)  # pillow-heif saves the upper ones
    assert (frame.picture == np.round(ten_bits / 1023 * 65535)).all()
    assert frame.picture.min() == 0 and frame.picture.max() == 65535


@pytest.mark.parametrize("pixel_format, said", [("yuv420p", False), ("yuv420p10le", True)])
def test_an_avif_of_more_than_eight_bits_is_said_to_come_back_with_eight(tmp_path, pixel_format, said):
    av = pytest.importorskip("av")
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("needs an AV1 encoder in PyAV; Pillow's writes 8 bits")
    with av.open(str(tmp_path / "x.avif"), "w", format="avif") as file:
        stream = file.add_stream("libsvtav1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 30000, np.uint16), format="rgb48le")
        file.mux([*stream.encode(frame.reformat(format=pixel_format)), *stream.encode()])
    line = f"{tmp_path}/out.png: 8 bits per channel now; {tmp_path}/x.avif has more"
    assert through(tmp_path / "x.avif", tmp_path / "out.png") == [line] * said
    assert pixels(tmp_path / "out.png").dtype == np.uint8


def test_a_heic_whose_bits_are_lost_is_said_so(tmp_path):
    premultiplied = DEEP // 2
    premultiplied[..., 3] = 65535
    image = pillow_heif.from_bytes("RGBa;16", (30, 20), premultiplied.tobytes())
    image.save(tmp_path / "x.heic", **LOSSLESS["heic"])
    (line,) = through(tmp_path / "x.heic", tmp_path / "out.png")
    assert line == f"{tmp_path}/out.png: 8 bits per channel now; {tmp_path}/x.heic has more"


def test_an_animated_avif_becomes_an_animated_png(tmp_path):
    frames = [frame.convert("RGB") for frame in TURNS]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], duration=DURATIONS, quality=100)
    through(tmp_path / "a.avif", tmp_path / "out.png")
    assert durations(tmp_path / "out.png") == DURATIONS and Image.open(tmp_path / "out.png").info["loop"] == 0
    for found, expected in zip(composed(tmp_path / "out.png"), composed(tmp_path / "a.avif"), strict=True):
        assert (found == expected).all()


def test_of_several_pictures_in_a_heic_the_primary_one_is_read(tmp_path):
    other = SMOOTH.convert("RGB")
    save(CLEAR.convert("RGB"), tmp_path / "x.heic", save_all=True, append_images=[other], primary_index=1)
    assert open_photo(tmp_path / "x.heic").size == (30, 25)
    through(tmp_path / "x.heic", tmp_path / "out.png")
    assert (pixels(tmp_path / "out.png") == np.asarray(other)).all()


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_a_damaged_file_is_one_line(tmp_path, capfd, suffix, share):
    save(CLEAR.resize((64, 64)), tmp_path / f"whole.{suffix}")
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError) as refused:
        through(path, tmp_path / "out.png")
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
    assert not (tmp_path / "out.png").exists() and not any(capfd.readouterr())


def test_without_pillow_heif_it_says_what_to_install(tmp_path, monkeypatch):
    save(CLEAR, tmp_path / "x.heic")
    monkeypatch.setattr(photo_reader, "HEIC_IS_READ", False)
    with pytest.raises(UserError, match=r"x.heic: HEIC needs pillow-heif; pip install"):
        open_photo(tmp_path / "x.heic")


def test_results_are_png_unless_another_format_is_asked_for(tmp_path):
    for name in ("a.heic", "b.AVIF", "c.hif", "d.jpg"):
        (tmp_path / name).touch()
    for chosen, names in ((None, ["a.png", "b.png", "c.png", "d.jpg"]), ("webp", [f"{n}.webp" for n in "abcd"])):
        targets = choose_targets(find_files([str(tmp_path)]), tmp_path / "out", photo_format=chosen)
        assert [target.name for target in targets.values()] == names


def test_what_is_too_large_is_refused_before_it_is_decoded(tmp_path):
    for suffix in ("heic", "avif"):
        save(CLEAR, tmp_path / f"x.{suffix}")
        with pytest.raises(UserError, match="megapixels"):
            open_photo(tmp_path / f"x.{suffix}", limit=599)
