"""The networks of SRGAN (Ledig et al. 2017, fig. 4): the generator SRGAN_g and the discriminator SRGAN_d.

Pictures go in and come out as (N, h, w, 3) in [-1, 1]. Two variants are built from the same functions: "paper" (9x9
first and last convolutions, PReLU) and "tensorlayer" (3x3 and 1x1, ReLU, a discriminator of 4x4 convolutions with
stride 2). Figure 4's generator itself is in generator.py; these two files can be copied alone.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from generator import EPSILON, body, tail

Tensor = Any  # of whichever backend Keras runs on
ROUNDING = 1e-3  # storing weights as float16 changes the mean of a kernel by less than this


def SRGAN_g(variant: str = "paper", scale: int = 4, blocks: int = 16, filters: int = 64) -> keras.Model:
    """The generator, SRResNet: lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3), both in [-1, 1], any h and w.

    variant: "paper" (fig. 4) or "tensorlayer" (its SRGAN_g). scale: 2, 4 or 8. blocks, filters: 16 and 64 in fig. 4.
    """
    head, last = (9, 9) if variant == "paper" else (3, 1)  # sides of the first and the last kernel
    lr, p = layers.Input((None, None, 3)), KerasLayers(variant)
    features = body(p, lr, blocks, filters, head)  # (N, h, w, filters)
    sr = tail(p, features, scale.bit_length() - 1, filters, last)  # (N, scale*h, scale*w, 3)
    return keras.Model(lr, sr, name="SRGAN_g")


def SRGAN_d(variant: str = "paper", crop: int = 96, filters: int = 64) -> keras.Model:
    """The discriminator: hr or sr (N, crop, crop, 3) in [-1, 1] -> logits (N, 1), high where it is taken for real.

    variant: "paper" (fig. 4, eight 3x3 convolutions; crop a multiple of 16) or "tensorlayer" (its SRGAN_d, meant for
    crops of 384; a multiple of 64). filters: of the first convolution, 64 in fig. 4.
    """
    picture = layers.Input((crop, crop, 3))
    features = tensorlayer_discriminator if variant == "tensorlayer" else paper_discriminator
    logits = layers.Dense(1, kernel_initializer=kernel_initializer(variant), dtype=loss_dtype())
    return keras.Model(picture, logits(features(picture, filters)), name="SRGAN_d")


# Parts of the generator


class KerasLayers:
    """The primitives of generator.py as new Keras layers. variant: "paper" or "tensorlayer"."""

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def conv(self, x: Tensor, side: int, filters: int) -> Tensor:
        """A convolution with zero padding: (N, h, w, c) -> (N, h, w, filters)."""
        return conv(x, filters, side, self.variant)

    def conv_norm(self, x: Tensor, side: int, filters: int) -> Tensor:
        """A convolution without bias, and batch normalization."""
        return batch_norm(conv(x, filters, side, self.variant, use_bias=False), self.variant)

    def subpixel_conv(self, x: Tensor, filters: int) -> Tensor:
        """A sub-pixel convolution (Shi et al. 2016): (N, h, w, c) -> (N, 2h, 2w, filters)."""
        icnr = ICNR(kernel_initializer(self.variant))
        return ops.depth_to_space(conv(x, 4 * filters, 3, self.variant, initializer=icnr), 2)

    def activation(self, x: Tensor) -> Tensor:
        """PReLU with one slope per channel (paper), or ReLU (TensorLayer)."""
        return layers.ReLU()(x) if self.variant == "tensorlayer" else layers.PReLU(shared_axes=[1, 2])(x)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of two tensors."""
        return layers.Add()([x, y])

    def tanh(self, x: Tensor) -> Tensor:
        """The last activation, in the type of the losses."""
        return layers.Activation("tanh", dtype=loss_dtype())(x)


@keras.saving.register_keras_serializable("srgan")
class ICNR(keras.initializers.Initializer):
    """Initializes a sub-pixel convolution with four equal kernels (Aitken et al. 2017).

    Each LR pixel then becomes four equal pixels, so the network starts without a checkerboard.
    """

    def __init__(self, initializer: Any) -> None:
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Return a kernel of `shape` (h, w, in, 4*out)."""
        height, width, channels, filters = shape
        kernel = self.initializer((height, width, channels, filters // 4), dtype=dtype)
        return ops.tile(kernel, (1, 1, 1, 4))  # depth_to_space: channel (2i + j) * filters/4 + c is pixel (i, j)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments from which Keras can recreate the initializer."""
        return {"initializer": keras.initializers.serialize(self.initializer)}


@keras.saving.register_keras_serializable("srgan")
class EqualSums(keras.constraints.Constraint):
    """Keeps the sums of a sub-pixel convolution's four kernels equal, and its four biases equal.

    A kernel multiplies a flat area by its sum. With equal sums a flat area stays flat and gets no mesh, whatever the
    other layers do. Source: after Sugawara et al. 2018, who use a filter behind the layer instead.
    """

    def __call__(self, weights: Tensor) -> Tensor:
        """Remove the differences between the means of the four from a kernel (h, w, in, 4*out) or biases (4*out,)."""
        inputs, outputs = math.prod(weights.shape[2:-1]), weights.shape[-1] // 4  # for biases 1 and out
        kernels = ops.reshape(weights, (-1, inputs, 4, outputs))  # (h*w, in, 4, out)
        means = ops.mean(kernels, axis=0, keepdims=True)  # (1, in, 4, out): the sums, divided by h*w
        excess = means - ops.mean(means, axis=2, keepdims=True)  # per tap
        return ops.reshape(kernels - excess, weights.shape)


