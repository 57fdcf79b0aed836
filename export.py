"""Write a trained generator as a file for other programs.

python export.py --format onnx                                    srgan_x4.onnx
python export.py --format tflite --lr-size 270 480                for lr of 270 rows and 480 columns
python export.py --format half --model checkpoints/g_srgan.weights.h5   weights for this program, half the size
"""

import json
import os
import sys
import tempfile
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines import import_keras, import_openvino
from upscaling.interpolation import mixed, restorer
from upscaling.models import parts_that_restore
from utils import Parser, UserError, exit_status, make_folder, reason
from weights import load_generator, metadata_path, model_path, network_of, read_metadata

if TYPE_CHECKING:
    import keras

LR_SIZE = (128, 128)  # default height and width in a TFLite file: small enough for a phone; sr is then 512x512
LR_AXES = ("batch", "height", "width")  # names in ONNX; the fourth axis has three colours
SR_AXES = ("batch", "sr_height", "sr_width")
EXPORT_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "saved_model": "", "tflite": ".tflite", "half": ".weights.h5"}


def command_line(argv: Sequence[str] | None = None) -> Namespace:
    """Return the parsed options. Exits with 2 and one line after a mistake."""
    parser = Parser(prog="export.py", description=__doc__)
    parser.add_argument("--format", choices=EXPORT_SUFFIXES, required=True)
    parser.add_argument("--model", default="srgan", help="srgan, srresnet or a weights file (default: srgan)")
    parser.add_argument("--strength", type=float, default=1.0, help="of srgan, 0 to 1; the rest is srresnet")
    parser.add_argument("--restore", type=float, default=0.0, help="how much of it cleans compressed pictures, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="default: the model's name, in this folder")
    parser.add_argument(
        "--lr-size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help=f"of lr in a TFLite file, in pixels (default: {LR_SIZE[0]} {LR_SIZE[1]}); the other formats take any",
    )
    parser.add_argument("--trust-pickle", action="store_true", help="read the pickle in an old g_srgan.npz")
    options = parser.parse_args(argv)
    if not 0 <= options.strength <= 1:
        parser.error(f"--strength {options.strength:g}: must be 0 to 1")
    if not 0 <= options.restore <= 1:
        parser.error(f"--restore {options.restore:g}: must be 0 to 1")
    if options.format == "half" and options.restore not in (0, 1):
        parser.error(f"--restore {options.restore:g}: takes two networks, which no weights file holds; 0 or 1 does")
    if options.lr_size and options.format != "tflite":
        parser.error(f"--lr-size: only for --format tflite; {options.format} takes lr of any size")
    if options.lr_size and min(options.lr_size) < 1:
        parser.error(f"--lr-size {' '.join(map(str, options.lr_size))}: must be 1 or more")
    suffix = EXPORT_SUFFIXES[options.format]
    if options.output and not options.output.name.endswith(suffix):
        parser.error(f"{options.output}: must end with {suffix}")
    return options


def scale_of(metadata: dict[str, Any]) -> int:
    """Return the upscaling factor of the network that weights with `metadata` belong to."""
    return metadata.get("model", {}).get("scale", 4)


def description(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the texts that are stored in the file: the network's input and output, and the metadata of its weights.

    The names are part of the format of exported files; "facts" holds the metadata.
    """
    scale = scale_of(metadata)
    return {
        "input": "lr: float32 (N, h, w, 3), RGB, value / 127.5 - 1 for values of 0..255; any N, h and w",
        "output": f"sr: float32 (N, {scale}*h, {scale}*w, 3), RGB, in -1..1; (sr + 1) * 127.5 is 0..255",
        "scale": str(scale),
        "range": "-1..1",
        "colour_order": "RGB",
        "licence": metadata.get("licence", "not stated"),
        "facts": json.dumps(metadata),
    }


def write_onnx(generator: "keras.Model", path: Path, texts: dict[str, str]) -> None:
    """Write `generator` to `path` as ONNX, with `texts` as its properties."""
    import onnx

    with warnings.catch_warnings():  # Keras asks NumPy for names that only future versions define
        warnings.simplefilter("ignore", FutureWarning)
        generator.export(str(path), format="onnx", verbose=False)
    network = onnx.load(path)
    for value, names in ((network.graph.input[0], LR_AXES), (network.graph.output[0], SR_AXES)):
        for axis, name in zip(value.type.tensor_type.shape.dim, names):
            axis.dim_param = name
    onnx.helper.set_model_props(network, texts)
    onnx.save(network, path)


def write_openvino(generator: "keras.Model", path: Path, texts: dict[str, str]) -> None:
    """Write `generator` to `path` and a *.bin file beside it, with `texts` as its runtime information.

    By way of ONNX, because what Keras calls in OpenVINO 2026.4 fails on Python 3.13.
    """
    openvino = import_openvino()
    first = path.with_name("first.onnx")
    write_onnx(generator, first, {})
    network = openvino.Core().read_model(first)
    network.get_parameters()[0].set_layout(openvino.Layout("NHWC"))
    network.get_results()[0].set_layout(openvino.Layout("NHWC"))
    for name, text in texts.items():
        network.set_rt_info(text, ["srgan", name])
    openvino.save_model(network, path, compress_to_fp16=False)


def write_saved_model(generator: "keras.Model", path: Path, texts: dict[str, str]) -> None:
    """Write `generator` to the folder `path`, with `texts` in assets.extra/srgan.json."""
    generator.export(str(path), format="tf_saved_model", verbose=False)
    extra = path / "assets.extra"  # where TensorFlow lets others keep files
    extra.mkdir()
    (extra / "srgan.json").write_text(json.dumps(texts, indent=2) + "\n")


def write_tflite(
    generator: "keras.Model", path: Path, texts: dict[str, str], lr_size: tuple[int, int] = LR_SIZE
) -> None:
    """Write `generator` to `path` for TensorFlow Lite, with `texts` in srgan.json inside it. Raises UserError on JAX.

    lr_size: the file's height and width of lr. The delegates for phones' accelerators need a fixed size, and a program
    that sets none would get 1x1; resize_tensor_input() can still set any other.
    """
    import keras

    if keras.backend.backend() == "jax":
        raise UserError("--format tflite: only TensorFlow can write it; set KERAS_BACKEND=tensorflow")
    lr = keras.InputSpec(shape=(1, *lr_size, 3), dtype="float32")
    generator.export(str(path), format="litert", verbose=False, input_signature=[lr])
    height, width = lr_size
    texts = texts | {"input": f"{texts['input']}, set by resize_tensor_input(); (1, {height}, {width}, 3) if not"}
    with zipfile.ZipFile(path, "a") as archive:  # where TensorFlow Lite keeps the files that belong to a model
        archive.writestr("srgan.json", json.dumps(texts, indent=2) + "\n")


def write_half(generator: "keras.Model", path: Path, texts: dict[str, str]) -> None:
    """Write the weights of `generator` to `path` as half floats, and their metadata beside them."""
    import h5py

    float32_path = path.with_name("float32.weights.h5")
    generator.save_weights(float32_path)
    with h5py.File(float32_path) as before, h5py.File(path, "w") as file:

        def copy(name: str, item: Any) -> None:  # a layer, or one of its arrays
            if isinstance(item, h5py.Dataset):
                file[name] = item[()].astype(np.float16)
            else:
                file.create_group(name)

        before.visititems(copy)
    metadata_path(path).write_text(json.dumps(json.loads(texts["facts"]), indent=2) + "\n")


WRITERS: dict[str, Callable[..., None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "saved_model": write_saved_model,
    "tflite": write_tflite,
    "half": write_half,
}


def export(
    generator: "keras.Model", metadata: dict[str, Any], kind: str, target: Path, **options: tuple[int, int]
) -> list[Path]:
    """Write `generator` to `target` atomically, and return the paths written.

    metadata: that of its weights. kind: a key of EXPORT_SUFFIXES. options: for write_tflite. Raises UserError if a file
    exists already.
    """
    beside = {"openvino": target.with_suffix(".bin"), "half": metadata_path(target)}  # the second file of two
    targets = [target, beside[kind]] if kind in beside else [target]
    for path in targets:
        if path.exists():
            raise UserError(f"{path}: exists; delete it or name another --output")
    generator(np.zeros((1, 16, 16, 3), np.float32))  # Keras cannot export a network that was never called
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export") as folder:
        WRITERS[kind](generator, Path(folder, target.name), description(metadata), **options)
        for path in reversed(targets):  # the file that users open comes last, so that it is never there alone
            os.replace(Path(folder, path.name), path)
    return targets


def wanted_generator(source: Path, options: Namespace) -> "keras.Model":
    """Return the network that `options` ask for: that at `source`, the one beside it that restores, or both together.

    Raises UserError if weights are missing or cannot be loaded.
    """
    keras = import_keras()
    networks = []
    for restores in parts_that_restore(options.restore):
        with mixed(restorer(source) if restores else source, options.strength) as path:
            networks.append(load_generator(path, options.trust_pickle))
    if len(networks) == 1:
        return networks[0]
    networks[1].name = "restorer"  # Keras wants each name once
    lr = keras.layers.Input((None, None, 3))
    clean, restored = (network(lr) for network in networks)
    return keras.Model(lr, (1 - options.restore) * clean + options.restore * restored, name="SRGAN_g")


def export_model(options: Namespace) -> int:
    """Write the file that `options` ask for; return exit status 0. Raises UserError after a user's mistake."""
    source = model_path(options.model)
    generator = wanted_generator(source, options)
    metadata = read_metadata(source) | {"model": network_of(source)}  # a TensorLayer archive has no metadata
    if options.strength < 1:
        metadata["strength"] = options.strength * metadata.get("strength", 1)  # the weights may be a mixture already
    if options.restore:
        metadata["restore"] = options.restore
    if options.strength < 1 or options.restore:
        metadata.pop("measured", None)  # before they were mixed
    name = source.name.removesuffix(".weights.h5").removesuffix(".npz")
    target = options.output or Path(f"{name}_x{scale_of(metadata)}{EXPORT_SUFFIXES[options.format]}")
    make_folder(target.parent)
    size = {"lr_size": tuple(options.lr_size)} if options.lr_size else {}
    try:
        print(*export(generator, metadata, options.format, target, **size), sep="\n")
    except ImportError as error:
        raise UserError(f"{reason(error)}; pip install -r requirements.txt") from error
    return 0


def main(options: Namespace) -> int:
    """Write the file, print an error as one line, and return the exit status, 2 after a user's mistake."""
    return exit_status("export.py", lambda: export_model(options))


if __name__ == "__main__":
    sys.exit(main(command_line()))
