"""Import what runs a trained network: Keras with one of its backends, or OpenVINO."""

import importlib.util
import sys
from types import ModuleType

from config import gpu, load_keras, prepare_environment
from utils import GPU, UserError, reason


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would fork at every import and report it to Google Analytics."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: cannot be imported
    import openvino

    return openvino


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


def gpu_in_keras() -> bool:
    """Return whether Keras can use a GPU of this machine."""
    backends = ("tensorflow", "jax")
    installed = importlib.util.find_spec("keras") and any(map(importlib.util.find_spec, backends))
    if not GPU.exists() or not installed:  # importing Keras just to find no GPU would take seconds
        return False
    try:
        import_keras()
    except UserError:  # OpenVINO does without
        return False
    return gpu()
