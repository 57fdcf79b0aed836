"""upscale.py as a user runs it, with a tiny network that doubles."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import Image
from test_bad_data import as_a_user
from videos import write_video

import upscale
from model import SRGAN_g
from pictures import read_picture, write_picture
from upscaling.earlier_runs import RECORD
from upscaling.paths import find_files
from upscaling.plan import Job, drop_unwritable
from upscaling.upscaler import Upscaler
from utils import UserError
from weights import save_weights

pytest.importorskip("openvino")
ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "data/benchmark/Set5/LRx4/img_005.png"  # 57 wide, 86 high


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "g.weights.h5"
    save_weights(SRGAN_g(scale=2, blocks=1, filters=8), path, {"model": {"scale": 2, "blocks": 1, "filters": 8}})
    return path


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """upscale.py in an empty folder; the exit status."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: upscale.main(upscale.command_line([*map(str, words), f"--model={model}"]))


def sizes(folder):
    """{name below the folder: (width, height)} of its pictures."""
    paths = [path for path in sorted(Path(folder).rglob("[!.]*.*")) if path.is_file()]
    found = {str(path.relative_to(folder)): path for path in paths}
    return {name: read_picture(path).shape[1::-1] for name, path in found.items()}


def picture(path, width=20, height=10):
    write_picture(Path(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.numerical
def test_the_result_lies_beside_the_picture_and_is_what_keras_gives(run, monkeypatch, tmp_path):
    monkeypatch.setattr("upscaling.network.bfloat16_is_fast", lambda: False)  # its roundings would be levels
    write_picture(tmp_path / "a.png", read_picture(PICTURE))
    assert run("a.png", "--engine=openvino") == 0
    first = read_picture("a_x2.png")
    assert run("a.png", "--engine=keras", "--overwrite") == 0
    assert np.abs(first.astype(int) - read_picture("a_x2.png")).max() <= 1  # a value close to the half of a level
    assert sizes(".") == {"a.png": (57, 86), "a_x2.png": (114, 172)}


@pytest.mark.parametrize(
    "arguments, results",
    [
        (["in"], ["in_x2/a.png", "in_x2/deep/b.jpg"]),
        (["in", "-o", "out"], ["out/a.png", "out/deep/b.jpg"]),
        (["in/*.png", "-o", "out"], ["out/a.png"]),
        (["in/**/*.[jp][pn]g", "-o", "out"], ["out/a.png", "out/b.jpg"]),
        (["in/a.png", "-o", "out"], ["out/a.png"]),
        (["in/a.png", "-o", "new/b.webp"], ["new/b.webp"]),
        (["in/a.png", "in/deep", "--format=tiff"], ["in/a_x2.tiff", "in/deep_x2/b.tiff"]),
        (["in/deep/../.", "--format=bmp"], ["in_x2/a.bmp", "in_x2/deep/b.bmp"]),
    ],
)
def test_results_go_where_they_are_asked_for(run, arguments, results):
    picture("in/a.png")
    picture("in/deep/b.jpg")
    assert run(*arguments) == 0
    assert sizes(".") == {"in/a.png": (20, 10), "in/deep/b.jpg": (20, 10)} | {name: (40, 20) for name in results}


def test_the_same_command_again_makes_what_is_missing_alone(run, capsys):
    for name in ("a.png", "b.png"):
        picture(name)
    assert run("*.png") == 0
    before = Path("a_x2.png").stat().st_mtime_ns
    Path("b_x2.png").unlink()
    capsys.readouterr()
    assert run("*.png") == 0
    printed = capsys.readouterr().out
    assert "1 upscaled" in printed and "1 there already" in printed and "1 left out as results" in printed
    assert printed.startswith("b_x2.png\n")
    assert len(sizes(".")) == 4 and Path("a_x2.png").stat().st_mtime_ns == before
    assert run("*.png", "--overwrite") == 0
    assert len(sizes(".")) == 4 and Path("a_x2.png").stat().st_mtime_ns != before


def test_results_below_the_input_are_not_upscaled_again(run, tmp_path):
    picture("in/a.png")
    for output in ("in/large", tmp_path / "in/large"):
        assert run("in", "-o", output) == 0
    assert sizes(".") == {"in/a.png": (20, 10), "in/large/a.png": (40, 20)}


def test_what_fails_is_told_and_the_rest_goes_through(run, capsys):
    picture("a.png")
    Path("b.png").write_text("no picture")
    Path("c.jpg").touch()
    assert run("a.png", "b.png", "c.jpg") == 1
    printed = capsys.readouterr()
    assert "1 upscaled" in printed.out and printed.err.count("\n") == 2
    assert "b.png" in printed.err and "c.jpg" in printed.err and Path("a_x2.png").exists()


def test_a_damaged_picture_is_upscaled_as_far_as_it_goes_and_that_is_told(run, capsys):
    picture("a.jpg", 64, 96)
    Path("a.jpg").write_bytes(Path("a.jpg").read_bytes()[: Path("a.jpg").stat().st_size * 2 // 3])
    assert run("a.jpg", "--dry-run") == 0  # its header is whole
    capsys.readouterr()
    assert run("a.jpg") == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("a_x2.jpg\n1 upscaled in ") and read_picture("a_x2.jpg").shape == (192, 128, 3)
    assert re.fullmatch(r"upscale.py: a.jpg: damaged; about \d+% of it is missing, the rest is upscaled\n", printed.err)
    assert run("a.jpg") == 0 and "1 there already" in capsys.readouterr().out


def test_a_name_that_is_too_long_is_told_and_the_rest_goes_through(run, capsys):
    names = [count * "a" + ".png" for count in (249, 248)]  # with "_x2" the first is one letter too long
    for name in names:
        picture("b.png")
        Path("b.png").rename(name)
    assert run(*names) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.endswith(": File name too long\n")
    assert 248 * "a" + "_x2.png" in sizes(".")


def test_too_little_memory_for_one_is_told_and_the_rest_goes_through(run, monkeypatch, capsys):
    picture("a.png", 20, 10)
    picture("b.png", 10, 20)
    whole = Upscaler.strips

    def short(upscaler, lr, *rest):
        if lr.shape[1] == 20:
            raise MemoryError
        return whole(upscaler, lr, *rest)

    monkeypatch.setattr(Upscaler, "strips", short)
    assert run("a.png", "b.png", "--size=60") == 1
    assert capsys.readouterr().err == "upscale.py: a.png: too little memory for 60x30; choose a smaller result\n"
    assert sizes(".") == {"a.png": (20, 10), "b.png": (10, 20), "b_60.png": (30, 60)}


@pytest.mark.parametrize("mode, named", [(0, "in/shut"), (0o444, "in/shut/a.png")])  # 0o444: its names alone
def test_a_folder_that_may_not_be_read_is_told_and_the_rest_goes_through(tmp_path, monkeypatch, mode, named):
    monkeypatch.chdir(tmp_path)
    picture("in/shut/a.png")
    picture("in/open/a.png")
    Path("in/open/nowhere.png").symlink_to("nothing")
    Path("in/open/circle.png").symlink_to("circle.png")
    Path("in/shut").chmod(mode)
    Path(".").chmod(0o755)
    found = as_a_user(lambda: find_files(["in"]))
    Path("in/shut").chmod(0o700)
    assert list(found.files) == [Path("in/open/a.png")]
    assert found.failed == {f"{named}: cannot be read: Permission denied": [Path(named)]}


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["none.png"], "none.png"),
        (["."], "no pictures"),
        ([""], "INPUT is empty"),
        (["a.png", "--scale=4"], "--scale 4"),
        (["a.png", "-o", "a.png"], "overwritten"),
        (["a.png", "--model=best"], "best"),
        (["a.png", "-o", "b.heic"], "b.heic"),
        (["a.png", "-o", "b.jxl"], "b.jxl"),
        (["a.png", "a.bmp", "-o", "both.jpg"], "both.jpg"),
    ],
)
def test_a_mistake_is_one_line_and_2(model, tmp_path, monkeypatch, capsys, arguments, named):
    monkeypatch.chdir(tmp_path)
    if arguments not in ([""], ["."]):
        picture("a.png")
        picture("a.bmp")
    assert upscale.main(upscale.command_line([f"--model={model}", *arguments])) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and named in line


WRONG = ["--tile=9", "--outscale=0", "--format=xcf", "--size=0x9", "--size=3840*2160", "--quality=101", "--suffix=a/b"]
WRONG += ["--strength=1.5", "--restore=much", "--size=9 --outscale=2", "--device=GPU --engine=keras"]


@pytest.mark.parametrize("words", [*(["a.png", *word.split()] for word in WRONG), []])
def test_a_wrong_option_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        upscale.command_line(words)
    line = capsys.readouterr().err
    assert stop.value.code == 2 and line.count("\n") == 1
    assert (words[1].partition("=")[0] if words else "INPUT") in line


def test_a_dry_run_says_the_size_that_the_result_has(run, capsys):
    picture("a.png", 11, 11)
    assert run("a.png", "--outscale=2.1", "--dry-run") == 0
    assert capsys.readouterr().out.startswith("a.png 11x11 -> a_x2.1.png 24x24\n")
    assert run("a.png", "--outscale=2.1") == 0 and sizes(".")["a_x2.1.png"] == (24, 24)


def test_the_letters_of_real_esrgan_do_what_they_do_there():
    known = upscale.command_line("-i a.png -o out -n srresnet -s 3 -t 0 -x --suffix out --ext jpg".split())
    ours = "a.png --output=out --model=srresnet --outscale=3 --self-ensemble --suffix=out --format=jpg".split()
    assert vars(known) | {"input": []} == vars(upscale.command_line(ours))


# Results that are there already


CHANGES = {
    "nothing": (lambda: None, []),
    "the source": (lambda: picture("a.png", 21, 10), []),
    "a copied source": (lambda: os.utime("a.png", (1, 1)), []),
    "a copied result": (lambda: os.utime("a_x2.png", (1, 1)), ["--quality=50"]),
    "quality": (lambda: None, ["--quality=50"]),
    "self-ensemble": (lambda: None, ["--self-ensemble"]),
    "the record is lost": (lambda: Path(RECORD).unlink(), ["--quality=50"]),
    "the record is damaged": (lambda: Path(RECORD).write_text('{"result": 7}\n[]\n{'), ["--quality=50"]),
    "an edited result": (lambda: picture("a_x2.png", 7, 7), ["--quality=50"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_result_is_made_again_where_what_it_is_made_of_changed(run, capsys, change):
    picture("a.png")
    assert run("a.png") == 0
    happen, options = CHANGES[change]
    happen()
    before = Path("a_x2.png").read_bytes(), Path("a_x2.png").stat().st_mtime_ns
    capsys.readouterr()
    assert run("a.png", *options) == 0
    printed = capsys.readouterr().out
    again = change in ("the source", "a copied result", "quality", "self-ensemble")
    assert ("1 made of something else before and now again" in printed) == again
    assert ("0 upscaled, 1 there already" in printed) != again
    assert (Path("a_x2.png").stat().st_mtime_ns != before[1]) == again
    assert again or Path("a_x2.png").read_bytes() == before[0]
    capsys.readouterr()
    assert run("a.png", *options) == 0 and "1 there already" in capsys.readouterr().out


MODELS = {"another name": "other.weights.h5", "another content": "g.weights.h5", "a copy": "g.weights.h5"}


@pytest.mark.parametrize("change", MODELS)
def test_another_model_makes_it_again(run, model, tmp_path, capsys, change):
    picture("a.png")
    assert run("a.png") == 0
    other = tmp_path / "other" / MODELS[change]
    other.parent.mkdir()
    shutil.copy(model, other)
    shutil.copy(model.with_name("g.json"), other.parent)
    if change == "another content":
        with h5py.File(other, "r+") as file:
            file["layers/conv2d/vars/0"][0] *= 2
    os.utime(other, (1, 1))
    assert upscale.main(upscale.command_line(["a.png", f"--model={other}"])) == 0
    assert ("1 there already" if change == "a copy" else "1 made of something else") in capsys.readouterr().out


@pytest.mark.parametrize("named", ["the source", "the model"])
def test_a_record_of_an_earlier_version_counts_or_its_result_is_made_once_more(run, model, capsys, named):
    """Their files had sizes and times, but no SHA-256."""
    picture("a.png")
    assert run("a.png") == 0
    line = json.loads(Path(RECORD).read_text())
    line["state"] = line["state"][:2]
    if named == "the source":
        line["made_of"]["source_state"] = line["made_of"]["source_state"][:2]
    else:
        line["made_of"]["model"] = [model.name, model.stat().st_size, model.stat().st_mtime_ns]
    Path(RECORD).write_text(json.dumps(line) + "\n")
    capsys.readouterr()
    for again in (named == "the model", False):
        assert run("a.png") == 0
        assert ("1 there already" in capsys.readouterr().out) != again


def test_a_record_that_cannot_be_written_matters_to_no_result(run, capsys):
    picture("a.png")
    Path(RECORD).mkdir()
    assert run("a.png") == 0 and sizes(".")["a_x2.png"] == (40, 20)
    assert capsys.readouterr().err == ""
    assert run("a.png") == 0 and "1 there already" in capsys.readouterr().out


def test_the_result_of_another_picture_is_not_overwritten(run, capsys):
    for name in ("one/a.png", "one/b.png", "two/a.png", "two/b.png", "two/c.png"):
        picture(name, 20 if name.startswith("one") else 30)
    assert run("one", "-o", "out") == 0
    capsys.readouterr()
    assert run("two", "-o", "out") == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "left out: 2" in line
    assert line.startswith(f"upscale.py: out/a.png: is the result of {Path('one/a.png').absolute()}; ")
    assert sizes("out") == {"a.png": (40, 20), "b.png": (40, 20), "c.png": (60, 20)}
    Path("one/a.png").unlink()
    assert run("two/a.png", "-o", "out") == 0 and run("two/b.png", "-o", "out/b.png") == 0  # gone; and meant
    assert sizes("out") == {name: (60, 20) for name in ("a.png", "b.png", "c.png")}
    Path("one/b.png").rename("two/b.bmp")
    assert run("two/b.png", "--format=webp") == 0 and run("two/b.bmp", "--format=webp") == 1
    assert run("two/b.bmp", "--format=webp", "--overwrite") == 0 and sizes("two")["b_x2.webp"] == (40, 20)


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_picture_is_not_overwritten_by_the_result_of_another(run, capsys, options):
    picture("a.png")
    picture("a_large.png", 30)
    before = Path("a_large.png").read_bytes()
    assert run("a.png", "a_large.png", "--suffix=_large", *options) == 1
    assert capsys.readouterr().err.startswith("upscale.py: a_large.png: would be overwritten by the result of a.png; ")
    assert Path("a_large.png").read_bytes() == before and sizes(".")["a_large_large.png"] == (60, 20)


def test_results_that_are_moved_with_their_sources_know_them(run, monkeypatch):
    picture("here/one/a.png")
    picture("here/two/a.png", 30)
    assert run("here/one", "-o", "here/out") == 0
    Path("here").rename("there")
    monkeypatch.chdir("there")
    assert run("two", "-o", "out") == 1 and sizes("out") == {"a.png": (40, 20)}


def test_own_results_are_not_upscaled_again(run, capsys):
    picture("a.png")
    picture("b.png")
    picture("c_x4.png")  # without a c it is a picture like any other
    assert run("a.png") == 0 and run("b.png", "--suffix=large") == 0
    capsys.readouterr()
    Path(RECORD).write_text(Path(RECORD).read_text().splitlines()[1] + "\n")  # a_x2.png is known by its name alone
    assert run(".", "-o", "out") == 0
    assert "3 upscaled" in (printed := capsys.readouterr().out) and "2 left out as results" in printed
    assert sorted(sizes("out")) == ["a.png", "b.png", "c_x4.png"]
    assert run("a_x2.png") == 0 and sizes(".")["a_x2_x2.png"] == (80, 40)  # who names it means it


def test_a_result_of_the_same_name_is_upscaled_where_it_is_named_without_its_source(run, capsys):
    picture("a.png")
    assert run("a.png", "-o", "out") == 0
    assert run("a.png", "out/a.png", "-o", "both") == 0 and sizes("both") == {"a.png": (40, 20)}
    assert "1 left out as results" in capsys.readouterr().out
    assert run("out/a.png", "-o", "more") == 0 and sizes("more") == {"a.png": (80, 40)}
    assert run("out", "-o", "folder") == 0 and not Path("folder").exists()
    Path("a.png").unlink()
    assert run("out/a.png", "-o", "orphan") == 0 and sizes("orphan") == {"a.png": (80, 40)}


def test_what_is_not_read_is_counted(run, capsys):
    picture("in/a.png")
    for name in ("b.dng", "c.DNG", "d.jxl", "notes.txt"):
        Path("in", name).touch()
    assert run("in") == 0
    assert "not read: 2 .dng, 1 .jxl" in capsys.readouterr().out
    Path("in/a.png").unlink()
    assert run("in") == 2
    assert "2 .dng, 1 .jxl cannot be read" in capsys.readouterr().err


def test_what_is_not_read_is_told_where_it_is_named(run, capsys):
    Image.new("RGB", (9, 9)).save("a.nef", "TIFF")  # as the preview in a camera's raw file
    for arguments in (["a.nef"], ["a.nef", "-o", "a.png"], ["a.nef", "--format=png"]):
        assert run(*arguments) == 1
        line = capsys.readouterr().err
        assert line.startswith("upscale.py: a.nef: .nef is not read; save it as one of .png ") and line.count("\n") == 1
    assert run("*") == 0 and "not read: 1 .nef" in capsys.readouterr().out
    assert [path.name for path in Path(".").iterdir()] == ["a.nef"]


def test_a_name_that_says_nothing_becomes_png_and_jfif_is_jpeg(run):
    picture("a.png")
    Path("a.png").rename("scan 2024.06")
    Image.new("RGB", (9, 9)).save("b.jfif", "JPEG")
    assert run("scan 2024.06", "b.jfif") == 0 and run("scan 2024.06", "--format=bmp", "-o", "out") == 0
    found = {path.name: Image.open(path).format for path in (*Path(".").glob("*_x2*"), *Path("out").glob("s*"))}
    assert found == {"scan 2024.06_x2.png": "PNG", "b_x2.jfif": "JPEG", "scan 2024.06.bmp": "BMP"}


def test_a_clash_of_names_concerns_its_pictures_alone(run, capsys):
    for name in ("a.png", "a.bmp", "b.png"):
        picture(f"in/{name}")
    assert run("in", "--format=webp") == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and all(word in line for word in ("in/a.png", "in/a.bmp", "in_x2/a.webp"))
    assert sizes("in_x2") == {"b.webp": (40, 20)}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shut").mkdir(mode=0o500)
    Path("file").touch()
    Path(".").chmod(0o755)
    paths, failed = [*(Path(f"shut/{n}.png") for n in range(9)), Path("shut/new/a.png"), Path("file/a.png")], {}
    work = [Job(SimpleNamespace(path=f"in/{path}"), path, None) for path in paths]
    assert as_a_user(lambda: drop_unwritable(work, failed)) == []
    assert sorted(sum(failed.values(), [])) == sorted(f"in/{path}" for path in paths)
    assert sorted(line.partition("; ")[::2] for line in failed) == [
        ("file: cannot be written: File exists", "left out: 1, choose another --output"),
        ("shut/new: cannot be written: Permission denied", "left out: 1, choose another --output"),
        ("shut: cannot be written: Permission denied", "left out: 9, choose another --output"),
    ]


# What programs read


def test_json_is_an_object_for_each_file_whatever_becomes_of_it(run, capsys):
    picture("a.png")
    picture("cut.jpg", 64, 96)
    Path("cut.jpg").write_bytes(Path("cut.jpg").read_bytes()[: Path("cut.jpg").stat().st_size * 2 // 3])
    Path("no\npicture.png").write_text("")
    picture("twice.png")
    picture("twice.bmp")
    words = ("*.png", "*.jpg", "*.bmp", "--format=webp", "--restore=0", "--json")
    assert run(*words, "--dry-run") == 1
    planned = {entry["input"]: entry for entry in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (
        planned["a.png"]["seconds"] is None and planned["a.png"]["size"] == [40, 20] and not Path("a_x2.webp").exists()
    )
    assert run(*words) == 1
    printed = capsys.readouterr()
    entries = {entry["input"]: entry for entry in map(json.loads, printed.out.splitlines())}
    assert len(printed.out.splitlines()) == len(entries) == 5 and "2 upscaled in" in printed.err
    assert entries["a.png"].pop("seconds") > 0
    nothing = {"why": None, "skipped": None, "error": None}
    assert entries["a.png"] == {"input": "a.png", "output": "a_x2.webp", "size": [40, 20], "restore": 0.0} | nothing
    assert entries["cut.jpg"]["output"] == "cut_x2.webp" and "is missing" in entries["cut.jpg"]["error"]
    for name, said in [
        ("no\npicture.png", "no\\npicture.png"),
        ("twice.bmp", "twice_x2.webp"),
        ("twice.png", "would all"),
    ]:
        assert said in entries[name]["error"] and entries[name]["output"] is None
    assert run("a.png", *words[3:]) == 0
    assert "there already" in json.loads(capsys.readouterr().out)["skipped"]


@pytest.mark.parametrize("when", ["planned", "made"])
def test_files_that_fail_for_one_reason_have_an_object_each_and_one_line(run, monkeypatch, capsys, when):
    picture("a.png")
    picture("b.png")
    if when == "planned":

        def damaged(opened, upscaler):
            raise UserError("photo.weights.h5: damaged")

        monkeypatch.setattr("upscaling.plan.restored_upscaler", damaged)
    else:  # the folder goes after it was found to be writable
        monkeypatch.setattr("upscaling.plan.drop_unwritable", lambda jobs, failed: jobs)
        Path("out").touch()
    assert run("a.png", "b.png", "-o", "out", "--json") == 1
    printed = capsys.readouterr()
    entries = {entry["input"]: entry["error"] for entry in map(json.loads, printed.out.splitlines())}
    line = "photo.weights.h5: damaged" if when == "planned" else "out: cannot be made: File exists"
    assert entries == {"a.png": line, "b.png": line} and printed.err.count(line) == 1


@pytest.mark.parametrize("device", ["GPU", "NPU"])
def test_a_device_that_is_missing_is_one_line_and_the_cpu_computes(run, capsys, device):
    from engines import import_openvino

    listed = import_openvino().Core().available_devices
    if any(name.startswith(device) for name in listed):
        pytest.skip("it is here")
    picture("a.png")
    assert run("a.png", f"--device={device}") == 0
    assert capsys.readouterr().err == f"OpenVINO has no {device} here ({', '.join(listed)}); the CPU computes\n"
    assert sizes(".")["a_x2.png"] == (40, 20)


# Size, quality, names


@pytest.mark.parametrize(
    "size, results",
    [
        ("64x64", {"wide_64.png": (64, 32), "tall_64.jpg": (32, 64)}),
        ("64x16", {"wide_64x16.png": (32, 16), "tall_64x16.jpg": (8, 16)}),
    ],
)
def test_a_size_is_one_to_fit_into(run, size, results):
    picture("wide.png", 20, 10)
    exif = Image.Exif()
    exif[0x112] = 6  # it lies on its side
    Image.new("RGB", (20, 10)).save("tall.jpg", exif=exif)
    assert run("wide.png", "tall.jpg", f"--size={size}") == 0
    assert {name: side for name, side in sizes(".").items() if name in results} == results


def test_the_longest_side_is_exact(run):
    picture("a.png", 31, 17)
    for longest in (33, 61, 100):
        assert run("a.png", f"--size={longest}") == 0
        assert sizes(".")[f"a_{longest}.png"] == (longest, -(-17 * longest // 31))


def test_a_video_on_its_side_is_fitted_as_it_is_shown(run, capsys):
    av = pytest.importorskip("av")
    write_video("a.mp4", [np.zeros((10, 20, 3), np.uint8)], turned=90)
    assert run("a.mp4", "--size=64x16", "--dry-run") == 0
    assert capsys.readouterr().out.startswith("a.mp4 10x20 -> a_64x16.mp4 8x16\n")
    assert run("a.mp4", "--size=64x16") == 0
    with av.open("a_64x16.mp4") as file:
        assert [(frame.width, frame.height, frame.rotation) for frame in file.decode(video=0)] == [(8, 16, 0)]


def test_quality_and_suffix(run):
    picture("a.jpg", 64, 64)
    assert run("a.jpg") == 0 and run("a.jpg", "--suffix=-small", "--quality=20") == 0
    assert run("a.jpg", "--suffix=-small", "-o", "out") == 0
    assert Path("a-small.jpg").stat().st_size < Path("a_x2.jpg").stat().st_size / 2
    assert list(sizes("out")) == ["a-small.jpg"]


# Before the work


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(run, capsys):
    picture("in/a.png")
    picture("in/deep/b.jpg")
    Path("in/c.png").write_text("no picture")
    assert run("in", "-o", "out", "--dry-run") == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "in/a.png 20x10 -> out/a.png 40x20",
        "in/deep/b.jpg 20x10 -> out/deep/b.jpg 40x20",
        "2 to upscale, 0.0 megapixels of results, less than half a minute",
    ]
    assert "in/c.png" in printed.err and not Path("out").exists()


@pytest.mark.parametrize("seconds, said", [(20, None), (90, "about 1.5 minutes"), (9000, "about 2.5 hours")])
def test_a_long_job_is_announced(run, monkeypatch, capsys, seconds, said):
    picture("a.png")
    monkeypatch.setattr("upscaling.plan.QUICK", 0)
    monkeypatch.setattr(Upscaler, "seconds", lambda upscaler, pixels: seconds * pixels / (36 * 26))
    assert run("a.png") == 0
    announced = capsys.readouterr().err
    assert (
        said is None and "about" not in announced or f"1 to upscale, 0.0 megapixels of results, {said}\n" in announced
    )


def test_results_are_named_as_they_are_written_into_a_pipe_too(model, tmp_path):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    command = [sys.executable, ROOT / "upscale.py", "a.png", "b.png", "--model", model]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "a_x2.png\n"
        assert process.stdout.readline() == "b_x2.png\n"
        assert process.stdout.readline().startswith("2 upscaled in ")


def started(folder, redirection, *words, **environment):
    """What upscale.py does when a shell starts it in `folder`."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, ROOT / "upscale.py", *words]
    environment = os.environ | {"PYTHONUNBUFFERED": ""} | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_every_name_is_printed_in_one_line_wherever_it_goes(model, tmp_path, options):
    for name in (b"\xc3\xbc.png", b"new\nline.png", b"\xe9.png"):
        picture(tmp_path / "a.png")
        os.rename(tmp_path / "a.png", os.path.join(os.fsencode(tmp_path), name))
    found = started(tmp_path, "", ".", "-o", "out", "--model", model, *options, PYTHONIOENCODING="ascii:strict")
    names = [r"out/new\nline.png", r"out/\xfc.png", r"out/\udce9.png"]
    lines = found.stdout.splitlines()
    assert (found.returncode, len(lines)) == (0, 4) and all(name in line for name, line in zip(names, lines)), found


@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_obstacle(model, tmp_path, redirection):
    picture(tmp_path / "a.png")
    found = started(tmp_path, redirection, "a.png", "--model", model)
    assert found.returncode == 0 and found.stderr == "" and (tmp_path / "a_x2.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_full_disk_behind_the_output_is_one_line(model, tmp_path, options):
    picture(tmp_path / "a.png")
    found = started(tmp_path, ">/dev/full", "a.png", "--model", model, *options)
    assert (found.returncode, found.stderr) == (2, "upscale.py: No space left on device\n")


@pytest.mark.parametrize(
    "suffix, number, status", [("png", signal.SIGTERM, 143), ("tif", signal.SIGINT, 130), ("jpg", signal.SIGTERM, 143)]
)
def test_a_stopped_run_leaves_nothing_half_done_and_one_line(model, tmp_path, number, status, suffix):
    picture(tmp_path / f"a.{suffix}", 90, 900)
    # A signal behind some tiles, when strips of PNG and TIFF are on the disk; the process sends it to itself.
    program = f"""if True:
        import os, signal, sys, upscale
        from upscaling.network import Network
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
        whole, calls = Network.__call__, []
        def stopped(network, lr):
            calls.append(lr)
            if len(calls) == 5:
                print(sum(name.startswith(".half-") for name in os.listdir(".")))
                os.kill(os.getpid(), {int(number)})
            return whole(network, lr)
        Network.__call__ = stopped
        sys.exit(upscale.main(upscale.command_line(["a.{suffix}", "--tile=90", "--model", {str(model)!r}])))"""
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout) == (status, "0\n" if suffix == "jpg" else "1\n")
    assert found.stderr == "upscale.py: interrupted; the same command goes on after what is done\n"
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{suffix}"]


@pytest.mark.parametrize("end", ["goes on", "is killed"])
def test_two_processes_make_each_result_once(model, tmp_path, end):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "in" / name)
    words = ["in", "-o", "out", "--model", str(model)]
    # It waits for a line in the middle of its first picture, which it cannot know to be the slow one.
    program = f"""if True:
        import sys, upscale
        from upscaling.network import Network
        whole, calls = Network.__call__, []
        def waiting(network, lr):
            calls.append(lr)
            if len(calls) == 1:
                print("busy", flush=True)
                sys.stdin.readline()
            return whole(network, lr)
        Network.__call__ = waiting
        sys.exit(upscale.main(upscale.command_line({words!r})))"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment, **pipes) as first:
        assert first.stdout.readline() == "busy\n"
        second = started(tmp_path, "", *words)
        assert second.stdout.startswith("out/b.png\nout/c.png\n2 upscaled in ") and second.returncode == 0
        assert second.stdout.endswith(", 1 left to another process\n")
        if end == "is killed":
            first.kill()
        printed, _ = first.communicate("\n")
    if end == "is killed":
        printed = started(tmp_path, "", *words).stdout
    assert printed.startswith("out/a.png\n1 upscaled in ")
    assert printed.endswith(
        ", 2 there already (--overwrite makes them again)\n" if end == "is killed" else ", 2 left to another process\n"
    )
    assert sizes(tmp_path / "out") == {name: (40, 20) for name in ("a.png", "b.png", "c.png")}
    left = {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")}
    assert left == {RECORD} and (tmp_path / "out" / RECORD).read_text().count("\n") == 3


def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path):
    (tmp_path / "tqdm.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    program = f"""if True:
        import runpy, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
        runpy.run_path({str(ROOT / "upscale.py")!r}, run_name="__main__")"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (-signal.SIGINT, "", "")


def test_a_change_of_kind_is_one_line(run, capsys):
    Image.new("CMYK", (9, 9)).save("a.jpg")
    Image.new("P", (9, 9)).save("b.png")
    Image.new("1", (9, 9)).save("c.png")
    Image.new("P", (9, 9)).save("d.gif")
    Image.new("LAB", (9, 9)).save("e.tif")
    assert run("a.jpg", "b.png", "c.png", "d.gif", "e.tif") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " now; " in line]
    assert lines == [
        "a_x2.jpg: RGB now; a.jpg has CMYK",
        "b_x2.png: RGB now; b.png has a palette",
        "c_x2.png: grey now; c.png has 1 bit per pixel",
        "e_x2.tif: RGB now; e.tif has LAB",
    ]


def test_keras_is_not_imported_and_nobody_is_told(model, tmp_path):
    (tmp_path / "home").mkdir()
    picture(tmp_path / "a.png")
    program = f"""if True:
        import sys, upscale
        status = upscale.main(upscale.command_line([{str(tmp_path / "a.png")!r}, "--model", {str(model)!r}]))
        unwanted = ("keras", "tensorflow", "jax", "openvino_telemetry")
        print(status, [name for name in unwanted if sys.modules.get(name)])"""
    home = os.environ | {"HOME": str(tmp_path / "home")}
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=home, capture_output=True, text=True)
    assert result.stdout.endswith("0 []\n") and result.stderr == "", result
    assert not any((tmp_path / "home").iterdir())  # OpenVINO's telemetry keeps a number for the user in ~/intel


def test_a_stopped_video_goes_on(run, monkeypatch, capsys):
    av = pytest.importorskip("av")
    monkeypatch.setattr("upscaling.video.writer.PIECE", 1)
    write_video("a.mp4", [np.full((10, 20, 3), 20 * value, np.uint8) for value in range(8)])
    whole, calls = Upscaler.__call__, []

    def stopped(upscaler, lr, progress, finished):
        calls.append(lr)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return whole(upscaler, lr, progress, finished)

    monkeypatch.setattr(Upscaler, "__call__", stopped)
    assert run("a.mp4") == 130 and not Path("a_x2.mp4").exists()
    assert run("a.mp4") == 0 and len(calls) == 5 + 8 - 4
    assert run("a.mp4") == 0 and "1 there already" in capsys.readouterr().out
    with av.open("a_x2.mp4") as file:
        assert [frame.width for frame in file.decode(video=0)] == 8 * [40]
    assert sorted(path.name for path in Path(".").iterdir()) == [RECORD, "a.mp4", "a_x2.mp4"]
