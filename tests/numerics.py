"""What numerical tests share: a start that can be changed, and arithmetic in which roundings do not matter."""

import contextlib
import os
from unittest import mock

import keras
import numpy as np

SEED = int(os.environ.get("TEST_SEED", 0))  # tests/thorough.sh tries others: no test may need this one

# Two ways to the same result add the same n terms in another order, which sets them n * 2**-53 of the terms' sizes
# apart at most: 5e-13 for the longest sums in the tests, over 4096 pixels. Layers and a few updates enlarge that some
# hundred times, mostly where batch normalization divides by a small deviation. What is wrong differs by a part of an
# update, 1e-4 and more. The tolerance is far from both.
#
# In float32 there is no such room: roundings of 1e-7 reach 1e-4 where the input of a LeakyReLU or PReLU is so close
# to 0 that its sign depends on the processor, and the gradient with it. Among 1e6 inputs of size 1 some always are
# within 1e-7 of 0; that one is within 1e-13 happens once in ten million starts.
CLOSE = 1e-9

# For engines that have float32 alone, on what needs no gradient. A network's output is continuous, so no kink matters:
# each of 3 to 40 layers adds some 2**-24 of its values, which keep a size of about 1 on the way to tanh: 1e-5 at
# most, of which 1e-6 is seen. A layer left out or shifted by a pixel changes the picture by 1e-2.
CLOSE_IN_FLOAT32 = 1e-4


def random(*more):
    """NumPy's generator for the seed of this run, and for `more` numbers where a test needs several."""
    return np.random.default_rng([SEED, *more])


def leave_start(network):
    """Give every layer weights that are not its trivial start, and under which a signal keeps its size (He 2015)."""
    draw = random()
    for weight in network.weights:
        if len(weight.shape) == 4:
            spread = (6 / np.prod(weight.shape[:-1])) ** 0.5
            spread /= 3 if weight.shape[-1] == 3 else 1  # the last one: tanh would hide what is large
            weight.assign(draw.uniform(-spread, spread, weight.shape))
        else:
            weight.assign_add(draw.uniform(-0.15, 0.15, weight.shape))


@contextlib.contextmanager
def float64():
    """A scope in which Keras builds and trains networks in float64."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":  # neither JAX nor Keras on JAX knows float64 unless told to
            import jax
            from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE

            stack.callback(jax.config.update, "jax_enable_x64", jax.config.jax_enable_x64)
            jax.config.update("jax_enable_x64", True)
            stack.enter_context(mock.patch.dict(BIT64_TO_BIT32_DTYPE, {"float64": "float64"}))
        stack.callback(keras.config.set_dtype_policy, policy)
        stack.callback(keras.config.set_floatx, floatx)
        keras.config.set_floatx("float64")  # of inputs
        keras.config.set_dtype_policy("float64")  # of layers
        assert keras.backend.result_type("float64", float) == "float64"
        yield
