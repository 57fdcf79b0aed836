"""SRGAN_g as OpenVINO graphs, built from the arrays of a weights file without Keras.

This file mirrors SRGAN_g of model.py and must follow its changes, as training/fast_forward.py must. The result is the
same, but arranged for speed, like fast_forward.py with fixed statistics: batch normalization is part of the
convolutions' kernels, and after the residual blocks each PReLU comes before its depth_to_space, and so does the last
convolution.
"""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from weights import check_hdf5

if TYPE_CHECKING:
    import openvino

EPSILON = 1e-5  # of batch normalization in model.py


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would fork at every import and report it to Google Analytics."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: cannot be imported
    import openvino

    return openvino


def opset() -> ModuleType:
    """Return the module with OpenVINO's operations."""
    return import_openvino().opset13


class Layers(NamedTuple):
    """The arrays of an SRGAN_g, each list in the order in which the layers are called in model.py.

    Convolutions: the first, two per residual block, one after the blocks, one per upsampling by 2, the last.
    Normalizations: two per block, one after the blocks. Slopes: one after the first convolution, one per block, one per
    upsampling.
    """

    kernels: list[list[np.ndarray]]  # [kernel (s, s, c, f)], and a bias (f,) if no batch normalization follows
    norms: list[list[np.ndarray]]  # [gamma, beta, mean, variance], (filters,) each
    slopes: list[list[np.ndarray]]  # [slope (1, 1, filters)] of the PReLUs; empty in the variant with ReLU

    @property
    def blocks(self) -> int:
        """The number of residual blocks."""
        return len(self.norms) // 2

    @property
    def upsamplings(self) -> int:
        """How often width and height are doubled: 1, 2 or 3."""
        return len(self.kernels) - 2 * self.blocks - 3  # without the first, the one after the blocks, and the last


def read_arrays(path: Path) -> dict[str, list[list[np.ndarray]]]:
    """Read a Keras weights file as {kind of layer: [arrays of each such layer, in the network's order]}.

    Raises OSError, LookupError or ValueError if it is no such file.
    """
    check_hdf5(path)
    found: dict[str, list[list[np.ndarray]]] = {"conv2d": [], "batch_normalization": [], "p_re_lu": []}
    with h5py.File(path) as file:
        # conv2d, conv2d_1, conv2d_2, ..., conv2d_10: by number, not by letter
        for name in sorted(file["layers"], key=lambda name: [int(n) for n in re.findall(r"_(\d+)$", name)]):
            arrays = file["layers"][name]["vars"]
            kind = re.sub(r"_\d+$", "", name)
            found.setdefault(kind, []).append([arrays[n][()].astype(np.float32) for n in sorted(arrays)])
    return found


def read_layers(path: Path) -> Layers:
    """Read the Layers of a Keras weights file. Raises OSError, LookupError or ValueError if it holds no SRGAN_g."""
    found = read_arrays(path)
    layers = Layers(found["conv2d"], found["batch_normalization"], found["p_re_lu"])
    slopes_fit = len(layers.slopes) in (0, 1 + layers.blocks + layers.upsamplings)
    if layers.upsamplings not in (1, 2, 3) or not slopes_fit or layers.kernels[-1][0].shape[-1] != 3:
        raise ValueError(f"its {len(layers.kernels)} convolutions are not SRGAN_g's")
    return layers


def body_graph(layers: Layers) -> "openvino.Model":
    """Return the graph lr (N, h, w, 3) -> features (N, h, w, filters): an SRGAN_g up to the skip over all blocks."""
    ops = opset()
    kernels, norms, blocks = layers.kernels, layers.norms, layers.blocks
    lr, x = graph_input(3)
    x = skip = activation(conv(x, *kernels[0]), layers, 0)
    for block in range(blocks):
        first, second = 2 * block, 2 * block + 1  # in norms; in kernels one more, because of the first convolution
        inner = activation(conv_norm(x, kernels[first + 1], norms[first]), layers, block + 1)
        x = ops.add(x, conv_norm(inner, kernels[second + 1], norms[second]))
    x = ops.add(skip, conv_norm(x, kernels[2 * blocks + 1], norms[2 * blocks]))
    return graph_model(lr, x, "body")


