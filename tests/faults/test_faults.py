"""Tiny trainings as processes: killed, stopped, started twice, on a full disk; they go on to the same weights.

KILLS=30 python -m pytest -s tests/faults kills as often, and so does THOROUGH=1; without them, a few times.
"""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from thorough import often
from trainings import assert_same_bits, run

KILLS = int(os.environ.get("KILLS", often(2, 30)))
UPDATES = often(24, 60)  # of both stages together
SETTINGS = {
    "TRAIN_batch_size": 2,
    "TRAIN_n_updates_init": UPDATES // 2,
    "TRAIN_n_updates": UPDATES // 2,
    "TRAIN_report_every": 3,
    "TRAIN_fixed_statistics": often(0, 0.2),  # with it, the warm-up is compiled twice
    "VALID_count": 1,
}

# each training is a process of its own, forked from one that has imported Keras and done nothing with it
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["keras"])


def live(folder, changes):
    """What a process does: a tiny run below `folder`, its output in a file there."""
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(run(folder, **SETTINGS | changes))


def start(folder, **changes):
    """A training in `folder`, in a process."""
    (folder / "output").write_text("")
    process = forks.Process(target=live, args=(folder, changes))
    process.start()
    return process


def ended(process):
    """The exit status of a process, waited for."""
    process.join(3000)
    assert process.exitcode is not None
    return process.exitcode


def until(process, happened):
    """Wait for `happened()`; False where the process ended before."""
    while process.is_alive():
        if happened():
            return True
        time.sleep(0.0005)
    return False


def writes(folder):
    """Is a file of the checkpoints only half there?"""
    with contextlib.suppress(FileNotFoundError):
        return any(name.startswith(".") for name in os.listdir(folder / "checkpoints"))
    return False


def told(folder):
    return (folder / "output").read_text()


def trains(folder):
    return "after update" in told(folder)


def validations(folder, stage):
    """[(update, PSNR, learning rate)] of a stage's log."""
    lines = map(json.loads, (folder / f"checkpoints/log_{stage}.jsonl").read_text().splitlines())
    return [(line["update"], line["val_psnr"], line.get("learning_rate")) for line in lines]


def assert_same_end(folder, other):
    """Both runs left the same weights and the same validations, to the last bit."""
    for stage, names in (("srgan_init", ["g_srgan_init"]), ("srgan", ["g_srgan", "d_srgan"])):
        assert validations(folder, stage) == validations(other, stage)
        for name in [*names, f"{stage}_state_{UPDATES // 2}"]:
            assert_same_bits(*(where / f"checkpoints/{name}.weights.h5" for where in (folder, other)))


