"""SRGAN_g's arithmetic arranged for speed in training: the same variables, the same result up to rounding.

Three things move to where they cost less. Batch normalization with fixed statistics scales the convolution's kernel
instead of every pixel. PReLU has a gradient in one pass. The last PReLU and the last convolution come before the
depth_to_space that they follow in model.py: 9x9 with 3 filters becomes 5x5 with 12, which fill a processor's vectors.
"""

import keras
from keras import layers, ops

TENSORFLOW = keras.backend.backend() == "tensorflow"
if TENSORFLOW:
    import tensorflow as tf


def fast_forward(generator, lr, fixed_statistics):
    """sr (N, scale*h, scale*w, 3) of `generator`, an SRGAN_g, for lr (N, h, w, 3), both in [-1, 1].

    fixed_statistics: batch normalization by its running statistics; otherwise by the batch's, and it learns them.
    """
    # The layers in model.py's order: first, two a block, the one behind the blocks, one a doubling, last.
    convolutions, norms, slopes = (
        [layer for layer in generator.layers if isinstance(layer, kind)]
        for kind in (layers.Conv2D, layers.BatchNormalization, layers.PReLU)
    )
    blocks = len(norms) // 2
    doublings = convolutions[2 * blocks + 2 : -1]
    slopes = slopes or [None] * (1 + blocks + len(doublings))  # the tensorlayer variant has none
    dtype = convolutions[0].compute_dtype  # bfloat16 in mixed precision, where the variables stay float32

    def normalized(x, layer, norm):
        if not fixed_statistics:
            return norm(layer(x), training=True)
        factor = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)  # (filters,)
        return convolve(x, layer.kernel * factor, norm.beta - norm.moving_mean * factor, dtype)

    x = convolve(lr, convolutions[0].kernel, convolutions[0].bias, dtype)  # (N, h, w, filters)
    x = skip = activation(x, slopes[0])
    for n in range(blocks):
        inner = activation(normalized(x, convolutions[2 * n + 1], norms[2 * n]), slopes[n + 1])
        x = x + normalized(inner, convolutions[2 * n + 2], norms[2 * n + 1])
    x = skip + normalized(x, convolutions[2 * blocks + 1], norms[2 * blocks])
    for layer, slope in zip(doublings[:-1], slopes[blocks + 1 :]):
        x = activation(ops.depth_to_space(convolve(x, layer.kernel, layer.bias, dtype), 2), slope)  # (N, 2h, 2w, ...)
    x = convolve(x, doublings[-1].kernel, doublings[-1].bias, dtype)
    x = activation(x, slopes[-1], copies=4)  # (N, scale*h/2, scale*w/2, 4*filters)
    kernel, bias = before_depth_to_space(convolutions[-1].kernel), ops.tile(convolutions[-1].bias, 4)
    x = convolve(x, kernel, bias, dtype)  # (N, scale*h/2, scale*w/2, 4*3)
    return ops.depth_to_space(ops.tanh(ops.cast(x, generator.layers[-1].compute_dtype)), 2)  # as losses want it


def convolve(x, kernel, bias, dtype):
    """A convolution of (N, h, w, in) with zero padding, in `dtype`. kernel: (s, s, in, out)."""
    return ops.conv(ops.cast(x, dtype), ops.cast(kernel, dtype), padding="same") + ops.cast(bias, dtype)


def activation(x, slope, copies=1):
    """PReLU by the layer `slope`, or ReLU where that is None. copies: how many channels each slope serves."""
    if slope is None:
        return ops.relu(x)
    slopes = ops.tile(ops.reshape(slope.alpha, (-1,)), copies)  # (channels of x,)
    return prelu(x, ops.cast(slopes, x.dtype))


def before_depth_to_space(kernel):
    """The kernel (t, t, 4c, 4f) that does before a depth_to_space(2) what `kernel` (s, s, c, f) does after it.

    Of the four pixels that a depth_to_space makes from one, pixel (i, j) sees the window that begins i rows and
    j columns further on.
    """
    size, _, channels, filters = kernel.shape
    reach = (size // 2 + 1) // 2  # t = 2 * reach + 1 pixels of twice the size hold every window
    length = 2 * (2 * reach + 1)
    windows = []
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        top, left = (2 * reach - size // 2 + offset for offset in (i, j))
        window = ops.pad(kernel, ((top, length - size - top), (left, length - size - left), (0, 0), (0, 0)))
        windows.append(ops.reshape(window, (length // 2, 2, length // 2, 2, channels, filters)))
    moved = ops.transpose(ops.stack(windows, axis=-2), (0, 2, 1, 3, 4, 5, 6))  # (t, t, 2, 2, c, 4, f)
    return ops.reshape(moved, (length // 2, length // 2, 4 * channels, 4 * filters))


def compiled(function):
    """`function` in one pass over its arrays, by XLA; JAX compiles the whole update in any case."""
    return tf.function(function, jit_compile=True) if TENSORFLOW else function


@compiled
def prelu_forward(x, slope):
    """The activation itself."""
    return ops.where(x > 0, x, slope * x)


@compiled
def prelu_backward(gradient, x, slope):
    """The gradient with respect to x, and each pixel's part of that with respect to the slopes."""
    return ops.where(x > 0, gradient, slope * gradient), gradient * ops.minimum(x, 0)


@ops.custom_gradient
def prelu(x, slope):
    """x where it is positive, else slope * x. x: (N, h, w, c), slope: (c,)."""

    def backward(gradient):
        by_x, parts = prelu_backward(gradient, x, slope)
        parts = ops.reshape(parts, (-1, slope.shape[0]))  # (pixels, c)
        ones = ops.ones((1, ops.shape(parts)[0]), parts.dtype)
        return by_x, (ones @ parts)[0]  # a product is summed on all cores

    return prelu_forward(x, slope), backward
