"""Training on bad input and into full disks: one line, exit 2, nothing lost."""

import contextlib
import functools
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from trainings import ROOT, SHORT, refused, run

import train
import weights
from pictures import write_picture


def test_missing_and_empty_folders_are_refused(tmp_path, capsys):
    refused(capsys, tmp_path, tmp_path / "none", "no such folder", TRAIN_hr_img_path=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    refused(capsys, tmp_path, tmp_path / "empty", "no pictures", TRAIN_hr_img_path=tmp_path / "empty")
    refused(capsys, tmp_path, tmp_path / "empty", "no set", mode="evaluate", EVALUATE_benchmark_dir=tmp_path / "empty")
    assert not (tmp_path / "checkpoints").exists()


def test_a_folder_of_nothing_but_bad_pictures_is_refused(tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "zero.png").touch()
    (bad / "text.jpg").write_text("no picture")
    write_picture(bad / "small.png", np.zeros((16, 16, 3), np.uint8))
    refused(capsys, tmp_path, "no usable picture", "3", TRAIN_hr_img_path=bad)


def test_training_names_bad_pictures_once_and_goes_on(tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(ROOT / "data/valid", mixed)
    whole = next(mixed.glob("*.jpg")).read_bytes()
    (mixed / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (mixed / "zero.png").touch()
    (mixed / "two\nlines.png").touch()
    os.mkfifo(mixed / "pipe.png")
    # without memory, what is cut is met when it is drawn
    change = SHORT | {"TRAIN_n_updates_init": 8, "TRAIN_memory_gb": 0, "TRAIN_hr_img_path": mixed}
    assert run(tmp_path, mode="srresnet", **change) == 0
    named = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    wanted = ["cut.jpg", "pipe.png", r"two\nlines.png", "zero.png"]
    assert sorted(Path(line.split(": ")[1]).name for line in named) == wanted
    assert json.loads((tmp_path / "checkpoints/g_srgan_init.json").read_text())["updates"] == 8


def test_when_its_pictures_vanish_the_run_stops(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "data/valid", folder)
    progress = train.Report.progress

    def vanish(self, update, terms):  # after the first update
        for path in folder.glob("*.jpg"):
            path.unlink()
        progress(self, update, terms)

    monkeypatch.setattr(train.Report, "progress", vanish)
    # Each batch has all four pictures, and the loader is less than 20 batches ahead.
    change = {"TRAIN_hr_img_path": folder, "TRAIN_memory_gb": 0, "TRAIN_n_updates_init": 30, "TRAIN_report_every": 15}
    refused(capsys, tmp_path, folder, "3 of 4 pictures", "unreadable", TRAIN_workers=1, **SHORT | change)


def test_weights_from_elsewhere_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    theirs = tmp_path / "checkpoints/g_srgan_init.weights.h5"
    theirs.write_bytes(b"precious")
    refused(capsys, tmp_path, theirs, "would be overwritten")
    assert theirs.read_bytes() == b"precious"


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    refused(capsys, tmp_path, tmp_path / "file", "cannot be made", TRAIN_checkpoint_dir=tmp_path / "file/sub")


def test_missing_vgg_weights_stop_the_run_before_anything_is_written(tmp_path, capsys):
    missing = tmp_path / "none.h5"
    ways_out = ["VGG.weights=FILE", "TRAIN.content_loss=mse", "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"]
    refused(capsys, tmp_path, missing, *ways_out, TRAIN_content_loss="tensorlayer", VGG_weights=missing)
    (tmp_path / "text.h5").write_text("no weights")
    refused(capsys, tmp_path, "text.h5", TRAIN_content_loss="tensorlayer", VGG_weights=tmp_path / "text.h5")
    assert not (tmp_path / "checkpoints").exists()


def test_vgg_without_network_is_one_line_with_the_ways_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(weights, "VGG19_ADDRESS", "https://127.0.0.1:9/vgg19_weights.h5")
    download = functools.partial(weights.download_vgg19, cache_dir=str(tmp_path))  # where no copy is
    monkeypatch.setattr(weights, "download_vgg19", download)
    named = ["vgg19_weights", "https://", "refused", "VGG.weights=FILE", "TRAIN.content_loss=mse"]
    refused(capsys, tmp_path, *named, TRAIN_content_loss="tensorlayer", VGG_weights="imagenet")
    assert not (tmp_path / "checkpoints").exists()


@contextlib.contextmanager
def largest_file(size):
    """No file grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(tmp_path, capsys):
    with largest_file(150_000):
        refused(capsys, tmp_path, "cannot be written", mode="srresnet", **SHORT)
    assert run(tmp_path, mode="srresnet", **SHORT) == 0


def no_vgg19(*arguments):
    pytest.fail("VGG19 was asked for")


def test_vgg19_is_asked_for_after_what_is_cheap_to_check(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("train.load_vgg19", no_vgg19)
    monkeypatch.setattr("evaluation.perceptual.load_vgg19", no_vgg19)
    wrong, settings = tmp_path / "none", {"TRAIN_content_loss": "tensorlayer", "VGG_weights": "imagenet"}
    refused(capsys, tmp_path, wrong, TRAIN_hr_img_path=wrong, **settings)
    refused(capsys, tmp_path, wrong, VALID_hr_img_path=wrong, **settings)
    refused(capsys, tmp_path, wrong, TRAIN_initial_generator=wrong, **settings)
    small = "TRAIN.crop=32", "VGG.reduce=0.45", "16 pixels", "TRAIN.content_loss=tensorlayer"
    refused(capsys, tmp_path, *small, VGG_reduce=0.45, **settings)
    refused(capsys, tmp_path, wrong, mode="evaluate", EVALUATE_benchmark_dir=wrong, VGG_weights="imagenet")
