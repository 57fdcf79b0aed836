"""The evaluation as a user runs it: rows, columns and pictures that are missing or bad."""

import json

import numpy as np
import pytest
from archives import save_arrays
from trainings import ROOT, TINY, arguments, refused, run

import train
from evaluate import load_earlier, load_networks
from evaluation.grids import hardest_detail
from model import SRGAN_g
from pictures import read_picture, resize, write_picture
from srgan import to_float, to_uint8
from training.command_line import command_line
from weights import load_generator, save_weights


@pytest.fixture
def weights(tmp_path):
    """Those of SRGAN where a training below `tmp_path` leaves them."""
    model = {"scale": 4, "blocks": TINY["MODEL.blocks"], "filters": TINY["MODEL.filters"]}
    save_weights(SRGAN_g(**model), tmp_path / "checkpoints/g_srgan.weights.h5", {"model": model})
    return tmp_path / "checkpoints/g_srgan.weights.h5"


@pytest.fixture
def nothing_shipped(tmp_path, monkeypatch):
    """No networks but those of the test: the shipped ones are large, and none of its business."""
    monkeypatch.setattr("evaluate.PRETRAINED", tmp_path)


def rows_of(folder):
    return json.loads((folder / "samples/evaluate/results.json").read_text())


def test_evaluate_says_which_rows_are_missing(tmp_path, capsys, nothing_shipped):
    assert run(tmp_path, mode="evaluate") == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in ("SRResNet: no row", "SRGAN: no row", "VGG19: no column"))
    assert "content_loss" not in printed  # what one may do about VGG19 in training alone
    assert [row["method"] for row in rows_of(tmp_path)] == ["nearest", "bicubic", "lanczos", "HR"]


def test_shipped_weights_that_have_lost_their_metadata_are_no_row(tmp_path, nothing_shipped):
    for name in ("srgan", "srcnn"):
        (tmp_path / f"{name}.weights.h5").touch()
    config, remarks = command_line(arguments(tmp_path, "evaluate"))[2], []
    assert load_networks(config)[0] == load_earlier(4, remarks) == {} and "SRCNN" in remarks[0]


def test_evaluation_leaves_out_a_bad_picture_and_says_so(weights, tmp_path, capsys, nothing_shipped):
    arguments(tmp_path)  # puts a good one there
    folder = tmp_path / "benchmark/Set5/HR"
    (folder / "broken.png").write_text("no picture")
    write_picture(folder / "tiny.png", np.zeros((7, 9, 3), np.uint8))
    assert run(tmp_path, mode="evaluate") == 0
    printed = capsys.readouterr().out
    assert "left out: " in printed and "broken.png" in printed and "tiny.png: 9x7 is too small" in printed
    rows = rows_of(tmp_path)
    assert {row["pictures"] for row in rows} == {1}


@pytest.mark.parametrize("grey", ["HR", "LRx4"])
def test_a_grey_picture_and_a_colour_one_are_measured_in_colour(weights, tmp_path, nothing_shipped, grey):
    picture = read_picture(ROOT / "data/benchmark/Set5/HR/img_003.png")[:96, :96]
    for folder, colour in (("HR", picture), ("LRx4", resize(picture, 1 / 4))):
        write_picture(tmp_path / "sets/mine" / folder / "a.png", colour[..., 1] if folder == grey else colour)
    assert run(tmp_path, mode="evaluate", EVALUATE_benchmark_dir=tmp_path / "sets") == 0
    rows = rows_of(tmp_path)
    assert next(row for row in rows if row["method"] == "bicubic")["psnr"] > 15


def test_the_detail_of_a_grid_lies_inside_the_picture():
    hr = np.zeros((315, 315), np.uint8)
    hr[-1, -1] = 255
    for side in (62, 63):
        assert hardest_detail(np.zeros_like(hr), hr, side) == (315 - side, 315 - side, side)


