"""The networks before SRResNet: published sizes, Y and colours, training, and every way to run them."""

import importlib.util
from pathlib import Path

import keras
import numerics
import numpy as np
import pytest
from keras import ops
from numerics import CLOSE, CLOSE_IN_FLOAT32
from thorough import often

import export
from config import EARLIER
from evaluation.metrics import luma, psnr
from losses import mse_loss
from methods.earlier import NETWORKS
from methods.networks import SUPERVISION, KerasLayers, SupervisedMean, build_generator
from pictures import read_picture, resize
from srgan import JIT, SRGAN, super_resolve, to_float, to_uint8
from upscaling.network import load_network
from weights import PRETRAINED, load_generator, save_weights

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "data/benchmark/Set5/LRx4/img_005.png"
SMALL = [name for name in NETWORKS if name != "drcn"]  # DRCN takes a hundred times as long


@pytest.mark.parametrize(
    "variant, published",
    [
        ("srcnn", 57_184),  # Dong et al. 2016, table 2: 9-5-5
        ("espcn", 5 * 5 * 64 + 3 * 3 * 64 * 32 + 3 * 3 * 32 * 16),  # Shi et al. 2016, sec. 3.2
        ("vdsr", 664_704),  # Kim et al. 2016: 20 layers, of 64 filters but for the last
        ("drcn", 3 * 3 * 256 * (1 + 256 + 256 + 256 + 1)),  # two to embed, one that recurs, two to reconstruct
    ],
)
def test_as_many_weights_as_published(variant, published):
    kernels = [weight for weight in build_generator(variant).weights if len(weight.shape) == 4]
    assert sum(np.prod(kernel.shape) for kernel in kernels) == published


def test_every_network_has_its_name_in_the_options():
    assert tuple(NETWORKS) == EARLIER


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_bicubic_is_matlabs_up_to_the_border(scale):
    lr = numerics.random().uniform(-1, 1, (2, 7, 5, 3))
    sr = ops.convert_to_numpy(KerasLayers().bicubic(ops.convert_to_tensor(lr), scale))
    assert np.abs(sr - np.stack([resize(picture, scale) for picture in lr])).max() < CLOSE


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("variant", NETWORKS)
def test_colours_are_bicubic(variant):
    network = build_generator(variant, 2)
    numerics.leave_start(network)
    lr = numerics.random().uniform(-1, 1, (1, 6, 8, 3))
    added = ops.convert_to_numpy(network(lr))[0] - resize(lr[0], 2)
    assert added.std() > 0.01
    assert np.abs(added - added[..., :1]).max() < CLOSE  # what is added to each colour is added to Y alone


def test_an_untrained_vdsr_is_bicubic():
    lr = read_picture(PICTURE)[:24, :32]
    apart = super_resolve(build_generator("vdsr"), lr) - resize(lr.astype(float), 4).clip(0, 255)
    assert np.abs(apart).max() < 0.51  # rounded


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
def test_the_recursion_starts_as_the_identity():
    x = numerics.random().uniform(0, 1, (1, 5, 6, 256))
    layer = [layer for layer in build_generator("drcn").layers if isinstance(layer, keras.layers.Conv2D)][2]
    assert np.abs(ops.convert_to_numpy(layer(x)) - x).max() < CLOSE


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
def test_the_recursions_loss_is_that_of_single_outputs_and_of_their_mean():
    random = numerics.random()
    outputs, hr = random.normal(size=(2, 4, 5, 6)), random.normal(size=(2, 4, 5, 1))
    layer = SupervisedMean()
    layer.build(outputs.shape)
    layer.logits.assign(random.normal(size=6))
    mean = layer(outputs, training=True)
    weights = ops.convert_to_numpy(ops.softmax(layer.logits))
    of_outputs = sum(w * np.mean((outputs[..., n : n + 1] - hr) ** 2) for n, w in enumerate(weights))
    of_mean = np.mean((outputs @ weights[:, None] - hr) ** 2)
    found = float(mse_loss(mean, hr)) + float(layer.losses[0])
    assert found == pytest.approx((1 - SUPERVISION) * of_mean + SUPERVISION * of_outputs, rel=CLOSE)


@pytest.mark.parametrize("variant", NETWORKS)
def test_training_takes_the_loss_on_y_down(variant):
    random = numerics.random()
    hr = random.integers(60, 196, (2, 16, 16, 3), np.uint8)
    lr = np.stack([resize(picture, 1 / 4) for picture in hr])
    game = SRGAN(build_generator(variant), ema=0.0)
    game.compile(optimizer=keras.optimizers.Adam(1e-4), jit_compile=JIT)
    first = game.train_on_batch(lr, hr, return_dict=True)["mse"]
    for _ in range(5):
        last = game.train_on_batch(lr, hr, return_dict=True)["mse"]
    srs = map(luma, to_uint8(game.generator(to_float(lr))))
    assert last < first
    wanted = np.mean([(sr - luma(picture)) ** 2 for sr, picture in zip(srs, hr)]) / (219 / 2) ** 2
    assert float(last) == pytest.approx(wanted, rel=0.3)


@pytest.mark.parametrize("variant, published", [("srcnn", 30.48), ("espcn", 30.76)])  # in their own papers or SRGAN's
def test_shipped_weights_are_as_good_as_published(variant, published):
    network, of_set = load_generator(PRETRAINED / f"{variant}.weights.h5"), []
    for path in sorted((ROOT / "data/benchmark/Set5/HR").glob("*.png")):
        sr = super_resolve(network, read_picture(path.parents[1] / "LRx4" / path.name))
        of_set.append(psnr(luma(sr), luma(read_picture(path)), 4))
    assert len(of_set) == 5 and np.mean(of_set) > published - 0.3


RUNS = [(variant, kind) for variant in SMALL for kind in ("weights", "onnx", "openvino")]
FEW = [(variant, kind) for variant, kind in RUNS if kind == "weights" or variant == "vdsr"]


@pytest.mark.numerical
@pytest.mark.parametrize("variant, kind", often(FEW, RUNS))
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras exports from TensorFlow")
def test_every_engine_gives_the_same(variant, kind, tmp_path):
    engine = "onnxruntime" if kind == "onnx" else "openvino"
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"needs {engine}")
    network = build_generator(variant, 2)
    numerics.leave_start(network)
    metadata = {"model": {"variant": variant, "scale": 2}}
    path = tmp_path / "g.weights.h5"
    save_weights(network, path, metadata)
    if kind != "weights":
        path = tmp_path / f"g{export.EXPORT_SUFFIXES[kind]}"
        export.export(network, metadata, kind, path)
    loaded = load_network(path, engine, "float32")
    lr = numerics.random().uniform(-1, 1, (2, 9, 11, 3)).astype(np.float32)
    assert loaded.scale == 2
    assert np.abs(loaded(lr) - ops.convert_to_numpy(network(lr))).max() < CLOSE_IN_FLOAT32
