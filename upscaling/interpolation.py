"""Networks between SRGAN and SRResNet, which invents nothing, and those for compressed photographs beside them."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py

from utils import UserError, reason
from weights import check_hdf5, metadata_path

# {weights file: that of the SRResNet beside it, from which it was trained}: the shipped ones, and those of a training
SRRESNETS = {
    "srgan.weights.h5": "srresnet.weights.h5",
    "photo.weights.h5": "photo_srresnet.weights.h5",
    "g_srgan.weights.h5": "g_srgan_init.weights.h5",
}
# {weights file: that of the network beside it for compressed and noisy photographs}
RESTORERS = {"srgan.weights.h5": "photo.weights.h5", "srresnet.weights.h5": "photo_srresnet.weights.h5"}


def can_restore(path: Path) -> bool:
    """Return whether there is a network for photographs beside the weights at `path`."""
    return path.name in RESTORERS and path.with_name(RESTORERS[path.name]).is_file()


def restorer(path: Path) -> Path:
    """Return the path of the network for photographs beside the weights at `path`. Raises UserError if it is missing.

    What restores by a half is the mean of both networks' results: mixed weights would shift colours by three levels.
    """
    if not can_restore(path):
        raise UserError(f"{path}: has no network for photographs beside it; leave --restore out")
    return path.with_name(RESTORERS[path.name])


def parts_of(path: Path, strength: float) -> dict[Path, float]:
    """Return {weights file: its part in the network that is asked for}; the parts add up to 1.

    strength: how much the network at `path` has of itself, 0 (its SRResNet) to 1. Raises UserError if that is missing.
    """
    if strength == 1:
        return {path: 1.0}
    other = path.with_name(SRRESNETS.get(path.name, path.name))
    if other == path or not other.is_file():
        hint = "name srgan, or a g_srgan.weights.h5 beside its g_srgan_init.weights.h5"
        raise UserError(f"{path}: has no strength; {hint}")
    return {path: strength, other: 1 - strength} if strength else {other: 1.0}


@contextlib.contextmanager
def mixed(path: Path, strength: float) -> Iterator[Path]:
    """Yield the path of the weights that `parts_of` describes; a mixture is deleted at the end.

    Raises UserError as parts_of does, or if a file is damaged. Source: network interpolation (ESRGAN, Wang et al. 2018,
    sec. 3.4).
    """
    parts = parts_of(path, strength)
    if len(parts) == 1:
        (only,) = parts
        yield only
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, path.name)
        shutil.copy(path, target)
        if metadata_path(path).is_file():
            shutil.copy(metadata_path(path), folder)
        try:
            mix(target, parts)
        except (OSError, LookupError, ValueError, TypeError) as error:
            files = " or ".join(map(str, parts))
            raise UserError(f"{files}: damaged, or of another network ({reason(error)})") from error
        yield target


def mix(path: Path, parts: Mapping[Path, float]) -> None:
    """Replace each array in the weights file `path` by the sum of those in `parts`, {weights file: its part}."""
    for source in parts:
        check_hdf5(source)
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(h5py.File(path, "r+"))
        files = [(stack.enter_context(h5py.File(source)), part) for source, part in parts.items()]
        names: list[str] = []
        target.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            arrays = [(part, file[name][()].astype("float32")) for file, part in files]
            shapes = {array.shape for _, array in arrays}
            if len(shapes) > 1:
                raise ValueError(f"{name}: shapes {shapes}")
            # Converted by NumPy: HDF5 before 2.0 rounds half floats below 6e-5 wrongly, by up to a half.
            target[name][...] = sum(part * array for part, array in arrays).astype(target[name].dtype)
