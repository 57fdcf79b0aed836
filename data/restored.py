"""Make training pairs for compressed and noisy photographs: degraded LR crops, and a restorer's pictures of them as HR.

    python data/restored.py PHOTOS RESTORER.onnx OUT [--count 500] [--seed 0]
    python train.py --mode=srresnet --set TRAIN.lr_img_path=OUT/lr --set TRAIN.hr_img_path=OUT/hr ...

RESTORER.onnx maps lr (N, h, w, 3), RGB in 0..255, to sr four times as large, as Real-ESRGAN x4plus does. Of its picture
only what is finer than some 16 pixels is taken, and a fifth of that from photo_srresnet instead, like all that is
coarser: a restorer invents contrasts and colours. OUT/original has the crops of the photographs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import load_keras, prepare_environment

prepare_environment()
load_keras()

import degradation
from pictures import find_pictures, read_picture, resize, write_picture
from training.teacher import Teacher
from upscaling.models import load
from utils import Parser, UserError, exit_status

SCALE = 4
SIDE = 48  # of an LR crop
MARGIN = degradation.MARGIN  # pixels of LR around it, which matter to blur and JPEG
HALO = 8  # pixels of LR around it that the networks see
PART = 0.8  # of the restorer's detail
COARSE = 4.0  # standard deviation, in pixels of HR, of the blur that separates detail from the rest
FLAT = 12  # levels of standard deviation below which most crops are passed over


def random_crop(random: np.random.Generator, paths: list[Path]) -> np.ndarray | None:
    """Return a crop of a random picture, (SCALE * (SIDE + 2 * MARGIN),) * 2 and 3 channels, or None if it is no use."""
    picture, side = read_picture(paths[random.integers(len(paths))]), SCALE * (SIDE + 2 * MARGIN)
    if min(picture.shape[:2]) < side:
        return None
    top, left = (random.integers(length - side + 1) for length in picture.shape[:2])
    crop = picture[top : top + side, left : left + side]
    return None if crop.std() < FLAT and random.random() < 0.7 else crop


def with_detail(restored: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Return `ours` with PART of what is fine in `restored`; all are (h, w, 3) uint8."""

    def fine(picture: np.ndarray) -> np.ndarray:
        return picture - gaussian_filter(picture.astype(np.float32), (COARSE, COARSE, 0))

    mixed = ours + PART * (fine(restored) - fine(ours))
    return mixed.round().clip(0, 255).astype(np.uint8)


def without_border(picture: np.ndarray, width: int) -> np.ndarray:
    """Return a picture (h, w, 3) without the outer `width` pixels."""
    return picture[width:-width, width:-width]


def make(photos: str, restorer: str, out: Path, count: int, seed: int) -> int:
    """Write `count` triples below `out`. Raises UserError if photographs or the restorer cannot be used."""
    if out.exists():
        raise UserError(f"{out}: exists already; name another folder")
    paths, teacher, network = find_pictures(photos), Teacher(restorer, SCALE), load("photo_srresnet")
    random = np.random.default_rng(seed)
    for number in tqdm(range(count)):
        while (hr := random_crop(random, paths)) is None:
            pass
        lr = degradation.photo(resize(hr, 1 / SCALE), random)
        lr = without_border(lr, MARGIN - HALO)
        pictures = {
            "lr": without_border(lr, HALO),
            "hr": without_border(with_detail(teacher(lr), network(lr)), SCALE * HALO),
            "original": without_border(hr, SCALE * MARGIN),
        }
        for folder, picture in pictures.items():
            write_picture(out / folder / f"{seed}-{number:05}.png", picture)
    return 0


def command_line() -> argparse.Namespace:
    """Return the options of the command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", help="folder of photographs without traces of compression")
    parser.add_argument("restorer", metavar="RESTORER.onnx")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder that is made")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    options = command_line()
    sys.exit(exit_status("restored.py", lambda: make(**vars(options))))
