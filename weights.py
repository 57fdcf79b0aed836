"""Weights and the metadata beside them: written, read, checked; TensorLayer's archives; VGG19's file.

Keras is imported by the functions that need it: upscaling in OpenVINO reads weights without it.
"""

import json
import os
import pickle
import warnings
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np

from utils import UserError, atomic_write, preallocate, reason, write_text

PRETRAINED = Path(__file__).parent / "checkpoints" / "pretrained"
LARGEST_EXPANSION = 10  # of a compressed file that is taken for weights; VGG19 as half floats: 2.6
DEFAULT_MODEL = {"variant": "paper", "scale": 4, "blocks": 16, "filters": 64}  # of weights without metadata
SCALES, VARIANTS = (2, 4, 8), ("paper", "tensorlayer")


def model_path(name):
    """The weights file that `name`, "srgan", "srresnet" or a path, stands for. Raises UserError where there is none."""
    path = PRETRAINED / f"{name}.weights.h5" if name in ("srgan", "srresnet") else Path(name)
    if not path.is_file():
        raise UserError(f"{name}: no such weights file; srgan, srresnet or a path")
    return path


# Metadata


def metadata_path(weights_path):
    """The JSON that lies beside a weights file: a/g.weights.h5 -> a/g.json."""
    return Path(str(weights_path).removesuffix(".weights.h5") + ".json")


def read_metadata(path):
    """The metadata beside the weights file `path`, {} where there is none.

    Its "model", if any, holds values of MODEL.*; they are checked here and nowhere else. Raises UserError where the
    file cannot be read or holds a value that no network of ours has.
    """
    try:
        metadata = json.loads(metadata_path(path).read_text(encoding="utf-8"))
        if not isinstance(metadata, dict):
            raise ValueError("no JSON object")
        check_model(metadata.get("model", {}))
        return metadata
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{metadata_path(path)}: cannot be read ({reason(error)}); delete it or restore it") from error


def check_model(model):
    """Raise ValueError where `model`, the "model" of metadata, names no network of ours."""
    if not isinstance(model, dict):
        raise ValueError('"model" is no JSON object')
    for name, allowed in (("scale", SCALES), ("variant", VARIANTS)):
        if name in model and model[name] not in allowed:
            raise ValueError(f'"{name}": {model[name]!r} is none of {", ".join(map(str, allowed))}')
    for name in ("blocks", "filters"):
        if name in model and not (type(model[name]) is int and model[name] > 0):
            raise ValueError(f'"{name}": {model[name]!r} is no positive whole number')


# Weights of ours


def save_weights(model, path, metadata):
    """Write `model`'s weights to `path` (*.weights.h5) and `metadata` (a dict) to the JSON beside it.

    The JSON comes first: weights are never without metadata. Raises UserError where they cannot be written.
    """
    variables = model.variables + (model.optimizer.variables if model.compiled and model.optimizer else [])
    with atomic_write(path) as temporary:
        preallocate(temporary, sum(4 * int(np.prod(v.shape)) + 4096 for v in variables))
        model.save_weights(temporary)
        write_text(metadata_path(path), json.dumps(metadata, indent=2) + "\n")


def check_hdf5(path):
    """Raise ValueError where an HDF5 file leads to other files or claims more than it can hold; OSError if it is none.

    Keras refuses the former as well, and the latter above 4 GB.
    """
    links, size = [], 0
    with h5py.File(path) as file:
        file.visititems_links(lambda name, link: links.append((name, link)))
        for name, link in links:
            item = file[name] if isinstance(link, h5py.HardLink) else None
            if item is None or isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise ValueError(f"{name} leads out of the file")
            size += getattr(item, "nbytes", 0)
    if size > LARGEST_EXPANSION * os.path.getsize(path):
        raise ValueError(f"claims {size / 1e6:.0f} MB of weights in {os.path.getsize(path) / 1e6:.1f} MB")


