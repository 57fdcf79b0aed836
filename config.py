"""Every value of the project, once: its default, what is allowed, its meaning and source.

`python train.py --help` prints this table; `--set TRAIN.batch_size=8` overrides a value,
`--preset=quick` a group of them.
"""

import argparse
import ast
import importlib.util
import math
import os
import sys

from easydict import EasyDict

MODES = {
    "srgan": "train both stages: MSE warm-up (SRResNet), then the adversarial game",
    "srresnet": "train the warm-up alone",
    "evaluate": "measure on data/benchmark and write grids; with --input, upscale pictures",
}


def one_of(*values):
    return lambda v: v in values, "one of " + ", ".join(map(repr, values))


def at_least(low):
    return lambda v: v >= low, f"{low} or more"


def between(low, high):
    return lambda v: low <= v <= high, f"{low} to {high}"


def text(v):
    return bool(v)


def paths(v):
    return bool(v) and all(isinstance(p, str) and p for p in ([v] if isinstance(v, str) else v))


TEXT = text, "a path"
PATHS = paths, "a folder, or a list of folders: ['a', 'b']"
ANY = (lambda v: True), "any text"

# name: (default, what is allowed, meaning and source)
OPTIONS = {
    "MODEL.variant": ("paper", one_of("paper", "tensorlayer"), "networks of the paper (fig. 4) or of TensorLayer"),
    "MODEL.scale": (4, one_of(2, 4, 8), "upscaling factor (paper: 4)"),
    "MODEL.blocks": (16, at_least(1), "residual blocks (paper, fig. 4: 16)"),
    "MODEL.filters": (64, at_least(4), "feature maps of the generator's body (paper, fig. 4: 64)"),
    "MODEL.discriminator_filters": (64, at_least(4), "feature maps of its first convolution (paper, fig. 4: 64)"),
    "TRAIN.hr_img_path": ("data/train", PATHS, "HR pictures, searched recursively (TensorLayer's name)"),
    "TRAIN.memory_gb": (8.0, at_least(0), "GB of decoded pictures kept in memory; the rest is decoded on demand"),
    "TRAIN.batch_size": (16, at_least(1), "crops an update (paper, sec. 3.2: 16)"),
    "TRAIN.crop": (96, at_least(16), "side of an HR crop in pixels (paper: 96; TensorLayer: 384)"),
    "TRAIN.learning_rate_init": (1e-4, at_least(0.0), "of the warm-up (paper, sec. 3.2)"),
    "TRAIN.learning_rate": (1e-4, at_least(0.0), "of the second stage (paper, sec. 3.2)"),
    "TRAIN.beta1": (0.9, between(0.0, 0.9999), "of Adam (paper, sec. 3.2)"),
    "TRAIN.optimizer": (
        "adam",
        one_of("adam", "muon", "sgd"),
        "adam (paper); muon: the warm-up by Muon, which learns more from an update; sgd serves comparisons of backends",
    ),
    "TRAIN.adam_lr_ratio": (0.3, at_least(0.0), "of Muon's rate: what Adam takes for ends, biases, slopes and norms"),
    "TRAIN.schedule_init": (
        "constant",
        one_of("constant", "cosine", "stable"),
        "learning rate of the warm-up (paper: constant); stable: it rises, stays, and falls in the last decay_part",
    ),
    "TRAIN.decay_part": (
        0.15,
        between(0.0, 1.0),
        "of a stable warm-up: a longer n_updates_init goes on from before it",
    ),
    "TRAIN.n_updates_init": (100_000, at_least(0), "updates of the warm-up (paper: 1e6)"),
    "TRAIN.teacher": (
        "",
        ANY,
        "*.onnx, lr to sr in 0..255, whose pictures take HR's place in the warm-up; empty: none",
    ),
    "TRAIN.teacher_part": (0.85, between(0.0, 1.0), "of the warm-up that has the teacher; then HR returns"),
    "TRAIN.teacher_ensemble": ("no", one_of("no", "yes"), "mean of the teacher's pictures of all flips and turns"),
    "TRAIN.n_updates": (100_000, at_least(0), "updates of the second stage; the rate falls at half (paper: 2e5)"),
    "TRAIN.fixed_statistics": (
        0.2,
        between(0.0, 1.0),
        "last part of the warm-up, and if above 0 all of stage 2, with batch normalization as at test time (paper: 0)",
    ),
    "TRAIN.lr_decay": (0.1, between(0.0, 1.0), "factor on the learning rate at half of stage 2 (paper, TensorLayer)"),
    "TRAIN.content_loss": (
        "tensorlayer",
        one_of("tensorlayer", "paper", "vgg22", "mse"),
        "MSE + 2e-6 VGG pool4 (slides) | VGG54 / 12.75^2 (paper) | VGG22 | MSE alone",
    ),
    "TRAIN.adversarial_weight": (1e-3, at_least(0.0), "of the generator's GAN loss (paper, eq. 3; slides)"),
    "TRAIN.initial_generator": (
        "",
        ANY,
        "weights file to start from; --mode=srgan takes it in place of the warm-up; empty: none",
    ),
    "TRAIN.ema": (0.999, between(0.0, 0.99999), "decay an update of the generator's running average; 0: none"),
    "TRAIN.precision": (
        "float32",
        one_of("float32", "mixed_bfloat16", "mixed_float16", "auto"),
        "arithmetic of the networks; weights stay float32; auto: mixed_bfloat16 where it is faster",
    ),
    "TRAIN.seed": (0, between(0, 2**32 - 1), "of the initial weights and of the order of crops"),
    "TRAIN.report_every": (1000, at_least(1), "updates between log line, grid, validation and checkpoint"),
    "TRAIN.keep_states": (2, at_least(1), "states of each stage kept to resume from, the newest ones"),
    "TRAIN.devices": ("1", one_of("1", "all"), "'all' shares each batch among every device, and process, there is"),
    "TRAIN.workers": (2, at_least(1), "threads that cut crops"),
    "TRAIN.checkpoint_dir": ("checkpoints", TEXT, "weights, state to resume from, log, resolved configuration"),
    "TRAIN.samples_dir": ("samples", TEXT, "grids and evaluated pictures"),
    "VALID.hr_img_path": ("data/valid", PATHS, "HR pictures for the validation PSNR and the grids"),
    "VALID.count": (8, at_least(1), "pictures used, the first by name"),
    "VALID.crop": (384, at_least(32), "side of their centre crop in pixels (TensorLayer: 384)"),
    "EVALUATE.benchmark_dir": ("data/benchmark", TEXT, "one folder a set, with HR/ in it"),
    "EVALUATE.srresnet": ("", ANY, "weights of the SRResNet rows; empty: checkpoint_dir, else the shipped ones"),
    "EVALUATE.srgan": ("", ANY, "weights of the SRGAN rows; empty: checkpoint_dir, else the shipped ones"),
    "EVALUATE.trust_pickle": (
        "no",
        one_of("no", "yes"),
        "read the pickle in a g_srgan.npz of TensorLayer 1 or 2, which may hold code; ours reads arrays alone",
    ),
    "VGG.weights": ("imagenet", TEXT, "'imagenet' (Keras downloads it once), a vgg19 *_notop.h5 file, or 'none'"),
}

