"""study.py make: what a study holds, the order of its pictures, and mistakes on the command line."""

import hashlib
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
from studies import METHODS, ROOT, made, make, one_line, pictures

import study
from rating.manifest import read_study, showings
from utils import PARTIAL

# Make


def test_a_study_says_what_it_is_made_of_and_its_files_do_not(tmp_path):
    found = made(tmp_path, 3, "--seed=5")
    manifest = json.loads((tmp_path / "study/study.json").read_text())
    assert manifest["seed"] == 5 and manifest["methods"] == METHODS and "python" in manifest["versions"]
    assert len(found.items) == 9 and [example.answer for example in found.examples] == [1, 5]
    assert {path.stem for path in (found.folder / "pictures").iterdir()} == set(found.pictures)
    for name, picture in found.pictures.items():
        content = found.path(name).read_bytes()
        assert re.fullmatch("[0-9a-f]{16}", name) and hashlib.sha256(content).hexdigest() == picture["sha256"]
        assert set(re.findall(rb"IHDR|IDAT|IEND|tEXt|tIME|iTXt|eXIf", content)) == {b"IHDR", b"IDAT", b"IEND"}
        if picture["set"] == "birds":
            source = tmp_path / picture["method"] / "birds" / f"{Path(picture['picture']).name}.png"
            assert np.array_equal(iio.imread(found.path(name)), iio.imread(source))


def test_the_examples_are_nearest_for_1_and_the_original_for_5(tmp_path):
    found = made(tmp_path, 1)
    bad, excellent = (iio.imread(found.path(example.shown[0])) for example in found.examples)
    assert np.array_equal(excellent, iio.imread(tmp_path / "examples/tree.png"))
    blocks = bad.reshape(4, 4, 6, 4, 3)
    assert np.array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))


def test_what_exists_is_left_as_it_is(tmp_path, capsys):
    found = made(tmp_path, 1)
    before = {path: path.read_bytes() for path in found.folder.rglob("*") if path.is_file()}
    assert make(found.folder, *(f"{method}={tmp_path / method}" for method in METHODS)) == 2
    assert "exists already" in one_line(capsys)
    assert before == {path: path.read_bytes() for path in found.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda folder: (folder / "ours/birds/1.png").unlink(), "ours: birds/1 is missing"),
        (lambda folder: iio.imwrite(folder / "ours/birds/1.png", np.zeros((9, 9, 3), np.uint8)), "1.png: 9x9"),
        (lambda folder: (folder / "ours/birds/1.png").write_text("no picture"), "1.png: unreadable picture"),
        (lambda folder: shutil.copy(folder / "ours/birds/1.png", folder / "ours/birds/1.jpg"), "has the same name"),
        (lambda folder: shutil.rmtree(folder / "ours"), "ours: no such folder"),
    ],
)
def test_pictures_that_do_not_fit_are_one_line_and_leave_nothing(tmp_path, capsys, change, line):
    methods = pictures(tmp_path, 2)
    change(tmp_path)
    assert make(tmp_path / "study", *methods) == 2
    assert line in one_line(capsys)
    assert not (tmp_path / "study").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("words", (["ours"], ["ours="], ["=a"], ["a|b=x", "HR=x"], ["ours=x"], ["a=x", "a=x"]))
def test_wrong_methods_are_one_line(tmp_path, capsys, words):
    (tmp_path / "x").mkdir()
    iio.imwrite(tmp_path / "x" / "a.png", np.zeros((8, 8), np.uint8))
    words = [word.replace("=x", f"={tmp_path / 'x'}") for word in words]
    assert make(tmp_path / "study", *words) == 2
    one_line(capsys)
    assert not (tmp_path / "study").exists()


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path, capsys):
    methods = pictures(tmp_path, 1)
    assert make(tmp_path / "study", methods[0] + "/birds/0.png", methods[1]) == 2
    assert "0.png: is a file" in one_line(capsys)


def test_pairs_need_the_original(tmp_path, capsys):
    methods = [*pictures(tmp_path, 1)[:2], f"theirs={tmp_path / 'ours'}"]
    assert make(tmp_path / "study", *methods, "--kind=pairs") == 2
    assert "HR=FOLDER" in one_line(capsys)


def test_a_full_disk_leaves_no_half_study(tmp_path):
    methods = pictures(tmp_path, 2)
    command = [sys.executable, ROOT / "study.py", "make", tmp_path / "study", *methods]
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))}
    result = subprocess.run(command, capture_output=True, text=True, **limit)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "cannot be written" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(METHODS)


