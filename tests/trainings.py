"""Tiny trainings and evaluations, as the tests run them."""

import contextlib
import re
from pathlib import Path
from unittest import mock

import h5py
import numpy as np

from pictures import read_picture, write_picture
from training.command_line import command_line

ROOT = Path(__file__).parents[1]
TINY = {
    "MODEL.blocks": 1,
    "MODEL.filters": 8,
    "MODEL.discriminator_filters": 4,
    "TRAIN.batch_size": 4,
    "TRAIN.crop": 32,
    "TRAIN.n_updates_init": 6,
    "TRAIN.n_updates": 6,
    "TRAIN.report_every": 4,
    "TRAIN.fixed_statistics": 0.2,
    "VALID.crop": 64,
    "VALID.count": 2,
    "VGG.weights": "none",
}
# Compiling is most of what a tiny training costs, and fixed statistics compile once more.
SHORT = {"TRAIN_n_updates_init": 2, "TRAIN_n_updates": 2, "TRAIN_fixed_statistics": 0}


def write_benchmark(folder):
    """Write a set of one picture to `folder`, unless it is there."""
    picture = folder / "Set5/HR/img_003.png"
    if not picture.exists():  # the least that NIQE is measured on: two blocks of 96x96, and the border that is cut
        write_picture(picture, read_picture(ROOT / "data/benchmark/Set5/HR/img_003.png")[:104, :200])


def arguments(folder, mode="srgan", **changes):
    """The command line of a tiny run below `folder`; a change `TRAIN_crop=64` stands for TRAIN.crop."""
    settings = TINY | {
        "TRAIN.hr_img_path": ROOT / "data/valid",
        "VALID.hr_img_path": ROOT / "data/valid",
        "TRAIN.content_loss": "mse",
        "TRAIN.checkpoint_dir": folder / "checkpoints",
        "TRAIN.samples_dir": folder / "samples",
        "EVALUATE.benchmark_dir": folder / "benchmark",
    }
    settings |= {name.replace("_", ".", 1): value for name, value in changes.items()}
    write_benchmark(folder / "benchmark")
    return [f"--mode={mode}", *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))]


def run(folder, mode="srgan", table=False, **changes):
    """The exit status of a tiny run; table: whether a training is measured at its end, as it is for users."""
    import train  # only now: it asks TensorFlow for its devices, which tests/test_devices.py sets before

    with contextlib.ExitStack() as stack:
        if mode != "evaluate" and not table:
            stack.enter_context(mock.patch("train.evaluate", lambda config: 0))
        return train.main(*command_line(arguments(folder, mode, **changes)))


def refused(capsys, folder, *named, status=2, **changes):
    """The run ends with `status` and one line that holds each of `named`."""
    assert run(folder, **changes) == status
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "Traceback" not in line
    for part in named:
        assert str(part) in line


def assert_plain(ended):
    """A command succeeded, and said what is ours alone and in plain lines."""
    assert ended.returncode == 0 and ended.stderr == "", ended.stderr
    assert ended.stdout and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", ended.stdout)


def assert_same_bits(*paths):
    """Two weights files have the same arrays, to the last bit."""
    ours, theirs = map(datasets, paths)
    assert ours.keys() == theirs.keys()
    assert not [key for key in ours if not np.array_equal(ours[key], theirs[key])]


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found
