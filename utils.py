"""Files: written whole or not at all, weights with their facts beside them, TensorLayer's archives."""

import contextlib
import functools
import json
import os
import pickle
import platform
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import psutil

PRETRAINED = Path(__file__).parent / "checkpoints" / "pretrained"
HALF = f".half-{platform.node()[:30]}-"  # the names of files that are being written begin like this
EXPANSION = 10  # of a compressed weights file, at most; VGG19 as half floats: 2.6


class UserError(Exception):
    """A mistake of the user: one line that says what, where and what to do."""

    status = 2  # what the process exits with

    def __str__(self):  # a file's name may hold line breaks, and bytes that no terminal takes
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())


class Diverged(UserError):
    """Training that cannot go on, for a loss is no number any more."""

    status = 3


def make_folder(path):
    """Make a folder where there is none. Raises UserError where it cannot be made."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made: {error.strerror}") from error


@functools.cache
def remove_halves(folder):
    """Delete what killed processes of this machine left half written in `folder`; once, for it may hold many files."""
    for path in folder.glob(f"{HALF}*"):
        number = path.name.removeprefix(HALF).partition("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def written_whole(path):
    """Give a temporary path beside `path`; it takes the place of `path` only if the block succeeds.

    Raises UserError where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{HALF}{os.getpid()}-{path.name[-60:]}")  # another process may write `path` too
    make_folder(path.parent)
    remove_halves(path.parent)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path, text):
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def exit_status(program, work, interrupted="interrupted"):
    """What `work()` returns; a user's mistake is one line and 2, a run that diverged 3, Ctrl-C 130."""
    try:
        return work()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.status
    except OSError as error:  # a folder that may not be entered, a name too long
        print(f"{program}: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{program}: {interrupted}", file=sys.stderr)
        return 130


def reserve(path, size):
    """Raise OSError where `size` bytes do not fit; HDF5 would crash the process when the disk fills up."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def generator_path(folder, stage):
    """Where a stage, "srgan_init" or "srgan", keeps its averaged generator."""
    return Path(folder, f"g_{stage}.weights.h5")


def model_path(name):
    """The weights file that `name`, srgan, srresnet or a path, stands for. Raises UserError where there is none."""
    path = PRETRAINED / f"{name}.weights.h5" if name in ("srgan", "srresnet") else Path(name)
    if not path.is_file():
        raise UserError(f"{name}: no such weights file; srgan, srresnet or a path")
    return path


def facts_path(weights_path):
    """The JSON that lies beside a weights file: a/g.weights.h5 -> a/g.json."""
    return Path(str(weights_path).removesuffix(".weights.h5") + ".json")


def save_weights(model, path, facts):
    """Write `model`'s weights to `path` (*.weights.h5) and `facts` (a dict) to the JSON beside it."""
    variables = model.variables + (model.optimizer.variables if model.compiled and model.optimizer else [])
    with written_whole(path) as temporary:
        reserve(temporary, sum(4 * int(np.prod(v.shape)) + 4096 for v in variables))
        model.save_weights(temporary)
        write_text(facts_path(path), json.dumps(facts, indent=2) + "\n")  # first: weights are never without facts


def read_facts(path):
    """The facts beside a weights file, {} where there are none. Raises UserError if they cannot be read."""
    try:
        facts = json.loads(facts_path(path).read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not isinstance(facts.get("model", {}), dict):
            raise ValueError("no facts of ours")
        return facts
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{facts_path(path)}: cannot be read ({error}); delete it or restore it") from error


def check_hdf5(path):
    """Raise ValueError where an HDF5 file leads to other files, or claims more than it can hold; OSError if it is none.

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
    if size > EXPANSION * os.path.getsize(path):
        raise ValueError(f"claims {size / 1e6:.0f} MB of weights in {os.path.getsize(path) / 1e6:.1f} MB")


def load_weights(model, path, expected=None):
    """Load `path` (*.weights.h5) into `model`; what is partly loaded is never used.

    expected: {name: value} that must agree with the facts' "model". Raises UserError where the file
    is missing, truncated or of another network.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such weights file")
    found = read_facts(path).get("model", {})
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
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: damaged, or of another network ({reason}); move it away") from error


# what zipfile, NumPy and pickle raise on a file that is damaged or no archive
DAMAGED = (OSError, ValueError, EOFError, RuntimeError, TypeError, LookupError, AttributeError, MemoryError, zlib.error)
DAMAGED += (pickle.UnpicklingError, zipfile.BadZipFile)


FLAGS = "--set EVALUATE.trust_pickle=yes (train.py) or --trust-pickle (upscale.py)"


class _ArraysOnly(pickle.Unpickler):
    """Unpickles lists of arrays and refuses everything else, for a pickle can run any code."""

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
            if sum(member.file_size for member in archive.infolist()) > EXPANSION * os.path.getsize(path):
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
        raise UserError(f"{path}: no TensorLayer archive ({error})") from error


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
