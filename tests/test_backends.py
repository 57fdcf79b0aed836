"""One game, trained from the same start on the same crops by TensorFlow and by JAX.

Run as a script, this file is one such training: OPTIMIZER START CROPS END.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from model import SRGAN_d, SRGAN_g
from pictures import centre_crop, find_pictures, read_picture, resize
from srgan import JIT, SRGAN
from training.optimizers import Muon
from weights import load_weights, save_weights

ROOT = Path(__file__).parents[1]
UPDATES, BATCH = 5, 2

# Rounding sets the two about 1e-7 apart. Where an input of a LeakyReLU or PReLU lies that close to 0, its sign may
# differ, and a gradient with it: some starts diverge to 1e-3 on one backend alone when their weights are changed by
# one part in 1e7. This one does not even for one in 1e6 (12 random changes), so a difference is the backends'.
SEED = 1


OPTIMIZERS = {"sgd": lambda: keras.optimizers.SGD(1e-2), "muon": lambda: Muon(1e-3)}


def small_game(optimizer):
    generator, discriminator = SRGAN_g(blocks=2, filters=8), SRGAN_d(crop=32, filters=4)
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


def train(optimizer, start, crops, end):
    game = small_game(optimizer)
    load_weights(game, start)
    with np.load(crops) as pair:
        game.fit(pair["lr"], pair["hr"], batch_size=BATCH, shuffle=False, verbose=0)
    loaded = [name for name in ("tensorflow", "jax") if name in sys.modules]
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


@pytest.fixture(scope="module", params=OPTIMIZERS)
def trained(tmp_path_factory, request):
    """The variables at the start, and after the updates by TensorFlow and by JAX."""
    pytest.importorskip("tensorflow")
    interpreters = {"tensorflow": sys.executable, "jax": jax_python()}
    folder = tmp_path_factory.mktemp("backends")
    start, crops = folder / "start.weights.h5", folder / "crops.npz"
    keras.utils.set_random_seed(SEED)
    game = small_game(request.param)
    save_weights(game, start, {})
    save_crops(crops)
    processes = {}
    for backend, python in interpreters.items():
        environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
        command = [python, __file__, request.param, start, crops, folder / f"{backend}.npz"]
        processes[backend] = subprocess.Popen(command, cwd=ROOT, env=environment)
    ends = {}
    for backend, process in processes.items():
        assert process.wait(timeout=3000) == 0, backend
        with np.load(folder / f"{backend}.npz") as arrays:
            ends[backend] = dict(arrays)
    return networks(game), ends["tensorflow"], ends["jax"]


def test_each_process_has_its_own_backend_alone(trained):
    _, by_tensorflow, by_jax = trained
    assert by_tensorflow["loaded"].tolist() == ["tensorflow"]
    assert by_jax["loaded"].tolist() == ["jax"]


@pytest.mark.parametrize("player", ["generator", "discriminator", "average"])
def test_both_backends_train_the_same_weights(trained, player):
    start, by_tensorflow, by_jax = trained
    assert by_tensorflow["updates"] == by_jax["updates"] == UPDATES
    names = [name for name in start if name.startswith(player)]
    moved = max(np.abs(by_jax[name] - start[name]).max() for name in names)
    apart = {name: np.abs(by_tensorflow[name] - by_jax[name]).max() for name in names}
    assert moved > 1e-4
    assert max(apart.values()) < 1e-5, max(apart, key=apart.get)


if __name__ == "__main__":
    train(*sys.argv[1:])
