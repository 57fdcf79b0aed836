"""upscale.py --ray on a cluster of this machine: what is killed, full or missing costs time, and no picture."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from upscaling.earlier_runs import RECORD

pytest.importorskip("ray")
pytest.importorskip("openvino")
ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "data/benchmark/Set5/LRx4/img_003.png"
WAIT = 600  # seconds for what takes one on an idle machine


def wait_for(condition):
    """What `condition` returns as soon as it is true."""
    end = time.monotonic() + WAIT
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return result


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def node(*words, inside=()):
    """A node of a cluster as a process, with one core. words: for `ray start`. inside: what starts it."""
    options = ["--num-cpus=1", "--disable-usage-stats", "--object-store-memory=80000000", "--block"]
    # Ray gives up a node whose helpers take 15 seconds to choose ports, as on a busy machine.
    names = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export")
    options += [f"--{name}-port={free_port()}" for name in names]
    command = [*inside, sys.executable, "-m", "ray.scripts.scripts", "start", *options, *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        kill(process)


def kill(process):
    """Kill a process and all that it has started, as if the machine had gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family)
    process.wait()


def workers(*nodes, states=("ray::upscale",)):
    """The processes that make a picture now, or are in another of these states."""
    makers = []
    for process in nodes:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                makers += [child] if " ".join(child.cmdline()).startswith(states) else []
    return makers


def has_started(process):
    assert process.poll() is None
    return any(child.name() == "raylet" for child in psutil.Process(process.pid).children(recursive=True))


class Cluster:
    """A head, and nodes that join it."""

    def __init__(self, stack):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        temporary = tempfile.mkdtemp(prefix="ray")  # a short path, for its sockets
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        words = [f"--port={port}", f"--temp-dir={temporary}", "--include-dashboard=false"]
        self.head = stack.enter_context(node("--head", *words))
        wait_for(lambda: has_started(self.head))

    @contextlib.contextmanager
    def joined(self, **options):
        """A further node, for as long as the block takes."""
        with node(f"--address={self.address}", **options) as process:
            wait_for(lambda: has_started(process))
            yield process

    def start(self, *words):
        """upscale.py in as a process; each core belongs to one worker."""
        command = [sys.executable, ROOT / "upscale.py", "in", "-o", "out", "--model=espcn", "--ray", self.address]
        return subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def cluster():
    with contextlib.ExitStack() as stack:
        yield Cluster(stack)


