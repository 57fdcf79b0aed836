"""Every command in the README is one that the repository answers to."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from config import command_line

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if line and not line.startswith("#")]


def test_the_readme_shows_the_commands_a_user_needs():
    shown = "\n".join(COMMANDS)
    for command in ("make evaluate", "make test", "--mode=srgan", "--mode=evaluate", "--preset=quick", "upscale.py"):
        assert command in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command):
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    program, *rest = words
    if program == "make":
        subprocess.run(["make", "--dry-run", *rest], cwd=ROOT, check=True, capture_output=True)
    elif rest == ["train.py", "--help"]:
        subprocess.run([sys.executable, *rest], cwd=ROOT, check=True, capture_output=True)
    elif rest[:1] == ["train.py"]:
        command_line(rest[1:])
    elif rest[:1] in (["upscale.py"], ["export.py"]):
        importlib.import_module(rest[0][:-3]).command_line(rest[1:])
    elif program.endswith("python") and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).is_file()
        if rest[0].startswith("data/"):
            help_of_it = subprocess.run([sys.executable, rest[0], "--help"], cwd=ROOT, capture_output=True, text=True)
            assert all(word in help_of_it.stdout for word in rest[1:])
    elif "pip" in words:
        assert (ROOT / words[-1]).is_file()
    elif program == "source":
        assert rest in ([".venv/bin/activate"], [".venv-upscale/bin/activate"])
    elif words[:3] == ["python3", "-m", "venv"]:
        assert words[3] == ".venv"
    elif program == "tensorboard":
        assert rest == ["--logdir=checkpoints/tensorboard"]
    else:
        pytest.fail(f"a command that no test knows: {command}")


def test_nothing_in_the_readme_waits_to_be_filled_in():
    text = (ROOT / "README.md").read_text()
    assert not re.findall(r"[A-Z]+_(?:TABLE|NUMBERS)", text)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
