"""Start what runs a network, Keras with one of its backends or OpenVINO, and ask for GPUs and bfloat16."""

import ctypes
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from utils import UserError, prepare_streams, reason

CPU = Path("/proc/cpuinfo")  # where Linux describes the processor
GPU = Path("/dev/nvidia0")  # exists if the machine has one
BACKENDS = ("tensorflow", "jax")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt (malloc.h)
LARGEST_MMAP_THRESHOLD = 2**25  # bytes, glibc's limit on 64-bit systems


def prepare_environment() -> None:
    """Choose Keras' backend unless KERAS_BACKEND is set: TensorFlow, or JAX if only that is installed.

    Call this before Keras is imported. Raises ValueError with one line if there is no such backend.
    """
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    backend = os.environ.get("KERAS_BACKEND") or next(iter(installed), "tensorflow")
    if backend not in installed:
        raise ValueError(f"KERAS_BACKEND={backend}: must be tensorflow or jax, and installed")
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow (2.21) turns oneDNN's convolutions on by itself only where there is AVX-512. They are faster with AVX2
    # alone too, which is what most laptops have.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc; elsewhere do nothing.

    Every update allocates the same tensors again. Given back to Linux in between, their pages would have to be cleared
    each time, which takes a quarter of an update on two cores with AVX2 (docs/EXPERIMENTS.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, -1)  # never


def load_keras() -> None:
    """Import Keras and its backend, keep the memory that they free, and hide TensorFlow's messages during its import.

    The messages, about the processor and missing GPU drivers, are shown after all if the import fails with ImportError.
    """
    keep_freed_memory()
    # C++ writes them (TensorFlow 2.21) before it reads any setting, so the file descriptor itself is redirected.
    prepare_streams()  # of a process that was started without
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            import keras

            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                tf.config.list_physical_devices()  # searches for GPUs now, while its messages are hidden
                tf.get_logger().setLevel("ERROR")
        except ImportError:
            notices.seek(0)
            os.write(stderr, notices.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def available_device(wanted: str) -> str:
    """Return `wanted`, "CPU", "GPU" or "NPU", if OpenVINO lists one here; else say so in a line and return "CPU"."""
    listed = import_openvino().Core().available_devices  # such as CPU, GPU.0 and GPU.1
    if wanted in (name.partition(".")[0] for name in listed):
        return wanted
    print(f"OpenVINO has no {wanted} here ({', '.join(listed)}); the CPU computes", file=sys.stderr)
    return "CPU"


def import_keras() -> ModuleType:
    """Import Keras and its backend. Raises UserError if that is not possible."""
    try:
        prepare_environment()
        load_keras()
        import keras
    except (ValueError, ImportError) as error:
        raise UserError(f"Keras cannot be used: {reason(error)}") from error
    return keras


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would fork at every import and report it to Google Analytics."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: cannot be imported
    import openvino

    return openvino


def gpu() -> bool:
    """Return whether Keras can use a GPU."""
    import keras

    # Asked for its GPUs, JAX (0.10) raises RuntimeError if there is none.
    return any(name.startswith("gpu") for name in keras.distribution.list_devices())


def gpu_in_keras() -> bool:
    """Return whether Keras can use a GPU of this machine."""
    installed = importlib.util.find_spec("keras") and any(map(importlib.util.find_spec, BACKENDS))
    if not GPU.exists() or not installed:  # importing Keras just to find no GPU would take seconds
        return False
    try:
        import_keras()
    except UserError:  # OpenVINO does without
        return False
    return gpu()


def jit_compile() -> str | bool:
    """Return the jit_compile argument for Keras' compile().

    XLA makes training with TensorFlow twice as slow on a CPU but faster on a GPU; JAX always needs it.
    """
    import keras

    return "auto" if keras.backend.backend() == "jax" or gpu() else False


def processor() -> str:
    """Return the processor's name, "?" if it is unknown, followed by its instruction sets for bfloat16."""
    text = CPU.read_text() if CPU.exists() else ""
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    return " ".join([name, *(flag for flag in ("avx512_bf16", "amx_bf16") if flag in text.split())])


def bfloat16_is_fast() -> bool:
    """Return whether this processor computes faster in bfloat16 than in float32.

    Measured (docs/BENCHMARKS.md): Intel's with AMX and AMD's with AVX512_BF16 are faster, Intel's with AVX512_BF16 but
    without AMX slower.
    """
    words = set(CPU.read_text().split()) if CPU.exists() else set()
    return "amx_bf16" in words or {"AuthenticAMD", "avx512_bf16"} <= words
