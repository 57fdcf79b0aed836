"""Make training pairs for compressed and noisy photographs: degraded LR crops, and a restorer's pictures of them as HR.

    python data/restored.py PHOTOS RESTORER.onnx OUT [--count 500]
    python train.py --mode=srresnet --set TRAIN.lr_img_path=OUT/lr --set TRAIN.hr_img_path=OUT/hr ...

RESTORER.onnx maps lr (N, h, w, 3), RGB in 0..255, to sr four times as large, as Real-ESRGAN x4plus does. Of its picture
only what is finer than some 16 pixels is taken, and a fifth of that from photo_srresnet instead, like all that is
coarser: a restorer invents contrasts and colours. OUT/original has the crops of the photographs. The same command
resumes, and a larger --count adds to what is there.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import import_keras

import_keras()

import degradation
from evaluation.metrics import shaved
from pictures import find_pictures, picture_size, read_picture, resize, write_picture
from training.teacher import Teacher
from upscaling.models import load
from utils import Parser, UserError, exit_status

SCALE = 4
SIDE = 48  # of an LR crop
MARGIN = degradation.MARGIN  # pixels of LR around it, which matter to blur and JPEG
HALO = 8  # pixels of LR around it that the networks see
CROP = SCALE * (SIDE + 2 * MARGIN)  # side of a crop of a photograph
PART = 0.8  # of the restorer's detail
COARSE = 4.0  # standard deviation, in pixels of HR, of the blur that separates detail from the rest
FLAT = 12  # levels of standard deviation below which most crops are passed over


def random_crop(random: np.random.Generator, paths: list[Path]) -> np.ndarray:
    """Return a crop (CROP, CROP, 3) of one of the pictures, mostly drawn again if it is flat."""
    while True:
        picture = read_picture(paths[random.integers(len(paths))])
        top, left = (random.integers(length - CROP + 1) for length in picture.shape[:2])
        crop = picture[top : top + CROP, left : left + CROP]
        if crop.std() >= FLAT or random.random() < 0.3:
            return crop


def with_detail(restored: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Return `ours` with PART of what is fine in `restored`; all are (h, w, 3) uint8."""

    def fine(picture: np.ndarray) -> np.ndarray:
        return picture - gaussian_filter(picture.astype(np.float32), (COARSE, COARSE, 0))

    return degradation.to_uint8(ours + PART * (fine(restored) - fine(ours)))


def make(photos: str, restorer: str, out: Path, count: int) -> int:
    """Write `count` triples below `out`, but for those that are there.

    Raises UserError if no photograph is large enough, or one, or the restorer, cannot be used.
    """
    paths = [path for path in find_pictures(photos) if min(picture_size(path)) >= CROP]
    if not paths:
        raise UserError(f"{photos}: no picture is as large as {CROP}x{CROP}")
    teacher, network = Teacher(restorer, SCALE), load("photo_srresnet")
    for number in tqdm(range(count)):
        name = f"{number:06}.png"
        if (out / "original" / name).exists():  # the last of the three that is written
            continue
        random = np.random.default_rng(number)
        hr = random_crop(random, paths)
        lr = shaved(degradation.photo(resize(hr, 1 / SCALE), random), MARGIN - HALO)
        write_picture(out / "lr" / name, shaved(lr, HALO))
        write_picture(out / "hr" / name, shaved(with_detail(teacher(lr), network(lr)), SCALE * HALO))
        write_picture(out / "original" / name, shaved(hr, SCALE * MARGIN))
    return 0


def command_line() -> argparse.Namespace:
    """Return the options of the command."""
    parser = Parser(description=__doc__)
    parser.add_argument("photos", metavar="PHOTOS", help="folder of photographs without traces of compression")
    parser.add_argument("restorer", metavar="RESTORER.onnx")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the pairs")
    parser.add_argument("--count", type=int, default=500)
    return parser.parse_args()


if __name__ == "__main__":
    options = command_line()
    sys.exit(exit_status("restored.py", lambda: make(**vars(options))))