def test_bad_benchmark_and_validation_pictures_are_refused(tmp_path, capsys, nothing_shipped):
    small = tmp_path / "small"
    write_picture(small / "Mine/HR/a.png", np.zeros((8, 8, 3), np.uint8))
    refused(capsys, tmp_path, "a.png", "8x8", mode="evaluate", EVALUATE_benchmark_dir=small)
    refused(capsys, tmp_path, "a.png", "8x8", VALID_hr_img_path=small)
    other = tmp_path / "other"
    write_picture(other / "Mine/HR/a.png", np.zeros((250, 250, 3), np.uint8))
    write_picture(other / "Mine/LRx4/a.png", np.zeros((63, 63, 3), np.uint8))
    refused(capsys, tmp_path, "LRx4/a.png", mode="evaluate", EVALUATE_benchmark_dir=other)


def test_evaluate_refuses_weights_of_another_scale_and_damaged_ones(weights, tmp_path, capsys):
    refused(capsys, tmp_path, weights, "4x", mode="evaluate", MODEL_scale=2)
    weights.write_bytes(b"")
    refused(capsys, tmp_path, weights, "damaged", mode="evaluate")


def test_own_pictures_are_upscaled_and_bad_ones_named(weights, tmp_path, capsys):
    pytest.importorskip("openvino")
    source = tmp_path / "mine"
    write_picture(source / "a/colour.png", np.full((9, 13, 3), 128, np.uint8))
    (source / "zero.png").touch()
    mode, _, config = command_line(arguments(tmp_path, "evaluate"))
    assert train.main(mode, str(source), config) == 1
    assert capsys.readouterr().err.count("zero.png") == 1
    assert read_picture(tmp_path / "samples/upscaled/a/colour.png").shape == (36, 52, 3)
    assert train.main(mode, str(source / "none.png"), config) == 2


@pytest.mark.parametrize("own", [False, True])
def test_own_pictures_are_not_upscaled_by_another_factor_than_the_one_asked_for(weights, tmp_path, capsys, own):
    pytest.importorskip("openvino")
    if not own:  # the shipped ones upscale 4x as well
        weights.unlink()
    mode, _, config = command_line(arguments(tmp_path, "evaluate", MODEL_scale=2))
    assert train.main(mode, str(ROOT / "data/valid"), config) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "--scale 2" in line and "upscales 4x" in line
    assert not (tmp_path / "samples").exists()


def test_a_picture_whose_name_begins_with_a_dash_is_no_option(weights, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    write_picture(tmp_path / "-x.png", np.full((9, 13, 3), 128, np.uint8))
    words = arguments(tmp_path, "evaluate")
    monkeypatch.chdir(tmp_path)
    assert train.main(*command_line([*words, "--input=-x.png"])) == 0
    assert read_picture(tmp_path / "samples/upscaled/-x.png").shape == (36, 52, 3)


def test_a_tensorlayer_archive_is_measured_like_our_own_weights(tmp_path, nothing_shipped):
    save_arrays(SRGAN_g("tensorlayer", blocks=1, filters=8), tmp_path / "g.npz")
    change = {"MODEL_variant": "tensorlayer", "TRAIN_crop": 64, "EVALUATE_srgan": tmp_path / "g.npz"}
    assert run(tmp_path, mode="evaluate", **change) == 0
    rows = rows_of(tmp_path)
    assert "SRGAN" in [row["method"] for row in rows]


def test_a_self_ensemble_is_measured_as_the_mean_over_flips_and_turns(weights, tmp_path, capsys, nothing_shipped):
    assert run(tmp_path, mode="evaluate", EVALUATE_self_ensemble="yes") == 0
    assert "means over the flips and turns" in capsys.readouterr().out
    generator = load_generator(weights)
    lr, srs = read_picture(tmp_path / "samples/evaluate/valid_lr.png"), []
    for step in (1, -1):
        for turns in range(4):
            sr = np.array(generator(to_float(np.rot90(lr[:, ::step], turns)[None])))[0]
            srs.append(np.rot90(sr, -turns)[:, ::step])
    found = read_picture(tmp_path / "samples/evaluate/valid_gen.png").astype(int)
    assert np.abs(found - to_uint8(np.mean(srs, axis=0))).max() <= 1  # a value close to the half of a level
    assert np.abs(found - to_uint8(srs[0])).max() > 1
