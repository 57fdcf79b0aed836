"""Training as a user runs it: both stages, stopped and resumed, on bad input, into full disks."""

import importlib.machinery
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import h5py
import numpy as np
import pytest

import train
from config import command_line
from dataset import Crops, Pictures
from evaluation.metrics import luma, psnr
from losses import CONTENT_LOSSES, VGG19, g_gan_loss
from model import SRGAN_d, SRGAN_g
from pictures import find_pictures, read_picture, resize, write_picture
from srgan import JIT, SRGAN, frozen, to_float, to_uint8

ROOT = Path(__file__).parents[1]
VGG_WEIGHTS = ROOT.parent / "shared/weights/vgg19_notop.weights.h5"
TINY = {
    "MODEL.blocks": 1,
    "MODEL.filters": 8,
    "MODEL.discriminator_filters": 4,
    "TRAIN.batch_size": 4,
    "TRAIN.crop": 32,
    "TRAIN.n_updates_init": 6,
    "TRAIN.n_updates": 6,
    "TRAIN.report_every": 4,
    "TRAIN.fixed_statistics": 0.4,
    "VALID.crop": 64,
    "VALID.count": 2,
    "VGG.weights": "none",
}


def arguments(folder, mode="srgan", **changes):
    """The command line of a tiny run below `folder`; a change `TRAIN_crop=64` stands for TRAIN.crop."""
    settings = TINY | {
        "TRAIN.hr_img_path": ROOT / "data/valid",
        "VALID.hr_img_path": ROOT / "data/valid",
        "TRAIN.content_loss": "mse",
        "TRAIN.checkpoint_dir": folder / "checkpoints",
        "TRAIN.samples_dir": folder / "samples",
        "EVALUATE.benchmark_dir": folder / "benchmark",
    }
    settings |= {name.replace("_", ".", 1): value for name, value in changes.items()}
    (folder / "benchmark/Set5/HR").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "data/benchmark/Set5/HR/img_003.png", folder / "benchmark/Set5/HR")
    return [f"--mode={mode}", *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))]


def run(folder, mode="srgan", **changes):
    return train.main(*command_line(arguments(folder, mode, **changes)))


def test_johnsons_loss_is_of_features_alone_and_has_no_discriminator(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_vgg19", lambda layer, source: VGG19(layer, None))  # random weights, no file
    assert run(tmp_path, TRAIN_content_loss="johnson", TRAIN_d_lr_ratio=0.5) == 0
    folder = tmp_path / "checkpoints"
    assert (folder / "g_srgan.weights.h5").exists() and not (folder / "d_srgan.weights.h5").exists()
    line = json.loads((folder / "log_srgan.jsonl").read_text().splitlines()[-1])
    assert line["vgg"] > 0 and not {"gan", "d_loss", "d_real"} & set(line)
    assert CONTENT_LOSSES["johnson"][:2] == (0.0, "block2_conv2")  # relu2_2 in Johnson et al. 2016


def refused(capsys, folder, *named, status=2, **changes):
    """The run ends with `status` and one line that holds each of `named`."""
    assert run(folder, **changes) == status
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "Traceback" not in line
    for part in named:
        assert str(part) in line


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    assert run(folder) == 0
    return folder


@pytest.fixture
def trained(straight, tmp_path):
    """A copy of the finished run, to be spoilt."""
    shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def test_a_run_leaves_log_grids_checkpoints_and_facts(straight):
    for stage, samples, terms in (
        ("srgan_init", "srgan_ginit", {"mse"}),
        ("srgan", "srgan_gan", {"mse", "gan", "d_loss", "d_real", "d_fake"}),
    ):
        lines = [json.loads(line) for line in (straight / f"checkpoints/log_{stage}.jsonl").read_text().splitlines()]
        assert [line["update"] for line in lines] == [0, 4, 6] and "val_psnr" in lines.pop(0)
        assert all(terms | {"val_psnr", "updates_per_second", "learning_rate"} <= set(line) for line in lines)
        grids = {path.name for path in (straight / "samples" / samples).iterdir()}
        assert grids == {"train_0.png", "train_4.png", "train_6.png", "_train_sample_16.png", "_train_sample_64.png"}
        facts = json.loads((straight / f"checkpoints/g_{stage}.json").read_text())
        assert facts["updates"] == 6 and facts["model"]["blocks"] == 1 and facts["measured"] == lines[-1]
    assert (straight / "checkpoints/d_srgan.weights.h5").exists()
    if train.keras.backend.backend() == "tensorflow":
        assert len(list((straight / "checkpoints/tensorboard").rglob("events.out.*"))) >= 2  # a folder a stage
    assert json.loads((straight / "checkpoints/config.json").read_text())["TRAIN"]["crop"] == 32
    assert (straight / "samples/evaluate/results.md").exists()
    assert not list(straight.rglob(".*"))  # no temporary file is left


def test_a_warm_up_can_start_from_given_weights(straight, tmp_path, capsys):
    """At a rate of 0 they stay as they are."""
    start = straight / "checkpoints/g_srgan.weights.h5"
    changes = {"TRAIN_initial_generator": start, "TRAIN_learning_rate_init": 0, "TRAIN_n_updates_init": 1}
    assert run(tmp_path, mode="srresnet", **changes) == 0
    before, after = (datasets(path) for path in (start, tmp_path / "checkpoints/g_srgan_init.weights.h5"))
    kernels = [name for name, value in before.items() if value.ndim == 4]
    # the average of two equal numbers a is keep * a + (1 - keep) * a, in float32: four roundings
    assert kernels and all(np.allclose(after[name], before[name], rtol=4 * 2**-24, atol=0) for name in kernels)
    capsys.readouterr()
    assert run(tmp_path, mode="srresnet", **changes) == 0
    assert f"{start} was read when it began" in capsys.readouterr().out


def statistics(path):
    """Moving means and variances of a weights file."""
    return [v for name, v in sorted(datasets(path).items()) if "batch_norm" in name and name.endswith(("/2", "/3"))]


@pytest.mark.parametrize("share", [0, 0.4, 1])
def test_the_generators_statistics_stay_fixed_as_long_as_asked(share, tmp_path):
    """For 0.4, from update 4 of 6 on in the warm-up; in the whole second stage unless it is 0."""
    assert run(tmp_path, TRAIN_fixed_statistics=share, TRAIN_ema=0) == 0
    first, second = (statistics(tmp_path / f"checkpoints/g_{stage}.weights.h5") for stage in ("srgan_init", "srgan"))
    assert all(set(np.unique(array)) <= {0, 1} for array in first) == (share == 1)  # still as they started
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True)) == (share > 0)


