"""SRGAN mixed with SRResNet: the network of mixed weights, by every command that takes a strength."""

import importlib.util
import json

import h5py
import keras
import numerics
import numpy as np
import pytest
from numerics import CLOSE_IN_FLOAT32

import export
import upscale
from model import SRGAN_g
from pictures import read_picture, write_picture
from upscaling.interpolation import mix
from upscaling.models import load
from upscaling.network import load_network
from utils import UserError
from weights import save_weights

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
MODEL = {"variant": "paper", "scale": 2, "blocks": 2, "filters": 8}


@pytest.fixture
def networks(tmp_path):
    """SRResNet and SRGAN, trained by nobody, in the folder `tmp_path` as a training leaves them."""
    soft, sharp = SRGAN_g(**MODEL), SRGAN_g(**MODEL)
    for network, name in ((soft, "g_srgan_init"), (sharp, "g_srgan")):
        numerics.leave_start(network)
        save_weights(network, tmp_path / f"{name}.weights.h5", {"model": MODEL})
    for weight in sharp.weights:  # leave_start gives all networks the same weights
        weight.assign(0.7 * weight)
    save_weights(sharp, tmp_path / "g_srgan.weights.h5", {"model": MODEL})
    return soft, sharp


def mixed_by_hand(networks, strength):
    soft, sharp = networks
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
    others = (keras.ops.convert_to_numpy(network(picture())) for network in networks)
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


@pytest.mark.parametrize("command_line", [upscale.command_line, export.command_line])
def test_a_strength_is_0_to_1(command_line, capsys):
    words = ["a.png"] if command_line is upscale.command_line else ["--format=onnx"]
    with pytest.raises(SystemExit, match="2"):
        command_line([*words, "--strength=1.5"])
    assert "--strength 1.5: must be 0 to 1" in capsys.readouterr().err
