"""The fast arrangement of the generator's arithmetic gives what its layers give, forwards and in training."""

import keras
import numerics
import numpy as np
import pytest
from keras import ops
from numerics import CLOSE
from thorough import often

from generator import before_depth_to_space
from model import SRGAN_g
from srgan import JIT, SRGAN
from training.fast_forward import fast_forward, prelu

pytestmark = [pytest.mark.numerical, pytest.mark.usefixtures("float64")]
UPDATES = 6


def generator_with_other_weights(variant, scale):
    """Always the same ones; slopes, norms and statistics are not the neutral ones of the start."""
    keras.utils.set_random_seed(numerics.SEED)
    generator, random = SRGAN_g(variant, scale, blocks=2, filters=8), numerics.random(0)
    for variable in generator.variables:
        if len(variable.shape) < 4:
            variable.assign(variable + random.uniform(0.01, 0.1, variable.shape))
    return generator


def crops(scale):
    random = numerics.random(1)
    lr, hr = (random.integers(0, 256, (UPDATES, 2, side, side, 3), np.uint8) for side in (8, 8 * scale))
    return list(zip(lr, hr))


class Plain(SRGAN):
    """The game with the generator's layers as they are, run one by one: no compiler can mend or break it."""

    def call(self, lr, training=False):
        network = self.generator if training else self.average
        return network(self.to_float(lr), training=training and not self.fixed_statistics)


def trained(kind, variant, scale, fixed):
    """[(variable, its value)] after some updates from the same start."""
    game = kind(generator_with_other_weights(variant, scale), ema=0.9)
    game.fixed_statistics = fixed
    game.compile(keras.optimizers.SGD(1e-2), **{"run_eagerly": True} if kind is Plain else {"jit_compile": JIT})
    for lr, hr in crops(scale):
        game.train_on_batch(lr, hr)
    return [ops.convert_to_numpy(variable) for variable in game.generator.variables]


KINDS = [("paper", 4), ("tensorlayer", 4), ("paper", 2), ("paper", 8)]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(("variant", "scale"), often(KINDS[:2], KINDS))
def test_it_trains_what_the_layers_train(variant, scale, fixed):
    start = [ops.convert_to_numpy(v) for v in generator_with_other_weights(variant, scale).variables]
    plain, fast = (trained(kind, variant, scale, fixed) for kind in (Plain, SRGAN))
    assert max(np.abs(after - before).max() for after, before in zip(plain, start)) > 1e-3
    assert max(np.abs(ours - theirs).max() for ours, theirs in zip(fast, plain, strict=True)) < CLOSE


@pytest.mark.parametrize(("variant", "scale"), KINDS)
def test_a_picture_of_any_shape_comes_out_as_by_the_layers(variant, scale):
    generator = generator_with_other_weights(variant, scale)
    lr = numerics.random().uniform(-1, 1, (1, 7, 13, 3))
    apart = np.asarray(fast_forward(generator, lr, True)) - np.asarray(generator(lr))
    assert apart.dtype == float and np.abs(apart).max() < CLOSE


@pytest.mark.parametrize("size", [1, 3, 5, 9])
@pytest.mark.parametrize("array", [np, ops], ids=["numpy", "keras"])
def test_a_convolution_can_come_before_the_depth_to_space(size, array):
    random = numerics.random()
    x, kernel = random.normal(size=(2, 5, 6, 4 * 3)), random.normal(size=(size, size, 3, 2))
    after = ops.conv(ops.depth_to_space(x, 2), kernel, padding="same")
    before = ops.depth_to_space(ops.conv(x, before_depth_to_space(kernel, array), padding="same"), 2)
    assert after.dtype == before.dtype == "float64" and np.abs(after - before).max() < CLOSE


class Activation(keras.Model):
    """prelu(x + shift, slope); an update by SGD at rate 1 subtracts from both the gradient of sum(y * output)."""

    def __init__(self, shape):
        super().__init__()
        self.shift = self.add_weight(shape=shape, initializer="zeros")
        self.slope = self.add_weight(shape=shape[-1:], initializer="zeros")

    def call(self, x):
        return prelu(x + self.shift, 1.0 * self.slope)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.sum(y * y_pred)


def test_prelu_and_its_gradients_are_those_of_the_definition():
    x, gradient = numerics.random().normal(size=(2, 2, 3, 4, 5))
    slope = np.linspace(-0.5, 1.5, 5)
    activation = Activation(x.shape)
    activation.slope.assign(slope)
    assert np.abs(activation(x) - np.where(x > 0, x, slope * x)).max() < CLOSE
    activation.compile(keras.optimizers.SGD(1.0), jit_compile=JIT)
    activation.train_on_batch(x, gradient)
    slopes = slope - (gradient * np.minimum(x, 0)).sum((0, 1, 2))
    assert np.abs(activation.shift + gradient * np.where(x > 0, 1, slope)).max() < CLOSE
    assert np.abs(activation.slope - slopes).max() < CLOSE
