"""How many pairs of crops per second the loader gives, and how much of a training step waits for them.

    python benchmarks/loader.py [FOLDER]

24x24 LR and 96x96 HR crops in batches of 16 with flips and turns, pictures in memory, for each TRAIN.degradation. The
step is the fastest one of the full network, a warm-up with fixed statistics. The wait is how much longer a step of
fit() takes with the loader than with one and the same batch.
"""

import functools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import import_keras

import_keras()

import keras
from timing import median_seconds  # of this folder

from dataset import Crops, Pictures
from model import SRGAN_g
from pictures import find_pictures
from srgan import JIT, SRGAN

BATCH, CROP, SCALE = 16, 96, 4


def pairs_per_second(pictures, photo, batches=200):
    crops = Crops(pictures, BATCH, 0, 0, batches, photo=photo)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        for index in range(batches):
            crops[index]
        best = max(best, batches * BATCH / (time.perf_counter() - start))
    return best


class SameBatch(keras.utils.PyDataset):
    """The first batch of a loader, again and again."""

    def __init__(self, crops):
        super().__init__()
        self.batch, self.length = crops[0], len(crops)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.batch


def waiting_share(pictures, photo, updates=5, rounds=4):
    """Return the seconds of a training step of the full generator, and the share of it that waits for data."""
    game = SRGAN(SRGAN_g())
    game.fix_statistics()
    crops = Crops(pictures, BATCH, 0, 0, updates, workers=2, photo=photo)
    game(crops[0][0])
    game.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=JIT)
    sources = {"loader": crops, "same batch": SameBatch(crops)}
    fits = {name: functools.partial(game.fit, data, verbose=0, shuffle=False) for name, data in sources.items()}
    seconds = median_seconds(fits, rounds)
    return seconds["loader"] / updates, max(0.0, 1 - seconds["same batch"] / seconds["loader"])


def main(folder="data/train"):
    pictures = Pictures(find_pictures(folder), SCALE, CROP, 8e9)
    for photo in (False, True):
        pairs = pairs_per_second(pictures, photo)
        step, share = waiting_share(pictures, photo)
        used = BATCH / step
        print(f"{'photo' if photo else 'bicubic'}: {pairs:,.0f} pairs of crops a second")
        print(f"  a step takes {step:.2f} s and uses {used:.0f} a second; {100 * share:.1f} % of it waits for data")


if __name__ == "__main__":
    main(*sys.argv[1:])
