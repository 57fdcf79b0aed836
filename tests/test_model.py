"""The networks against the paper's figure 4, Keras' own VGG19 and two players trained by hand."""

from pathlib import Path

import keras
import numerics
import numpy as np
import pytest
from numerics import CLOSE

from losses import FEATURE_LAYERS, VGG19, d_loss, g_gan_loss, mse_loss, on_reduced, smallest_side
from methods.networks import build_generator
from model import EqualSums, KerasLayers, NoCheckerboard, SRGAN_d, SRGAN_g, prevent_mesh
from pictures import read_picture
from srgan import JIT, SRGAN, to_float
from training.optimizers import Muon, adversarial_optimizer
from weights import PRETRAINED, load_generator

ROOT = Path(__file__).parents[1]
VGG_WEIGHTS = ROOT.parent / "shared/weights/vgg19_notop.weights.h5"


@pytest.fixture
def random():
    return numerics.random()


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def arrays(model):
    return values_of(model.variables)


def values_of(variables):
    return [np.asarray(variable).copy() for variable in variables]


# Generator


def test_the_papers_generator_has_1_55_million_parameters():
    conv9, conv3, norm, slopes = 9 * 9 * 3 * 64, 3 * 3 * 64 * 64, 2 * 64, 64  # fig. 4, PReLU shared in a map
    block = 2 * (conv3 + norm) + slopes
    upscaling = 4 * conv3 + 256 + slopes
    expected = (conv9 + 64 + slopes) + 16 * block + (conv3 + norm) + 2 * upscaling + (conv9 + 3)
    trainable = sum(int(np.prod(variable.shape)) for variable in SRGAN_g().trainable_variables)
    assert trainable == expected
    assert 1.54e6 < trainable < 1.56e6


def test_tensorlayers_generator_has_1_518_million_parameters():
    trainable = sum(int(np.prod(variable.shape)) for variable in SRGAN_g("tensorlayer").trainable_variables)
    assert round(trainable / 1e6, 3) == 1.518


@pytest.mark.parametrize("variant", ["paper", "tensorlayer"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_pictures_of_any_size_come_out_scaled_and_in_range(random, variant, scale):
    generator = SRGAN_g(variant, scale, blocks=1, filters=8)
    for height, width in [(17, 23), (1, 2)]:
        lr = random.normal(0, 1000, (2, height, width, 3)).astype("float32")  # tanh alone keeps the range
        sr = keras.ops.convert_to_numpy(generator(lr))
        assert sr.shape == (2, scale * height, scale * width, 3)
        assert np.abs(sr).max() <= 1


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("variant", ["paper", "tensorlayer"])
def test_a_fresh_subpixel_convolution_gives_equal_pixels_in_each_block(random, variant):
    picture = keras.layers.Input((None, None, 6))
    p = KerasLayers(variant)
    model = keras.Model(picture, p.activation(p.subpixel_conv(picture, 6)))
    for features in (np.full((1, 7, 9, 6), 0.7), random.normal(size=(1, 7, 9, 6))):
        out = keras.ops.convert_to_numpy(model(features))
        blocks = out.reshape(7, 2, 9, 2, 6)
        assert blocks.dtype == float and np.ptp(blocks, axis=(1, 3)).max() < CLOSE
        assert blocks.std(axis=-1).max() > 1e-3  # the feature maps differ


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
def test_with_equal_sums_what_is_flat_stays_flat_and_the_mean_of_the_four_pixels_is_kept(random):
    kernel, bias, flat = random.normal(size=(3, 3, 6, 8)), random.normal(size=8), np.full((1, 7, 9, 6), random.normal())

    def middle(kernel, bias):  # where zero padding does not reach
        out = keras.ops.depth_to_space(keras.ops.conv(flat, kernel, padding="same") + bias, 2)
        return keras.ops.convert_to_numpy(out)[0, 2:-2, 2:-2]  # (h, w, 2)

    before, after = middle(kernel, bias), middle(EqualSums()(kernel), EqualSums()(bias))
    assert np.ptp(before, axis=(0, 1)).min() > 0.1 and np.ptp(after, axis=(0, 1)).max() < CLOSE
    assert np.abs(before.mean((0, 1)) - after.mean((0, 1))).max() < CLOSE


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, Muon])
def test_a_trained_generator_draws_no_mesh_on_what_is_flat(random, optimizer):
    def mesh_after_training(prevented):
        generator = SRGAN_g(blocks=1, filters=8)
        if prevented:
            prevent_mesh(generator)
        game = SRGAN(generator)
        how = {"jit_compile": JIT} if prevented else {"run_eagerly": True}  # compiling takes longest
        game.compile(optimizer=optimizer(1e-2), **how)
        lr, hr = (random.integers(0, 256, (2, side, side, 3), "uint8") for side in (8, 32))
        for _ in range(5):
            game.train_on_batch(lr, hr)
        flat = keras.ops.convert_to_numpy(generator(np.full((1, 24, 24, 3), 0.3)))
        return np.ptp(flat[0, 40:56, 40:56], axis=(0, 1)).max()  # no padding reaches it

    assert mesh_after_training(prevented=True) < CLOSE
    assert mesh_after_training(prevented=False) > 1000 * CLOSE


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [3, 9])
def test_the_last_kernel_passes_what_is_flat_and_no_pattern_of_2x2(random, size):
    kernel = random.normal(size=(size, size, 6, 3))
    level = NoCheckerboard()(kernel)

    def middle(kernel, picture):  # where zero padding does not reach
        return keras.ops.convert_to_numpy(keras.ops.conv(picture, kernel, padding="same"))[0, 5:-5, 5:-5]

    pattern = np.tile(random.normal(size=(1, 2, 2, 6)), (1, 8, 8, 1))
    flat = np.broadcast_to(pattern.mean((1, 2), keepdims=True), pattern.shape)
    assert np.ptp(middle(kernel, pattern), axis=(0, 1)).min() > 0.1
    assert np.abs(middle(level, pattern) - middle(kernel, flat)).max() < CLOSE


