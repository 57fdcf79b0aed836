"""A faster forward pass of SRGAN_g for training, with the same variables and the same result up to rounding.

The network is generator.py's. Its arithmetic differs from that of Keras' layers in three points. With fixed statistics,
batch normalization scales the convolution's kernel, not every pixel. PReLU computes its gradient in one pass. The last
PReLU and the last convolution are computed before the last depth_to_space.
"""

from collections.abc import Callable

import keras
from keras import layers, ops

from generator import Operations, Tensor, Trained, Weights, body, tail

TENSORFLOW = keras.backend.backend() == "tensorflow"
if TENSORFLOW:
    import tensorflow as tf


def fast_forward(generator: keras.Model, lr: Tensor, fixed_statistics: bool) -> Tensor:
    """Super-resolve lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3), both in [-1, 1], with `generator`, an SRGAN_g.

    fixed_statistics: normalize with the running statistics; otherwise with the batch's, and update the running ones.
    """
    p = FastTraining(generator, fixed_statistics)
    weights, (first, last) = p.weights, p.weights.sides
    features = body(p, lr, weights.blocks, weights.filters, first)  # (N, h, w, filters)
    return tail(p, features, weights.doublings, weights.filters, last)


class FastTraining(Trained):
    """The primitives of generator.py with the variables of `generator`, an SRGAN_g of Keras layers."""

    def __init__(self, generator: keras.Model, fixed_statistics: bool) -> None:
        convolutions, self.norm_layers, slopes = (
            [layer for layer in generator.layers if isinstance(layer, kind)]
            for kind in (layers.Conv2D, layers.BatchNormalization, layers.PReLU)
        )
        norms = [[norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance] for norm in self.norm_layers]
        self.weights = Weights([layer.variables for layer in convolutions], norms, [layer.alpha for layer in slopes])
        self.fixed_statistics = fixed_statistics
        self.dtype = convolutions[0].compute_dtype  # bfloat16 in mixed precision, where the variables stay float32
        output_dtype = generator.layers[-1].compute_dtype  # float32 even then, because of the losses
        operations = Operations(
            convolve=lambda x, kernel, bias: convolve(x, kernel, self.dtype) + ops.cast(bias, self.dtype),
            prelu=lambda x, slopes: prelu(x, ops.cast(slopes, x.dtype)),
            relu=ops.relu,
            add=ops.add,
            tanh=lambda x: ops.tanh(ops.cast(x, output_dtype)),
            depth_to_space=lambda x: ops.depth_to_space(x, 2),
            over_root=lambda x, y: x * ops.rsqrt(y),
            array=ops,
        )
        super().__init__(self.weights, operations)

    def conv_norm(self, x: Tensor, side: int, filters: int) -> Tensor:
        """Convolve and normalize: with fixed statistics in one convolution, otherwise with those of the batch."""
        if self.fixed_statistics:
            return super().conv_norm(x, side, filters)
        (kernel,) = self.next_convolution(side, filters)
        # Keras' layer normalizes with the batch's statistics and moves the running ones.
        return self.norm_layers.pop(0)(convolve(x, kernel, self.dtype), training=True)

    def subpixel_conv(self, x: Tensor, filters: int) -> Tensor:
        """A sub-pixel convolution, whose depth_to_space waits only before the last convolution."""
        # Waiting saves time only where a large kernel moves before the shuffle, which is the last convolution's.
        x = super().subpixel_conv(x, filters)
        return x if len(self.convolutions) == 1 else self.finished(x)


def convolve(x: Tensor, kernel: Tensor, dtype: str) -> Tensor:
    """Convolve (N, h, w, in) -> (N, h, w, out) with zero padding, in `dtype`. kernel: (s, s, in, out)."""
    return ops.conv(ops.cast(x, dtype), ops.cast(kernel, dtype), padding="same")


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
