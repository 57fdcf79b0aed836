"""What an upscale.py command has to do: which files, at which factor, and which results exist already."""

import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from upscaling import identity
from upscaling.earlier_runs import Records, stamp
from upscaling.identity import Identity
from upscaling.paths import choose_targets, counted, find_files, leave_out_results
from upscaling.photo.reader import Photo
from upscaling.upscale_file import open_file, restored_upscaler, upscale_file
from upscaling.upscaler import Part, Progress, Upscaler
from upscaling.video.reader import Video
from utils import UserError, reason

LONG = 30  # seconds; longer work is announced, and a picture's finished strips stay on the disk
SLOW = 0.1  # seconds per frame; a slower video's finished strips stay too
QUICK = 300_000  # pixels that any machine upscales in less than LONG; up to here no time is measured


class Made(NamedTuple):
    """A result that was made."""

    lost: list[str]  # lines, as upscale_file returns them
    identity: Identity
    seconds: float


class Job(NamedTuple):
    """A file to upscale."""

    opened: Photo | Video
    target: Path
    upscaler: Upscaler  # with the factor for this file
    before: tuple[int, int] | None = None  # the stamp of the file at `target` when the work was planned
    restore: float = 0.0  # how much it is restored
    why: str = ""  # the reason for that, if it was chosen for this file

    def network_pixels(self) -> int:
        """Return the number of pixels that the network sees, in all frames; twice that if two networks see them."""
        networks = 2 if 0 < self.restore < 1 else 1
        return networks * self.opened.frames * self.upscaler.network_pixels(*self.opened.size)

    def megapixels(self) -> float:
        """Return the size of the result, all frames together, in megapixels."""
        (width, height), factor = self.opened.size, self.upscaler.scale
        return self.opened.frames * width * height * factor**2 / 1e6

    def tiles(self) -> int:
        """Return the number of tiles of all frames."""
        return self.opened.frames * self.upscaler.tile_count(*self.opened.size)

    def is_resumable(self, seconds: float) -> bool:
        """Return whether finished strips should stay on the disk. seconds: an estimate for the whole file."""
        if isinstance(self.opened, Video):  # quick frames are soon written in pieces anyway
            return seconds > SLOW * self.opened.frames
        return seconds > LONG

    def make(
        self, common: Identity, options: Namespace, progress: Progress, resumable: bool, part: Part | None = None
    ) -> Made:
        """Make the result. Raises UserError and OSError. common: Plan.identity. Others: as for upscale_file."""
        began = time.perf_counter()
        made_of = identity.of_result(common, self.opened.path)
        engine = {"engine": options.engine if options.device in (None, "CPU") else options.device}
        chosen = {"chosen_restore": self.restore} if self.why else {}  # another version may choose otherwise
        name = identity.hashed(made_of | engine | chosen)  # results of engines differ by roundings alone
        lost = upscale_file(self.opened, self.target, self.upscaler, progress, name, options.quality, resumable, part)
        return Made(lost, made_of, time.perf_counter() - began)

    def is_made(self) -> bool:
        """Return whether another process has made the result since the work was planned."""
        return stamp(self.target) not in (None, self.before)

    def result_size(self) -> tuple[int, int]:
        """Return the (width, height) of the result in pixels."""
        return self.upscaler.result_size(*self.opened.size)

    def line(self) -> str:
        """Return a line that names source and result, with width and height in pixels."""
        (width, height), (sr_width, sr_height) = self.opened.size, self.result_size()
        return f"{self.opened.path} {width}x{height} -> {self.target} {sr_width}x{sr_height}{self.remark()}"

    def remark(self) -> str:
        """Return what is added to a line about this file: how much it is restored, and why."""
        return f"  ({self.why}: restore {self.restore:g})" if self.why and self.restore else ""

    def facts(self) -> dict[str, Any]:
        """Return what --json prints about this file, before it is made."""
        size = self.result_size()
        return {"output": self.target, "size": size, "restore": self.restore, "why": self.why or None}


class Plan(NamedTuple):
    """What a command has to do and what it leaves out."""

    jobs: list[Job]
    skipped: list[str]  # texts that say how many files are not upscaled, and why
    existing: dict[Path, Path]  # {path: its result, which is there already}
    failed: dict[str, list[Path]]  # {a line about what cannot be read or written: its files}; the work adds more
    records: Records
    identity: Identity  # what those of all results have in common


