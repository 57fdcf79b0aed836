"""Upscale photographs and videos of any size and kind.

python upscale.py photo.jpg                 photo_x4.jpg beside it
python upscale.py holiday -o large          every picture below holiday, in the same folders below large
python upscale.py "scans/*.tif" --outscale 2.5 --format png
"""

import glob
import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from config import Parser
from pictures import resize, walk
from upscaling.network import ENGINES, load_network
from upscaling.photo_reader import FORMATS, open_photo, upscaled
from upscaling.photo_writer import write_photo
from upscaling.tiles import by_tiles, windows
from upscaling.video import CONTAINERS, open_video, upscale_video
from utils import UserError, exit_status
from weights import model_path

SUFFIXES = [*FORMATS, *CONTAINERS]
FOREIGN = [".heic", ".heif", ".avif", ".jxl", ".avi"]  # no folder is called like this, and no such file is written
HALO = 16  # pixels beyond a tile that the shipped weights need to differ by a level of 255 at most
LARGEST_TILE, BYTES = 512, 6_000  # BYTES of memory for each pixel of a tile


def command_line(argv=None):
    """The parsed options; a mistake is one line and exit 2."""
    parser = Parser(prog="upscale.py", description=__doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="a file, a folder, or a pattern in quotes")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="a folder; for a single file a file, too")
    parser.add_argument("--model", default="srgan", help="srgan (sharp, invents), srresnet (soft, true) or a file")
    parser.add_argument("--trust-pickle", action="store_true", help="read a pickled g_srgan.npz of TensorLayer 1 or 2")
    parser.add_argument("--scale", type=int, help="refuse a model of another factor")
    parser.add_argument("--outscale", type=float, help="factor of the result, resampled (default: the model's)")
    parser.add_argument("--format", choices=[suffix[1:] for suffix in FORMATS], help="default: the picture's own")
    parser.add_argument("--overwrite", action="store_true", help="make again what exists")
    parser.add_argument("--tile", type=int, help="side of a tile in pixels (default: what free memory allows)")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="default: OpenVINO on a CPU, else Keras")
    options = parser.parse_args(argv)
    if options.outscale is not None and not 0 < options.outscale <= 16:
        parser.error(f"--outscale {options.outscale:g}: must be above 0, at most 16")
    if options.tile is not None and options.tile <= 2 * HALO:
        parser.error(f"--tile {options.tile}: must be above {2 * HALO}")
    return options


