"""One game, trained in float64 from the same start on the same crops by TensorFlow and by JAX.

Run as a script, this file is one backend's trainings, by each optimizer: FOLDER.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from numerics import CLOSE, SEED, float64

from model import SRGAN_d, SRGAN_g
from pictures import centre_crop, find_pictures, read_picture, resize
from srgan import JIT, SRGAN
from training.optimizers import Muon
from weights import load_weights, save_weights

pytestmark = pytest.mark.numerical

ROOT = Path(__file__).parents[1]
UPDATES, BATCH = 5, 2

# Keras on TensorFlow takes decays through float32, which these pass unchanged.
DECAYS = {"adam_beta_1": 1 - 2**-3, "adam_beta_2": 1 - 2**-10}
OPTIMIZERS = {"sgd": lambda: keras.optimizers.SGD(1e-2), "muon": lambda: Muon(1e-3, **DECAYS)}


def small_game(optimizer):
    generator, discriminator = SRGAN_g(blocks=2, filters=8), SRGAN_d(crop=32, filters=4)
    for layer in discriminator.layers:
        if isinstance(layer, keras.layers.LeakyReLU):  # TensorFlow's takes its slope as float32, 3e-9 beside 0.2
            layer.negative_slope = float(np.float32(layer.negative_slope))
    game = SRGAN(generator, discriminator, weights=(1.0, 0.0, 1e-3))
    game.compile(OPTIMIZERS[optimizer](), jit_compile=JIT)
    game(np.zeros((1, 8, 8, 3), np.uint8))
    return game


def networks(game):
    players = {"generator": game.generator, "discriminator": game.discriminator, "average": game.average}
    return {
        f"{player} {n}": np.asarray(variable).copy()
        for player, model in players.items()
        for n, variable in enumerate(model.variables)
    }


def train(folder):
    folder = Path(folder)
    for optimizer in OPTIMIZERS:
        game = small_game(optimizer)
        load_weights(game, folder / f"{optimizer}.weights.h5")
        with np.load(folder / "crops.npz") as pair:
            game.fit(pair["lr"], pair["hr"], batch_size=BATCH, shuffle=False, verbose=0)
        loaded = [name for name in ("tensorflow", "jax") if name in sys.modules]
        end = folder / f"{optimizer}_{keras.backend.backend()}.npz"
        np.savez(end, loaded=loaded, updates=np.asarray(game.updates), **networks(game))


def jax_python():
    """The interpreter that has JAX; skips the test where there is none."""
    if "JAX_PYTHON" in os.environ:
        return os.environ["JAX_PYTHON"]
    if importlib.util.find_spec("jax"):
        return sys.executable
    pytest.skip("no JAX here; name an interpreter that has it with JAX_PYTHON")


def save_crops(path):
    """Crops of the benchmark's pictures, so the gradients are those of pictures."""
    hrs = []
    for picture in map(read_picture, find_pictures(ROOT / "data/benchmark/Set5/HR")):
        middle = centre_crop(picture, 64)
        hrs += [middle[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
    hrs = hrs[: UPDATES * BATCH]
    np.savez(path, lr=[resize(hr, 1 / 4) for hr in hrs], hr=hrs)


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """{optimizer: (variables at the start, after the updates by TensorFlow, by JAX)}"""
    pytest.importorskip("tensorflow")
    interpreters = {"tensorflow": sys.executable, "jax": jax_python()}
    folder = tmp_path_factory.mktemp("backends")
    save_crops(folder / "crops.npz")
    starts = {}
    for optimizer in OPTIMIZERS:
        keras.utils.set_random_seed(SEED)
        with float64():
            game = small_game(optimizer)
            save_weights(game, folder / f"{optimizer}.weights.h5", {})
            starts[optimizer] = networks(game)
    processes = {}
    for backend, python in interpreters.items():
        environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
        processes[backend] = subprocess.Popen([python, __file__, folder], cwd=ROOT, env=environment)
    for backend, process in processes.items():
        assert process.wait(timeout=3000) == 0, backend

    def end(optimizer, backend):
        with np.load(folder / f"{optimizer}_{backend}.npz") as arrays:
            assert arrays["loaded"].tolist() == [backend]  # and not the other one
            return dict(arrays)

    return {name: (start, end(name, "tensorflow"), end(name, "jax")) for name, start in starts.items()}


@pytest.fixture(params=OPTIMIZERS)
def trained(trainings, request):
    return trainings[request.param]


@pytest.mark.parametrize("player", ["generator", "discriminator", "average"])
def test_both_backends_train_the_same_weights(trained, player):
    start, by_tensorflow, by_jax = trained
    assert by_tensorflow["updates"] == by_jax["updates"] == UPDATES
    names = [name for name in start if name.startswith(player)]
    moved = max(np.abs(by_jax[name] - start[name]).max() for name in names)
    apart = {name: np.abs(by_tensorflow[name] - by_jax[name]).max() for name in names}
    assert moved > 1e-4
    assert {by_jax[name].dtype for name in names} == {np.dtype(float)}
    assert max(apart.values()) < CLOSE, max(apart, key=apart.get)


if __name__ == "__main__":
    with float64():
        train(*sys.argv[1:])
