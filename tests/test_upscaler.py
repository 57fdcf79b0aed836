"""The Upscaler of arrays: every kind of array, tiles that leave no trace, progress, too little memory."""

import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from thorough import often

from pictures import read_picture, resize
from upscale import load
from upscaling.network import Network, load_network
from upscaling.upscaler import Upscaler
from utils import UserError
from weights import PRETRAINED

pytest.importorskip("openvino")
ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "checkpoints/pretrained").glob("*.weights.h5"))
PICTURE = ROOT / "data/benchmark/Set5/LRx4/img_005.png"  # 57 wide, 86 high
LEVELS = {np.uint8: 1, np.uint16: 257}  # dtype: a level of 8 bits
KINDS = {"uint8": 255, "uint16": 65535, "float32": 1, "float64": 1, "float16": 1}  # dtype: white


def repeated(picture, scale=2):
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def repeating(scale=2, **options):
    """An Upscaler whose network repeats pixels, so that what comes out is known."""
    return Upscaler(Network(lambda lr: lr.repeat(scale, axis=1).repeat(scale, axis=2), scale), **options)


def random_picture(shape, dtype, lowest=0.0):
    values = np.random.default_rng(0).uniform(lowest, 1, shape) * KINDS[dtype]
    return values.astype(dtype)


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
@pytest.mark.parametrize("dtype", KINDS)
def test_every_kind_of_array_comes_back_as_that_kind(dtype, channels):
    lr = random_picture((50, 70, *channels), dtype, lowest=0.1)  # alpha is nowhere 0, which would change the colour
    sr = repeating(tile=40)(lr)
    assert sr.dtype == lr.dtype and sr.shape == (100, 140, *channels)
    colours = sr.shape[-1] - 1 if channels in [(2,), (4,)] else None
    tolerance = {"float32": 2e-7, "float64": 2e-7, "float16": 1e-3}.get(dtype, 0)
    assert np.abs(sr.astype(float) - repeated(lr.astype(float)))[..., :colours].max() <= tolerance
    if colours:
        alpha = resize(lr[..., -1], 2).clip(0, KINDS[dtype])
        expected = alpha if lr.dtype.kind == "f" else alpha.round()
        assert np.abs(sr[..., -1] - expected).max() <= tolerance


@pytest.mark.parametrize("dtype", [">u2", ">f4"])
def test_the_order_of_bytes_does_not_matter(dtype):
    lr = random_picture((50, 70), np.dtype(dtype).newbyteorder("=").name)
    sr = repeating(tile=40)(lr.astype(dtype))
    assert sr.dtype == lr.dtype and np.array_equal(sr, repeating(tile=40)(lr))


@pytest.mark.parametrize("dtype", KINDS)
def test_hidden_colour_does_not_reach_visible_pixels(dtype):
    lr = np.zeros((40, 60, 4), dtype)
    lr[:, :30] = KINDS[dtype]  # white, and black where alpha is 0
    sr = repeating()(lr)
    assert (sr[..., :3] == KINDS[dtype]).all()


