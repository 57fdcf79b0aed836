"""Upscale the files of a plan on a Ray cluster: a task for each file, of which paths travel and no pixels.

Ray does the rest: it starts workers, gives each of them one task at a time, and tries again what dies with a worker or
a node. A worker loads its networks once. Source: docs.ray.io, "Tasks" and "Task fault tolerance".
"""

import contextlib
import functools
import os
import platform
import signal
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from upscaling import identity
from upscaling.earlier_runs import claimed, lock_path, record_line
from upscaling.photo.reader import Photo
from upscaling.plan import Job, Plan, open_job
from upscaling.upscaler import BYTES_PER_PIXEL, Progress, Upscaler
from utils import UserError

TRIES = 3  # of a file whose worker or node dies
WORKER = 400e6  # bytes that a worker needs beside tiles and pictures: Python and the engine
CLEAN_UP = 20  # seconds for tasks to remove their partial files after Ctrl-C


class Outcome(NamedTuple):
    """What a worker says of a file."""

    node: str  # the ID of its node
    error: Exception | None = None
    lost: list[str] | None = None  # as upscale_file returns it
    damage: list[str] | None = None  # Photo.damage
    restored: str = ""  # Job.restored
    record: dict[str, Any] | None = None  # of the result


Attempt = Callable[[Progress], list[str] | None]  # what is called for a job: see make in upscale.py


def connect(address: str) -> None:
    """Connect to the cluster at `address`. Raises UserError if that is impossible."""
    # Where memory runs out, Ray itself would try again for ever; it reads this when it is imported.
    os.environ.setdefault("RAY_task_oom_retries", str(TRIES - 1))
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        import ray

        ray.init(address, log_to_driver=False, logging_level="ERROR")
    except ImportError:
        raise UserError("--ray: needs Ray; pip install -r requirements-ray.txt") from None
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"--ray {address}: no cluster ({why}); start one with ray start --head") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has set its own


def attempts(plan: Plan, options: Namespace, upscaler: Upscaler, seconds: float) -> Iterator[tuple[Job, Attempt]]:
    """Yield (job, its Attempt) in the order in which they end, on the cluster that this process is connected to.

    An Attempt returns or raises what `make` in upscale.py does. seconds: an estimate for each pixel of the network.
    """
    import ray

    running: dict[Any, tuple[Job, contextlib.ExitStack, bool]] = {}  # {reference: (job, its claim, whether again)}
    task = task_for(ray, options, upscaler)
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    most = max(resources.get("memory", 0) for resources in nodes.values())

    def start(job: Job, claim: contextlib.ExitStack, but: str = "") -> None:
        where = {"label_selector": {"ray.io/node-id": f"!{but}"}} if but else {}
        resumable = job.is_resumable(seconds * job.network_pixels())
        shared = lock_path(job.target) if lock_path(job.target).exists() else None
        arguments = job.opened.path, job.target, job.before, resumable, shared
        reference = task.options(memory=min(most, memory(job)), **where).remote(*arguments)
        running[reference] = job, claim, bool(but)

    # The largest first, so that no worker is left alone with one at the end.
    waiting = sorted(plan.jobs, key=Job.network_pixels)
    try:
        while waiting or running:
            while waiting and len(running) < 2 * ray.cluster_resources().get("CPU", 1):
                job, claim = waiting.pop(), contextlib.ExitStack()
                if claim.enter_context(claimed(job.target)) and not job.is_made():
                    start(job, claim)
                else:
                    claim.close()
                    yield job, lambda progress: None
            ready, _ = ray.wait(list(running), num_returns=1)
            ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
            for reference in ready:
                job, claim, again = running.pop(reference)
                try:
                    outcome = ray.get(reference)
                except (
                    ray.exceptions.WorkerCrashedError,
                    ray.exceptions.OutOfMemoryError,
                    ray.exceptions.NodeDiedError,
                ):
                    dead = UserError(
                        f"{job.opened.path}: {TRIES} workers died of it; a smaller --tile needs less memory"
                    )
                    outcome = Outcome("", dead)
                others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != outcome.node]
                if outcome.error and outcome.node and others and not again:
                    start(job, claim, outcome.node)  # perhaps it is the node's fault: a full disk, a missing mount
                    continue
                claim.close()
                if outcome.record:
                    plan.records.append(job.target, outcome.record)
                yield job._replace(restored=outcome.restored), functools.partial(finish, job, outcome)
    finally:
        for reference in running:
            ray.cancel(reference)
        ray.wait(list(running), num_returns=len(running), timeout=CLEAN_UP) if running else None
        for _, claim, _ in running.values():
            claim.close()
        ray.shutdown()


def finish(job: Job, outcome: Outcome, progress: Progress) -> list[str]:
    """Return what was lost of a file whose task has ended. Raises its error."""
    progress(job.tiles(), job.tiles())
    if outcome.error:
        raise outcome.error
    if isinstance(job.opened, Photo):
        job.opened.damage.extend(outcome.damage or [])
    return outcome.lost or []


def memory(job: Job) -> float:
    """Return the bytes that a worker may need for `job`, rounded up to a power of two.

    Ray starts no more workers on a node than have room there; tasks that need equally much share their workers.
    """
    upscaler, (width, height) = job.upscaler, job.result_size()
    pixels = min(upscaler.tile**2 * upscaler.batch, upscaler.network_pixels(*job.opened.size))
    return 2.0 ** int(WORKER + pixels * BYTES_PER_PIXEL + 8 * width * height).bit_length()


def task_for(ray: ModuleType, options: Namespace, upscaler: Upscaler) -> Any:
    """Return the remote function that makes a file; it has a GPU if there are some and the engine can use it."""
    common, folder = identity.of_command(options), os.getcwd()

    def make(path: Path, target: Path, before: tuple[int, int] | None, resumable: bool, shared: Path | None) -> Outcome:
        node = ray.get_runtime_context().get_node_id()
        with contextlib.suppress(OSError):  # where it is missing, absolute paths may do
            os.chdir(folder)
        try:
            if shared and not shared.exists():  # nobody would find the result
                raise UserError(f"{target.parent}: not the same folder on {platform.node()}; it must be shared")
            # Ray unpickles the Upscaler once for each worker.
            job = open_job(path, target, before, options, upscaler)
            lost, made_of = job.make(common, options, None, resumable)
        except (UserError, OSError, MemoryError) as error:
            return Outcome(node, error)
        damage = job.opened.damage if isinstance(job.opened, Photo) else []
        return Outcome(node, None, lost, damage, job.restored, record_line(target, path, made_of))

    gpu = options.engine in ("auto", "keras") and ray.cluster_resources().get("GPU", 0) >= 1
    # GPUs would lose their worker after each task, but for max_calls.
    return ray.remote(name="upscale", num_cpus=1, num_gpus=int(gpu), max_calls=0, max_retries=TRIES - 1)(make)