def test_the_statistics_are_fixed_at_that_very_update(tmp_path):
    """For 0.2, after 5 of 6 updates: it gets a report of its own."""
    assert run(tmp_path, mode="srresnet", TRAIN_fixed_statistics=0.2) == 0
    lines = (tmp_path / "checkpoints/log_srgan_init.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [0, 4, 5, 6]


def test_the_rate_falls_to_a_tenth_at_half_of_the_second_stage(straight):
    lines = [json.loads(line) for line in (straight / "checkpoints/log_srgan.jsonl").read_text().splitlines()]
    assert lines[-1]["learning_rate"] == pytest.approx(1e-5)


def test_an_interrupted_run_ends_in_the_same_weights(straight, tmp_path, monkeypatch):
    """Ctrl-C inside both stages, at a report and between reports."""
    stops = [("srgan_init", 1), ("srgan_init", 5), ("srgan", 2), ("srgan", 4)]
    progress = train.Report.progress

    def interrupted(self, update, terms):
        if stops and stops[0] == (self.stage.name, update):
            stops.pop(0)
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # what Python does when the signal arrives
        progress(self, update, terms)

    monkeypatch.setattr(train.Report, "progress", interrupted)
    assert [run(tmp_path) for _ in range(5)] == [130, 130, 130, 130, 0]
    for name in ("g_srgan_init", "g_srgan", "d_srgan", "srgan_state_6"):
        ours, theirs = (datasets(f / f"checkpoints/{name}.weights.h5") for f in (tmp_path, straight))
        assert ours.keys() == theirs.keys()
        assert max(np.abs(ours[key].astype(float) - theirs[key]).max() for key in ours) == 0.0
    logs = [(f / "checkpoints/log_srgan.jsonl").read_text().splitlines() for f in (tmp_path, straight)]
    assert [json.loads(line)["val_psnr"] for line in logs[0]] == [json.loads(line)["val_psnr"] for line in logs[1]]


def test_a_finished_run_is_not_trained_again(trained):
    before = {path.name: path.read_bytes() for path in (trained / "checkpoints").glob("*.h5")}
    assert run(trained) == 0
    after = {path.name: path.read_bytes() for path in (trained / "checkpoints").glob("g_*.h5")}
    assert all(before[name] == content for name, content in after.items())


def test_four_crops_can_be_learnt_by_heart():
    """A small generator beats bicubic by 3 dB on the four crops it sees again and again."""
    pictures = Pictures(find_pictures(ROOT / "data/valid"), 4, 32, 1e9)
    batch = Crops(pictures, 4, 0, 0, 1)[0]
    train.keras.utils.set_random_seed(0)
    game = SRGAN(SRGAN_g(blocks=1, filters=16), ema=0.9)
    game(batch[0])
    rate = train.keras.optimizers.schedules.CosineDecay(4e-3, 600)
    game.compile(optimizer=train.keras.optimizers.Adam(rate), jit_compile=JIT)
    game.fit(*(np.tile(part, (600, 1, 1, 1)) for part in batch), batch_size=4, shuffle=False, verbose=0)
    srs = to_uint8(game.average(to_float(batch[0])))
    gains = [psnr(luma(sr), luma(hr), 0) - psnr(luma(resize(lr, 4)), luma(hr), 0) for sr, lr, hr in zip(srs, *batch)]
    assert np.mean(gains) > 3


@pytest.mark.skipif(train.keras.backend.backend() != "tensorflow", reason="only TensorFlow has variables that change")
def test_the_generator_is_judged_by_the_discriminator_of_before_the_update(monkeypatch):
    """However late its weights are read for that, as on a busy machine."""
    import tensorflow as tf

    def frozen_late(model):
        late = tf.numpy_function(lambda: time.sleep(0.3) or 0, [], tf.int64)
        with tf.control_dependencies([late]):
            return frozen(model)

    monkeypatch.setattr("srgan.frozen", frozen_late)
    game = SRGAN(SRGAN_g(blocks=1, filters=8), SRGAN_d(crop=32, filters=4), weights=(1.0, 0.0, 1e-3))
    lr, hr = (np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8) for side in (8, 32))
    game(lr)
    expected = g_gan_loss(game.discriminator(game.generator(to_float(lr), training=True), training=True))
    game.compile(optimizer=train.keras.optimizers.Adam(1e-2), jit_compile=JIT)
    judged = game.train_on_batch(lr, hr, return_dict=True)["gan"]
    late = g_gan_loss(game.discriminator(game.generator(to_float(lr), training=True), training=True))
    assert abs(late - expected) > 1e-2  # what it would be after the update, far from a rounding of float32
    assert judged == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_keeps_float32_weights(tmp_path, precision):
    try:
        assert run(tmp_path, TRAIN_precision=precision, TRAIN_n_updates_init=2, TRAIN_n_updates=2) == 0
    finally:
        train.keras.config.set_dtype_policy("float32")
    line = json.loads((tmp_path / "checkpoints/log_srgan.jsonl").read_text().splitlines()[-1])
    assert all(np.isfinite(value) for value in line.values())
    weights = datasets(tmp_path / "checkpoints/g_srgan.weights.h5")
    assert {array.dtype for array in weights.values()} == {np.dtype("float32")}


