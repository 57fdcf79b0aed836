"""What a command of upscale.py has to do: which files, at which factor, and which results are there already."""

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from methods.filters import FILTERS
from upscaling.files import open_file
from upscaling.photo_reader import Photo
from upscaling.records import Records, state
from upscaling.targets import choose_targets, counted, drop_closed_folders, find_files, leave_out_results
from upscaling.upscaler import Upscaler
from upscaling.video_reader import Video
from utils import UserError
from weights import model_path

METHOD = 2  # a new number where the same weights and options give other pixels: older results are then made again
LONG = 30  # seconds; work that takes longer is announced, and of a picture the finished strips are kept
SLOW = 0.1  # seconds; of a video's frames that take longer, too
QUICK = 300_000  # pixels that any machine upscales in less than LONG: no time is measured for fewer


class Job(NamedTuple):
    """A file to upscale."""

    opened: Photo | Video
    target: Path
    upscaler: Upscaler  # with the factor for this file

    def network_pixels(self) -> int:
        """Of all frames, as an Upscaler counts them."""
        return self.opened.frames * self.upscaler.network_pixels(*self.opened.size)

    def megapixels(self) -> float:
        """Of the result, all frames."""
        (width, height), factor = self.opened.size, self.upscaler.scale
        return self.opened.frames * width * height * factor**2 / 1e6

    def tiles(self) -> int:
        """Of all frames."""
        return self.opened.frames * self.upscaler.tile_count(*self.opened.size)

    def keeps_strips(self, seconds: float) -> bool:
        """True where the work, which takes about `seconds`, is worth finished strips on the disk."""
        if isinstance(self.opened, Video):  # quick frames are written in pieces soon enough
            return seconds > SLOW * self.opened.frames
        return seconds > LONG

    def line(self) -> str:
        """Source and result, with width and height in pixels."""
        (width, height), factor = self.opened.size, self.upscaler.scale
        return f"{self.opened.path} {width}x{height} -> {self.target} {width * factor:.0f}x{height * factor:.0f}"


class Plan(NamedTuple):
    """What make_plan gives."""

    jobs: list[Job]
    skipped: list[str]  # texts that say, in numbers, what is not upscaled
    failed: list[str]  # lines about what cannot be read or written; others are added while the jobs are done
    records: Records


def make_plan(options: Namespace, upscaler: Upscaler) -> Plan:
    """The Plan for the parsed `options` of upscale.py. Raises UserError where an input or --output cannot be."""
    found, records = find_files(options.inputs), Records()
    results = leave_out_results(found, records)
    suffix, rename = name_suffix(options, upscaler), options.suffix is not None
    targets = choose_targets(found, options.output, suffix, rename, options.format)
    to_make, there, remade, taken = {}, 0, 0, []  # taken: lines about results of other pictures
    for path, target in targets.items():
        exists = os.path.exists(target) and not options.overwrite  # Path.exists raises where a name is too long
        made_of, source = (records.made_of(target), records.source(target)) if exists else (None, None)
        # A result without a record may be anybody's, or was edited since: it is not overwritten.
        if exists and made_of in (None, ingredients(options, path)):
            there += 1
        # Two folders may have a picture of this name; a file that --output names is meant to be replaced.
        elif source and target != options.output and os.path.realpath(path) != os.path.realpath(source):
            taken.append(f"{target}: is the result of {source}")
        else:
            to_make[path] = target
            remade += exists
    if taken:
        found.failed.append(f"{taken[0]}; left out: {len(taken)}, choose another --output, --suffix or --overwrite")
    skipped = []
    if there:
        skipped.append(f"{there} there already (--overwrite makes them again)")
    if remade:
        skipped.append(f"{remade} made of something else before and now again")
    if results:
        skipped.append(f"{len(results)} left out as results of earlier runs")
    if found.foreign:
        skipped.append(f"not read: {counted(found.foreign)}")
    return Plan(open_jobs(to_make, options, upscaler, found.failed), skipped, found.failed, records)


def name_suffix(options: Namespace, upscaler: Upscaler) -> str:
    """What the names of results have behind those of their sources: "_x4", "_3840x2160" or --suffix."""
    if options.suffix is not None:
        return options.suffix
    if options.size:
        width, height = options.size
        return f"_{width}" if width == height else f"_{width}x{height}"
    return f"_x{upscaler.scale:g}"


def ingredients(options: Namespace, path: Path) -> dict[str, Any]:
    """What the result of the file at `path` is made of, a dict as records keep it."""
    model = [options.model]
    if options.model not in FILTERS:
        weights = model_path(options.model)
        model = [weights.name, *(state(weights) or [])]
    # What is not used has no entry, as in records of earlier versions, so that theirs is not made again.
    newer = {"back_projections": options.back_project} if options.back_project else {}
    newer |= {"strength": options.strength} if options.strength < 1 else {}
    return {
        "source": path.name,
        "source_state": state(path),
        "model": model,
        "outscale": options.outscale,
        "size": options.size and list(options.size),
        "quality": options.quality,
        "self_ensemble": options.self_ensemble,
        "method": METHOD,
    } | newer


def open_jobs(targets: dict[Path, Path], options: Namespace, upscaler: Upscaler, failed: list[str]) -> list[Job]:
    """The Jobs for {path: its result}; a line in `failed` for each file or folder that cannot be read or written."""
    opened = []
    for path, target in targets.items():
        try:
            opened.append((open_file(path), target))
        except UserError as error:
            failed.append(str(error))
    if not options.dry_run:
        opened = drop_closed_folders(opened, failed)
    jobs = []
    for file, target in opened:
        fitted = upscaler  # one for all: it keeps the smaller tiles that it may have learnt to take
        if options.size:
            fitted = upscaler.with_scale(min(most / length for most, length in zip(options.size, file.size)))
        jobs.append(Job(file, target, fitted))
    return jobs


def summary(jobs: Sequence[Job], upscaler: Upscaler) -> tuple[str, float]:
    """(what the jobs come to, in words; about how many seconds, 0 where it is little)."""
    text = f"{len(jobs)} to upscale, {sum(job.megapixels() for job in jobs):.1f} megapixels of results"
    pixels = sum(job.network_pixels() for job in jobs)
    seconds = upscaler.seconds(pixels) if pixels > QUICK else 0
    if seconds < LONG:
        return f"{text}, less than half a minute", seconds
    minutes = seconds / 60
    time = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.1f} minutes"
    return f"{text}, about {time}", seconds
