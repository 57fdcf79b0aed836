"""Upscale photographs and videos of any size and kind.

python upscale.py photo.jpg                 photo_x4.jpg beside it
python upscale.py holiday -o large          every picture below holiday, in the same folders below large
python upscale.py "scans/*.tif" --outscale 2.5 --format png
"""

import argparse
import contextlib
import functools
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback after Ctrl-C during the imports

from tqdm import tqdm

from methods.filters import FILTERS
from upscaling import cluster
from upscaling.earlier_runs import claimed, record_line
from upscaling.models import load
from upscaling.network import DEVICES, ENGINES
from upscaling.photo.reader import PHOTO_FORMATS, Photo
from upscaling.plan import LONG, Job, Made, Plan, make_plan, summary
from upscaling.upscaler import HALO, Progress, Upscaler
from utils import Parser, UserError, exit_status, printable, reason, sigterm_interrupts

__all__ = ["load"]  # the Python interface: upscaling/models.py


def command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed options, some with Real-ESRGAN's letters. Exits with 2 and one line after a mistake."""
    text = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=30, width=110)
    parser = Parser(prog="upscale.py", description=__doc__, usage="%(prog)s [options] INPUT ...", formatter_class=text)
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="a file, a folder, or a pattern in quotes")
    add("-i", "--input", action="append", default=[], help=argparse.SUPPRESS)
    add("-o", "--output", type=Path, metavar="PATH", help="a folder, or for a single input a file")
    add(
        "-n",
        "--model",
        default="srgan",
        help=f"srgan (sharp, invents), srresnet (soft, true), srcnn, espcn, {', '.join(FILTERS)} or a file",
    )
    add("--strength", type=float, default=1.0, help="of srgan, 0 to 1; less is softer and invents less (default: 1)")
    add(
        "--restore",
        "-dn",
        type=restoration,
        metavar="auto|0..1",
        help="how much to remove blocks and noise (default: auto, what each file needs; 0 as if it were clean)",
    )
    add("-s", "--outscale", type=float, help="factor of the result, resampled (default: the model's)")
    add("--size", type=size, help="3840x2160: fit into that; 3840: longest side; resampled")
    add("--suffix", help="for the names of results (default: _x4, or like --size)")
    formats = [suffix[1:] for suffix in PHOTO_FORMATS]
    add("--format", "--ext", choices=formats, metavar="FORMAT", help=f"{', '.join(formats)} (default: the picture's)")
    add("--quality", type=int, help="of JPEG and WebP, 1 to 100 (default: 95)")
    add("-x", "--self-ensemble", action="store_true", help="average over eight flips and turns: better, 8x slower")
    add("--back-project", type=int, metavar="N", help="correct the result N times to match the input (srgan: 1)")
    add("--overwrite", action="store_true", help="make existing results again")
    add("--dry-run", action="store_true", help="only say what would be made, how large, and in what time")
    add("--json", action="store_true", help="print a JSON object for each file instead, see docs/UPSCALING.md")
    add("-t", "--tile", type=int, help="side of a tile in pixels (default: what free memory allows)")
    add("--engine", choices=ENGINES, default="auto", help="default: OpenVINO on a CPU, else Keras")
    add("--device", choices=DEVICES, help="of OpenVINO: Intel's GPU or NPU instead of the CPU; untested")
    add("--ray", metavar="ADDRESS", help="on a Ray cluster; auto: the one that runs here (docs/CLUSTER.md)")
    add("--scale", type=int, help="refuse a model with another factor")
    add("--trust-pickle", action="store_true", help="read a pickled g_srgan.npz of TensorLayer 1 or 2")
    options = parser.parse_args(argv)
    options.inputs += options.input
    options.tile = options.tile or None  # Real-ESRGAN's default is 0
    mistake = wrong_option(options)
    if mistake:
        parser.error(mistake)
    return options


