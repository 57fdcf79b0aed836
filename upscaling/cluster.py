"""Upscale the files of a plan on a Ray cluster: a task for each file, of which paths travel and no pixels.

A photo that would be the last to be ready has a task for each of several parts before its own: they leave their strips
beside the result, where its own task finds them. What parts lack, because they failed, its own task makes.
Ray does the rest: it starts workers, gives each of them one task at a time, and tries again what dies with a worker or
a node. A worker loads its networks once. Source: docs.ray.io, "Tasks" and "Task fault tolerance".
"""

import contextlib
import functools
import math
import os
import platform
import signal
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from upscaling.earlier_runs import claimed, lock_path, record_line
from upscaling.identity import Identity
from upscaling.photo.reader import Photo
from upscaling.plan import Job, Made, Plan, open_job
from upscaling.upscaler import BYTES_PER_PIXEL, Part, Progress, Upscaler
from utils import UserError

TRIES = 3  # of a file whose worker or node dies
WORKER = 400e6  # bytes that a worker needs beside tiles and pictures: Python and the engine
CLEAN_UP = 20  # seconds for tasks to remove their partial files after Ctrl-C


class Outcome(NamedTuple):
    """What a worker says of a file."""

    node: str  # the ID of its node
    job: Job  # with what the worker knows now of the file
    error: Exception | None = None
    made: Made | None = None
    record: dict[str, Any] | None = None  # of the result


Attempt = Callable[[Progress], Made | None]  # what is called for a job: see make in upscale.py


def connect(address: str) -> None:
    """Connect to the cluster at `address`. Raises UserError if that is impossible."""
    # Where memory runs out, Ray itself would try again for ever; it reads this when it is imported.
    os.environ.setdefault("RAY_task_oom_retries", str(TRIES - 1))
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # else it tries an address 20 times, 40 s each
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # else it prints news of nodes between our lines to stdout
    if Path("~/.ray/auth_token").expanduser().exists():  # `ray start` asks for it then, ray.init sends it to auto alone
        os.environ.setdefault("RAY_AUTH_MODE", "token")
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


def attempts(
    plan: Plan, options: Namespace, upscaler: Upscaler, seconds: float
) -> Generator[tuple[Job, Attempt], None, None]:
    """Yield (job, its Attempt) in the order in which they end, on the cluster that this process is connected to.

    An Attempt returns or raises what `make` in upscale.py does. seconds: an estimate for each pixel of the network.
    Raises UserError if workers cannot import this program.
    """
    import ray

    gpu = options.engine in ("auto", "keras") and ray.cluster_resources().get("GPU", 0) >= 1
    tasks = Tasks(ray, task_for(ray, options, upscaler, plan.identity, gpu), plan, seconds, {"CPU": 1, "GPU": int(gpu)})
    # The largest first, so that no worker is left alone with one at the end.
    waiting = sorted(plan.jobs, key=Job.network_pixels)
    try:
        while waiting or tasks.running:
            room = 2 * tasks.workers() - len(tasks.running)
            while waiting and room > 0:
                job, claim = waiting.pop(), contextlib.ExitStack()
                if claim.enter_context(claimed(job.target)) and not job.is_made():
                    tasks.start(job, claim)
                    room -= 1
                else:
                    claim.close()
                    yield job, lambda progress: None
            for outcome in tasks.ended():
                yield outcome.job, functools.partial(finish, outcome)
    finally:
        tasks.cancel()
        ray.shutdown()


