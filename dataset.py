"""Training pictures: HR in memory, LR reduced once from the whole picture, aligned crops of both."""

import os
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from pictures import centre_crop, cut_to_multiple, find_pictures, picture_size, read_picture, resize, turned
from training import devices
from utils import UserError

OVERHEAD_BYTES = 4096  # bytes that a file takes in memory for its name and numbers, and a picture for its last page


def load_pictures(folders, scale, crop, memory):
    """The training pictures below `folders` as Pictures; what cannot be used is named. Raises UserError."""
    paths = find_pictures(folders)
    devices.require_same(len(paths), f"{folders}: {len(paths)} pictures here, more where another process runs")
    print(f"reading {len(paths)} pictures")
    pictures = Pictures(paths, scale, crop, memory)
    name_skipped(pictures, after_a_bar=False)
    return pictures


def name_skipped(pictures, after_a_bar=True):
    """Print the pictures found to be unusable since the last time, a line each; a progress bar ends its line first."""
    if pictures.skipped and after_a_bar:
        print()
    while pictures.skipped:
        print(f"left out: {pictures.skipped.pop(0)}")


def validation_pictures(folders, count, crop, scale):
    """[(lr, hr)], uint8: centre crops of `crop` pixels a side of the first `count` pictures. Raises UserError."""
    pairs = []
    for path in find_pictures(folders)[:count]:
        hr = cut_to_multiple(centre_crop(read_picture(path), crop), scale)
        if min(hr.shape[:2]) < 4 * scale:
            raise UserError(f"{path}: {hr.shape[1]}x{hr.shape[0]} is too small to validate with")
        pairs.append((resize(hr, 1 / scale), hr))
    return pairs


class Pictures:
    """Pairs of an HR picture and its LR reduction, uint8; past `memory` bytes they are decoded on demand.

    The headers of all are read first. Those unreadable or smaller than `crop` are left out; those whose pixels turn
    out to be damaged, missing or of another size are never used again. Each is named once in `skipped`, a line each.
    Raises UserError where no picture is left, later where less than half of them are.
    """

    def __init__(self, paths, scale, crop, memory):
        self.scale, self.crop, self.skipped, self.broken, self.fewest = scale, crop, [], {}, 0
        self.paths, self.shapes = [], []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, shape in zip(paths, pool.map(self.shape_or_reason, paths)):
                if isinstance(shape, str):
                    self.skipped.append(shape)
                    continue
                self.paths.append(path)
                self.shapes.append(shape)
            areas = np.array([height * width for height, width in self.shapes], float)
            sizes = 3 * areas * (1 + 1 / scale**2) + OVERHEAD_BYTES
            kept = np.count_nonzero(np.cumsum(sizes) + OVERHEAD_BYTES * len(areas) <= memory)
            self.pairs = [None] * len(self.paths)
            self.pairs[:kept] = pool.map(self.__getitem__, range(kept))
        if not self.usable:
            raise UserError(f"no usable picture; the first of {len(self.skipped)} left out: {self.skipped[0]}")
        self.fewest = self.usable / 2  # so many do not break one by one: a disc is gone, or another folder there
        self.chances = areas / areas.sum()  # every pixel is as likely as any other

    def shape_or_reason(self, path):
        """(height, width) of HR as the header says, or why there is none."""
        try:
            height, width = picture_size(path)
            if min(height, width) // self.scale * self.scale < self.crop:
                raise UserError(f"{path}: {width}x{height} is smaller than a crop of {self.crop}")
            return height - height % self.scale, width - width % self.scale
        except UserError as error:
            return str(error)

    def read(self, index):
        """(lr, hr) of one file. Raises UserError where it is unreadable or of another size than its header said."""
        path, shape = self.paths[index], self.shapes[index]
        hr = cut_to_multiple(read_picture(path), self.scale)
        if hr.shape[:2] not in (shape, shape[::-1]):  # it may lie on its side
            raise UserError(f"{path}: has changed from {shape[1]}x{shape[0]} to {hr.shape[1]}x{hr.shape[0]}")
        return resize(hr, 1 / self.scale), hr

    @property
    def usable(self):
        """How many pictures are not known to be broken."""
        return len(self.paths) - len(self.broken)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        """(lr, hr) uint8, (h, w, 3) and (scale*h, scale*w, 3); None if it is broken. Raises UserError if most are."""
        if index not in self.broken:
            try:
                return self.pairs[index] or self.read(index)
            except UserError as error:
                reason = str(error)
                if self.broken.setdefault(index, reason) is reason:  # two threads may come upon it at once
                    self.skipped.append(reason)
        if self.usable < self.fewest:
            last = list(self.broken.values())[-1]
            raise UserError(f"{len(self.broken)} of {len(self)} pictures cannot be used any more, the last: {last}")
        return None


class Crops(keras.utils.PyDataset):
    """Batches of aligned crops for the updates `first` to `last`: lr and hr, (N, crop, crop, 3) uint8.

    What an update sees depends on (seed, update), and on which pictures are broken. Eight flips and quarter turns.
    share: (number, count); of every batch only this one of `count` equal parts is cut. targets: what takes HR's place,
    index -> (scale*h, scale*w, 3) uint8.
    """

    def __init__(self, pictures, batch_size, seed, first, last, workers=1, share=(0, 1), targets=None):
        super().__init__(workers=workers, max_queue_size=16)
        self.pictures, self.batch_size, self.seed, self.targets = pictures, batch_size, seed, targets
        self.first, self.last = first, last
        number, count = share
        self.part = range(batch_size * number // count, batch_size * (number + 1) // count)  # places in the batch
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
        lrs = np.empty((len(self.part), side, side, 3), np.uint8)
        hrs = np.empty((len(self.part), pictures.crop, pictures.crop, 3), np.uint8)
        for out, n in enumerate(self.part):
            try:
                picture, pair = chosen[n], pictures[chosen[n]]
                if pair is None:
                    picture = self.replacement(index, n, chosen)
                    pair = pictures[picture]
                lr, hr = pair if self.targets is None else (pair[0], self.targets[picture])
            except UserError as error:  # most were readable when training began
                self.failures.append(error)
                return np.zeros_like(lrs), np.zeros_like(hrs)
            y, x = (places[n] * (np.array(lr.shape[:2]) - side + 1)).astype(int)
            lrs[out] = turned(lr[y : y + side, x : x + side], turns[n])
            y, x = y * scale, x * scale
            hrs[out] = turned(hr[y : y + pictures.crop, x : x + pictures.crop], turns[n])
        return lrs, hrs

    def replacement(self, index, n, chosen):
        """The index of a picture in place of a broken one, drawn as that was.

        It is the first usable in an order of the place's own: the same whichever pictures are known to be broken by
        then, and whatever the other places hold.
        """
        random = np.random.default_rng((self.seed, self.first + index, n))
        order = random.exponential(size=len(self.pictures)) / self.pictures.chances
        order[chosen] += order.max()  # what the batch holds already comes last
        return next(picture for picture in np.argsort(order) if self.pictures[picture])
