"""Training as a user runs it: both stages, stopped and resumed."""

import contextlib
import io
import json
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from keras import ops
from thorough import often
from trainings import ROOT, SHORT, assert_same_bits, datasets, refused, run

import train
import upscale
from dataset import Crops, Pictures
from evaluation.metrics import luma, psnr
from losses import CONTENT_LOSSES, VGG19, g_gan_loss
from model import SRGAN_d, SRGAN_g
from pictures import find_pictures, read_picture, resize, write_picture
from srgan import JIT, SRGAN, frozen, to_float, to_uint8
from training.command_line import command_line


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    assert run(folder, table=True) == 0
    return folder


@pytest.fixture
def trained(straight, tmp_path):
    """A copy of the finished run, to be spoilt."""
    shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def test_a_run_leaves_log_grids_checkpoints_and_facts(straight):
    for stage, samples, updates, terms in (
        ("srgan_init", "srgan_ginit", [0, 4, 5, 6], {"mse"}),  # at 5 the statistics are fixed
        ("srgan", "srgan_gan", [0, 4, 6], {"mse", "gan", "d_loss", "d_real", "d_fake"}),
    ):
        lines = [json.loads(line) for line in (straight / f"checkpoints/log_{stage}.jsonl").read_text().splitlines()]
        assert [line["update"] for line in lines] == updates and "val_psnr" in lines.pop(0)
        assert all(terms | {"val_psnr", "updates_per_second", "learning_rate"} <= set(line) for line in lines)
        grids = {path.name for path in (straight / "samples" / samples).iterdir()}
        assert grids == {f"train_{n}.png" for n in updates} | {"_train_sample_16.png", "_train_sample_64.png"}
        facts = json.loads((straight / f"checkpoints/g_{stage}.json").read_text())
        assert facts["updates"] == 6 and facts["model"]["blocks"] == 1 and facts["measured"] == lines[-1]
    assert lines[-1]["learning_rate"] == pytest.approx(1e-5)  # a tenth, from half of the second stage on
    assert (straight / "checkpoints/d_srgan.weights.h5").exists()
    assert json.loads((straight / "checkpoints/config.json").read_text())["TRAIN"]["crop"] == 32
    evaluated = {path.name for path in (straight / "samples/evaluate").iterdir()}
    pictures_of_tensorlayer = {f"valid_{name}.png" for name in ("gen", "lr", "hr", "bicubic")}
    assert {"results.md", "Set5_img_003.png"} | pictures_of_tensorlayer <= evaluated
    assert not list(straight.rglob(".*"))  # no temporary file is left


def test_tensorboard_has_the_logs_numbers_and_the_grids(straight):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tensor_util = pytest.importorskip("tensorboard.util.tensor_util")
    if train.keras.backend.backend() != "tensorflow":
        pytest.skip("it is TensorFlow that writes them")
    for stage, samples in (("srgan_init", "srgan_ginit"), ("srgan", "srgan_gan")):
        board = reader.EventAccumulator(f"{straight}/checkpoints/tensorboard/{stage}", {"tensors": 0}).Reload()
        logged = {}
        for line in (straight / f"checkpoints/log_{stage}.jsonl").read_text().splitlines():
            for name, value in (line := json.loads(line)).items():
                logged.setdefault(name, {})[line["update"]] = value
        assert set(board.Tags()["tensors"]) == set(logged) - {"update"} | {"grid"}
        for name in set(logged) - {"update"}:
            assert board.SummaryMetadata(name).plugin_data.plugin_name == "scalars"
            drawn = {event.step: float(tensor_util.make_ndarray(event.tensor_proto)) for event in board.Tensors(name)}
            assert drawn == pytest.approx(logged[name], rel=1e-6)
        assert board.SummaryMetadata("grid").plugin_data.plugin_name == "images"
        for event in board.Tensors("grid"):
            width, height, png = tensor_util.make_ndarray(event.tensor_proto)
            seen = imageio.imread(png)
            assert seen.shape == (int(height), int(width), 3)
            assert np.array_equal(seen, read_picture(straight / f"samples/{samples}/train_{event.step}.png"))
        assert {event.step for event in board.Tensors("grid")} == set(logged["update"])


LONGER = {"TRAIN_n_updates": 8, "TRAIN_adversarial_weight": 0.01, "TRAIN_learning_rate_init": 0.01}
LONGER |= {"EVALUATE_self_ensemble": "yes"}


