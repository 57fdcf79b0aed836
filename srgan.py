"""The two-player game as one Keras model: generator, its running average, discriminator and losses."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

import pictures
from config import EARLIER
from engines import jit_compile
from losses import Tensor, d_loss, g_gan_loss, luma, mae_loss, mse_loss, vgg_loss
from tiles import by_tiles, mean_over_turns
from training.devices import replicas
from training.fast_forward import fast_forward

JIT = jit_compile()


def frozen(model: keras.Model) -> keras.StatelessScope:
    """Return a scope in which `model` gets no gradients and does not update its batch-normalization statistics."""
    # Inside, the model reads constants in place of its variables, and what it assigns to them is dropped.
    return keras.StatelessScope(state_mapping=[(v, ops.stop_gradient(v.value)) for v in model.variables])


def set_graph_optimizer(two_players: bool) -> None:
    """Turn off the passes of TensorFlow's graph optimizer (2.21) that do harm here; JAX has no such passes.

    Dependency optimization removes the control edges that make the discriminator's update wait until the generator's
    loss has read its weights; on a busy machine the generator is then sometimes judged by a partly updated
    discriminator. Remapping fails on the graph of two players, and prints an error. The settings hold for the whole
    process.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        options = {"dependency_optimization": False, "remapping": not two_players}
        tf.config.optimizer.set_experimental_options(options)


class SRGAN(keras.Model):
    """Trains a generator alone (the warm-up) or against a discriminator; fit() takes batches (lr, hr) of uint8 crops.

    Calling it super-resolves lr (N, h, w, 3) uint8 -> sr (N, scale*h, scale*w, 3) in [-1, 1]: with the generator in
    training, with its running average otherwise. Both players are updated together after one forward pass. That needs
    no train_step of our own: the players share no weights, so the gradient of the sum of their losses is for each
    player the gradient of its own loss.

    vgg: callable that maps pictures (N, h, w, 3) in [-1, 1] to what losses.vgg_loss takes, or None. weights: of pixel
    loss, feature loss and the generator's GAN loss. ema: decay of the running average per update. head_start: number of
    updates in which the discriminator learns alone. smoothing: as in losses.d_loss. pixel_loss: "mse" or "mae"; the MSE
    is measured in any case.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model | None = None,
        vgg: Callable[[Tensor], Any] | None = None,
        weights: tuple[float, float, float] = (1.0, 0.0, 0.0),
        ema: float = 0.999,
        head_start: int = 0,
        smoothing: float = 0.0,
        pixel_loss: str = "mse",
    ) -> None:
        super().__init__()
        set_graph_optimizer(two_players=discriminator is not None)
        self.generator, self.discriminator = generator, discriminator
        self.average = keras.models.clone_model(generator)
        self.average.set_weights(generator.get_weights())
        self.average.trainable = False
        # In a lambda Keras does not see VGG19 as a part of this model, and does not save its weights.
        self.vgg = vgg if vgg is None else lambda picture: vgg(picture)
        self.pixel_weight, self.vgg_weight, self.gan_weight = weights
        self.ema, self.head_start, self.smoothing, self.pixel_loss = ema, head_start, smoothing, pixel_loss
        self.earlier = generator.name in EARLIER  # one of the networks before SRResNet, which learn only on Y
        self.fixed_statistics = False
        self.replicas = replicas()
        self.updates = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="updates")
        names = ["mse"] if pixel_loss == "mse" else ["mse", pixel_loss]
        if vgg:
            names.append("vgg")
        if discriminator:
            names += ["gan", "d_loss", "d_real", "d_fake"]
        self.terms = {name: keras.metrics.Mean(name=name) for name in names}

    def call(self, lr: Tensor, training: bool = False) -> Tensor:
        """Super-resolve lr (N, h, w, 3) uint8 -> sr (N, scale*h, scale*w, 3) in [-1, 1]."""
        if training and self.earlier:
            return self.generator(self.to_float(lr), training=True)
        if training:
            return fast_forward(self.generator, self.to_float(lr), self.fixed_statistics)
        return self.average(self.to_float(lr))

    def to_float(self, picture: Any) -> Tensor:
        """Convert uint8 in 0..255 to [-1, 1] in the type of the variables, which in mixed precision is float32."""
        return to_float(picture, self.variable_dtype)

    def fix_statistics(self) -> None:
        """From now on, normalize in training with the running statistics, as at test time, not with the batch's.

        Otherwise pictures with content that is rare in the training batches, such as white areas, come out wrong.
        """
        if not self.fixed_statistics:
            self.fixed_statistics = True
            self.make_train_function(force=True)

    def super_resolve(self, lr: np.ndarray) -> np.ndarray:
        """Super-resolve a picture with the running average: uint8 (h, w, 3) -> (scale*h, scale*w, 3)."""
        return super_resolve(self.average, lr)

    def updates_done(self) -> int:
        """Return the number of updates so far, including those before the run was resumed."""
        return int(ops.convert_to_numpy(self.updates))

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Return the sum of both players' losses, a scalar. Also updates the metrics and the running average.

        y: hr (N, crop, crop, 3) uint8. y_pred: sr of the same shape, in [-1, 1].
        """
        hr, sr = self.to_float(y), y_pred  # (N, crop, crop, 3)

        # Content loss: the distance of SR from HR, in pixels and in features (paper, sec. 2.2.1).
        compared = (luma(sr), luma(hr)) if self.earlier else (sr, hr)
        terms = {"mse": mse_loss(*compared)}
        if self.pixel_loss == "mae":
            terms["mae"] = mae_loss(*compared)
        loss = self.pixel_weight * terms[self.pixel_loss]
        if self.generator.losses:  # of DRCN's intermediate outputs
            loss += self.pixel_weight * sum(self.generator.losses)
        if self.vgg:
            wanted = keras.tree.map_structure(ops.stop_gradient, self.vgg(hr))
            terms["vgg"] = vgg_loss(self.vgg(sr), wanted)
            loss += self.vgg_weight * terms["vgg"]

        # The game. D learns to tell HR from SR; SR is a constant there, so that D's loss does not change G. G learns to
        # make D take SR for HR; D is frozen there, so that G's loss does not change D.
        if self.discriminator:
            logits_real = self.discriminator(hr, training=True)  # (N, 1)
            logits_fake = self.discriminator(ops.stop_gradient(sr), training=True)
            with frozen(self.discriminator):
                logits_sr = self.discriminator(sr, training=True)
            terms |= {"gan": g_gan_loss(logits_sr), "d_loss": d_loss(logits_real, logits_fake, self.smoothing)}
            terms |= {"d_real": ops.mean(ops.sigmoid(logits_real)), "d_fake": ops.mean(ops.sigmoid(logits_fake))}
            loss += self.gan_weight * terms["gan"]
            if self.head_start:
                # With zero gradients the generator rests, but Adam's step count runs on: its first steps afterwards
                # would be too long, for which TwoPlayersAdam corrects.
                loss *= ops.cast(self.updates >= self.head_start, loss.dtype)
            loss += terms["d_loss"]

        for name, value in terms.items():
            self.terms[name].update_state(value)
        # Here, since within fit() JAX carries all variables through one compiled update, of which only call() and this
        # method are ours. So the average takes in the weights from before the optimizer's step.
        self.update_average()
        # If several devices share a batch, each computes the mean over its own part, and the gradients are summed.
        return loss if self.replicas == 1 else loss / self.replicas

    def update_average(self) -> None:
        """Count the update and move the average towards the generator, including batch-normalization statistics."""
        self.updates.assign(self.updates + 1)
        n = ops.cast(self.updates, self.variable_dtype)
        if self.vgg or self.discriminator:
            # The second stage starts from trained weights. Adam's bias correction: the mean covers all updates so far.
            keep = self.ema * (1 - self.ema ** (n - 1)) / (1 - self.ema**n)
        else:
            # The warm-up's first weights are far from good, so the mean covers about the last ninth of the updates.
            keep = ops.minimum(self.ema, (1 + n) / (10 + n))
        for average, variable in zip(self.average.variables, self.generator.variables, strict=True):
            average.assign(keep * average + (1 - keep) * ops.stop_gradient(variable.value))


