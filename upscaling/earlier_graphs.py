"""The networks of methods/networks.py as graphs of OpenVINO, built from the arrays of a weights file without Keras.

This mirrors methods/networks.py and must follow its changes, as graph.py follows model.py.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from methods.filters import bicubic_kernel
from upscaling.graph import conv, graph_input, graph_model, opset, read_arrays

if TYPE_CHECKING:
    import openvino

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # as in losses.luma


def earlier_graph(path: Path, variant: str, scale: int) -> "openvino.Model":
    """lr (N, h, w, 3) -> sr (N, scale*h, scale*w, 3) of the weights file of a network before SRResNet.

    Raises OSError, LookupError or ValueError where it does not hold that network.
    """
    ops = opset()
    arrays = read_arrays(path)
    if len(arrays["conv2d"]) != CONVOLUTIONS[variant]:
        raise ValueError(f"its {len(arrays['conv2d'])} convolutions are not those of {variant}")
    lr, x = graph_input(3)
    kernel = bicubic_kernel(scale).astype(np.float32)
    around = [0, 0, len(kernel) // 2, len(kernel) // 2]
    picture = conv(ops.pad(x, around, around, "symmetric"), kernel, np.zeros(3 * scale**2, np.float32), padding="valid")
    picture = ops.depth_to_space(picture, "blocks_first", scale)
    enlarged = luma(picture)  # (N, 1, scale*h, scale*w)
    if variant == "espcn":
        added = ops.subtract(espcn(luma(x), arrays["conv2d"], scale), enlarged)
    elif variant == "srcnn":
        added = ops.subtract(chain(enlarged, arrays["conv2d"]), enlarged)
    elif variant == "vdsr":
        added = chain(enlarged, arrays["conv2d"])
    else:
        added = drcn(enlarged, arrays["conv2d"], arrays["supervised_mean"][0][0])
    return graph_model(lr, ops.add(picture, added), variant)


CONVOLUTIONS = {"srcnn": 3, "espcn": 3, "vdsr": 20, "drcn": 5}


def luma(x: "openvino.Node") -> "openvino.Node":
    """Y of x (N, 3, h, w), (N, 1, h, w)."""
    return conv(x, LUMA.reshape(1, 1, 3, 1), np.zeros(1, np.float32))


def chain(x: "openvino.Node", kernels: list[list[np.ndarray]]) -> "openvino.Node":
    """x through all convolutions, with ReLU between them."""
    for kernel_and_bias in kernels[:-1]:
        x = opset().relu(conv(x, *kernel_and_bias))
    return conv(x, *kernels[-1])


def espcn(y: "openvino.Node", kernels: list[list[np.ndarray]], scale: int) -> "openvino.Node":
    """Y of sr from that of lr."""
    ops = opset()
    for kernel_and_bias in kernels[:-1]:
        y = ops.tanh(conv(y, *kernel_and_bias))
    return ops.depth_to_space(conv(y, *kernels[-1]), "blocks_first", scale)


def drcn(x: "openvino.Node", kernels: list[list[np.ndarray]], logits: np.ndarray) -> "openvino.Node":
    """What DRCN adds to the enlarged Y."""
    ops = opset()
    *embedding, again, reconstruction, last = kernels
    for kernel_and_bias in embedding:
        x = ops.relu(conv(x, *kernel_and_bias))
    weights = np.exp(logits) / np.exp(logits).sum()
    total = None
    for weight in weights:
        x = ops.relu(conv(x, *again))
        output = ops.multiply(chain(x, [reconstruction, last]), np.float32(weight))
        total = output if total is None else ops.add(total, output)
    return total
