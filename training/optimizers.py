"""Optimizers and learning rates of both stages: the paper's Adam, and Muon for a warm-up in fewer updates."""

from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import CosineDecay, PiecewiseConstantDecay
from keras.optimizers.schedules import LearningRateSchedule as Schedule

RAMP_UPDATES = 100  # over which a stable learning rate rises from 0


def warm_up_rate(schedule: str, rate: float, total: int, decay_at: int) -> Schedule:
    """Return the learning rate of the warm-up. schedule: a value of TRAIN.schedule_init. total, decay_at: of its Plan.

    It is a schedule even if it is constant: a plain number would be stored in the state, and a resumed run would take
    that and ignore a changed option.
    """
    total = max(1, total)
    if schedule == "cosine":
        return CosineDecay(rate, total, alpha=0.01)
    if schedule == "stable":
        return WarmupStableDecay(rate, RAMP_UPDATES, decay_at, total)
    return PiecewiseConstantDecay([total], [rate, rate])


def adversarial_rate(schedule: str, rate: float, factor: float, total: int, decay_at: int) -> Schedule:
    """Return the learning rate of the second stage. schedule: a value of TRAIN.schedule. total, decay_at: of its Plan.

    factor: of a step, once, halfway. Source: the paper, after 1e5 of 2e5 updates; TensorLayer, decay_every =
    n_epoch / 2.
    """
    if schedule == "stable":
        return WarmupStableDecay(rate, 1, decay_at, total)
    return PiecewiseConstantDecay([total // 2], [rate, rate * factor])


def warm_up_optimizer(name: str, rate: Schedule, beta_1: float, adam_lr_ratio: float) -> keras.optimizers.Optimizer:
    """Return the optimizer of the warm-up. name: a value of TRAIN.optimizer. beta_1: of Adam, Muon's own included."""
    if name == "muon":
        return Muon(rate, adam_lr_ratio=adam_lr_ratio, adam_beta_1=beta_1)
    return keras.optimizers.SGD(rate) if name == "sgd" else keras.optimizers.Adam(rate, beta_1=beta_1)


def adversarial_optimizer(
    name: str,
    rate: Schedule,
    beta_1: float,
    discriminator: keras.Model | None,
    d_lr_ratio: float,
    head_start: int,
    muon_lr_ratio: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Return the optimizer of the second stage, which both players share: SGD if `name` is "sgd", otherwise Adam.

    discriminator: None if the generator is trained alone. d_lr_ratio, head_start: see TwoPlayers. muon_lr_ratio: if it
    is not 0, Muon trains the generator's kernels, see TwoPlayersMuon.
    """
    if name == "sgd":
        return keras.optimizers.SGD(rate)
    if muon_lr_ratio:
        return TwoPlayersMuon(rate, discriminator, d_lr_ratio, head_start, muon_lr_ratio, adam_beta_1=beta_1)
    if discriminator is None or (d_lr_ratio == 1 and not head_start):
        return keras.optimizers.Adam(rate, beta_1=beta_1)
    return TwoPlayersAdam(rate, discriminator, d_lr_ratio, head_start, beta_1=beta_1)


class Muon(keras.optimizers.Muon):
    """Muon (Jordan 2024; Liu et al. 2025) for convolution kernels (h, w, in, out); Keras' own handles only matrices.

    The update of a kernel, as a matrix (out, h*w*in), is made orthogonal. All its singular values become equal, and so
    directions with small gradients learn as fast as those with large ones. Adam, with `adam_lr_ratio` of the learning
    rate, trains the kernels that read or write the three colours, the biases, the PReLU slopes and the normalizations.
    """

    def __init__(self, learning_rate: float | Schedule, adam_lr_ratio: float = 0.3, **options: Any) -> None:
        # Keras' Muon decays weights by default; here it does not, as Adam does not.
        options = {"weight_decay": None, "adam_weight_decay": None} | options
        super().__init__(learning_rate, adam_lr_ratio=adam_lr_ratio, **options)

    def _should_use_adamw(self, variable: Any) -> bool:
        # Keras would leave all kernels to Adam. As usual with Muon, the first and the last layer stay with Adam; they
        # are the ones with three input or output channels.
        if len(variable.shape) == 4:
            return min(variable.shape[2:]) <= 3
        return super()._should_use_adamw(variable)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        # The names are those of Keras' method: lr is the learning rate, m the variable's momentum.
        if len(variable.shape) != 4:
            super()._muon_update_step(gradient, variable, lr, m)
            return
        height, width, inputs, filters = variable.shape
        # m becomes momentum * m + gradient. Nesterov's direction looks one such step ahead.
        self.assign_add(m, gradient + m * (self.momentum - 1))
        direction = gradient + self.momentum * m if self.nesterov else m
        matrix = ops.reshape(ops.transpose(direction, (3, 0, 1, 2)), (filters, height * width * inputs))
        # Newton-Schulz iterations come close to the nearest orthogonal matrix without a singular value decomposition.
        # lr_adjust scales it to the size of Adam's updates, whatever the kernel's shape (Liu et al. 2025).
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        update = ops.transpose(ops.reshape(update, (filters, height, width, inputs)), (1, 2, 3, 0))
        self.assign_sub(variable, update)


class TwoPlayers(keras.optimizers.Optimizer):
    """What optimizers for a discriminator and a generator have in common; the next base class says how they learn.

    discriminator: None if the generator is alone. ratio: the discriminator's fraction of the learning rate (Heusel et
    al. 2017: two time scales). head_start: number of updates in which the generator gets no gradient, because the
    discriminator, if there is one, learns alone; afterwards it learns as by an optimizer that begins there.
    """

    beta_1: float  # of Adam
    beta_2: float

    def __init__(
        self,
        learning_rate: Any,
        discriminator: keras.Model | None,
        ratio: float,
        head_start: int,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        variables = discriminator.trainable_variables if discriminator else []
        self.paths = {variable.path for variable in variables}
        self.ratio, self.head_start = ratio, head_start if discriminator else 0

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the optimizer's variables, and remember which of `variables` belong to the discriminator."""
        super().build(variables)
        self.of_discriminator = [variable.path in self.paths for variable in variables]

    def rate_of(self, variable: Any, learning_rate: Any) -> Any:
        """Return the learning rate with which Adam trains `variable`, that of its player."""
        if self.of_discriminator[self._get_variable_index(variable)]:
            return self.ratio * learning_rate
        if not self.head_start:
            return learning_rate
        # Keras corrects the bias of Adam's means for the updates of both players. The generator's means begin at 0
        # after the head start, so its correction must count from there; it is a factor on the rate.
        step = ops.cast(self.iterations + 1, variable.dtype)
        own_step = ops.maximum(step - self.head_start, 1)
        return ops.cast(learning_rate, variable.dtype) * self.correction(own_step) / self.correction(step)

    def correction(self, step: Any) -> Any:
        """Return Adam's bias correction of the learning rate at update `step`, counted from 1; both are scalars."""
        beta_1, beta_2 = (ops.cast(beta, step.dtype) for beta in (self.beta_1, self.beta_2))
        return ops.sqrt(1 - ops.power(beta_2, step)) / (1 - ops.power(beta_1, step))


class TwoPlayersAdam(TwoPlayers, keras.optimizers.Adam):
    """Adam for both players, with the variables of Keras' Adam."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable with the learning rate of its player."""
        super().update_step(gradient, variable, self.rate_of(variable, learning_rate))


class TwoPlayersMuon(TwoPlayers, Muon):
    """Muon for the generator's kernels, Adam for its other variables and for the discriminator.

    muon_lr_ratio: Muon's multiple of Adam's learning rate.
    """

    def __init__(
        self,
        learning_rate: Any,
        discriminator: keras.Model | None,
        ratio: float,
        head_start: int,
        muon_lr_ratio: float,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, discriminator, ratio, head_start, adam_lr_ratio=1.0, **options)
        self.muon_lr_ratio = muon_lr_ratio
        self.beta_1, self.beta_2 = self.adam_beta_1, self.adam_beta_2

    def _should_use_adamw(self, variable: Any) -> bool:
        return variable.path in self.paths or super()._should_use_adamw(variable)

    def _adamw_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any, v: Any) -> None:
        super()._adamw_update_step(gradient, variable, self.rate_of(variable, lr), m, v)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        super()._muon_update_step(gradient, variable, self.muon_lr_ratio * lr, m)


class WarmupStableDecay(Schedule):
    """A learning rate that rises over `rise` updates, stays constant, and falls to 0 from `decay_from` to `total`.

    It rises and falls linearly. Up to `decay_from` it does not depend on `total`, so that a run can be continued as a
    longer one. Source: warmup-stable-decay, Hu et al. 2024.
    """

    def __init__(self, learning_rate: float, rise: int, decay_from: float, total: int) -> None:
        self.learning_rate, self.rise, self.decay_from, self.total = learning_rate, rise, decay_from, total

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of the update that follows `step` updates, a scalar tensor."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(1, self.rise)
        falling = (self.total - step) / max(1, self.total - self.decay_from)
        return self.learning_rate * ops.clip(ops.minimum(rising, falling), 0.0, 1.0)
