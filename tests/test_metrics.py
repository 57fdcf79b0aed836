"""PSNR and SSIM against published tables, scikit-image and arithmetic by hand."""

import csv
import functools
from pathlib import Path

import numpy as np
import pytest
from thorough import often

from evaluation.metrics import colour_shift, luma, mesh, niqe, psnr, shaved, ssim, ssim_daala
from losses import feature_distance
from pictures import read_picture, resize

BENCHMARK = Path(__file__).parents[1] / "data/benchmark"

# Half a unit of the last printed digit, and 0.01 dB for what no table says: the MATLAB version (its imresize
# treats the border in two ways) and where luma was rounded.
DECIBEL = 0.005 + 0.01
# The same in SSIM: from nearest to bicubic, table 2 gains 0.0659 for 2.17 dB, so 0.015 dB are worth 0.0005.
# MATLAB's and daala's SSIM of one picture lie 0.01 and more apart.
SIMILARITY = 0.0005


@functools.cache
def mean_scores(benchmark, kernel):
    """Mean PSNR and both SSIMs of a benchmark whose LR pictures are enlarged by `kernel`."""
    scores = []
    for path in sorted((BENCHMARK / benchmark / "HR").iterdir()):
        hr = luma(read_picture(path, grey=True))
        sr = luma(resize(read_picture(BENCHMARK / benchmark / "LRx4" / path.name, grey=True), 4, kernel))
        scores.append([score(hr, sr, shave=4) for score in (psnr, ssim, ssim_daala)])
    return dict(zip(("PSNR", "MATLAB", "daala"), np.mean(scores, axis=0)))


PUBLISHED = [  # table 2 of Ledig et al. 2017, SSIM by daala; table 3 of Kim et al. 2016, scale 4, SSIM by MATLAB
    ("Set5", "bicubic", 28.43, "daala", 0.8211),
    ("Set5", "nearest", 26.26, "daala", 0.7552),
    ("Set14", "bicubic", 25.99, "daala", 0.7486),
    ("Set14", "nearest", 24.64, "daala", 0.7100),
    ("Set5", "bicubic", 28.42, "MATLAB", 0.8104),
    ("Set14", "bicubic", 26.00, "MATLAB", 0.7027),
]


@pytest.mark.parametrize("benchmark, kernel, decibel, kind, similarity", PUBLISHED)
def test_psnr_and_ssim_are_the_published_ones(benchmark, kernel, decibel, kind, similarity):
    scores = mean_scores(benchmark, kernel)
    assert scores["PSNR"] == pytest.approx(decibel, abs=DECIBEL)
    assert scores[kind] == pytest.approx(similarity, abs=SIMILARITY)


def test_psnr_by_hand():
    a, b = np.zeros((10, 20)), np.zeros((10, 20))
    b[4:6, 3] = 255  # two of 200 pixels entirely wrong: an error of 1/100, 20 dB
    assert psnr(a, b, 0) == pytest.approx(20)
    assert psnr(a, b, 3) == pytest.approx(10 * np.log10(4 * 14 / 2))
    assert psnr(a, b, 4) == float("inf")


def test_psnr_of_8_bit_pictures_does_not_wrap_around():
    dark, bright = np.full((8, 8), 10, np.uint8), np.full((8, 8), 30, np.uint8)
    assert psnr(dark, bright, 0) == psnr(bright, dark, 0) == pytest.approx(10 * np.log10(255**2 / 400))


def test_luma_is_matlabs_rgb2ycbcr():
    colours = {(255, 255, 255): 235, (0, 0, 0): 16, (255, 0, 0): 81, (0, 255, 0): 145, (0, 0, 255): 41}
    assert luma(np.array([list(colours)], np.uint8)).tolist() == [list(colours.values())]


@pytest.mark.parametrize("shave", [0, 4])
def test_ssim_is_that_of_scikit_image(shave):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    hr = luma(read_picture(BENCHMARK / "Set5/HR/img_005.png"))
    sr = luma(resize(read_picture(BENCHMARK / "Set5/LRx4/img_005.png"), 4))
    inner = tuple(slice(shave, length - shave) for length in hr.shape)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, whole = structural_similarity(hr[inner], sr[inner], full=True, **options)
    assert ssim(hr, sr, shave) == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-9)


def test_niqe_is_that_of_a_widely_used_implementation():
    """tests/niqe_hr.csv was computed with it on the HR pictures: Y, 4 pixels of border cut."""
    with open(Path(__file__).parent / "niqe_hr.csv") as table:
        for row in list(csv.DictReader(table))[:: often(4, 1)]:
            hr = read_picture(BENCHMARK / row["set"] / "HR" / row["image"])
            assert niqe(shaved(luma(hr), 4)) == pytest.approx(float(row["niqe"]), abs=0.02), row


def test_niqe_has_no_value_where_there_is_too_little_texture():
    for picture in (np.zeros((50, 50)), np.full((300, 300), 7), np.random.default_rng(0).integers(0, 255, (120, 120))):
        assert np.isnan(niqe(picture))


def test_feature_distance_by_hand(random=np.random.default_rng(0)):
    """Direction counts, length does not; each layer and each place counts the same."""
    a, b = (np.zeros((2, 2, 3, 4), np.float32) for _ in range(2))
    a[..., 0], b[..., 0] = 5, 0.1
    b[1, 0, :2] = [0, 7, 0, 0]  # at right angles in two of six places: a squared distance of 2 there
    rounding = 20 * 2**-24  # of a root, a quotient, a square and a few sums, in float32
    other = random.standard_normal((2, 5, 5, 8)).astype(np.float32)
    assert np.asarray(feature_distance([a, other], [b, 3 * other])) == pytest.approx([0, 2 * 2 / 6 / 2], abs=rounding)
    assert np.asarray(feature_distance([a], [-b[:1]])) == pytest.approx([4, 4], rel=rounding)


@pytest.mark.parametrize("period, scale", [(2, 2), (2, 4), (4, 4), (8, 8)])
def test_a_mesh_is_measured_in_levels_and_nothing_else_is(period, scale):
    """A pattern of +3 and -3 levels in turn has a standard deviation of 3; a shift has none, noise next to none."""
    random = np.random.default_rng(0)
    hr = random.integers(50, 200, (240, 320, 3)).astype(float)
    rows, columns = np.indices(hr.shape[:2])
    pattern = np.where((rows // (period // 2) + columns // (period // 2)) % 2, 3, -3)[..., None]
    assert mesh(hr + pattern, hr, scale) == pytest.approx(3)
    assert mesh(hr + 7, hr, scale) == pytest.approx(0)
    noisy = hr + random.normal(0, 3, hr.shape)
    standard_error = 3 / np.sqrt(hr[..., 0].size / scale**2)  # of the mean of a place in the cell
    assert mesh(noisy, hr, scale) < 3 * standard_error


def test_a_colour_shift_is_that_of_the_channel_that_moves_most():
    grey = np.full((8, 9, 3), 100, np.uint8)
    assert colour_shift(grey + np.array([1, 0, 4]), grey) == pytest.approx(4)
    assert colour_shift(grey[..., 0], grey[..., 0]) == 0
