"""The networks of methods/earlier.py as OpenVINO graphs, built from the arrays of a weights file without Keras."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from methods.earlier import super_resolve
from methods.filters import bicubic_kernel
from upscaling.graph import conv, graph_input, graph_model, opset, read_arrays

if TYPE_CHECKING:
    import openvino

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # as in losses.luma


def earlier_graph(path: Path, variant: str, scale: int) -> "openvino.Model":
    """Return the graph lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3), in [-1, 1], of a network before SRResNet.

    path: its weights file. variant: a key of NETWORKS. Raises OSError, LookupError or ValueError if the file does not
    hold that network.
    """
    p = Nodes(read_arrays(path))
    lr, x = graph_input(3)
    sr = super_resolve(p, variant, x, scale)
    if p.convolutions:
        raise ValueError(f"it has {len(p.convolutions)} convolutions more than {variant}")
    return graph_model(lr, sr, variant)


class Nodes:
    """The primitives of methods/earlier.py as OpenVINO's nodes (N, c, h, w), with the arrays of a weights file."""

    def __init__(self, arrays: dict[str, list[list[np.ndarray]]]) -> None:
        self.convolutions, self.arrays = list(arrays["conv2d"]), arrays  # the convolutions that are still to come

    def conv(self, side: int, filters: int, activation: str | None = None, start: str | None = None) -> Callable:
        """A convolution with zero padding and the next kernel and bias. Raises ValueError if it is another one."""
        kernel, bias = self.convolutions.pop(0)
        if (len(kernel), kernel.shape[-1]) != (side, filters):
            raise ValueError(f"a kernel is {kernel.shape}, that of the network has side {side} and {filters} filters")
        activate = getattr(opset(), activation) if activation else lambda x: x
        return lambda x: activate(conv(x, kernel, bias))

    def luma(self, x: "openvino.Node") -> "openvino.Node":
        """Return Y (N, 1, h, w) of x (N, 3, h, w)."""
        return conv(x, LUMA.reshape(1, 1, 3, 1), np.zeros(1, np.float32))

    def bicubic(self, lr: "openvino.Node", scale: int) -> "openvino.Node":
        """Enlarge lr (N, 3, h, w) as MATLAB's imresize does, but without rounding; (N, 3, scale*h, scale*w)."""
        kernel = bicubic_kernel(scale).astype(np.float32)
        border = [0, 0, len(kernel) // 2, len(kernel) // 2]
        padded = opset().pad(lr, border, border, "symmetric")
        enlarged = conv(padded, kernel, np.zeros(3 * scale**2, np.float32), padding="valid")
        return self.depth_to_space(enlarged, scale)

    def depth_to_space(self, x: "openvino.Node", scale: int) -> "openvino.Node":
        """Make scale x scale pixels of each."""
        return opset().depth_to_space(x, "blocks_first", scale)

    def weighted_mean(self, outputs: list["openvino.Node"]) -> "openvino.Node":
        """The mean of DRCN's outputs, with the weights of the file."""
        logits = self.arrays["supervised_mean"][0][0]
        weights = np.exp(logits) / np.exp(logits).sum()
        return sum(output * np.float32(weight) for output, weight in zip(outputs, weights, strict=True))

    def output(self, x: "openvino.Node") -> "openvino.Node":
        """Return x."""
        return x
