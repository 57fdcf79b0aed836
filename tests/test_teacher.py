"""A teacher's pictures as targets: where they come from, that they fit their crops, and what is refused."""

import json
import os
import runpy
import shutil
import signal
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numerics
import numpy as np
import pytest
from trainings import ROOT, assert_same_bits, refused, run

import train
from dataset import Crops, Pictures
from evaluation.metrics import psnr
from pictures import find_pictures, read_picture
from training.teacher import Targets, Teacher

onnx = pytest.importorskip("onnx")
pytest.importorskip("openvino")


def write_network(path, scale=4, gain=1.0, channels="NHWC"):
    """An ONNX network that repeats each pixel scale x scale times, times `gain`."""
    make = onnx.helper
    scales = [1, scale, scale, 1] if channels == "NHWC" else [1, 1, scale, scale]
    shape = ["n", "h", "w", 3] if channels == "NHWC" else ["n", 3, "h", "w"]
    constants = [
        make.make_tensor("scales", onnx.TensorProto.FLOAT, [4], scales),
        make.make_tensor("gain", onnx.TensorProto.FLOAT, [], [gain]),
    ]
    nodes = [
        make.make_node("Resize", ["lr", "", "scales"], ["large"], mode="nearest", nearest_mode="floor"),
        make.make_node("Mul", ["large", "gain"], ["sr"]),
    ]
    nodes[0].attribute.append(make.make_attribute("coordinate_transformation_mode", "asymmetric"))
    lr, sr = (make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in ("lr", "sr"))
    lr = make.make_tensor_value_info("lr", onnx.TensorProto.FLOAT, shape)
    graph = make.make_graph(nodes, "repeat", [lr], [sr], constants)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def teacher_file(tmp_path):
    return write_network(tmp_path / "training.teacher.onnx")


@pytest.fixture
def pictures():
    return Pictures(find_pictures(ROOT / "data/valid"), 4, 32, 1e9)


def repeated(lr, scale=4):
    return lr.repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize("memory, ensemble", [(0, False), (1e9, True)])
def test_every_crop_of_a_target_is_the_teachers_of_its_lr_crop(tmp_path, teacher_file, pictures, memory, ensemble):
    targets = Targets(pictures, Teacher(teacher_file, 4, ensemble), tmp_path / "made", memory)
    targets.make()
    lrs, hrs = Crops(pictures, 8, 0, 0, 1, targets=targets)[0]
    assert all(np.array_equal(hr, repeated(lr)) for lr, hr in zip(lrs, hrs))
    same_lrs, true_hrs = Crops(pictures, 8, 0, 0, 1)[0]
    assert np.array_equal(lrs, same_lrs) and not np.array_equal(hrs, true_hrs)


def test_an_ensemble_is_the_mean_over_all_flips_and_turns(tmp_path, teacher_file):
    """Of a network that darkens towards the bottom the eight make one that does nowhere more than elsewhere."""
    teacher = Teacher(teacher_file, 4, ensemble=True)
    teacher.network = lambda lrs: [np.stack([repeated(lr) * np.linspace(0, 1, 24)[:, None, None] for lr in lrs])]
    grey = np.full((6, 6, 3), 200, np.uint8)
    sr = teacher(grey)
    assert np.ptp(sr) <= 1 and sr.mean() == pytest.approx(100, abs=1)


