"""The presets that need hours or minutes: quick and texture as a user runs them, and how texture and shipped begin."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_model import VGG_WEIGHTS
from thorough import often
from trainings import arguments, assert_plain, write_benchmark

import train
from training.command_line import command_line

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    for source in ROOT.glob("*.py"):
        shutil.copy(source, folder)
    for name in ("training", "upscaling", "evaluation", "methods"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("train", "valid", "benchmark/Set5"):
        shutil.copytree(ROOT / "data" / name, folder / "data" / name)
    shutil.copy(ROOT / "data/niqe_pristine.npz", folder / "data")
    return folder


def quick(folder, *words):
    """Without a network and a VGG19 of earlier, neither of which it needs."""
    closed = os.environ | {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": f"{folder}"}
    command = [sys.executable, "train.py", "--mode=srgan", "--preset=quick", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=closed)


def test_quick_trains_both_stages_and_evaluates(copy):
    """With few of its updates; what the others gain is seen with THOROUGH=1."""
    warm_up, game = often((100, 4), (600, 150))
    ended = quick(copy, "--set", f"TRAIN.n_updates_init={warm_up}", "--set", f"TRAIN.n_updates={game}")
    assert_plain(ended)
    assert "VGG19: no column" in ended.stdout and not list(copy.rglob("vgg19*"))
    log, log_of_game = (lines_of(copy / "checkpoints/quick", stage) for stage in ("srgan_init", "srgan"))
    scores = {line["update"]: line["val_psnr"] for line in log}
    # while the rate is constant it gains a dB and more a report, in the decay what other roundings may take away
    assert scores[0] + 5 < scores[100] and log_of_game[-1]["update"] == game
    for samples, updates in (("srgan_ginit", warm_up), ("srgan_gan", game)):
        assert (copy / f"samples/quick/{samples}/train_{updates}.png").exists()
    rows = json.loads((copy / "samples/quick/evaluate/results.json").read_text())
    methods = ["nearest", "bicubic", "lanczos", "SRResNet", "SRGAN", "HR"]
    assert [(row["set"], row["method"]) for row in rows] == [("Set5", method) for method in methods]
    assert len(list((copy / "samples/quick/evaluate").glob("Set*_img_*.png"))) == 5
    assert "| Set5 | bicubic | 28.42 | 28.43 |" in ended.stdout
    if often(False, True):
        assert scores[100] < scores[200] < scores[300] and scores[600] > log[0]["val_psnr_bicubic"] > scores[0]
        assert log_of_game[-1]["d_real"] > log_of_game[-1]["d_fake"]  # the discriminator has learnt
        psnr = {row["method"]: row["psnr"] for row in rows}
        assert psnr["SRResNet"] > psnr["bicubic"] and psnr["SRGAN"] > psnr["bicubic"]


def lines_of(folder, stage="srgan"):
    return [json.loads(line) for line in (folder / f"log_{stage}.jsonl").read_text().splitlines()]


def texture(folder, **changes):
    """Run the preset with results below `folder`; a change `TRAIN_crop=64` stands for TRAIN.crop. Returns the table."""
    settings = {"TRAIN.checkpoint_dir": folder / "checkpoints", "TRAIN.samples_dir": folder / "samples"}
    settings |= {name.replace("_", ".", 1): value for name, value in changes.items()}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert train.main(*command_line(["--mode=srgan", "--preset=texture", *words])) == 0
    rows = json.loads((folder / "samples/evaluate/results.json").read_text())
    return {row["method"]: row for row in rows if row["set"] == "Set5"}


def test_texture_begins_with_the_shipped_srresnet_and_has_no_warm_up(tmp_path, monkeypatch):
    """And its table has no distances, which would take longer than the training."""
    monkeypatch.chdir(ROOT)
    write_benchmark(tmp_path / "benchmark")
    files = {"EVALUATE_benchmark_dir": tmp_path / "benchmark", "TRAIN_content_loss": "mse"}
    table = texture(tmp_path, TRAIN_n_updates=0, **files)
    (line,) = lines_of(tmp_path / "checkpoints")
    assert line["update"] == 0 and line["val_psnr"] > line["val_psnr_bicubic"] + 0.5
    assert not list((tmp_path / "checkpoints").glob("*srgan_init*"))
    assert "SRResNet" in table and not any("vgg19" in row for row in table.values())


@pytest.mark.skipif(not often(0, 1), reason="takes minutes; THOROUGH=1 runs it")
@pytest.mark.skipif(not VGG_WEIGHTS.exists(), reason="needs VGG19's weights")
def test_texture_gains_texture(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    table = texture(tmp_path, VGG_weights=VGG_WEIGHTS)
    assert table["SRGAN"]["niqe"] < table["SRResNet"]["niqe"] - 1
    assert table["SRGAN"]["psnr"] > table["bicubic"]["psnr"]


@pytest.mark.parametrize("named, status", [((), 0), (("--set", "TRAIN.teacher=mine.onnx"), 2)])
def test_shipped_goes_on_without_its_teacher_but_not_without_one_that_was_named(
    tmp_path, monkeypatch, capsys, named, status
):
    monkeypatch.chdir(tmp_path)
    untrained = {"TRAIN_n_updates_init": 0, "TRAIN_n_updates": 0, "TRAIN_precision": "float32"}
    with monkeypatch.context() as patch:
        patch.setattr(train, "evaluate", lambda config: 0)
        assert train.main(*command_line([*arguments(tmp_path, **untrained), "--preset=shipped", *named])) == status
    said, mistakes = capsys.readouterr()
    if status:
        assert mistakes.count("\n") == 1 and "TRAIN.teacher=mine.onnx" in mistakes and "teacher.onnx is" not in said
    else:
        assert len([line for line in said.splitlines() if "teacher.onnx is not there: " in line and "HR" in line]) == 1
        assert json.loads((tmp_path / "checkpoints/log_srgan_init.jsonl").read_text().splitlines()[0])["update"] == 0