@pytest.fixture(scope="module", autouse=True)
def quick_starts(tmp_path_factory):
    """JAX keeps what it compiles for the next process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("jax")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    began, process = time.monotonic(), start(folder)
    assert ended(process) == 0, told(folder)
    (folder / "seconds").write_text(f"{time.monotonic() - began}")
    return folder


def kill(folder, chance, asked, longest, **changes):
    """Run the training and end it at a random moment; what happened, or None where it ended by itself before.

    asked: the signal, if not to kill. A third of the kills wait for a file that is only half written, others for
    `longest` seconds at most.
    """
    process, wait, signal_sent = start(folder, **changes), chance.random() < 1 / 3, asked or signal.SIGKILL
    until(process, lambda: trains(folder))
    if wait and not asked:
        for _ in range(chance.randint(1, 10)):
            until(process, lambda: not writes(folder))
            until(process, lambda: writes(folder))
    else:
        process.join(chance.uniform(0, longest))
    writing = writes(folder)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal_sent)
    trained = (folder / f"checkpoints/srgan_state_{UPDATES // 2}.weights.h5").exists()
    if ended(process) == 0 or asked and trained:  # too late
        return None
    assert process.exitcode == (130 if asked else -signal.SIGKILL), told(folder)
    stage = "the second stage" if "srgan: after update" in told(folder) else "the warm-up"
    return f"{'stopped' if asked else 'killed while it wrote' if writing else 'killed'} in {stage}"


def test_a_killed_run_ends_in_the_same_weights(straight, tmp_path):
    """Killed, stopped and killed again, then left alone; every other run begins where the warm-up has ended."""
    chance, met, runs = random.Random(0), Counter(), 0
    longest = float((straight / "seconds").read_text()) / 4
    while sum(count for what, count in met.items() if "killed" in what) < KILLS:
        folder, stop = tmp_path / str(runs), (signal.SIGINT, signal.SIGTERM)[runs % 2]
        (folder / "checkpoints").mkdir(parents=True)
        for path in straight.glob("checkpoints/*srgan_init*") if runs % 2 else []:
            shutil.copy(path, folder / "checkpoints")
        for asked in (None, stop, None) if KILLS > 2 else (None, stop)[: 1 + runs % 2]:
            what = kill(folder, chance, asked, longest)
            if not what:
                break
            met[what] += 1
        else:
            assert ended(start(folder)) == 0, told(folder)
        assert_same_end(folder, straight)
        runs += 1
    print(f"{runs} runs:", dict(met))


@pytest.mark.skipif(not often(0, 1), reason="THOROUGH=1 runs it; tests/test_teacher.py resumes such a run otherwise")
def test_a_killed_warm_up_by_muon_with_a_teacher_ends_in_the_same_weights(straight, tmp_path):
    """And with a learning rate that decays, from the states before and within the decay, on degraded crops."""
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    from test_teacher import write_network

    teacher = write_network(tmp_path / "training.teacher.onnx")
    recipe = {
        "TRAIN_optimizer": "muon",
        "TRAIN_schedule_init": "stable",
        "TRAIN_teacher": teacher,
        "TRAIN_degradation": "photo",
        "mode": "srresnet",
    }
    chance, longest = random.Random(1), float((straight / "seconds").read_text()) / 8
    folders = [tmp_path / name for name in ("killed", "straight")]
    for folder, kills in zip(folders, (KILLS // 2, 0)):
        folder.mkdir()
        for _ in range(kills):
            kill(folder, chance, None, longest, **recipe)
        assert ended(start(folder, **recipe)) == 0, told(folder)
    assert_same_bits(*(folder / "checkpoints/g_srgan_init.weights.h5" for folder in folders))
    assert validations(folders[0], "srgan_init") == validations(folders[1], "srgan_init")


def test_a_damaged_state_is_named_and_the_one_before_it_used(straight, tmp_path):
    """Cut short, and of another version; with no other left, the run is refused and they are kept."""
    shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
    newest, older = (tmp_path / f"checkpoints/srgan_state_{n}.weights.h5" for n in (UPDATES // 2, UPDATES // 2 - 3))
    newest.write_bytes(newest.read_bytes()[:5000])
    assert ended(start(tmp_path)) == 0, told(tmp_path)
    assert f"{newest}: damaged" in told(tmp_path) and f"going on from {older.name}" in told(tmp_path)
    assert_same_end(tmp_path, straight)
    facts = newest.with_name(newest.name.replace(".weights.h5", ".json"))
    facts.write_text(facts.read_text().replace('"state_version": 2', '"state_version": 1'))
    older.write_bytes(b"")
    before = newest.read_bytes()
    assert ended(start(tmp_path)) == 2
    assert "state_version=1" in told(tmp_path).splitlines()[-1] and newest.read_bytes() == before


def test_a_second_run_on_the_same_checkpoints_is_refused(tmp_path):
    first = start(tmp_path)
    until(first, lambda: trains(tmp_path))
    os.kill(first.pid, signal.SIGSTOP)  # it keeps the lock, however slow the second is
    (tmp_path / "second").mkdir()
    second = start(tmp_path / "second", TRAIN_checkpoint_dir=tmp_path / "checkpoints")
    assert ended(second) == 2 and f"process {first.pid} " in told(tmp_path / "second").splitlines()[-1]
    first.kill()
    ended(first)


@pytest.mark.skipif(not often(0, 1), reason="THOROUGH=1 runs it; tests/test_train_input.py fills a disk otherwise")
def test_a_full_disk_stops_the_run_which_goes_on_once_there_is_room(straight, tmp_path):
    disk = tmp_path / "checkpoints"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2700k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        assert ended(start(tmp_path)) == 2
        assert "cannot be written: No space left on device" in told(tmp_path).splitlines()[-1]
        assert list(disk.glob("srgan_state_*")) and not list(disk.glob(".*"))
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        assert ended(start(tmp_path)) == 0, told(tmp_path)
        assert_same_end(tmp_path, straight)
    finally:
        subprocess.run(["umount", disk], check=True)
