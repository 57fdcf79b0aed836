"""upscale.py --ray on a cluster of this machine: what is killed, full or missing costs time, and no picture."""

import contextlib
import json
import os
import re
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
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}  # whatever Ray has left at home
# Ray gives up what does not answer in time, as on a busy machine.
PATIENCE = {
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_health_check_timeout_ms": "60000",  # a node that was killed refuses the connection at once
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
}
WORKERS = ("ray::upscale", "ray::IDLE")  # titles of workers that make a picture, or could


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
    """A node of a cluster as a process, with one core. words: for `ray start`. inside: a command to run it in."""
    options = ["--num-cpus=1", "--disable-usage-stats", "--object-store-memory=80000000", "--block"]
    options += ["--include-log-monitor=false", "--no-monitor"]  # each would take seconds to start
    command = [*inside, sys.executable, "-m", "ray.scripts.scripts", "start", *options, *words]
    ended = []  # a node ends if its helpers have taken 15 seconds to start; no option changes that
    while len(ended) < 10:
        with tempfile.NamedTemporaryFile() as output:
            process = subprocess.Popen(command, env=NO_TOKEN | os.environ | PATIENCE, stdout=output, stderr=output)
            try:
                if wait_for(lambda: state(process, Path(output.name).read_text())) == "ready":
                    yield process
                    return
            finally:
                kill(process)
            ended.append(Path(output.name).read_text())
    pytest.fail(ended[-1])


def state(process, output):
    """ "ready" or "ended", or "" for a node that starts. output: what it has said."""
    if "Ray runtime started" in output:
        return "ready"
    raylets = [child.status() for child in children(process) if child.name() == "raylet"]
    return "ended" if process.poll() is not None or psutil.STATUS_ZOMBIE in raylets else ""