class Tasks:
    """The tasks that wait or run. seconds: as for attempts. needs: {"CPU" or "GPU": how many of it a task takes}."""

    def __init__(self, ray: ModuleType, function: Any, plan: Plan, seconds: float, needs: dict[str, int]) -> None:
        self.ray, self.function, self.records, self.seconds = ray, function, plan.records, seconds
        self.needs = needs
        self.most = max(node["Resources"].get("memory", 0) for node in ray.nodes())  # bytes of a node for workers
        self.share = sum(job.network_pixels() for job in plan.jobs) / self.workers()  # pixels
        # {reference: (job, its claim, whether it has failed on another node)}
        self.running: dict[Any, tuple[Job, contextlib.ExitStack, bool]] = {}

    def workers(self) -> int:
        """Return how many tasks can run at a time."""
        return int(self.ray.cluster_resources().get("GPU" if self.needs["GPU"] else "CPU", 1))

    def part_count(self, job: Job) -> int:
        """Return how many parts of a job have tasks of their own: as many as a photo is larger than a worker's share.

        So there are at most twice as many of them as workers, and all workers have work until the end.
        """
        rows_of_tiles = job.upscaler.tile_count(1, job.opened.size[1])
        parts = min(math.ceil(job.network_pixels() / self.share), rows_of_tiles)
        return parts if parts > 1 and isinstance(job.opened, Photo) else 0

    def start(self, job: Job, claim: contextlib.ExitStack, but: str = "") -> None:
        """Start the tasks of a job. claim: closed when they end. but: ID of a node that shall not take it."""
        resumable = job.is_resumable(self.seconds * job.network_pixels())
        shared = lock_path(job.target) if lock_path(job.target).exists() else None
        where = {"label_selector": {"ray.io/node-id": f"!{but}"}} if but else {}
        count = self.part_count(job) if resumable and not but else 0
        smaller = self.function.options(memory=self.memory(job, whole=False))
        parts = [smaller.remote(job, resumable, shared, (number, count)) for number in range(count)]
        function = self.function.options(memory=self.memory(job), **where)
        self.running[function.remote(job, resumable, shared, None, *parts)] = job, claim, bool(but)

    def ended(self) -> Iterator[Outcome]:
        """Wait for a task, and yield the Outcomes of those that have ended; what failed is tried on another node."""
        if not self.running:
            return
        self.ray.wait(list(self.running), num_returns=1)
        ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        for reference in ready:
            job, claim, again = self.running.pop(reference)
            outcome = self.outcome(reference, job)
            if outcome.error and outcome.node and not again and self.others(outcome.node, job):
                self.start(job, claim, outcome.node)  # perhaps it is the node's fault: a full disk, a missing mount
                continue
            claim.close()
            yield outcome

    def outcome(self, reference: Any, job: Job) -> Outcome:
        """Return what a task that has ended says of its job, and record its result."""
        errors = self.ray.exceptions
        try:
            outcome = self.ray.get(reference)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
            died = f"{job.opened.path}: {TRIES} workers died of it; a smaller --tile needs less memory"
            return Outcome("", job, UserError(died))
        except errors.RayTaskError as error:
            if "failed to import" not in str(error):
                raise
            why = str(error).strip().splitlines()[-1]
            raise UserError(f"--ray: a worker cannot import this program ({why}); install it there too") from error
        if outcome.record:
            self.records.add(job.target, outcome.record)
        return outcome

    def memory(self, job: Job, whole: bool = True) -> float:
        """Return the bytes that a worker may need for `job`, or for a part of it, rounded up to a power of two.

        Ray starts no more workers on a node than have room there; tasks that need equally much share their workers.
        """
        upscaler, (width, height) = job.upscaler, job.result_size()
        pixels = min(upscaler.tile**2 * upscaler.batch, upscaler.network_pixels(*job.opened.size))
        result = (8 if whole else 2) * width * height  # lr and a strip take less than a quarter
        return min(self.most, 2.0 ** int(WORKER + pixels * BYTES_PER_PIXEL + result).bit_length())

    def others(self, node: str, job: Job) -> bool:
        """Return whether a node beside that with the ID `node` could make `job`; many a head has no cores for tasks."""
        needs = self.needs | {"memory": self.memory(job)}
        others = [other["Resources"] for other in self.ray.nodes() if other["Alive"] and other["NodeID"] != node]
        return any(all(other.get(kind, 0) >= amount for kind, amount in needs.items()) for other in others)

    def cancel(self) -> None:
        """End the tasks that are left; those that end by themselves meanwhile are recorded.

        A task ends when its claim has gone. ray.cancel kills this process if a task ends at that moment (Ray 2.60,
        "Check failed" in task_manager.cc).
        """
        for _, claim, _ in self.running.values():
            claim.close()
        if self.running:
            ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=CLEAN_UP)
            for reference in ready:
                with contextlib.suppress(self.ray.exceptions.RayError):
                    self.outcome(reference, self.running[reference][0])


def finish(outcome: Outcome, progress: Progress) -> Made | None:
    """Return what a task that has ended has made. Raises its error."""
    progress(outcome.job.tiles(), outcome.job.tiles())
    if outcome.error:
        raise outcome.error
    return outcome.made


def task_for(ray: ModuleType, options: Namespace, upscaler: Upscaler, common: Identity, gpu: bool) -> Any:
    """Return the remote function that makes a file with a core, and a GPU if `gpu` is true. common: Plan.identity."""
    folder = os.getcwd()

    def make(job: Job, resumable: bool, shared: Path | None, part: Part | None, *parts: Outcome) -> Outcome:
        """Make a job, or a part of it, or join its parts, for which Ray waits."""
        path, target = job.opened.path, job.target
        node = ray.get_runtime_context().get_node_id()
        with contextlib.suppress(OSError):  # where it is missing, absolute paths may do
            os.chdir(folder)

        def progress(done: int, total: int) -> None:
            if shared and not shared.exists():
                raise UserError(f"{path}: the command has ended")

        try:
            if shared and not shared.exists():  # nobody would find the result
                raise UserError(f"{target.parent}: not the same folder on {platform.node()}; it must be shared")
            # Ray unpickles the Upscaler once for each worker.
            job = open_job(path, target, job.before, options, upscaler)
            made = job.make(common, options, progress, resumable, part)
        except (UserError, OSError, MemoryError) as error:
            return Outcome(node, job, error)
        return Outcome(node, job, None, made, None if part else record_line(target, path, made.identity))

    # GPUs would lose their worker after each task, but for max_calls.
    return ray.remote(name="upscale", num_cpus=1, num_gpus=int(gpu), max_calls=0, max_retries=TRIES - 1)(make)
