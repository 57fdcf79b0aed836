"""The quick preset as a user runs it in a fresh copy of the repository: both stages, grids and table."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def quick(folder):
    """Without a network and a VGG19 of earlier, neither of which it needs."""
    closed = os.environ | {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": f"{folder}"}
    command = [sys.executable, "train.py", "--mode=srgan", "--preset=quick"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=closed)


def test_quick_trains_both_stages_and_evaluates(copy):
    ended = quick(copy)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "VGG19: no column" in ended.stdout and not list(copy.rglob("vgg19*"))
    logs = {}
    for stage in ("srgan_init", "srgan"):
        lines = (copy / f"checkpoints/quick/log_{stage}.jsonl").read_text().splitlines()
        logs[stage] = [json.loads(line) for line in lines]
    scores = {line["update"]: line["val_psnr"] for line in logs["srgan_init"]}
    # while the rate is constant it gains a dB and more a report, in the decay what other roundings may take away
    assert scores[0] + 5 < scores[100] < scores[200] < scores[300]
    assert scores[600] > logs["srgan_init"][0]["val_psnr_bicubic"] > scores[0]
    assert logs["srgan"][-1]["d_real"] > logs["srgan"][-1]["d_fake"]  # the discriminator has learnt
    for samples, updates in (("srgan_ginit", 600), ("srgan_gan", 150)):
        assert (copy / f"samples/quick/{samples}/train_{updates}.png").exists()
    rows = json.loads((copy / "samples/quick/evaluate/results.json").read_text())
    methods = ["nearest", "bicubic", "lanczos", "SRResNet", "SRGAN", "HR"]
    assert [(row["set"], row["method"]) for row in rows] == [("Set5", method) for method in methods]
    psnr = {row["method"]: row["psnr"] for row in rows}
    assert psnr["SRResNet"] > psnr["bicubic"] and psnr["SRGAN"] > psnr["bicubic"]
    assert len(list((copy / "samples/quick/evaluate").glob("Set*_img_*.png"))) == 5
    assert "| Set5 | bicubic | 28.42 | 28.43 |" in ended.stdout