def test_several_threads_may_ask_one_teacher(teacher_file):
    teacher = Teacher(teacher_file, 4)
    lrs = numerics.random().integers(0, 256, (40, 160, 160, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(sr, repeated(lr)) for sr, lr in zip(pool.map(teacher, lrs), lrs))


def test_several_threads_may_make_targets_and_each_counts_once(tmp_path, teacher_file, pictures):
    teacher = Teacher(teacher_file, 4)
    targets = Targets(pictures, teacher, tmp_path / "made", 1e9)
    with ThreadPoolExecutor(8) as pool:
        srs = list(pool.map(targets.__getitem__, 4 * [0, 1]))
    assert all(np.array_equal(sr, repeated(pictures[n % 2][0])) for n, sr in enumerate(srs))
    assert targets.memory == 1e9 - srs[0].nbytes - srs[1].nbytes


def test_a_second_run_does_not_make_them_again(tmp_path, teacher_file, pictures):
    teacher = Teacher(teacher_file, 4)
    Targets(pictures, teacher, tmp_path / "made", 1e9).make()
    teacher.run = None  # would raise
    targets = Targets(pictures, teacher, tmp_path / "made", 1e9)
    targets.make()
    assert np.array_equal(targets[0], repeated(pictures[0][0]))
    other = Teacher(write_network(tmp_path / "other.onnx", gain=0.99), 4)
    assert np.array_equal(Targets(pictures, other, tmp_path / "made", 0)[0], (targets[0] * 0.99).round())


def test_hr_returns_after_the_teachers_part_whose_time_is_not_the_updates(tmp_path, teacher_file, monkeypatch):
    """By a clock on which a teacher's picture takes an hour and a period a second; what nobody needs is not made."""
    seen, clock, call, period = [], [0.0], Teacher.__call__, train.train_period

    def slow(self, lr):
        clock[0] += 3600
        return call(self, lr)

    def timed(game, crops, *others):
        seen.append((crops.first, crops.last, crops.targets is not None))
        clock[0] += 1
        return period(game, crops, *others)

    monkeypatch.setattr(Teacher, "__call__", slow)
    monkeypatch.setattr(train, "train_period", timed)
    monkeypatch.setattr("training.report.time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    change = {"TRAIN_teacher": teacher_file, "TRAIN_teacher_part": 0.5, "TRAIN_fixed_statistics": 0}
    assert run(tmp_path, mode="srresnet", **change) == 0
    assert seen == [(0, 3, True), (3, 4, False), (4, 6, False)]
    assert len(list((tmp_path / "checkpoints/teacher").glob("*.png"))) == 4
    lines = (tmp_path / "checkpoints/log_srgan_init.jsonl").read_text().splitlines()
    assert clock[0] > 4 * 3600 and [json.loads(line)["updates_per_second"] for line in lines[1:]] == [3.0, 1.0, 2.0]
    shutil.rmtree(tmp_path / "checkpoints/teacher")
    assert run(tmp_path, mode="srresnet", **change) == 0
    assert not (tmp_path / "checkpoints/teacher").exists()


def test_ctrl_c_while_the_teachers_pictures_are_made_stops_and_the_same_command_goes_on(
    tmp_path, teacher_file, monkeypatch, capsys
):
    call = Teacher.__call__

    def interrupted(self, lr):
        os.kill(os.getpid(), signal.SIGINT)
        return call(self, lr)

    change = {"TRAIN_teacher": teacher_file, "TRAIN_n_updates_init": 2, "TRAIN_fixed_statistics": 0}
    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "__call__", interrupted)
        assert run(tmp_path, mode="srresnet", **change) == 130
    assert "stopped at update 0 of 2; the same command resumes" in capsys.readouterr().out
    assert len(list((tmp_path / "checkpoints/teacher").glob("*.png"))) == 1
    assert not list((tmp_path / "checkpoints").glob("*.h5"))
    assert run(tmp_path, mode="srresnet", **change) == 0
    assert len(list((tmp_path / "checkpoints/teacher").glob("*.png"))) == 4


def test_a_longer_stable_run_is_that_from_the_start(tmp_path, teacher_file):
    """It goes on from before the decay of the shorter one, though but one state is to be kept."""
    change = {"TRAIN_optimizer": "muon", "TRAIN_schedule_init": "stable", "TRAIN_decay_part": 0.5}
    change |= {"TRAIN_teacher": teacher_file, "TRAIN_teacher_part": 0.5, "TRAIN_fixed_statistics": 1.0}
    change |= {"TRAIN_report_every": 2, "TRAIN_keep_states": 1, "TRAIN_degradation": "photo"}
    change |= {"TRAIN_pixel_loss_init": "mae"}
    ends = []
    for name, lengths in (("longer", (4, 6)), ("straight", (6,))):
        (tmp_path / name).mkdir()
        for length in lengths:
            assert run(tmp_path / name, mode="srresnet", TRAIN_n_updates_init=length, **change) == 0
        checkpoints = tmp_path / name / "checkpoints"
        entries = [json.loads(line) for line in (checkpoints / "log_srgan_init.jsonl").open()]
        assert [entry["update"] for entry in entries] == [0, 2, 3, 4, 6] and entries[-1]["mae"] > entries[-1]["mse"] > 0
        assert json.loads((checkpoints / "g_srgan_init.json").read_text())["content_loss"] == "mae"
        ends.append(checkpoints / "g_srgan_init.weights.h5")
    assert_same_bits(*ends)


def test_what_is_no_teacher_is_refused_before_anything_is_written(tmp_path, capsys):
    text = tmp_path / "text.onnx"
    text.write_text("no network")
    for path, named in (
        (tmp_path / "none.onnx", "No such file"),
        (text, "no ONNX network"),
        (write_network(tmp_path / "two.onnx", scale=2), "32x48x3"),
        (write_network(tmp_path / "small.onnx", gain=1 / 255), "0..255"),
        (write_network(tmp_path / "channels.onnx", channels="NCHW"), "(N, h, w, 3)"),
    ):
        refused(capsys, tmp_path, path, named, TRAIN_teacher=path)
    assert not (tmp_path / "checkpoints").exists()


def test_pairs_of_a_restorer_are_aligned_and_can_be_learnt(tmp_path, teacher_file, monkeypatch, capsys):
    pairs, script = tmp_path / "pairs", f"{ROOT}/data/restored.py"

    def made(photos, count):
        """The exit status of the script, as `python` runs it."""
        monkeypatch.setattr(sys, "argv", [script, f"{photos}", f"{teacher_file}", f"{pairs}", f"--count={count}"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
        return ended.value.code

    assert made(ROOT / "data/train", 2) == 0
    before = {path: path.stat().st_mtime_ns for path in pairs.rglob("*.png")}
    (pairs / "original/000001.png").unlink()  # as if it had been stopped there
    assert made(ROOT / "data/train", 3) == 0
    for path in before:
        assert (path.stat().st_mtime_ns == before[path]) == (path.stem == "000000")
    for name in ("000000.png", "000001.png", "000002.png"):
        lr, hr, original = (read_picture(pairs / folder / name) for folder in ("lr", "hr", "original"))
        assert (lr.shape, hr.shape, original.shape) == ((48, 48, 3), (192, 192, 3), (192, 192, 3))
        shifted = [psnr(np.roll(hr, 8, axis), original, 16) for axis in (0, 1)]  # two pixels of LR
        assert psnr(hr, original, 16) > max(shifted)
    settings = {"TRAIN_lr_img_path": pairs / "lr", "TRAIN_hr_img_path": pairs / "hr"}
    assert run(tmp_path, mode="srresnet", TRAIN_n_updates_init=2, **settings) == 0
    capsys.readouterr()
    assert made(pairs / "hr", 1) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "no picture is as large as" in line
