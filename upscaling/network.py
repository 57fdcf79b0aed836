"""Load a trained generator for upscaling: in OpenVINO on a CPU, without Keras; in Keras on a GPU.

For OpenVINO, graph.py builds the graph from the weights file in a tenth of a second; nothing is exported or cached.
"""

import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from config import EARLIER
from engines import bfloat16_is_fast, gpu_in_keras, import_keras, import_openvino, jit_compile
from tiles import smallest_size, windows
from upscaling.graph import graphs, read_weights
from utils import UserError, reason
from weights import load_generator, read_metadata

ENGINES = ("auto", "openvino", "keras", "onnxruntime")
DEVICES = ("CPU", "GPU", "NPU")  # of OpenVINO; the last two are Intel's
# of ONNX Runtime, the fastest first: NVIDIA's GPUs, Apple's processors, any GPU in Windows
PROVIDERS = ("CUDAExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider")
EXPORTED = (".onnx", ".xml")  # suffixes of files that export.py wrote and an engine reads
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}  # {precision: OpenVINO's name}
OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|OOM|out of memory|failed to allocate|bad_alloc", re.IGNORECASE)
TAIL_HALO = 3  # how far the layers after the residual blocks see, in pixels of lr, at any scale
TAIL_PIXELS = 2**16  # pixels of lr that these layers take at a time; they need 4 KB for each (float32, 64 filters)


class Network:
    """A generator: lr float32 (N, h, w, 3) -> sr float32 (N, scale*h, scale*w, 3), both in [-1, 1], any N, h and w.

    Raises MemoryError if memory runs out. function: lr -> sr. errors: the classes of exceptions that `function` raises
    if memory runs out, and perhaps for other reasons too.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        scale: int,
        errors: type[Exception] | tuple[type[Exception], ...] = RuntimeError,
    ) -> None:
        self.function, self.scale, self.errors = function, scale, errors

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        """Super-resolve lr, as the class describes."""
        try:
            return self.function(np.ascontiguousarray(lr, np.float32))
        except self.errors as error:
            if OUT_OF_MEMORY.search(str(error)):
                raise MemoryError from error
            raise


def load_network(
    path: str | Path,
    engine: str = "auto",
    precision: str = "auto",
    trust_pickle: bool = False,
    device: str | None = None,
) -> Network:
    """Load the network of a weights file or of a file that export.py wrote (*.onnx or *.xml).

    engine: "openvino", "keras" (weights), "onnxruntime" (*.onnx, on the best of PROVIDERS that it has), or "auto":
    OpenVINO if it is installed, can read the file, and Keras has no GPU to use instead.
    precision: "float32", "bfloat16", or "auto": the faster one on this processor; Keras always computes in float32, and
    devices other than the CPU as they do by themselves.
    trust_pickle: read a pickled g_srgan.npz. device: of OpenVINO, such as "GPU"; if it is given, "auto" is OpenVINO.
    Threads may share the network; it takes one call at a time.
    Raises UserError if the file is missing, damaged or no generator, or cannot be run on `device`.
    """
    if precision == "auto":  # left to itself, OpenVINO takes bfloat16 even if that is slower
        precision = "bfloat16" if bfloat16_is_fast() else "float32"
    path, on_cpu = Path(path), device in (None, "CPU")
    options = cpu_options(precision) if on_cpu else {}
    engine = choose_engine(path, "openvino" if device and engine == "auto" else engine)
    if engine == "keras":
        return one_at_a_time(keras_network(path, trust_pickle))
    try:
        if engine == "onnxruntime":
            return one_at_a_time(onnx_network(path))
        read = exported_network if path.suffix in EXPORTED else openvino_network
        return one_at_a_time(read(path, device or "CPU", options))
    except (OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        # OpenVINO's messages begin with lines of its own source code; the last words say what is wrong.
        last_words = " ".join(str(error).split())[-120:] or reason(error)
        if not on_cpu:
            raise UserError(f"{path}: cannot be run on {device} ({last_words}); leave --device out") from error
        raise UserError(f"{path}: damaged, or no generator ({last_words}); move it away") from error


def cpu_options(precision: str) -> dict[str, str | int]:
    """Return OpenVINO's options for a CPU. precision: a key of PRECISIONS."""
    # A thread pinned to a core would wait for other programs there: half the speed.
    options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "ENABLE_CPU_PINNING": False}
    threads = os.environ.get("OMP_NUM_THREADS", "")  # which Ray and Slurm scripts set
    if threads.isdigit():
        options["INFERENCE_NUM_THREADS"] = int(threads)
    return options


def one_at_a_time(network: Network) -> Network:
    """Return `network` for threads that share it: each waits until the one before it is done.

    A request of OpenVINO refuses a second thread. With a request for each thread, four need four times the memory, and
    were no faster, since one alone uses all cores.
    """
    lock = threading.Lock()

    def function(lr: np.ndarray) -> np.ndarray:
        with lock:
            return network.function(lr)

    return Network(function, network.scale, network.errors)


