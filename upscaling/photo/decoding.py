"""Decode a picture, of a damaged one what there is, without a word from libtiff."""

import contextlib
import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pictures import DAMAGED

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

END_OF_JPEG = b"\xff\xd9"
DAMAGE = "damage\0"  # the entry of a Pillow image's info that says what is missing; no text in a PNG has such a name


def decoded(image: "ImageFile") -> Image.Image:
    """Return the current frame of `image` decoded; of a damaged picture what can be decoded, if it is a single one.

    What is missing is black, transparent, or in a JPEG grey, and image.info[DAMAGE] says how much that is. Raises one
    of DAMAGED if nothing can be decoded, or only every other row, as of an interlaced PNG.
    """
    try:
        image.load()
        return image
    except DAMAGED:
        is_jpeg = image.format in ("JPEG", "MPO")  # the further pictures of an MPO are not read
        is_single = is_jpeg or image.format in ("PNG", "BMP", "TIFF") and getattr(image, "n_frames", 1) == 1
        if not is_single or image.info.get("interlace"):
            raise
        image.tile = []  # Pillow now takes for the picture what its decoder has painted so far, on 0
        if image.format == "TIFF":
            image.load_end()  # turns it upright
        pixels = np.asarray(image).reshape(image.height, image.width, -1)  # (h, w, c)
        whole = _completed(image) if is_jpeg else image
        if not pixels.any() and not (image.info.get("progressive") and _is_picture(whole)):
            raise
    share = 0.0
    # A progressive JPEG is only painted at its end, so that its coarse rows cannot be told from missing ones.
    if pixels.any():
        rows, columns = pixels.any(axis=(1, 2)), pixels.any(axis=(0, 2))
        share = 1 - float(rows.mean()) or 1 - float(columns.mean())  # columns of a TIFF that was turned upright
    missing = f"about {max(0.01, share):.0%} of it is missing"
    image.info[DAMAGE] = missing if share else "parts of it may be missing or wrong"
    return whole


def _completed(image: "ImageFile") -> Image.Image:
    """Decode a JPEG that ends too early as viewers do: what is missing is grey, or coarse if it is progressive."""
    data = Path(os.fsdecode(image.filename)).read_bytes()
    whole = Image.open(BytesIO(data + END_OF_JPEG), formats=["JPEG"])
    whole.load()
    return whole


def _is_picture(image: Image.Image) -> bool:
    """Return whether the pixels of `image` differ."""
    pixels = np.asarray(image)
    return bool((pixels != pixels[0, 0]).any())


@contextlib.contextmanager
def silent_libtiff(image: "ImageFile") -> Iterator[None]:
    """Silence the process's stderr while a TIFF is decoded, because libtiff prints a line there for each damaged strip.

    This is done for each page, not once per file, because the progress bar is drawn between two pages. It costs 5
    microseconds per page; decoding one of 200x200 pixels takes 150 or more.
    """
    if image.format != "TIFF":
        yield
        return
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
