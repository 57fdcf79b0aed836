"""SRGAN mixed with the SRResNet that it was trained from, so that it invents as much as one likes."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py

from utils import UserError, reason
from weights import check_hdf5, metadata_path

# {SRGAN's weights file: that of the SRResNet beside it}: the shipped ones, and those of a training
SOURCES = {"srgan.weights.h5": "srresnet.weights.h5", "g_srgan.weights.h5": "g_srgan_init.weights.h5"}


def srresnet_of(path: Path) -> Path:
    """Return the weights of the SRResNet that the SRGAN at `path` was trained from; `path` itself if it is no SRGAN."""
    return path.with_name(SOURCES.get(path.name, path.name))


@contextlib.contextmanager
def mixed(path: Path, strength: float) -> Iterator[Path]:
    """Yield the path of weights that are `strength` times those at `path` and the rest those of its SRResNet.

    strength: 0 (SRResNet) to 1 (the weights at `path` themselves). The mixture is deleted at the end. Raises UserError
    if there is no SRResNet beside `path`, or one of them is damaged. Source: network interpolation (ESRGAN, Wang et al.
    2018, sec. 3.4).
    """
    if strength == 1:
        yield path
        return
    soft = srresnet_of(path)
    if soft == path or not soft.is_file():
        raise UserError(
            f"{path}: has no strength; name srgan, or a g_srgan.weights.h5 beside its g_srgan_init.weights.h5"
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, path.name)
        shutil.copy(path, target)
        if metadata_path(path).is_file():
            shutil.copy(metadata_path(path), folder)
        try:
            mix(target, soft, strength)
        except (OSError, LookupError, ValueError, TypeError) as error:
            raise UserError(f"{path} or {soft}: damaged, or of another network ({reason(error)})") from error
        yield target


def mix(path: Path, other: Path, part: float) -> None:
    """Replace each array in the weights file `path` by `part` times itself plus (1 - part) times that in `other`."""
    for source in (path, other):
        check_hdf5(source)
    with h5py.File(path, "r+") as file, h5py.File(other) as others:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            array, counterpart = (source[name][()].astype("float32") for source in (file, others))
            if array.shape != counterpart.shape:
                raise ValueError(f"{name}: {array.shape} here and {counterpart.shape} there")
            # Converted by NumPy: HDF5 before 2.0 rounds half floats below 6e-5 wrongly, by up to a half.
            file[name][...] = (part * array + (1 - part) * counterpart).astype(file[name].dtype)
