"""upscale.py without Ray, and on clusters of one-core nodes of this machine: pictures a second, overhead, memory.

python benchmarks/cluster.py [MODEL [COUNTxWIDTHxHEIGHT ...]]

Processor seconds, unlike times, hardly depend on what else the machine does. The first result comes after the start of
the command and its workers, so pictures a second are counted from there.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path[:0] = [f"{ROOT}", f"{ROOT}/tests"]

from test_cluster import Cluster, picture


def processor_seconds(processes):
    """{what it is: (processor seconds, bytes)} of processes by their kind; seconds are added up, of bytes the most."""
    sums = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            name = process.name()
            kind = "worker" if name.startswith("ray::") and "Agent" not in name else "Ray's own"
            times, used = process.cpu_times(), process.memory_info().rss
            seconds, most = sums.get(kind, (0.0, 0))
            sums[kind] = seconds + times.user + times.system, max(most, used)
    return sums


def of_nodes(nodes):
    return processor_seconds([child for node in nodes for child in psutil.Process(node.pid).children(True)])


def measure(title, command, out, threads, nodes=()):
    """Run a command and print its figures."""
    most, before, start = {}, of_nodes(nodes), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | threads) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                now = of_nodes(nodes) | {"command": processor_seconds([psutil.Process(process.pid)]).popitem()[1]}
                for kind, figures in now.items():
                    most[kind] = tuple(map(max, figures, most.get(kind, (0.0, 0))))
            time.sleep(0.5)
    seconds, times = time.perf_counter() - start, sorted(path.stat().st_mtime for path in Path(out).glob("*.png"))
    first = max(1, len(nodes))  # each worker's first result is late
    rate = f", {(len(times) - first) / (times[-1] - times[first - 1]):.2f} pictures/s" if len(times) > first else ""
    print(f"  {title}: {seconds:.1f} s{rate}", flush=True)
    for kind, (used, size) in most.items():
        used -= before.get(kind, (0.0, 0))[0]
        print(
            f"    {kind}: {used:.2f} s of a processor, {1000 * used / len(times):.0f} ms a picture, {size / 1e6:.0f} MB"
        )


def main(model="srresnet", *sizes):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.chdir(folder)
        sizes = sizes or ("150x60x40", "8x320x240")
        for size in sizes:
            count, width, height = map(int, size.split("x"))
            for number in range(count):
                picture(Path(f"{size}/{number:04}.png"), width, height)
        cluster = Cluster(stack)
        nodes = [cluster.head, *(stack.enter_context(cluster.joined()) for _ in range(3))]
        print("nodes are up", flush=True)
        for count in (4, 2, 1, 0):
            for node in nodes[max(1, count) :]:
                node.terminate()  # it leaves the cluster in order
                node.wait()
            nodes = nodes[: max(1, count)]
            for size in sizes:
                command = [sys.executable, ROOT / "upscale.py", size, "--restore=0", f"--model={model}"]
                if count:
                    command += ["-o", f"{size}_{count}", "--ray", cluster.address]
                    measure(f"{size}, {count} workers", command, f"{size}_{count}", {}, nodes)
                    continue
                for threads in (1, os.cpu_count()):
                    out, limit = f"{size}_alone{threads}", {"OMP_NUM_THREADS": f"{threads}"}
                    measure(f"{size}, one process, {threads} threads", [*command, "-o", out], out, limit)


if __name__ == "__main__":
    main(*sys.argv[1:])
