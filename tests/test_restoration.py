"""What a file and its pixels tell of compression and noise: against files whose quality and errors are known."""

import io
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import degradation
import restoration
from pictures import find_pictures, read_picture, resize

ROOT = Path(__file__).parents[1]

# Half as large as the originals, some of which are JPEGs, and larger than the set's LR pictures
HALVES = [resize(read_picture(path), 0.5) for path in find_pictures(ROOT / "data/benchmark/Set14/HR")]


def as_jpeg(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **options)
    return Image.open(file)


def through_jpeg(quality):
    """JPEG, of which a screenshot shows a part."""
    return lambda lr, random: np.asarray(as_jpeg(lr, quality=quality))[5:, 2:]


def through_codec(kind, quality):
    def compressed(lr, random):
        file = io.BytesIO()
        Image.fromarray(lr).save(file, kind, quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))

    return compressed


def with_noise(lr, random):
    return degradation.to_uint8(degradation.noise(lr.astype(np.float32), random, 0.05, 3.0, grain=0.5))


def of_a_larger_jpeg(lr, random):
    """As a web site makes a picture smaller."""
    large = as_jpeg(np.asarray(Image.fromarray(lr).resize([length * 3 // 2 for length in lr.shape[1::-1]])), quality=50)
    return np.asarray(large.resize(lr.shape[1::-1]))


@pytest.mark.parametrize("quality", [30, 50, 71, 85, 95])
def test_quality_is_libjpegs(quality):
    tables = as_jpeg(HALVES[0], quality=quality).quantization
    assert restoration.jpeg_quality(tables) == pytest.approx(quality, abs=0.6)


def test_quality_of_a_cameras_own_table():
    """Steps that grow with frequency in another way, as large in the mean as those of quality 75."""
    steps = np.add.outer(range(8), range(8)).ravel() + 1.0
    steps *= restoration.luma_table(75).sum() / steps.sum()
    assert 70 < restoration.jpeg_quality({0: list(steps.round())}) < 80


def test_clean_pictures_need_nothing():
    """No LR picture; of the halves, those whose originals are JPEGs may."""
    paths = [path for name in ("Set5", "Set14") for path in find_pictures(ROOT / "data/benchmark" / name / "LRx4")]
    assert not any(restoration.needed(read_picture(path))[0] for path in paths)
    assert np.median([restoration.needed(picture)[0] for picture in HALVES]) == 0


# The estimate says how far a picture is from what it was, whatever has happened to it.
@pytest.mark.parametrize(
    ("least", "degrade"),
    [
        (0.5, through_jpeg(85)),
        (0.75, through_jpeg(60)),
        (0.75, through_codec("WEBP", 50)),
        (0.75, through_codec("AVIF", 50)),
        (0.5, with_noise),
        (0.5, of_a_larger_jpeg),
    ],
    ids="jpeg85 jpeg60 webp avif noise larger".split(),
)
def test_artefacts_are_measured_whatever_made_them(least, degrade):
    random, ratios, restored = np.random.default_rng(0), [], []
    for lr in HALVES:
        picture = degrade(lr, random)
        height, width = picture.shape[:2]
        errors = (picture - lr[-height:, -width:].astype(np.float32)) @ restoration.TO_YCBCR[:, 0]
        ratios.append(restoration.artefacts(restoration.middle(picture)) / np.sqrt(np.mean(errors**2)))
        restored.append(restoration.needed(picture)[0])
    assert 0.6 < np.median(ratios) < 1.6 and np.median(restored) >= least


def test_kinds_of_pictures():
    """Grey, alpha, 16 bits, flat and tiny ones."""
    grey = resize(HALVES[1], 0.5)[..., :1]
    for picture in (grey, np.dstack([grey, grey]), np.dstack([grey] * 4), grey.astype(np.uint16) * 257, grey[:3, :3]):
        assert restoration.needed(picture)[0] == 0
    for level in (0, 128, 255):
        assert restoration.needed(np.full((100, 100, 3), level, np.uint8))[0] == 0


@pytest.fixture
def artefacts(monkeypatch):
    """python -m training.artefacts; the exit status."""
    pytest.importorskip("av")

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["artefacts.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("training.artefacts", run_name="__main__")
        return ended.value.code

    return command


def test_the_estimate_is_trained_by_a_command(artefacts, tmp_path, monkeypatch):
    """On a few pictures, it tells JPEGs from clean ones among those that it has seen."""
    for number, path in enumerate(find_pictures(ROOT / "data/benchmark/Set14/HR")[:3]):
        (tmp_path / f"{number}.png").symlink_to(path)
    assert artefacts(tmp_path, tmp_path / "a.npz", "--draws", 20) == 0
    monkeypatch.setattr(restoration, "NETWORK", tmp_path / "a.npz")
    restoration.layers.cache_clear()
    try:
        levels = [restoration.artefacts(np.asarray(picture)) for picture in (HALVES[1], as_jpeg(HALVES[1], quality=40))]
    finally:
        restoration.layers.cache_clear()
    assert levels[0] < levels[1]


def test_pictures_too_small_to_train_the_estimate_are_one_line(artefacts, tmp_path, capsys):
    Image.new("RGB", (60, 90)).save(tmp_path / "small.png")
    before = b"the estimate of before"
    (tmp_path / "a.npz").write_bytes(before)
    assert artefacts(tmp_path, tmp_path / "a.npz") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"artefacts.py: {tmp_path}: no picture is as large as 64x64"
    assert (tmp_path / "a.npz").read_bytes() == before