def choose_engine(path: Path, engine: str) -> str:
    """Return the engine for a file, which `engine` names unless it is "auto".

    Raises UserError if there is no such file, or the engine is not installed or cannot read it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix in (".tflite", ".bin"):
        raise UserError(f"{path}: for other programs; name a weights file, *.onnx or *.xml")
    exported = path.suffix in EXPORTED
    if engine == "keras" and exported:
        raise UserError(f"{path}: Keras reads only weights files; choose another engine")
    installed = importlib.util.find_spec("onnxruntime" if engine == "onnxruntime" else "openvino") is not None
    if engine == "auto":
        better_in_keras = path.suffix == ".npz" or not installed or gpu_in_keras()
        engine = "keras" if better_in_keras and not exported else "openvino"
    if engine == "onnxruntime" and path.suffix != ".onnx":
        raise UserError(f"{path}: ONNX Runtime reads only *.onnx; python export.py --format onnx writes one")
    if engine != "keras" and not installed:
        raise UserError(f"{path}: needs {engine}; pip install {engine}")
    return engine


def keras_network(path: Path, trust_pickle: bool) -> Network:
    """Load weights into Keras, which computes on a GPU if there is one. trust_pickle: as for load_network."""
    keras = import_keras()
    generator = load_generator(path, trust_pickle)
    generator.compile(optimizer=None, jit_compile=jit_compile())
    scale = generator.compute_output_shape((1, 8, 8, 3))[1] // 8
    errors: type[Exception] = RuntimeError  # of JAX
    if keras.backend.backend() == "tensorflow":
        from tensorflow.errors import ResourceExhaustedError

        errors = ResourceExhaustedError
    return Network(lambda lr: keras.ops.convert_to_numpy(generator.predict_on_batch(lr)), scale, errors)


def exported_network(path: Path, device: str, options: dict[str, str | int]) -> Network:
    """Load a *.onnx or *.xml file into OpenVINO, unchanged. device, options: of OpenVINO's compile_model."""
    openvino = import_openvino()
    core = openvino.Core()
    graph = core.read_model(path)
    small = graph.clone()
    small.reshape([1, 8, 8, 3])
    network = core.compile_model(graph, device, options)
    return Network(lambda lr: network(lr)[0], small.output(0).shape[1] // 8)


def known_providers(installed: Sequence[str]) -> list[str]:
    """Return those of PROVIDERS that are `installed`, the best one first."""
    return [provider for provider in PROVIDERS if provider in installed]


def onnx_network(path: Path) -> Network:
    """Load a *.onnx file into ONNX Runtime, on the best provider; one line tells of a better one that does not start.

    Raises ValueError if the file cannot be used.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, RuntimeException

    onnxruntime.set_default_logger_severity(4)  # no log, since the exceptions say enough
    try:
        providers = known_providers(onnxruntime.get_available_providers())
        network = onnxruntime.InferenceSession(path, providers=providers)
        input_name = network.get_inputs()[0].name
        small = network.run(None, {input_name: np.zeros((1, 8, 8, 3), np.float32)})[0]
    except (Fail, InvalidGraph, InvalidProtobuf, RuntimeException) as error:
        raise ValueError(reason(error)) from error
    used = network.get_providers()[0]
    if used != providers[0]:  # a CUDA library that is missing, for example
        print(f"ONNX Runtime cannot start its {providers[0]}; {used} computes", file=sys.stderr)
    return Network(lambda lr: network.run(None, {input_name: lr})[0], small.shape[1] // 8, (Fail, RuntimeException))


def openvino_network(path: Path, device: str, options: dict[str, str | int]) -> Network:
    """Load a weights file into OpenVINO. device, options: of OpenVINO's compile_model.

    The residual blocks take all of lr at once. What follows them works on `scale` times the width and height and needs
    far more memory, so it takes the features strip by strip, and each strip sees TAIL_HALO pixels beyond its core.
    """
    openvino = import_openvino()
    core = openvino.Core()
    model = read_metadata(path).get("model", {})
    if model.get("variant") in EARLIER:
        from upscaling.earlier_graphs import earlier_graph  # imported only here, because it needs SciPy

        scale = model.get("scale", 4)
        network = core.compile_model(earlier_graph(path, model["variant"], scale), device, options)
        return Network(lambda lr: network(lr)[0], scale)
    weights = read_weights(path)
    body, tail = (core.compile_model(graph, device, options) for graph in graphs(weights))
    scale = 2**weights.doublings

    def function(lr: np.ndarray) -> np.ndarray:
        count, height, width, _ = lr.shape
        features = body(lr, share_inputs=True, share_outputs=True)[0]  # (N, h, w, filters)
        sr = np.empty((count, scale * height, scale * width, 3), np.float32)
        rows = max(4 * TAIL_HALO, TAIL_PIXELS // (count * width))
        rows = smallest_size(height, rows, TAIL_HALO)
        for start, first, last in windows(height, rows, TAIL_HALO):
            strip = tail(features[:, start : start + rows], share_inputs=True, share_outputs=True)[0]
            sr[:, scale * first : scale * last] = strip[:, scale * (first - start) : scale * (last - start)]
        return sr

    return Network(function, scale)
