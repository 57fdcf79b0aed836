"""The network for upscaling alone against Keras, and what a user can do wrong."""

import importlib.util
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numerics
import numpy as np
import pytest
from numerics import CLOSE_IN_FLOAT32

import engines
import export
from evaluation.metrics import luma, psnr
from model import SRGAN_d, SRGAN_g
from pictures import cut_to_multiple, read_picture, resize
from upscaling import network as network_module
from upscaling.network import Network, load_network
from utils import UserError
from weights import save_weights

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "checkpoints/pretrained/srresnet.weights.h5"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")


def saved(model, path, **metadata):
    """`model` with no layer at its trivial start, written to `path`."""
    numerics.leave_start(model)
    save_weights(model, path, {"model": metadata})
    return path


def pictures(*shape):
    return numerics.random().uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.numerical
@pytest.mark.parametrize("variant", ["paper", "tensorlayer"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_openvino_gives_what_keras_gives(variant, scale, tmp_path, monkeypatch):
    options = {"variant": variant, "scale": scale, "blocks": 2, "filters": 8}
    generator = SRGAN_g(**options)
    path = saved(generator, tmp_path / "g.weights.h5", **options)
    network, in_keras = (load_network(path, engine, "float32") for engine in ("openvino", "keras"))
    assert network.scale == in_keras.scale == scale
    spreads = []
    for strip, shape in [(2**16, (2, 13, 9, 3)), (1, (1, 41, 7, 3)), (1, (2, 30, 3, 3)), (1, (1, 1, 2, 3))]:
        monkeypatch.setattr(network_module, "TAIL_PIXELS", strip)
        sr = network(pictures(*shape))
        assert sr.dtype == np.float32 and np.abs(sr).mean() < 0.9
        spreads.append(sr.std())
        assert np.abs(sr - keras.ops.convert_to_numpy(generator(pictures(*shape)))).max() < CLOSE_IN_FLOAT32
        assert np.abs(sr - in_keras(pictures(*shape))).max() < CLOSE_IN_FLOAT32
    assert max(spreads) > 0.1  # a difference would show


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with one network as weights and in two kinds of files."""
    folder, generator = tmp_path_factory.mktemp("exported"), SRGAN_g(scale=2, blocks=1, filters=8)
    saved(generator, folder / "g.weights.h5")
    for name, kind in (("g.onnx", "onnx"), ("g.xml", "openvino")):
        export.export(generator, {"model": {"scale": 2}}, kind, folder / name)
    return folder


@pytest.mark.numerical
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras exports from TensorFlow")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine, name", [("openvino", "g.xml"), ("openvino", "g.onnx"), ("onnxruntime", "g.onnx")])
def test_an_exported_file_gives_the_same(exported, engine, name):
    pytest.importorskip(engine)
    files = [(exported / "g.weights.h5", "openvino"), (exported / name, engine)]
    networks = [load_network(path, choice, "float32") for path, choice in files]
    assert [network.scale for network in networks] == [2, 2]
    srs = [network(pictures(2, 9, 11, 3)) for network in networks]
    assert np.abs(srs[0] - srs[1]).max() < CLOSE_IN_FLOAT32
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(sr, srs[1]) for sr in pool.map(networks[1], 20 * [pictures(2, 9, 11, 3)]))


def test_openvino_without_memory_says_so():
    program = f"""if True:
        import numpy, resource
        from upscaling.network import load_network
        network = load_network({str(SHIPPED)!r}, "openvino")
        network(numpy.zeros((1, 8, 8, 3)))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**29,) * 2)
        try:
            network(numpy.zeros((1, 3000, 3000, 3)))
        except MemoryError as error:
            print(type(error.__cause__).__name__, flush=True)"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "RuntimeError\n", result.stderr[-2000:]


def test_keras_without_memory_says_so(monkeypatch):
    if keras.backend.backend() == "tensorflow":
        from tensorflow.errors import ResourceExhaustedError

        full = ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[1,768,768,64]")
    else:
        from jax.errors import JaxRuntimeError

        full = JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4831838208 bytes.")
    network = load_network(SHIPPED, "keras")
    for error, expected in ((full, MemoryError), (RuntimeError("another"), RuntimeError)):
        monkeypatch.setattr(keras.Model, "predict_on_batch", lambda *arguments: (_ for _ in ()).throw(error))
        with pytest.raises(expected):
            network(pictures(1, 8, 8, 3))


@pytest.mark.numerical
@pytest.mark.skipif(
    os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2",
    reason="OpenVINO asks the processor whether it has bfloat16, and fails where oneDNN must not use it",
)
def test_bfloat16_costs_less_than_a_hundredth_of_a_decibel():
    hr = cut_to_multiple(read_picture(ROOT / "data/benchmark/Set14/HR/img_005.png"), 4)
    lr = resize(hr, 1 / 4)[None].astype(np.float32) / 127.5 - 1
    quality = []
    for precision in ("float32", "bfloat16"):
        sr = load_network(SHIPPED, "openvino", precision)(lr)[0]
        quality.append(psnr(luma(((sr + 1) * 127.5).round().clip(0, 255)), luma(hr), 4))
    assert quality[0] > 22 and abs(quality[1] - quality[0]) < 0.01


