"""Muon for convolutions against Keras' Muon for matrices, and the rate that decays late."""

import keras
import numerics
import numpy as np
import pytest
from numerics import CLOSE

from training.optimizers import (
    Muon,
    TwoPlayersAdam,
    TwoPlayersMuon,
    WarmupStableDecay,
    adversarial_optimizer,
    adversarial_rate,
    warm_up_optimizer,
)

UPDATES = 5


def random(*shape):
    return numerics.random().normal(size=shape)


def trained(optimizer, start, gradients):
    """What `optimizer` makes of a variable that starts as `start` and gets these `gradients`."""
    variable = keras.Variable(start, dtype="float64")
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
    return keras.ops.convert_to_numpy(variable)


def keras_muon(rate):
    return keras.optimizers.Muon(rate, weight_decay=None, adam_weight_decay=None)


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
def test_on_a_matrix_it_is_keras_muon():
    start, gradients = random(24, 40), random(UPDATES, 24, 40)
    ours, theirs = trained(Muon(1e-2), start, gradients), trained(keras_muon(1e-2), start, gradients)
    assert np.array_equal(ours, theirs) and np.abs(ours - start).max() > 1e-3


def as_matrix(kernel):
    """(h, w, in, out) -> (out, h*w*in), as Muon sees a kernel."""
    return kernel.transpose(3, 0, 1, 2).reshape(kernel.shape[3], -1)


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (3, 3, 8, 96)])
def test_on_a_kernel_it_is_keras_muon_of_its_matrix(shape):
    start, gradients = random(*shape), random(UPDATES, *shape)
    ours = trained(Muon(1e-2), start, gradients)
    theirs = trained(keras_muon(1e-2), as_matrix(start), [as_matrix(gradient) for gradient in gradients])
    assert ours.dtype == float and np.abs(as_matrix(ours) - theirs).max() < CLOSE


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (3, 3, 8, 96)])
def test_an_update_of_a_kernel_is_nearly_orthogonal(shape):
    """Before scaling its singular values are what five steps of the iteration leave (Jordan 2024: 0.7 to 1.2).

    A step takes 0.21 to 1.21 to within 0.68 to 1.21, and what is smaller to more than three times as much: after
    five, all that began above 0.003. A matrix of normal numbers has none below 0.01.
    """
    update = as_matrix(trained(Muon(1.0), np.zeros(shape), random(1, *shape)))
    values = np.linalg.svd(update / (0.2 * np.sqrt(max(update.shape))), compute_uv=False)
    assert values.min() > 0.65 and values.max() < 1.25


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(9, 9, 3, 16), (9, 9, 16, 3), (1, 1, 16), (16,)])
def test_ends_slopes_and_biases_learn_by_adam_at_a_rate_of_their_own(shape):
    start, gradients = random(*shape), random(UPDATES, *shape)
    ours = trained(Muon(1e-2, adam_lr_ratio=0.3), start, gradients)
    theirs = trained(keras.optimizers.Adam(3e-3), start, gradients)
    assert ours.dtype == float and np.abs(ours - theirs).max() < CLOSE


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_a_stable_rate_rises_stays_and_falls_to_nothing():
    schedule = WarmupStableDecay(1e-3, rise=10, decay_from=80, total=100)
    assert rates(schedule, [0, 4, 9, 50, 80, 90, 100, 120]) == pytest.approx([1e-4, 5e-4, 1e-3, 1e-3, 1e-3, 5e-4, 0, 0])


def test_a_longer_stable_run_has_the_same_rate_until_the_shorter_one_decays():
    short, long = (
        WarmupStableDecay(1e-3, 10, decay_from=80, total=100),
        WarmupStableDecay(1e-3, 10, decay_from=170, total=200),
    )
    assert rates(short, range(81)) == rates(long, range(81)) and rates(short, [81]) < rates(long, [81])


def two_players(*layers):
    """Two equal networks of one layer each, and the variables of both."""
    players = [keras.Sequential([keras.layers.Input((8, 8, 4)), layer]) for layer in layers]
    return players, [variable for player in players for variable in player.trainable_variables]


