"""The two-player game as one Keras model: generator, its running average, discriminator, loss terms."""

import keras
import numpy as np
from keras import ops

from config import jit_compile
from losses import d_loss, g_gan_loss, mse_loss, vgg_loss
from training.devices import replicas
from training.fast_forward import fast_forward
from upscaling.tiles import by_tiles

JIT = jit_compile()


def frozen(model):
    """A scope in which `model` neither learns nor updates its statistics."""
    return keras.StatelessScope(state_mapping=[(v, ops.stop_gradient(v.value)) for v in model.variables])


def set_graph_optimizer(two_players):
    """Turn off two passes of TensorFlow's graph optimizer (2.21) that do harm here; JAX has no such passes.

    One drops the edges that make the discriminator's update wait until its weights have been read for the generator's
    loss: on a busy machine the generator would now and then be judged by a discriminator half updated. The other fails
    on the graph of two players, and says so on stderr.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        options = {"dependency_optimization": False, "remapping": not two_players}
        tf.config.optimizer.set_experimental_options(options)


class SRGAN(keras.Model):
    """Trains the generator alone (the warm-up) or against a discriminator, on uint8 crops.

    Call: lr (N, h, w, 3) uint8 -> sr (N, scale*h, scale*w, 3) in [-1, 1], by the generator in training, by its running
    average otherwise. fit() takes (lr, hr), uint8. Both players are updated at once, from one forward pass: there is no
    train_step here, since no weight is shared and the sum of both losses gives each player its own gradients.
    """

    def __init__(self, generator, discriminator=None, vgg=None, weights=(1.0, 0.0, 0.0), ema=0.999):
        """vgg: callable, pictures -> features. weights: of pixel MSE, feature MSE and GAN loss."""
        super().__init__()
        set_graph_optimizer(two_players=discriminator is not None)
        self.generator, self.discriminator = generator, discriminator
        self.average = keras.models.clone_model(generator)
        self.average.set_weights(generator.get_weights())
        self.average.trainable = False
        self.vgg = vgg if vgg is None else lambda picture: vgg(picture)  # hidden: not ours to save
        self.mse_weight, self.vgg_weight, self.gan_weight = weights
        self.ema = ema
        self.fixed_statistics = False
        self.replicas = replicas()
        self.updates = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="updates")
        names = ["mse"] + ["vgg"] * bool(vgg) + ["gan", "d_loss", "d_real", "d_fake"] * bool(discriminator)
        self.terms = {name: keras.metrics.Mean(name=name) for name in names}

    def call(self, lr, training=False):
        """Super-resolve lr (N, h, w, 3) uint8 -> (N, scale*h, scale*w, 3) in [-1, 1]."""
        if training:
            return fast_forward(self.generator, self.to_float(lr), self.fixed_statistics)
        return self.average(self.to_float(lr))

    def to_float(self, picture):
        """uint8 0..255 -> [-1, 1] in the variables' type: float32 in mixed precision too."""
        return to_float(picture, self.variable_dtype)

    def fix_statistics(self):
        """Let the generator train as it will be used: batch normalization by running statistics, no longer the batch's.

        Otherwise what is rare in training, such as white areas, comes out wrong.
        """
        if not self.fixed_statistics:
            self.fixed_statistics = True
            self.make_train_function(force=True)

    def super_resolve(self, lr):
        """lr uint8 (h, w, 3) -> sr uint8 (scale*h, scale*w, 3), by the generator's running average."""
        return super_resolve(self.average, lr)

    def updates_done(self):
        """How many updates this game has had, those before a resumption included."""
        return int(ops.convert_to_numpy(self.updates))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of both players' losses; no weight is shared, so each player follows its own."""
        hr, sr = self.to_float(y), y_pred  # (N, crop, crop, 3)

        # Content: how far SR is from HR, in pixels and in features (paper, sec. 2.2.1).
        terms = {"mse": mse_loss(sr, hr)}
        loss = self.mse_weight * terms["mse"]
        if self.vgg:
            terms["vgg"] = vgg_loss(self.vgg(sr), ops.stop_gradient(self.vgg(hr)))
            loss += self.vgg_weight * terms["vgg"]

        # The game. D learns to tell HR from SR, and what it learns must not reach G: SR is a constant there. G learns
        # to be taken for HR, and what it learns must not reach D: D is frozen there.
        if self.discriminator:
            real = self.discriminator(hr, training=True)  # (N, 1)
            fake = self.discriminator(ops.stop_gradient(sr), training=True)
            with frozen(self.discriminator):
                judged = self.discriminator(sr, training=True)
            terms |= {"gan": g_gan_loss(judged), "d_loss": d_loss(real, fake)}
            terms |= {"d_real": ops.mean(ops.sigmoid(real)), "d_fake": ops.mean(ops.sigmoid(fake))}
            loss += self.gan_weight * terms["gan"] + terms["d_loss"]

        for name, value in terms.items():
            self.terms[name].update_state(value)
        self.update_average()
        # Where devices share a batch out, their gradients are summed, and each has the mean over its own part.
        return loss if self.replicas == 1 else loss / self.replicas

    def update_average(self):
        """Move the average towards the generator, batch-normalization statistics too; faster at first."""
        self.updates.assign(self.updates + 1)
        n = ops.cast(self.updates, self.variable_dtype)
        keep = ops.minimum(self.ema, (1 + n) / (10 + n))
        for average, variable in zip(self.average.variables, self.generator.variables, strict=True):
            average.assign(keep * average + (1 - keep) * ops.stop_gradient(variable.value))


def to_float(picture, dtype="float32"):
    """uint8 0..255 -> [-1, 1]."""
    return ops.cast(picture, dtype) / 127.5 - 1.0


def to_uint8(picture):
    """float [-1, 1] -> uint8 0..255, rounded, as a NumPy array."""
    picture = ops.convert_to_numpy(picture)
    return ((picture + 1.0) * 127.5).round().clip(0, 255).astype("uint8")


def super_resolve(generator, lr, **tiling):
    """lr uint8 (h, w, 3) -> sr uint8 (scale*h, scale*w, 3), tile by tile; `tiling` as of tiles.by_tiles."""
    if not generator.compiled:
        generator.compile(optimizer=None, jit_compile=JIT)

    def network(lr):
        return ops.convert_to_numpy(generator.predict_on_batch(lr))[: len(lr)]  # a replica more, a result more

    return np.concatenate([to_uint8(strip) for strip in by_tiles(network, lr.astype(np.float32) / 127.5 - 1, **tiling)])
