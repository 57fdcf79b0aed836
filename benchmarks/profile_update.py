"""Where the time of an update of the warm-up goes, part by part.

    python benchmarks/profile_update.py [auto | float32 | mixed_bfloat16] [adam | muon]

Batch 16, 96x96 HR, fixed statistics. Each line has one part more than the line above it; the difference is the time of
that part. All are timed in turns.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import load_keras, prepare_environment

prepare_environment()
load_keras()

import keras
import numpy as np
from keras import ops

from engines import processor
from model import SRGAN_g
from srgan import JIT, SRGAN, to_float
from training.devices import precision
from training.fast_forward import fast_forward
from training.optimizers import Muon

BATCH, SIDE, ROUNDS = 16, 24, 15


class Forward(SRGAN):
    """The forward pass alone, without gradients."""

    def train_step(self, data):
        sr = fast_forward(self.generator, to_float(data[0]), True)
        return {"mse": ops.mean(ops.square(sr - to_float(data[1])))}


class Unaveraged(SRGAN):
    """The game without the running average of the generator."""

    def update_average(self):
        pass


def parts(optimizer):
    """Return {parts of an update: (model that computes just these, optimizer)}."""
    return {
        "forward pass": (Forward, keras.optimizers.SGD(0.0)),
        "+ gradients (and a plain step)": (Unaveraged, keras.optimizers.SGD(1e-6)),
        "+ running average": (SRGAN, keras.optimizers.SGD(1e-6)),
        f"+ {optimizer} in place of the plain step": (
            SRGAN,
            {"adam": keras.optimizers.Adam, "muon": Muon}[optimizer](1e-6),
        ),
    }


def main(wanted="auto", optimizer="muon"):
    policy = precision(wanted)
    keras.config.set_dtype_policy(policy)
    random = np.random.default_rng(0)
    lr, hr = (random.integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8) for side in (SIDE, 4 * SIDE))
    games = {}
    for name, (kind, steps) in parts(optimizer).items():
        games[name] = kind(SRGAN_g())
        games[name].fixed_statistics = True
        games[name].compile(optimizer=steps, jit_compile=JIT)
        games[name].train_on_batch(lr, hr)
    seconds = {name: [] for name in games}
    for _ in range(ROUNDS):
        for name, game in games.items():
            start = time.perf_counter()
            game.train_on_batch(lr, hr)
            seconds[name].append(time.perf_counter() - start)
    print(f"{processor()}, {keras.backend.backend()}, {policy}")
    before = 0.0
    for name, values in seconds.items():
        total = float(np.median(values))
        print(f"{name:45}{total:7.3f} s{total - before:+8.3f} s")
        before = total


if __name__ == "__main__":
    main(*sys.argv[1:])
