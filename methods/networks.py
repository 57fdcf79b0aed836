"""The networks before SRResNet, from the functions of model.py: SRCNN, ESPCN, VDSR and DRCN.

They enlarge only Y; the colours are bicubic. Red, green and blue are each Y plus a part of Cb and Cr, so what the
network changes in Y is added to the bicubic picture. A new network is one function, one line in NETWORKS, and its name
in config.EARLIER.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from losses import Tensor, luma
from methods.filters import bicubic_kernel
from model import SRGAN_g, conv, loss_dtype

RECURSIONS = 16  # of DRCN
SUPERVISION = 0.5  # DRCN's alpha: how much the losses of the single outputs count against the loss of their mean


def build_generator(variant: str = "paper", scale: int = 4, blocks: int = 16, filters: int = 64) -> keras.Model:
    """Return SRGAN_g, or the network of NETWORKS that `variant` names: lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3).

    Both are in [-1, 1]. blocks, filters: of SRGAN_g; the other networks ignore them.
    """
    if variant not in NETWORKS:
        return SRGAN_g(variant, scale, blocks, filters)
    lr = layers.Input((None, None, 3))
    enlarged = bicubic(lr, scale)  # (N, scale*h, scale*w, 3)
    y = ops.cast(NETWORKS[variant](luma(lr), luma(enlarged), scale), loss_dtype())  # (N, scale*h, scale*w, 1)
    return keras.Model(lr, enlarged + (y - luma(enlarged)), name=variant)


def bicubic(lr: Tensor, scale: int) -> Tensor:
    """Enlarge lr (N, h, w, 3) as MATLAB's imresize does, but without rounding; (N, scale*h, scale*w, 3)."""
    kernel = bicubic_kernel(scale).astype(loss_dtype())
    reach = kernel.shape[0] // 2
    x = ops.pad(lr, [[0, 0], [reach, reach], [reach, reach], [0, 0]], "symmetric")
    return ops.depth_to_space(ops.conv(x, kernel, padding="valid"), scale)


# Each maps y (N, h, w, 1), and the same enlarged bicubically (N, scale*h, scale*w, 1), to Y of sr, all in [-1, 1].


def SRCNN(y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """Three convolutions on the enlarged picture: patches, mapping, reconstruction.

    Source: Dong et al. 2016, sec. 4.3.1: 64 and 32 filters of 9-5-5.
    """
    x = conv(enlarged, 64, 9, "paper", initializer="he_normal", activation="relu")
    x = conv(x, 32, 5, "paper", initializer="he_normal", activation="relu")
    return conv(x, 1, 5, "paper")


def ESPCN(y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """Three convolutions on the small picture, and a sub-pixel convolution. Source: Shi et al. 2016, sec. 3.2."""
    # From Glorot's smaller kernels, tanh stays where it is nearly linear, and validation is 0.1 dB lower.
    x = conv(y, 64, 5, "paper", initializer="he_normal", activation="tanh")
    x = conv(x, 32, 3, "paper", initializer="he_normal", activation="tanh")
    return ops.depth_to_space(conv(x, scale**2, 3, "paper"), scale)


def VDSR(y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """Twenty 3x3 convolutions that predict what is missing in the enlarged picture. Source: Kim et al. 2016a.

    The last one starts with zeros, and so training starts from the bicubic picture.
    """
    x = enlarged
    for _ in range(19):
        x = conv(x, 64, 3, "paper", initializer="he_normal", activation="relu")
    return enlarged + ops.cast(conv(x, 1, 3, "paper", initializer="zeros"), enlarged.dtype)


def DRCN(y: Tensor, enlarged: Tensor, scale: int) -> Tensor:
    """One convolution applied 16 times, with an output each time, and their weighted mean. Source: Kim et al. 2016b."""
    x = conv(enlarged, 256, 3, "paper", initializer="he_normal", activation="relu")
    x = conv(x, 256, 3, "paper", initializer="he_normal", activation="relu")
    recursion = layers.Conv2D(256, 3, padding="same", activation="relu", kernel_initializer=unchanged)
    reconstruction = layers.Conv2D(256, 3, padding="same", activation="relu", kernel_initializer="he_normal")
    last = layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros")
    outputs = []
    for _ in range(RECURSIONS):
        x = recursion(x)
        outputs.append(last(reconstruction(x)))
    missing = SupervisedMean(dtype=loss_dtype())(layers.Concatenate()(outputs))
    return enlarged + missing


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


NETWORKS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "srcnn": SRCNN,
    "espcn": ESPCN,
    "vdsr": VDSR,
    "drcn": DRCN,
}
