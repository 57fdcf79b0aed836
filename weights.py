"""Read, write and check weights and the metadata beside them, TensorLayer's archives and VGG19's file.

Only the functions that need Keras import it, since upscaling with OpenVINO reads weights without it.
"""

import json
import os
import pickle
import socket
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import h5py
import numpy as np

from config import OPTIONS
from utils import UserError, atomic_write, preallocate, reason, write_text

if TYPE_CHECKING:
    import keras

PRETRAINED = Path(__file__).parent / "checkpoints" / "pretrained"
LARGEST_EXPANSION = 10  # allowed ratio of the weights' size to the size of their file; VGG19 in float16 has 2.6
# The network that weights without metadata belong to
DEFAULT_MODEL: dict[str, Any] = {"variant": "paper", "scale": 4, "blocks": 16, "filters": 64}


def model_path(name: str) -> Path:
    """Return the weights file for `name`, the name of shipped weights or a path. Raises UserError if it is missing."""
    shipped = {path.name.removesuffix(".weights.h5"): path for path in sorted(PRETRAINED.glob("*.weights.h5"))}
    path = shipped.get(name, Path(name))
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such weights file"  # a SavedModel is a folder
        raise UserError(f"{name}: {what}; name {', '.join(shipped)} or the path of a file")
    return path


# Metadata


def metadata_path(weights_path: str | os.PathLike) -> Path:
    """Return the path of the JSON file beside a weights file: a/g.weights.h5 -> a/g.json."""
    return Path(str(weights_path).removesuffix(".weights.h5") + ".json")


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Return the metadata of the weights file `path`, or {} if it has none.

    Its entry "model" holds the MODEL options of the network, which are checked here. Raises UserError if the JSON file
    cannot be read or describes no network that build_generator can build.
    """
    try:
        metadata = json.loads(metadata_path(path).read_text(encoding="utf-8"))
        if not isinstance(metadata, dict):
            raise ValueError("not a JSON object")
        check_model(metadata.get("model", {}))
        for name in ("updates", "strength"):
            if not isinstance(metadata.get(name, 0), (int, float)):
                raise ValueError(f'"{name}": {metadata[name]!r} is not a number')
        return metadata
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{metadata_path(path)}: cannot be read ({reason(error)}); delete it or restore it") from error


def check_model(model: Any) -> None:
    """Raise ValueError if `model`, the entry "model" of metadata, describes no network that the options allow."""
    if not isinstance(model, dict):
        raise ValueError('"model" is not a JSON object')
    for name in DEFAULT_MODEL:
        default, allowed, _ = OPTIONS[f"MODEL.{name}"]
        # 4.0 equals 4, but is no whole number
        if name in model and not (type(model[name]) is type(default) and allowed.holds(model[name])):
            raise ValueError(f'"{name}": {model[name]!r} is not {type(default).__name__}, {allowed.description}')


# This project's weights


def save_weights(model: "keras.Model", path: str | os.PathLike, metadata: dict[str, Any]) -> None:
    """Write the weights of `model` to `path` (*.weights.h5) and `metadata` to the JSON file beside it.

    The JSON file is in place first, so that weights never lack metadata. Raises UserError if a file cannot be written.
    """
    variables = model.variables + (model.optimizer.variables if model.compiled and model.optimizer else [])
    with atomic_write(path) as temporary:
        # 4 bytes per number (float32), and a generous 4 kB per variable for HDF5's own structures.
        preallocate(temporary, sum(4 * int(np.prod(v.shape)) + 4096 for v in variables))
        model.save_weights(temporary)
        write_text(metadata_path(path), json.dumps(metadata, indent=2) + "\n")


def check_hdf5(path: str | os.PathLike) -> None:
    """Check that an HDF5 file from somewhere else is safe to load.

    Raises ValueError if it refers to other files or claims to hold more data than fits into its size, and OSError if it
    is no HDF5 file. Keras refuses the former too, but the latter only above 4 GB.
    """
    links: list[tuple[str, Any]] = []
    size = 0
    with h5py.File(path) as file:
        file.visititems_links(lambda name, link: links.append((name, link)))
        for name, link in links:
            item = file[name] if isinstance(link, h5py.HardLink) else None
            if item is None or isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise ValueError(f"{name} leads out of the file")
            size += getattr(item, "nbytes", 0)
    if size > LARGEST_EXPANSION * os.path.getsize(path):
        raise ValueError(f"claims {size / 1e6:.0f} MB of weights in {os.path.getsize(path) / 1e6:.1f} MB")


def load_weights(model: "keras.Model", path: str | os.PathLike, expected: dict[str, Any] | None = None) -> None:
    """Load the weights file `path` (*.weights.h5) into `model`.

    expected: {name: value} that the metadata's "model" must not contradict. Raises UserError if the file is missing,
    damaged, or belongs to another network; the model may then be partly loaded and must not be used.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such weights file")
    recorded = read_metadata(path).get("model", {})
    for name, value in (expected or {}).items():
        if name in recorded and recorded[name] != value:
            raise UserError(
                f"{path}: made with {name}={recorded[name]}, this run has {name}={value}; "
                "set it to match, or choose another folder with --set TRAIN.checkpoint_dir=..."
            )
    try:
        with warnings.catch_warnings():  # Keras only warns when it skips weights that do not fit
            warnings.filterwarnings("error", "Skipping")
            check_hdf5(path)
            model.load_weights(path)
    except (OSError, KeyError, ValueError, RuntimeError, UserWarning) as error:
        raise UserError(f"{path}: damaged, or of another network ({reason(error)}); move it away") from error


