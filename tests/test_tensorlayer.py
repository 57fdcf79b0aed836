"""Losses, networks and archives against TensorLayer 2 itself."""

import io
import pickle
import re
import zipfile

import numpy as np
import pytest

tl = pytest.importorskip("tensorlayer")

import keras  # noqa: E402
import numerics  # noqa: E402
import tensorflow as tf  # noqa: E402
from archives import ragged, variables  # noqa: E402
from numerics import CLOSE, CLOSE_IN_FLOAT32  # noqa: E402
from test_imports import modules  # noqa: E402

import config  # noqa: E402
import losses  # noqa: E402
from model import SRGAN_d, SRGAN_g  # noqa: E402
from srgan import SRGAN  # noqa: E402
from utils import UserError  # noqa: E402
from weights import import_tensorlayer  # noqa: E402

SIZE = (9, 13)


@pytest.fixture
def random():
    return numerics.random()


def doubles(array):
    return tf.constant(array, "float64")


# Losses


@pytest.mark.numerical
@pytest.mark.parametrize("spread", [1, 30, 3000])
def test_each_loss_is_tensorlayers(random, spread):
    a, b = (doubles(random.normal(0, spread, (2, 5, 7, 3))) for _ in "ab")
    real, fake = (doubles(random.normal(0, spread, (16, 1))) for _ in "ab")
    ones, zeros, entropy = tf.ones_like(real), tf.zeros_like(real), tl.cost.sigmoid_cross_entropy
    error = tl.cost.mean_squared_error(a, b, is_mean=True)
    for ours, theirs in (
        (losses.mse_loss(a, b), error),
        (losses.vgg_loss(a, b), error),
        (losses.g_gan_loss(fake), entropy(fake, ones)),
        (losses.d_loss(real, fake), entropy(real, ones) + entropy(fake, zeros)),
    ):
        assert float(ours) == pytest.approx(float(theirs), rel=CLOSE)


def test_the_default_weights_are_those_of_the_slides():
    assert losses.CONTENT_LOSSES[config.configuration().TRAIN.content_loss] == (1.0, "block4_pool", 2e-6)
    assert config.configuration().TRAIN.adversarial_weight == 1e-3


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
def test_the_games_loss_is_the_slides_formula_and_d_loss(random):
    generator, discriminator = SRGAN_g(blocks=1, filters=8), SRGAN_d(crop=32, filters=4)
    features = keras.Sequential([keras.layers.Rescaling(1000.0), keras.layers.Conv2D(5, 3)])
    game = SRGAN(generator, discriminator, features, (1.0, 2e-6, 1e-3))
    lr, hr = (random.integers(0, 256, (4, side, side, 3), "uint8") for side in (8, 32))
    sr = game(lr, training=True)
    total = float(game.compute_loss(y=hr, y_pred=sr))

    wanted = doubles(hr) / 127.5 - 1
    real, fake = discriminator(wanted, training=True), discriminator(sr, training=True)
    ones, entropy = tf.ones_like(fake), tl.cost.sigmoid_cross_entropy
    mse_loss = tl.cost.mean_squared_error(sr, wanted, is_mean=True)
    vgg_loss = 2e-6 * tl.cost.mean_squared_error(features(sr), features(wanted), is_mean=True)
    g_gan_loss = 1e-3 * entropy(fake, ones)
    d_loss = entropy(real, ones) + entropy(fake, tf.zeros_like(fake))
    assert min(float(vgg_loss), float(g_gan_loss)) > 50 * CLOSE * total  # each term would be missed
    assert total == pytest.approx(float(mse_loss + vgg_loss + g_gan_loss + d_loss), abs=CLOSE * total)


# Networks


def tl_conv(x, filters, size, strides=1, act=None, bias=True):
    start = tl.initializers.zeros() if bias else None
    return tl.layers.Conv2d(filters, (size, size), (strides, strides), act=act, padding="SAME", b_init=start)(x)