@pytest.fixture(scope="module")
def longer(straight, tmp_path_factory):
    """(Folder, what it printed) of the finished run with more updates and other settings, a line after each update."""
    folder, printed = tmp_path_factory.mktemp("longer"), io.StringIO()
    shutil.copytree(straight / "checkpoints", folder / "checkpoints")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr("training.progress.SECONDS_BETWEEN_LINES", 0)
        assert run(folder, table=True, **LONGER) == 0
    return folder, printed.getvalue()


def test_a_run_says_how_far_it_is_and_ends_with_commands_to_copy(longer):
    """And these run. Elsewhere than on a terminal."""
    folder, printed = longer
    terms = "".join(rf"  {name} [-+.e\d]+" for name in ("mse", "gan", "d_loss", "d_real", "d_fake"))
    told = re.findall(rf"^srgan: update (\d) of 8{terms}  [.e\d+-]+ updates a second  \d\d:\d\d left$", printed, re.M)
    assert told == ["8"]  # the clock starts at the first update, 7, which is late because it is compiled
    said = dict(
        re.findall(r"^(grids of bicubic, SR and HR|curves|this table again|a picture of yours): (.*)$", printed, re.M)
    )
    assert Path(said["grids of bicubic, SR and HR"]) == folder / "samples/srgan_gan"
    if train.keras.backend.backend() == "tensorflow":
        program, option, board = shlex.split(said["curves"])
        assert (program, option) == ("tensorboard", "--logdir") and list(Path(board).glob("srgan/events.out.*"))
    table = (folder / "samples/evaluate/results.md").read_text()
    (folder / "samples/evaluate/results.md").unlink()
    program, script, *words = shlex.split(said["this table again"])
    assert (program, script) == ("python", "train.py") and train.main(*command_line(words)) == 0
    assert (folder / "samples/evaluate/results.md").read_text() == table
    program, script, picture, *words = shlex.split(said["a picture of yours"])
    write_picture(folder / picture, np.zeros((9, 13, 3), np.uint8))
    assert upscale.main(upscale.command_line([str(folder / picture), *words])) == 0


def test_a_longer_run_says_which_settings_have_changed_and_where_that_has_no_effect(longer, capsys):
    """And the same command again says it of the warm-up alone."""
    folder, first = longer
    assert run(folder, **LONGER) == 0
    for printed, stages in ((first, {"srgan_init", "srgan"}), (capsys.readouterr().out, {"srgan_init"})):
        said = {line.partition(":")[0]: line for line in printed.splitlines() if "before:" in line}
        assert set(said) == stages
        assert "TRAIN.learning_rate_init=0.01 (before: 0.0001)" in said["srgan_init"]
        assert "TRAIN.adversarial_weight" not in said["srgan_init"]
        assert "srgan" not in stages or "TRAIN.adversarial_weight=0.01 (before: 0.001)" in said["srgan"]
    assert json.loads((folder / "checkpoints/g_srgan.json").read_text())["updates"] == 8


def test_a_warm_up_can_start_from_given_weights(straight, tmp_path, capsys):
    """At a rate of 0 they stay as they are."""
    start = straight / "checkpoints/g_srgan.weights.h5"
    changes = SHORT | {"TRAIN_initial_generator": start, "TRAIN_learning_rate_init": 0, "TRAIN_n_updates_init": 1}
    assert run(tmp_path, mode="srresnet", **changes) == 0
    before, after = (datasets(path) for path in (start, tmp_path / "checkpoints/g_srgan_init.weights.h5"))
    kernels = [name for name, value in before.items() if value.ndim == 4]
    # the average of two equal numbers a is keep * a + (1 - keep) * a, in float32: four roundings
    assert kernels and all(np.allclose(after[name], before[name], rtol=4 * 2**-24, atol=0) for name in kernels)
    capsys.readouterr()
    assert run(tmp_path, mode="srresnet", **changes) == 0
    assert f"{start} was read when this stage began" in capsys.readouterr().out


def statistics(path):
    """Moving means and variances of a weights file."""
    return [v for name, v in sorted(datasets(path).items()) if "batch_norm" in name and name.endswith(("/2", "/3"))]


