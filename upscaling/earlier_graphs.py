"""The networks of methods/networks.py as OpenVINO graphs, built from the arrays of a weights file without Keras.

This file mirrors methods/networks.py and must follow its changes, as graph.py must follow those of model.py.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from methods.filters import bicubic_kernel
from upscaling.graph import conv, graph_input, graph_model, opset, read_arrays

if TYPE_CHECKING:
    import openvino

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # as in losses.luma
CONVOLUTIONS = {"srcnn": 3, "espcn": 3, "vdsr": 20, "drcn": 5}  # number of convolution layers in a weights file


def earlier_graph(path: Path, variant: str, scale: int) -> "openvino.Model":
    """Return the graph lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3), in [-1, 1], of a network before SRResNet.

    path: its weights file. variant: a key of CONVOLUTIONS. Raises OSError, LookupError or ValueError if the file does
    not hold that network.
    """
    ops = opset()
    arrays = read_arrays(path)
    if len(arrays["conv2d"]) != CONVOLUTIONS[variant]:
        raise ValueError(f"its {len(arrays['conv2d'])} convolutions are not those of {variant}")
    lr, x = graph_input(3)
    kernel = bicubic_kernel(scale).astype(np.float32)
    border = [0, 0, len(kernel) // 2, len(kernel) // 2]
    padded = ops.pad(x, border, border, "symmetric")
    bicubic = conv(padded, kernel, np.zeros(3 * scale**2, np.float32), padding="valid")
    bicubic = ops.depth_to_space(bicubic, "blocks_first", scale)  # (N, 3, scale*h, scale*w)
    enlarged = luma(bicubic)  # (N, 1, scale*h, scale*w)
    if variant == "espcn":
        added = ops.subtract(espcn(luma(x), arrays["conv2d"], scale), enlarged)
    elif variant == "srcnn":
        added = ops.subtract(chain(enlarged, arrays["conv2d"]), enlarged)
    elif variant == "vdsr":
        added = chain(enlarged, arrays["conv2d"])
    else:
        added = drcn(enlarged, arrays["conv2d"], arrays["supervised_mean"][0][0])
    return graph_model(lr, ops.add(bicubic, added), variant)


def luma(x: "openvino.Node") -> "openvino.Node":
    """Return Y (N, 1, h, w) of x (N, 3, h, w)."""
    return conv(x, LUMA.reshape(1, 1, 3, 1), np.zeros(1, np.float32))


def chain(x: "openvino.Node", kernels: list[list[np.ndarray]]) -> "openvino.Node":
    """Apply all convolutions to x (N, c, h, w), with ReLU between them. kernels: [kernel, bias] of each."""
    for kernel_and_bias in kernels[:-1]:
        x = opset().relu(conv(x, *kernel_and_bias))
    return conv(x, *kernels[-1])


def espcn(y: "openvino.Node", kernels: list[list[np.ndarray]], scale: int) -> "openvino.Node":
    """Return Y of sr (N, 1, scale*h, scale*w) from Y of lr (N, 1, h, w)."""
    ops = opset()
    for kernel_and_bias in kernels[:-1]:
        y = ops.tanh(conv(y, *kernel_and_bias))
    return ops.depth_to_space(conv(y, *kernels[-1]), "blocks_first", scale)


def drcn(x: "openvino.Node", kernels: list[list[np.ndarray]], logits: np.ndarray) -> "openvino.Node":
    """Return what DRCN adds to the enlarged Y, x (N, 1, h, w). logits: (16,), of the weights of its outputs."""
    ops = opset()
    *embedding, recursion, reconstruction, last = kernels
    for kernel_and_bias in embedding:
        x = ops.relu(conv(x, *kernel_and_bias))
    weights = np.exp(logits) / np.exp(logits).sum()
    total = None
    for weight in weights:
        x = ops.relu(conv(x, *recursion))
        output = ops.multiply(chain(x, [reconstruction, last]), np.float32(weight))
        total = output if total is None else ops.add(total, output)
    return total
