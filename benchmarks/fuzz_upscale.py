"""Thousands of damaged pictures: each must be upscaled or refused in one line, in little time and memory.

    python benchmarks/fuzz_upscale.py [CASES] [SEED] [ENDING ...]

Files of every kind are cut, overwritten, shuffled and given wild numbers (half of the PNGs get correct checksums
again), then read, enlarged and written in their own format or another. ENDING, such as heif, limits the kinds of files.
Exits with 1 if a case ends in anything but a picture or a UserError, or takes more than SECONDS or MEGABYTES; its file
stays in samples/fuzz.
"""

import multiprocessing
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pillow_heif
from PIL import Image, ImageCms

from upscaling.photo.reader import Photo, Strips, open_photo
from upscaling.photo.writer import write_photo
from upscaling.upscale_file import upscale_file
from upscaling.upscaler import Upscaler
from utils import UserError

SECONDS, MEGABYTES, LIMIT = 10, 1500, 4_000_000
BATCH = 100  # cases in a process
OUTPUTS = [".png", ".jpg", ".webp", ".tiff"]
WILD = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]


def originals():
    """Return {name: bytes} of small pictures of every kind."""
    random = np.random.default_rng(0)
    rgb = np.kron(random.integers(0, 256, (4, 6, 3), np.uint8), np.ones((6, 6, 1), np.uint8))
    rgb[:6] = random.integers(0, 256, rgb[:6].shape)
    grey, alpha = rgb[..., 0], np.where(rgb[..., 1:2] < 99, 0, rgb[..., 1:2])
    colour, clear = Image.fromarray(rgb), Image.fromarray(np.dstack([rgb, alpha]))
    exif = Image.Exif()
    exif.update({0x112: 6, 0x10F: "Maker", 0x8298: "Author"})
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x9003: "2024:01:01 00:00:00", 0xA002: 36})
    exif.get_ifd(0x8825).update({1: "N", 2: (50.0, 30.0, 1.5)})
    metadata = {"exif": exif, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    metadata |= {"dpi": (300, 300), "xmp": b'<x:xmpmeta tiff:Orientation="6"/>'}
    frames = [clear, clear.transpose(Image.Transpose.ROTATE_180), clear.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    moving = {"save_all": True, "append_images": frames[1:], "duration": [50, 70, 90], "loop": 2}
    files = {}

    def add(name, image, **options):
        file = BytesIO()
        image.save(file, name.split(".")[1], **options)
        files[name] = file.getvalue()

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        add(f"{mode}.png", clear.convert(mode), **metadata)
        add(f"{mode}.webp", clear.convert(mode), lossless=mode == "P", **metadata)
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            add(f"{mode}.tiff.{compression}", clear.convert(mode), compression=compression, **metadata)
    add("jpeg.tiff", colour, compression="jpeg")
    add("group4.tiff", colour.convert("1"), compression="group4")
    for mode in ("1", "L", "P", "RGB"):
        add(f"{mode}.bmp", colour.convert(mode))
    for mode in ("L", "RGB", "CMYK"):
        add(f"{mode}.jpeg", colour.convert(mode), **metadata)
        add(f"{mode}-progressive.jpeg", colour.convert(mode), progressive=True, **metadata)
    add("two.mpo", colour, save_all=True, append_images=[colour])
    add("still.gif", colour)
    add("grey.gif", colour.convert("L"), transparency=3)
    for name in ("moving.gif", "moving.png", "moving.webp"):
        add(name, clear, **moving, **{} if "gif" in name else metadata)
    for mode in ("L", "RGB", "RGBA"):
        add(f"{mode}.avif", clear.convert(mode), **metadata)
        add(f"{mode}.heif", clear.convert(mode), **metadata)
    add("moving.avif", clear, **moving)
    add("two.heif", clear, save_all=True, append_images=[colour], primary_index=1)
    deep_heif = BytesIO()
    pillow_heif.from_bytes("RGB;16", colour.size, (rgb.astype(np.uint16) * 257).tobytes()).save(deep_heif, quality=90)
    files["deep.heif"] = deep_heif.getvalue()
    add("pages.tiff", clear, save_all=True, append_images=[colour.convert("L"), *frames])
    with tempfile.TemporaryDirectory() as folder:
        for channels in (1, 2, 3, 4):
            bands = np.dstack([rgb, alpha])[..., [0, 3] if channels == 2 else slice(channels)].astype(np.uint16) * 257
            deep = Strips(bands.shape, bands.dtype, [bands], {})
            for suffix in ("png", "tiff"):
                path = Path(folder, f"deep{channels}.{suffix}")
                write_photo(path, Photo(path, f".{suffix}", grey.shape, 1, False, True, False, 0, 0), [deep])
                files[path.name] = path.read_bytes()
    return files


def damaged(data, others, random):
    """Return the bytes of a file, `data`, after one to four injuries. others: the bytes of all files."""
    data = bytearray(data)
    for _ in range(random.integers(1, 5)):
        size = max(1, len(data))
        at = int(random.integers(0, (size, min(size, 200), min(size, 600))[random.integers(3)]))
        at = size - 1 - at if random.integers(3) == 0 else at  # most structure is at the beginning and the end
        length = int(random.integers(1, 1 + min(64, size - at))) if at < size else 1
        wild = WILD[random.integers(len(WILD))]
        injury = random.integers(0, 9)
        if injury == 0:
            del data[at:]
        elif injury == 1:
            del data[at : at + length]
        elif injury == 2:
            data[at:at] = data[at : at + length]
        elif injury == 3:
            data[at : at + length] = random.bytes(length)
        elif injury == 4:
            other = others[random.integers(len(others))]
            data[at : at + length] = other[at : at + length]
        elif injury == 5:
            data[at : at + 4] = struct.pack("<>"[random.integers(2)] + "I", wild)
        elif injury == 6:
            data[at : at + 2] = struct.pack("<>"[random.integers(2)] + "H", wild % 65536)
        elif at < len(data):
            data[at] = wild % 256 if injury == 7 else data[at] ^ 1 << random.integers(8)
    if data[:4] == b"\x89PNG" and random.integers(2):
        data = checksummed(data)
    return bytes(data)


def checksummed(data):
    """Give the chunks of a PNG the checksums of what they now contain."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        data[at + 8 + length : at + 12 + length] = struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length]))
        at += 12 + length
    return data


class Repeat:
    """A network that repeats pixels."""

    scale = 2

    def __call__(self, lr):
        return lr.repeat(2, axis=1).repeat(2, axis=2)


UPSCALER = Upscaler(Repeat(), tile=512)


def run_cases(files, seed, cases, folder, current, outcomes):
    """Run numbered cases in a process of their own; put [(outcome, detail)], longest time and memory in `outcomes`."""
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEGABYTES * 2**20,) * 2)
    signal.signal(signal.SIGALRM, out_of_time)
    results, longest, contents = [], 0.0, list(files.values())
    for case in cases:
        random = np.random.default_rng([seed, case])
        name = list(files)[case % len(files)]
        path = folder / f"{case}-{name}.png"  # the suffix is mostly wrong, since readers must not rely on it
        path.write_bytes(damaged(files[name], contents, random))
        output = str(random.choice([*OUTPUTS, ""]))  # "": as the file's own format
        current.value, start = case, time.perf_counter()
        signal.alarm(SECONDS)
        try:
            photo = open_photo(path, LIMIT)
            upscale_file(photo, folder / f"out{output or photo.suffix}", UPSCALER)
            results.append(("upscaled", name))
        except UserError as error:
            one_line = "\n" not in str(error) and str(error).startswith(f"{folder}/")
            results.append((f"UserError from {type(error.__cause__).__name__}" if one_line else "BUG", str(error)))
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-4:]
            place = " ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
            results.append(("BUG", f"{path} as {output}: {type(error).__name__}: {error} at {place}"))
        signal.alarm(0)
        longest = max(longest, time.perf_counter() - start)
        if results[-1][0] != "BUG":
            path.unlink()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if used > MEGABYTES:
        results.append(("BUG", f"cases {cases[0]} to {cases[-1]} took {used:.0f} MB"))
    outcomes.put((results, longest, used))


class OutOfTime(Exception):
    pass


def out_of_time(signal_number, stack):
    raise OutOfTime(f"takes more than {SECONDS} s")


def main(cases=5000, seed=0, *endings):
    """Upscale damaged files as upscale.py does; return 0 if all cases ended well, else 1."""
    cases, folder, files = int(cases), Path("samples/fuzz"), originals()
    names = [name for name in files if not endings or Path(name).suffix[1:] in endings]
    # The kinds take turns, in another order for each seed, so that few cases are of kinds of all sorts.
    files = {name: files[name] for name in np.random.default_rng(int(seed)).permutation(names).tolist()}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    context, start = multiprocessing.get_context("fork"), time.perf_counter()
    results, longest, used = [], 0.0, 0.0
    for first in range(0, cases, BATCH):
        current, outcomes = context.Value("q", -1), context.Queue()
        numbers = range(first, min(first + BATCH, cases))
        process = context.Process(target=run_cases, args=(files, int(seed), numbers, folder, current, outcomes))
        process.start()
        while process.is_alive() and outcomes.empty():
            time.sleep(0.01)
        if process.is_alive() or not outcomes.empty():
            outcome = outcomes.get()
            results, longest, used = results + outcome[0], max(longest, outcome[1]), max(used, outcome[2])
        else:
            results.append(("BUG", f"case {current.value} ended the process with {process.exitcode}"))
        process.join()
    bugs = [detail for outcome, detail in results if outcome == "BUG"]
    for outcome, count in Counter(outcome for outcome, _ in results).most_common():
        print(f"{count:7d} {outcome}")
    seconds = time.perf_counter() - start
    print(
        f"{cases} cases from {len(files)} files in {seconds:.0f} s, the longest {longest:.1f} s, at most {used:.0f} MB"
    )
    print("\n".join([*bugs, f"{len(bugs)} bugs"]))
    return 1 if bugs else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