def tail_graph(layers: Layers) -> "openvino.Model":
    """Return the graph features (N, h, w, filters) -> sr (N, scale*h, scale*w, 3): the rest of an SRGAN_g."""
    ops = opset()
    upsampling_kernels = layers.kernels[2 * layers.blocks + 2 : -1]
    features, x = graph_input(upsampling_kernels[0][0].shape[2])
    for index, kernel_and_bias in enumerate(upsampling_kernels):
        # PReLU comes before depth_to_space here, with a copy of its slopes for each of the four pixels
        x = activation(conv(x, *kernel_and_bias), layers, layers.blocks + 1 + index, copies=4)
        if index < layers.upsamplings - 1:
            x = ops.depth_to_space(x, "blocks_first", 2)
    x = conv(x, *before_depth_to_space(*layers.kernels[-1]))
    return graph_model(features, ops.depth_to_space(ops.tanh(x), "blocks_first", 2), "tail")


def graph_input(channels: int) -> tuple["openvino.op.Parameter", "openvino.Node"]:
    """Return a graph's input (N, h, w, channels), and its transpose (N, channels, h, w) for OpenVINO's convolutions."""
    ops = opset()
    parameter = ops.parameter([-1, -1, -1, channels], np.float32)
    return parameter, ops.transpose(parameter, [0, 3, 1, 2])


def graph_model(parameter: "openvino.op.Parameter", x: "openvino.Node", name: str) -> "openvino.Model":
    """Return the graph from `parameter` to x (N, c, h, w); its output is x as (N, h, w, c)."""
    openvino = import_openvino()
    return openvino.Model([openvino.opset13.transpose(x, [0, 2, 3, 1])], [parameter], name)


def conv(x: "openvino.Node", kernel: np.ndarray, bias: np.ndarray, *, padding: str = "same") -> "openvino.Node":
    """Convolve x (N, c, h, w) with Keras' kernel (s, s, c, f) -> (N, f, h, w); padding: "same" (zeros) or "valid"."""
    ops = opset()
    reach = [len(kernel) // 2 if padding == "same" else 0] * 2
    x = ops.convolution(x, np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), [1, 1], reach, reach, [1, 1])
    return ops.add(x, bias.reshape(1, -1, 1, 1))


def conv_norm(x: "openvino.Node", kernels: list[np.ndarray], norm: list[np.ndarray]) -> "openvino.Node":
    """A convolution without bias, and batch normalization with its running statistics, as a single convolution."""
    (kernel,), (gamma, beta, mean, variance) = kernels, norm
    factor = gamma / np.sqrt(variance + EPSILON)  # (filters,)
    return conv(x, kernel * factor, beta - mean * factor)


def activation(x: "openvino.Node", layers: Layers, index: int, copies: int = 1) -> "openvino.Node":
    """Apply the network's PReLU number `index`, its slopes repeated `copies` times, or ReLU if it has no PReLUs."""
    ops = opset()
    return ops.prelu(x, np.tile(layers.slopes[index][0].ravel(), copies)) if layers.slopes else ops.relu(x)


def before_depth_to_space(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel (t, t, 4c, 4f) that does before a depth_to_space(2) what `kernel` (s, s, c, f) does after it.

    Returns the bias (4f,) for it too. The last convolution is 9x9 with 3 filters; as 5x5 with 12 it fills a processor's
    vector registers and is 3 times as fast. training/fast_forward.py has the same in Keras.
    """
    size, _, channels, filters = kernel.shape
    reach = (size // 2 + 1) // 2
    moved = np.zeros((2 * reach + 1, 2 * reach + 1, 2, 2, channels, 2, 2, filters), np.float32)
    # Each pixel before is a block of 2x2 after. At (row, column) of its kernel, pixel (i, j) of a block sees the pixel
    # (down, right) of the block that lies y blocks below and x blocks to the right.
    for i, j, row, column in np.ndindex(2, 2, size, size):
        (y, down), (x, right) = divmod(i + row - size // 2, 2), divmod(j + column - size // 2, 2)
        moved[reach + y, reach + x, down, right, :, i, j] = kernel[row, column]
    return moved.reshape(*moved.shape[:2], 4 * channels, 4 * filters), np.tile(bias, 4)