def tl_generator(blocks, filters):
    """SRGAN_g of tensorlayer/SRGAN 1.2.1, model.py."""
    add, lr = tf.add, tl.layers.Input((1, *SIZE, 3))
    x = long_skip = tl_conv(lr, filters, 3, act=tf.nn.relu)
    for _ in range(blocks):
        skip = x
        x = tl.layers.BatchNorm(act=tf.nn.relu)(tl_conv(x, filters, 3, bias=False))
        x = tl.layers.BatchNorm()(tl_conv(x, filters, 3, bias=False))
        x = tl.layers.Elementwise(add)([skip, x])
    x = tl.layers.BatchNorm()(tl_conv(x, filters, 3, bias=False))
    x = tl.layers.Elementwise(add)([x, long_skip])
    for _ in range(2):
        x = tl_conv(x, 4 * filters, 3)
        x = tl.layers.SubpixelConv2d(scale=2, act=tf.nn.relu)(x)
    network = finished(lr, tl_conv(x, 3, 1, act=tf.nn.tanh), gain=1)
    network.all_weights[-2].assign(network.all_weights[-2] / 16)  # away from saturation
    return network


def tl_discriminator(filters):
    """SRGAN_d of tensorlayer/SRGAN 1.2.1, model.py, as logits."""

    def leaky(x):
        return tl.act.lrelu(x, 0.2)

    def normalized(x, multiple, size, strides=1, act=leaky):
        return tl.layers.BatchNorm(act=act)(tl_conv(x, multiple * filters, size, strides, bias=False))

    picture = tl.layers.Input((2, 384, 384, 3))
    x = tl_conv(picture, filters, 4, 2, act=leaky)
    for multiple in (2, 4, 8, 16, 32):
        x = normalized(x, multiple, 4, 2)
    x = skip = normalized(normalized(x, 16, 1), 8, 1, act=None)
    x = normalized(normalized(normalized(x, 2, 1), 2, 3), 8, 3, act=None)
    x = tl.layers.Elementwise(tf.add, act=leaky)([skip, x])
    return finished(picture, tl.layers.Dense(1)(tl.layers.Flatten()(x)), gain=2)


def finished(inputs, outputs, gain):
    """The network in evaluation mode, with random statistics and weights that keep its signal alive."""
    network = tl.models.Model(inputs, outputs)
    network.eval()
    random = numerics.random(1)
    for variable in network.all_weights:
        shape, name = tuple(variable.shape), variable.name
        if len(shape) > 1:
            variable.assign(random.normal(0, (gain / np.prod(shape[:-1])) ** 0.5, shape))
        elif "moving_var" in name:
            variable.assign(random.uniform(0.5, 1.5, shape))
        else:
            variable.assign(random.normal(1.0 if "gamma" in name else 0.0, 0.2, shape))
    return network


@pytest.fixture(scope="module")
def small():
    return tl_generator(blocks=2, filters=16)


def save_npz(network, path, monkeypatch):
    """tl.files.save_npz, mended: it hands NumPy a ragged list, which became an array of objects before NumPy 1.24."""
    to_numpy = tl.files.utils.tf_variables_to_numpy
    monkeypatch.setattr(tl.files.utils, "tf_variables_to_numpy", lambda variables: ragged(to_numpy(variables)))
    tl.files.save_npz(network.all_weights, str(path))
    return path


def assert_same_output(ours, theirs, pictures):
    """pictures: batches of them."""
    pictures = [tf.constant(batch, "float32") for batch in pictures]  # as TensorLayer computes
    expected = np.concatenate([theirs(batch) for batch in pictures])
    assert expected.std() > 0.1  # a difference would show
    assert expected.ndim == 2 or (np.abs(expected) < 0.9).mean() > 0.5  # where tanh does not hide it
    found = np.concatenate([ours(batch, training=False) for batch in pictures])
    assert np.abs(found - expected).max() < CLOSE_IN_FLOAT32


@pytest.mark.numerical
def test_the_generator_with_tensorlayers_archive_is_tensorlayers_generator(random, tmp_path, monkeypatch):
    theirs, ours = tl_generator(blocks=16, filters=64), SRGAN_g("tensorlayer")
    path = save_npz(theirs, tmp_path / "g_srgan.npz", monkeypatch)
    with pytest.raises(UserError, match="may run any code.*EVALUATE.trust_pickle=yes.*--trust-pickle"):
        import_tensorlayer(ours, path)
    import_tensorlayer(ours, path, trust_pickle=True)
    assert_same_output(ours, theirs, random.uniform(-1, 1, (1, 1, *SIZE, 3)))


