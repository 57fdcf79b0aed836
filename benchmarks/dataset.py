"""Start-up time and memory of training pictures, by their number and by how many are decoded at the start.

    python benchmarks/dataset.py [PICTURES ...]

JPEGs of 256x256, cut from the shipped pictures, are made in a temporary folder. Each row is measured in a process of
its own; memory is what the pictures add to that process, at most and after 100 batches of 16.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import import_keras

import_keras()

import numpy as np
import psutil
from PIL import Image

from dataset import Crops, Pictures
from pictures import find_pictures, read_picture

COUNTS, BUDGETS, SIDE, BATCHES = (100, 1000, 5000, 20000), (8, 1, 0), 256, 100


def jpegs():
    """Yield the bytes of a JPEG for each quarter of the shipped pictures."""
    for path in find_pictures(Path(__file__).parents[1] / "data/train"):
        picture = read_picture(path)
        for y, x in np.ndindex(picture.shape[0] // SIDE, picture.shape[1] // SIDE):
            file = BytesIO()
            crop = picture[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE]
            Image.fromarray(crop).save(file, "JPEG", quality=90)
            yield file.getvalue()


def measured(folder, count, budget):
    """Return (pictures decoded, seconds to start, most memory, memory after the batches, pairs of crops per second)."""
    process = psutil.Process()
    empty, before = process.memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    pictures = Pictures(find_pictures(folder)[:count], 4, 96, budget * 1e9)
    started = time.perf_counter()
    crops = Crops(pictures, 16, 0, 0, BATCHES)
    for index in range(BATCHES):
        crops[index]
    rate = 16 * BATCHES / (time.perf_counter() - started)
    most = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) - empty
    decoded = sum(pair is not None for pair in pictures.pairs)
    return decoded, started - began, most, process.memory_info().rss - empty, rate


def main(*counts):
    counts = [int(count) for count in counts] or COUNTS
    with tempfile.TemporaryDirectory() as folder:
        contents = list(jpegs())
        for n in range(max(counts)):
            Path(folder, f"{n:06}.jpg").write_bytes(contents[n % len(contents)])
        print("| pictures | `TRAIN.memory_gb` | decoded | start-up | memory at most | after 100 batches | pairs/s |")
        print("|---|---|---|---|---|---|---|")
        for count in counts:
            for budget in BUDGETS:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    decoded, seconds, most, after, rate = pool.apply(measured, (folder, count, budget))
                memory = f"{most / 1e9:.2f} GB | {after / 1e9:.2f} GB"
                print(f"| {count:,} | {budget} | {decoded:,} | {seconds:.1f} s | {memory} | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
