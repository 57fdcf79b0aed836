"""SRGAN mixed with SRResNet: the network of mixed weights, by every command that takes a strength."""

import gc
import importlib.util
import json
import shutil
from pathlib import Path

import h5py
import keras
import numerics
import numpy as np
import pytest
from numerics import CLOSE_IN_FLOAT32
from PIL import Image

import export
import restoration
import upscale
from model import SRGAN_g
from pictures import read_picture, resize, write_picture
from upscaling import identity
from upscaling.interpolation import mix
from upscaling.models import load
from upscaling.network import load_network
from upscaling.photo.reader import open_photo
from upscaling.upscale_file import restored_upscaler
from utils import UserError
from weights import save_weights

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
ROOT = Path(__file__).parents[1]
MODEL = {"variant": "paper", "scale": 2, "blocks": 2, "filters": 8}


def saved(folder, names):
    """{name: network}, trained by nobody and unlike each other, in `folder`."""
    networks = {}
    for factor, name in enumerate(names, start=1):
        network = networks[name] = SRGAN_g(**MODEL)
        numerics.leave_start(network)  # which gives all networks the same weights
        network.set_weights([factor / len(names) * array for array in network.get_weights()])
        save_weights(network, folder / f"{name}.weights.h5", {"model": MODEL})
    return networks


@pytest.fixture(scope="module")
def six_networks(tmp_path_factory):
    """(Folder, {name: network}) with SRResNet and SRGAN as a training leaves them, and four as the shipped ones."""
    folder = tmp_path_factory.mktemp("networks")
    two, four = ["g_srgan", "g_srgan_init"], ["srgan", "srresnet", "photo", "photo_srresnet"]
    return folder, saved(folder, two) | saved(folder, four)


@pytest.fixture
def networks(six_networks, tmp_path):
    """{name: network}, whose files are in the folder `tmp_path`."""
    folder, networks = six_networks
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return networks


def mixed_by_hand(networks, strength, *pair):
    sharp, soft = (networks[name] for name in pair or ("g_srgan", "g_srgan_init"))
    mixture = keras.models.clone_model(sharp)
    pairs = zip(sharp.get_weights(), soft.get_weights(), strict=True)
    mixture.set_weights([strength * a + (1 - strength) * b for a, b in pairs])
    return mixture


@pytest.mark.parametrize("size", [1, 1e-5])  # half floats below 6e-5 have fewer digits
def test_a_mixture_of_half_floats_is_rounded_to_the_nearest(tmp_path, size):
    arrays = [(size * numerics.random().uniform(-1, 1, 1000) * factor).astype(np.float16) for factor in (1, 0.3)]
    for name, array in zip("ab", arrays):
        with h5py.File(tmp_path / name, "w") as file:
            file["v"] = array
    mix(tmp_path / "a", {tmp_path / "a": 0.25, tmp_path / "b": 0.75})
    with h5py.File(tmp_path / "a") as file:
        exact = 0.25 * arrays[0].astype(np.float32) + 0.75 * arrays[1].astype(np.float32)
        assert np.array_equal(file["v"][()], exact.astype(np.float16))


def picture():
    return numerics.random().uniform(-1, 1, (1, 13, 9, 3)).astype(np.float32)


@pytest.mark.numerical
@pytest.mark.parametrize("engine", ["openvino", "keras"])
@pytest.mark.parametrize("strength", [0, 0.25, 1])
def test_it_is_the_network_of_the_weights_mixed_by_hand(networks, tmp_path, monkeypatch, strength, engine):
    monkeypatch.setattr("upscaling.network.bfloat16_is_fast", lambda: False)
    found = load(str(tmp_path / "g_srgan.weights.h5"), engine=engine, strength=strength).network(picture())
    expected = keras.ops.convert_to_numpy(mixed_by_hand(networks, strength)(picture()))
    assert np.abs(found - expected).max() < CLOSE_IN_FLOAT32
    others = [keras.ops.convert_to_numpy(networks[name](picture())) for name in ("g_srgan", "g_srgan_init")]
    assert sum(np.abs(found - other).max() < CLOSE_IN_FLOAT32 for other in others) == (strength in (0, 1))


@pytest.mark.numerical
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras exports to ONNX on TensorFlow alone")
def test_an_exported_mixture_is_that_network_and_says_so(networks, tmp_path):
    words = [
        f"--model={tmp_path}/g_srgan.weights.h5",
        "--strength=0.25",
        "--format=onnx",
        f"--output={tmp_path}/m.onnx",
    ]
    assert export.main(export.command_line(words)) == 0
    found = load_network(tmp_path / "m.onnx", "openvino", "float32")(picture())
    expected = keras.ops.convert_to_numpy(mixed_by_hand(networks, 0.25)(picture()))
    assert np.abs(found - expected).max() < CLOSE_IN_FLOAT32
    properties = pytest.importorskip("onnx").load(tmp_path / "m.onnx").metadata_props
    facts = next(entry.value for entry in properties if entry.key == "facts")
    assert json.loads(facts)["strength"] == 0.25


