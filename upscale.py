"""Upscale photographs and videos of any size and kind.

python upscale.py photo.jpg                 photo_x4.jpg beside it
python upscale.py holiday -o large          every picture below holiday, in the same folders below large
python upscale.py "scans/*.tif" --outscale 2.5 --format png
"""

import functools
import sys
import time
from pathlib import Path

from tqdm import tqdm

from config import Parser
from upscaling.files import open_file, upscale_file
from upscaling.network import ENGINES
from upscaling.photo_reader import PHOTO_FORMATS
from upscaling.targets import choose_targets, find_files
from upscaling.upscaler import HALO, load
from utils import UserError, exit_status
from weights import model_path

__all__ = ["load"]  # the Python interface: upscaling/upscaler.py


def command_line(argv=None):
    """The parsed options; a mistake is one line and exit 2."""
    parser = Parser(prog="upscale.py", description=__doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="a file, a folder, or a pattern in quotes")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="a folder; for a single file a file, too")
    parser.add_argument("--model", default="srgan", help="srgan (sharp, invents), srresnet (soft, true) or a file")
    parser.add_argument("--trust-pickle", action="store_true", help="read a pickled g_srgan.npz of TensorLayer 1 or 2")
    parser.add_argument("--scale", type=int, help="refuse a model of another factor")
    parser.add_argument("--outscale", type=float, help="factor of the result, resampled (default: the model's)")
    formats = [suffix[1:] for suffix in PHOTO_FORMATS]
    parser.add_argument("--format", choices=formats, help="default: the picture's own")
    parser.add_argument("--overwrite", action="store_true", help="make again what exists")
    parser.add_argument("--tile", type=int, help="side of a tile in pixels (default: what free memory allows)")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="default: OpenVINO on a CPU, else Keras")
    options = parser.parse_args(argv)
    if options.outscale is not None and not 0 < options.outscale <= 16:
        parser.error(f"--outscale {options.outscale:g}: must be above 0, at most 16")
    if options.tile is not None and options.tile <= 2 * HALO:
        parser.error(f"--tile {options.tile}: must be above {2 * HALO}")
    return options


def load_upscaler(options):
    """The Upscaler that `options` ask for. Raises UserError where the model is missing or of another factor."""
    upscaler = load(options.model, options.outscale, options.engine, options.tile, options.trust_pickle)
    factor = upscaler.network.scale
    if options.scale not in (None, factor):
        raise UserError(f"--scale {options.scale}: {options.model} upscales {factor}x; --outscale resamples")
    return upscaler


def identity(options, upscaler):
    """A text that changes when the weights or the factor do; pieces of a video are made anew then."""
    weights = model_path(options.model)
    status = weights.stat()
    return f"{weights.name} {status.st_size} {status.st_mtime_ns} x{upscaler.scale}"


def open_files(targets, failed):
    """[(Photo or Video, its result)] of {path: its result}; a line in `failed` for each that cannot be read."""
    opened = []
    for path, target in targets.items():
        try:
            opened.append((open_file(path), target))
        except UserError as error:
            failed.append(str(error))
    return opened


def advance(bar, before, elsewhere, done, total):
    """Show `done` of the `total` tiles of one file; there were `before`, and there are `elsewhere` in other files."""
    bar.total = elsewhere + total
    bar.update(before + done - bar.n)


def upscale(options):
    """Upscale what `options` name; 0, or 1 where some of it failed."""
    failed = []
    files = find_files(options.inputs, failed)
    upscaler = load_upscaler(options)
    targets = choose_targets(files, options.output, f"_x{upscaler.scale:g}", options.format)
    missing = {path: target for path, target in targets.items() if options.overwrite or not target.exists()}
    work = open_files(missing, failed)
    tiles = [opened.frames * upscaler.tile_count(*opened.size) for opened, _ in work]
    made_of = identity(options, upscaler)
    began, pixels, done = time.perf_counter(), 0, 0
    with tqdm(total=sum(tiles), unit="tile", disable=None) as bar:
        for (opened, target), expected in zip(work, tiles):
            progress = functools.partial(advance, bar, bar.n, bar.total - expected)
            try:
                lost = upscale_file(opened, target, upscaler, progress, made_of)
            except UserError as error:
                failed.append(str(error))
                continue
            for line in lost:
                bar.write(line, sys.stderr)
            done += 1
            pixels += opened.frames * opened.size[0] * opened.size[1] * upscaler.scale**2
    seconds, existing = time.perf_counter() - began, len(targets) - len(missing)
    summary = f"{done} upscaled in {seconds:.1f} s, {pixels / seconds / 1e6:.2f} MPixel/s"
    if existing:
        summary += f", {existing} there already (--overwrite makes them again)"
    print(summary)
    for line in failed:
        print(f"upscale.py: {line}", file=sys.stderr)
    return 1 if failed else 0


def main(options):
    """The exit status: 1 where some failed, 2 for the user's mistake, 130 for Ctrl-C."""
    again = "interrupted; the same command goes on after what is done"
    return exit_status("upscale.py", lambda: upscale(options), again)


if __name__ == "__main__":
    sys.exit(main(command_line()))