@pytest.mark.parametrize("stored_as", ["float16", "float32"])
def test_kernels_whose_sums_differ_already_are_left_as_they_are(random, stored_as):
    def constrained(kernel_of):
        generator = SRGAN_g(blocks=1, filters=8)
        for layer in layers_of(generator, keras.layers.Conv2D):
            if layer.filters == 32:
                layer.kernel.assign(kernel_of(random.normal(0, 0.1, layer.kernel.shape)))
        generator.set_weights([np.asarray(weights).astype(stored_as) for weights in generator.get_weights()])
        prevent_mesh(generator)
        return [variable.shape for variable in generator.variables if variable.constraint]

    assert constrained(EqualSums()) == [(3, 3, 8, 32), (32,), (3, 3, 8, 32), (32,), (9, 9, 8, 3)]
    assert constrained(lambda kernel: kernel) == []


@pytest.mark.parametrize("name", ["srresnet", "srgan"])
def test_training_goes_on_from_the_shipped_weights_without_a_mesh(name):
    generator = load_generator(PRETRAINED / f"{name}.weights.h5")
    prevent_mesh(generator)
    assert sum(variable.constraint is not None for variable in generator.variables) == 5


def test_networks_without_subpixel_convolutions_of_ours_or_with_a_last_kernel_of_one_pixel_stay_free():
    tensorlayer, srcnn = SRGAN_g("tensorlayer", blocks=1, filters=8), build_generator("srcnn")
    for generator in (tensorlayer, srcnn):
        prevent_mesh(generator)
    assert tensorlayer.layers[-2].kernel.shape == (1, 1, 8, 3) and tensorlayer.layers[-2].kernel.constraint is None
    assert not any(variable.constraint for variable in srcnn.variables)


# Discriminator


@pytest.mark.parametrize("variant, crop", [("paper", 48), ("tensorlayer", 64)])
def test_the_discriminator_gives_one_logit_a_picture(random, variant, crop):
    discriminator = SRGAN_d(variant, crop, filters=4)
    logits = keras.ops.convert_to_numpy(discriminator(random.normal(size=(5, crop, crop, 3)).astype("float32")))
    assert logits.shape == (5, 1)
    assert discriminator.layers[-1].activation is keras.activations.linear


def test_the_papers_discriminator_has_the_layers_of_figure_4():
    discriminator = SRGAN_d("paper", crop=96, filters=64)
    convolutions = layers_of(discriminator, keras.layers.Conv2D)
    assert [conv.kernel_size for conv in convolutions] == [(3, 3)] * 8
    described = " ".join(f"k3n{conv.filters}s{conv.strides[0]}" for conv in convolutions)
    assert described == "k3n64s1 k3n64s2 k3n128s1 k3n128s2 k3n256s1 k3n256s2 k3n512s1 k3n512s2"
    assert len(layers_of(discriminator, keras.layers.BatchNormalization)) == 7
    assert [dense.units for dense in layers_of(discriminator, keras.layers.Dense)] == [1024, 1]
    assert [leaky.negative_slope for leaky in layers_of(discriminator, keras.layers.LeakyReLU)] == [0.2] * 9


# VGG19


@pytest.mark.numerical
@pytest.mark.skipif(not VGG_WEIGHTS.is_file(), reason=f"no {VGG_WEIGHTS}")
@pytest.mark.parametrize("layer", ["block2_conv2", "block4_pool"])
def test_features_are_those_of_keras_vgg19_on_0_to_255_rgb(layer):
    picture = read_picture(ROOT / "data/benchmark/Set5/HR/img_003.png")[None, 64:160, 32:160]
    vgg = keras.applications.VGG19(include_top=False, weights=VGG_WEIGHTS)
    reference = keras.Model(vgg.input, vgg.get_layer(layer).output)
    expected = reference.predict(keras.applications.vgg19.preprocess_input(picture.astype("float32")), verbose=0)
    features = keras.ops.convert_to_numpy(VGG19(layer, VGG_WEIGHTS)(to_float(picture)))
    assert features.shape == expected.shape
    # the picture is rounded to 1e-5 of a level, each of up to 12 convolutions to some 2**-24 of its largest value
    assert np.abs(features - expected).max() < 1e-4 * expected.max()