def test_the_games_weights_stand_without_vgg(tmp_path):
    """A feature extractor serves the loss and stays out of what is saved and trained."""
    vgg = SRGAN_g(scale=2, blocks=1, filters=4)
    game = SRGAN(SRGAN_g(blocks=1, filters=4), vgg=vgg)
    game(np.zeros((1, 8, 8, 3), np.uint8))
    ours = {variable.path for variable in game.variables}
    assert not ours & {variable.path for variable in vgg.variables}


# bad input: one line, exit 2, nothing lost


def test_missing_and_empty_folders_are_refused(tmp_path, capsys):
    refused(capsys, tmp_path, tmp_path / "none", "no such folder", TRAIN_hr_img_path=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    refused(capsys, tmp_path, tmp_path / "empty", "no pictures", TRAIN_hr_img_path=tmp_path / "empty")
    refused(capsys, tmp_path, tmp_path / "empty", "no set", mode="evaluate", EVALUATE_benchmark_dir=tmp_path / "empty")
    assert not (tmp_path / "checkpoints").exists()


def test_a_folder_of_nothing_but_bad_pictures_is_refused(tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "zero.png").touch()
    (bad / "text.jpg").write_text("no picture")
    write_picture(bad / "small.png", np.zeros((16, 16, 3), np.uint8))
    refused(capsys, tmp_path, "no usable picture", "3", TRAIN_hr_img_path=bad)


def test_training_names_bad_pictures_once_and_goes_on(tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(ROOT / "data/valid", mixed)
    whole = next(mixed.glob("*.jpg")).read_bytes()
    (mixed / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (mixed / "zero.png").touch()
    (mixed / "two\nlines.png").touch()
    os.mkfifo(mixed / "pipe.png")
    for memory in (1, 0):
        change = {"TRAIN_memory_gb": memory, "TRAIN_checkpoint_dir": tmp_path / f"checkpoints_{memory}"}
        assert run(tmp_path, mode="srresnet", TRAIN_hr_img_path=mixed, TRAIN_n_updates_init=8, **change) == 0
        named = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
        assert sorted(Path(line.split(": ")[1]).name for line in named) == [
            "cut.jpg",
            "pipe.png",
            r"two\nlines.png",
            "zero.png",
        ]
    ours, theirs = (datasets(tmp_path / f"checkpoints_{memory}/g_srgan_init.weights.h5") for memory in (0, 1))
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    "change", [{"MODEL_variant": "tensorlayer", "TRAIN_crop": 64}, {"MODEL_scale": 2}, {"MODEL_filters": 4}]
)
def test_a_state_of_another_network_is_refused_and_kept(trained, capsys, change):
    state = trained / "checkpoints/srgan_init_state_6.weights.h5"
    before = state.read_bytes()
    key = next(iter(change)).split("_")[1]
    refused(capsys, trained, state, key, "this run has", **change)
    assert state.read_bytes() == before


def test_evaluate_refuses_weights_of_another_scale_and_damaged_ones(trained, capsys):
    weights = trained / "checkpoints/g_srgan.weights.h5"
    refused(capsys, trained, "g_srgan_init.weights.h5", "4x", mode="evaluate", MODEL_scale=2)
    weights.write_bytes(b"")
    refused(capsys, trained, weights, "damaged", mode="evaluate")


def test_weights_from_elsewhere_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    theirs = tmp_path / "checkpoints/g_srgan_init.weights.h5"
    theirs.write_bytes(b"precious")
    refused(capsys, tmp_path, theirs, "would be overwritten")
    assert theirs.read_bytes() == b"precious"


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    refused(capsys, tmp_path, tmp_path / "file", "cannot be made", TRAIN_checkpoint_dir=tmp_path / "file/sub")


def test_missing_vgg_weights_stop_the_run_before_anything_is_written(tmp_path, capsys):
    missing = tmp_path / "none.h5"
    ways_out = ["VGG.weights=FILE", "TRAIN.content_loss=mse", "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"]
    refused(capsys, tmp_path, missing, *ways_out, TRAIN_content_loss="tensorlayer", VGG_weights=missing)
    (tmp_path / "text.h5").write_text("no weights")
    refused(capsys, tmp_path, "text.h5", TRAIN_content_loss="tensorlayer", VGG_weights=tmp_path / "text.h5")
    assert not (tmp_path / "checkpoints").exists()


def test_a_deleted_state_does_not_cost_the_finished_weights(trained, capsys):
    for state in (trained / "checkpoints").glob("srgan_init_state_*"):
        state.unlink()
    before = (trained / "checkpoints/g_srgan_init.weights.h5").read_bytes()
    refused(capsys, trained, "g_srgan_init.weights.h5", "move it away")
    assert (trained / "checkpoints/g_srgan_init.weights.h5").read_bytes() == before


def test_a_run_that_diverges_stops_at_that_update_and_keeps_the_state_before_it(trained, capsys):
    """Update 7 makes the weights endless, update 8 finds out."""
    state = trained / "checkpoints/srgan_init_state_6.weights.h5"
    before = state.read_bytes()
    change = {"TRAIN_n_updates_init": 40, "TRAIN_report_every": 40, "TRAIN_learning_rate_init": 1e30}
    named = ["mse is not finite at update 8", "TRAIN.learning_rate_init"]
    refused(capsys, trained, *named, status=3, **change)
    assert state.read_bytes() == before
    assert sorted(path.name for path in state.parent.glob("srgan_init_state_*.h5")) == [
        "srgan_init_state_4.weights.h5",
        "srgan_init_state_6.weights.h5",
    ]


@pytest.mark.parametrize("line", ["no JSON", '{"update": 4}', "[4]"])
def test_a_log_that_is_none_is_refused(trained, capsys, line):
    (trained / "checkpoints/log_srgan_init.jsonl").write_text(line)
    refused(capsys, trained, "log_srgan_init.jsonl", "move it away")


def test_a_new_learning_rate_counts_from_the_resumed_update_on(trained):
    change = {"TRAIN_n_updates_init": 8, "TRAIN_learning_rate_init": 1e-6}
    assert run(trained, mode="srresnet", **change) == 0
    lines = (trained / "checkpoints/log_srgan_init.jsonl").read_text().splitlines()
    assert [json.loads(line)["learning_rate"] for line in lines[1:]] == pytest.approx([1e-4, 1e-4, 1e-6])


def vanishing(monkeypatch, folder, pattern):
    """Delete the files of `pattern` after the first update; the changes of a run that reads them again and again."""
    shutil.copytree(ROOT / "data/valid", folder)
    progress = train.Report.progress

    def vanish(self, update, terms):
        for path in folder.glob(pattern):
            path.unlink()
        progress(self, update, terms)

    monkeypatch.setattr(train.Report, "progress", vanish)
    return {"TRAIN_hr_img_path": folder, "TRAIN_memory_gb": 0, "TRAIN_n_updates_init": 60, "TRAIN_report_every": 30}


def test_when_its_pictures_vanish_the_run_stops(tmp_path, capsys, monkeypatch):
    change = vanishing(monkeypatch, tmp_path / "mine", "*.jpg")
    refused(capsys, tmp_path, tmp_path / "mine", "3 of 4 pictures", "unreadable", TRAIN_workers=1, **change)


def test_when_one_picture_vanishes_it_is_named_and_the_run_goes_on(tmp_path, capsys, monkeypatch):
    change = vanishing(monkeypatch, tmp_path / "mine", "*4d483c69.jpg")
    assert run(tmp_path, mode="srresnet", **change) == 0
    printed = capsys.readouterr().out
    assert printed.count("left out: ") == printed.count("4d483c69.jpg") == 1
    assert json.loads((tmp_path / "checkpoints/g_srgan_init.json").read_text())["updates"] == 60


def test_bad_benchmark_and_validation_pictures_are_refused(tmp_path, capsys):
    small = tmp_path / "small"
    write_picture(small / "Mine/HR/a.png", np.zeros((8, 8, 3), np.uint8))
    refused(capsys, tmp_path, "a.png", "8x8", mode="evaluate", EVALUATE_benchmark_dir=small)
    refused(capsys, tmp_path, "a.png", "8x8", VALID_hr_img_path=small)
    other = tmp_path / "other"
    write_picture(other / "Mine/HR/a.png", np.zeros((250, 250, 3), np.uint8))
    write_picture(other / "Mine/LRx4/a.png", np.zeros((63, 63, 3), np.uint8))
    refused(capsys, tmp_path, "LRx4/a.png", mode="evaluate", EVALUATE_benchmark_dir=other)


def test_evaluation_leaves_out_a_bad_picture_and_says_so(tmp_path, capsys):
    arguments(tmp_path)  # puts a good one there
    folder = tmp_path / "benchmark/Set5/HR"
    (folder / "broken.png").write_text("no picture")
    write_picture(folder / "tiny.png", np.zeros((8, 8, 3), np.uint8))
    assert run(tmp_path, mode="evaluate") == 0
    printed = capsys.readouterr().out
    assert "left out: " in printed and "broken.png" in printed and "tiny.png" in printed
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    assert {row["pictures"] for row in rows} == {1}


def as_a_user(folder, *extra, environment=None, limit=None, **changes):
    """The finished process of the tiny run's command line; `limit` bounds the kB of a file."""
    bound = ["bash", "-c", f'ulimit -f {limit or "unlimited"}; exec "$@"', "bash"]
    command = [*bound, sys.executable, "train.py", *arguments(folder, **changes), *extra]
    environment = dict(os.environ) | (environment or {})
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_vgg_without_network_is_one_line_with_the_ways_out(tmp_path):
    closed = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    ended = as_a_user(tmp_path, environment=closed, TRAIN_content_loss="tensorlayer", VGG_weights="imagenet")
    line = ended.stderr.splitlines()[-1]
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    for part in ("vgg19_weights", "https://", "VGG.weights=FILE", "TRAIN.content_loss=mse"):
        assert part in line
    assert not (tmp_path / "checkpoints").exists()


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(tmp_path):
    ended = as_a_user(tmp_path, mode="srresnet", limit=150)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert "cannot be written" in ended.stderr.splitlines()[-1]
    assert run(tmp_path, mode="srresnet") == 0


# evaluation


def test_evaluate_says_which_rows_are_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("evaluate.PRETRAINED", tmp_path)
    assert run(tmp_path, mode="evaluate") == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in ("SRResNet: no row", "SRGAN: no row", "VGG19: no column"))
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    assert [row["method"] for row in rows] == ["nearest", "bicubic", "lanczos", "HR"]


@pytest.mark.skipif(not VGG_WEIGHTS.exists(), reason="needs a VGG19 file")
def test_evaluate_measures_distances_of_vgg19_features(tmp_path):
    assert run(tmp_path, mode="evaluate", VGG_weights=VGG_WEIGHTS) == 0
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    distances = {row["method"]: row["vgg19"] for row in rows if "vgg19" in row}
    assert 0 < distances["lanczos"] < distances["bicubic"] < distances["nearest"] < 4
    assert "| VGG19 |" in (tmp_path / "samples/evaluate/results.md").read_text()


def test_evaluate_measures_lpips_where_its_package_is_installed(tmp_path, monkeypatch):
    """A stand-in for the package: it has the same call, and needs no download."""
    pytest.importorskip("torch")
    package = types.ModuleType("lpips")
    package.__spec__ = importlib.machinery.ModuleSpec("lpips", None)
    package.LPIPS = lambda net, verbose: lambda srs, hr: (srs - hr).abs().mean((1, 2, 3), keepdim=True)
    monkeypatch.setitem(sys.modules, "lpips", package)
    assert run(tmp_path, mode="evaluate") == 0
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    distances = {row["method"]: row["lpips"] for row in rows if "lpips" in row}
    assert 0 < distances["lanczos"] < distances["bicubic"] < distances["nearest"] < 2
    assert "| LPIPS |" in (tmp_path / "samples/evaluate/results.md").read_text()


def test_evaluate_writes_grids_and_tensorlayers_four_pictures(straight):
    names = {path.name for path in (straight / "samples/evaluate").iterdir()}
    assert {"Set5_img_003.png", "valid_gen.png", "valid_lr.png", "valid_hr.png", "valid_bicubic.png"} <= names


def test_own_pictures_are_upscaled_and_bad_ones_named(trained, capsys):
    pytest.importorskip("openvino")
    source = trained / "mine"
    write_picture(source / "a/colour.png", np.full((9, 13, 3), 128, np.uint8))
    (source / "zero.png").touch()
    mode, _, config = command_line(arguments(trained, "evaluate"))
    assert train.main(mode, str(source), config) == 1
    assert capsys.readouterr().err.count("zero.png") == 1
    assert read_picture(trained / "samples/upscaled/a/colour.png").shape == (36, 52, 3)
    assert train.main(mode, str(source / "none.png"), config) == 2


def test_another_scale_trains_and_is_measured_without_the_papers_numbers(tmp_path):
    assert run(tmp_path, MODEL_scale=2, TRAIN_n_updates_init=2, TRAIN_n_updates=2) == 0
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    assert [row["method"] for row in rows][-3:] == ["SRResNet", "SRGAN", "HR"]
    assert all(row["paper_psnr"] is None for row in rows)


def test_the_warm_up_of_another_scale_is_measured_alone(tmp_path, capsys):
    assert run(tmp_path, mode="srresnet", MODEL_scale=2, TRAIN_n_updates_init=2) == 0
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    assert [row["method"] for row in rows][-2:] == ["SRResNet", "HR"]
    assert "SRGAN: no row" in capsys.readouterr().out


def test_a_tensorlayer_archive_is_measured_like_our_own_weights(tmp_path):
    layers = SRGAN_g("tensorlayer", blocks=1, filters=8).layers
    arrays = []
    for layer in layers:
        normalized = hasattr(layer, "gamma")
        weights = [layer.beta, layer.gamma, layer.moving_mean, layer.moving_variance] if normalized else layer.weights
        arrays += [np.array(weight) for weight in weights]
    np.savez(tmp_path / "g.npz", **{f"weight_{n}": array for n, array in enumerate(arrays)})
    change = {"MODEL_variant": "tensorlayer", "TRAIN_crop": 64, "EVALUATE_srgan": tmp_path / "g.npz"}
    assert run(tmp_path, mode="evaluate", **change) == 0
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    assert "SRGAN" in [row["method"] for row in rows]
