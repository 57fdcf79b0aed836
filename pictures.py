"""Find pictures, read them as 8-bit RGB or grey, resize them as MATLAB does, and write them."""

import contextlib
import math
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy import sparse

from utils import UserError, atomic_write, reason

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
# What is read, whatever the suffix. For others, such as EPS, Pillow starts programs.
FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]
# What Pillow raises on damaged files, as seen by benchmarks/fuzz_upscale.py
DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    LookupError,
    EOFError,
    AttributeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
Pair = tuple[np.ndarray, np.ndarray]  # lr (h, w, 3) and hr (scale*h, scale*w, 3), uint8
BLOCK = 2**18  # numbers that are resized at a time
warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged EXIF or 100 megapixels do not make a picture unusable


def walk(folder: str | Path, onerror: Callable[[OSError], object]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (folder, names of folders in it, names of files in it) like os.walk, sorted by name.

    Links to folders are followed, but no folder is visited twice, so that a circle of links ends. onerror: called with
    the error if a folder cannot be read.
    """
    seen = set()
    for root, inside, files in os.walk(folder, onerror=onerror, followlinks=True):
        here = os.path.realpath(root)
        if here in seen:
            inside.clear()
            continue
        seen.add(here)
        inside.sort()
        yield root, inside, files


def find_pictures(folders: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the paths of all pictures below one or more folders, sorted by name within each; a file stands for itself.

    Folders that cannot be read, and folders with a name like a picture's, are included, so that reading them later
    reports them. Raises UserError if a folder does not exist or there are no pictures at all.
    """
    folders = [folders] if isinstance(folders, (str, Path)) else folders
    paths: list[Path] = []
    for named in folders:
        folder = Path(os.path.expanduser(named))  # unlike Path.expanduser, leaves what names no user as it is
        if not folder.exists():
            raise UserError(f"{folder}: no such folder or file")
        if not folder.is_dir():
            paths.append(folder)  # whatever its suffix: it was named
            continue
        here: list[Path] = []
        errors: list[OSError] = []
        for root, inside, files in walk(folder, errors.append):
            here += [Path(root, name) for name in files]
            if not inside and not files:
                here.append(Path(root))  # an empty folder, whose name may look like a picture's
        paths += sorted(path for path in here if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
        paths += [Path(error.filename) for error in errors]
    if not paths:
        raise UserError(f"{', '.join(map(str, folders))}: no pictures ({' '.join(sorted(SUFFIXES))})")
    return paths


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Yield the picture at `path` with its header read. Turns all that a damaged file can raise into a UserError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
            raise UserError(f"{path}: unreadable picture (a folder or a device)")
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: unreadable picture (damaged, or none at all)") from error
    except DAMAGED as error:
        cause = re.sub(r"<_io\.\w+.*?>|<\w+ object.*?>", "it", reason(error))  # the name of an object says nothing
        raise UserError(f"{path}: unreadable picture ({cause})") from error


def picture_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) from a picture's header, before any rotation that EXIF asks for.

    Raises UserError if the header cannot be read.
    """
    with _opened(path) as image:
        width, height = image.size
        return height, width


def read_picture(path: str | Path, grey: bool = False) -> np.ndarray:
    """Read a picture as uint8 (h, w, 3), rotated as its EXIF says.

    grey: return (h, w) if the picture is stored as grey. Alpha is dropped, palettes and CMYK are converted to RGB,
    more than 8 bits are reduced to 8, and of an animation the first frame is read. Raises UserError if the picture
    cannot be decoded.
    """
    with _opened(path) as image:
        mode = image.mode
        deep = mode.startswith(("I", "F"))  # integers or floats; Pillow would clip them at 255
        if deep:
            wanted = None
        elif mode in ("1", "L", "LA", "La"):
            wanted = "L"
        else:
            wanted = "RGB"
        with iio.imopen(path, "r", plugin="pillow") as file:
            # imageio says that `with` gives the base class of its plugins, which lacks Pillow's arguments.
            picture = file.read(index=0, rotate=True, mode=wanted)  # type: ignore[call-arg]
    if deep:
        picture = np.nan_to_num(picture)
        picture = np.clip(picture * (255 / white_level(mode, picture)), 0, 255).round()
    picture = np.ascontiguousarray(picture, np.uint8)
    return picture if grey else as_colour(picture)


def white_level(mode: str, grey: np.ndarray) -> int:
    """Return what stands for white in grey (h, w) of more than 8 bits, in Pillow's `mode`: 1, 255 or 65535.

    Pillow's modes I;16 are 16 bits. I and F are 32 bits, and such files do not say it: the largest value decides.
    """
    if mode not in ("I", "F"):
        return 65535
    if mode == "F" and grey.max() <= 1:
        return 1
    return 255 if grey.max() <= 255 else 65535


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write a uint8 picture (h, w) or (h, w, 3) atomically, in the format that the suffix of `path` names.

    Raises UserError if it cannot be written.
    """
    with atomic_write(path) as temporary:
        iio.imwrite(temporary, picture, plugin="pillow")


def _cubic(x: np.ndarray) -> np.ndarray:
    """Return the values of Keys' cubic kernel with a = -0.5, as in MATLAB's imresize; 0 where abs(x) > 2."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {  # name: (function, support in source pixels)
    "nearest": (lambda x: ((x >= -0.5) & (x < 0.5)).astype(float), 1),
    "bilinear": (lambda x: np.maximum(1 - np.abs(x), 0), 2),
    "bicubic": (_cubic, 4),
    "lanczos": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0), 6),
}


def scaled_length(length: int, scale: float) -> int:
    """Return the number of pixels that `length` pixels become when they are resized by `scale`, as in MATLAB."""
    # The margin absorbs rounding errors, which would add a pixel: 100 * 0.07 is 7.000000000000001.
    return math.ceil(length * scale - 1e-9)


def _resampling(size: int, scale: float, kernel: str) -> sparse.csr_array:
    """Return the sparse matrix (out, size) that resamples an axis of `size` pixels by `scale`, as MATLAB's imresize."""
    function, support = KERNELS[kernel]
    # When a picture is reduced, the kernel is stretched by 1 / scale. It then averages over all source pixels that fall
    # into an output pixel; the plain kernel would skip some of them, which causes aliasing.
    shrink = min(scale, 1)
    out = scaled_length(size, scale)
    # The centre of each output pixel in source coordinates, where pixel i covers i - 0.5 to i + 0.5.
    centre = (np.arange(out)[:, None] + 0.5) / scale - 0.5
    # All source pixels below the kernel. Two more than its support, since the centre lies between two pixels; those
    # that the kernel does not reach get weight 0.
    first = np.floor(centre - support / shrink / 2)
    taps = (first + np.arange(np.ceil(support / shrink) + 2)).astype(int)  # (out, taps)
    weights = function(shrink * (centre - taps))
    # The samples of a kernel do not sum to exactly 1; without this, a flat area would change its colour.
    weights /= weights.sum(axis=1, keepdims=True)
    # A source pixel that is hit twice gets the sum of both weights from the matrix.
    columns = mirrored(taps, size)
    rows = np.repeat(np.arange(out), taps.shape[1])
    return sparse.csr_array((weights.ravel(), (rows, columns.ravel())), shape=(out, size))


def mirrored(places: np.ndarray, size: int) -> np.ndarray:
    """Return which of the `size` pixels of an axis lies at each of `places`, integers, if it is continued mirrored.

    The border pixel is repeated: a period is the picture and its mirror image, 2 * size pixels.
    """
    return np.minimum(places % (2 * size), 2 * size - 1 - places % (2 * size))


def resize(picture: np.ndarray, scale: float, kernel: str = "bicubic") -> np.ndarray:
    """Resize a picture (h, w) or (h, w, c) by `scale`, with the same result as MATLAB's imresize.

    kernel: "nearest" (only to enlarge), "bilinear", "bicubic" or "lanczos" (three lobes). A uint8 picture gives uint8,
    a float32 picture float32, any other float64; floats are neither rounded nor clipped.
    """
    eight_bits = picture.dtype == np.uint8
    precision = np.float32 if picture.dtype == np.float32 else np.float64
    for axis in (0, 1):
        lines = np.moveaxis(picture, axis, 0)  # (length, other, c)
        flat = lines.reshape(len(lines), -1)  # (length, other * c)
        matrix = _resampling(len(lines), scale, kernel).astype(precision)
        resized = np.empty((matrix.shape[0], flat.shape[1]), np.uint8 if eight_bits else precision)
        # In blocks, because a whole photograph would take a gigabyte as floats.
        step = max(1, BLOCK // len(flat))
        for start in range(0, flat.shape[1], step):
            sums = matrix @ flat[:, start : start + step].astype(precision)
            if eight_bits:  # MATLAB rounds after each axis, half up
                sums = np.clip(np.floor(sums + 0.5), 0, 255)
            resized[:, start : start + step] = sums
        picture = np.moveaxis(resized.reshape(-1, *lines.shape[1:]), 0, axis)
    return np.ascontiguousarray(picture)


def to_float(picture: np.ndarray) -> np.ndarray:
    """Convert pictures of any shape from uint8 in 0..255 to float32 in [-1, 1], the range of the networks."""
    return picture.astype(np.float32) * (2 / 255) - 1


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Convert pictures of any shape from float in [-1, 1] to uint8 in 0..255, rounded and clipped."""
    return rounded((picture + 1) * 127.5, np.uint8)


def rounded(values: np.ndarray, dtype: np.dtype | type[np.unsignedinteger]) -> np.ndarray:
    """Convert floats on the scale of `dtype`, an unsigned integer type, to it: rounded and clipped to its range."""
    if values.dtype == dtype:
        return values
    return values.round().clip(0, np.iinfo(dtype).max).astype(dtype)


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert values on the scale of `dtype` to it: integers are rounded and clipped, floats clipped to 0..1."""
    return values.clip(0, 1).astype(dtype) if dtype.kind == "f" else rounded(values, dtype)


def cut_to_multiple(picture: np.ndarray, step: int) -> np.ndarray:
    """Cut a picture (h, w) or (h, w, c) at the bottom and right so that both sides are multiples of `step`."""
    height, width = picture.shape[:2]
    return picture[: height - height % step, : width - width % step]


def centre_crop(picture: np.ndarray, side: int) -> np.ndarray:
    """Return the middle of a picture (h, w) or (h, w, c), `side` x `side` pixels, or less if the picture is smaller."""
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def cut_out(picture: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Return `height` x `width` pixels of a picture (h, w, c) from (top, left) on; beyond its border it is mirrored."""
    rows = mirrored(np.arange(top, top + height), picture.shape[0])
    columns = mirrored(np.arange(left, left + width), picture.shape[1])
    return picture[rows[:, None], columns]


def turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """Return one of the eight flips and rotations of a picture (h, w) or (h, w, c). turn: 0 (unchanged) to 7."""
    picture = np.rot90(picture, turn % 4)
    return picture[:, ::-1] if turn >= 4 else picture


def turned_back(picture: np.ndarray, turn: int) -> np.ndarray:
    """Undo `turned`: turned_back(turned(picture, turn), turn) is `picture`."""
    return np.rot90(picture[:, ::-1] if turn >= 4 else picture, -(turn % 4))


def as_colour(picture: np.ndarray) -> np.ndarray:
    """Return a grey (h, w) or colour (h, w, 3) picture as (h, w, 3)."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)
