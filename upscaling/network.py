"""A trained generator for upscaling alone: on a CPU in OpenVINO, without Keras; elsewhere in Keras.

The graph is made straight from the weights file, in a tenth of a second, so nothing is exported or kept. It is
SRGAN_g exactly, arranged for speed: batch normalization is part of the convolutions, and PReLU and the last
convolution come before the depth_to_space that they follow in model.py.
"""

import importlib.util
import re
import sys
from pathlib import Path

import h5py
import numpy as np

from upscaling.tiles import windows
from utils import UserError
from weights import check_hdf5, load_generator

ENGINES = ("auto", "openvino", "keras", "onnxruntime")
HINT = "INFERENCE_PRECISION_HINT"
PRECISIONS = {"auto": {}, "float32": {HINT: "f32"}, "bfloat16": {HINT: "bf16"}}
SHARING = {"ENABLE_CPU_PINNING": False}  # a thread bound to a core would wait for what else runs there: half the speed
OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|OOM|out of memory|failed to allocate|bad_alloc", re.IGNORECASE)
HALO = 3  # pixels of lr that the layers behind the residual blocks reach, whatever the scale
STRIP = 2**16  # pixels of lr that these layers take at a time; they hold 4 KB for each (float32, 64 filters)


class Network:
    """lr float32 (N, h, w, 3) -> sr float32 (N, scale*h, scale*w, 3), both in [-1, 1], any N, h and w.

    Raises MemoryError where there is too little. errors: what the engine raises then, among other things.
    """

    def __init__(self, function, scale, errors=RuntimeError):
        self.function, self.scale, self.errors = function, scale, errors

    def __call__(self, lr):
        try:
            return self.function(np.ascontiguousarray(lr, np.float32))
        except self.errors as error:
            if OUT_OF_MEMORY.search(str(error)):
                raise MemoryError from error
            raise


def load_network(path, engine="auto", precision="auto", trust_pickle=False):
    """The network of a weights file or of a file that export.py wrote: *.onnx and *.xml.

    engine: "openvino", "keras" (weights), "onnxruntime" (*.onnx), or "auto": OpenVINO where it is installed, can read
    the file and sees no GPU beside.
    precision: "float32", "bfloat16", or "auto": what OpenVINO finds fastest on this processor; float32 in Keras.
    trust_pickle: read a pickled g_srgan.npz. Raises UserError where the file is missing, damaged or no generator.
    """
    path, options = Path(path), PRECISIONS[precision] | SHARING
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    exported = path.suffix in (".onnx", ".xml")
    installed = importlib.util.find_spec("onnxruntime" if engine == "onnxruntime" else "openvino") is not None
    if engine == "auto":
        better_in_keras = path.suffix == ".npz" or not installed or gpu_in_keras()
        engine = "keras" if better_in_keras and not exported else "openvino"
    if engine == "keras":
        return keras_network(path, trust_pickle)
    if engine == "onnxruntime" and path.suffix != ".onnx":
        raise UserError(f"{path}: ONNX Runtime reads *.onnx alone; python export.py --format onnx writes one")
    if not installed:
        raise UserError(f"{path}: needs {engine} here; pip install {engine}")
    try:
        if engine == "onnxruntime":
            return onnx_network(path)
        return exported_network(path, options) if exported else openvino_network(path, options)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[-120:]
        raise UserError(f"{path}: damaged, or no generator ({reason}); move it away") from error


def gpu_in_keras():
    """True where a GPU is here that Keras can use. To import Keras takes seconds: first, is there one at all?"""
    if not Path("/dev/nvidia0").exists():
        return False
    from config import prepare_environment

    prepare_environment()
    import keras

    return bool(keras.distribution.list_devices("gpu"))


def keras_network(path, trust_pickle):
    """The network in Keras, on a GPU where there is one."""
    from config import jit_compile, prepare_environment

    prepare_environment()
    import keras

    generator = load_generator(path, trust_pickle)
    generator.compile(optimizer=None, jit_compile=jit_compile())
    scale = generator.compute_output_shape((1, 8, 8, 3))[1] // 8
    errors = RuntimeError  # of JAX
    if keras.backend.backend() == "tensorflow":
        from tensorflow.errors import ResourceExhaustedError as errors
    return Network(lambda lr: keras.ops.convert_to_numpy(generator.predict_on_batch(lr)), scale, errors)


def import_openvino():
    """The package without its telemetry, which would fork at every import and report it to Google Analytics."""
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    return openvino


