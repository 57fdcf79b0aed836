"""study.py make: what a study holds, the order of its pictures, and mistakes on the command line."""

import hashlib
import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from studies import METHODS, ROOT, made, one_line, pictures, run

import study
from rating.make import scenes_of_folders
from rating.manifest import read_study, showings
from utils import PARTIAL


def test_a_study_says_what_it_is_made_of_and_its_files_do_not(tmp_path):
    made_study = made(tmp_path, 3, "--seed=5")
    manifest = json.loads((tmp_path / "study/study.json").read_text())
    assert manifest["seed"] == 5 and manifest["methods"] == METHODS and "python" in manifest["versions"]
    assert len(made_study.items) == 9
    assert {path.stem for path in (made_study.folder / "pictures").iterdir()} == set(made_study.pictures)
    for name, picture in made_study.pictures.items():
        content = made_study.path(name).read_bytes()
        assert re.fullmatch("[0-9a-f]{16}", name) and hashlib.sha256(content).hexdigest() == picture["sha256"]
        assert set(re.findall(rb"IHDR|IDAT|IEND|tEXt|tIME|iTXt|eXIf", content)) == {b"IHDR", b"IDAT", b"IEND"}
        if picture["set"] == "birds":
            source = tmp_path / picture["method"] / "birds" / f"{picture['picture']}.png"
            assert np.array_equal(iio.imread(content), iio.imread(source))
    assert [example.answer for example in made_study.examples] == [1, 5]
    bad, excellent = (iio.imread(made_study.path(example.shown[0])) for example in made_study.examples)
    assert np.array_equal(excellent, iio.imread(tmp_path / "examples/tree.png"))
    blocks = bad.reshape(4, 4, 6, 4, 3)
    assert np.array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))


def test_what_exists_is_left_as_it_is_and_what_a_killed_run_left_is_removed(tmp_path, capsys):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f"{PARTIAL}{ended.pid}-study/pictures"
    left.mkdir(parents=True)
    folder = made(tmp_path, 1).folder
    assert not left.parent.exists()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run("make", folder, *(f"{method}={tmp_path / method}" for method in METHODS)) == 2
    assert "exists already" in one_line(capsys)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda folder: (folder / "ours/birds/1.png").unlink(), "ours: birds/1 is missing"),
        (lambda folder: iio.imwrite(folder / "ours/birds/1.png", np.zeros((9, 9, 3), np.uint8)), "1.png: 9x9"),
        (lambda folder: (folder / "ours/birds/1.png").write_text("no picture"), "1.png: unreadable picture"),
        (lambda folder: shutil.copy(folder / "ours/birds/1.png", folder / "ours/birds/1.jpg"), "has the same name"),
        (lambda folder: shutil.rmtree(folder / "ours"), "ours: no such folder"),
        (lambda folder: (folder / "ours/owls.png").mkdir(), "ours/owls.png: no picture but a folder"),
    ],
)
def test_pictures_that_do_not_fit_are_one_line_and_leave_nothing(tmp_path, capsys, change, line):
    methods = pictures(tmp_path, 2)
    change(tmp_path)
    assert run("make", tmp_path / "study", *methods) == 2
    assert line in one_line(capsys)
    assert not (tmp_path / "study").exists() and not list(tmp_path.glob(".*"))


def test_an_empty_folder_with_a_pictures_name_is_one_line(tmp_path, capsys):
    methods = pictures(tmp_path, 1)
    (tmp_path / "theirs.png").mkdir()
    assert run("make", tmp_path / "study", *methods, f"theirs={tmp_path / 'theirs.png'}") == 2
    assert "theirs.png: no picture but a folder" in one_line(capsys)


WRONG = ["ours", "ours=", "=nearest", "a|b=ours", "HR=HR", "a=ours a=HR", "a=ours/birds/0.png b=HR"]


@pytest.mark.parametrize("words", [*WRONG, "a=nearest b=ours c=HR --kind=pairs"])
def test_wrong_methods_are_one_line(tmp_path, capsys, monkeypatch, words):
    pictures(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    assert run("make", "study", *words.split()) == 2
    one_line(capsys)
    assert not Path("study").exists()


def test_a_full_disk_leaves_no_half_study(tmp_path):
    methods = pictures(tmp_path, 2)
    command = [sys.executable, ROOT / "study.py", "make", tmp_path / "study", *methods]
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))}
    result = subprocess.run(command, capture_output=True, text=True, **limit)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "cannot be written" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(METHODS)