def network_of(path: str | os.PathLike, model: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the MODEL options of the network that a weights file or a TensorLayer archive (*.npz) belongs to.

    model: those that hold as far as the metadata does not give them. Raises UserError if the metadata cannot be used.
    """
    variant = "tensorlayer" if Path(path).suffix == ".npz" else "paper"
    return DEFAULT_MODEL | {"variant": variant} | (model or {}) | read_metadata(path).get("model", {})


def load_generator(
    path: str | os.PathLike, trust_pickle: bool = False, model: dict[str, Any] | None = None
) -> "keras.Model":
    """Build the generator that a weights file or a TensorLayer archive (*.npz) belongs to, and load it.

    model: see network_of. trust_pickle: whether the pickle in an archive of TensorLayer 1 or 2 is read. Raises
    UserError if the file cannot be loaded.
    """
    from methods.networks import build_generator

    network = network_of(path, model)
    generator = build_generator(**{name: network[name] for name in DEFAULT_MODEL})
    if Path(path).suffix == ".npz":
        import_tensorlayer(generator, path, trust_pickle)
    else:
        load_weights(generator, path)
    return generator


# VGG19

VGG19_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
VGG19_ADDRESS = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg19/{VGG19_FILE}"
VGG19_HASH = "253f8cb515780f3b799900260a226db6"  # MD5; Keras has both, but not in its public interface


def vgg19_path(source: str) -> str:
    """Return the path of VGG19's weights: `source`, or if that is "imagenet", Keras' copy, downloaded if necessary.

    Raises UserError, with the alternatives, if `source` is "none" or the weights cannot be found or downloaded.
    """
    way_out = "name a local copy with --set VGG.weights=FILE"
    if source == "none":
        raise UserError(f"VGG.weights=none: no VGG19 is loaded; {way_out}")
    if source != "imagenet":
        if not Path(source).is_file():
            raise UserError(f"VGG.weights={source}: no such file; the original is {VGG19_ADDRESS}; {way_out}")
        return source
    try:
        return download_vgg19(VGG19_ADDRESS, VGG19_HASH)
    except UserError as error:
        raise UserError(f"{error}; try again, or {way_out}") from error


def download_vgg19(address: str, md5: str, cache_dir: str | None = None, timeout: float = 60) -> str:
    """Return the path of Keras' copy of VGG19's weights, downloaded from `address` unless it is there and undamaged.

    md5: hash of the file. cache_dir: in whose folder models the copy is, by default KERAS_HOME or ~/.keras. timeout:
    seconds without a byte after which the download is given up. Raises UserError if it fails.
    """
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # get_file itself would wait for ever
    try:
        return keras.utils.get_file(
            fname=VGG19_FILE, origin=address, file_hash=md5, cache_subdir="models", cache_dir=cache_dir
        )
    except Exception as error:  # get_file raises nothing more specific if the server cannot be reached
        why = reason(error.__context__ or error)  # that of urllib, where get_file has one
        raise UserError(f"{VGG19_FILE} cannot be downloaded from {address} ({why})") from error
    finally:
        socket.setdefaulttimeout(before)


def load_vgg19(layer: str | list[str], source: str) -> "keras.Model":
    """Return losses.VGG19 up to `layer`, with the weights that `source` names; see vgg19_path.

    Raises UserError if the weights cannot be found, downloaded or loaded.
    """
    from losses import VGG19

    path = vgg19_path(source)
    try:
        check_hdf5(path)
        return VGG19(layer, path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no VGG19 weights without top ({reason(error)})") from error


# TensorLayer's archives

# What zipfile, NumPy and pickle raise if a file is damaged or no archive at all
DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    zlib.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
FLAGS = "--set EVALUATE.trust_pickle=yes (train.py) or --trust-pickle (upscale.py)"


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that accepts only lists of NumPy arrays, because a pickle can run arbitrary code."""

    allowed = {"_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar"}

    def find_class(self, module: str, name: str) -> Any:
        is_array = module.split(".")[0] == "numpy" and name in self.allowed
        if not is_array and (module, name) != ("_codecs", "encode"):  # for bytes, in protocols before 3
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def read_tensorlayer(path: str | os.PathLike, trust_pickle: bool = False) -> list[np.ndarray]:
    """Return the arrays of a TensorLayer archive, in the order of the network's layers.

    TensorLayerX's g.npz holds one array per name; g_srgan.npz of TensorLayer 1 and 2 holds `params`, a pickled list,
    which is read only if `trust_pickle` is set. Raises UserError if the file is neither or the pickle is not trusted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_EXPANSION * os.path.getsize(path):
                raise ValueError("a decompression bomb")
            if archive.namelist() == ["params.npy"]:
                if not trust_pickle:
                    raise UserError(f"{path}: holds a pickle, which may run any code; if you know who made it: {FLAGS}")
                with archive.open("params.npy") as file:
                    arrays = _unpickled(file)
            else:
                with np.load(path, allow_pickle=False) as named:
                    arrays = [named[name] for name in named.files]
        if not isinstance(arrays, list) or not all(isinstance(array, np.ndarray) for array in arrays):
            raise ValueError("it holds no list of arrays")
        return arrays
    except DAMAGED as error:
        raise UserError(f"{path}: no TensorLayer archive ({reason(error)})") from error


def _unpickled(file: IO[bytes]) -> Any:
    """Return the pickled content of a .npy file of objects, or None if it holds no objects."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = header(file)
    content = _ArraysOnly(file).load() if dtype.hasobject else None
    return content.tolist() if isinstance(content, np.ndarray) else content


def import_tensorlayer(generator: "keras.Model", path: str | os.PathLike, trust_pickle: bool = False) -> None:
    """Load TensorLayer's g_srgan.npz or g.npz into a generator of variant "tensorlayer".

    trust_pickle: see read_tensorlayer. Raises UserError if the archive cannot be read or its arrays do not fit.
    """
    arrays = read_tensorlayer(path, trust_pickle)
    # The versions of the archive mix kernels and vectors differently, but the kernels among themselves are always in
    # the network's order, and so are the vectors.
    kernels = [a for a in arrays if a.ndim == 4]
    vectors = [a.ravel() for a in arrays if a.ndim != 4]
    wanted: list[tuple[Any, list[np.ndarray]]] = []  # each variable, and the arrays from which it takes the next one
    for layer in generator.layers:
        if hasattr(layer, "kernel"):
            wanted.append((layer.kernel, kernels))
            if layer.use_bias:
                wanted.append((layer.bias, vectors))
        elif hasattr(layer, "gamma"):  # batch normalization: TensorLayer stores beta first, Keras gamma
            wanted += [(v, vectors) for v in (layer.beta, layer.gamma, layer.moving_mean, layer.moving_variance)]
    if len(wanted) != len(arrays):
        raise UserError(f"{path}: holds {len(arrays)} arrays, the tensorlayer generator has {len(wanted)}")
    for variable, source in wanted:
        array = source.pop(0) if source else np.empty(0)
        if tuple(variable.shape) != array.shape:
            raise UserError(f"{path}: {variable.path} is {tuple(variable.shape)} here and {array.shape} there")
        variable.assign(array)