def test_another_strength_or_srresnet_makes_a_result_again(networks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_picture("a.png", numerics.random().integers(0, 256, (10, 20, 3), np.uint8))
    results, again = [], []
    for strength in (1, 0.5, 0.5, 0.5):
        if len(results) == 3:
            with h5py.File("g_srgan_init.weights.h5", "r+") as file:
                file["layers/conv2d/vars/0"][0] *= 2
        words = ["a.png", "--model=g_srgan.weights.h5", f"--strength={strength}"]
        assert upscale.main(upscale.command_line(words)) == 0
        results.append(read_picture("a_x2.png"))
        again.append("1 made of something else before" in capsys.readouterr().out)
    assert again == [False, True, False, True] and np.array_equal(results[1], results[2])
    assert not any(np.array_equal(results[n], results[n + 1]) for n in (0, 2))


def test_what_has_no_strength_is_said(networks, tmp_path):
    path = tmp_path / "g_srgan.weights.h5"
    for model in ("srresnet", "bicubic", str(tmp_path / "g_srgan_init.weights.h5")):
        with pytest.raises(UserError, match="strength"):
            load(model, strength=0.5)
    save_weights(SRGAN_g(**MODEL | {"filters": 16}), path.with_name("g_srgan_init.weights.h5"), {})
    with pytest.raises(UserError, match="of another network"):
        load(str(path), strength=0.5)
    path.with_name("g_srgan_init.weights.h5").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        load(str(path), strength=0.5)


@pytest.mark.numerical
@pytest.mark.parametrize(("strength", "restore"), [(1, 0.25), (0.5, 1), (0.25, 0.75)])
def test_what_restores_is_the_mean_of_two_results(networks, tmp_path, monkeypatch, strength, restore):
    """Of mixtures of weights each, as `strength` says."""
    monkeypatch.setattr("upscaling.network.bfloat16_is_fast", lambda: False)
    found = load(str(tmp_path / "srgan.weights.h5"), strength=strength, restore=restore).network(picture())
    expected = 0
    for part, pair in ((1 - restore, ("srgan", "srresnet")), (restore, ("photo", "photo_srresnet"))):
        mixture = mixed_by_hand(networks, strength, *pair)
        expected += part * keras.ops.convert_to_numpy(mixture(picture()))
    assert np.abs(found - expected).max() < CLOSE_IN_FLOAT32


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras exports to ONNX on TensorFlow alone")
@pytest.mark.parametrize(("restore", "kind", "name"), [(1, "half", "e.weights.h5"), (0.25, "onnx", "e.onnx")])
def test_an_exported_network_that_restores(networks, tmp_path, restore, kind, name):
    words = [f"--model={tmp_path}/srgan.weights.h5", f"--restore={restore}"]
    assert export.main(export.command_line([*words, f"--format={kind}", f"--output={tmp_path / name}"])) == 0
    lr = numerics.random().integers(0, 256, (16, 16, 3), np.uint8)
    ours = load(str(tmp_path / "srgan.weights.h5"), restore=restore)
    assert np.abs(load(str(tmp_path / name))(lr).astype(int) - ours(lr)).max() <= 1  # half floats
    if kind == "half":
        assert json.loads((tmp_path / "e.json").read_text())["restore"] == 1
    else:
        with pytest.raises(SystemExit):
            export.command_line([*words, "--format=half"])


def test_each_file_is_restored_as_it_needs(networks, tmp_path, monkeypatch, capsys):
    """A clean picture as with --restore 0, a coarse JPEG as with 1; results say why, and are made once."""
    monkeypatch.chdir(tmp_path)
    ramp = np.linspace(30, 220, 96).astype(np.uint8)[:, None, None].repeat(96, 1).repeat(3, 2)
    write_picture("clean.png", ramp)
    Image.fromarray(ramp).save("coarse.jpg", quality=50)
    by_hand = {}
    for restore, name in (("0", "clean.png"), ("1", "coarse.jpg")):
        words = [name, "--model=srgan.weights.h5", f"--restore={restore}", "--output=by_hand.png", "--overwrite"]
        assert upscale.main(upscale.command_line(words)) == 0
        by_hand[name] = read_picture("by_hand.png")
    words = ["clean.png", "coarse.jpg", "--model=srgan.weights.h5", "--format=png", "--output=out"]
    assert upscale.main(upscale.command_line([*words, "--dry-run"])) == 0
    assert "coarse.png 192x192  (JPEG quality 50: restore 1)" in capsys.readouterr().out
    assert upscale.main(upscale.command_line([*words, "--dry-run", "--json"])) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(entry["restore"], entry["why"]) for entry in entries] == [(0.0, "clean"), (1.0, "JPEG quality 50")]
    assert upscale.main(upscale.command_line(words)) == 0
    printed = capsys.readouterr().out
    assert "(JPEG quality 50: restore 1)" in printed and printed.count("restore") == 1
    assert np.array_equal(read_picture("out/clean.png"), by_hand["clean.png"])
    assert np.array_equal(read_picture("out/coarse.png"), by_hand["coarse.jpg"])
    assert not np.array_equal(by_hand["coarse.jpg"], by_hand["clean.png"])
    assert upscale.main(upscale.command_line(words)) == 0
    assert "2 there already" in capsys.readouterr().out
    assert upscale.main(upscale.command_line([*words, "-dn=0.5"])) == 0
    assert "2 made of something else before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options", "least", "most"),
    [
        ("a.png", {}, 0, 0),
        ("a.webp", {"lossless": True}, 0, 0),
        ("a.webp", {"quality": 40}, 0.75, 1),
        ("a.avif", {"quality": 40}, 0.75, 1),
        ("a.jpg", {"quality": 96}, 0.25, 0.5),
        ("a.jpg", {"quality": 75}, 1, 1),
        ("a.tif", {"compression": "tiff_lzw"}, 0, 0),
    ],
)
def test_kinds_of_files(networks, tmp_path, name, options, least, most):
    clean = resize(read_picture(ROOT / "data/benchmark/Set14/HR/img_002.png"), 0.25)
    Image.fromarray(clean).save(tmp_path / name, **options)
    automatic = load(str(tmp_path / "srgan.weights.h5"))
    upscaler, restore, why = restored_upscaler(open_photo(tmp_path / name), automatic)
    assert least <= restore <= most and why and upscaler is automatic.restoring(restore)