def test_the_methods_of_evaluate_are_the_default_and_an_earlier_network_goes_by_its_name(tmp_path):
    hr = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("Set5", "mine"):
        (tmp_path / "sets" / name / "HR").mkdir(parents=True)
        for number in range(3):
            iio.imwrite(tmp_path / "sets" / name / "HR" / f"{number}.png", hr)
    srcnn = ROOT / "checkpoints/pretrained/srcnn.weights.h5"
    values = [f"EVALUATE.benchmark_dir={tmp_path / 'sets'}", f"EVALUATE.srresnet={srcnn}"]
    assert run("make", tmp_path / "study", "--count=2", *(word for value in values for word in ("--set", value))) == 0
    made_study = read_study(tmp_path / "study")
    assert made_study.methods == ["nearest", "bicubic", "lanczos", "SRCNN", "SRGAN", "HR"]
    judged = [made_study.pictures[item.shown[0]] for item in made_study.items]
    assert [sum(picture["set"] == name for picture in judged) for name in ("Set5", "mine")] == [12, 12]
    originals = [name for name, picture in made_study.pictures.items() if picture["method"] == "HR"]
    assert any(np.array_equal(iio.imread(made_study.path(name)), hr) for name in originals)


def test_folders_may_begin_at_home_and_make_a_study_where_keras_is_not_installed(tmp_path):
    site = tmp_path / "site-packages"
    site.mkdir()
    for path in Path(np.__file__).parents[1].iterdir():
        if not path.name.startswith(("keras", "tensorflow", "jax")):
            (site / path.name).symlink_to(path)
    pictures(tmp_path, 2)
    command = [sys.executable, "-S", ROOT / "study.py", "make", tmp_path / "study", "ours=~/ours", "HR=~/HR"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(site), "HOME": str(tmp_path)}, check=True)
    versions = json.loads((tmp_path / "study/study.json").read_text())["versions"]
    assert list(versions) == ["python", "numpy", "pillow", "scipy"]


def test_folders_that_begin_with_a_tilde_may_lie_here(tmp_path, monkeypatch):
    pictures(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    Path("ours").rename("~$ours")
    scenes = scenes_of_folders({"ours": "~$ours", "HR": "HR"})
    assert len(scenes) == len(scenes_of_folders({"ours": Path("~$ours").resolve(), "HR": "HR"})) > 0


def test_everything_comes_once_after_the_examples_and_a_few_again_much_later(tmp_path):
    made_study = made(tmp_path, 50)

    def order_of(rater, of_study=made_study):
        return [(item.name, repeat) for item, repeat, _ in showings(of_study, rater)]

    assert order_of(1) == order_of(1, read_study(made_study.folder))
    assert order_of(1) != order_of(2) and order_of(1) != order_of(1, made_study._replace(seed=1))
    for rater in range(1, 20):
        order = order_of(rater)
        assert {name for name, _ in order[:2]} == {example.name for example in made_study.examples}
        place = {showing: number for number, showing in enumerate(order[2:])}
        assert {(item.name, 0) for item in made_study.items} <= set(place)
        again = [name for name, repeat in place if repeat]
        assert 0.05 <= len(again) / 150 <= 0.1 and len(set(order)) == len(order) == 2 + 150 + len(again)
        assert all(place[name, 1] - place[name, 0] >= 150 // 6 for name in again)
    first = [made_study.pictures[showings(made_study, rater)[2].item.shown[0]]["method"] for rater in range(200)]
    for method in METHODS:  # a third, within five standard deviations
        assert abs(first.count(method) - 200 / 3) < 5 * (200 * 2 / 9) ** 0.5


def test_methods_may_stand_before_and_after_the_options():
    options = study.command_line(["make", "x", "a=1", "--kind", "pairs", "b=2", "--seed=3", "c=4"])
    assert (options.methods, options.kind, options.seed) == (["a=1", "b=2", "c=4"], "pairs", 3)


MISTAKES = "serve x --port=70000 | serve x --raters=0 | serve x y | report x --all | make x --speed 1 | show | make"


@pytest.mark.parametrize("words", [line.split() for line in MISTAKES.split("|")])
def test_a_wrong_command_line_is_one_line(capsys, words):
    with pytest.raises(SystemExit) as stop:
        study.command_line(words)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "report"])
def test_without_its_packages_it_says_what_to_install(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(command, tmp_path) == 2
    assert "pip install -r requirements-study.txt" in one_line(capsys)