def to_float(picture: Any, dtype: str = "float32") -> Tensor:
    """Convert pictures of any shape from uint8 in 0..255 to a tensor of `dtype` in [-1, 1]."""
    return ops.cast(picture, dtype) / 127.5 - 1.0


def to_uint8(picture: Tensor) -> np.ndarray:
    """Convert pictures of any shape from a tensor in [-1, 1] to a uint8 array in 0..255, rounded and clipped."""
    return pictures.to_uint8(ops.convert_to_numpy(picture))


def super_resolve(generator: keras.Model, lr: np.ndarray, self_ensemble: bool = False, **tiling: int) -> np.ndarray:
    """Super-resolve a picture tile by tile: uint8 (h, w, 3) -> (scale*h, scale*w, 3).

    self_ensemble: take the mean over the eight flips and turns of each tile. tiling: the arguments tile, halo and batch
    of by_tiles. Compiles the generator unless it is compiled.
    """
    if not generator.compiled:
        generator.compile(optimizer=None, jit_compile=JIT)

    def network(tiles: np.ndarray) -> np.ndarray:
        # With several replicas, Keras returns a result for each of them.
        return ops.convert_to_numpy(generator.predict_on_batch(tiles))[: len(tiles)]

    scaled = lr.astype(np.float32) / 127.5 - 1
    strips = by_tiles(mean_over_turns(network) if self_ensemble else network, scaled, **tiling)
    return np.concatenate([to_uint8(strip) for strip in strips])