def test_the_methods_of_evaluate_are_the_default(tmp_path):
    hr = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("Set5", "mine"):
        (tmp_path / "sets" / name / "HR").mkdir(parents=True)
        for number in range(3):
            iio.imwrite(tmp_path / "sets" / name / "HR" / f"{number}.png", hr)
    assert make(tmp_path / "study", "--count=2", "--set", f"EVALUATE.benchmark_dir={tmp_path / 'sets'}") == 0
    found = read_study(tmp_path / "study")
    assert found.methods == ["nearest", "bicubic", "lanczos", "SRResNet", "SRGAN", "HR"]
    judged = [found.pictures[item.shown[0]] for item in found.items]
    assert [sum(picture["set"] == name for picture in judged) for name in ("Set5", "mine")] == [12, 12]
    originals = [name for name, picture in found.pictures.items() if picture["method"] == "HR"]
    assert any(np.array_equal(iio.imread(found.path(name)), hr) for name in originals)


def test_an_earlier_network_keeps_its_name(tmp_path):
    hr = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (tmp_path / "sets/mine/HR").mkdir(parents=True)
    iio.imwrite(tmp_path / "sets/mine/HR/a.png", hr)
    weights = ROOT / "checkpoints/pretrained/srcnn.weights.h5"
    options = [f"EVALUATE.benchmark_dir={tmp_path / 'sets'}", f"EVALUATE.srresnet={weights}"]
    assert make(tmp_path / "study", *(word for option in options for word in ("--set", option))) == 0
    found = read_study(tmp_path / "study")
    assert found.methods == ["nearest", "bicubic", "lanczos", "SRCNN", "SRGAN", "HR"]
    assert {picture["method"] for picture in found.pictures.values()} == {*found.methods}


def test_what_a_killed_run_left_is_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f"{PARTIAL}{ended.pid}-study/pictures"
    left.mkdir(parents=True)
    made(tmp_path, 1)
    assert not left.parent.exists()


def test_a_folder_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pictures(tmp_path, 1)
    assert make(tmp_path / "study", *(f"{method}=~/{method}" for method in METHODS)) == 0


# The order


def test_folders_make_a_study_where_keras_is_not_installed(tmp_path):
    site = tmp_path / "site-packages"
    site.mkdir()
    for path in Path(np.__file__).parents[1].iterdir():
        if not path.name.startswith(("keras", "tensorflow", "jax")):
            (site / path.name).symlink_to(path)
    command = [sys.executable, "-S", ROOT / "study.py", "make", tmp_path / "study", *pictures(tmp_path, 2)]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(site)}, check=True)
    versions = json.loads((tmp_path / "study/study.json").read_text())["versions"]
    assert list(versions) == ["python", "numpy", "pillow", "scipy"]


def test_the_order_follows_from_the_seed_and_the_rater(tmp_path):
    found = made(tmp_path, 50)
    order = [(item.name, repeat) for item, repeat, _ in showings(found, 1)]
    assert order == [(item.name, repeat) for item, repeat, _ in showings(read_study(found.folder), 1)]
    assert order != [(item.name, repeat) for item, repeat, _ in showings(found, 2)]
    assert order != [(item.name, repeat) for item, repeat, _ in showings(found._replace(seed=1), 1)]


def test_everything_is_shown_once_after_the_examples_and_a_few_again_much_later(tmp_path):
    found = made(tmp_path, 50)
    for rater in range(1, 20):
        order = [(item.name, repeat) for item, repeat, _ in showings(found, rater)]
        assert {name for name, _ in order[:2]} == {example.name for example in found.examples}
        place = {shown: number for number, shown in enumerate(order[2:])}
        assert {(item.name, 0) for item in found.items} <= set(place)
        again = [name for name, repeat in place if repeat]
        assert 0.05 <= len(again) / 150 <= 0.1 and len(set(order)) == len(order) == 2 + 150 + len(again)
        assert all(place[name, 1] - place[name, 0] >= 150 // 6 for name in again)


def test_first_places_go_to_all_methods_alike(tmp_path):
    found = made(tmp_path, 10)
    raters = 600
    first = [found.pictures[showings(found, rater)[2].item.shown[0]]["method"] for rater in range(raters)]
    for method in METHODS:  # a third, within five standard deviations
        assert abs(first.count(method) - raters / 3) < 5 * (raters * 2 / 9) ** 0.5


# The command line


def test_methods_may_stand_before_and_after_the_options():
    options = study.command_line(["make", "x", "a=1", "--kind", "pairs", "b=2", "--seed=3", "c=4"])
    assert (options.methods, options.kind, options.seed) == (["a=1", "b=2", "c=4"], "pairs", 3)


WRONG = "serve x --port=70000 | serve x --raters=0 | serve x y | report x --all | make x --speed 1 | show | make"


@pytest.mark.parametrize("words", [line.split() for line in WRONG.split("|")])
def test_a_wrong_command_line_is_one_line(capsys, words):
    with pytest.raises(SystemExit) as stop:
        study.command_line(words)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_without_its_packages_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    for command in ("serve", "report"):
        assert study.main(study.command_line([command, str(tmp_path)])) == 2
        assert "pip install -r requirements-study.txt" in one_line(capsys)