def picture(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(PICTURE) as image:
        image.resize((width, height)).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the command starts in, with 40 pictures, no two alike."""
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        picture(tmp_path / f"in/{number:02}.png", 60 + number, 40)
    return tmp_path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def assert_whole(folder, but=(), **options):
    """Each result is there once, is what is made without Ray, and nothing else is there."""
    names = {path.name for path in Path("in").iterdir()} - set(but)
    assert {path.name for path in Path("out").iterdir()} - {RECORD} == names
    lines = Path("out", RECORD).read_text().splitlines()
    assert len(lines) >= len(names) - options.get("unrecorded", 0) and all(name in "".join(lines) for name in names)
    for name in but:
        Path("in", name).rename(folder / name)
    command = [sys.executable, ROOT / "upscale.py", "in", "-o", "alone", "--model=espcn"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert all(np.array_equal(pixels(Path("out", name)), pixels(Path("alone", name))) for name in names)


def results():
    return list(Path("out").glob("*.png"))


def ended(process):
    said, errors = process.communicate(timeout=WAIT)
    return process.returncode, said, errors


@pytest.mark.parametrize("what", ["worker", "node"])
def test_a_killed_worker_or_node_costs_no_picture(cluster, folder, what):
    with cluster.joined() as other:
        process = cluster.start()
        wait_for(lambda: len(results()) > 5)
        if what == "worker":
            wait_for(lambda: workers(cluster.head, other))[0].kill()
        else:
            kill(other)
        status, said, errors = ended(process)
    assert (status, errors) == (0, "") and "40 upscaled" in said
    assert_whole(folder)


@pytest.mark.parametrize("number, status", [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_was_ended_goes_on_after_what_is_done(cluster, folder, number, status):
    process = cluster.start()
    wait_for(lambda: len(results()) > 5)
    process.send_signal(number)
    ended_with, _, errors = ended(process)
    assert (ended_with, errors.count("\n")) == (status, status > 0), errors
    wait_for(lambda: not workers(cluster.head))
    assert 5 < len(results()) < 40
    status, said, errors = ended(cluster.start())
    assert (status, errors) == (0, "") and f"{40 - int(said.split(' there')[0].split()[-1])} upscaled" in said
    assert "left to another" not in said


def test_a_picture_that_kills_its_worker_is_tried_three_times_and_named(cluster, folder):
    """A thread that kills whoever takes too much memory stands in for the kernel, which does the same."""
    picture(folder / "in/large.png", 7000, 4000)
    killed, over = [], threading.Event()

    def guard():
        while not over.is_set():
            for process in workers(cluster.head):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.memory_info().rss > 700e6:
                        process.kill()
                        killed.append(process.pid)
                        process.wait()
            time.sleep(0.02)

    thread = threading.Thread(target=guard)
    thread.start()
    try:
        status, said, errors = ended(cluster.start())
    finally:
        over.set()
        thread.join()
    assert status == 1 and "40 upscaled" in said and len(killed) == len(set(killed)) == 3
    assert errors.count("\n") == 1 and "in/large.png: 3 workers died" in errors
    assert_whole(folder, ["large.png"])


@pytest.mark.parametrize("where", ["in", "out"])
def test_what_one_node_cannot_read_or_write_another_one_makes(cluster, folder, where):
    """One node sees a small, full disk at that place: pictures are missing, results do not fit."""
    (folder / "out").mkdir()
    mount = (
        f'mount -t tmpfs -o size=4k none {folder / where} && head -c 4096 /dev/zero > {folder / where}/full; exec "$@"'
    )
    inside = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*inside, "mountpoint", "-q", folder / where]).returncode:
        pytest.skip("no file system may be mounted here")
    with cluster.joined(inside=inside) as process:
        command = cluster.start()
        wait_for(lambda: workers(process, states=("ray::upscale", "ray::IDLE")))  # it takes part
        status, said, errors = ended(command)
    assert (status, errors) == (0, "") and "40 upscaled" in said
    assert_whole(folder)


def test_what_is_wrong_with_a_picture_is_one_line_as_without_ray(cluster, folder):
    for path in sorted(Path("in").iterdir())[3:]:
        path.unlink()
    path = Path("in/00.png")
    path.write_bytes(path.read_bytes()[:-2000])  # upscaled as far as it goes
    Path("in/01.png").write_text("no picture")
    (status, said, errors), alone = (
        ended(cluster.start()),
        subprocess.run(
            [sys.executable, ROOT / "upscale.py", "in", "-o", "alone", "--model=espcn"], capture_output=True, text=True
        ),
    )
    assert (status, sorted(errors.splitlines())) == (alone.returncode, sorted(alone.stderr.splitlines()))
    assert "2 upscaled" in said and "damaged" in errors and "in/01.png" in errors
    status, said, errors = ended(cluster.start("--dry-run"))
    assert "2 there already" in said


def test_no_cluster_is_one_line(tmp_path, monkeypatch, capsys):
    import upscale

    picture(tmp_path / "a.png", 20, 10)
    words = [f"{tmp_path / 'a.png'}", "--model=bicubic", "--ray"]
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert upscale.main(upscale.command_line([*words, "127.0.0.1:9"])) == 2
    assert "--ray 127.0.0.1:9: no cluster" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert upscale.main(upscale.command_line([*words, "auto"])) == 2
    assert "pip install -r requirements-ray.txt" in capsys.readouterr().err
