"""What up to 256 GPUs would bring, computed from step time, gradient bytes and link speed.

    python benchmarks/scaling.py                                    the tables of docs/SCALING.md
    python benchmarks/scaling.py --step 0.04 --warm-up-step 0.01    with the step times of your GPU (s, batch 16)
    python benchmarks/scaling.py --measure                          step times of this machine
    KERAS_BACKEND=jax python benchmarks/scaling.py --all-reduce     time of an all-reduce by two processes here

T(n) = fixed + (step - fixed) * share + 2 (n-1)/n * bytes / bandwidth + 2 (n-1) * latency + syncs * 2 log2(n) * latency;
share: one GPU's fraction of a batch of 16. The gradients are summed by a ring, the statistics of batch normalization by
a tree; no communication is assumed to overlap with computation.
"""

import argparse
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import load_keras, prepare_environment

prepare_environment()
load_keras()

import keras
import numpy as np

from losses import VGG19
from model import SRGAN_d, SRGAN_g
from srgan import JIT, SRGAN

BATCH = 16
# name: (bytes per second each way, seconds per message)
LINKS = {"10 Gbit Ethernet": (1.25e9, 50e-6), "100 Gbit Ethernet": (12.5e9, 20e-6), "NVLink": (450e9, 5e-6)}


def gradient_bytes(network):
    return 4 * sum(math.prod(variable.shape) for variable in network.trainable_variables)


def normalizations(network):
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)


def seconds(n, crops, step, fixed, size, syncs, link):
    """Return the seconds of an update by n GPUs with `crops` crops each; the docstring above has the formula."""
    bandwidth, latency = link
    compute = fixed + (step - fixed) * crops / BATCH
    return compute + 2 * (n - 1) / n * size / bandwidth + 2 * (n - 1) * latency + syncs * 2 * math.log2(n) * latency


def table(step, fixed, size, syncs):
    """Print crops per second as a multiple of one GPU's, and the largest number of GPUs that are at least half used."""
    counts = [2**power for power in range(9)]
    print("| link | batch | " + " | ".join(map(str, counts)) + " | pays up to |")
    print("|---|---|" + "---|" * (len(counts) + 1))
    for name, link in LINKS.items():
        for kind in ("16 in all", "16 a GPU"):
            most = BATCH if kind == "16 in all" else counts[-1]
            rates = []
            for n in (count for count in counts if count <= most):
                crops = BATCH / n if kind == "16 in all" else BATCH
                rates.append(n * crops / seconds(n, crops, step, fixed, size, syncs, link) * step / BATCH)
            pays = max(n for n, rate in zip(counts, rates) if rate >= n / 2)
            cells = [f"{rate:.2g}" if rate < 10 else f"{rate:.0f}" for rate in rates]
            cells += [""] * (len(counts) - len(cells))
            print(f"| {name} | {kind} | " + " | ".join(cells) + f" | {pays} |")


def measure():
    """Print the seconds of an update on this machine for several batch sizes."""
    random = np.random.default_rng(0)
    for stage, weights in (("warm-up", (1.0, 0.0, 0.0)), ("second stage", (1.0, 2e-6, 1e-3))):
        players = [SRGAN_d(), VGG19("block4_pool", None)] if stage == "second stage" else []
        game = SRGAN(SRGAN_g(), *players, weights=weights)
        game(np.zeros((1, 24, 24, 3), np.uint8))
        game.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=JIT)
        for batch in (16, 8, 4, 1):
            lr, hr = (random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8) for side in (24, 96))
            times = []
            for _ in range(5):  # the first compiles; the shortest is the least disturbed
                start = time.perf_counter()
                game.train_on_batch(lr, hr)
                times.append(time.perf_counter() - start)
            print(f"{stage}, batch {batch}: {min(times[1:]):.2f} s", flush=True)


def two_processes():
    """Run all_reduce() in two processes of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    names = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
    command = [sys.executable, __file__, "--all-reduce"]
    environments = [os.environ | names | {"KERAS_DISTRIBUTION_PROCESS_ID": number} for number in "01"]
    for process in [subprocess.Popen(command, env=environment) for environment in environments]:
        process.wait()


def all_reduce():
    """As one of two processes, print how long it takes to sum arrays of the gradients' sizes."""
    import jax

    keras.distribution.initialize()
    mesh = jax.make_mesh((2,), ("batch",))
    split, whole = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (("batch",), ()))
    total = jax.jit(lambda parts: parts.sum(0), out_shardings=whole)
    for _, size in (("warm-up", gradient_bytes(SRGAN_g())), ("D alone", gradient_bytes(SRGAN_d())), ("64", 256)):
        parts = jax.make_array_from_process_local_data(split, np.ones((1, size // 4), np.float32))
        times = []
        for _ in range(11):
            start = time.perf_counter()
            total(parts).block_until_ready()
            times.append(time.perf_counter() - start)
        if jax.process_index() == 0:
            print(f"all-reduce of {size / 1e6:.4g} MB by 2 processes: {min(times[1:]) * 1e3:.2f} ms", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=0.040, help="seconds of an update of the second stage")
    parser.add_argument("--warm-up-step", type=float, default=0.010, help="seconds of an update of the warm-up")
    parser.add_argument("--fixed", type=float, default=0.003, help="seconds of either at the smallest batch")
    parser.add_argument("--measure", action="store_true", help="print step times of this machine instead")
    parser.add_argument("--all-reduce", action="store_true", help="print the time of an all-reduce here; needs JAX")
    options = parser.parse_args()
    if options.all_reduce:
        return all_reduce() if "KERAS_DISTRIBUTION_PROCESS_ID" in os.environ else two_processes()
    if options.measure:
        return measure()
    generator, discriminator = SRGAN_g(), SRGAN_d()
    g, d = gradient_bytes(generator), gradient_bytes(discriminator)
    # Statistics are summed over the GPUs in the forward and the backward pass. D has three passes: real, fake, judging.
    syncs = 2 * normalizations(generator), 2 * 3 * normalizations(discriminator)
    print(f"gradients: G {g / 1e6:.1f} MB, D {d / 1e6:.1f} MB\n\nWarm-up, {options.warm_up_step * 1e3:.0f} ms:\n")
    table(options.warm_up_step, options.fixed, g, syncs[0])
    print(f"\nSecond stage, {options.step * 1e3:.0f} ms:\n")
    table(options.step, options.fixed, g + d, syncs[1])


if __name__ == "__main__":
    main()