def size(text: str) -> tuple[int, int]:
    """Parse "3840x2160" or a longest side "3840", which means 3840x3840; return (width, height) in pixels."""
    sides = re.fullmatch(r"([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?", text.lower())
    if not sides:
        raise argparse.ArgumentTypeError(f"{text}: must be like 3840x2160, or 3840 for the longest side")
    return int(sides[1]), int(sides[2] or sides[1])


def restoration(text: str) -> float | None:
    """Parse how much to restore, 0 to 1, or "auto", which is None."""
    if text == "auto":
        return None
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: must be auto, or 0 to 1")


def wrong_option(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the parsed options, or None."""
    if not options.inputs:
        return "the following arguments are required: INPUT"
    if options.outscale is not None and not 0 < options.outscale <= 16:
        return f"--outscale {options.outscale:g}: must be above 0, at most 16"
    if options.outscale is not None and options.size:
        return "--outscale and --size exclude each other"
    if options.tile is not None and options.tile <= 2 * HALO:
        return f"--tile {options.tile}: must be above {2 * HALO}"
    if options.quality is not None and not 1 <= options.quality <= 100:
        return f"--quality {options.quality}: must be 1 to 100"
    if options.device and options.engine not in ("auto", "openvino"):
        return f"--device {options.device}: goes with --engine openvino"
    if options.back_project is not None and not 0 <= options.back_project <= 100:
        return f"--back-project {options.back_project}: must be 0 to 100"
    if not 0 <= options.strength <= 1:
        return f"--strength {options.strength:g}: must be 0 to 1"
    if options.suffix is not None and (not options.suffix or re.search(r"[/\\\0]", options.suffix)):
        return f"--suffix {options.suffix!r}: must be a part of a file's name"
    return None


def load_upscaler(options: argparse.Namespace) -> Upscaler:
    """Return the Upscaler that `options` ask for. Raises UserError if its model is missing or has another factor."""
    upscaler = load(
        options.model,
        scale=options.outscale,
        engine=options.engine,
        tile=options.tile,
        trust_pickle=options.trust_pickle,
        self_ensemble=options.self_ensemble,
        back_projections=options.back_project,
        strength=options.strength,
        restore=options.restore,
        device=options.device,
    )
    factor = upscaler.network.scale
    if options.scale not in (None, factor):
        raise UserError(
            f"--scale {options.scale}: {options.model} upscales {factor}x; --outscale {options.scale} resamples to that"
        )
    return upscaler


def advance(bar: tqdm, tiles_before: int, tiles_of_other_files: int, done: int, total: int) -> None:
    """Show in `bar` that `done` of a file's `total` tiles are done.

    tiles_before: those that were done before this file.
    """
    bar.total = tiles_of_other_files + total
    bar.update(tiles_before + done - bar.n)


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line above the progress bar, without delay even into a pipe; line breaks in file names are escaped."""
    file = file or sys.stdout
    tqdm.write(printable(line), file=file)
    file.flush()


def say_json(path: Path, **facts: object) -> None:
    """Print the object of --json for the file at `path`, a line with the same names each time. facts: what is known."""
    unknown = dict.fromkeys(("output", "size", "seconds", "restore", "why", "skipped", "error"))
    say(json.dumps({"input": path} | unknown | facts, default=str))


def tell(job: Job, made: Made, options: argparse.Namespace) -> list[str]:
    """Print that the result of `job` was made, and lines on what was lost; return those on damage."""
    damage = job.opened.damage if isinstance(job.opened, Photo) else []
    if options.json:
        error = "; ".join(damage) or None
        say_json(job.opened.path, **job.facts(), seconds=round(made.seconds, 3), error=error)
    else:
        say(f"{job.target}{job.remark()}")
    for line in made.lost:
        say(line, sys.stderr)
    return damage


def make(job: Job, plan: Plan, options: argparse.Namespace, seconds: float, progress: Progress) -> Made | None:
    """Make and record the result of `job`; return what was made, or None if it is left to another process.

    Raises UserError and OSError. seconds: an estimate for each pixel of the network.
    """
    with claimed(job.target) as ours:
        if not ours or job.is_made():
            return None
        made = job.make(plan.identity, options, progress, job.is_resumable(seconds * job.network_pixels()))
        plan.records.add(job.target, record_line(job.target, job.opened.path, made.identity))
        return made


def failure(job: Job, error: Exception) -> str:
    """Return a line about what kept the result of `job` from being made."""
    if isinstance(error, MemoryError):
        width, height = job.result_size()
        return f"{job.opened.path}: too little memory for {width}x{height}; choose a smaller result"
    if isinstance(error, OSError):
        return f"{error.filename or job.target}: {reason(error)}"
    return str(error)


def run(plan: Plan, options: argparse.Namespace, upscaler: Upscaler, seconds: float) -> tuple[int, float]:
    """Upscale the files of `plan`; return how many were upscaled, and the megapixels of their results.

    A line is added to plan.failed for each file that failed or is damaged, and one to plan.skipped if other processes
    have made some or are making them. seconds: an estimate of the time for all of them.
    """
    jobs, failed = plan.jobs, plan.failed
    seconds /= max(1, sum(job.network_pixels() for job in jobs))
    done, elsewhere, megapixels = 0, 0, 0.0
    if options.ray:
        attempts = cluster.attempts(plan, options, upscaler, seconds)
    else:
        attempts = ((job, functools.partial(make, job, plan, options, seconds)) for job in jobs)
    bar = tqdm(total=sum(job.tiles() for job in jobs), unit="tile", disable=None if jobs else True)
    with bar, contextlib.closing(attempts):
        for job, attempt in attempts:
            progress = functools.partial(advance, bar, bar.n, (bar.total or 0) - job.tiles())
            try:
                made = attempt(progress)
            except (UserError, OSError, MemoryError) as error:
                failed.setdefault(failure(job, error), []).append(job.opened.path)
                continue
            if made:
                damage = tell(job, made, options)
                failed |= dict.fromkeys(damage, [])  # its object of --json has told it
                done += 1
                megapixels += job.megapixels()
            else:
                elsewhere += 1
                if options.json:
                    say_json(job.opened.path, output=job.target, skipped="left to another process")
    if elsewhere:
        plan.skipped.append(f"{elsewhere} left to another process")
    return done, megapixels


def upscale(options: argparse.Namespace) -> int:
    """Upscale what `options` name; return the exit status, 0, or 1 if some of it failed. Raises UserError."""
    upscaler = load_upscaler(options)
    if options.ray and not options.dry_run:
        cluster.connect(options.ray)
        plan = make_plan(options, upscaler.restoring(0.0))  # a worker sees what its file needs
    else:
        plan = make_plan(options, upscaler)
    if options.json:
        for path, target in plan.existing.items():
            say_json(path, output=target, skipped="there already")
    text, seconds = summary(plan.jobs, upscaler)
    if options.dry_run:
        for job in plan.jobs:
            if options.json:
                say_json(job.opened.path, **job.facts())
            else:
                say(job.line())
    else:
        if seconds > LONG:
            say(f"{text} on this machine alone" if options.ray else text, sys.stderr)
        began = time.perf_counter()
        done, megapixels = run(plan, options, upscaler, seconds)
        seconds = time.perf_counter() - began
        text = f"{done} upscaled"
        if done:
            text += f" in {seconds:.1f} s, {megapixels / seconds:.2f} MPixel/s of results"
    say(", ".join([text, *plan.skipped]), sys.stderr if options.json else sys.stdout)
    for line, paths in plan.failed.items():
        for path in paths if options.json else ():
            say_json(path, error=line)
        say(f"upscale.py: {line}", sys.stderr)
    return 1 if plan.failed else 0


def main(options: argparse.Namespace) -> int:
    """Return the exit status: 0, 1 if some failed, 2 after a user's mistake, 130 after Ctrl-C, 143 after SIGTERM."""
    again = "interrupted; the same command goes on after what is done"
    with sigterm_interrupts():
        return exit_status("upscale.py", lambda: upscale(options), again)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(command_line()))
