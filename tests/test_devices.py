"""Two devices and two processes train what one device trains, and go on after one of them is lost.

Run as a script, this file is one such training: DEVICES STAGE UPDATE SIGNAL and what train.py is given;
it gets SIGNAL at that update.
"""

import contextlib
import os
import platform
import random
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from numerics import CLOSE, SEED, float64
from trainings import ROOT, TINY, datasets

from dataset import Crops, Pictures
from engines import GPU
from pictures import find_pictures
from training import devices
from training.command_line import command_line
from utils import UserError

JAX = keras.backend.backend() == "jax"
NEVER = ["", 0, signal.SIGTERM]
PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"

# By SGD, since Adam makes a gradient of 1e-16 as large as any other.
SETTINGS = TINY | {
    "MODEL.blocks": 2,
    "TRAIN.hr_img_path": ROOT / "data/valid",
    "TRAIN.optimizer": "sgd",
    "TRAIN.learning_rate_init": 1e-2,
    "TRAIN.learning_rate": 1e-2,
    "TRAIN.n_updates_init": 4,
    "TRAIN.report_every": 2,
    "TRAIN.fixed_statistics": 0,
    "TRAIN.content_loss": "mse",
    "TRAIN.seed": SEED,
    "VALID.hr_img_path": ROOT / "data/valid",
}


def start(folder, count="all", virtual=1, event=NEVER, environment=None):
    """A training below `folder` as a process, on `virtual` devices of which it uses `count`."""
    settings = SETTINGS | {"TRAIN.checkpoint_dir": folder, "TRAIN.samples_dir": folder, "TRAIN.devices": count}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}", "KERAS_BACKEND": keras.backend.backend()} | (environment or {})
    flags = f"--xla_force_host_platform_device_count={virtual} --xla_backend_optimization_level=0"
    environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    environment["JAX_COMPILATION_CACHE_DIR"] = f"{folder.parents[1]}/compiled"  # which is most of the work
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [f"{word}" for word in (sys.executable, __file__, virtual, *event, *words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def ended(*processes):
    """[(exit status, last line of what it said of errors)]"""
    said = [process.communicate(timeout=3000)[1].splitlines() for process in processes]
    return [(process.returncode, lines[-1] if lines else "") for process, lines in zip(processes, said)]


def finish(*processes):
    assert [status for status, _ in ended(*processes)] == [0] * len(processes)


def free_port():
    """One that the system gives to nobody else before it is used: below those that it gives out by itself."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port


def start_two(folder, *events):
    """Two processes of one training, found by a free port of this machine."""
    names = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free_port()}", PROCESSES: "2"}
    return [
        start(folder, event=event, environment=names | {"KERAS_DISTRIBUTION_PROCESS_ID": str(number)})
        for number, event in enumerate(events)
    ]


def assert_same_weights(ours, theirs):
    for name in ("srgan_init_state_4", "srgan_state_6", "g_srgan", "d_srgan"):
        pair = [datasets(folder / f"{name}.weights.h5") for folder in (ours, theirs)]
        assert pair[0].keys() == pair[1].keys()
        assert name not in ("g_srgan", "d_srgan") or {array.dtype for array in pair[0].values()} == {np.dtype(float)}
        apart = {key: np.abs(pair[0][key].astype(float) - pair[1][key]).max() for key in pair[0]}
        assert max(apart.values()) < CLOSE, max(apart, key=apart.get)


@pytest.fixture(scope="module")
def by_one(tmp_path_factory):
    """What one device makes."""
    folder = tmp_path_factory.mktemp("one") / "ours"
    finish(start(folder, count=1))
    return folder


@pytest.mark.numerical
def test_two_devices_train_what_one_trains(by_one, tmp_path):
    finish(start(tmp_path / "ours", virtual=2))
    assert_same_weights(tmp_path / "ours", by_one)


@pytest.mark.numerical
@pytest.mark.skipif(not JAX, reason="Keras trains in several processes on JAX alone")
def test_two_processes_train_what_one_device_trains_and_go_on_after_a_loss(by_one, tmp_path):
    """One of them is killed, then the other, then one is asked to stop; a single device finishes what they began."""
    kill, asked = signal.SIGKILL, ["srgan", 4, signal.SIGTERM]
    left, lost = ended(*start_two(tmp_path / "ours", NEVER, ["srgan_init", 3, kill]))
    assert lost[0] == -kill and left[0] == 2 and "process 0 of 2 lost another" in left[1]
    lost, left = ended(*start_two(tmp_path / "ours", ["srgan", 3, kill], NEVER))
    assert lost[0] == -kill and left[0] == 2 and "process 1 of 2 lost another" in left[1]
    assert [status for status, _ in ended(*start_two(tmp_path / "ours", NEVER, asked))] == [130, 130]
    finish(start(tmp_path / "ours", count=1))
    assert_same_weights(tmp_path / "ours", by_one)


def test_a_process_decodes_its_share_of_a_batch_and_no_more(monkeypatch):
    pictures = Pictures(find_pictures(ROOT / "data/valid"), 4, 32, memory=0)
    read, decoded = pictures.read, []
    monkeypatch.setattr(pictures, "read", lambda path: (decoded.append(path), read(path))[1])
    whole = Crops(pictures, 8, 0, 0, 2)[1]
    needed, decoded[:] = list(decoded), []
    shares = [Crops(pictures, 8, 0, 0, 2, share=(number, 4))[1] for number in range(4)]
    assert decoded == needed and len(needed) == 8
    assert all(np.array_equal(np.concatenate(parts), batch) for parts, batch in zip(zip(*shares), whole, strict=True))


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0", "cpu:1", "cpu:2"])
    with pytest.raises(UserError, match="TRAIN.batch_size=16: must be a multiple of the 3 devices"):
        with devices.distributed("all", 16):
            pass


@pytest.mark.parametrize("name, wanted", [(PROCESSES, "1"), (PROCESSES, "all"), ("TF_CONFIG", "all")])
def test_several_processes_need_jax_and_the_option(monkeypatch, name, wanted):
    """Each would train by itself, and overwrite the others' files."""
    if JAX and wanted == "all":
        pytest.skip("JAX trains in several processes")
    monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match=f"{name} is set.*KERAS_BACKEND=jax"):
        with devices.distributed(wanted, 16):
            pass


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        ("vendor_id : GenuineIntel flags : avx512f avx512_bf16 amx_bf16", "mixed_bfloat16"),
        ("vendor_id : GenuineIntel flags : avx512f avx512_bf16", "float32"),
        ("vendor_id : AuthenticAMD flags : avx512f avx512_bf16", "mixed_bfloat16"),
        ("vendor_id : AuthenticAMD flags : avx2", "float32"),
        ("", "float32"),
    ],
)
def test_the_precision_is_chosen_by_the_processor(monkeypatch, tmp_path, words, precision):
    """In training, where a GPU decides first, and in upscaling."""
    monkeypatch.setattr("engines.CPU", tmp_path / "cpuinfo")
    if words:
        (tmp_path / "cpuinfo").write_text(words)
    monkeypatch.setattr(devices, "gpu", lambda: False)
    assert devices.precision("auto") == precision and devices.precision("float32") == "float32"
    monkeypatch.setattr(devices, "gpu", lambda: True)
    assert devices.precision("auto") == "mixed_bfloat16"