@pytest.mark.parametrize("scale", [1.5, 3, 0.5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_another_factor_is_resampled_to_a_size_rounded_up(dtype, scale):
    lr = random_picture((21, 11, 3), dtype)
    sr = repeating(scale=2, tile=None)(lr)
    sized = Upscaler(repeating().network, scale)(lr)
    assert sized.shape == (*np.ceil(np.array([21, 11]) * scale).astype(int), 3) and sized.dtype == lr.dtype
    expected = resize(sr.astype(sized.dtype if dtype == "uint8" else float), scale / 2)
    assert np.abs(sized - expected.clip(0, KINDS[dtype])).max() <= (
        0 if dtype == "uint8" else 1e-5 * KINDS[dtype] + 0.5
    )


@pytest.mark.parametrize(
    "lr, said",
    [
        (np.zeros(5, np.uint8), "shape=(5,)"),
        (np.zeros((5, 5, 5), np.uint8), "shape=(5, 5, 5)"),
        (np.zeros((0, 5, 3), np.uint8), "shape=(0, 5, 3)"),
        (np.zeros((5, 5, 3), int), "dtype=int64"),
        (np.full((5, 5, 3), 255.0), "to 255.0"),
        (np.full((5, 5, 3), -0.1), "from -0.1"),
        (np.full((5, 5, 3), np.nan), "nan"),
    ],
)
def test_another_array_is_refused_with_what_it_is(lr, said):
    with pytest.raises(ValueError) as refused:
        repeating()(lr)
    assert said in str(refused.value)


WRONG = {"engine=torch": "torch", "strength=2": 2, "strength=-1": -1, "back_projections=-1": -1, "device=TPU": "TPU"}


@pytest.mark.parametrize("wrong", [*WRONG, "tile=32"])
def test_load_refuses_other_values(wrong):
    name, value = wrong.partition("=")[0], WRONG.get(wrong, 32)
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        load("srgan", **{name: value})


@pytest.mark.parametrize("degradation, corrected", [("bicubic", True), ("photo", False)])
def test_a_network_that_cleans_is_not_corrected_towards_its_source(degradation, corrected, tmp_path):
    path = tmp_path / "g.weights.h5"
    shutil.copy(PRETRAINED / "srgan.weights.h5", path)
    path.with_name("g.json").write_text(json.dumps({"stage": "srgan", "degradation": degradation}))
    lr = np.random.default_rng(0).integers(256, size=(20, 24, 3), dtype=np.uint8)
    assert np.array_equal(load(str(path))(lr), load("srgan", back_projections=int(corrected))(lr))


def test_a_flat_picture_keeps_its_colour():
    """The network alone gives 254 for white, and (1, 2, 2) for black."""
    upscaler, colours = load("srgan"), [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 40)]
    for shape, colour, (dtype, level) in itertools.product([(1, 1), (40, 50)], colours, LEVELS.items()):
        lr = np.broadcast_to(np.array(colour, dtype) * dtype(level), (*shape, 3))
        difference = upscaler(lr).astype(int) - np.array(colour) * level
        limit = level // 2 if colour[0] in (0, 255) else level
        assert abs(difference).max() <= limit, (shape, colour, dtype)


def test_progress_counts_tiles_from_none_to_all():
    calls = []
    upscaler = repeating(tile=60)  # inside the picture a core has 60 - 2 * 16 pixels
    upscaler.batch = 2
    upscaler(np.zeros((50, 100, 3), np.uint8), lambda *counts: calls.append(counts))
    assert upscaler.tile_count(100, 50) == 2 * 3
    assert calls == [(done, 6) for done in (0, 2, 3, 5, 6)]


def test_tiles_see_little_more_than_the_picture():
    seen = []

    def network(lr):
        seen.append(lr[..., 0].size)
        return lr

    upscaler = Upscaler(Network(network, 1), tile=512)
    upscaler(np.zeros((750, 1000, 3), np.uint8))
    assert sum(seen) == upscaler.network_pixels(1000, 750) < 1.2 * 750 * 1000


def test_load_gives_what_its_network_gives():
    lr = read_picture(PICTURE)[:20, :30]
    upscaler = load("srresnet", engine="openvino")
    padded = np.pad(lr, ((8, 8), (8, 8), (0, 0)), "symmetric")
    sr = upscaler.network(padded[None] * np.float32(2 / 255) - 1)[0, 32:-32, 32:-32]
    assert upscaler.scale == 4 and np.array_equal(upscaler(lr), ((sr + 1) * 127.5).round().clip(0, 255))
    assert load("srresnet", scale=1.5)(lr).shape == (30, 45, 3)


def test_a_self_ensemble_is_the_mean_over_flips_and_turns():
    lr = random_picture((20, 30, 3), "float32")
    single, ensemble = load("srresnet"), load("srresnet", self_ensemble=True)
    srs = []
    for mirrored in (lr, lr[:, ::-1]):
        for turns in range(4):
            sr = np.rot90(single(np.rot90(mirrored, turns).copy()), -turns)
            srs.append(sr if mirrored is lr else sr[:, ::-1])
    found = ensemble(lr)
    assert np.abs(found - np.mean(srs, 0)).max() < 0.02  # bfloat16, and a clip to 0..1 that comes before this mean
    assert np.abs(found - srs[0]).max() > 0.02
    turned = np.rot90(ensemble(np.rot90(lr).copy()), -1)
    assert np.abs(found - turned).max() < 1e-3  # the same pictures are averaged, in another order


class Small:
    """A network that doubles pixels and has memory for so many at a time, from its second call on."""

    scale = 2

    def __init__(self, pixels):
        self.pixels, self.calls = pixels, []

    def __call__(self, lr):
        self.calls.append(lr.shape)
        if len(self.calls) > 1 and lr[..., 0].size > self.pixels:
            raise MemoryError
        return lr.repeat(2, 1).repeat(2, 2)


def test_where_memory_runs_out_tiles_become_fewer_and_then_smaller():
    lr = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    network, progress = Small(10_000), []
    upscaler = Upscaler(network, tile=250)
    upscaler.batch = 4
    first, *others = upscaler.strips(lr, lambda *counts: progress.append(counts))
    assert np.array_equal(np.concatenate([first, *others]), repeated(lr))
    assert (upscaler.tile, upscaler.batch) == (62, 1)
    assert network.calls[0] == (3, 224, 194, 3) and len(first) == 2 * 200  # is kept
    assert [shape[:2] for shape in network.calls[1:5]] == [(3, 224), (2, 232), (1, 232), (1, 99)]
    assert progress[0] == (0, 6) and progress[-1][0] == progress[-1][1] > 6
    network.pixels = 100
    for upscaler.tile in (62, 65):
        with pytest.raises(UserError, match="too little memory"):
            upscaler(lr)


@pytest.mark.parametrize(
    "model, options",
    [
        ("srgan", {}),
        ("espcn", {"engine": "keras"}),
        ("espcn", {"self_ensemble": True, "scale": 3}),
        ("srcnn", {}),
        ("nedi", {}),
    ],
)
def test_threads_share_an_upscaler(model, options):
    pytest.importorskip("keras")
    upscaler = load(model, **options)
    lrs = [np.roll(random_picture((4 + number % 2, 9, 3), "uint8"), number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(upscaler, lrs))
    assert all(map(np.array_equal, together, map(upscaler, lrs)))


def test_threads_that_run_out_of_memory_together_reduce_it_once():
    """All four are in the network when the first of them has too little."""
    together = threading.Barrier(4, timeout=60)

    def network(lr):
        if lr.shape[2] > 40:
            together.wait()
            raise MemoryError
        return lr

    upscaler = Upscaler(Network(network, 1), tile=80)
    upscaler.batch = 1
    lr = random_picture((100, 100, 3), "uint8")
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(sr, lr) for sr in pool.map(upscaler, 4 * [lr]))
    assert upscaler.tile == 40


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_tiles_differ_from_the_whole_by_a_level_at_most(path):
    network = load_network(path)
    lr = read_picture(ROOT / "data/benchmark/Set14/LRx4/img_003.png")[: often(64, None), : often(90, None)]
    whole = Upscaler(network, tile=512)(lr).astype(int)
    for tile in often((48, 77), (48, 77, 100)):
        assert np.abs(whole - Upscaler(network, tile=tile)(lr)).max() <= 1, tile


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_border_of_one_colour_is_as_its_middle(path):
    upscaler = load(path)
    for colour in ((255, 255, 255), (0, 0, 0), (200, 30, 40)):
        single, wide = (upscaler(np.full((side, side, 3), colour, np.uint8)).astype(int) for side in (1, 24))
        middle = wide[40:56, 40:56].mean((0, 1))
        assert np.abs(wide - middle).max() <= 6 and np.abs(single - middle).max() <= 6  # a mesh of srgan's own
        assert np.abs(middle - colour).max() <= 8


def test_upscalers_can_be_pickled_for_another_process(tmp_path, monkeypatch):
    """It starts in another folder. One restores what each picture needs, one is of a path, one was pickled before."""
    monkeypatch.chdir(PRETRAINED)
    automatic, of_a_path = load("srresnet", tile=48), load("espcn.weights.h5", self_ensemble=True, back_projections=2)
    upscalers = [automatic, automatic.with_scale(2.5), automatic.restoring(0.5), of_a_path, load("bicubic")]
    upscalers.append(pickle.loads(pickle.dumps(automatic)))
    lr = read_picture(PICTURE)[:30, :40]
    (tmp_path / "pickled").write_bytes(pickle.dumps((upscalers, lr)))
    assert (tmp_path / "pickled").stat().st_size < lr.nbytes + 6000  # no weights
    program = """import pickle
upscalers, lr = pickle.load(open("pickled", "rb"))
pickle.dump([upscaler(lr) for upscaler in upscalers], open("sr", "wb"))"""
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{ROOT}"}, check=True
    )
    for theirs, upscaler in zip(pickle.loads((tmp_path / "sr").read_bytes()), upscalers, strict=True):
        assert np.array_equal(theirs, upscaler(lr))
