"""The filters: exact on what a closed form gives, turned as their input is, and as good as published."""

from pathlib import Path

import numpy as np
import pytest

import upscale
from evaluation.metrics import luma, psnr
from methods.filters import FILTERS, back_projected, enlarged, enlarged_batch
from pictures import cut_to_multiple, read_picture, resize, turned, turned_back
from upscale import load

ROOT = Path(__file__).parents[1]
SET5 = sorted((ROOT / "data/benchmark/Set5/HR").glob("*.png"))


def set5_psnr(**options):
    values = []
    for path in SET5:
        hr = cut_to_multiple(read_picture(path), 4)
        values.append(psnr(luma(enlarged(resize(hr, 1 / 4), 4, **options)), luma(hr), 4))
    return np.mean(values)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ["bicubic", "nedi"])  # Lanczos gives no straight ramp
def test_a_ramp_stays_where_it_is(name, scale):
    """A shift by a pixel of the result would be 1 / scale here."""
    down, right = np.indices((40, 44)) / 100
    wanted_down, wanted_right = ((np.indices((40 * scale, 44 * scale)) + 0.5) / scale - 0.5) / 100
    sr = FILTERS[name](np.stack([down, right, down + 2 * right], -1), scale)
    inner = slice(16 * scale, -16 * scale)  # at its border a picture is continued by its edge, not by the ramp
    wanted = np.stack([wanted_down, wanted_right, wanted_down + 2 * wanted_right], -1)
    assert 100 * np.abs(sr - wanted)[inner, inner].max() < 1e-9


@pytest.mark.parametrize("turn", range(1, 8))
def test_nedi_turns_with_its_picture(turn):
    lr = np.random.default_rng(0).random((9, 13, 3))
    assert np.allclose(turned_back(FILTERS["nedi"](turned(lr, turn), 4), turn), FILTERS["nedi"](lr, 4))


def test_nedi_is_sharper_than_bicubic_along_an_edge():
    down, right = np.indices((160, 160))
    hr = (2 * down + right > 240).astype(float)[..., None]
    lr = resize(hr, 1 / 4)
    rough = [np.abs(FILTERS[name](lr, 4) - hr)[40:-40, 40:-40].mean() for name in ("nedi", "bicubic")]
    assert rough[0] < rough[1]


def test_nedi_on_set5():
    """Another implementation has 27.94 dB; shifted by a pixel and a half it had 24.66."""
    assert set5_psnr(name="nedi") == pytest.approx(27.94, abs=0.1)


def test_back_projection_leaves_nothing_to_correct():
    lr = np.random.default_rng(0).random((12, 10, 3))
    sr = resize(lr, 4)
    apart = [np.abs(resize(back_projected(sr, lr, times), 1 / 4) - lr).max() for times in (0, 1, 40)]
    assert apart[0] > 0.05 and apart[1] < 0.7 * apart[0] and apart[2] < 1e-5


def test_back_projection_on_set5():
    """Another implementation has 29.21 dB."""
    assert set5_psnr(name="bicubic", back_projections=5) == pytest.approx(29.21, abs=0.05)


@pytest.mark.parametrize("name", FILTERS)
def test_grey_and_colour_bytes_and_batches_agree(name):
    lr = np.random.default_rng(0).integers(80, 176, (14, 11, 3), np.uint8)  # no overshoot is clipped
    sr = enlarged(lr, 4, name)
    assert sr.dtype == np.uint8 and sr.shape == (56, 44, 3)
    batch = enlarged_batch(lr[None] / 127.5 - 1, 4, name)[0]
    # MATLAB's kernels are rounded after each axis, batches never
    assert np.abs((batch + 1) * 127.5 - sr).max() <= 1.2
    grey = lr[..., 0]
    assert np.array_equal(enlarged(grey, 4, name), enlarged(np.dstack([grey] * 3), 4, name)[..., 0])


@pytest.mark.parametrize("options", [{}, {"back_projections": 3}])
@pytest.mark.parametrize("name", ["bicubic", "nedi"])
def test_tiles_leave_no_seams(name, options):
    lr = read_picture(ROOT / "data/benchmark/Set5/LRx4/img_005.png")
    whole, tiled = (load(name, tile=tile, **options)(lr).astype(int) for tile in (200, 48))
    assert np.abs(whole - tiled).max() <= 1
    wanted = 255 * back_projected(FILTERS[name](lr / 255, 4), lr / 255, options.get("back_projections", 0))
    assert np.abs(whole - wanted.clip(0, 255))[32:-32, 32:-32].max() <= 1


def test_upscale_py_takes_a_filter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = ROOT / "data/benchmark/Set5/LRx4/img_005.png"
    command = [str(source), "-o", str(tmp_path / "sr.png"), "--model=nedi", "--back-project=2"]
    for _ in range(2):  # the second time it is there already
        assert upscale.main(upscale.command_line(command)) == 0
    wanted = enlarged(read_picture(source), 4, "nedi", back_projections=2)
    assert np.abs(read_picture("sr.png").astype(float) - wanted).mean() < 0.2