def exported_network(path, options):
    """The network that an exported file holds, as it is."""
    openvino = import_openvino()
    core = openvino.Core()
    graph = core.read_model(path)
    small = graph.clone()
    small.reshape([1, 8, 8, 3])
    network = core.compile_model(graph, "CPU", options)
    return Network(lambda lr: network(lr)[0], small.output(0).shape[1] // 8)


def onnx_network(path):
    """The network that a *.onnx holds, in ONNX Runtime."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, RuntimeException

    onnxruntime.set_default_logger_severity(4)  # what it raises says it
    try:
        network = onnxruntime.InferenceSession(path)
        seen = network.get_inputs()[0].name
        small = network.run(None, {seen: np.zeros((1, 8, 8, 3), np.float32)})[0]
    except (Fail, InvalidGraph, InvalidProtobuf, RuntimeException) as error:
        raise ValueError(str(error)) from error
    return Network(lambda lr: network.run(None, {seen: lr})[0], small.shape[1] // 8, (Fail, RuntimeException))


def openvino_network(path, options):
    """The network of a weights file: residual blocks on all of lr, then strip by strip, for there it holds most."""
    openvino = import_openvino()
    body, tail, scale = graphs(read_layers(path))
    core = openvino.Core()
    body, tail = (core.compile_model(graph, "CPU", options) for graph in (body, tail))

    def function(lr):
        count, height, width, _ = lr.shape
        features = body(lr, share_inputs=True, share_outputs=True)[0]  # (N, h, w, filters)
        sr = np.empty((count, scale * height, scale * width, 3), np.float32)
        rows = max(4 * HALO, STRIP // (count * width))
        for start, first, last in windows(height, rows, HALO):
            strip = tail(features[:, start : start + rows], share_inputs=True, share_outputs=True)[0]
            sr[:, scale * first : scale * last] = strip[:, scale * (first - start) : scale * (last - start)]
        return sr

    return Network(function, scale)


def read_layers(path):
    """{kind of layer: [its arrays, for each in the network's order]} of a Keras weights file."""
    check_hdf5(path)
    layers = {}
    with h5py.File(path) as file:
        for name in sorted(file["layers"], key=lambda name: [int(n) for n in re.findall(r"_(\d+)$", name)]):
            arrays = file["layers"][name]["vars"]
            layers.setdefault(re.sub(r"_\d+$", "", name), []).append([arrays[n][()] for n in sorted(arrays)])
    return layers


def graphs(layers):
    """(lr -> features (N, h, w, filters), features -> sr, scale): SRGAN_g of model.py, split where it grows."""
    openvino = import_openvino()
    ops = openvino.opset13
    kernels, norms, slopes = (layers.get(kind, []) for kind in ("conv2d", "batch_normalization", "p_re_lu"))
    blocks = len(norms) // 2
    doublings = len(kernels) - 2 * blocks - 3
    paper = bool(slopes)  # the other variant has ReLU and no slopes
    if doublings not in (1, 2, 3) or len(slopes) not in (0, 1 + blocks + doublings) or kernels[-1][0].shape[-1] != 3:
        raise ValueError(f"its {len(kernels)} convolutions are not SRGAN_g's")

    def conv(x, kernel, bias):
        reach = [len(kernel) // 2] * 2
        x = ops.convolution(x, np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), [1, 1], reach, reach, [1, 1])
        return ops.add(x, bias.reshape(1, -1, 1, 1))

    def normal_conv(x):
        (kernel,), (gamma, beta, mean, variance) = kernels.pop(0), norms.pop(0)
        factor = gamma / np.sqrt(variance + 1e-5)
        return conv(x, kernel * factor, beta - mean * factor)

    def activation(x, copies=1):
        return ops.prelu(x, np.tile(slopes.pop(0)[0].ravel(), copies)) if paper else ops.relu(x)

    def body(x):
        x = skip = activation(conv(x, *kernels.pop(0)))
        for _ in range(blocks):
            x = ops.add(x, normal_conv(activation(normal_conv(x))))
        return ops.add(skip, normal_conv(x))

    def tail(x):
        for _ in range(doublings - 1):
            x = ops.depth_to_space(activation(conv(x, *kernels.pop(0)), 4), "blocks_first", 2)
        x = activation(conv(x, *kernels.pop(0)), 4)
        x = conv(x, *before_depth_to_space(*kernels.pop(0)))
        return ops.depth_to_space(ops.tanh(x), "blocks_first", 2)

    def graph(part, channels):
        seen = ops.parameter([-1, -1, -1, channels], np.float32)
        out = part(ops.transpose(seen, [0, 3, 1, 2]))  # OpenVINO's convolutions take (N, c, h, w)
        return openvino.Model([ops.transpose(out, [0, 2, 3, 1])], [seen], part.__name__)

    return graph(body, 3), graph(tail, kernels[0][0].shape[2]), 2**doublings


def before_depth_to_space(kernel, bias):
    """The kernel (t, t, 4c, 4f) that does before a depth_to_space(2) what `kernel` (s, s, c, f) does after it.

    The last convolution is 9x9 with 3 filters; as 5x5 with 12 it fills a processor's vectors: 3 times as fast.
    """
    size, _, channels, filters = kernel.shape
    reach = (size // 2 + 1) // 2
    moved = np.zeros((2 * reach + 1, 2 * reach + 1, 2, 2, channels, 2, 2, filters), np.float32)
    for i, j, row, column in np.ndindex(2, 2, size, size):  # from its pixel (i, j) to where the kernel looks
        (y, down), (x, right) = divmod(i + row - size // 2, 2), divmod(j + column - size // 2, 2)
        moved[reach + y, reach + x, down, right, :, i, j] = kernel[row, column]
    return moved.reshape(*moved.shape[:2], 4 * channels, 4 * filters), np.tile(bias, 4)
