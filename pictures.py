"""Pictures: found, read as 8-bit RGB or grey, resized as MATLAB does, laid out in grids, written."""

import contextlib
import os
import re
import stat
import struct
import warnings
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError
from scipy import sparse

from utils import UserError, atomic_write

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]  # whatever the suffix; Pillow hands others to programs (EPS)
# what Pillow raises on damaged files: benchmarks/fuzz_upscale.py
DAMAGED = (OSError, ValueError, TypeError, SyntaxError, LookupError, EOFError, AttributeError, ArithmeticError)
DAMAGED += (struct.error, zlib.error, Image.DecompressionBombError)
BLOCK = 2**18  # values that are resized at a time
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged EXIF, of 100 megapixels: such files can be used


def walk(folder, onerror):
    """os.walk in order of the names, through links to folders too, but into no folder twice."""
    seen = set()
    for root, inside, files in os.walk(folder, onerror=onerror, followlinks=True):
        here = os.path.realpath(root)
        if here in seen:
            inside.clear()
            continue
        seen.add(here)
        inside.sort()
        yield root, inside, files


def find_pictures(folders):
    """Paths of all pictures below one folder or several, sorted. Raises UserError where there is none.

    What is called like a picture and is no file, and folders that may not be read, are listed too: to be named.
    """
    folders = [folders] if isinstance(folders, (str, Path)) else folders
    found = []
    for folder in map(Path, folders):
        folder = folder.expanduser()
        if not folder.exists():
            raise UserError(f"{folder}: no such folder or file")
        here, errors = [folder] if folder.is_file() else [], []
        for root, inside, files in walk(folder, errors.append):
            here += [Path(root, name) for name in files]
            if not inside and not files:
                here.append(Path(root))  # a folder called like a picture
        found += sorted(path for path in here if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
        found += [Path(error.filename) for error in errors]
    if not found:
        raise UserError(f"{', '.join(map(str, folders))}: no pictures ({' '.join(sorted(SUFFIXES))})")
    return found


@contextlib.contextmanager
def _opened(path):
    """The picture at `path`, its header read. Turns what a damaged file makes Pillow raise into one UserError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for its other end
            raise UserError(f"{path}: unreadable picture (a folder or a device)")
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: unreadable picture (damaged, or none at all)") from error
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        reason = re.sub(r"<_io\.\w+.*?>|<\w+ object.*?>", "it", reason.splitlines()[0])
        raise UserError(f"{path}: unreadable picture ({reason})") from error


def picture_size(path):
    """(height, width) as the header says, not turned as EXIF says. Raises UserError where it cannot be read."""
    with _opened(path) as image:
        return image.size[::-1]


def read_picture(path, grey=False):
    """One picture as uint8 (h, w, 3), turned as its EXIF says; with `grey`, (h, w) if it is stored as grey.

    Alpha is dropped, palettes and CMYK are converted, 16-bit grey is reduced to 8 bits, of an animation the first
    frame is taken. Raises UserError where it cannot be decoded.
    """
    with _opened(path) as image:
        mode = image.mode
        deep = mode.startswith(("I", "F"))  # Pillow would clip these at 255
        wanted = None if deep else "L" if mode in ("1", "L", "LA", "La") else "RGB"
        with iio.imopen(path, "r", plugin="pillow") as file:
            picture = file.read(index=0, rotate=True, mode=wanted)
    if deep:
        picture = np.nan_to_num(picture)
        white = 1 if mode == "F" and picture.max() <= 1 else 255 if mode in "IF" and picture.max() <= 255 else 65535
        picture = np.clip(picture * (255 / white), 0, 255).round()
    picture = np.ascontiguousarray(picture, np.uint8)
    return picture if picture.ndim == 3 or grey else np.repeat(picture[..., None], 3, -1)


def write_picture(path, picture):
    """Write uint8 (h, w), (h, w, 3) under a name that says the format."""
    with atomic_write(path) as temporary:
        iio.imwrite(temporary, picture, plugin="pillow")


def _cubic(x):
    """Keys' kernel with a = -0.5, as in MATLAB's imresize."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


KERNELS = {  # name: (function, support in source pixels)
    "nearest": (lambda x: ((x >= -0.5) & (x < 0.5)).astype(float), 1),
    "bicubic": (_cubic, 4),
    "lanczos": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0), 6),
}


