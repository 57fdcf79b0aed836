"""Training pictures: HR in memory, LR reduced once from the whole picture, aligned crops of both."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from pictures import cut_to_multiple, read_picture, resize
from utils import UserError


class Pictures:
    """Pairs of an HR picture and its LR reduction, uint8; past `memory` bytes they are decoded on demand.

    Pictures smaller than `crop` and unreadable ones are left out and named in `skipped`, a line each.
    Raises UserError where no picture is left.
    """

    def __init__(self, paths, scale, crop, memory):
        self.scale, self.crop, self.skipped = scale, crop, []
        self.paths, self.shapes, self.pairs, held = [], [], [], 0
        with ThreadPoolExecutor() as pool:
            for path, pair in zip(paths, pool.map(self.read_or_reason, paths)):
                if isinstance(pair, str):
                    self.skipped.append(pair)
                    continue
                size = sum(picture.nbytes for picture in pair)
                held += size
                self.paths.append(path)
                self.shapes.append(pair[1].shape[:2])
                self.pairs.append(pair if held <= memory else None)
        if not self.paths:
            raise UserError(f"no usable picture; the first of {len(self.skipped)} left out: {self.skipped[0]}")
        areas = np.array([height * width for height, width in self.shapes], float)
        self.chances = areas / areas.sum()  # every pixel is as likely as any other

    def read(self, path):
        """(lr, hr) of one file. Raises UserError where it is unreadable or too small."""
        hr = cut_to_multiple(read_picture(path), self.scale)
        if min(hr.shape[:2]) < self.crop:
            raise UserError(f"{path}: {hr.shape[1]}x{hr.shape[0]} is smaller than a crop of {self.crop}")
        return resize(hr, 1 / self.scale), hr

    def read_or_reason(self, path):
        try:
            return self.read(path)
        except UserError as error:
            return str(error)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        """(lr, hr) uint8, (h, w, 3) and (scale*h, scale*w, 3)."""
        return self.pairs[index] or self.read(self.paths[index])


class Crops(keras.utils.PyDataset):
    """Batches of aligned crops for the updates `first` to `last`: lr and hr, (N, crop, crop, 3) uint8.

    What an update sees depends on (seed, update) alone. Flips and quarter turns, eight in all.
    share: (number, count); of every batch only this one of `count` equal parts is cut.
    """

    def __init__(self, pictures, batch_size, seed, first, last, workers=1, share=(0, 1)):
        super().__init__(workers=workers, max_queue_size=16)
        self.pictures, self.batch_size, self.seed = pictures, batch_size, seed
        self.first, self.last = first, last
        self.part = slice(*(batch_size * number // share[1] for number in (share[0], share[0] + 1)))
        self.failures = []  # in a thread nobody could catch them: fit() goes on with black crops until it is told

    def __len__(self):
        return self.last - self.first

    def __getitem__(self, index):
        random = np.random.default_rng((self.seed, self.first + index))
        pictures, scale = self.pictures, self.pictures.scale
        side = pictures.crop // scale
        few = len(pictures) < self.batch_size  # the paper's crops come from distinct pictures
        chosen = random.choice(len(pictures), self.batch_size, replace=few, p=pictures.chances)
        places = random.random((self.batch_size, 2))
        turns = random.integers(8, size=self.batch_size)
        chosen, places, turns = chosen[self.part], places[self.part], turns[self.part]
        lrs = np.empty((len(chosen), side, side, 3), np.uint8)
        hrs = np.empty((len(chosen), pictures.crop, pictures.crop, 3), np.uint8)
        for n, (picture, place, turn) in enumerate(zip(chosen, places, turns)):
            try:
                lr, hr = pictures[picture]
            except UserError as error:  # it was readable when training began
                self.failures.append(error)
                return np.zeros_like(lrs), np.zeros_like(hrs)
            y, x = (place * (np.array(lr.shape[:2]) - side + 1)).astype(int)
            lrs[n] = turned(lr[y : y + side, x : x + side], turn)
            y, x = y * scale, x * scale
            hrs[n] = turned(hr[y : y + pictures.crop, x : x + pictures.crop], turn)
        return lrs, hrs


def turned(picture, turn):
    """One of the eight flips and quarter turns of a picture, turn = 0 (none) to 7."""
    picture = np.rot90(picture, turn % 4)
    return picture[:, ::-1] if turn >= 4 else picture
