"""The networks of methods/earlier.py as Keras models, and build_generator, which makes any of the generators."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from losses import Tensor, luma
from methods.earlier import NETWORKS, super_resolve
from methods.filters import bicubic_kernel
from model import SRGAN_g, loss_dtype

SUPERVISION = 0.5  # DRCN's alpha: how much the losses of the single outputs count against the loss of their mean


def build_generator(variant: str = "paper", scale: int = 4, blocks: int = 16, filters: int = 64) -> keras.Model:
    """Return SRGAN_g, or the network of NETWORKS that `variant` names: lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3).

    Both are in [-1, 1]. blocks, filters: of SRGAN_g; the other networks ignore them.
    """
    if variant not in NETWORKS:
        return SRGAN_g(variant, scale, blocks, filters)
    lr = layers.Input((None, None, 3))
    return keras.Model(lr, super_resolve(KerasLayers(), variant, lr, scale), name=variant)


class KerasLayers:
    """The primitives of methods/earlier.py as new Keras layers and operations."""

    luma = staticmethod(luma)
    depth_to_space = staticmethod(ops.depth_to_space)

    def conv(self, side: int, filters: int, activation: str | None = None, start: str | None = None) -> Callable:
        """A convolution with zero padding. start: "zeros" or "unchanged", the kernel before the training."""
        # From Glorot's smaller kernels, ESPCN's tanh stays where it is nearly linear, and validation is 0.1 dB lower.
        initializer = unchanged if start == "unchanged" else start or ("he_normal" if activation else "glorot_uniform")
        return layers.Conv2D(filters, side, padding="same", activation=activation, kernel_initializer=initializer)

    def bicubic(self, lr: Tensor, scale: int) -> Tensor:
        """Enlarge lr (N, h, w, 3) as MATLAB's imresize does, but without rounding; (N, scale*h, scale*w, 3)."""
        kernel = bicubic_kernel(scale).astype(loss_dtype())
        reach = kernel.shape[0] // 2
        x = ops.pad(lr, [[0, 0], [reach, reach], [reach, reach], [0, 0]], "symmetric")
        return ops.depth_to_space(ops.conv(x, kernel, padding="valid"), scale)

    def weighted_mean(self, outputs: list[Tensor]) -> Tensor:
        """The mean of DRCN's outputs (N, h, w, 1), with weights that are learnt."""
        return SupervisedMean(dtype=loss_dtype())(layers.Concatenate()(outputs))

    def output(self, x: Tensor) -> Tensor:
        """Return x in the type of the losses."""
        return ops.cast(x, loss_dtype())


@keras.saving.register_keras_serializable("srgan")
def unchanged(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
    """Return the initial kernel of DRCN's recursion, of `shape` (3, 3, n, n), which leaves its input unchanged."""
    return ops.pad(ops.eye(shape[-1], dtype=dtype)[None, None], [[1, 1], [1, 1], [0, 0], [0, 0]])


@keras.saving.register_keras_serializable("srgan")
class SupervisedMean(layers.Layer):
    """DRCN's weighted mean of its outputs (N, h, w, outputs) -> (N, h, w, 1), with the loss of each of them.

    The paper's loss is (1 - alpha) * MSE of the mean + alpha * mean of the MSEs of the outputs. If each output has its
    weight in both, the latter is MSE of the mean + weighted variance of the outputs (Krogh and Vedelsby 1995), so it is
    enough to add alpha times the variance, for which HR is not needed. The weights are positive and sum to 1.
    """

    def build(self, shape: tuple[int, ...]) -> None:
        """Create the weights, which are equal at first."""
        self.logits = self.add_weight(shape=(shape[-1],), initializer="zeros", name="logits")

    def call(self, outputs: Tensor, training: bool = False) -> Tensor:
        """Return the mean, and in training add the loss."""
        weights = ops.softmax(self.logits)
        mean = ops.sum(weights * outputs, -1, keepdims=True)
        if training:
            self.add_loss(SUPERVISION * ops.mean(ops.sum(weights * ops.square(outputs - mean), -1)))
        return mean