PRESETS = {
    "default": {},
    "paper": {
        "TRAIN.n_updates_init": 1_000_000,
        "TRAIN.n_updates": 200_000,
        "TRAIN.content_loss": "paper",
        "TRAIN.fixed_statistics": 0.0,
    },
    "quick": {  # both stages on the shipped pictures in minutes, on two cores and with no VGG19
        "MODEL.blocks": 4,
        "MODEL.filters": 32,
        "MODEL.discriminator_filters": 16,
        "TRAIN.batch_size": 8,
        "TRAIN.learning_rate_init": 1e-3,
        "TRAIN.schedule_init": "cosine",
        "TRAIN.n_updates_init": 500,
        "TRAIN.n_updates": 150,
        "TRAIN.content_loss": "mse",
        "TRAIN.ema": 0.98,
        "TRAIN.report_every": 50,
        "TRAIN.checkpoint_dir": "checkpoints/quick",
        "TRAIN.samples_dir": "samples/quick",
        "VALID.crop": 256,
    },
}


def configuration(preset="default", overrides=(), training=True):
    """The resolved configuration as an EasyDict of sections.

    overrides: texts of the form SECTION.name=value. Raises ValueError, in one line that names
    the key, the value and what is allowed.
    """
    values = {key: default for key, (default, _, _) in OPTIONS.items()} | PRESETS[preset]
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"--set {override}: write SECTION.name=value")
        if key not in OPTIONS:
            raise ValueError(f"--set {key}: no such key; python train.py --help lists them")
        values[key] = parse(key, value)
    if training:
        check_together(values)
    config = EasyDict(preset=preset)
    for key, value in values.items():
        section, name = key.split(".")
        config.setdefault(section, EasyDict())[name] = value
    return config


