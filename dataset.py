"""Training pictures: HR in memory, LR reduced once from the whole picture, aligned crops of both."""

import os
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from tqdm import tqdm

from pictures import centre_crop, cut_to_multiple, find_pictures, picture_size, read_picture, resize, turned
from training import devices
from utils import UserError

OVERHEAD_BYTES = 4096  # of memory: a file for its name and numbers, and a picture for its last page


def load_pictures(folders, scale, crop, memory):
    """The training pictures below `folders` as Pictures; what cannot be used is named. Raises UserError."""
    paths = find_pictures(folders)
    devices.require_same(len(paths), f"{folders}: {len(paths)} pictures here, more where another process runs")
    print(f"reading {len(paths)} pictures")
    pictures = Pictures(paths, scale, crop, memory)
    name_skipped(pictures)
    return pictures


def name_skipped(pictures):
    """Print the pictures found to be unusable since the last time, a line each, above a bar if one is drawn."""
    while pictures.skipped:
        tqdm.write(f"left out: {pictures.skipped.pop(0)}")


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
    """Pairs of an HR picture and its LR reduction; index -> (lr, hr) uint8, (h, w, 3) and (scale*h, scale*w, 3).

    The headers of all files are read first. Files that are unreadable or smaller than `crop` are left out; a picture
    whose pixels turn out to be damaged, missing or of another size is never used again, and its index gives None. Each
    is named once in `skipped`, a line each. Pictures beyond `memory` bytes are decoded whenever they are asked for.
    Raises UserError where no picture is left, and later where less than half of them are.
    """

    def __init__(self, paths, scale, crop, memory):
        self.scale, self.crop, self.skipped, self.broken = scale, crop, [], {}
        self.paths, self.shapes, self.pairs = [], [], []
        self.fewest = 0  # pictures that must be usable; none while they are read for the first time
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self.read_headers(paths, pool)
            self.read_pixels(memory, pool)
        if not self.usable:
            raise UserError(f"no usable picture; the first of {len(self.skipped)} left out: {self.skipped[0]}")
        # Files break one by one; where half of them are gone, a disk is, or the folder is another one.
        self.fewest = self.usable / 2
        self.chances = self.areas() / self.areas().sum()  # every pixel is as likely as any other

    def read_headers(self, paths, pool):
        """Keep the paths that can be used, and the size of each."""
        for path, shape in zip(paths, pool.map(self.shape_or_reason, paths)):
            if isinstance(shape, str):
                self.skipped.append(shape)
            else:
                self.paths.append(path)
                self.shapes.append(shape)

    def areas(self):
        """Pixels of each HR picture, (pictures,)."""
        return np.array([height * width for height, width in self.shapes], float)

    def read_pixels(self, memory, pool):
        """Decode as many pictures, the first ones, as fit into `memory` bytes."""
        areas = self.areas()
        sizes = 3 * areas * (1 + 1 / self.scale**2) + OVERHEAD_BYTES
        kept = np.count_nonzero(np.cumsum(sizes) + OVERHEAD_BYTES * len(areas) <= memory)
        self.pairs = [None] * len(self.paths)
        self.pairs[:kept] = pool.map(self.__getitem__, range(kept))

    def shape_or_reason(self, path):
        """(height, width) of HR as the header says, or in words why it cannot be used."""
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
        """(lr, hr), or None if the picture is broken. Raises UserError if most are."""
        if index not in self.broken:
            try:
                return self.pairs[index] or self.read(index)
            except UserError as error:
                reason = str(error)
                if self.broken.setdefault(index, reason) is reason:  # of two threads that find it, one names it
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
        # An error in a loader's thread cannot be caught: fit() goes on with black crops until it is told to stop.
        self.failures = []

    def __len__(self):
        return self.last - self.first

    def __getitem__(self, index):
        random = np.random.default_rng((self.seed, self.first + index))
        pictures, scale = self.pictures, self.pictures.scale
        side = pictures.crop // scale  # of an LR crop
        # The paper's crops come from distinct pictures; where there are too few, some are drawn again.
        with_replacement = len(pictures) < self.batch_size
        chosen = random.choice(len(pictures), self.batch_size, replace=with_replacement, p=pictures.chances)
        places = random.random((self.batch_size, 2))
        turns = random.integers(8, size=self.batch_size)
        lrs = np.empty((len(self.part), side, side, 3), np.uint8)
        hrs = np.empty((len(self.part), pictures.crop, pictures.crop, 3), np.uint8)
        for out, n in enumerate(self.part):
            try:
                lr, hr = self.pair(index, n, chosen)
            except UserError as error:  # most were readable when training began
                self.failures.append(error)
                return np.zeros_like(lrs), np.zeros_like(hrs)
            y, x = (places[n] * (np.array(lr.shape[:2]) - side + 1)).astype(int)
            lrs[out] = turned(lr[y : y + side, x : x + side], turns[n])
            y, x = y * scale, x * scale
            hrs[out] = turned(hr[y : y + pictures.crop, x : x + pictures.crop], turns[n])
        return lrs, hrs

    def pair(self, index, n, chosen):
        """(lr, hr or its target) for place `n` in a batch of the pictures `chosen`; a broken one is replaced."""
        picture, pair = chosen[n], self.pictures[chosen[n]]
        if pair is None:
            picture = self.replacement(index, n, chosen)
            pair = self.pictures[picture]
        lr, hr = pair
        return lr, hr if self.targets is None else self.targets[picture]

    def replacement(self, index, n, chosen):
        """The index of a picture in place of a broken one, drawn by the same chances.

        It is the first usable picture in an order of the place's own, and so the same whichever pictures are known to
        be broken by then, and whatever the other places hold.
        """
        random = np.random.default_rng((self.seed, self.first + index, n))
        # Sampling without replacement by exponential races: picture i arrives after a time that is exponential with
        # rate chances[i], and the order of arrival is that of drawing one after the other by these chances.
        arrivals = random.exponential(size=len(self.pictures)) / self.pictures.chances
        arrivals[chosen] += arrivals.max()  # what the batch holds already comes last
        return next(picture for picture in np.argsort(arrivals) if self.pictures[picture])
