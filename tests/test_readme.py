"""Every command in the README and in docs/ is one that the repository answers to."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from config import command_line

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = ("upscale.py", "export.py", "demo.py", "study.py")


def commands(document):
    blocks = re.findall(r"```bash\n(.*?)```", document.read_text(), re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_shows_the_commands_a_user_needs():
    shown = "\n".join(commands(ROOT / "README.md"))
    for command in ("make evaluate", "make test", "--mode=srgan", "--preset=quick", "upscale.py"):
        assert command in shown


@pytest.mark.parametrize("command", sorted({command for document in DOCUMENTS for command in commands(document)}))
def test_command(command):
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    program, *rest = words
    if program == "make":
        subprocess.run(["make", "--dry-run", *rest], cwd=ROOT, check=True, capture_output=True)
    elif rest[-1:] == ["--help"]:
        subprocess.run([sys.executable, *rest], cwd=ROOT, check=True, capture_output=True)
    elif rest[:1] == ["train.py"]:
        command_line(rest[1:])
    elif rest and rest[0] in PARSERS:
        importlib.import_module(rest[0][:-3]).command_line(rest[1:])
    elif program.endswith("python") and rest[:2] == ["-m", "pytest"]:
        assert (ROOT / rest[-1]).exists()
    elif program.endswith("python") and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).is_file()
        if rest[0].startswith("data/"):
            help_of_it = subprocess.run([sys.executable, rest[0], "--help"], cwd=ROOT, capture_output=True, text=True)
            assert all(word in help_of_it.stdout for word in rest[1:])
    elif words[:2] == ["pip", "install"]:
        assert words[-1] == "pip-audit" or (ROOT / words[-1]).is_file()
    elif program == "pip-audit":
        assert (ROOT / words[-1]).is_file()
    elif program == "source":
        assert rest in ([".venv/bin/activate"], [".venv-upscale/bin/activate"])
    elif program == "tensorboard":
        assert rest == ["--logdir=checkpoints/tensorboard"]
    elif program == "curl":  # tests/test_demo.py sends pictures so
        assert "http://127.0.0.1:7860/upscale?model=srresnet&format=jpg" in words
    else:
        pytest.fail(f"a command that no test knows: {command}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_nothing_in_a_document_waits_to_be_filled_in_and_its_links_lead_somewhere(document):
    text = document.read_text()
    assert not re.findall(r"[A-Z]+_(?:TABLE|NUMBERS)", text)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (document.parent / target.partition("#")[0]).exists(), target
