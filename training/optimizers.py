"""Optimizers and learning rates of both stages: Adam as the paper's, Muon for a warm-up that learns faster."""

import keras
from keras import ops

from training.stages import WARM_UP, decays_from

RISE = 100  # updates in which a stable learning rate rises from 0


def warm_up_optimizer(settings):
    """The optimizer of the warm-up. settings: TRAIN of the configuration."""
    rate = warm_up_rate(settings)
    if settings.optimizer == "muon":
        return Muon(rate, adam_lr_ratio=settings.adam_lr_ratio)
    return plain_optimizer(settings, rate)


def adversarial_optimizer(settings):
    """The optimizer of the second stage, for both players. settings: TRAIN of the configuration.

    Its rate falls once, at half (paper: after 1e5 of 2e5 updates; TensorLayer: decay_every n_epoch / 2).
    """
    rates = [settings.learning_rate, settings.learning_rate * settings.lr_decay]
    return plain_optimizer(
        settings, keras.optimizers.schedules.PiecewiseConstantDecay([settings.n_updates // 2], rates)
    )


def plain_optimizer(settings, rate):
    """The optimizer that TRAIN.optimizer names where Muon is not meant; `rate` is a schedule."""
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate)
    return keras.optimizers.Adam(rate, beta_1=settings.beta1)


def warm_up_rate(settings):
    """A schedule even where it is constant: a plain number would be stored in the state and outlive a change."""
    rate, total = settings.learning_rate_init, max(1, settings.n_updates_init)
    if settings.schedule_init == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, total, alpha=0.01)
    if settings.schedule_init == "stable":
        return Stable(rate, RISE, decays_from(WARM_UP, settings), total)
    return keras.optimizers.schedules.PiecewiseConstantDecay([total], [rate, rate])


@keras.saving.register_keras_serializable("srgan")
class Muon(keras.optimizers.Muon):
    """Muon (Jordan 2024; Liu et al. 2025) for kernels (h, w, in, out); Keras' own takes matrices alone.

    A kernel's update is made orthogonal as the matrix (out, h*w*in): every direction learns at one pace. Kernels that
    read or make the three colours, biases, slopes and normalizations are left to Adam, at `adam_lr_ratio` of the rate.
    """

    def __init__(self, learning_rate=1e-3, adam_lr_ratio=0.3, weight_decay=None, adam_weight_decay=None, **options):
        decays = {"weight_decay": weight_decay, "adam_weight_decay": adam_weight_decay}
        super().__init__(learning_rate, adam_lr_ratio=adam_lr_ratio, **decays, **options)

    def _should_use_adamw(self, variable):
        if len(variable.shape) == 4:
            return min(variable.shape[2:]) <= 3
        return super()._should_use_adamw(variable)

    def _muon_update_step(self, gradient, variable, lr, m):
        if len(variable.shape) != 4:
            super()._muon_update_step(gradient, variable, lr, m)
            return
        height, width, inputs, filters = variable.shape
        self.assign_add(m, gradient + m * (self.momentum - 1))
        direction = gradient + self.momentum * m if self.nesterov else m
        matrix = ops.reshape(ops.transpose(direction, (3, 0, 1, 2)), (filters, height * width * inputs))
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        update = ops.transpose(ops.reshape(update, (filters, height, width, inputs)), (1, 2, 3, 0))
        self.assign_sub(variable, update)


@keras.saving.register_keras_serializable("srgan")
class Stable(keras.optimizers.schedules.LearningRateSchedule):
    """Rises over `rise` updates, stays, and falls to 0 from update `decay_from` to update `total`, each in a line.

    Until `decay_from` it does not depend on `total`, so a run can be made longer (warmup-stable-decay, Hu et al. 2024).
    """

    def __init__(self, learning_rate, rise, decay_from, total):
        self.learning_rate, self.rise, self.decay_from, self.total = learning_rate, rise, decay_from, total

    def __call__(self, step):
        """The learning rate of the update after `step` others."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(1, self.rise)
        falling = (self.total - step) / max(1, self.total - self.decay_from)
        return self.learning_rate * ops.clip(ops.minimum(rising, falling), 0.0, 1.0)

    def get_config(self):
        """What Keras needs to make it again."""
        return {name: getattr(self, name) for name in ("learning_rate", "rise", "decay_from", "total")}
