"""SRGAN's generator (Ledig et al. 2017, fig. 4), written once, over the few primitives that it needs.

`p` makes them: Keras' layers in model.py, the faster arithmetic of a training step in training/fast_forward.py, and
OpenVINO's nodes in upscaling/graph.py. This file needs no library.

conv(x, side, filters)       convolution with zero padding: (N, h, w, c) -> (N, h, w, filters)
conv_norm(x, side, filters)  the same without a bias, and batch normalization
subpixel_conv(x, filters)    sub-pixel convolution (Shi et al. 2016): (N, h, w, c) -> (N, 2h, 2w, filters)
activation(x)                PReLU with one slope per channel (paper), or ReLU (TensorLayer)
add(x, y), tanh(x)           the sum of two tensors; the last activation
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Tensor = Any  # of Keras' backend, of OpenVINO, or a NumPy array
EPSILON = 1e-5  # of batch normalization, TensorLayer's, because the paper gives none


# Figure 4


def body(p: Any, lr: Tensor, blocks: int, filters: int, side: int = 9) -> Tensor:
    """Residual blocks, and a skip connection over all of them: lr (N, h, w, 3) -> features (N, h, w, filters).

    side: of the first kernel, 9 in the paper and 3 in TensorLayer.
    """
    x = skip = p.activation(p.conv(lr, side, filters))  # (N, h, w, filters)
    for _ in range(blocks):
        x = residual_block(p, x, filters)  # (N, h, w, filters)
    return p.add(skip, p.conv_norm(x, 3, filters))


def residual_block(p: Any, x: Tensor, filters: int) -> Tensor:
    """Two 3x3 convolutions with a skip connection around them: (N, h, w, filters) -> the same shape."""
    inner = p.activation(p.conv_norm(x, 3, filters))
    return p.add(x, p.conv_norm(inner, 3, filters))


def tail(p: Any, x: Tensor, doublings: int, filters: int, side: int = 9) -> Tensor:
    """Sub-pixel convolutions and the last one: features (N, h, w, filters) -> sr (N, scale*h, scale*w, 3) in [-1, 1].

    doublings: how often width and height are doubled, so that scale is 2**doublings. side: of the last kernel, 9 in the
    paper and 1 in TensorLayer.
    """
    for _ in range(doublings):
        x = p.activation(p.subpixel_conv(x, filters))  # (N, 2h, 2w, filters), (N, 4h, 4w, filters), ...
    return p.tanh(p.conv(x, side, 3))


# Primitives for a trained network


class Shuffled(NamedTuple):
    """Stands for depth_to_space(x, 2), (N, 2h, 2w, c), as long as only x (N, h, w, 4c) is computed."""

    x: Tensor


class Weights(NamedTuple):
    """The weights of an SRGAN_g, each kind in the order in which the network's layers are called."""

    convolutions: list[Any]  # a kernel (s, s, c, f), and a bias (f,) if no batch normalization follows
    norms: list[Any]  # gamma, beta, mean and variance, (filters,) each
    slopes: list[Any]  # (1, 1, filters) of the PReLUs; empty in the variant with ReLU

    @property
    def blocks(self) -> int:
        """The number of residual blocks, which have two normalizations each; one more follows them."""
        return len(self.norms) // 2

    @property
    def doublings(self) -> int:
        """How often width and height are doubled: by all convolutions but the first, the last and the normalized."""
        return len(self.convolutions) - len(self.norms) - 2

    @property
    def filters(self) -> int:
        """The number of feature maps."""
        return self.convolutions[0][0].shape[-1]

    @property
    def sides(self) -> tuple[int, int]:
        """The sides of the first and the last kernel."""
        return self.convolutions[0][0].shape[0], self.convolutions[-1][0].shape[0]


class Operations(NamedTuple):
    """What computes: functions of tensors, and the module for arithmetic with weights, NumPy or keras.ops."""

    convolve: Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, kernel (s, s, c, f), bias (f,)), zero padding
    prelu: Callable[[Tensor, Tensor], Tensor]  # (x, slopes (c,))
    relu: Callable[[Tensor], Tensor]
    add: Callable[[Tensor, Tensor], Tensor]
    tanh: Callable[[Tensor], Tensor]
    depth_to_space: Callable[[Tensor], Tensor]  # makes 2x2 pixels of each
    over_root: Callable[[Tensor, Tensor], Tensor]  # x / sqrt(y), of weights
    array: Any


