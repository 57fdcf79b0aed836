"""Draw what a network learns from with TRAIN.degradation=photo: crops of LR, and below each what becomes of it.

python docs/degraded.py FOLDER out.png      the folder of HR pictures, and the picture to write
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import import_keras

import_keras()

from dataset import Crops, Pictures
from evaluation.grids import grid
from pictures import find_pictures, resize, write_picture
from utils import exit_status

ACROSS, DOWN, CROP, SCALE, ZOOM = 8, 3, 192, 4, 3


def main(folder, out):
    pictures = Pictures(find_pictures(folder), SCALE, CROP, 1e9)
    both = [Crops(pictures, ACROSS * DOWN, 0, 0, 1, photo=photo)[0][0] for photo in (False, True)]  # (24, 48, 48, 3)
    enlarged = [[resize(lr, ZOOM, "nearest") for lr in lrs] for lrs in both]
    rows = [lrs[ACROSS * row : ACROSS * (row + 1)] for row in range(DOWN) for lrs in enlarged]
    write_picture(out, grid(rows))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(exit_status("degraded.py", lambda: main(*sys.argv[1:])))
