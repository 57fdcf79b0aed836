"""Updates a second of the warm-up: this repository against the same network in PyTorch, in one run.

    python benchmarks/train_step.py [rounds]

Batch 16, 96x96 HR, float32, the same crops in memory; PyTorch runs channels_last. The two take turns,
so that a busy machine slows both. Needs torch.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import prepare_environment

prepare_environment()

import keras
import numpy as np
import torch
from torch import nn

from model import SRGAN_g
from srgan import JIT, SRGAN

BATCH, CROP, SCALE, UPDATES = 16, 96, 4, 4


class Block(nn.Module):
    def __init__(self, filters):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.PReLU(filters),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
        )

    def forward(self, x):
        return x + self.body(x)


class TorchGenerator(nn.Module):
    """SRGAN_g's "paper" variant in PyTorch."""

    def __init__(self, blocks=16, filters=64):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, filters, 9, padding=4), nn.PReLU(filters))
        tail = [nn.Conv2d(filters, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters)]
        self.body = nn.Sequential(*(Block(filters) for _ in range(blocks)), *tail)
        up = [nn.Conv2d(filters, 4 * filters, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(filters)]
        again = [nn.Conv2d(filters, 4 * filters, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(filters)]
        self.up = nn.Sequential(*up, *again, nn.Conv2d(filters, 3, 9, padding=4), nn.Tanh())

    def forward(self, lr):
        x = self.head(lr)
        return self.up(x + self.body(x))


def ours(lr, hr):
    """A callable that makes UPDATES updates as train.py does: fit() on uint8 crops, with the running average."""
    game = SRGAN(SRGAN_g())
    game(lr[:1])
    game.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=JIT)

    class Same(keras.utils.PyDataset):
        def __len__(self):
            return UPDATES

        def __getitem__(self, index):
            return lr, hr

    return lambda: game.fit(Same(), verbose=0, shuffle=False)


def pytorch(lr, hr):
    model = TorchGenerator().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def to_float(picture):
        x = torch.from_numpy(picture).permute(0, 3, 1, 2)
        return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def updates():
        for _ in range(UPDATES):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.mse_loss(model(to_float(lr)), to_float(hr)).backward()
            optimizer.step()

    return updates


def main(rounds=5):
    random = np.random.default_rng(0)
    hr = random.integers(0, 256, (BATCH, CROP, CROP, 3), dtype=np.uint8)
    lr = random.integers(0, 256, (BATCH, CROP // SCALE, CROP // SCALE, 3), dtype=np.uint8)
    contestants = {f"keras ({keras.backend.backend()})": ours(lr, hr), "pytorch": pytorch(lr, hr)}
    seconds = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, update in contestants.items():
            start = time.perf_counter()
            update()
            if turn:  # the first round compiles
                seconds[name].append((time.perf_counter() - start) / UPDATES)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:20} {1 / value:6.3f} updates/s  ({value:.3f} s an update)")
    mine, theirs = medians.values()
    print(f"ratio to pytorch     {theirs / mine:6.2f}x")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
