"""upscale.py on one core without Ray, and on clusters of one-core nodes of this machine: pictures a second, overhead.

python benchmarks/cluster.py [PICTURES [WIDTH [HEIGHT [MODEL]]]]

Processor seconds, unlike times, hardly depend on what else the machine does.
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
    """{what it is: (processor seconds, bytes)} of processes by their kind; workers are added up."""
    sums = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            name = process.name()
            kind = "worker" if name.startswith("ray::") and "Agent" not in name else name
            times, used = process.cpu_times(), process.memory_info().rss
            seconds, most = sums.get(kind, (0.0, 0))
            sums[kind] = seconds + times.user + times.system, max(most, used)
    return sums


def measure(command, pictures, nodes=()):
    """Run a command and print its figures."""
    start, most, before = time.perf_counter(), {}, {}
    if nodes:
        before = processor_seconds([child for node in nodes for child in psutil.Process(node.pid).children(True)])
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        while process.poll() is None:
            watched = [psutil.Process(node.pid).children(True) for node in nodes]
            now = processor_seconds([child for family in watched for child in family])
            with contextlib.suppress(psutil.NoSuchProcess):
                now |= {"command": processor_seconds([psutil.Process(process.pid)]).popitem()[1]}
            most |= {kind: max(figures, most.get(kind, (0.0, 0))) for kind, figures in now.items()}
            time.sleep(0.2)
    seconds = time.perf_counter() - start
    print(f"  {len(nodes)} workers: {seconds:.1f} s, {pictures / seconds:.2f} pictures/s", flush=True)
    for kind, (used, size) in most.items():
        used -= before.get(kind, (0.0, 0))[0]
        print(f"    {kind}: {1000 * used / pictures:.1f} ms of a processor for each picture, {size / 1e6:.0f} MB")


def main(pictures=100, width=60, height=40, model="srresnet"):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.chdir(folder)
        for number in range(int(pictures)):
            picture(Path(f"in/{number:04}.png"), int(width), int(height))
        command = [sys.executable, ROOT / "upscale.py", "in", f"--model={model}"]
        measure([*command, "-o", "alone"], int(pictures))
        cluster = Cluster(stack)
        nodes = [cluster.head]
        for count in (1, 2, 4):
            nodes += [stack.enter_context(cluster.joined()) for _ in range(count - len(nodes))]
            measure([*command, "-o", f"out{count}", "--ray", cluster.address], int(pictures), nodes)


if __name__ == "__main__":
    main(*sys.argv[1:])