def test_whether_keras_has_a_gpu_is_asked_of_the_backend_itself():
    """JAX raises if it is asked for its GPUs and has none."""
    assert devices.gpu() == any(name.startswith("gpu") for name in keras.distribution.list_devices())
    assert devices.gpu() <= GPU.exists()


MEMORY = """
import platform, resource, sys
from engines import load_keras, prepare_environment
if sys.argv[1] == "with Keras":
    prepare_environment()
    load_keras()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    bytearray(2**24).replace(b"x", b"y")
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, platform.libc_ver()[0])
"""


def test_freed_memory_is_not_cleared_again_and_again():
    words = [[sys.executable, "-c", MEMORY, which] for which in ("alone", "with Keras")]
    outputs = [subprocess.run(word, cwd=ROOT, capture_output=True, text=True, check=True).stdout for word in words]
    (given_back, library), (kept, _) = (output.split() for output in outputs)
    if library != "glibc":
        pytest.skip("elsewhere the C library is left as it is")
    assert int(kept) < int(given_back) / 10


CONVOLUTION = """
from engines import load_keras, prepare_environment
prepare_environment()
load_keras()
import tensorflow as tf
tf.function(lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"))(tf.ones((8, 24, 24, 64)), tf.ones((3, 3, 64, 64)))
"""


@pytest.mark.skipif(JAX or platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN in TensorFlow for x86")
@pytest.mark.parametrize(("option", "used"), [({}, True), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, False)])
def test_tensorflow_convolves_by_onednn_unless_it_is_turned_off(option, used):
    """Told by what oneDNN itself logs, on any processor."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {"ONEDNN_VERBOSE": "profile_exec", **option}
    command = [sys.executable, "-c", CONVOLUTION]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert (",convolution," in run.stdout) == used


def main(virtual, stage, update, number, *words):
    """train.py in float64 on so many virtual devices, without the table; gets signal `number` at an update."""
    if not JAX:
        import tensorflow as tf

        cpus = [tf.config.LogicalDeviceConfiguration()] * int(virtual)
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], cpus)
    import train  # only now: it asks TensorFlow for its devices

    progress = train.Report.progress

    def watched(report, done, terms):
        if (report.stage.name, done) == (stage, int(update)):
            os.kill(os.getpid(), int(number))
        progress(report, done, terms)

    train.Report.progress, train.evaluate = watched, lambda config: 0
    devices.precision = lambda wanted: "float64"  # no option: nobody else has a use for it
    sys.argv[0] = "train.py"
    with float64():
        devices.exit_process(train.main(*command_line(words)))


if __name__ == "__main__":
    main(*sys.argv[1:])
