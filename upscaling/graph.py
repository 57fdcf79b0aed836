"""SRGAN_g as OpenVINO graphs, built from the arrays of a weights file without Keras. The network is generator.py's."""

import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import h5py
import numpy as np

from engines import import_openvino
from generator import Operations, Trained, Weights, body, tail
from weights import check_hdf5

if TYPE_CHECKING:
    import openvino


def opset() -> ModuleType:
    """Return the module with OpenVINO's operations."""
    return import_openvino().opset13


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


def read_weights(path: Path) -> Weights:
    """Read the Weights of a Keras weights file. Raises OSError, LookupError or ValueError if it holds no SRGAN_g."""
    found = read_arrays(path)
    slopes = [slope for (slope,) in found["p_re_lu"]]
    weights = Weights(found["conv2d"], found["batch_normalization"], slopes)
    slopes_fit = len(slopes) in (0, 1 + weights.blocks + weights.doublings)
    if weights.doublings not in (1, 2, 3) or len(weights.norms) % 2 == 0 or not slopes_fit:
        raise ValueError(f"its {len(weights.convolutions)} convolutions are not SRGAN_g's")
    return weights


def graphs(weights: Weights) -> tuple["openvino.Model", "openvino.Model"]:
    """Return an SRGAN_g as two graphs: lr (N, h, w, 3) -> features (N, h, w, filters) -> sr (N, scale*h, scale*w, 3).

    Raises ValueError if the weights are not an SRGAN_g's.
    """
    ops = opset()
    nodes = Operations(
        convolve=conv,
        prelu=ops.prelu,
        relu=ops.relu,
        add=ops.add,
        tanh=ops.tanh,
        depth_to_space=lambda x: ops.depth_to_space(x, "blocks_first", 2),
        over_root=lambda x, y: x / np.sqrt(y),
        array=np,
    )
    p, filters, (first, last) = Trained(weights, nodes), weights.filters, weights.sides
    lr, x = graph_input(3)
    features = graph_model(lr, body(p, x, weights.blocks, filters, first), "body")
    parameter, x = graph_input(filters)
    return features, graph_model(parameter, tail(p, x, weights.doublings, filters, last), "tail")


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
