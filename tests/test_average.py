"""The generator's running average in the second stage, compared with a mean over the weights of each update."""

import numpy as np
import pytest
from keras import ops
from thorough import often

from model import SRGAN_g
from srgan import JIT, SRGAN


@pytest.mark.numerical
@pytest.mark.parametrize("ema", often([0.5], [0.0, 0.5, 0.99999]))
def test_it_is_the_weighted_mean_over_all_updates_so_far(float64, ema):
    random = np.random.default_rng(0)
    lr, hr = (random.integers(0, 256, (2, side, side, 3), np.uint8) for side in (8, 32))
    # with features as with a discriminator the stage is the second, and takes a third of the time to compile
    game = SRGAN(SRGAN_g(blocks=1, filters=8), vgg=lambda picture: 2 * picture, weights=(1.0, 0.5, 0.0), ema=ema)
    game.compile(optimizer="sgd", jit_compile=JIT)
    trainable = [index for index, variable in enumerate(game.generator.variables) if variable.trainable]
    before = []  # each update: the weights that it starts from
    for _ in range(5):
        before.append([ops.convert_to_numpy(game.generator.variables[index]) for index in trainable])
        game.train_on_batch(lr, hr)
    shares = [ema ** (4 - update) for update in range(5)]  # 0.0 ** 0 is 1
    for place, index in enumerate(trainable):
        wanted = np.average([weights[place] for weights in before], axis=0, weights=shares)
        found = ops.convert_to_numpy(game.average.variables[index])
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)
    first = np.array([weights[0] for weights in before])
    assert np.abs(np.diff(first, axis=0)).max() > 1e-4  # the weights do change
