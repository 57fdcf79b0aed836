"""Every command and every piece of Python in the documents: run on small files, or parsed as its program parses it."""

import ast
import contextlib
import importlib.util
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from archives import save_arrays
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from test_download import download
from trainings import ROOT, TINY, write_benchmark
from videos import write_video

import export
import train
import upscale
from model import SRGAN_g
from pictures import read_picture, write_picture
from training.command_line import command_line
from weights import save_weights

CARDS = [ROOT / name for name in ("CONTRIBUTING.md", "data/README.md", "checkpoints/pretrained/README.md")]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *CARDS]
PROGRAMS = r"python[\d.]*|pip|pip-audit|pre-commit|make|docker|curl|source|tensorboard"
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:{PROGRAMS}) \S")
# {how a command begins: why it is neither run nor parsed here}
UNTESTED = {
    "pip install tensorflow[and-cuda]": "needs a GPU",
    "pip install jax[cuda13]": "needs a GPU",
    "pip install pip-audit": "needs a network",
    "pip install pre-commit": "needs a network",
}
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.S | re.M)


def commands(document):
    """The commands of a document: those of its bash blocks, and those in its text, in `spans` and indented lines."""
    text = document.read_text()
    blocks = "".join(content for language, content in BLOCK.findall(text) if language == "bash")
    lines = blocks.replace("\\\n", "").splitlines()
    text = BLOCK.sub("", text)
    for span in [*re.findall(r"`([^`]+)`", text), *re.findall(r"^    (\S.*)$", text, re.M)]:
        if COMMAND.match(" ".join(span.split())):
            lines.append(" ".join(span.split()))
    lines = [part for line in lines for part in line.split(" && ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = sorted({shlex.join(words) for document in DOCUMENTS for words in commands(document)})


def test_the_readme_shows_the_commands_a_user_needs():
    text = "\n".join(map(shlex.join, commands(ROOT / "README.md")))
    assert all(command in text for command in ("make evaluate", "make test", "--preset=quick", "upscale.py"))


def split(command):
    """(environment, program without its folder, words) of a command; of a Python script the program is the script."""
    words = shlex.split(command)
    environment = list(itertools.takewhile(lambda word: re.fullmatch(r"[A-Z_]+=\S+", word), words))
    program, *words = words[len(environment) :]
    if program.rsplit("/")[-1].startswith("python") and words[0].endswith(".py"):
        return environment, words[0], words[1:]
    return environment, program.rsplit("/")[-1], words


def untested(command):
    """The entry of UNTESTED that the command begins with, or None."""
    _, program, words = split(command)
    return next((known for known in UNTESTED if " ".join([program, *words]).startswith(known)), None)


# Run

SMALL = TINY | {
    "TRAIN.n_updates_init": 1,
    "TRAIN.n_updates": 1,
    "TRAIN.hr_img_path": ROOT / "data/valid",
    "VALID.hr_img_path": ROOT / "data/valid",
    "TRAIN.content_loss": "mse",
    "EVALUATE.benchmark_dir": "benchmark",
}
del SMALL["TRAIN.fixed_statistics"]
SMALL = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]


def chosen():
    """The commands that are run: of trainings that differ only in what SMALL overrides, one."""
    runs = {}  # those that have tests of their own are not run here
    elsewhere = {
        "--help",
        "--ray",
        "--preset=quick",
        "--preset=texture",
        "TRAIN.content_loss=johnson",
        "TRAIN.devices=all",
        "TRAIN.lr_img_path=data/pairs/lr",
        "serve",
        "report",
    }
    for command in COMMANDS:
        environment, program, words = split(command)
        if environment or elsewhere & set(words):
            continue
        if program == "train.py":
            with contextlib.suppress(SystemExit):  # an option that is not there: test_command_is_parsed says so
                runs.setdefault(str(command_line([*words, *SMALL])), command)
        elif program.startswith("docs/") or program in ("upscale.py", "export.py", "study.py", "data/download.py"):
            runs[command] = command
    return list(runs.values())


RUN = chosen()


def save_small(folder, name, **settings):
    settings = {"variant": "paper", "scale": 4, "blocks": 1, "filters": 8} | settings
    save_weights(SRGAN_g(**settings), folder / f"{name}.weights.h5", {"model": settings})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what the documents' commands name, all of it small."""
    folder = tmp_path_factory.mktemp("documents")
    write_benchmark(folder / "benchmark")
    picture = read_picture(ROOT / "data/benchmark/Set5/HR/img_003.png")[:24, :32]
    for name in ("photo.jpg", "holiday/sea.jpg", "scans/1.tif", "lr/a.png"):
        write_picture(folder / name, picture)
    for name in ("ours", "other", "originals"):
        write_picture(folder / name / "b.png", np.repeat(np.repeat(picture, 4, 0), 4, 1))
    if importlib.util.find_spec("av"):
        write_video(folder / "clip.mp4", [picture])
    save_small(folder, "other")
    for name in ("g_srgan", "g_srgan_init", "espcn/g_srgan_init", "shipped/g_srgan", "shipped/g_srgan_init"):
        save_small(folder / "checkpoints", name)
    save_arrays(SRGAN_g("tensorlayer", blocks=1, filters=8), folder / "g_srgan.npz")
    if importlib.util.find_spec("onnx"):
        from test_teacher import write_network

        write_network(folder / "teacher.onnx")
    shutil.copytree(ROOT / "docs/training", folder / "docs/training")
    write_picture(folder / "data/train/a.png", np.zeros((192, 200, 3), np.uint8))
    for name in ("div2k", "div2k_valid", "benchmark/BSD100/HR"):
        write_picture(folder / "data" / name / "a.png", picture)
    return folder


@pytest.fixture
def copy(files, tmp_path, monkeypatch):
    """A copy of the folder, where the command starts."""
    shutil.copytree(files, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("command", RUN)
def test_command_runs(command, copy):
    _, program, words = split(command)
    if program.startswith("docs/"):
        pytest.importorskip("matplotlib")
        subprocess.run([sys.executable, ROOT / program, *words], check=True)
    elif program == "data/download.py":  # the set is there; tests/test_download.py fetches each one
        assert download.main(words) == 0
    elif program == "train.py" and "--mode=evaluate" in words:
        assert train.main(*command_line([*words, *SMALL])) == 0
    elif program == "train.py":
        with mock.patch("train.evaluate", lambda config: 0):
            assert train.main(*command_line([*words, *SMALL, "--set", "TRAIN.checkpoint_dir=new"])) == 0
        assert list(Path("new").glob("g_*.weights.h5"))
    else:
        module = importlib.import_module(program.removesuffix(".py"))
        if program == "study.py" and not any("=" in word for word in words):
            words += SMALL
        if program == "export.py":
            pytest.importorskip("tf2onnx")
            words += [] if "--model" in words else ["--model", "checkpoints/g_srgan.weights.h5"]
        if "clip.mp4" in words:
            pytest.importorskip("av")
        before = set(Path().rglob("*"))
        assert module.main(module.command_line(words)) == 0
        assert {path for path in set(Path().rglob("*")) - before if path.suffix}  # something was made


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    command = [sys.executable, ROOT / "docs/degraded.py", tmp_path / "none", tmp_path / "out.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "none: no such folder" in done.stderr


PYTHON = [
    pytest.param(content, id=document.name)
    for document in DOCUMENTS
    for language, content in BLOCK.findall(document.read_text())
    if language == "python"
]


@pytest.mark.parametrize("content", PYTHON)
def test_python_in_a_document_runs(content, copy, monkeypatch):
    if "import ray" in content:
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else it would leave a token in the home folder
        pytest.importorskip("ray.data")
    if "onnxruntime" in content:
        pytest.importorskip("onnxruntime")
        words = ["--format=onnx", "--model=checkpoints/g_srgan.weights.h5", "-o", "srgan_x4.onnx"]
        assert export.main(export.command_line(words)) == 0
    names = {"lr": np.zeros((6, 8, 3), np.uint8)}
    exec(content, names)
    assert np.shape(names["sr"])[-3:] in ((24, 32, 3), (96, 128, 3))
    if "onnxruntime" in content:
        words = ["photo.jpg", "--model=checkpoints/g_srgan.weights.h5", "--back-project=0", "-o", "sr.png"]
        assert upscale.main(upscale.command_line(words)) == 0
        expected, sr = (np.int16(read_picture(name)) for name in ("sr.png", "photo_x4.png"))
        assert np.abs(sr - expected).max() <= 1


def test_python_of_the_readme_runs_in_another_folder_by_pythonpath(tmp_path):
    (code,) = [content for language, content in BLOCK.findall((ROOT / "README.md").read_text()) if language == "python"]
    program = f"import numpy\nlr = numpy.zeros((6, 8, 3), 'uint8')\n{code}\nprint(sr.shape)"
    command = ["bash", "-c", f'cd "{ROOT}" && export PYTHONPATH=$PWD && cd "{tmp_path}" && exec "$0" -c "$1"']
    ended = subprocess.run([*command, sys.executable, program], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("(24, 32, 3)\n", "")


@pytest.mark.parametrize("words", [["."], ["-e", "."]])
def test_pip_install_says_in_a_line_what_to_do_instead(words, tmp_path):
    if importlib.util.find_spec("pip") is None:
        pytest.skip("needs pip")
    for name in ("pyproject.toml", ".ci/no_package.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--target", tmp_path / "there", *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (line,) = [line.strip() for line in ended.stderr.splitlines() if "PYTHONPATH" in line]
    assert ended.returncode == 1 and "[1 lines of output]" in ended.stderr and "README.md" in line
    for named in re.findall(r"\S+\.txt", line):
        assert (ROOT / named.rstrip(",")).is_file()


# Parsed

KNOWN = {
    "git": [["clone", "ADDRESS", "srgan"]],
    "cd": [["srgan"]],
    "export": [["PYTHONPATH=$PWD"]],  # run below, in another folder
    "python3": [["-m", "venv", ".venv"], ["-m", "venv", ".venv-upscale"]],
    "source": [[".venv/bin/activate"], [".venv-upscale/bin/activate"]],
    "pre-commit": [["install"]],
    "run": [[]],  # .ci/run
    "tensorboard": [["--logdir=checkpoints/tensorboard"]],
}


def check_benchmark(path, words):
    """Its options are in it, and what it imports of ours is there; its packages may be missing here."""
    code = path.read_text()
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in code or option == "--set" and "command_line(" in code
    for node in ast.walk(ast.parse(code)):
        name = f"{node.module.replace('.', '/')}.py" if isinstance(node, ast.ImportFrom) else "none.py"
        for ours in [file for file in (ROOT / name, path.parent / name) if file.exists()][:1]:
            for wanted in (alias.name for alias in node.names):
                assert re.search(rf"^(def |class |from .* import .*\b)?{wanted}\b", ours.read_text(), re.M), wanted


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in RUN])
def test_command_is_parsed(command):
    _, program, words = split(command)
    if untested(command):
        return
    if words[-1:] == ["--help"]:
        subprocess.run([sys.executable, program, *words], cwd=ROOT, check=True, capture_output=True)
    elif program == "make":
        subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)
    elif program in ("train.py", "study.py", "demo.py", "upscale.py"):
        importlib.import_module(program.removesuffix(".py")).command_line(words)
    elif program.startswith("benchmarks/") or program == "data/restored.py":  # tests/test_teacher.py makes pairs
        check_benchmark(ROOT / program, words)
    elif words[:2] == ["-m", "training.artefacts"]:
        assert words[2:] == ["/my/photos", "artefacts.npz"]  # tests/test_restoration.py runs it
    elif words[:2] == ["-m", "pytest"]:
        assert (ROOT / words[-1]).exists()
    elif program in ("pip", "pip-audit"):
        assert words[-2] == "-r" and (ROOT / words[-1]).is_file()
    elif program == "curl":  # tests/test_demo.py sends pictures so
        assert "http://127.0.0.1:7860/upscale?model=srresnet&format=jpg" in words
    else:
        assert words in KNOWN[program]


def test_windows_commands_are_those_of_linux():
    (block,) = [content for language, content in BLOCK.findall((ROOT / "README.md").read_text()) if language == "bat"]
    translated = block.replace("py -m", "python3 -m").replace("\\Scripts\\activate", "/bin/activate").splitlines()
    known = [*COMMANDS, "pip install -r requirements-upscale.txt"]
    assert len(translated) == 6 and all(
        line.replace(".venv-upscale/bin/act", "source .venv-upscale/bin/act") in known for line in translated
    )


def test_every_exception_is_needed():
    assert set(map(untested, COMMANDS)) == {*UNTESTED, None}


@pytest.mark.parametrize("name, last", [("requirements.txt", 13), ("requirements-upscale.txt", 14)])
def test_the_packages_admit_the_pythons_that_are_named(name, last):
    text = (ROOT / name).read_text()
    for document in (text, (ROOT / "README.md").read_text()):
        assert f"Python 3.11 to 3.{last}" in document
    requirements = [line.partition("#")[0].strip() for line in text.splitlines()]
    for package in (Requirement(requirement).name for requirement in requirements if requirement):
        with contextlib.suppress(PackageNotFoundError):  # in an environment of JAX
            allowed = SpecifierSet(metadata(package).get("Requires-Python") or "")
            assert all(f"3.{minor}.0" in allowed for minor in range(11, last + 1)), package


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_nothing_in_a_document_waits_to_be_filled_in_and_its_links_lead_somewhere(document):
    text = document.read_text()
    assert not re.findall(r"[A-Z]+_(?:TABLE|NUMBERS)", text)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (document.parent / target.partition("#")[0]).exists(), target