def test_the_feature_extractor_does_not_learn():
    assert VGG19("block1_pool", None).trainable_variables == []


@pytest.mark.parametrize("layer", ["block2_conv2", "block4_pool", FEATURE_LAYERS])
def test_the_smallest_picture_that_vgg19_takes_is_that_of_keras(layer):
    vgg, side = VGG19(layer, None), smallest_side(layer)
    vgg.compute_output_shape((1, side, side, 3))
    with pytest.raises(ValueError, match="zero or negative"):
        vgg.compute_output_shape((1, side - 1, side - 1, 3))


def test_features_of_reduced_pictures_are_those_of_tensorflows_bilinear_resize():
    """As TensorLayer's main.py reduces 384 to 224: without smoothing."""
    tf = pytest.importorskip("tensorflow")
    picture = np.random.default_rng(0).uniform(-1, 1, (2, 96, 48, 3)).astype(np.float32)
    reduced = on_reduced(lambda x: x, 224 / 384)(picture)
    expected = tf.image.resize(picture, (56, 28), "bilinear", antialias=False)
    assert np.allclose(reduced, expected, atol=1e-6)
    assert on_reduced(len, 1.0) is len


# The game


def test_a_smoothed_label_is_that_of_keras_cross_entropy(random):
    real, fake = random.normal(size=(2, 8, 1)).astype(np.float32)
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = entropy(np.full((8, 1), 0.9, np.float32), real) + entropy(np.zeros((8, 1), np.float32), fake)
    assert float(d_loss(real, fake, smoothing=0.1)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.usefixtures("float64")
def test_in_a_head_start_the_discriminator_learns_alone_and_the_generators_first_step_is_that_of_a_new_adam(random):
    """Adam's first step is the rate times the gradient's sign, so its largest change is the rate."""
    game, lr, hr = tiny_game(random, 1e-3)
    game.head_start = 2
    optimizer = adversarial_optimizer("adam", 1e-3, 0.9, game.discriminator, d_lr_ratio=1.0, head_start=2)
    game.compile(optimizer, jit_compile=JIT)
    start, judges = values_of(game.generator.trainable_variables), [values_of(game.discriminator.trainable_variables)]
    for _ in range(2):
        game.train_on_batch(lr, hr)
        judges.append(values_of(game.discriminator.trainable_variables))
    assert all(np.array_equal(*pair) for pair in zip(start, values_of(game.generator.trainable_variables), strict=True))
    assert all(any(not np.array_equal(*pair) for pair in zip(*two)) for two in zip(judges, judges[1:]))
    game.train_on_batch(lr, hr)
    steps = [np.abs(a - b).max() for a, b in zip(start, values_of(game.generator.trainable_variables), strict=True)]
    assert max(steps) == pytest.approx(1e-3, rel=1e-3)


def tiny_game(random, gan_weight):
    generator, discriminator = SRGAN_g(blocks=1, filters=8), SRGAN_d(crop=32, filters=4)
    lr, hr = (random.integers(0, 256, (4, side, side, 3), "uint8") for side in (8, 32))
    return SRGAN(generator, discriminator, weights=(1.0, 0.0, gan_weight), ema=0.9), lr, hr


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="written with tf.GradientTape")
def test_an_update_of_the_game_is_one_of_each_player_by_hand(random):
    import tensorflow as tf

    rate, gan_weight = 0.1, 1.0
    game, lr, hr = tiny_game(random, gan_weight)
    generator, discriminator = (keras.models.clone_model(m) for m in (game.generator, game.discriminator))
    generator.set_weights(game.generator.get_weights())
    discriminator.set_weights(game.discriminator.get_weights())
    game.compile(keras.optimizers.SGD(rate), jit_compile=False)
    game.fit(lr, hr, verbose=0)

    wanted = tf.constant(hr, "float64") / 127.5 - 1
    with tf.GradientTape() as tape:
        sr = generator(tf.constant(lr, "float64") / 127.5 - 1, training=True)
        judge = keras.models.clone_model(discriminator)
        judge.set_weights(discriminator.get_weights())
        loss = mse_loss(sr, wanted) + gan_weight * g_gan_loss(judge(sr, training=True))
    steps = tape.gradient(loss, generator.trainable_variables)
    with tf.GradientTape() as tape:
        loss = d_loss(discriminator(wanted, training=True), discriminator(tf.constant(sr.numpy()), training=True))
    d_steps = tape.gradient(loss, discriminator.trainable_variables)
    for model, gradients in ((generator, steps), (discriminator, d_steps)):
        for variable, gradient in zip(model.trainable_variables, gradients):
            variable.assign_sub(rate * gradient)

    for ours, by_hand in ((game.generator, generator), (game.discriminator, discriminator)):
        for value, expected in zip(arrays(ours), arrays(by_hand), strict=True):
            assert value.dtype == float and np.abs(value - expected).max() < CLOSE