def parse(key, written):
    """The value of option `key` from its text on the command line."""
    default, (allowed, description), _ = OPTIONS[key]
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        value = written
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    kinds = (str, list) if description == PATHS[1] else type(default)
    if isinstance(default, str) and not isinstance(value, kinds):
        value = written  # a folder named 2024
    endless = isinstance(value, float) and not math.isfinite(value)
    if type(value) is bool or endless or not isinstance(value, kinds) or not allowed(value):
        kind = {int: "a whole number, ", float: "a number, "}.get(type(default), "")
        raise ValueError(f"--set {key}={written}: must be {kind}{description}")
    return os.path.expanduser(value) if isinstance(value, str) else value


def check_together(values):
    """Raise ValueError where two values exclude each other."""
    crop, scale, variant = values["TRAIN.crop"], values["MODEL.scale"], values["MODEL.variant"]
    step = max(16, scale)  # the discriminator halves the crop four times
    if crop % step:
        raise ValueError(f"--set TRAIN.crop={crop}: must be a multiple of {step}")
    if values["VALID.crop"] % scale:
        raise ValueError(f"--set VALID.crop={values['VALID.crop']}: must be a multiple of MODEL.scale={scale}")
    if variant == "tensorlayer" and crop % 64:
        raise ValueError(f"--set TRAIN.crop={crop}: the tensorlayer discriminator needs a multiple of 64, as 384")


class Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        text = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"formatter_class": text, "allow_abbrev": False} | options)

    def error(self, message):
        """Print the mistake alone, in one line."""
        self.exit(2, f"{self.prog}: {message}\n")


def command_line(argv=None):
    """(mode, input, configuration) of a command line; a mistake is one line and exit 2."""
    table = "\n".join(
        f"  {key} = {default!r}\n      {meaning}; {description}"
        for key, (default, (_, description), meaning) in OPTIONS.items()
    )
    parser = Parser(
        prog="train.py",
        description="SRGAN: photo-realistic 4x super-resolution.",
        epilog=f"values for --set:\n{table}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    modes = "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items())
    parser.add_argument("--mode", choices=MODES, default="srgan", help=f"{modes} (default: srgan)")
    parser.add_argument("--preset", choices=PRESETS, default="default", help="a group of values")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    parser.add_argument("--input", metavar="PATH", help="as upscale.py PATH -o samples/upscaled (mode evaluate)")
    options = parser.parse_args(argv)
    if options.input and options.mode != "evaluate":
        parser.error("--input goes with --mode=evaluate")
    try:
        config = configuration(options.preset, options.set, training=options.mode != "evaluate")
        return options.mode, options.input, config
    except ValueError as error:
        parser.error(str(error))


def jit_compile():
    """What Keras' compile() is told of XLA: it doubles TensorFlow's time on a CPU and pays on a GPU; JAX needs it."""
    import keras

    return "auto" if keras.backend.backend() == "jax" or keras.distribution.list_devices("gpu") else False


def prepare_environment():
    """Choose TensorFlow unless KERAS_BACKEND says otherwise, and keep its start-up notices off the screen."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    backend = os.environ["KERAS_BACKEND"]
    if backend not in ("tensorflow", "jax") or not importlib.util.find_spec(backend):
        print(f"KERAS_BACKEND={backend}: must be tensorflow or jax, and installed", file=sys.stderr)
        sys.exit(2)
