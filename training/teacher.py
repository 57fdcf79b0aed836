"""A teacher of the warm-up: another network's pictures take HR's place as the target of the MSE.

Most of what separates SR from HR is detail that no network can know; in the gradient it is noise. The pictures of a
good network hold what can be known (knowledge distillation, Hinton et al. 2015).
"""

import hashlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pictures import read_picture, resize, turned, turned_back, write_picture
from upscaling.network import import_openvino
from upscaling.tiles import by_tiles
from utils import UserError

STRANGE = 16  # levels between the mean of a teacher's picture and of the bicubic one: not what it was trained for


class Teacher:
    """Callable: lr (h, w, 3) uint8 -> sr (scale*h, scale*w, 3) uint8, by an ONNX file that OpenVINO runs.

    The file takes and gives float32 RGB (N, h, w, 3) in 0..255. ensemble: the mean over the eight flips and turns.
    Raises UserError, in one line, where the file is missing, no such network, or of another scale.
    """

    def __init__(self, path, scale, ensemble=False):
        self.path, self.ensemble = Path(path), ensemble
        openvino = import_openvino()
        try:
            content = self.path.read_bytes()
            self.network = openvino.Core().compile_model(self.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except OSError as error:
            raise UserError(f"TRAIN.teacher={path}: {error.strerror}; name an ONNX file") from error
        except RuntimeError as error:
            raise UserError(f"TRAIN.teacher={path}: no ONNX network that OpenVINO reads") from error
        self.name = hashlib.sha256(content).hexdigest()[:16] + "-8" * ensemble
        self.check(scale)

    def check(self, scale):
        """Raise UserError unless a small picture comes back enlarged by `scale` and in the same colours."""
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
        if not np.abs(sr - resize(lr, scale)).mean() < STRANGE:
            raise UserError(f"TRAIN.teacher={self.path}: its colours are not those it is given; it must take {wanted}")

    def run(self, lr):
        """lr (h, w, 3) -> sr (scale*h, scale*w, 3), float32 in 0..255, by tiles where it is large."""
        return np.concatenate(list(by_tiles(lambda x: self.network(x)[0], lr, tile=512, halo=32)))

    def __call__(self, lr):
        """The teacher's picture of `lr`, uint8."""
        lr = lr.astype(np.float32)
        turns = range(8 if self.ensemble else 1)
        sr = np.mean([turned_back(self.run(np.ascontiguousarray(turned(lr, turn))), turn) for turn in turns], axis=0)
        return sr.round().clip(0, 255).astype(np.uint8)


class Targets:
    """The teacher's picture of each of `pictures`: index -> (scale*h, scale*w, 3) uint8, in memory or from disk.

    They are kept in `folder` under the hash of what they were made from: a resumed run does not make them again.
    """

    def __init__(self, pictures, teacher, folder, memory):
        self.pictures, self.teacher, self.folder, self.memory = pictures, teacher, Path(folder), memory
        self.paths, self.kept = {}, {}

    def make(self, stopped=(), share=(0, 1)):
        """Make what is not there, with a progress bar; ends early once `stopped` holds something.

        share: (number, count); of several processes each makes its part.
        """
        number, count = share
        for index in tqdm(range(number, len(self.pictures), count), "teacher", unit="picture", disable=None):
            if stopped:
                return
            self[index]

    def __getitem__(self, index):
        """The teacher's picture for pictures[index]; None where that is broken, so that Crops takes another."""
        if index in self.kept:
            return self.kept[index]
        if index not in self.paths:
            pair = self.pictures[index]
            if pair is None:
                return None
            self.paths[index] = self.made_from(pair[0])
        target = read_picture(self.paths[index])
        if self.memory >= target.nbytes:
            self.memory -= target.nbytes
            self.kept[index] = target
        return target

    def made_from(self, lr):
        """The file of the teacher's picture for `lr`, made where it is not there."""
        content = hashlib.sha256(f"{lr.shape}".encode() + lr.tobytes()).hexdigest()
        path = self.folder / f"{self.teacher.name}-{content[:24]}.png"
        if not path.exists():
            write_picture(path, self.teacher(lr))
        return path
