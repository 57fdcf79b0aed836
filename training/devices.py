"""Data-parallel training: the devices and processes that share each batch, and what one process does alone."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np

from engines import GPU, bfloat16_is_fast, gpu
from utils import UserError, reason

JAX = keras.backend.backend() == "jax"
NUM_PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"
abort_handlers: list[Any] = []  # keeps the callback of exit_on_abort alive


@contextlib.contextmanager
def distributed(devices: str, batch_size: int) -> Iterator[None]:
    """A scope in which networks are built and trained on one device ("1") or on all devices ("all").

    On JAX there may be several processes, which find one another by Keras' KERAS_DISTRIBUTION_* variables. Each device
    has the same weights and a part of each batch. Raises UserError if the processes cannot connect, if one of them is
    lost, or if `batch_size` is not a multiple of the number of devices.
    """
    several = NUM_PROCESSES in os.environ
    if several and not (JAX and devices == "all"):
        raise UserError(f"{NUM_PROCESSES} is set: several processes need KERAS_BACKEND=jax and --set TRAIN.devices=all")
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


def precision(wanted: str) -> str:
    """Return the Keras dtype policy for TRAIN.precision: for "auto", mixed_bfloat16 if that is faster, else float32.

    It is faster on GPUs and on the processors that engines.bfloat16_is_fast names.
    """
    if wanted != "auto":
        return wanted
    return "mixed_bfloat16" if gpu() or bfloat16_is_fast() else "float32"


def warn_of_unused_gpu() -> None:
    """Print a warning if the machine has a GPU that Keras cannot use, because training on the CPU takes weeks."""
    if GPU.exists() and not gpu():
        print("this machine has a GPU, but not the packages to train on it; see docs/DEVICES.md", file=sys.stderr)


def synchronize_statistics(*networks: keras.Model) -> None:
    """Make batch normalization use the statistics of the whole batch, as on one device, if devices share a batch."""
    for network in networks:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = replicas() > 1


def sharing_strategy(names: Sequence[str]) -> Any:
    """Return the Keras distribution (JAX) or TensorFlow strategy that shares each batch among the devices `names`."""
    if JAX:
        return keras.distribution.DataParallel(auto_shard_dataset=False)
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(names)


@contextlib.contextmanager
def joined_processes() -> Iterator[None]:
    """A scope in which this process is connected with the others and only the first one prints.

    Raises UserError if they cannot connect or one is lost.
    """
    import jax

    try:
        keras.distribution.initialize()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"KERAS_DISTRIBUTION_*: {reason(error)}") from error
    number, count = process_index_and_count()
    lost = f"process {number} of {count} lost another; start all again with the same command to resume"
    exit_on_abort(f"{Path(sys.argv[0]).name}: {lost}\n")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if number else sys.stdout):
        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if isinstance(error, ValueError) and "Gloo" not in str(error):  # Gloo connects CPUs
                raise
            raise UserError(lost) from error
    jax.distributed.shutdown()


def exit_on_abort(line: str) -> None:
    """Print `line` and exit with 2 if JAX aborts the process, as it does when the first process is lost.

    Without this, C++ would print a stack trace. From here on, messages that C++ writes to stderr are hidden, but those
    of Python are not.
    """
    # Python gets a copy of stderr; the file descriptor to which C++ writes leads nowhere.
    stderr = os.dup(2)
    sys.stderr = open(stderr, "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def print_and_exit(number: int) -> None:
        os.write(stderr, line.encode())
        os._exit(2)

    abort_handlers.append(print_and_exit)  # the C library's pointer does not keep it from being freed
    # Not Python's signal.signal, whose handlers are run by the interpreter: it gets no control back from abort().
    ctypes.CDLL(None).signal(signal.SIGABRT, print_and_exit)


def process_index_and_count() -> tuple[int, int]:
    """Return (index of this process from 0, number of processes); (0, 1) where there is only one."""
    if not JAX:
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Return whether this is the process that prints and writes files."""
    return process_index_and_count()[0] == 0


def replicas() -> int:
    """Return the number of replicas that compute a loss from their own part of a batch.

    On JAX it is always 1, because there the loss is that of the whole batch, however many devices share it.
    """
    if JAX:
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def max_over_processes(number: int) -> int:
    """Return the largest `number` of all processes; all of them must call this together."""
    if process_index_and_count()[1] == 1:
        return number
    from jax.experimental.multihost_utils import process_allgather

    return int(process_allgather(np.int32(number)).max())


def require_same(number: int, message: str) -> None:
    """Raise UserError(message) where `number` is less than in another process; all must call this together."""
    if max_over_processes(number) != number:
        raise UserError(message)


@contextlib.contextmanager
def without_distribution() -> Iterator[None]:
    """A scope for work that one process does without the others.

    Keras creates variables even when it only saves, and within a distribution all processes have to create them.
    """
    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def exit_process(status: int) -> NoReturn:
    """Exit with `status`.

    After a failure with several processes, exit without the usual clean-up, which would wait for the others forever.
    """
    if status and process_index_and_count()[1] > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