def children(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


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
        for child in children(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                makers += [child] if " ".join(child.cmdline()).startswith(states) else []
    return makers


class Cluster:
    """A head, and nodes that join it."""

    def __init__(self, stack, *words):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        temporary = tempfile.mkdtemp(prefix="ray")  # a short path, for its sockets
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        options = [f"--port={port}", f"--temp-dir={temporary}", "--include-dashboard=false"]
        self.head = stack.enter_context(node("--head", *options, *words))

    @contextlib.contextmanager
    def joined(self, **options):
        """A further node, for as long as the block takes."""
        with node(f"--address={self.address}", **options) as process:
            yield process

    def start(self, *words, program=(ROOT / "upscale.py",)):
        """upscale.py in as a process; each core, or GPU, belongs to one worker."""
        command = [sys.executable, *program, "in", "-o", "out", "--model=espcn", "--ray", self.address]
        return subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def cluster():
    # A shell starts what runs in the background with Ctrl-C ignored, which our processes would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        yield Cluster(stack)


def picture(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(PICTURE) as image:
        image.resize((width, height)).save(path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with 40 pictures, no two alike, each a tenth of a second's work or so, and what is made without Ray."""
    folder = tmp_path_factory.mktemp("alone")
    for number in range(40):
        picture(folder / f"in/{number:02}.png", 120 + number, 100)
    command = [sys.executable, ROOT / "upscale.py", "in", "-o", "out", "--model=espcn"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(alone, tmp_path, monkeypatch):
    """The folder that the command starts in, with these pictures."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(alone / "in", "in")
    return tmp_path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def assert_whole(alone, unrecorded=0, killed=0):
    """Each result is there once, is what is made without Ray; nothing else but what the killed had half written."""
    names = {path.name for path in (alone / "in").iterdir()}
    others = {path.name for path in Path("out").iterdir()} - {RECORD} ^ names
    assert len(others) <= killed and all(name.startswith(".half-") or name.endswith(".lock") for name in others)
    assert all(np.array_equal(pixels(Path("out", name)), pixels(alone / "out" / name)) for name in names)
    recorded = [json.loads(line)["result"] for line in Path("out", RECORD).read_text().splitlines()]
    assert len(recorded) == len(set(recorded)) >= len(names) - unrecorded and set(recorded) <= names


def results():
    return list(Path("out").glob("[!.]*.png"))


def ended(process):
    said, errors = process.communicate(timeout=WAIT)
    # Work for more than half a minute is announced; on a busy machine that is any.
    errors = [line for line in errors.splitlines(keepends=True) if " to upscale, " not in line]
    return process.returncode, said, "".join(errors)


@pytest.mark.parametrize("what", ["worker", "node"])
def test_a_killed_worker_or_node_costs_no_picture(cluster, alone, folder, what):
    with cluster.joined() as other:
        process = cluster.start()
        wait_for(lambda: len(results()) > 5)
        if what == "worker":
            wait_for(lambda: workers(cluster.head, other))[0].kill()
        else:
            kill(other)
        assert len(results()) < 40
        status, said, errors = ended(process)
    assert (status, errors) == (0, "") and "40 upscaled" in said
    assert_whole(alone, killed=1)


# upscale.py to which every picture is long work
ALL_LONG = """
import runpy, sys
sys.path[0] = sys.argv.pop(2)
del sys.argv[0]
from upscaling import plan
plan.LONG = plan.QUICK = 0
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_large_picture_is_made_in_parts(cluster, tmp_path, monkeypatch, killed):
    """Two nodes work on it at the same time, one of them on its lower half; one worker may be killed meanwhile."""
    monkeypatch.chdir(tmp_path)
    picture(Path("alone/in/large.png"), 300, 600)
    command = [sys.executable, ROOT / "upscale.py", "in", "-o", "out", "--model=espcn", "--tile=64"]
    subprocess.run(command, cwd="alone", check=True, capture_output=True)
    shutil.copytree("alone/in", "in")

    def rows_done():
        return sorted(int(path.stem[-6:]) for path in Path("out/.large.png.strips").glob("[!.]*.npz"))

    with cluster.joined() as other:
        process = cluster.start("--tile=64", program=["-c", ALL_LONG, ROOT / "upscale.py", ROOT])
        makers = wait_for(lambda: len(both := workers(cluster.head, other)) == 2 and both)
        wait_for(lambda: (rows := rows_done()) and rows[0] < 300 <= rows[-1])
        if killed:
            makers[0].kill()
        assert not results()
        status, said, errors = ended(process)
    assert (status, errors) == (0, "") and "1 upscaled" in said
    assert_whole(Path("alone"), killed=killed)


def test_a_large_picture_is_whole_where_parts_cannot_be_written(cluster, tmp_path, monkeypatch):
    """A file stands where the folder of finished strips would be; the last task makes all of them."""
    monkeypatch.chdir(tmp_path)
    picture(Path("alone/in/large.png"), 150, 150)
    command = [sys.executable, ROOT / "upscale.py", "in", "-o", "out", "--model=espcn", "--tile=64"]
    subprocess.run(command, cwd="alone", check=True, capture_output=True)
    shutil.copytree("alone/in", "in")
    Path("out").mkdir()
    Path("out/.large.png.strips").write_text("not a folder")
    with cluster.joined():
        process = cluster.start("--tile=64", program=["-c", ALL_LONG, ROOT / "upscale.py", ROOT])
        status, said, errors = ended(process)
    assert (status, errors) == (0, "") and "1 upscaled" in said
    assert [path.read_bytes() for path in results()] == [Path("alone/out/large.png").read_bytes()]


@pytest.mark.parametrize("number, status", [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_was_ended_goes_on_after_what_is_done(cluster, alone, folder, number, status):
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
    assert_whole(alone, unrecorded=number == signal.SIGKILL, killed=3 * (number == signal.SIGKILL))


def test_a_picture_that_kills_its_worker_is_tried_three_times_and_named(cluster, alone, folder):
    """A thread that kills whoever takes too much memory stands in for the kernel, which does the same."""
    Image.new("RGB", (7000, 4000)).save(folder / "in/large.png")
    killed, over = [], threading.Event()

    def guard():
        while not over.is_set():
            for process in workers(cluster.head):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.memory_info().rss > 700e6:
                        process.kill()
                        killed.append(process.pid)
                        process.wait()
            time.sleep(0.1)

    thread = threading.Thread(target=guard)
    thread.start()
    try:
        status, said, errors = ended(cluster.start())
    finally:
        over.set()
        thread.join()
    assert status == 1 and "40 upscaled" in said and len(killed) == len(set(killed)) == 3
    assert errors.count("\n") == 1 and "in/large.png: 3 workers died" in errors
    assert_whole(alone, killed=3)


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_a_token_that_ray_has_left_at_home_is_sent(folder, monkeypatch, mode):
    """ray.init() without a cluster writes one, and every later `ray start` asks for it unless told not to."""
    monkeypatch.setenv("HOME", str(folder))
    (folder / ".ray").mkdir()
    (folder / ".ray/auth_token").write_text("0123456789abcdef" * 4)
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as of_node:
            of_node.setenv("RAY_AUTH_MODE", mode)
            cluster = Cluster(stack)
        status, said, errors = ended(cluster.start())
    assert (status, errors) == (0, "") and "40 upscaled" in said


def test_a_worker_has_a_gpu_of_its_own_where_there_are_some(alone, folder):
    """Ray hands out a GPU that it is told of, whether there is one or not: without, the worker takes the CPU."""
    with contextlib.ExitStack() as stack:
        with_gpu = Cluster(stack, "--num-gpus=1", "--num-cpus=2")
        process, pids = with_gpu.start(), set()
        while process.poll() is None:
            pids |= {worker.pid for worker in workers(with_gpu.head)}
            time.sleep(0.1)
        status, said, errors = ended(process)
    assert (status, errors) == (0, "") and "40 upscaled" in said
    assert len(pids) == 1  # of two cores; and it stays from task to task
    assert_whole(alone)


def works(process):
    """Whether a worker of this node has begun a task: it has imported this program, and so SciPy."""
    maps = [Path(f"/proc/{worker.pid}/maps") for worker in workers(process, states=WORKERS)]
    return any("scipy" in path.read_text() for path in maps if path.exists())


@pytest.mark.parametrize(
    "place, what", [("in", "true"), ("out", "true"), ("out", "touch $(seq -f .%02g.png.lock 0 39)")]
)
def test_what_one_node_cannot_read_or_write_another_one_makes(cluster, alone, folder, place, what):
    """One node sees a full disk at that place: pictures are missing, the folder is another one, results do not fit."""
    (folder / "out").mkdir()
    mount = f"mount -t tmpfs -o size=4k none {folder / place} && cd {folder / place} && {what}"
    inside = ["unshare", "--mount", "sh", "-c", f'{mount} && head -c 4096 /dev/zero > full && cd .. && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*inside, "mountpoint", "-q", folder / place]).returncode:
        pytest.skip("no file system may be mounted here")
    with cluster.joined(inside=inside) as process:
        wait_for(lambda: not workers(cluster.head, states=WORKERS))  # of an earlier test
        command = cluster.start()
        elsewhere = wait_for(lambda: workers(cluster.head, states=WORKERS))
        for worker in elsewhere:
            worker.suspend()
        wait_for(lambda: works(process))
        for worker in elsewhere:
            worker.resume()
        status, said, errors = ended(command)
    assert (status, errors) == (0, "") and "40 upscaled" in said
    assert_whole(alone)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_command_says_what_it_says_without_ray(cluster, folder, words):
    """One picture is damaged and upscaled as far as it goes, one is none, and of one, a JPEG, blocks are removed."""
    for path in sorted(Path("in").iterdir())[2:]:
        path.unlink()
    Path("in/00.png").write_bytes(Path("in/00.png").read_bytes()[:-2000])
    Path("in/01.png").write_text("no picture")
    with Image.open(PICTURE) as image:
        image.resize((40, 30)).save("in/02.jpg", quality=30)
    command = [sys.executable, ROOT / "upscale.py", "in", "-o", "out", "--model=srresnet", *words]
    outputs = []
    for ray in ([], ["--ray", cluster.address]):
        with subprocess.Popen([*command, *ray], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            status, *texts = ended(process)
        shutil.rmtree("out")
        texts = [re.sub(r'"seconds": [\d.]+|in [\d.]+ s, [\d.]+ MPixel', "", text) for text in texts]
        outputs.append((status, [sorted(text.splitlines()) for text in texts]))
    assert outputs[0] == outputs[1] and outputs[0][0] == 1
    assert '"restore": 1.0, "why": ' in f"{outputs}" if words else ": restore 1)" in f"{outputs}"


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
