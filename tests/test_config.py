"""The configuration: every value checked, every mistake one line and exit 2, help without a framework."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import config
import engines
import utils
from training.command_line import command_line

ROOT = Path(__file__).parents[1]


def test_defaults_are_the_papers_and_they_and_the_presets_are_allowed():
    resolved = config.configuration()
    assert (resolved.MODEL.blocks, resolved.MODEL.filters, resolved.TRAIN.batch_size) == (16, 64, 16)
    assert (resolved.TRAIN.learning_rate, resolved.TRAIN.beta1, resolved.TRAIN.crop) == (1e-4, 0.9, 96)
    presets = {"defaults": {key: option.default for key, option in config.OPTIONS.items()}} | config.PRESETS
    for name, values in presets.items():
        assert all(config.OPTIONS[key].allowed.holds(value) for key, value in values.items()), name


@pytest.mark.parametrize("preset, lengths", [("paper", (1_000_000, 200_000)), ("default", (100_000, 100_000))])
def test_presets_have_the_published_lengths(preset, lengths):
    settings = config.configuration(preset).TRAIN
    assert (settings.n_updates_init, settings.n_updates) == lengths


def test_set_overrides_a_value_and_keeps_its_type():
    overrides = [
        "TRAIN.batch_size=8",
        "TRAIN.learning_rate=1",
        "VALID.hr_img_path=2024",
        "TRAIN.hr_img_path=['a', 'b']",
    ]
    settings = config.configuration(overrides=overrides)
    assert settings.TRAIN.batch_size == 8
    assert settings.TRAIN.learning_rate == 1.0 and isinstance(settings.TRAIN.learning_rate, float)
    assert settings.VALID.hr_img_path == "2024" and settings.TRAIN.hr_img_path == ["a", "b"]
    assert command_line(["--mode=evaluate", "--all"])[2].EVALUATE.methods == "all"


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    settings = config.configuration(overrides=["TRAIN.checkpoint_dir=~/run", "EVALUATE.srgan=~/g.weights.h5"])
    assert settings.TRAIN.checkpoint_dir == "/home/me/run" and settings.EVALUATE.srgan == "/home/me/g.weights.h5"


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--set", "TRAIN.batchsize=8"], ["TRAIN.batchsize", "no such key"]),
        (["--set", "TRAIN.batch_size"], ["TRAIN.batch_size", "SECTION.name=value"]),
        (["--set", "TRAIN.batch_size=many"], ["TRAIN.batch_size=many", "whole number", "1 or more"]),
        (["--set", "TRAIN.batch_size=0"], ["TRAIN.batch_size=0", "1 or more"]),
        (["--set", "TRAIN.batch_size=1.5"], ["TRAIN.batch_size=1.5", "whole number"]),
        (["--set", "TRAIN.batch_size=True"], ["TRAIN.batch_size=True", "whole number"]),
        (["--set", "TRAIN.learning_rate=-1"], ["TRAIN.learning_rate=-1", "0.0 or more"]),
        (["--set", "TRAIN.learning_rate=1e999"], ["TRAIN.learning_rate=1e999", "number"]),
        (["--set", "MODEL.scale=3"], ["MODEL.scale=3", "2, 4, 8"]),
        (["--set", "MODEL.variant=edsr"], ["MODEL.variant=edsr", "'paper', 'tensorlayer'"]),
        (["--set", "TRAIN.crop=100"], ["TRAIN.crop=100", "multiple of 16"]),
        (["--set", "MODEL.variant=tensorlayer"], ["TRAIN.crop=96", "multiple of 64"]),
        (["--set", "TRAIN.seed=4294967296"], ["TRAIN.seed=4294967296", "4294967295"]),
        (["--set", "TRAIN.hr_img_path=[]"], ["TRAIN.hr_img_path=[]", "folder"]),
        (["--preset", "huge"], ["--preset", "huge"]),
        (["--mode", "training"], ["--mode", "training"]),
        (["--batch_size=8"], ["--batch_size"]),
        (["--input", "a.png"], ["--input", "evaluate"]),
        (["--mode=evaluate", "--input="], ["--input", "empty"]),
        (["--all"], ["--all", "evaluate"]),
        (["--set", "TRAIN.crop={[]: 1}"], ["TRAIN.crop", "whole number"]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(arguments, named, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line(arguments)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == "" and printed.err.count("\n") == 1
    for part in named:
        assert part in printed.err


@pytest.mark.parametrize("words", ["upscale.py --version", "study.py report --version"])
def test_the_version_is_the_changelogs(words):
    command = [sys.executable, *words.split()]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == f"SRGAN {utils.VERSION}\n"
    (newest,) = re.findall(r"\A# Changelog\n\n## (.+)\n", (ROOT / "CHANGELOG.md").read_text())
    assert newest == ("Unreleased" if ".dev" in utils.VERSION else utils.VERSION)


def test_a_backend_that_cannot_be_used_is_one_line_and_no_exit_of_a_library(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(SystemExit) as stop:
        command_line([])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "KERAS_BACKEND=torch" in said and said.count("\n") == 1
    with pytest.raises(ValueError, match="KERAS_BACKEND=torch"):
        engines.prepare_environment()


def test_help_lists_every_value_and_imports_no_framework():
    frameworks = ("keras", "tensorflow", "jax", "numpy")
    script = f"""
import runpy, sys
sys.argv = ["train.py", "--help"]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit:
    print([name for name in {frameworks} if name in sys.modules])
"""
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.rstrip().endswith("[]")
    assert all(key in printed for key in config.OPTIONS)