def statistics_of_stages(folder):
    """Those at the end of the warm-up and of the second stage."""
    return [statistics(folder / f"checkpoints/g_{stage}.weights.h5") for stage in ("srgan_init", "srgan")]


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    """A short run of another scale in mixed precision, whose statistics are never fixed."""
    folder = tmp_path_factory.mktemp("doubling")
    assert run(folder, table=True, MODEL_scale=2, TRAIN_ema=0, TRAIN_precision="mixed_bfloat16", **SHORT) == 0
    assert train.keras.config.dtype_policy().name == "float32"  # in which the table was measured
    return folder


def test_the_generators_statistics_move_in_both_stages_if_they_are_never_fixed(doubling):
    first, second = statistics_of_stages(doubling)
    assert all(not set(np.unique(array)) <= {0, 1} for array in first)
    assert not any(np.array_equal(*pair) for pair in zip(first, second, strict=True))


def test_the_generators_statistics_stay_fixed_in_the_second_stage_if_they_are_in_the_end_of_the_first(straight):
    first, second = statistics_of_stages(straight)
    assert all(not set(np.unique(array)) <= {0, 1} for array in first)
    # six averages of two equal numbers, each with four roundings of float32
    assert all(np.allclose(*pair, rtol=6 * 4 * 2**-24, atol=0) for pair in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def johnson(tmp_path_factory):
    """A short run with Johnson's loss, whose statistics are always fixed."""
    folder = tmp_path_factory.mktemp("johnson")
    change = {"TRAIN_content_loss": "johnson", "TRAIN_d_lr_ratio": 0.5, "TRAIN_fixed_statistics": 1, "TRAIN_ema": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "load_vgg19", lambda layer, source: VGG19(layer, None))  # random weights, no file
        assert run(folder, **SHORT | change) == 0
    return folder / "checkpoints"


def test_the_generators_statistics_stay_as_they_started_if_they_are_always_fixed(johnson):
    for arrays in statistics_of_stages(johnson.parent):
        assert arrays and all(set(np.unique(array)) <= {0, 1} for array in arrays)


@contextlib.contextmanager
def ctrl_c_at(stage, update):
    """What Python does when the signal arrives, at that update of that stage."""
    progress = train.Report.progress

    def interrupted(self, done, terms):
        if (self.stage.name, done) == (stage, update):
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        progress(self, done, terms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Report, "progress", interrupted)
        yield


def test_an_interrupted_warm_up_ends_in_the_same_weights(straight, tmp_path):
    """Ctrl-C between reports and at one."""
    for update in (2, 4):
        with ctrl_c_at("srgan_init", update):
            assert run(tmp_path, mode="srresnet") == 130
    assert run(tmp_path, mode="srresnet") == 0
    for name in ("g_srgan_init", "srgan_init_state_6"):
        assert_same_bits(*(folder / f"checkpoints/{name}.weights.h5" for folder in (tmp_path, straight)))
    logs = [(f / "checkpoints/log_srgan_init.jsonl").read_text().splitlines() for f in (tmp_path, straight)]
    assert [json.loads(line)["val_psnr"] for line in logs[0]] == [json.loads(line)["val_psnr"] for line in logs[1]]


def test_a_second_stage_by_muon_that_was_stopped_and_is_to_be_longer_is_that_from_the_start(straight, tmp_path, capsys):
    """Ctrl-C between reports; it goes on from before the rate of the shorter one fell."""
    change = {"TRAIN_initial_generator": straight / "checkpoints/g_srgan_init.weights.h5", "TRAIN_n_updates_init": 0}
    change |= {"TRAIN_muon_lr_ratio": 5, "TRAIN_schedule": "stable", "TRAIN_decay_part": 0.5, "TRAIN_report_every": 2}
    folders = [tmp_path / name for name in ("longer", "straight")]
    for folder in folders:
        folder.mkdir()
    with ctrl_c_at("srgan", 3):
        assert run(folders[0], TRAIN_n_updates=4, **change) == 130
    assert [run(folder, TRAIN_n_updates=6, **change) for folder in folders] == [0, 0]
    entries = [json.loads(line) for line in (folders[0] / "checkpoints/log_srgan.jsonl").open()]
    assert [entry["update"] for entry in entries] == [0, 2, 3, 4, 6] and entries[-1]["learning_rate"] == 0
    for name in ("g_srgan", "d_srgan", "srgan_state_6"):
        assert_same_bits(*(folder / f"checkpoints/{name}.weights.h5" for folder in folders))
    refused(capsys, folders[0], "muon_lr_ratio=5", TRAIN_n_updates=8, **change | {"TRAIN_muon_lr_ratio": 0})


@pytest.mark.parametrize(
    "mode, option, value",
    [
        ("srgan", "TRAIN.adversarial_weight", 0.01),
        ("srgan", "TRAIN.learning_rate_init", 0.01),
        ("srgan", "TRAIN.hr_img_path", ROOT / "data/benchmark/Set5"),
        ("srgan", "VGG.reduce", 0.5),
        ("srresnet", "TRAIN.learning_rate_init", 0.01),
        ("srresnet", "TRAIN.seed", 1),
    ],
)
def test_a_change_that_would_have_no_effect_on_a_finished_run_is_refused(straight, capsys, mode, option, value):
    length = "more TRAIN.n_updates" if mode == "srgan" else "more TRAIN.n_updates_init"
    named = [f"{option}={value} (before: ", "TRAIN.checkpoint_dir", length, "is finished at update 6"]
    refused(capsys, straight, *named, mode=mode, **{option.replace(".", "_", 1): value})


def test_what_does_not_change_the_training_may_change_after_it_and_it_is_not_trained_again(trained, capsys):
    before = {path: path.read_bytes() for path in (trained / "checkpoints").glob("g_*.h5")}
    free = {"TRAIN_workers": 1, "TRAIN_report_every": 5, "TRAIN_memory_gb": 1, "TRAIN_keep_states": 3}
    free |= {"VALID_count": 1, "EVALUATE_methods": "all", "TRAIN_samples_dir": trained / "other"}
    assert run(trained, **free) == 0
    assert run(trained, mode="srresnet", TRAIN_adversarial_weight=0.01) == 0  # of the other stage
    assert "before" not in capsys.readouterr().out
    assert before and all(path.read_bytes() == content for path, content in before.items())


def test_a_longer_warm_up_says_that_the_second_stage_has_begun_without_it(trained, capsys):
    """What has no effect on the warm-up is refused before it is trained; a new rate counts from there on."""
    change = {"TRAIN_n_updates_init": 7, "TRAIN_learning_rate_init": 0.01, "TRAIN_fixed_statistics": 0}
    refused(capsys, trained, "effect: TRAIN.adversarial_weight=0.01 (", TRAIN_adversarial_weight=0.01, **change)
    assert run(trained, **change) == 0
    printed = capsys.readouterr().out
    assert "srgan: has begun already, so that more updates of the warm-up have no effect on it" in printed
    assert "srgan: is finished and ignores TRAIN.learning_rate_init=0.01 (before: 0.0001)" in printed
    lines = (trained / "checkpoints/log_srgan_init.jsonl").read_text().splitlines()
    assert [json.loads(line)["learning_rate"] for line in lines[1:]] == pytest.approx([1e-4, 1e-4, 1e-4, 0.01])


@pytest.mark.parametrize("damaged", [False, True])
def test_states_that_say_less_still_resume(trained, capsys, damaged):
    """Those of the warm-up without their configuration, those of the second stage without an option."""
    for path in (trained / "checkpoints").glob("*_state_*.json"):
        metadata = json.loads(path.read_text())
        if "init" in path.name:
            del metadata["config"]
        else:
            del metadata["config"]["TRAIN"]["label_smoothing"]
        path.write_text("{" if damaged and path.name.startswith("srgan_state_6") else json.dumps(metadata))
    assert run(trained) == 0
    assert "before:" not in capsys.readouterr().out


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


def assert_float32_after_mixed_precision(folder):
    line = json.loads((folder / "checkpoints/log_srgan.jsonl").read_text().splitlines()[-1])
    assert all(np.isfinite(value) for value in line.values())
    weights = datasets(folder / "checkpoints/g_srgan.weights.h5")
    assert {array.dtype for array in weights.values()} == {np.dtype("float32")}


def test_bfloat16_trains_and_keeps_float32_weights(doubling):
    assert_float32_after_mixed_precision(doubling)


@pytest.mark.skipif(not often(0, 1), reason="half a minute; THOROUGH=1 runs it")
def test_float16_trains_and_keeps_float32_weights(tmp_path):
    try:
        assert run(tmp_path, TRAIN_precision="mixed_float16", **SHORT) == 0
    finally:
        train.keras.config.set_dtype_policy("float32")
    assert_float32_after_mixed_precision(tmp_path)


def test_the_games_weights_stand_without_vgg(tmp_path):
    """A feature extractor serves the loss and stays out of what is saved and trained."""
    vgg = SRGAN_g(scale=2, blocks=1, filters=4)
    game = SRGAN(SRGAN_g(blocks=1, filters=4), vgg=vgg)
    game(np.zeros((1, 8, 8, 3), np.uint8))
    ours = {variable.path for variable in game.variables}
    assert not ours & {variable.path for variable in vgg.variables}


@pytest.mark.parametrize(
    "change", [{"MODEL_variant": "tensorlayer", "TRAIN_crop": 64}, {"MODEL_scale": 2}, {"MODEL_filters": 4}]
)
def test_a_state_of_another_network_is_refused_and_kept(trained, capsys, change):
    state = trained / "checkpoints/srgan_init_state_6.weights.h5"
    before = state.read_bytes()
    key = next(iter(change)).split("_")[1]
    refused(capsys, trained, state, key, "this run has", **change)
    assert state.read_bytes() == before


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
        "srgan_init_state_5.weights.h5",
        "srgan_init_state_6.weights.h5",
    ]


