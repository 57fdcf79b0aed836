"""Degradations: each step does what its numbers say, and a crop's depends on seed, update and position alone."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import degradation
from dataset import Crops, Pictures, validation_sets
from evaluation.metrics import luma
from pictures import read_picture

HR_FILES = sorted((Path(__file__).parents[1] / "data/benchmark/Set5/HR").glob("*.png"))


@pytest.fixture(scope="module")
def pictures():
    return Pictures(HR_FILES, scale=4, crop=96, memory=1e9)


@pytest.fixture(scope="module")
def face():
    return read_picture(HR_FILES[-1])


# Blur, noise and sharpening


@pytest.mark.parametrize("shorter, angle", [(None, 0), (1.0, 0.5), (1.0, 2.0)])
def test_blur_spreads_a_point_as_far_as_its_standard_deviations_say(shorter, angle):
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 1
    blurred = degradation.blur(point, 2.0, shorter, angle)[..., 0].astype(float)
    y, x = np.mgrid[-20:21, -20:21]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    # A kernel that ends at three standard deviations has lost 3 % of its variance.
    assert (blurred * along**2).sum() == pytest.approx(4, rel=0.05)
    assert (blurred * across**2).sum() == pytest.approx((shorter or 2.0) ** 2, rel=0.05)
    assert (blurred * along * across).sum() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("level", [0, 20, 100, 220])
@pytest.mark.parametrize("coloured", [True, False])
@pytest.mark.parametrize("grain", [0.0, 0.7])
def test_the_variance_of_noise_is_that_of_a_sensor(level, coloured, grain):
    flat = np.full((400, 400, 3), level, np.float32)
    noise = degradation.noise(flat, np.random.default_rng(0), 0.2, 3.0, coloured, grain) - level
    assert noise.std() ** 2 == pytest.approx(0.2 * level + 9, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.1)
    between_channels = np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]
    assert between_channels == pytest.approx(0 if coloured else 1, abs=0.02)
    between_neighbours = np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]
    # The correlation of white noise blurred by a Gaussian, at a distance of one pixel: exp(-1 / (4 * 0.7^2)).
    assert between_neighbours == pytest.approx(0.6 if grain else 0, abs=0.02)


def test_sharpening_leaves_flat_areas_and_overshoots_at_edges():
    edge = np.where(np.arange(40)[None, :, None] < 20, 50, 150) * np.ones((40, 1, 3), np.float32)
    sharpened = degradation.sharpen(edge, 0.5, 1.0)
    assert np.allclose(sharpened[:, [0, -1]], edge[:, [0, -1]])
    assert np.allclose(sharpened.mean(), edge.mean(), atol=0.01)
    assert sharpened.min() < 40 and sharpened.max() > 160
    assert np.allclose(degradation.sharpen(edge, 0.0, 1.0), edge)


# Resampling and JPEG


@pytest.mark.parametrize("factor", [0.6, 0.75, 1.0, 1.6])
@pytest.mark.parametrize("there", degradation.FILTERS)
@pytest.mark.parametrize("back", degradation.FILTERS)
def test_resampling_moves_nothing(factor, there, back):
    y, x = np.mgrid[:61, :45]
    spot = 200 * np.exp(-((y - 30) ** 2 + (x - 22) ** 2) / 50)[..., None] * np.ones(3)
    resampled = degradation.resample(spot, factor, there, back)
    assert resampled.shape == spot.shape
    assert ndimage.center_of_mass(resampled[..., 0]) == pytest.approx((30, 22), abs=0.1)


def blocks_begin_at(picture):
    """The column modulo 8 across which neighbours differ most."""
    steps = np.abs(np.diff(luma(picture).astype(float), axis=1)).mean(axis=0)  # (w - 1,)
    steps = steps[: len(steps) // 8 * 8].reshape(-1, 8).mean(axis=0)
    return (int(steps.argmax()) + 1) % 8


@pytest.mark.parametrize("left", range(8))
def test_jpegs_blocks_begin_where_the_phase_says(face, left):
    coarse = degradation.to_uint8(degradation.jpeg(face, 5, True, (3, left)))
    assert coarse.shape == face.shape
    assert blocks_begin_at(coarse) == (8 - left) % 8


def test_halved_chroma_blurs_stripes_of_colour():
    red, green = (200, 60, 60), (60, 135, 60)  # of nearly the same luma
    stripes = np.array([red, green] * 16, np.float32)[None] * np.ones((32, 1, 1), np.float32)  # (32, 32, 3)
    whole, halved = (degradation.jpeg(stripes, 95, chroma_halved)[..., 0] for chroma_halved in (False, True))
    assert np.abs(np.diff(whole, axis=1)).mean() > 120 and np.abs(np.diff(halved, axis=1)).mean() < 20


# All together


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 9, 3), (40, 17, 3)])
def test_any_size_is_kept_and_the_input_untouched(shape):
    lr = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    before = lr.copy()
    for seed in range(40):
        photo = degradation.photo(lr, np.random.default_rng(seed))
        assert (photo.shape, photo.dtype) == (shape, np.uint8)
    assert np.array_equal(lr, before)


def test_as_many_pictures_stay_clean_as_the_table_says(face):
    lr = face[100:140, 100:140]
    clean = sum(np.array_equal(degradation.photo(lr, np.random.default_rng(seed)), lr) for seed in range(1000))
    # Three standard deviations of a binomial distribution; a few more have drawn no step at all.
    p = degradation.CHANCES["clean"]
    assert -34 <= clean - 1000 * p <= 34 + 1000 * 0.85 * 0.4 * 0.4 * 0.75 * 0.15 * 0.7


def test_degraded_crops_fit_their_hr_and_do_not_depend_on_where_the_run_began(pictures):
    clean = Crops(pictures, 8, seed=3, first=0, last=6)
    photo = Crops(pictures, 8, seed=3, first=0, last=6, photo=True)
    resumed = Crops(pictures, 8, seed=3, first=4, last=6, photo=True)
    other = Crops(pictures, 8, seed=4, first=0, last=6, photo=True)
    for (lrs, hrs), (clean_lrs, clean_hrs) in zip(photo, clean):
        assert np.array_equal(hrs, clean_hrs)
        # However degraded, a crop is nearer to its own LR than to another's.
        distances = np.abs(lrs[:, None].astype(float) - clean_lrs[None]).mean(axis=(2, 3, 4))  # (8, 8)
        assert np.array_equal(distances.argmin(axis=1), np.arange(8))
    assert all(np.array_equal(a, b) for a, b in zip(photo[5], resumed[1]))
    assert not np.array_equal(photo[5][0], other[5][0])


def test_a_part_of_a_batch_is_degraded_as_in_the_whole_batch(pictures):
    whole = Crops(pictures, 8, seed=0, first=2, last=3, photo=True)[0]
    half = Crops(pictures, 8, seed=0, first=2, last=3, photo=True, share=(1, 2))[0]
    assert all(np.array_equal(a[4:], b) for a, b in zip(whole, half))


def test_validation_is_degraded_in_the_same_way_each_time(face):
    pairs = [(face[:64, :64], face)] * 3
    first, again = (validation_sets(pairs, photo=True)["_photo"] for _ in range(2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again))
    assert not np.array_equal(first[0][0], first[1][0])
    assert list(validation_sets(pairs, photo=False)) == [""]
