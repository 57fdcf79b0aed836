"""upscale.py as a user runs it, with a tiny network that doubles."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import upscale
from model import SRGAN_g
from pictures import read_picture, write_picture
from upscaling.targets import find_files
from upscaling.upscaler import Upscaler
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
    found = {str(path.relative_to(folder)): path for path in sorted(Path(folder).rglob("*.*")) if path.is_file()}
    return {name: read_picture(path).shape[1::-1] for name, path in found.items()}


def picture(path, width=20, height=10):
    write_picture(Path(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.numerical
def test_the_result_lies_beside_the_picture_and_is_what_keras_gives(run, monkeypatch, tmp_path):
    monkeypatch.setitem(PRECISIONS, "auto", PRECISIONS["float32"])  # where it would be bfloat16, roundings are levels
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
        (["in/a.png", "-o", "out"], ["out/a.png"]),
        (["in/a.png", "-o", "new/b.webp"], ["new/b.webp"]),
        (["in/a.png", "in/deep", "--format=tiff"], ["in/a_x2.tiff", "in/deep_x2/b.tiff"]),
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
    assert "1 upscaled" in (printed := capsys.readouterr().out) and "1 there already" in printed
    assert len(sizes(".")) == 4 and Path("a_x2.png").stat().st_mtime_ns == before
    assert run("*.png", "--overwrite") == 0
    assert len(sizes(".")) == 4 and Path("a_x2.png").stat().st_mtime_ns != before


def test_results_below_the_input_are_not_upscaled_again(run, tmp_path):
    picture("in/a.png")
    for output in ("in/large", tmp_path / "in/large"):
        assert run("in", "-o", output) == 0
    assert sizes(".") == {"in/a.png": (20, 10), "in/large/a.png": (40, 20)}


def test_the_folder_here_is_a_folder_too(run, tmp_path, monkeypatch):
    picture("in/A.PNG")
    monkeypatch.chdir(tmp_path / "in")
    assert run(".", "--format=bmp") == 0
    assert sizes(tmp_path) == {"in/A.PNG": (20, 10), "in_x2/A.bmp": (40, 20)}


def test_any_factor_is_resampled(run):
    picture("a.png", 21, 11)
    assert run("a.png", "--outscale=2.5") == 0
    assert read_picture("a_x2.5.png").shape == (28, 53, 3)  # rounded up, as MATLAB does


def test_alpha_and_16_bits_survive(run):
    from PIL import Image

    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (9, 9, 4), np.uint8)).save("rgba.png")
    Image.fromarray(random.integers(0, 65536, (9, 9), np.uint16)).save("deep.png")
    assert run("rgba.png", "deep.png") == 0
    with Image.open("rgba_x2.png") as rgba, Image.open("deep_x2.png") as deep:
        assert (rgba.mode, rgba.size) == ("RGBA", (18, 18)) and (deep.mode, deep.size) == ("I;16", (18, 18))


def test_what_fails_is_told_and_the_rest_goes_through(run, capsys):
    picture("a.png")
    Path("b.png").write_text("no picture")
    Path("c.jpg").touch()
    assert run("a.png", "b.png", "c.jpg") == 1
    printed = capsys.readouterr()
    assert "1 upscaled" in printed.out and printed.err.count("\n") == 2
    assert "b.png" in printed.err and "c.jpg" in printed.err and Path("a_x2.png").exists()


def test_a_folder_that_may_not_be_read_is_told_and_the_rest_goes_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture("in/shut/a.png")
    picture("in/open/a.png")
    Path("in/shut").chmod(0)
    Path(".").chmod(0o755)
    before, failed = os.geteuid(), []
    if before == 0:  # root may read everything
        os.seteuid(65534)
    try:
        assert list(find_files(["in"], failed)) == [Path("in/open/a.png")]
    finally:
        os.seteuid(before)
        Path("in/shut").chmod(0o700)
    assert failed == ["in/shut: cannot be read: Permission denied"]


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["none.png"], "none.png"),
        (["."], "no pictures"),
        (["a.png", "--scale=4"], "--scale 4"),
        (["a.png", "-o", "a.png"], "overwritten"),
        (["a.png", "a.bmp", "--format=jpg"], "a_x2.jpg"),
        (["a.png", "--model=best"], "best"),
        (["a.png", "-o", "b.heic"], "b.heic"),
        (["a.png", "a.bmp", "-o", "both.jpg"], "both.jpg"),
    ],
)
def test_a_mistake_is_one_line_and_2(model, tmp_path, monkeypatch, capsys, arguments, named):
    monkeypatch.chdir(tmp_path)
    if arguments != ["."]:
        picture("a.png")
        picture("a.bmp")
    assert upscale.main(upscale.command_line([f"--model={model}", *arguments])) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and named in line


@pytest.mark.parametrize("arguments", [["a.png", "--tile=9"], ["a.png", "--outscale=0"], ["a.png", "--format=xcf"], []])
def test_a_wrong_option_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        upscale.command_line(arguments)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_it_starts_without_keras(model, tmp_path):
    picture(tmp_path / "a.png")
    program = f"""if True:
        import sys, upscale
        status = upscale.main(upscale.command_line([{str(tmp_path / "a.png")!r}, "--model", {str(model)!r}]))
        unwanted = ("keras", "tensorflow", "jax", "openvino_telemetry")
        print(status, [name for name in unwanted if sys.modules.get(name)])"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.endswith("0 []\n"), result


def test_a_stopped_video_goes_on(run, monkeypatch, capsys):
    av = pytest.importorskip("av")
    monkeypatch.setattr("upscaling.video.PIECE", 3)
    with av.open("a.mp4", "w") as file:
        out_stream = file.add_stream("libx264", rate=10)
        out_stream.width, out_stream.height = 20, 10
        for value in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((10, 20, 3), 20 * value, np.uint8), format="rgb24")
            file.mux(out_stream.encode(frame))
        file.mux(out_stream.encode())
    whole, calls = Upscaler.__call__, []

    def stopped(upscaler, lr, progress):
        calls.append(lr)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return whole(upscaler, lr, progress)

    monkeypatch.setattr(Upscaler, "__call__", stopped)
    assert run("a.mp4") == 130 and not Path("a_x2.mp4").exists()
    assert run("a.mp4") == 0 and len(calls) == 5 + 8 - 3
    assert run("a.mp4") == 0 and "1 there already" in capsys.readouterr().out
    with av.open("a_x2.mp4") as file:
        assert [frame.width for frame in file.decode(video=0)] == 8 * [40]
    assert sorted(path.name for path in Path(".").iterdir()) == ["a.mp4", "a_x2.mp4"]
