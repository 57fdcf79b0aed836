"""VGG19's weights: Keras downloads them, from a server on this machine, and training and the table use them."""

import hashlib
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from loopback import offered, serving
from thorough import often
from trainings import ROOT, SHORT, arguments

from utils import UserError
from weights import VGG19_ADDRESS, VGG19_FILE, VGG19_HASH, download_vgg19, load_vgg19

BODY = bytes(range(256)) * 1000


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as running:
        running.address = offered(running, VGG19_FILE, BODY)
        yield running


def downloaded(server, folder, timeout=60):
    return download_vgg19(server.address, hashlib.md5(BODY).hexdigest(), str(folder), timeout)


def copy_of(folder):
    return folder / "models" / VGG19_FILE


@pytest.mark.parametrize("before", [None, BODY[:1000]], ids=["no copy", "one that a killed process left"])
def test_it_is_downloaded_once_to_where_keras_has_its_models(server, tmp_path, before):
    if before:
        copy_of(tmp_path).parent.mkdir()
        copy_of(tmp_path).write_bytes(before)
    for _ in range(2):
        assert downloaded(server, tmp_path) == str(copy_of(tmp_path))
    assert copy_of(tmp_path).read_bytes() == BODY and server.asked == [None]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [copy_of(tmp_path)]


@pytest.mark.parametrize(
    "files, cut, stalls, said",
    [
        (BODY, 1000, False, "got only 1000 out of 256000 bytes"),
        (BODY, 1000, True, "timed out"),
        (BODY[:-1] + b"x", 0, False, "file hash does not match"),
        (None, 0, False, "404"),
    ],
    ids=["broken off", "stalled", "changed", "gone"],
)
def test_a_failed_download_is_one_line_and_the_next_one_succeeds(server, tmp_path, files, cut, stalls, said):
    server.files[VGG19_FILE], server.cut, server.stalls = files, cut, stalls
    with pytest.raises(UserError) as failed:
        downloaded(server, tmp_path, timeout=0.5 if stalls else 60)
    line = str(failed.value)
    assert "\n" not in line and f"cannot be downloaded from {server.address} (" in line and said in line
    server.files[VGG19_FILE], server.cut, server.stalls = BODY, 0, False
    downloaded(server, tmp_path)
    assert copy_of(tmp_path).read_bytes() == BODY and server.asked == [None, None]


def test_a_refused_connection_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UserError, match=r"^vgg19\S+ cannot be downloaded from http://127.0.0.1:9/a .*refused.*$"):
        download_vgg19("http://127.0.0.1:9/a", VGG19_HASH, str(tmp_path))


def python(code, **environment):
    environment = os.environ | {"no_proxy": "127.0.0.1"} | environment
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_address_and_hash_are_keras_own(tmp_path):
    copy_of(tmp_path).parent.mkdir()
    copy_of(tmp_path).write_bytes(b"damaged")  # so that Keras names the hash that it should have
    code = "import keras; keras.applications.VGG19(include_top=False)"
    ended = python(code, KERAS_HOME=str(tmp_path), https_proxy="http://127.0.0.1:9", no_proxy="")
    assert f"original value of {VGG19_HASH} " in ended.stdout
    assert f"URL fetch failure on {VGG19_ADDRESS}: " in ended.stderr


def write_vgg19(path):
    """Write random weights as the published file has them, in the format of Keras 1; return {layer: kernel}."""
    rng = np.random.default_rng(0)
    kernels, names, channels = {}, [b"input_1"], 3
    with h5py.File(path, "w") as file:
        file.create_group("input_1").attrs["weight_names"] = np.array([], "S")
        for block, (count, filters) in enumerate([(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)], 1):
            for name in [*(f"block{block}_conv{number}" for number in range(1, count + 1)), f"block{block}_pool"]:
                names.append(name.encode())
                group = file.create_group(name)
                group.attrs["weight_names"] = np.array([], "S")
                if "conv" in name:
                    kernel = rng.standard_normal((3, 3, channels, filters), np.float32) * (2 / 9 / channels) ** 0.5
                    group[f"{name}_W_1:0"], group[f"{name}_b_1:0"] = kernel, np.zeros(filters, "f4")
                    group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
                    kernels[name], channels = kernel, filters
        file.attrs["layer_names"] = names
    return kernels


LOSSES = [("tensorlayer", np.inf), ("features", 4)]


@pytest.mark.parametrize("content_loss, most", often(LOSSES[:1], LOSSES))
def test_training_and_the_table_use_what_was_downloaded(server, tmp_path, content_loss, most):
    kernels = write_vgg19(tmp_path / VGG19_FILE)
    body = server.files[VGG19_FILE] = (tmp_path / VGG19_FILE).read_bytes()
    change = SHORT | {"TRAIN_n_updates_init": 1, "TRAIN_n_updates": 1, "TRAIN_features_init": 0.5}
    words = arguments(tmp_path, **change, TRAIN_content_loss=content_loss, VGG_weights="imagenet")
    code = f"""
import weights
weights.VGG19_ADDRESS, weights.VGG19_HASH = {server.address!r}, {hashlib.md5(body).hexdigest()!r}
import train
raise SystemExit(train.main(*train.command_line({words!r})))
"""
    ended = python(code, KERAS_HOME=str(tmp_path / "keras"))
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert server.asked == [None]  # for both stages and the table
    for stage, limit in (("srgan_init", 4), ("srgan", most)):  # the distance of unit vectors is at most 4
        log = (tmp_path / f"checkpoints/log_{stage}.jsonl").read_text().splitlines()
        assert 0 < json.loads(log[-1])["vgg"] < limit
    facts = json.loads((tmp_path / "checkpoints/g_srgan_init.json").read_text())
    assert facts["content_loss"] == "mse + 0.5 features"
    rows = json.loads((tmp_path / "samples/evaluate/results.json").read_text())
    assert {row["method"] for row in rows if row.get("vgg19", 0) > 0} >= {"nearest", "bicubic", "lanczos"}
    vgg = load_vgg19("block3_conv1", str(copy_of(tmp_path / "keras")))
    for name, kernel in zip(kernels, vgg.get_weights()[::2]):
        np.testing.assert_array_equal(kernel, kernels[name])
