"""What a file and its pixels tell of compression and noise: against files whose quality, grid and noise are known."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import degradation
import restoration
from pictures import find_pictures, read_picture, resize

ROOT = Path(__file__).parents[1]

# Larger than the set's LR pictures, which are too small to tell anything of
HALVES = [resize(read_picture(path), 0.5) for path in find_pictures(ROOT / "data/benchmark/Set14/HR")]
CLEAN = [picture for picture in HALVES if min(picture.shape[:2]) > 140]


def as_bands(picture):
    return picture if picture.ndim == 3 else picture[..., None]


def as_jpeg(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **options)
    return Image.open(file)


@pytest.mark.parametrize("quality", [30, 50, 71, 85, 95])
def test_quality_is_libjpegs(quality):
    tables = as_jpeg(CLEAN[0], quality=quality).quantization
    assert restoration.jpeg_quality(tables) == pytest.approx(quality, abs=0.6)


def test_quality_of_a_cameras_own_table():
    """Steps that grow with frequency in another way, as large in the mean as those of quality 75."""
    steps = np.add.outer(range(8), range(8)).ravel() + 1.0
    steps *= restoration.luma_table(75).sum() / steps.sum()
    assert 70 < restoration.jpeg_quality({0: list(steps.round())}) < 80


def test_clean_pictures_need_nothing():
    for number, picture in enumerate(map(as_bands, CLEAN)):
        assert restoration.needed(picture)[0] == 0, number


@pytest.mark.parametrize(("quality", "least"), [(85, 0.5), (60, 0.75)])
def test_screenshots_of_jpegs_are_noticed_wherever_their_grid_begins(quality, least):
    random = np.random.default_rng(0)
    for number, clean in enumerate(CLEAN):
        top, left = random.integers(8, size=2)
        picture = as_bands(np.asarray(as_jpeg(clean, quality=quality)))[top:, left:]
        assert restoration.needed(picture)[0] >= least, number


def test_noise_is_measured_where_a_picture_is_flat():
    """Within a third: blocks are chosen because they are flat, so that there is less noise than elsewhere."""
    random = np.random.default_rng(0)
    ramp = np.linspace(40, 200, 256)[:, None, None].repeat(256, 1).repeat(3, 2)
    for deviation in (1.0, 2.0, 5.0):
        noisy = degradation.to_uint8(degradation.noise(ramp, random, 0.0, deviation, coloured=False))
        assert restoration.noise(restoration.middle(noisy)) == pytest.approx(deviation, rel=1 / 3)


def test_kinds_of_pictures():
    """Grey, alpha, 16 bits and tiny ones."""
    grey = resize(CLEAN[0], 0.5)[..., :1]
    for picture in (grey, np.dstack([grey, grey]), np.dstack([grey] * 4), grey.astype(np.uint16) * 257, grey[:3, :3]):
        assert restoration.needed(picture)[0] == 0