def find_photos(inputs, failed):
    """{path: the folder it was found in, or None}; a line in `failed` for each folder that may not be read.

    Raises UserError where an input is nothing.
    """
    found = {}
    for source in inputs:
        matches = [Path(source)] if Path(source).exists() else [Path(match) for match in sorted(glob.glob(source))]
        if not matches:
            raise UserError(f"{source}: no such file or folder")
        for match in matches:
            if not match.is_dir():
                found.setdefault(match, None)
                continue
            closed = []
            files = [Path(folder, name) for folder, _, names in walk(match, closed.append) for name in names]
            shown = [path for path in sorted(files) if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
            here = [path for path in shown if path.is_file()]
            failed += [f"{error.filename}: cannot be read: {error.strerror}" for error in closed]
            if not here and not closed:
                raise UserError(f"{match}: no pictures in it ({' '.join(SUFFIXES)})")
            found |= {path: match for path in here if path not in found}
    return found


def choose_targets(photos, options, scale):
    """{path: its result}. Raises UserError where two results would be one file, or a picture be overwritten."""
    output, mark = options.output, f"_x{scale:g}"
    one_file = output and len(photos) == 1 and output.suffix.lower() in SUFFIXES and not output.is_dir()
    if output and not one_file and not output.is_dir() and output.suffix.lower() in (*SUFFIXES, *FOREIGN):
        raise UserError(f"{output}: one file for one picture, of {' '.join(SUFFIXES)}; else name a folder")
    chosen = {}
    for path, folder in photos.items():
        root = output or (folder and folder.resolve().with_name(folder.resolve().name + mark))
        target = root / path.relative_to(folder or path.parent) if root else path.with_stem(path.stem + mark)
        target = (
            target.with_suffix(f".{options.format}") if options.format and path.suffix.lower() in FORMATS else target
        )
        chosen[path] = output if one_file else target
    results = Counter(map(os.path.abspath, chosen.values()))
    for path, target in list(chosen.items()):
        if os.path.abspath(path) in results and path != target:  # of an earlier run, in the same folder
            del chosen[path]
        elif results[os.path.abspath(target)] > 1:
            raise UserError(f"{path}: another picture would become {target}, too; upscale them one by one")
        elif target.exists() and target.samefile(path):
            raise UserError(f"{path}: would be overwritten; choose another --output")
    return chosen


def largest_tile():
    """Side of a tile that takes at most half of the free memory."""
    return int(np.clip((psutil.virtual_memory().available / 2 / BYTES) ** 0.5, 4 * HALO, LARGEST_TILE))


class Upscaler:
    """A network over whole pictures, tile by tile: fewer pixels at a time where memory runs out."""

    def __init__(self, network, scale, tile, bar):
        self.network, self.scale, self.tile, self.bar = network, scale, tile, bar
        self.batch = max(1, largest_tile() ** 2 // tile**2)  # tiles at a time

    def tiles(self, size):
        """How many tiles a picture of (width, height) takes."""
        return int(np.prod([len(windows(length, self.tile, HALO)) for length in size]))

    def __call__(self, lr):
        """lr (h, w, 3) uint8, or float32 in 0..1 -> the like, `scale` times as large."""
        return np.concatenate(list(self.strips(lr)))

    def strips(self, lr):
        """The same in strips from top to bottom; in one where it is resampled."""
        strips = self.enlarge(lr)
        if self.scale == self.network.scale:
            return strips
        return [resize(np.concatenate(list(strips)), self.scale / self.network.scale)]

    def enlarge(self, lr):
        """Yield strips of sr; where memory runs out, the rest of it is made with less."""
        white, scale, done = 255 if lr.dtype == np.uint8 else 1, self.network.scale, 0  # rows of lr

        def network(tiles):
            srs = ((self.network(np.float32(tiles) * (2 / white) - 1) + 1) * (white / 2)).clip(0, white)
            self.bar.update(len(tiles))
            return srs if white == 1 else srs.round().astype(np.uint8)

        while done < len(lr):
            row = max(0, done - HALO)
            try:
                for strip in by_tiles(network, lr[row:], self.tile, HALO, self.batch):
                    own = strip[scale * max(0, done - row) :]
                    row += len(strip) // scale
                    done = max(done, row)
                    yield own
            except MemoryError:
                self.use_less()

    def use_less(self):
        """Half as many tiles at a time, or tiles half as long."""
        if self.batch > 1:
            self.batch //= 2
        elif self.tile // 2 > 2 * HALO:
            self.tile //= 2
        else:
            raise UserError(f"too little memory, even for tiles of {self.tile} pixels") from None


def open_file(path):
    """The Photo or Video at `path`, by its header."""
    return open_video(path) if path.suffix.lower() in CONTAINERS else open_photo(path)


def write_file(opened, target, upscaler, made_of=""):
    """Write the upscaled Photo or Video to `target`; lines that say what the format could not hold."""

    def found(frames):
        upscaler.bar.total -= frames * upscaler.tiles(opened.size)

    if opened.path.suffix.lower() in CONTAINERS:
        upscale_video(opened, target, upscaler, made_of, found)
        return []
    frames = (upscaled(frame, upscaler.strips, upscaler.scale) for frame in opened)
    return write_photo(target, opened, frames, upscaler.scale)


def load_upscaler(options):
    """(Upscaler, text that says what its network is). Raises UserError where the weights are not what is asked for."""
    weights = model_path(options.model)
    network = load_network(weights, options.engine, trust_pickle=options.trust_pickle)
    if options.scale not in (None, network.scale):
        raise UserError(f"--scale {options.scale}: {options.model} upscales {network.scale}x; --outscale resamples")
    scale, bar, facts = options.outscale or network.scale, tqdm(unit="tile", disable=None), weights.stat()
    upscaler = Upscaler(network, scale, options.tile or largest_tile(), bar)
    return upscaler, f"{weights.name} {facts.st_size} {facts.st_mtime_ns} x{scale}"


def open_files(targets, failed):
    """[(Photo or Video, its result)] of {path: its result}; a line in `failed` for each that cannot be read."""
    opened = []
    for path, target in targets.items():
        try:
            opened.append((open_file(path), target))
        except UserError as error:
            failed.append(str(error))
    return opened


def upscale(options):
    """Upscale what `options` name; 0, or 1 where some of it failed."""
    failed = []
    photos = find_photos(options.inputs, failed)
    upscaler, made_of = load_upscaler(options)
    bar = upscaler.bar
    targets = choose_targets(photos, options, upscaler.scale)
    missing = {path: target for path, target in targets.items() if options.overwrite or not target.exists()}
    work = open_files(missing, failed)
    bar.total = sum(opened.frames * upscaler.tiles(opened.size) for opened, _ in work)
    began, pixels, done = time.perf_counter(), 0, 0
    for opened, target in work:
        try:
            for line in write_file(opened, target, upscaler, made_of):
                bar.write(line, sys.stderr)
        except UserError as error:
            failed.append(str(error))
            continue
        done += 1
        pixels += opened.frames * opened.size[0] * opened.size[1] * upscaler.scale**2
    bar.close()
    seconds, there = time.perf_counter() - began, len(targets) - len(missing)
    rest = f", {there} there already (--overwrite makes them again)" * bool(there)
    print(f"{done} upscaled in {seconds:.1f} s, {pixels / seconds / 1e6:.2f} MPixel/s{rest}")
    for line in failed:
        print(f"upscale.py: {line}", file=sys.stderr)
    return 1 if failed else 0


def main(options):
    """The exit status: 1 where some failed, 2 for the user's mistake, 130 for Ctrl-C."""
    again = "interrupted; the same command goes on after what is done"
    return exit_status("upscale.py", lambda: upscale(options), again)


if __name__ == "__main__":
    sys.exit(main(command_line()))
