"""A faster forward pass of SRGAN_g for training, with the same variables and the same result up to rounding.

It differs from model.py in three points. With fixed statistics, batch normalization scales the convolution's kernel,
not every pixel. PReLU computes its gradient in one pass. The last PReLU and the last convolution are computed before
the last depth_to_space, not after it: a 9x9 convolution with 3 filters becomes a 5x5 one with 12 filters, which fill a
processor's vector registers.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

Tensor = Any  # of whichever backend Keras runs on
TENSORFLOW = keras.backend.backend() == "tensorflow"
if TENSORFLOW:
    import tensorflow as tf


def fast_forward(generator: keras.Model, lr: Tensor, fixed_statistics: bool) -> Tensor:
    """Super-resolve lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3), both in [-1, 1], with `generator`, an SRGAN_g.

    fixed_statistics: normalize with the running statistics; otherwise with the batch's, and update the running ones.
    """
    # The layers are in model.py's order. Convolutions: the first, two per residual block, one after the blocks, one per
    # upsampling by 2, the last. Normalizations: two per block, one after the blocks. Slopes: one after the first
    # convolution, one per block, one per upsampling.
    convolutions, norms, slopes = (
        [layer for layer in generator.layers if isinstance(layer, kind)]
        for kind in (layers.Conv2D, layers.BatchNormalization, layers.PReLU)
    )
    blocks = len(norms) // 2
    upsamplings = convolutions[2 * blocks + 2 : -1]
    slopes = slopes or [None] * (1 + blocks + len(upsamplings))  # the tensorlayer variant has ReLU
    dtype = convolutions[0].compute_dtype  # bfloat16 in mixed precision, where the variables stay float32

    def normalized(x: Tensor, layer: Any, norm: Any) -> Tensor:
        if not fixed_statistics:
            return norm(layer(x), training=True)
        # gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta is a convolution with other weights and a bias.
        factor = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)  # (filters,)
        return convolve(x, layer.kernel * factor, norm.beta - norm.moving_mean * factor, dtype)

    x = convolve(lr, convolutions[0].kernel, convolutions[0].bias, dtype)  # (N, h, w, filters)
    x = skip = activation(x, slopes[0])
    for n in range(blocks):
        inner = activation(normalized(x, convolutions[2 * n + 1], norms[2 * n]), slopes[n + 1])
        x = x + normalized(inner, convolutions[2 * n + 2], norms[2 * n + 1])
    x = skip + normalized(x, convolutions[2 * blocks + 1], norms[2 * blocks])
    for layer, slope in zip(upsamplings[:-1], slopes[blocks + 1 :]):
        x = convolve(x, layer.kernel, layer.bias, dtype)  # (N, h, w, 4*filters)
        x = activation(ops.depth_to_space(x, 2), slope)  # (N, 2h, 2w, filters)
    # The last upsampling, with its depth_to_space moved to the very end.
    x = convolve(x, upsamplings[-1].kernel, upsamplings[-1].bias, dtype)
    x = activation(x, slopes[-1], copies=4)  # (N, scale*h/2, scale*w/2, 4*filters)
    kernel, bias = before_depth_to_space(convolutions[-1].kernel), ops.tile(convolutions[-1].bias, 4)
    x = convolve(x, kernel, bias, dtype)  # (N, scale*h/2, scale*w/2, 4*3)
    x = ops.cast(x, generator.layers[-1].compute_dtype)  # float32 even in mixed precision, because of the losses
    return ops.depth_to_space(ops.tanh(x), 2)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor, dtype: str) -> Tensor:
    """Convolve (N, h, w, in) -> (N, h, w, out) with zero padding, in `dtype`. kernel: (s, s, in, out), bias: (out,)."""
    return ops.conv(ops.cast(x, dtype), ops.cast(kernel, dtype), padding="same") + ops.cast(bias, dtype)


def activation(x: Tensor, slope: layers.PReLU | None, copies: int = 1) -> Tensor:
    """Apply the PReLU layer `slope`, or ReLU if it is None, to x (N, h, w, c).

    copies: how often the layer's slopes are repeated along the channels, 4 before a depth_to_space(2).
    """
    if slope is None:
        return ops.relu(x)
    slopes = ops.tile(ops.reshape(slope.alpha, (-1,)), copies)  # (channels of x,)
    return prelu(x, ops.cast(slopes, x.dtype))


def before_depth_to_space(kernel: Tensor) -> Tensor:
    """Return the kernel (t, t, 4c, 4f) that has the same effect before a depth_to_space(2) as `kernel` after it.

    kernel: (s, s, c, f) with odd s.
    """
    size, _, channels, filters = kernel.shape
    # A depth_to_space makes four pixels out of one. Pixel (i, j) of the four sees a window that begins i rows and j
    # columns further on. t = 2 * reach + 1 large pixels, which are `length` small ones, hold all four windows.
    reach = (size // 2 + 1) // 2
    length = 2 * (2 * reach + 1)
    windows = []
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        top, left = (2 * reach - size // 2 + offset for offset in (i, j))
        window = ops.pad(kernel, ((top, length - size - top), (left, length - size - left), (0, 0), (0, 0)))
        windows.append(ops.reshape(window, (length // 2, 2, length // 2, 2, channels, filters)))
    # The place inside a large pixel (2, 2) becomes part of the input channels, the four windows part of the output's.
    moved = ops.transpose(ops.stack(windows, axis=-2), (0, 2, 1, 3, 4, 5, 6))  # (t, t, 2, 2, c, 4, f)
    return ops.reshape(moved, (length // 2, length // 2, 4 * channels, 4 * filters))


def compiled(function: Callable) -> Callable:
    """Compile `function` with XLA, so that it needs one pass over its arrays; JAX compiles the whole update anyway."""
    return tf.function(function, jit_compile=True) if TENSORFLOW else function


@compiled
def prelu_forward(x: Tensor, slope: Tensor) -> Tensor:
    """Return x where it is positive, elsewhere slope * x."""
    return ops.where(x > 0, x, slope * x)


@compiled
def prelu_backward(gradient: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient with respect to x, and each pixel's part of the gradient with respect to the slopes."""
    return ops.where(x > 0, gradient, slope * gradient), gradient * ops.minimum(x, 0)


@ops.custom_gradient
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU with a gradient of its own: x where it is positive, elsewhere slope * x. x: (N, h, w, c), slope: (c,)."""

    def backward(gradient: Tensor) -> tuple[Tensor, Tensor]:
        by_x, parts = prelu_backward(gradient, x, slope)
        parts = ops.reshape(parts, (-1, slope.shape[0]))  # (pixels, c)
        ones = ops.ones((1, ops.shape(parts)[0]), parts.dtype)
        return by_x, (ones @ parts)[0]  # a sum as a matrix product, which uses all cores

    return prelu_forward(x, slope), backward