def make_plan(options: Namespace, upscaler: Upscaler) -> Plan:
    """Return the Plan for the parsed `options` of upscale.py. Raises UserError if an input or --output is wrong."""
    inputs, records = find_files(options.inputs), Records()
    results = leave_out_results(inputs, records)
    suffix, rename = name_suffix(options, upscaler), options.suffix is not None
    targets = choose_targets(inputs, options.output, suffix, rename, options.format)
    common = identity.of_command(options)
    jobs, existing, remade = list[Job](), dict[Path, Path](), 0
    taken = dict[Path, Path | None]()  # {path: of which picture its result is there already}
    for path, target in targets.items():
        before = stamp(target)
        if before and not options.overwrite:
            recorded, source = records.identity(target), records.source(target)
            # Without a record it may be somebody else's or have been edited since, so it is not overwritten.
            if recorded is None or identity.is_current(recorded, common, path):
                existing[path] = target
                continue
            # Two folders may have a picture of this name. But a file that --output names is meant to be replaced.
            if target != options.output and source and os.path.realpath(source) != os.path.realpath(path):
                taken[path] = source
                continue
            remade += 1
        try:
            jobs.append(open_job(path, target, before, options, upscaler))
        except UserError as error:
            inputs.failed.setdefault(str(error), []).append(path)
    if not options.dry_run:
        jobs = drop_unwritable(jobs, inputs.failed)
    if taken:
        first, source = next(iter(taken.items()))
        advice = "choose another --output, --suffix or --overwrite"
        line = f"{targets[first]}: is the result of {source}; left out: {len(taken)}, {advice}"
        inputs.failed[line] = list(taken)
    texts = {
        f"{len(existing)} there already (--overwrite makes them again)": existing,
        f"{remade} made of something else before and now again": remade,
        f"{len(results)} left out as results of earlier runs": results,
        f"not read: {counted(inputs.foreign)}": inputs.foreign,
    }
    return Plan(jobs, [text for text, some in texts.items() if some], existing, inputs.failed, records, common)


def name_suffix(options: Namespace, upscaler: Upscaler) -> str:
    """Return what follows the source's name in a result's name: "_x4", "_3840x2160" or --suffix."""
    if options.suffix is not None:
        return options.suffix
    if options.size:
        width, height = options.size
        return f"_{width}" if width == height else f"_{width}x{height}"
    return f"_x{upscaler.scale:g}"


def open_job(path: Path, target: Path, before: tuple[int, int] | None, options: Namespace, upscaler: Upscaler) -> Job:
    """Return the Job of the file at `path`, with the Upscaler that suits it. Raises UserError if it is unreadable."""
    opened = open_file(path)
    upscaler, restore, why = restored_upscaler(opened, upscaler)
    # Without --size shared, so that a tile size reduced for lack of memory holds for the other files too.
    if options.size:
        upscaler = upscaler.with_scale(min(most / length for most, length in zip(options.size, opened.size)))
    return Job(opened, target, upscaler, before, restore if why else options.restore or 0.0, why)


def drop_unwritable(jobs: list[Job], failed: dict[str, list[Path]]) -> list[Job]:
    """Return those of `jobs` whose results' folders are writable; add a line to `failed` for each other folder."""
    unwritable = set()
    for folder in {job.target.parent for job in jobs}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            unwritable.add(folder)
            paths = [job.opened.path for job in jobs if job.target.parent == folder]
            advice = f"left out: {len(paths)}, choose another --output"
            failed[f"{folder}: cannot be written: {reason(error)}; {advice}"] = paths
    return [job for job in jobs if job.target.parent not in unwritable]


def summary(jobs: Sequence[Job], upscaler: Upscaler) -> tuple[str, float]:
    """Return (a text on number, size and time of the jobs, an estimate of their seconds, which is 0 for few pixels)."""
    text = f"{len(jobs)} to upscale, {sum(job.megapixels() for job in jobs):.1f} megapixels of results"
    pixels = sum(job.network_pixels() for job in jobs)
    seconds = upscaler.seconds(pixels) if pixels > QUICK else 0
    if seconds < LONG:
        return f"{text}, less than half a minute", seconds
    minutes = seconds / 60
    duration = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.1f} minutes"
    return f"{text}, about {duration}", seconds