def save_as_numpy_did_in_2018(network, path):
    """NumPy before 1.17, so all of TensorLayer 1."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("params.npy", "w") as file:
        objects = ragged([variable.numpy() for variable in network.all_weights])
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(objects))
        file.write(pickle.dumps(objects, protocol=2))


def save_as_tensorlayerx(network, path):
    np.savez(path, **{variable.name: variable.numpy() for variable in network.all_weights})


@pytest.mark.numerical
@pytest.mark.parametrize("save, pickled", [(save_as_tensorlayerx, False), (save_as_numpy_did_in_2018, True)])
def test_other_archives_load_too(random, tmp_path, small, save, pickled):
    save(small, tmp_path / "g.npz")
    ours = SRGAN_g("tensorlayer", blocks=2, filters=16)
    import_tensorlayer(ours, tmp_path / "g.npz", trust_pickle=pickled)
    assert_same_output(ours, small, random.uniform(-1, 1, (1, 1, *SIZE, 3)))


@pytest.mark.numerical
def test_the_discriminator_is_tensorlayers_discriminator(random):
    theirs, ours = tl_discriminator(filters=8), SRGAN_d("tensorlayer", crop=384, filters=8)
    for variable, value in zip(variables(ours), theirs.all_weights, strict=True):
        variable.assign(value)
    blocks = random.uniform(-1, 1, (3, 2, 6, 6, 3))  # six pictures: their logits are not all alike by chance
    assert_same_output(ours, theirs, np.kron(blocks, np.ones((1, 1, 64, 64, 1))))


# Archives that are refused


@pytest.mark.parametrize("shape", [{"blocks": 1}, {"blocks": 3}, {"filters": 8}, {"variant": "paper"}, {"scale": 8}])
def test_an_archive_of_another_network_is_refused(tmp_path, monkeypatch, small, shape):
    path = save_npz(small, tmp_path / "g_srgan.npz", monkeypatch)
    other = SRGAN_g(**{"variant": "tensorlayer", "blocks": 2, "filters": 16} | shape)
    with pytest.raises(UserError, match="g_srgan.npz"):
        import_tensorlayer(other, path, trust_pickle=True)


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["params", "conv2d_1/filters:0"])
def test_a_pickle_of_something_else_than_arrays_is_refused_and_does_not_run(tmp_path, name):
    path, trace = tmp_path / "g_srgan.npz", tmp_path / "trace"
    np.savez(path, **{name: ragged([Intruder(str(trace)), np.zeros(3)])})
    with pytest.raises(UserError, match="g_srgan.npz"):
        import_tensorlayer(SRGAN_g("tensorlayer", blocks=1, filters=8), path, trust_pickle=True)
    assert not trace.exists()
    np.load(path, allow_pickle=True)[name]
    assert trace.exists()  # so it would have run


def zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


OBJECTS = npy(ragged([np.zeros(3), np.zeros(4)]))
NO_ARCHIVES = {
    "missing": None,
    "empty": b"",
    "text": b"weights",
    "half an archive": zipped("params.npy", OBJECTS)[:200],
    "half a pickle": zipped("params.npy", OBJECTS[:-20]),
    "zip without arrays": zipped("notes.txt", b"no array"),
    "numbers alone": zipped("params.npy", npy(np.zeros(3))),
    "a dictionary": zipped("params.npy", npy(np.array({"a": np.zeros(3)}, object))),
    "lists of text": zipped("params.npy", npy(np.array(["a", "b"], object))),
}


@pytest.mark.parametrize("kind", NO_ARCHIVES)
def test_what_is_no_archive_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / "g_srgan.npz"
    if NO_ARCHIVES[kind] is not None:
        path.write_bytes(NO_ARCHIVES[kind])
    with pytest.raises(UserError) as refused:
        import_tensorlayer(SRGAN_g("tensorlayer", blocks=1, filters=8), path, trust_pickle=True)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_the_product_does_not_need_tensorlayer():
    for name, path in modules().items():
        assert not re.search(r"^\s*(import|from) tensorlayer", path.read_text(), re.M), name
