"""Data-parallel training: which devices compute, which process reads what, which one writes."""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

from utils import UserError, reason

JAX = keras.backend.backend() == "jax"
CPU = Path("/proc/cpuinfo")
SEVERAL = "KERAS_DISTRIBUTION_NUM_PROCESSES"


@contextlib.contextmanager
def distributed(devices, batch_size):
    """A scope in which networks are built and trained, on one device ("1") or on every one there is ("all").

    Several processes find one another by Keras' KERAS_DISTRIBUTION_* variables, on JAX. All hold the same weights.
    Raises UserError where they do not come together, where the batch cannot be shared out, where one is lost.
    """
    several = SEVERAL in os.environ
    if several and not (JAX and devices == "all"):
        raise UserError(f"{SEVERAL} is set: several processes need KERAS_BACKEND=jax and --set TRAIN.devices=all")
    if "TF_CONFIG" in os.environ and not JAX and devices == "all":
        raise UserError("TF_CONFIG is set: Keras 3 cannot train by it; for several machines use KERAS_BACKEND=jax")
    if devices == "1":
        yield
        return
    with joined_processes() if several else contextlib.nullcontext():
        names = keras.distribution.list_devices()
        if batch_size % len(names):
            raise UserError(f"TRAIN.batch_size={batch_size}: must be a multiple of the {len(names)} devices")
        with sharing_strategy(names).scope():
            yield


def gpu():
    """True where Keras sees a GPU."""
    return bool(keras.distribution.list_devices("gpu"))


def precision(wanted):
    """The precision that `wanted`, TRAIN.precision, stands for: "auto" is mixed_bfloat16 where that is faster.

    So it is on GPUs, on Intel's processors with AMX and on AMD's with AVX-512 for bfloat16. Intel's with AVX-512 and
    without AMX have the instructions too, and are slower with them.
    """
    if wanted != "auto":
        return wanted
    words = set(CPU.read_text().split()) if CPU.exists() else set()
    fast = gpu() or "amx_bf16" in words or {"AuthenticAMD", "avx512_bf16"} <= words
    return "mixed_bfloat16" if fast else "float32"


def processor():
    """The processor's name, and which instructions for bfloat16 it has."""
    text = CPU.read_text() if CPU.exists() else ""
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    return " ".join([name, *(flag for flag in ("avx512_bf16", "amx_bf16") if flag in text.split())])


def warn_of_unused_gpu():
    """Say on stderr what to do where this machine has a GPU that Keras does not see: the CPU would take weeks."""
    if Path("/dev/nvidia0").exists() and not gpu():
        print(
            "a GPU is here, but not the packages that train on it; see the README, JAX, several GPUs", file=sys.stderr
        )


def synchronize_statistics(*networks):
    """Let batch normalization use the whole batch's statistics, as on one device, where devices share it out."""
    for network in networks:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = replicas() > 1


def sharing_strategy(names):
    """What shares each batch among the devices of these `names` and sums their gradients."""
    if JAX:
        return keras.distribution.DataParallel(auto_shard_dataset=False)
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(names)


@contextlib.contextmanager
def joined_processes():
    """A scope in which this process is one of several; only the first prints."""
    import jax

    try:
        keras.distribution.initialize()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"KERAS_DISTRIBUTION_*: {reason(error)}") from error
    number, count = process()
    lost = f"process {number} of {count} lost another; start all again with the same command, they go on"
    exit_on_abort(f"{Path(sys.argv[0]).name}: {lost}\n")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if number else sys.stdout):
        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if isinstance(error, ValueError) and "Gloo" not in str(error):  # Gloo connects CPUs
                raise
            raise UserError(lost) from error
    jax.distributed.shutdown()


def exit_on_abort(line):
    """Where JAX aborts, as it does when the first process is lost, let `line` and exit 2 take the place of C++'s stack.

    JAX's own messages go unseen from here on; what Python prints is still seen.
    """
    stderr = os.dup(2)
    sys.stderr = open(stderr, "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def say(number):
        os.write(stderr, line.encode())
        os._exit(2)

    exit_on_abort.kept = say  # C holds no reference
    ctypes.CDLL(None).signal(signal.SIGABRT, say)


def process():
    """(number of this process, how many there are)."""
    if not JAX:
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_first():
    """True in the process that prints and writes."""
    return process()[0] == 0


def replicas():
    """How many parts of a batch have a loss and statistics of their own; on JAX 1: they are the whole batch's."""
    if JAX:
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def max_over_processes(number):
    """The max_over_processes `number` of all processes, each of which has to ask."""
    if process()[1] == 1:
        return number
    from jax.experimental.multihost_utils import process_allgather

    return int(process_allgather(np.int32(number)).max())


def require_same(number, message):
    """Raise UserError(message) in the processes where `number` is not what the others have; each has to ask."""
    if max_over_processes(number) != number:
        raise UserError(message)


@contextlib.contextmanager
def without_distribution():
    """A scope for what one process does without the others: Keras makes variables even where it only saves."""
    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def exit_process(status):
    """Exit; after a failure at once, for the other processes may be gone, or wait for this one."""
    if status and process()[1] > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