class Trained:
    """The primitives with a network's weights: a layer takes the next ones of its kind when the network calls it.

    Batch normalization with its running statistics becomes a part of the convolution before it. The depth_to_space of a
    sub-pixel convolution waits, because the activations give the same before it, and so does the last convolution with
    another kernel: a 9x9 one with 3 filters becomes a 5x5 one with 12, which fill a processor's vector registers and
    take a third of the time.
    """

    def __init__(self, weights: Weights, operations: Operations) -> None:
        self.convolutions, self.norms, self.slopes = (list(kind) for kind in weights)  # those that are still to come
        self.has_slopes, self.operations = bool(weights.slopes), operations

    def conv(self, x: Tensor, side: int, filters: int) -> Tensor:
        """Convolve; if it is the last convolution, before the depth_to_space that waits."""
        kernel, bias = self.next_convolution(side, filters)
        if isinstance(x, Shuffled) and not self.convolutions:
            array = self.operations.array
            return Shuffled(self.operations.convolve(x.x, before_depth_to_space(kernel, array), array.tile(bias, 4)))
        return self.operations.convolve(self.finished(x), kernel, bias)

    def conv_norm(self, x: Tensor, side: int, filters: int) -> Tensor:
        """Convolve and normalize in one convolution."""
        (kernel,) = self.next_convolution(side, filters)
        gamma, beta, mean, variance = self.norms.pop(0)
        # gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta is a convolution with other weights and a bias.
        factor = self.operations.over_root(gamma, variance + EPSILON)  # (filters,)
        return self.operations.convolve(x, kernel * factor, beta - mean * factor)

    def subpixel_conv(self, x: Tensor, filters: int) -> Tensor:
        """Convolve to 4 * filters channels, of which depth_to_space will make pixels."""
        return Shuffled(self.conv(x, 3, 4 * filters))

    def activation(self, x: Tensor) -> Tensor:
        """PReLU, whose slopes are repeated for the four pixels if a depth_to_space waits; or ReLU."""
        waits = isinstance(x, Shuffled)
        y = x.x if waits else x
        if self.has_slopes:
            array = self.operations.array
            slopes = array.tile(array.reshape(self.slopes.pop(0), (-1,)), 4 if waits else 1)  # (c,)
            y = self.operations.prelu(y, slopes)
        else:
            y = self.operations.relu(y)
        return Shuffled(y) if waits else y

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of two tensors, for which no depth_to_space waits."""
        return self.operations.add(x, y)

    def tanh(self, x: Tensor) -> Tensor:
        """The last activation, and then the depth_to_space that waits: a sub-pixel convolution came before."""
        return self.operations.depth_to_space(self.operations.tanh(x.x))

    def finished(self, x: Tensor) -> Tensor:
        """Return x with its depth_to_space made, if one waits."""
        return self.operations.depth_to_space(x.x) if isinstance(x, Shuffled) else x

    def next_convolution(self, side: int, filters: int) -> Any:
        """Return the arrays of the next convolution. Raises ValueError if the network asks for another one."""
        arrays = self.convolutions.pop(0)
        size = arrays[0].shape
        if (size[0], size[-1]) != (side, filters):
            raise ValueError(f"a kernel is {size}, SRGAN_g's has side {side} and {filters} filters")
        return arrays


def before_depth_to_space(kernel: Tensor, array: Any) -> Tensor:
    """Return the kernel (t, t, 4c, 4f) that has the same effect before a depth_to_space(2) as `kernel` after it.

    kernel: (s, s, c, f) with odd s. array: NumPy or keras.ops, whichever `kernel` belongs to.
    """
    size, _, channels, filters = kernel.shape
    # A depth_to_space makes four pixels out of one. Pixel (i, j) of the four sees a window that begins i rows and j
    # columns further on. t = 2 * reach + 1 large pixels, which are `length` small ones, hold all four windows.
    reach = (size // 2 + 1) // 2
    length = 2 * (2 * reach + 1)
    windows = []
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        top, left = (2 * reach - size // 2 + offset for offset in (i, j))
        window = array.pad(kernel, ((top, length - size - top), (left, length - size - left), (0, 0), (0, 0)))
        windows.append(array.reshape(window, (length // 2, 2, length // 2, 2, channels, filters)))
    # The place inside a large pixel (2, 2) becomes part of the input channels, the four windows part of the output's.
    moved = array.transpose(array.stack(windows, axis=-2), (0, 2, 1, 3, 4, 5, 6))  # (t, t, 2, 2, c, 4, f)
    return array.reshape(moved, (length // 2, length // 2, 4 * channels, 4 * filters))