WRONG = {  # {kind: (name, what writes it, engine)}; no engine reads the last five, however whole they are
    "truncated": ("g.weights.h5", lambda path: path.write_bytes(SHIPPED.read_bytes()[:100_000]), "openvino"),
    "no hdf5": ("g.weights.h5", lambda path: path.write_text("weights"), "openvino"),
    "no onnx": ("g.onnx", lambda path: path.write_bytes(b"\x08\x07\x12\x01"), "openvino"),
    "no onnx in its engine": ("g.onnx", lambda path: path.write_bytes(b"\x08\x07\x12\x01"), "onnxruntime"),
    "discriminator": ("g.weights.h5", lambda path: saved(SRGAN_d(crop=32, filters=4), path), "openvino"),
    "other layers": ("g.weights.h5", lambda path: saved(one_convolution(), path), "openvino"),
    "missing": ("g.weights.h5", lambda path: None, "openvino"),
    "tflite": ("g.tflite", lambda path: path.write_bytes(b"\x1c\0\0\0TFL3"), "auto"),
    "weights alone": ("g.bin", lambda path: path.touch(), "auto"),
    "onnx in keras": ("g.onnx", lambda path: path.touch(), "keras"),
    "onnx alone": ("g.weights.h5", lambda path: path.touch(), "onnxruntime"),
}


def one_convolution():
    picture = keras.layers.Input((None, None, 3))
    return keras.Model(picture, keras.layers.Conv2D(3, 9)(picture))


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_one_line(kind, tmp_path):
    name, write, engine = WRONG[kind]
    if engine == "onnxruntime":
        pytest.importorskip(engine)
    write(tmp_path / name)
    with pytest.raises(UserError, match=name) as error:
        load_network(tmp_path / name, engine)
    assert "\n" not in str(error.value) and ("damaged" in str(error.value)) == (kind in list(WRONG)[:6])


def test_a_device_is_passed_on_to_openvino_and_one_that_fails_is_one_line():
    sr = load_network(SHIPPED, precision="float32")(pictures(1, 9, 11, 3))
    elsewhere = load_network(SHIPPED, device="HETERO:CPU")(pictures(1, 9, 11, 3))  # a device that is here, like others
    assert np.abs(sr - elsewhere).max() < 2**-5  # it may choose bfloat16
    with pytest.raises(UserError, match=r"cannot be run on NPU \(.*\); leave --device out$"):
        load_network(SHIPPED, device="NPU")


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras exports to ONNX on TensorFlow alone")
def test_a_provider_of_onnxruntime_that_does_not_start_is_told(exported, monkeypatch, capfd):
    """A list that promises CUDA, where there is none: the session itself is the library's."""
    onnxruntime, path = pytest.importorskip("onnxruntime"), exported / "g.onnx"
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_network(path, "onnxruntime")(np.zeros((1, 5, 7, 3), np.float32))
    assert found.shape == (1, 10, 14, 3)
    told = capfd.readouterr().err
    assert "cannot start its CUDAExecutionProvider; CPUExecutionProvider computes" in told


def test_onnxruntime_takes_the_best_provider_that_it_lists():
    onnxruntime = pytest.importorskip("onnxruntime")
    assert network_module.known_providers(onnxruntime.get_available_providers())[-1] == "CPUExecutionProvider"
    assert set(network_module.PROVIDERS) <= set(onnxruntime.get_all_providers())
    for best in ("CUDAExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider"):
        installed = ["TensorrtExecutionProvider", best, "AzureExecutionProvider", "CPUExecutionProvider"]
        assert network_module.known_providers(installed) == [best, "CPUExecutionProvider"]


def test_an_exception_without_a_message_is_one_line_too(monkeypatch):
    monkeypatch.setattr(network_module, "openvino_network", lambda *arguments: (_ for _ in ()).throw(RuntimeError()))
    with pytest.raises(UserError, match=r"damaged, or no generator \(RuntimeError\); move it away$"):
        load_network(SHIPPED, "openvino")


def test_without_openvino_it_is_keras_or_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(network_module, "keras_network", lambda path, trust_pickle: Network(lambda lr: lr + 7, 1))
    assert load_network(SHIPPED)(np.zeros((1, 2, 2, 3))).max() == 7
    with pytest.raises(UserError, match="pip install openvino"):
        load_network(SHIPPED, "openvino")


def test_a_gpu_that_keras_cannot_use_is_no_reason_for_keras(monkeypatch):
    there, whole = engines.GPU.exists(), importlib.util.find_spec
    monkeypatch.setattr(engines, "GPU", Path(os.devnull))
    assert there or not engines.gpu_in_keras()
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert engines.gpu_in_keras()
    missing = ("keras", "tensorflow", "jax")  # as in an environment of requirements-upscale.txt
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else whole(name))
    assert not engines.gpu_in_keras()


@pytest.mark.parametrize("backend", ["torch"] if keras.backend.backend() == "tensorflow" else [None, "torch"])
def test_a_gpu_beside_another_backend_ends_no_process(backend):
    """With only JAX installed, no KERAS_BACKEND at all is such a case: `make test-jax` runs it."""
    program = f"""if True:
        import os, pathlib, numpy
        import engines
        from upscaling import network
        from utils import UserError
        engines.GPU = pathlib.Path(os.devnull)  # as if there were one
        print(network.load_network({str(SHIPPED)!r})(numpy.zeros((1, 8, 8, 3))).shape)
        try:
            network.load_network({str(SHIPPED)!r}, "keras")
        except UserError as error:
            print(error)"""
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"KERAS_BACKEND": backend} if backend else {}
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    said = f"Keras cannot be used: KERAS_BACKEND={backend}: must be tensorflow or jax, and installed\n"
    assert (result.stdout, result.stderr) == ("(1, 32, 32, 3)\n" + (said if backend else ""), "")
