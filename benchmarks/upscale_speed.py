"""Upscaling on a CPU: upscale.py in both precisions against the same network in PyTorch, eager, in one run.

    python benchmarks/upscale_speed.py [rounds]
    python benchmarks/upscale_speed.py --threads  # four threads that share an Upscaler against one; without torch

All cut the large picture into the same tiles and take turns, so that other work on the machine slows all. Prints which
precision upscale.py chooses here, the time of its whole command, and what bfloat16 costs in dB. Needs torch; takes 3 to
5 minutes.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from timing import median_seconds  # of this folder

from engines import bfloat16_is_fast, processor
from evaluation.metrics import luma, psnr
from pictures import find_pictures, read_picture, write_picture
from upscaling.models import load
from upscaling.network import load_network
from upscaling.upscaler import LARGEST_TILE, Upscaler

WEIGHTS = ROOT / "checkpoints/pretrained/srresnet.weights.h5"
SIZES = [(128, 128), (640, 480)]  # of lr; results of 512x512 and of 4.9 megapixels


class PyTorch:
    """The generator in PyTorch in place of a Network, with random weights, which do not change its speed."""

    scale = 4

    def __init__(self):
        import torch
        from train_step import TorchGenerator

        self.torch = torch
        self.network = TorchGenerator().eval().to(memory_format=torch.channels_last)

    def __call__(self, lr):
        with self.torch.inference_mode():
            x = self.torch.from_numpy(lr).permute(0, 3, 1, 2).contiguous(memory_format=self.torch.channels_last)
            return self.network(x).permute(0, 2, 3, 1).numpy()


def upscaler(network):
    return Upscaler(network, tile=LARGEST_TILE)


def speed(rounds):
    """Print the median seconds of each contestant, and how many times as fast as PyTorch it is."""
    contestants = {"PyTorch, channels_last": upscaler(PyTorch())}
    for precision in ("float32", "bfloat16"):
        contestants[f"upscale.py, {precision}"] = upscaler(load_network(WEIGHTS, precision=precision))
    random = np.random.default_rng(0)
    for width, height in SIZES:
        lr = random.integers(0, 256, (height, width, 3), np.uint8)
        calls = {name: functools.partial(contestant, lr) for name, contestant in contestants.items()}
        medians = median_seconds(calls, rounds)
        rival = medians["PyTorch, channels_last"]
        for name, value in medians.items():
            print(f"{width}x{height} -> {4 * width}x{4 * height}  {name:24} {value:7.3f} s  {rival / value:5.2f}x")


def cold_start(rounds):
    """Return the seconds of the whole command for a picture of 64x64."""
    with tempfile.TemporaryDirectory() as folder:
        write_picture(Path(folder, "a.png"), np.zeros((64, 64, 3), np.uint8))
        command = [sys.executable, ROOT / "upscale.py", Path(folder, "a.png"), "--model=srresnet", "--overwrite"]
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def price():
    """Return PSNR on Set14 in float32 and in bfloat16, in dB."""
    networks = [upscaler(load_network(WEIGHTS, precision=precision)) for precision in ("float32", "bfloat16")]
    scores = [[], []]
    for path in find_pictures(ROOT / "data/benchmark/Set14/HR"):
        hr, lr = read_picture(path), read_picture(ROOT / "data/benchmark/Set14/LRx4" / path.name)
        for network, values in zip(networks, scores):
            values.append(psnr(luma(network(lr)), luma(hr), 4))
    return np.mean(scores, axis=1)


def threads(rounds=5, pictures=8):
    """Return how many times as fast four threads are as one, which share load("srgan"); the two take turns."""
    shared, random = load("srgan"), np.random.default_rng(0)
    lrs = [random.integers(0, 256, (96, 96, 3), np.uint8) for _ in range(pictures)]
    shared(lrs[0])
    factors = []
    for _ in range(rounds):
        seconds = []
        for count in (1, 4):
            start = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(shared, lrs))
            seconds.append(time.perf_counter() - start)
        factors.append(seconds[0] / seconds[1])
    return float(np.median(factors))


if __name__ == "__main__":
    if "--threads" in sys.argv:
        print(f"{processor()}; four threads are {threads():.2f}x as fast as one")
        sys.exit()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    chosen = "bfloat16" if bfloat16_is_fast() else "float32"
    print(f"{processor()}, {os.cpu_count()} cores; upscale.py computes in {chosen} here")
    speed(count)
    print(f"cold start, 64x64: {cold_start(count + 2):.2f} s")
    print("Set14: {:.3f} dB in float32, {:.3f} dB in bfloat16".format(*price()))
