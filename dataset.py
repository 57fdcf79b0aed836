"""Training pictures and batches of aligned LR and HR crops.

LR is made from the whole HR picture, not from each crop, so that its values at a crop's border are right too; or it is
a picture of one's own, such as a real photograph of the same thing.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
from tqdm import tqdm

import degradation
from pictures import (
    Pair,
    centre_crop,
    cut_out,
    cut_to_multiple,
    find_pictures,
    picture_size,
    read_picture,
    resize,
    turned,
)
from training import devices
from utils import UserError

if TYPE_CHECKING:
    from training.teacher import Targets

OVERHEAD_BYTES = 4096  # memory per file, for its path and size, and again per picture in memory, for its last page


def load_pictures(folders: str | list[str], scale: int, crop: int, memory: float, lr_folder: str) -> "Pictures":
    """Read the training pictures below `folders`, and print which files were left out; see Pictures.

    lr_folder: where their LR pictures are, or "" to make them. Raises UserError if there are no usable pictures, or
    fewer than another process has.
    """
    paths = find_pictures(folders)
    lr_paths = by_stem(lr_folder) if lr_folder else None
    devices.require_same(len(paths), f"{folders}: {len(paths)} pictures here, more where another process runs")
    print(f"reading {len(paths)} pictures")
    pictures = Pictures(paths, scale, crop, memory, lr_paths)
    report_skipped(pictures)
    return pictures


def by_stem(folder: str) -> dict[str, Path]:
    """Return {name without suffix: path} of the pictures below `folder`. Raises UserError if two have one name."""
    paths: dict[str, Path] = {}
    for path in find_pictures(folder):
        if path.stem in paths:
            raise UserError(f"{path}: {paths[path.stem]} has the same name; which belongs to HR cannot be told")
        paths[path.stem] = path
    return paths


def report_skipped(pictures: "Pictures") -> None:
    """Print one line for each picture unusable since the last call, above a progress bar if one is drawn."""
    while pictures.skipped:
        tqdm.write(f"left out: {pictures.skipped.pop(0)}")


def validation_pictures(folders: str | list[str], count: int, crop: int, scale: int) -> list[Pair]:
    """Return (lr, hr) of the centre crops, `crop` x `crop` pixels of HR, of the first `count` pictures below `folders`.

    Raises UserError if a picture is unreadable or too small.
    """
    pairs = []
    for path in find_pictures(folders)[:count]:
        hr = cut_to_multiple(centre_crop(read_picture(path), crop), scale)
        if min(hr.shape[:2]) < 4 * scale:
            raise UserError(f"{path}: {hr.shape[1]}x{hr.shape[0]} is too small to validate with")
        pairs.append((resize(hr, 1 / scale), hr))
    return pairs


def validation_sets(pairs: Sequence[Pair], photo: bool) -> dict[str, Sequence[Pair]]:
    """Return {suffix in the log: pairs}: the pictures themselves, and with `photo` degraded ones, always the same."""
    if not photo:
        return {"": pairs}
    degraded = [(degradation.photo(lr, np.random.default_rng(index)), hr) for index, (lr, hr) in enumerate(pairs)]
    return {"": pairs, "_photo": degraded}


class Pictures:
    """HR pictures with their LR versions; pictures[index] is (lr, hr), uint8 (h, w, 3) and (scale*h, scale*w, 3).

    The headers of all files are read first. Files that are unreadable or smaller than `crop` pixels are left out. A
    picture whose pixels turn out later to be damaged, missing or of another size is not used again, and its index gives
    None. `skipped` gets one line for each such file. The first pictures stay in `memory` bytes; the others are
    decoded whenever they are needed. lr_paths: {name without suffix: LR file}, or None to reduce HR. Raises UserError
    if no picture is usable, and later if fewer than half still are.
    """

    def __init__(
        self, paths: Sequence[Path], scale: int, crop: int, memory: float, lr_paths: Mapping[str, Path] | None = None
    ) -> None:
        self.scale, self.crop, self.lr_paths = scale, crop, lr_paths
        self.skipped: list[str] = []
        self.broken: dict[int, str] = {}  # {index: why this picture can no longer be used}
        self.paths: list[Path] = []
        self.shapes: list[tuple[int, int]] = []  # (height, width) of HR
        self.fewest = 0.0  # how many pictures must be usable; no check while they are read for the first time
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, shape in zip(paths, pool.map(self.shape_or_reason, paths)):
                if isinstance(shape, str):
                    self.skipped.append(shape)
                else:
                    self.paths.append(path)
                    self.shapes.append(shape)
            areas = np.array([height * width for height, width in self.shapes], float)  # (pictures,), in pixels of HR
            sizes = 3 * areas * (1 + 1 / scale**2) + OVERHEAD_BYTES  # bytes of HR and LR
            count = np.count_nonzero(np.cumsum(sizes) + OVERHEAD_BYTES * len(areas) <= memory)
            self.pairs: list[Pair | None] = [None] * len(self.paths)  # None if the picture is not in memory
            self.pairs[:count] = pool.map(self.__getitem__, range(count))
        if not self.usable:
            raise UserError(f"no usable picture; the first of {len(self.skipped)} left out: {self.skipped[0]}")
        # Single files break now and then; if half of them are gone, the disk or the folder is.
        self.fewest = self.usable / 2
        self.chances = areas / areas.sum()  # proportional to area, so that all pixels are equally likely

    def shape_or_reason(self, path: Path) -> tuple[int, int] | str:
        """Return (height, width) of HR according to the header, or the reason why the file cannot be used."""
        try:
            height, width = picture_size(path)
            if min(height, width) // self.scale * self.scale < self.crop:
                raise UserError(f"{path}: {width}x{height} is smaller than a crop of {self.crop}")
            return height - height % self.scale, width - width % self.scale
        except UserError as error:
            return str(error)

    def read(self, index: int) -> Pair:
        """Decode (lr, hr) of one file. Raises UserError if it is unreadable or has another size than before."""
        path, shape = self.paths[index], self.shapes[index]
        hr = cut_to_multiple(read_picture(path), self.scale)
        if hr.shape[:2] not in (shape, shape[::-1]):  # EXIF may rotate it
            raise UserError(f"{path}: has changed from {shape[1]}x{shape[0]} to {hr.shape[1]}x{hr.shape[0]}")
        return self.lr_of(path, hr), hr

    def lr_of(self, path: Path, hr: np.ndarray) -> np.ndarray:
        """Return LR (h, w, 3) of the HR file `path`, whose pixels are `hr`. Raises UserError as read."""
        if self.lr_paths is None:
            return resize(hr, 1 / self.scale)
        lr_path = self.lr_paths.get(path.stem) or self.lr_paths.get(f"{path.stem}x{self.scale}")  # as DIV2K's files
        if lr_path is None:
            raise UserError(f"{path}: there is no LR picture {path.stem}.* or {path.stem}x{self.scale}.*")
        lr = read_picture(lr_path)
        if (lr.shape[0] * self.scale, lr.shape[1] * self.scale) != hr.shape[:2]:
            raise UserError(f"{lr_path}: {lr.shape[1]}x{lr.shape[0]} is not 1/{self.scale} of {path}")
        return lr

    @property
    def usable(self) -> int:
        """The number of pictures that are not known to be broken."""
        return len(self.paths) - len(self.broken)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pair | None:
        """Return (lr, hr), or None if the picture is broken. Raises UserError if most pictures are."""
        if index not in self.broken:
            try:
                return self.pairs[index] or self.read(index)
            except UserError as error:
                reason = str(error)
                if self.broken.setdefault(index, reason) is reason:  # only the first of several threads reports it
                    self.skipped.append(reason)
        if self.usable < self.fewest:
            last = list(self.broken.values())[-1]
            raise UserError(f"{len(self.broken)} of {len(self)} pictures cannot be used any more, the last: {last}")
        return None


class Crops(keras.utils.PyDataset):
    """Batches of aligned random crops for the updates `first` to `last` - 1.

    A batch is lr (N, crop/scale, crop/scale, 3) and hr (N, crop, crop, 3), uint8, each pair flipped and rotated in one
    of eight ways. It depends only on the seed, the number of the update, and which pictures are broken, so that a
    resumed run sees the same crops.

    workers: number of loader threads. share: (number, count), return only part `number` of `count` equal parts of each
    batch. targets: pictures that replace HR, index -> (scale*h, scale*w, 3) uint8. photo: degrade each LR crop as
    degradation.photo does, differently in each update.
    """

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        workers: int = 1,
        share: tuple[int, int] = (0, 1),
        targets: "Targets | None" = None,
        photo: bool = False,
    ) -> None:
        super().__init__(workers=workers, max_queue_size=16)
        self.pictures, self.batch_size, self.seed, self.targets = pictures, batch_size, seed, targets
        self.photo = photo
        self.first, self.last = first, last
        number, count = share
        self.part = range(batch_size * number // count, batch_size * (number + 1) // count)  # positions in the batch
        # Keras' loader threads must not raise: after a failure they return black crops until fit() is told to stop.
        self.failures: list[UserError] = []

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Pair:
        random = np.random.default_rng((self.seed, self.first + index))
        pictures, scale = self.pictures, self.pictures.scale
        side = pictures.crop // scale  # of an LR crop
        # In the paper, the crops of a batch come from distinct pictures; if there are too few, pictures are repeated.
        with_replacement = len(pictures) < self.batch_size
        chosen = random.choice(len(pictures), self.batch_size, replace=with_replacement, p=pictures.chances)
        # The whole batch is drawn, even if only a part is cut, so that the parts of all processes fit together.
        places = random.random((self.batch_size, 2))
        turns = random.integers(8, size=self.batch_size)
        lrs = np.empty((len(self.part), side, side, 3), np.uint8)
        hrs = np.empty((len(self.part), pictures.crop, pictures.crop, 3), np.uint8)
        for out, n in enumerate(self.part):
            try:
                lr, hr = self.pair(index, n, chosen)
            except UserError as error:  # most pictures have become unreadable
                self.failures.append(error)
                return np.zeros_like(lrs), np.zeros_like(hrs)
            # The crop begins at a pixel of LR, so that its HR crop covers exactly the same area.
            y, x = (places[n] * (np.array(lr.shape[:2]) - side + 1)).astype(int)
            lrs[out] = self.lr_crop(lr, y, x, turns[n], index, n)
            y, x = y * scale, x * scale
            hrs[out] = turned(hr[y : y + pictures.crop, x : x + pictures.crop], turns[n])
        return lrs, hrs

    def lr_crop(self, lr: np.ndarray, y: int, x: int, turn: int, index: int, n: int) -> np.ndarray:
        """Return the LR crop (side, side, 3) from (y, x) on for position `n` of batch `index`, turned and degraded."""
        side = self.pictures.crop // self.pictures.scale
        if not self.photo:
            return turned(lr[y : y + side, x : x + side], turn)
        # What is around the crop matters to blur and JPEG, so a larger one is degraded. It is turned first, because
        # JPEG treats rows and columns differently.
        margin = degradation.MARGIN
        larger = turned(cut_out(lr, y - margin, x - margin, side + 2 * margin, side + 2 * margin), turn)
        random = np.random.default_rng((self.seed, self.first + index, n, 1))  # 1: not the draws of `replacement`
        return degradation.photo(larger, random)[margin:-margin, margin:-margin]

    def pair(self, index: int, n: int, chosen: np.ndarray) -> Pair:
        """Return (lr, hr or its target) for position `n` of batch `index`; a broken picture is replaced.

        chosen: (batch_size,), the index of the picture drawn for each position.
        """
        picture, pair = chosen[n], self.pictures[chosen[n]]
        if pair is None:
            picture, pair = self.replacement(index, n, chosen)
        lr, hr = pair
        if self.targets is None:
            return lr, hr
        return lr, self.targets[picture]  # type: ignore[return-value]  # None only for a broken picture

    def replacement(self, index: int, n: int, chosen: np.ndarray) -> tuple[int, Pair]:
        """Draw another picture for position `n`, where a broken one was drawn, with the same probabilities.

        Each position has a random order of all pictures and takes the first usable one. The result therefore does not
        depend on when pictures turned out to be broken, or on the replacements at other positions.
        """
        random = np.random.default_rng((self.seed, self.first + index, n))
        # Sampling without replacement by exponential races: picture i arrives after an exponentially distributed time
        # with rate chances[i]. The order of arrival has the same distribution as that of drawing one picture after
        # another with these chances.
        arrivals = random.exponential(size=len(self.pictures)) / self.pictures.chances
        arrivals[chosen] += arrivals.max()  # pictures that are already in the batch come last
        return next((int(picture), pair) for picture in np.argsort(arrivals) if (pair := self.pictures[picture]))
