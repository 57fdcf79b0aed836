"""Train both stages of a small network in turn for hours: does memory stay flat, are files closed and logs complete?

    python benchmarks/soak.py HOURS FOLDER

Each leg is the command that a user would type, a process that resumes a stage for some thousand updates: the warm-up,
the second stage, the warm-up again. FOLDER/soak.csv gets their memory, open files and threads every ten seconds.
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
LEG, REPORTS = 12_000, 100  # updates in a leg, and between reports
WARM_UP = 0.15  # fraction of a leg's time after which its memory should stay flat
STAGES = {"srresnet": ("srgan_init", "srgan_ginit"), "srgan": ("srgan", "srgan_gan")}
COLUMNS = ["leg", "seconds", "memory_mb", "open_files", "threads"]


def command(mode, updates, folder):
    values = {
        "MODEL.blocks": 2,
        "MODEL.filters": 16,
        "MODEL.discriminator_filters": 8,
        "TRAIN.batch_size": 4,
        "TRAIN.crop": 48,
        "TRAIN.content_loss": "mse",
        "TRAIN.fixed_statistics": 0.0,
        "TRAIN.n_updates_init": updates,
        "TRAIN.n_updates": updates,
        "TRAIN.report_every": REPORTS,
        "TRAIN.checkpoint_dir": folder / "checkpoints",
        "TRAIN.samples_dir": folder / "samples",
        "VALID.crop": 128,
        "VGG.weights": "none",
    }
    words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return [sys.executable, ROOT / "train.py", f"--mode={mode}", *words]


def running(process, seconds=10):
    """Return whether the process is still running after `seconds`."""
    try:
        process.wait(seconds)
        return False
    except psutil.TimeoutExpired:
        return True


def leg(mode, number, updates, folder, began):
    """Run one leg; return COLUMNS for every ten seconds of its training. Raises CalledProcessError if it fails."""
    rows = []
    with open(folder / f"leg_{number}.txt", "w") as output:
        process = psutil.Popen(command(mode, updates, folder), cwd=ROOT, stdout=output, stderr=output)
        while running(process) and "\nSRResNet:" not in Path(output.name).read_text():  # then it evaluates
            seconds, memory = time.monotonic() - began, process.memory_info().rss / 1e6
            rows.append([number, seconds, memory, process.num_fds(), process.num_threads()])
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, mode)
    return rows


def missing(mode, updates, folder):
    """Return how many log lines and grids of a stage are missing up to `updates`."""
    stage, samples = STAGES[mode]
    lines = (folder / f"checkpoints/log_{stage}.jsonl").read_text().splitlines()
    grids = list((folder / "samples" / samples).glob("train_*.png"))
    return 2 * (updates // REPORTS + 1) - len(lines) - len(grids)


def main(hours, folder):
    folder, began, number = Path(folder).resolve(), time.monotonic(), 0
    folder.mkdir(parents=True)
    with open(folder / "soak.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        while time.monotonic() - began < 3600 * float(hours):
            mode, updates = list(STAGES)[number % 2], LEG * (number // 2 + 1)
            rows = leg(mode, number, updates, folder, began)
            table.writerows(rows)
            file.flush()
            later = rows[int(WARM_UP * len(rows)) :]
            memory, files = ([row[column] for row in later] for column in (2, 3))
            flat = f"memory {min(memory):.0f} to {max(memory):.0f} MB, {100 * (max(memory) / min(memory) - 1):.1f} %"
            files = f"open files {min(files)} to {max(files)}"
            rest = f"{missing(mode, updates, folder)} log lines and grids missing"
            hours_now = (time.monotonic() - began) / 3600
            print(f"leg {number}, {mode} to update {updates}: {flat}; {files}; {rest}; {hours_now:.2f} h", flush=True)
            number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