@keras.saving.register_keras_serializable("srgan")
class NoCheckerboard(keras.constraints.Constraint):
    """Keeps the last kernel from passing patterns that alternate from pixel to pixel.

    After a sub-pixel convolution, texture is stronger in some of the four pixels of a cell than in others, and PReLU
    turns that into a pattern. A kernel removes the pattern if its four sums are equal, each over the taps that fall on
    one of the four pixels. Source: Sugawara et al. 2018.
    """

    def __call__(self, kernel: Tensor) -> Tensor:
        """Remove the differences between the four sums from a kernel (s, s, in, out)."""
        odd = np.arange(kernel.shape[0]) % 2
        # For each of the four pixels, 1 at the taps that fall on it and 0 at the others: (4, s, s)
        taps = np.stack([np.outer(odd == i, odd == j) for i in (0, 1) for j in (0, 1)])
        taps = ops.cast(taps, kernel.dtype)
        sums = ops.einsum("pst,stio->pio", taps, kernel)  # (4, in, out)
        excess = (sums - ops.mean(sums, axis=0)) / ops.sum(taps, axis=(1, 2))[:, None, None]  # per tap
        return kernel - ops.einsum("pst,pio->stio", taps, excess)


def prevent_mesh(generator: keras.Model) -> None:
    """Constrain the kernels of an SRGAN_g for the training that follows, so that it draws no mesh.

    Sub-pixel convolutions start with equal sums. If training without the constraints has already made them differ,
    removing the differences would spoil the network, so it is left as it is.
    """
    convolutions = [layer for layer in generator.layers if isinstance(layer, layers.Conv2D)]
    subpixel = [layer for layer in convolutions if isinstance(layer.kernel_initializer, ICNR)]
    variables = [variable for layer in subpixel for variable in (layer.kernel, layer.bias)]
    differences = [ops.max(ops.abs(EqualSums()(variable) - variable)) for variable in variables]
    if not variables or max(differences) > ROUNDING:
        return
    for variable in variables:
        variable.constraint = EqualSums()
    last = convolutions[-1].kernel
    if last.shape[0] > 1:  # TensorLayer's last kernel is 1x1
        last.constraint = NoCheckerboard()


# Parts of the discriminator


def paper_discriminator(x: Tensor, filters: int) -> Tensor:
    """Picture (N, crop, crop, 3) -> features (N, 16*filters), as in fig. 4."""
    x = leaky_relu(conv(x, filters, 3, "paper"))
    for multiple, strides in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
        x = leaky_relu(batch_norm(conv(x, multiple * filters, 3, "paper", strides, use_bias=False), "paper"))
    x = layers.Flatten()(x)  # (N, crop/16 * crop/16 * 8*filters)
    return leaky_relu(layers.Dense(16 * filters)(x))


def tensorlayer_discriminator(x: Tensor, filters: int) -> Tensor:
    """Picture (N, crop, crop, 3) -> features (N, crop/64 * crop/64 * 8*filters), as TensorLayer's SRGAN_d."""

    def normalized(x: Tensor, multiple: int, size: int, strides: int = 1) -> Tensor:
        return batch_norm(conv(x, multiple * filters, size, "tensorlayer", strides, use_bias=False), "tensorlayer")

    x = leaky_relu(conv(x, filters, 4, "tensorlayer", 2))
    for multiple in (2, 4, 8, 16, 32):
        x = leaky_relu(normalized(x, multiple, 4, 2))
    x = leaky_relu(normalized(x, 16, 1))  # (N, crop/64, crop/64, 16*filters)
    x = skip = normalized(x, 8, 1)
    x = leaky_relu(normalized(x, 2, 1))
    x = leaky_relu(normalized(x, 2, 3))
    x = leaky_relu(layers.Add()([normalized(x, 8, 3), skip]))
    return layers.Flatten()(x)


# Parts of both


def loss_dtype() -> str:
    """Return the type of the networks' outputs and of the losses: that of the variables, float32 in mixed precision."""
    return keras.config.dtype_policy().variable_dtype


def conv(
    x: Tensor, filters: int, size: int, variant: str, strides: int = 1, initializer: Any = None, **options: Any
) -> Tensor:
    """A convolution with zero padding: (N, h, w, c) -> (N, h/strides, w/strides, filters)."""
    initializer = initializer or kernel_initializer(variant)
    return layers.Conv2D(filters, size, strides, "same", kernel_initializer=initializer, **options)(x)


def kernel_initializer(variant: str) -> Any:
    """Return the initializer of kernels: N(0, 0.02) for "tensorlayer", otherwise Glorot's."""
    return keras.initializers.RandomNormal(0.0, 0.02) if variant == "tensorlayer" else "glorot_uniform"


def batch_norm(x: Tensor, variant: str) -> Tensor:
    """Batch normalization with TensorLayer's constants, in both variants, because the paper gives none."""
    initializer = keras.initializers.RandomNormal(1.0, 0.02) if variant == "tensorlayer" else "ones"
    return layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, gamma_initializer=initializer)(x)


def leaky_relu(x: Tensor) -> Tensor:
    """The discriminator's activation (paper, sec. 2.1.1)."""
    return layers.LeakyReLU(negative_slope=0.2)(x)
