"""A teacher for the warm-up: the pictures of another network replace HR as the target of the MSE.

Most of the difference between SR and HR is detail that no network can predict from LR, and that adds only noise to the
gradient. The pictures of a good network contain what can be predicted (knowledge distillation, Hinton et al. 2015).
"""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines import import_openvino
from pictures import read_picture, resize, rounded, write_picture
from tiles import by_tiles, mean_over_turns
from training import devices
from training.progress import Progress
from utils import UserError

MAX_DIFFERENCE_FROM_BICUBIC = 16  # mean over all pixels, in levels of 0..255; a network of another kind is further away


class Teacher:
    """A network in an ONNX file, run by OpenVINO: lr (h, w, 3) uint8 -> sr (scale*h, scale*w, 3) uint8.

    Several threads may call it. The network's input and output are float32 RGB (N, h, w, 3) in 0..255. ensemble:
    average over the eight flips and rotations. Raises UserError if the file is missing, is no such network, or has
    another scale.
    """

    def __init__(self, path: str | Path, scale: int, ensemble: bool = False) -> None:
        self.path, self.ensemble = Path(path), ensemble
        self.lock = threading.Lock()  # OpenVINO's network takes one batch at a time, for which it uses all cores
        openvino = import_openvino()
        try:
            content = self.path.read_bytes()
            self.network = openvino.Core().compile_model(self.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except OSError as error:
            raise UserError(f"TRAIN.teacher={path}: {error.strerror}; name an ONNX file") from error
        except RuntimeError as error:
            raise UserError(f"TRAIN.teacher={path}: no ONNX network that OpenVINO reads") from error
        # What identifies its pictures: the hash of the file, and whether they are averaged over eight.
        self.name = hashlib.sha256(content).hexdigest()[:16] + ("-8" if ensemble else "")
        self.check(scale)

    def check(self, scale: int) -> None:
        """Raise UserError unless the network enlarges a small picture by `scale` and keeps its colours."""
        # Its sides differ, and each channel has another gradient, so that swapped axes or channels show too.
        rows, columns = np.indices((16, 24))
        lr = np.stack([rows * 8 + 64, columns * 8 + 32, rows * 0 + 128], axis=-1).astype(np.uint8)
        wanted = "(N, h, w, 3) RGB in 0..255"
        try:
            sr = self.run(lr.astype(np.float32))
        except (RuntimeError, ValueError, IndexError) as error:
            raise UserError(f"TRAIN.teacher={self.path}: does not take {wanted}") from error
        if sr.shape != (16 * scale, 24 * scale, 3):
            size = "x".join(map(str, sr.shape))
            raise UserError(f"TRAIN.teacher={self.path}: makes {size} of 16x24x3; MODEL.scale={scale} needs {scale}x")
        if not np.abs(sr - resize(lr, scale)).mean() < MAX_DIFFERENCE_FROM_BICUBIC:
            raise UserError(f"TRAIN.teacher={self.path}: its colours are not those it is given; it must take {wanted}")

    def run(self, lr: np.ndarray) -> np.ndarray:
        """Super-resolve lr (h, w, 3) -> sr (scale*h, scale*w, 3), float32 in 0..255, tile by tile."""

        def network(tiles: np.ndarray) -> np.ndarray:
            with self.lock:
                return self.network(tiles)[0]

        strips = by_tiles(mean_over_turns(network) if self.ensemble else network, lr, tile=512, halo=32)
        return np.concatenate(list(strips))

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        """Super-resolve lr (h, w, 3) -> sr (scale*h, scale*w, 3), uint8."""
        return rounded(self.run(lr.astype(np.float32)), np.uint8)


class Targets:
    """The teacher's pictures for the training pictures; targets[index] is (scale*h, scale*w, 3) uint8.

    They are stored in `folder`, named by the hashes of the teacher and of LR, so that a resumed run does not make them
    again. The first ones read also stay in `memory` bytes. Several threads may read them. pictures: a
    dataset.Pictures.
    """

    def __init__(self, pictures: Any, teacher: Teacher, folder: str | Path, memory: float) -> None:
        self.pictures, self.teacher, self.folder, self.memory = pictures, teacher, Path(folder), memory
        self.paths: dict[int, Path] = {}
        self.in_memory: dict[int, np.ndarray] = {}
        self.lock = threading.Lock()  # of what changes: a file that is being made, and the memory that is left

    def make(self, stopped: Sequence[int] = ()) -> None:
        """Make all missing pictures, and tell how far it is; return early as soon as `stopped` is not empty."""
        progress = Progress("teacher", len(self.pictures), unit="picture", silent=not devices.is_first())
        for index in range(len(self.pictures)):
            if stopped:
                break
            self[index]
            progress.update(index + 1)
        progress.close()

    def __getitem__(self, index: int) -> np.ndarray | None:
        """Return the teacher's picture for pictures[index], or None if that is broken. Makes it if necessary."""
        if index in self.in_memory:
            return self.in_memory[index]
        if index not in self.paths:
            pair = self.pictures[index]
            if pair is None:
                return None
            self.paths[index] = self.made_from(pair[0])
        target = read_picture(self.paths[index])
        with self.lock:
            if index not in self.in_memory and self.memory >= target.nbytes:
                self.memory -= target.nbytes
                self.in_memory[index] = target
        return target

    def made_from(self, lr: np.ndarray) -> Path:
        """Return the file of the teacher's picture for lr (h, w, 3) uint8, and make it unless it exists."""
        content = hashlib.sha256(f"{lr.shape}".encode() + lr.tobytes()).hexdigest()
        path = self.folder / f"{self.teacher.name}-{content[:24]}.png"
        with self.lock:
            if not path.exists():
                write_picture(path, self.teacher(lr))
        return path