def _resampling(size, scale, kernel):
    """Sparse (out, size) matrix that resamples one axis; the border is mirrored, reductions are smoothed."""
    function, support = KERNELS[kernel]
    shrink = min(scale, 1)
    out = int(np.ceil(size * scale - 1e-9))
    centre = (np.arange(out)[:, None] + 0.5) / scale - 0.5
    first = np.floor(centre - support / shrink / 2)
    taps = (first + np.arange(np.ceil(support / shrink) + 2)).astype(int)  # (out, taps)
    weights = function(shrink * (centre - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.minimum(taps % (2 * size), 2 * size - 1 - taps % (2 * size))
    rows = np.repeat(np.arange(out), taps.shape[1])
    return sparse.csr_array((weights.ravel(), (rows, mirrored.ravel())), shape=(out, size))


def resize(picture, scale, kernel="bicubic"):
    """Resize (h, w) or (h, w, c) by `scale` as MATLAB's imresize does; uint8 is rounded, float is not.

    kernel: nearest, bicubic or lanczos (three lobes).
    """
    eight_bits = picture.dtype == np.uint8
    for axis in (0, 1):
        lines = np.moveaxis(picture, axis, 0)  # (length, other, c)
        matrix, flat = _resampling(len(lines), scale, kernel), lines.reshape(len(lines), -1)
        resized = np.empty((matrix.shape[0], flat.shape[1]), np.uint8 if eight_bits else float)
        step = max(1, BLOCK // len(flat))
        for start in range(0, flat.shape[1], step):  # all at once, a photograph would take a gigabyte as floats
            sums = matrix @ flat[:, start : start + step].astype(float)
            # MATLAB rounds after each axis
            resized[:, start : start + step] = np.clip(np.floor(sums + 0.5), 0, 255) if eight_bits else sums
        picture = np.moveaxis(resized.reshape(-1, *lines.shape[1:]), 0, axis)
    return np.ascontiguousarray(picture)


def to_float(picture):
    """uint8 0..255 -> float32 [-1, 1], the range of the networks."""
    return np.float32(picture) * (2 / 255) - 1


def to_uint8(picture):
    """float [-1, 1] -> uint8 0..255, rounded; what lies outside is clipped."""
    return ((picture + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def cut_to_multiple(picture, step):
    """The picture without the last rows and columns that do not fill `step`."""
    height, width = picture.shape[:2]
    return picture[: height - height % step, : width - width % step]


def centre_crop(picture, side):
    """The middle `side` x `side` of a picture (all of a shorter axis)."""
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def turned(picture, turn):
    """One of the eight flips and quarter turns of a picture, turn = 0 (none) to 7."""
    picture = np.rot90(picture, turn % 4)
    return picture[:, ::-1] if turn >= 4 else picture


def turned_back(picture, turn):
    """The picture of which `picture` is turned(..., turn)."""
    return np.rot90(picture[:, ::-1] if turn >= 4 else picture, -(turn % 4))


def as_colour(picture):
    """Grey (h, w) or colour (h, w, 3) -> (h, w, 3)."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)


def labelled(picture, text):
    """The picture (h, w, 3) under a white strip with `text`."""
    strip = Image.new("RGB", (picture.shape[1], 16), "white")
    ImageDraw.Draw(strip).text((2, 2), text, fill="black")
    return np.concatenate([np.asarray(strip), picture])


def grid(rows, gap=4):
    """One picture (h, w, 3) from rows of pictures of one height a row; white between them."""
    lines = []
    for row in rows:
        height = max(p.shape[0] for p in row)
        padded = [np.pad(p, ((0, height - p.shape[0]), (0, gap), (0, 0)), constant_values=255) for p in row]
        lines.append(np.concatenate(padded, axis=1)[:, :-gap])
    width = max(line.shape[1] for line in lines)
    lines = [np.pad(x, ((0, gap), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in lines]
    return np.concatenate(lines)[:-gap]
