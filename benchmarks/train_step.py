"""Seconds per update of both stages: this repository against the same networks in PyTorch, in one run.

    python benchmarks/train_step.py [auto | float32 | mixed_bfloat16]

Batch 16, 96x96 HR, the same crops in memory; precision "auto" is that of TRAIN.precision. PyTorch runs channels_last,
eager on a CPU and compiled on a GPU, in float32 and, if we train in bfloat16, in that too. All take turns, so that
other work on the machine slows all. Needs torch.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import import_keras, processor

import_keras()

import keras
import numpy as np
import torch
from loader import SameBatch  # of this folder
from timing import median_seconds  # of this folder, too
from torch import nn
from torch.nn import functional

from losses import VGG19
from model import SRGAN_d, SRGAN_g
from srgan import JIT, SRGAN
from training.devices import precision

BATCH, CROP, SCALE, UPDATES, ROUNDS = 16, 96, 4, 4, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STAGES = {  # (weights of MSE, VGG and GAN; whether the generator's statistics are fixed)
    "warm-up": ((1.0, 0.0, 0.0), False),
    "warm-up, fixed statistics": ((1.0, 0.0, 0.0), True),
    "srgan": ((1.0, 2e-6, 1e-3), True),
}


def conv_norm(inputs, filters, strides=1):
    return nn.Conv2d(inputs, filters, 3, strides, 1, bias=False), nn.BatchNorm2d(filters)


class Block(nn.Module):
    def __init__(self, filters):
        super().__init__()
        self.body = nn.Sequential(*conv_norm(filters, filters), nn.PReLU(filters), *conv_norm(filters, filters))

    def forward(self, x):
        return x + self.body(x)


class TorchGenerator(nn.Module):
    """SRGAN_g's "paper" variant in PyTorch."""

    def __init__(self, blocks=16, filters=64):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, filters, 9, padding=4), nn.PReLU(filters))
        self.body = nn.Sequential(*(Block(filters) for _ in range(blocks)), *conv_norm(filters, filters))
        up = [nn.Conv2d(filters, 4 * filters, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(filters)]
        again = [nn.Conv2d(filters, 4 * filters, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(filters)]
        self.up = nn.Sequential(*up, *again, nn.Conv2d(filters, 3, 9, padding=4), nn.Tanh())

    def forward(self, lr):
        x = self.head(lr)
        return self.up(x + self.body(x))


def torch_discriminator(filters=64):
    parts, inputs = [nn.Conv2d(3, filters, 3, padding=1), nn.LeakyReLU(0.2)], filters
    for multiple, strides in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
        parts += [*conv_norm(inputs, multiple * filters, strides), nn.LeakyReLU(0.2)]
        inputs = multiple * filters
    dense = nn.Linear(inputs * (CROP // 16) ** 2, 16 * filters)
    return nn.Sequential(*parts, nn.Flatten(), dense, nn.LeakyReLU(0.2), nn.Linear(16 * filters, 1))


def torch_vgg():
    """VGG19 up to block4_pool, with random weights, which do not change its speed."""
    parts, inputs = [], 3
    for filters, convolutions in [(64, 2), (128, 2), (256, 4), (512, 4)]:
        for _ in range(convolutions):
            parts += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU()]
            inputs = filters
        parts.append(nn.MaxPool2d(2))
    return nn.Sequential(*parts).requires_grad_(False)


def ours(stage, lr, hr):
    """Return a function that makes UPDATES updates as train.py does: fit() on uint8 crops, with the running average."""
    weights, fixed = STAGES[stage]
    players = [SRGAN_d(crop=CROP), VGG19("block4_pool", None)] if stage == "srgan" else []
    game = SRGAN(SRGAN_g(), *players, weights=weights)
    game(lr[:1])
    game.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=JIT)
    game.fixed_statistics = fixed
    return lambda: game.fit(SameBatch([(lr, hr)] * UPDATES), verbose=0, shuffle=False)


def pytorch(stage, lr, hr, half):
    """Return the same as a PyTorch loop, which updates both players from one forward pass. half: use bfloat16."""
    (mse_weight, vgg_weight, gan_weight), fixed = STAGES[stage]
    generator, judge = TorchGenerator().train(not fixed), torch_discriminator().train()
    vgg = torch_vgg()
    for network in (generator, judge, vgg):
        network.to(DEVICE, memory_format=torch.channels_last)
        if DEVICE == "cuda":
            network.compile()
    optimizers = [torch.optim.Adam(network.parameters(), 1e-4) for network in (generator, judge)]

    def to_float(picture):
        x = torch.from_numpy(picture).to(DEVICE).permute(0, 3, 1, 2)
        return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def losses():
        wanted, sr = to_float(hr), generator(to_float(lr))
        loss = mse_weight * functional.mse_loss(sr.float(), wanted)
        if stage == "srgan":
            loss = loss + vgg_weight * functional.mse_loss(vgg(sr).float(), vgg(wanted).float())
            real, fake = judge(wanted).float(), judge(sr.detach()).float()
            judge.requires_grad_(False)
            loss = loss + gan_weight * functional.softplus(-judge(sr).float()).mean()
            judge.requires_grad_(True)
            loss = loss + functional.softplus(-real).mean() + functional.softplus(fake).mean()
        return loss

    def updates():
        for _ in range(UPDATES):
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
                loss = losses()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        loss.item()  # waits for the device

    return updates


def main(wanted="auto"):
    policy = precision(wanted)
    keras.config.set_dtype_policy(policy)
    random = np.random.default_rng(0)
    hr = random.integers(0, 256, (BATCH, CROP, CROP, 3), dtype=np.uint8)
    lr = random.integers(0, 256, (BATCH, CROP // SCALE, CROP // SCALE, 3), dtype=np.uint8)
    print(f"{processor()}, {DEVICE}", flush=True)
    for stage in STAGES:
        updates = {f"{keras.backend.backend()} {policy}": ours(stage, lr, hr)}
        for name in ["float32"] + [policy] * (policy != "float32"):
            updates[f"PyTorch {name}"] = pytorch(stage, lr, hr, half=name != "float32")
        medians = {name: seconds / UPDATES for name, seconds in median_seconds(updates, ROUNDS).items()}
        first = next(iter(medians.values()))
        figures = ", ".join(f"{name} {seconds:.3f} s ({seconds / first:.2f}x)" for name, seconds in medians.items())
        print(f"{stage}: {figures}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
