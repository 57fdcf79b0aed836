"""Tiles leave no trace, on real pictures and with the shipped weights."""

from pathlib import Path

import numpy as np
import pytest

from model import SRGAN_g
from pictures import cut_out, read_picture
from srgan import super_resolve
from tiles import by_tiles, smallest_size, windows

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("length", [1, 19, 20, 21, 47, 99, 100, 1234])
@pytest.mark.parametrize("border", [0, 3, 4])
def test_windows_have_one_size_and_see_beyond_their_cores(length, border, size=20, halo=4):
    found = windows(length, size, halo, border)
    assert [first for _, first, _ in found] == [0, *(last for _, _, last in found[:-1])] and found[-1][2] == length
    for start, first, last in found:
        stop = start + min(size, length + 2 * border)
        assert first < last and -border <= start <= first and last <= stop <= length + border
        assert start == -border or first - start >= halo
        assert stop == length + border or stop - last >= halo


@pytest.mark.numerical
@pytest.mark.parametrize("tile", [21, 33, 57])
def test_the_widest_halo_gives_the_whole_picture_whatever_the_weights(tile):
    generator = SRGAN_g(blocks=1, filters=8)  # reaches 4 + 2 + 1 + 1 + 1/2 + 1 pixels
    lr = read_picture(ROOT / "data/benchmark/Set5/LRx4/img_005.png")  # 86x57
    whole, tiled = super_resolve(generator, lr), super_resolve(generator, lr, tile=tile, halo=10, batch=3)
    assert whole.std() > 1
    assert np.abs(whole.astype(int) - tiled).max() <= 1  # a value close to the half of a level


@pytest.mark.parametrize("length", [1, 19, 20, 21, 47, 99, 100, 1234])
@pytest.mark.parametrize("border", [0, 4])
def test_the_smallest_size_needs_as_many_windows_and_no_smaller_one_does(length, border, size=20, halo=4):
    count = len(windows(length, size, halo, border))
    smallest = smallest_size(length, size, halo, border)
    assert smallest <= size and len(windows(length, smallest, halo, border)) == count
    assert smallest - 1 <= 2 * halo or len(windows(length, smallest - 1, halo, border)) > count
    assert smallest_size(1000, 512, 16) == 355


@pytest.mark.parametrize("tile", [34, 200, (47, 34)])
def test_a_border_is_what_a_network_with_mirrored_padding_gives(tile):
    generator = SRGAN_g(blocks=1, filters=8)
    lr = read_picture(ROOT / "data/benchmark/Set5/LRx4/img_005.png")[:40, :50] / np.float32(127.5) - 1
    padded = np.pad(lr, ((8, 8), (8, 8), (0, 0)), "symmetric")
    expected = generator.predict_on_batch(padded[None])[0, 32:-32, 32:-32]
    found = np.concatenate(list(by_tiles(generator.predict_on_batch, lr, tile, halo=10, batch=2, border=8)))
    assert found.shape == (160, 200, 3) and np.abs(found - expected).max() < 1e-5
    without = np.concatenate(list(by_tiles(generator.predict_on_batch, lr, tile, halo=10, batch=2)))
    assert np.abs(without - expected).max() > 1e-3  # so it does make a difference


@pytest.mark.parametrize("height, width", [(1, 1), (2, 3), (5, 40)])
def test_even_a_picture_smaller_than_the_border_is_mirrored(height, width):
    lr = np.random.default_rng(0).random((height, width, 3))
    seen = cut_out(lr, -8, -8, height + 16, width + 16)
    assert np.array_equal(seen, np.pad(lr, ((8, 8), (8, 8), (0, 0)), "symmetric"))


def test_a_tile_within_its_halo_is_refused():
    with pytest.raises(ValueError, match="tile=80"):
        next(by_tiles(None, np.zeros((9, 9, 3)), tile=80))