def assert_learnt_alone(together, variables, head_start, *optimizers):
    """`together` trains the generator, which has the last two variables and no gradient during the head start.

    The variables learn as each alone by its own optimizer of `optimizers`, the generator's from the head start on.
    """
    starts = [np.array(variable) for variable in variables]
    gradients = [random(head_start + UPDATES, *start.shape) for start in starts]
    for gradient in gradients[2:]:
        gradient[:head_start] = 0
    together.build(variables)
    for update in zip(*gradients):
        together.apply([keras.ops.convert_to_tensor(gradient) for gradient in update])
    for number, (optimizer, start) in enumerate(zip(optimizers, starts, strict=True)):
        alone = trained(optimizer, start, gradients[number][head_start if number >= 2 else 0 :])
        assert np.abs(np.array(variables[number]) - alone).max() < CLOSE


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("ratio, head_start", [(0.1, 0), (0.1, 3)])
def test_two_players_learn_as_by_two_adams(ratio, head_start):
    """Each at its own rate, the generator from the head start on, in which it has no gradient."""
    players, variables = two_players(keras.layers.Dense(3), keras.layers.Dense(3))
    together = TwoPlayersAdam(1e-2, players[0], ratio, head_start)
    rates = [ratio * 1e-2, ratio * 1e-2, 1e-2, 1e-2]
    assert_learnt_alone(together, variables, head_start, *map(keras.optimizers.Adam, rates))


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("head_start", [0, 3])
def test_muon_trains_the_generators_kernels_alone(head_start):
    players, variables = two_players(keras.layers.Conv2D(16, 3), keras.layers.Conv2D(16, 3))
    together = TwoPlayersMuon(1e-3, players[0], 0.5, head_start, muon_lr_ratio=7)
    adam = keras.optimizers.Adam
    assert_learnt_alone(together, variables, head_start, adam(5e-4), adam(5e-4), Muon(7e-3), adam(1e-3))


@pytest.mark.numerical
@pytest.mark.usefixtures("float64")
def test_a_generator_alone_has_no_head_start():
    """Without a discriminator, as with TRAIN.content_loss=johnson, it learns from the first update on."""
    start, gradients = random(16), random(UPDATES, 16)
    ours = trained(adversarial_optimizer("muon", 1e-2, 0.9, None, 1.0, 3, muon_lr_ratio=5.0), start, gradients)
    assert np.abs(ours - trained(keras.optimizers.Adam(1e-2), start, gradients)).max() < CLOSE


@pytest.mark.parametrize(
    "schedule, wanted", [("step", [1.0, 1.0, 1.0, 0.1, 0.1, 0.1]), ("stable", [1.0, 1.0, 1.0, 1.0, 0.5, 0.0])]
)
def test_the_rate_of_the_second_stage_falls_as_the_option_says(schedule, wanted):
    rate = adversarial_rate(schedule, 1.0, factor=0.1, total=10, decay_at=6)
    assert rates(rate, [0, 3, 5, 6, 8, 10]) == pytest.approx(wanted)


def test_the_state_of_an_earlier_runs_adam_fits_both_players():
    """Whatever TRAIN.d_head_start and d_lr_ratio are, and a run that has neither goes on with Keras' own Adam."""
    network = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    optimizers = [adversarial_optimizer("adam", 1e-4, 0.9, network, *two) for two in ((1.0, 0), (1.0, 3), (0.5, 0))]
    for optimizer in optimizers:
        optimizer.build(network.trainable_variables)
    assert type(optimizers[0]) is keras.optimizers.Adam
    first, *others = [[(v.path.split("/")[1:], v.shape) for v in optimizer.variables] for optimizer in optimizers]
    assert others == [first, first]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["adam", "muon"])
def test_beta1_reaches_the_adam_of_the_warm_up(name):
    start, gradients = random(16), random(UPDATES, 16)
    ours = trained(warm_up_optimizer(name, 1e-2, beta_1=0.5, adam_lr_ratio=1.0), start, gradients)
    assert np.allclose(ours, trained(keras.optimizers.Adam(1e-2, beta_1=0.5), start, gradients), atol=1e-6)