def test_results_are_made_again_if_the_estimate_of_what_a_file_needs_is_another(networks, tmp_path, monkeypatch):
    words = ["a.png", f"--model={tmp_path / 'srgan.weights.h5'}"]
    automatic, by_hand = (upscale.command_line([*words, *more]) for more in ([], ["--restore=1"]))
    before = [identity.of_command(options) for options in (automatic, by_hand)]
    monkeypatch.setattr(restoration, "NETWORK", tmp_path / "other.npz")
    restoration.NETWORK.write_bytes(b"other")
    assert identity.of_command(automatic) != before[0] and identity.of_command(by_hand) == before[1]


def compiled_networks() -> int:
    """Return how many networks of OpenVINO are in memory, those of earlier tests too."""
    gc.collect()
    return sum(type(thing).__name__ == "CompiledModel" for thing in gc.get_objects())


def test_each_network_is_loaded_once_and_a_smaller_tile_stays(networks, tmp_path):
    before = compiled_networks()
    automatic = load(str(tmp_path / "srgan.weights.h5"))
    lr, loaded = np.zeros((20, 20, 3), np.uint8), []
    for restore in (0.0, 1.0, 0.5):
        automatic.restoring(restore)(lr)
        loaded.append(compiled_networks() - before)
    assert loaded[1] == loaded[2] == 2 * loaded[0] > 0
    automatic.restoring(1.0).tile = 40
    assert automatic.restoring(1.0).tile == 40
    assert automatic.with_scale(3).restoring(1.0).scale == 3 != automatic.restoring(1.0).scale


def test_an_array_is_restored_as_it_needs(networks, tmp_path):
    path, random = str(tmp_path / "srgan.weights.h5"), np.random.default_rng(0)
    noisy = random.normal(128, 15, (160, 160, 3)).clip(0, 255).astype(np.uint8)
    flat = np.full((160, 160, 3), 128, np.uint8)
    automatic, never, always = load(path), load(path, restore=0.0), load(path, restore=1.0)
    assert np.array_equal(automatic(noisy), always(noisy)) and not np.array_equal(always(noisy), never(noisy))
    assert np.array_equal(automatic(flat), never(flat))


def test_what_cannot_restore_is_said(networks, tmp_path):
    for model in ("bicubic", str(tmp_path / "g_srgan.weights.h5")):
        with pytest.raises(UserError, match="--restore|restores nothing"):
            load(model, restore=0.5)