@pytest.mark.parametrize("line", ["no JSON", '{"update": 4}', "[4]"])
def test_a_log_that_is_none_is_refused(trained, capsys, line):
    (trained / "checkpoints/log_srgan_init.jsonl").write_text(line)
    refused(capsys, trained, "log_srgan_init.jsonl", "move it away")


def test_another_scale_trains_and_is_measured_without_the_papers_numbers(doubling):
    rows = json.loads((doubling / "samples/evaluate/results.json").read_text())
    assert [row["method"] for row in rows] == ["nearest", "bicubic", "lanczos", "SRResNet", "SRGAN", "HR"]
    assert all(row["paper_psnr"] is None for row in rows)


def test_johnsons_loss_is_of_features_alone_and_has_no_discriminator(johnson):
    assert (johnson / "g_srgan.weights.h5").exists() and not (johnson / "d_srgan.weights.h5").exists()
    line = json.loads((johnson / "log_srgan.jsonl").read_text().splitlines()[-1])
    assert line["vgg"] > 0 and not {"gan", "d_loss", "d_real"} & set(line)
    assert CONTENT_LOSSES["johnson"][:2] == (0.0, "block2_conv2")  # relu2_2 in Johnson et al. 2016


def test_the_mae_of_a_warm_up_by_hand(random=np.random.default_rng(0)):
    game = SRGAN(SRGAN_g(blocks=1, filters=4), weights=(2.0, 0.0, 0.0), pixel_loss="mae")
    hr = random.integers(1, 255, (2, 4, 4, 3), dtype=np.uint8)
    sr = random.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
    apart = sr - (hr / 127.5 - 1)
    assert float(game.compute_loss(y=hr, y_pred=ops.convert_to_tensor(sr))) == pytest.approx(2 * np.abs(apart).mean())
    measured = {metric.name: float(metric.result()) for metric in game.metrics}
    assert measured["mse"] == pytest.approx(np.square(apart).mean(), rel=1e-6)


def test_the_loss_of_a_warm_up_with_features_by_hand(random=np.random.default_rng(0)):
    colours = random.random((2, 3, 5)).astype(np.float32)  # two "layers" that mix the three colours into five
    game = SRGAN(
        SRGAN_g(blocks=1, filters=4),
        vgg=lambda picture: [picture @ layer for layer in colours],
        weights=(2.0, 3.0, 0.0),
    )
    hr = random.integers(1, 255, (2, 4, 4, 3), dtype=np.uint8)
    sr = random.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
    hr_in_range = hr / 127.5 - 1
    wanted = 2 * np.mean((sr - hr_in_range) ** 2)
    for layer in colours.astype(float):
        a, b = (picture @ layer for picture in (sr, hr_in_range))
        cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        wanted += 3 / 2 * np.mean(2 - 2 * cosine)  # the squared distance of two unit vectors
    assert float(game.compute_loss(y=hr, y_pred=ops.convert_to_tensor(sr))) == pytest.approx(wanted, rel=1e-5)
