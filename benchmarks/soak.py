"""Train both stages of a small network in turn for hours, in one process: memory, open files, log and grids.

    python benchmarks/soak.py HOURS FOLDER

Each round goes on with the warm-up and then with the second stage, as the same command does with more updates;
FOLDER/soak.csv has a line a round.
"""

import csv
import gc
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import configuration, prepare_environment

prepare_environment()

import keras
import psutil

import train

ROUND, REPORTS = 200, 50  # updates of a stage in a round, and between reports
WARM_UP = 0.15  # share of the rounds after which memory is expected to stay


def settings(folder, updates):
    values = {
        "MODEL.blocks": 2,
        "MODEL.filters": 16,
        "MODEL.discriminator_filters": 8,
        "TRAIN.batch_size": 4,
        "TRAIN.crop": 48,
        "TRAIN.content_loss": "mse",
        "TRAIN.n_updates_init": updates,
        "TRAIN.n_updates": updates,
        "TRAIN.report_every": REPORTS,
        "TRAIN.checkpoint_dir": folder / "checkpoints",
        "TRAIN.samples_dir": folder / "samples",
        "VALID.crop": 128,
        "EVALUATE.benchmark_dir": folder / "benchmark",
    }
    return configuration(overrides=[f"{key}={value}" for key, value in values.items()])


def complete(folder, updates):
    """Has each stage a log line and a grid for every report up to `updates`?"""
    wanted = range(0, updates + 1, REPORTS)
    for stage, samples in (("srgan_init", "srgan_ginit"), ("srgan", "srgan_gan")):
        lines = (folder / f"checkpoints/log_{stage}.jsonl").read_text().splitlines()
        grids = list((folder / "samples" / samples).glob("train_*.png"))
        if len(lines) != len(wanted) or len(grids) != len(wanted):
            return False
    return True


def main(hours, folder):
    folder = Path(folder)
    process, began, updates, rows = psutil.Process(), time.monotonic(), 0, []
    folder.mkdir(parents=True)
    hr = folder / "benchmark/Set/HR"
    hr.mkdir(parents=True)
    (hr / "a.png").write_bytes((Path(__file__).parents[1] / "data/benchmark/Set5/HR/img_003.png").read_bytes())
    with open(folder / "soak.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["seconds", "updates", "memory_mb", "open_files", "threads", "complete"])
        while time.monotonic() - began < 3600 * float(hours):
            updates += ROUND
            if train.main("srgan", None, settings(folder, updates)) != 0:
                return 1
            keras.backend.clear_session()
            gc.collect()
            seconds, memory = round(time.monotonic() - began), process.memory_info().rss / 1e6
            rows.append([seconds, updates, memory, process.num_fds(), process.num_threads(), complete(folder, updates)])
            table.writerow(rows[-1])
            file.flush()
    later = rows[int(WARM_UP * len(rows)) :]
    memory, files = ([row[column] for row in later] for column in (2, 3))
    print(f"{len(rows)} rounds, {2 * updates} updates, {rows[-1][0] / 3600:.2f} hours")
    print(f"memory {min(memory):.0f} to {max(memory):.0f} MB: {100 * (max(memory) / min(memory) - 1):.1f} %")
    print(f"open files {min(files)} to {max(files)}; log and grids complete: {all(row[-1] for row in rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
