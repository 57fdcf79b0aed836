"""Training pictures: LR and HR crops fit each other, and what an update sees depends on (seed, update) alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import OVERHEAD_BYTES, Crops, Pictures, by_stem
from pictures import read_picture, resize, write_picture
from utils import UserError

HR_FILES = sorted((Path(__file__).parents[1] / "data/benchmark/Set5/HR").glob("*.png"))
PLENTY = 1e9


@pytest.fixture(scope="module")
def pictures():
    return Pictures(HR_FILES, scale=4, crop=96, memory=PLENTY)


@pytest.fixture
def map_of_places(tmp_path):
    """A picture that says in red and green which row and column a pixel is from, 3 levels a pixel."""
    rows, columns = np.indices((48, 64)) * 3
    write_picture(tmp_path / "map.png", np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8))
    return tmp_path / "map.png"


def batches_equal(a, b):
    return all(np.array_equal(*pair) for pair in zip(a, b, strict=True))


# Alignment


def apart(lr, hr, scale):
    """Largest difference of an LR crop and its HR crop reduced, inside, where both saw the same neighbours.

    resize() rounds after each axis, and a quarter turn swaps the axes: the better of both orders counts.
    """
    orders = resize(hr, 1 / scale), resize(hr.swapaxes(0, 1), 1 / scale).swapaxes(0, 1)
    return min(np.abs((reduced.astype(int) - lr)[4:-4, 4:-4]).max() for reduced in orders)


def test_an_lr_crop_is_its_hr_crop_reduced_under_every_flip_and_turn(pictures):
    crops = Crops(pictures, batch_size=5, seed=0, first=0, last=40)
    for index in range(len(crops)):
        lrs, hrs = crops[index]
        assert (lrs.dtype, lrs.shape, hrs.dtype, hrs.shape) == (np.uint8, (5, 24, 24, 3), np.uint8, (5, 96, 96, 3))
        for lr, hr in zip(lrs, hrs):
            assert apart(lr, hr, 4) <= 1


@pytest.mark.parametrize("name", ["map.jpg", "mapx4.png"])
def test_lr_pictures_of_ones_own_stay_aligned(tmp_path, map_of_places, name):
    # Each LR pixel says which row and column of HR its 4x4 pixels begin in, so it is the least of theirs.
    rows, columns = np.indices((12, 16)) * 12
    write_picture(tmp_path / "own.png", np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8))
    (tmp_path / "own.png").rename(tmp_path / name)
    lr_paths = {Path(name).stem: tmp_path / name}
    pictures = Pictures([map_of_places], scale=4, crop=32, memory=PLENTY, lr_paths=lr_paths)
    for lr, hr in zip(*Crops(pictures, batch_size=16, seed=0, first=0, last=1)[0]):
        np.testing.assert_array_equal(lr, hr.reshape(8, 4, 8, 4, 3).min(axis=(1, 3)))


def test_two_lr_pictures_of_one_name_are_refused(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write_picture(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="has the same name"):
        by_stem(tmp_path)


def test_hr_without_an_lr_picture_of_its_size_is_left_out(tmp_path):
    lr = {HR_FILES[0].stem: HR_FILES[1], HR_FILES[2].stem: tmp_path / "lr.png"}
    write_picture(tmp_path / "lr.png", resize(read_picture(HR_FILES[2]), 1 / 4))
    pictures = Pictures(HR_FILES[:3], scale=4, crop=32, memory=PLENTY, lr_paths=lr)
    assert (len(pictures), pictures.usable) == (3, 1)
    missing, wrong = sorted(pictures.skipped, key=lambda line: "is not 1/4 of" in line)
    assert "there is no LR picture img_002.*" in missing and str(HR_FILES[1]) in wrong and str(HR_FILES[0]) in wrong


@pytest.mark.parametrize("scale", [2, 8])
def test_crops_fit_each_other_at_other_scales(scale):
    pictures = Pictures(HR_FILES[1:2], scale, crop=128, memory=PLENTY)
    for lr, hr in zip(*Crops(pictures, batch_size=8, seed=0, first=0, last=1)[0]):
        assert apart(lr, hr, scale) <= 1


def corners(hr):
    """Row and column of three corners of a crop of the map of places: they tell place and turn."""
    return [tuple((hr[y, x, :2] // 3).tolist()) for y, x in ((0, 0), (0, -1), (-1, 0))]


def test_all_eight_turns_and_all_places_occur_equally_often(map_of_places):
    pictures = Pictures([map_of_places], scale=4, crop=32, memory=PLENTY)
    drawn = 4000
    seen = [corners(hr) for hr in Crops(pictures, batch_size=drawn, seed=0, first=0, last=1)[0][1]]
    tops_lefts = [tuple(np.minimum.reduce(corner + [opposite(corner)]).tolist()) for corner in seen]
    turns = [tuple(np.sign(np.subtract(c[1], c[0])).tolist() + np.sign(np.subtract(c[2], c[0])).tolist()) for c in seen]
    places = {(4 * y, 4 * x) for y in range(5) for x in range(9)}  # (48 - 32) / 4 + 1 and (64 - 32) / 4 + 1
    assert set(tops_lefts) == places
    for values, kinds in ((turns, 8), (tops_lefts, len(places))):
        counts = np.unique(values, axis=0, return_counts=True)[1]
        expected = drawn / kinds
        assert len(counts) == kinds
        assert np.abs(counts - expected).max() < 5 * expected**0.5  # five standard deviations


def opposite(corner):
    first, along, down = corner
    return tuple(np.add(along, down) - first)


# Order


def test_an_update_sees_the_same_crops_wherever_the_run_began_and_others_see_others(pictures):
    whole, resumed = (Crops(pictures, batch_size=3, seed=5, first=first, last=10) for first in (0, 7))
    assert (len(whole), len(resumed)) == (10, 3)
    for update in (7, 8, 9):
        assert batches_equal(whole[update], resumed[update - 7])
    other = Crops(pictures, batch_size=3, seed=6, first=0, last=10)
    assert not any(batches_equal(*pair) for pair in ((whole[0], whole[1]), (whole[0], other[0]), (whole[1], other[0])))


def test_without_memory_for_pictures_the_crops_are_the_same(pictures):
    one = sum(array.nbytes for array in pictures[0]) + OVERHEAD_BYTES * (1 + len(HR_FILES))
    for memory in (0, one):
        decoded_on_demand = Pictures(HR_FILES, scale=4, crop=96, memory=memory)
        assert sum(pair is not None for pair in decoded_on_demand.pairs) == (memory > 0)
        for update in range(3):
            few, many = (Crops(p, 4, seed=0, first=0, last=3)[update] for p in (decoded_on_demand, pictures))
            assert batches_equal(few, many)


def coloured(folder, colours, side=32):
    """Pictures of one colour each: a crop tells which picture it is from."""
    for n, level in enumerate(colours):
        write_picture(folder / f"{n:02}.png", np.full((side, side, 3), level, np.uint8))
    return sorted(folder.glob("*.png"))


def test_a_batch_comes_from_distinct_pictures_where_there_are_enough(tmp_path):
    pictures = Pictures(coloured(tmp_path, range(0, 250, 50)), scale=4, crop=32, memory=PLENTY)
    for lrs, _ in map(Crops(pictures, batch_size=5, seed=0, first=0, last=9).__getitem__, range(9)):
        assert len(set(lrs[:, 0, 0, 0].tolist())) == 5


def test_a_batch_larger_than_the_number_of_pictures_repeats_them(tmp_path):
    pictures = Pictures(coloured(tmp_path, (10, 200)), scale=4, crop=32, memory=PLENTY)
    lrs, hrs = Crops(pictures, batch_size=32, seed=0, first=0, last=1)[0]
    assert len(lrs) == len(hrs) == 32
    assert set(hrs[:, 0, 0, 0].tolist()) == {10, 200}


def test_pictures_are_drawn_as_often_as_they_are_large(tmp_path):
    write_picture(tmp_path / "large.png", np.full((96, 96, 3), 200, np.uint8))
    write_picture(tmp_path / "small.png", np.full((32, 96, 3), 10, np.uint8))
    pictures = Pictures(sorted(tmp_path.glob("*.png")), scale=4, crop=32, memory=PLENTY)
    drawn = 4000
    hrs = Crops(pictures, batch_size=drawn, seed=0, first=0, last=1)[0][1]
    share, deviation = np.mean(hrs[:, 0, 0, 0] == 200), (0.75 * 0.25 / drawn) ** 0.5
    assert abs(share - 0.75) < 5 * deviation


def test_sides_that_the_scale_does_not_divide_are_cut(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (39, 50, 3), np.uint8)).save(tmp_path / "odd.png")
    lr, hr = Pictures([tmp_path / "odd.png"], scale=4, crop=32, memory=PLENTY)[0]
    assert (lr.shape, hr.shape) == ((9, 12, 3), (36, 48, 3))