def load_weights(model, path, expected=None):
    """Load `path` (*.weights.h5) into `model`; what is partly loaded is never used.

    expected: {name: value} that must agree with the metadata's "model". Raises UserError where the file is missing,
    truncated or of another network.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such weights file")
    found = read_metadata(path).get("model", {})
    for name, value in (expected or {}).items():
        if name in found and found[name] != value:
            raise UserError(
                f"{path}: made with {name}={found[name]}, this run has {name}={value}; "
                "set it to match, or choose another folder with --set TRAIN.checkpoint_dir=..."
            )
    try:
        with warnings.catch_warnings():  # Keras only warns where a part does not fit
            warnings.filterwarnings("error", "Skipping")
            check_hdf5(path)
            model.load_weights(path)
    except (OSError, KeyError, ValueError, RuntimeError, UserWarning) as error:
        raise UserError(f"{path}: damaged, or of another network ({reason(error)}); move it away") from error


def load_generator(path, trust_pickle=False, model=None):
    """The generator of a weights file or of a TensorLayer archive (*.npz), built as its metadata says.

    model: what the metadata leaves open, as {"variant": "paper", "scale": 4, "blocks": 16, "filters": 64}.
    trust_pickle: read the pickle in an archive of TensorLayer 1 or 2. Raises UserError where it cannot be loaded.
    """
    from model import SRGAN_g

    archive = Path(path).suffix == ".npz"
    model = DEFAULT_MODEL | {"variant": "tensorlayer" if archive else "paper"} | (model or {})
    model |= read_metadata(path).get("model", {})
    generator = SRGAN_g(model["variant"], model["scale"], model["blocks"], model["filters"])
    if archive:
        import_tensorlayer(generator, path, trust_pickle)
    else:
        load_weights(generator, path)
    return generator


# VGG19

VGG19_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
VGG19_ADDRESS = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg19/{VGG19_FILE}"
VGG19_HASH = "253f8cb515780f3b799900260a226db6"


def vgg19_path(source):
    """Path of VGG19's weights: `source`, or Keras' copy where it is "imagenet", downloaded the first time.

    Raises UserError, with the ways out, where they cannot be had or are not wanted ("none").
    """
    import keras

    way_out = "name a local copy with --set VGG.weights=FILE, or train without: --set TRAIN.content_loss=mse"
    if source == "none":
        raise UserError(f"VGG.weights=none: no VGG19 is loaded; {way_out}")
    if source != "imagenet":
        if not Path(source).is_file():
            raise UserError(f"VGG.weights={source}: no such file; the original is {VGG19_ADDRESS}; {way_out}")
        return source
    try:
        return keras.utils.get_file(VGG19_FILE, VGG19_ADDRESS, "models", file_hash=VGG19_HASH)
    except Exception as error:  # get_file raises nothing narrower where an address is out of reach
        raise UserError(f"{VGG19_FILE} cannot be downloaded from {VGG19_ADDRESS} ({error}); {way_out}") from error


def load_vgg19(layer, source):
    """losses.VGG19 after `layer`, with the weights that `source` names (see vgg19_path). Raises UserError."""
    from losses import VGG19

    path = vgg19_path(source)
    try:
        check_hdf5(path)
        return VGG19(layer, path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no VGG19 weights without top ({reason(error)})") from error


# TensorLayer's archives

# what zipfile, NumPy and pickle raise on a file that is damaged or no archive
DAMAGED = (OSError, ValueError, EOFError, RuntimeError, TypeError, LookupError, AttributeError, MemoryError, zlib.error)
DAMAGED += (pickle.UnpicklingError, zipfile.BadZipFile)


FLAGS = "--set EVALUATE.trust_pickle=yes (train.py) or --trust-pickle (upscale.py)"


class _ArraysOnly(pickle.Unpickler):
    """Unpickles lists of NumPy arrays and refuses everything else, since a pickle can run any code."""

    allowed = {"_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar"}

    def find_class(self, module, name):
        of_numpy = module.split(".")[0] == "numpy" and name in self.allowed
        if not of_numpy and (module, name) != ("_codecs", "encode"):  # bytes, in the pickles of Python 2
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def read_tensorlayer(path, trust_pickle=False):
    """The arrays of a TensorLayer archive in the network's order.

    Reads one array a name (g.npz of TensorLayerX) and, if it is trusted, `params` (g_srgan.npz of TensorLayer 1 and 2,
    a pickled list). Raises UserError where it is neither.
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


def _unpickled(file):
    """What a .npy file of objects holds."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = header(file)
    content = _ArraysOnly(file).load() if dtype.hasobject else None
    return content.tolist() if isinstance(content, np.ndarray) else content


def import_tensorlayer(generator, path, trust_pickle=False):
    """Load TensorLayer's g_srgan.npz (if it is trusted) or g.npz into a generator of variant "tensorlayer".

    TensorLayer stores a batch normalization as beta, gamma, mean, variance; Keras gamma first.
    Arrays of one kind keep the network's order in every version of the archive.
    Raises UserError where the arrays do not fit.
    """
    arrays = read_tensorlayer(path, trust_pickle)
    kernels = [a for a in arrays if a.ndim == 4]
    vectors = [a.ravel() for a in arrays if a.ndim != 4]
    wanted = []
    for layer in generator.layers:
        if hasattr(layer, "kernel"):
            wanted += [(layer.kernel, kernels)] + ([(layer.bias, vectors)] if layer.use_bias else [])
        elif hasattr(layer, "gamma"):
            wanted += [(v, vectors) for v in (layer.beta, layer.gamma, layer.moving_mean, layer.moving_variance)]
    if len(wanted) != len(arrays):
        raise UserError(f"{path}: holds {len(arrays)} arrays, the tensorlayer generator has {len(wanted)}")
    for variable, source in wanted:
        array = source.pop(0) if source else np.empty(0)
        if tuple(variable.shape) != array.shape:
            raise UserError(f"{path}: {variable.path} is {tuple(variable.shape)} here and {array.shape} there")
        variable.assign(array)
