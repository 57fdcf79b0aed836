"""All options of the project: default, allowed values, meaning and source, each in one place.

`python train.py --help` prints this table. `--set TRAIN.batch_size=8` overrides one option and `--preset=quick` a
group of them.
"""

import ast
import math
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from easydict import EasyDict


class Allowed(NamedTuple):
    """The values that an option may have."""

    holds: Callable[[Any], bool]  # whether a value is allowed
    description: str
    kinds: tuple[type, ...] = ()  # allowed types; if empty, the type of the default


class Option(NamedTuple):
    """An option: its default, its allowed values, and its meaning with the source of the default."""

    default: Any
    allowed: Allowed
    meaning: str


def one_of(*values: Any) -> Allowed:
    """Allow one of `values`."""
    return Allowed(lambda value: value in values, "one of " + ", ".join(map(repr, values)))


def at_least(low: float) -> Allowed:
    """Allow numbers not less than `low`."""
    return Allowed(lambda value: value >= low, f"{low} or more")


def between(low: float, high: float) -> Allowed:
    """Allow numbers from `low` to `high`, both included."""
    return Allowed(lambda value: low <= value <= high, f"{low} to {high}")


def are_paths(value: Any) -> bool:
    """Return whether `value` is a path or a non-empty list of paths."""
    paths = [value] if isinstance(value, str) else value
    return bool(paths) and all(isinstance(path, str) and path for path in paths)


PATH = Allowed(lambda value: value != "", "a path")
PATHS = Allowed(are_paths, "a folder, or a list of folders: ['a', 'b']", (str, list))
PATH_OR_NONE = Allowed(lambda value: True, "a path")
YES_OR_NO = Allowed(lambda value: True, "yes or no")

EARLIER = ("srcnn", "espcn", "vdsr", "drcn")  # the variants in methods/earlier.py

OPTIONS = {
    "MODEL.variant": Option(
        "paper",
        one_of("paper", "tensorlayer", *EARLIER),
        "networks of the paper (fig. 4) or TensorLayer, or an earlier generator (docs/METHODS.md)",
    ),
    "MODEL.scale": Option(4, one_of(2, 4, 8), "upscaling factor (paper: 4)"),
    "MODEL.blocks": Option(16, at_least(1), "residual blocks (paper, fig. 4: 16)"),
    "MODEL.filters": Option(64, at_least(4), "feature maps of the generator's body (paper, fig. 4: 64)"),
    "MODEL.discriminator_filters": Option(64, at_least(4), "filters of the discriminator's first layer (fig. 4: 64)"),
    "TRAIN.hr_img_path": Option("data/train", PATHS, "HR pictures, searched recursively (TensorLayer's name)"),
    "TRAIN.lr_img_path": Option(
        "", PATH_OR_NONE, "LR pictures of one's own, named as the HR pictures (with or without x4); empty: HR reduced"
    ),
    "TRAIN.degradation": Option(
        "bicubic",
        one_of("bicubic", "photo"),
        "what becomes of LR: bicubic (paper) or photo, with blur, noise and JPEG as photographs have (degradation.py)",
    ),
    "TRAIN.memory_gb": Option(
        8.0, at_least(0), "GB of decoded pictures kept in memory (twice that with a teacher); the rest: on demand"
    ),
    "TRAIN.batch_size": Option(16, at_least(1), "crops per update (paper, sec. 3.2: 16)"),
    "TRAIN.crop": Option(96, at_least(16), "side of an HR crop in pixels (paper: 96; TensorLayer: 384)"),
    "TRAIN.learning_rate_init": Option(1e-4, at_least(0.0), "learning rate of the warm-up (paper, sec. 3.2)"),
    "TRAIN.learning_rate": Option(1e-4, at_least(0.0), "learning rate of the second stage (paper, sec. 3.2)"),
    "TRAIN.beta1": Option(0.9, between(0.0, 0.9999), "beta1 of Adam (paper, sec. 3.2)"),
    "TRAIN.optimizer": Option(
        "adam",
        one_of("adam", "muon", "sgd"),
        "adam (paper); muon: learns more per update, in the warm-up; sgd: for comparing backends",
    ),
    "TRAIN.adam_lr_ratio": Option(
        0.3,
        at_least(0.0),
        "Adam's fraction of Muon's learning rate; Adam trains the first and last layer, biases, slopes and norms",
    ),
    "TRAIN.schedule_init": Option(
        "constant",
        one_of("constant", "cosine", "stable"),
        "learning rate in the warm-up (paper: constant); stable: rises, stays constant, falls in the last decay_part",
    ),
    "TRAIN.decay_part": Option(
        0.15,
        between(0.0, 1.0),
        "last fraction of a stable stage; if it is made longer, training resumes from before this part",
    ),
    "TRAIN.n_updates_init": Option(100_000, at_least(0), "updates of the warm-up (paper: 1e6)"),
    "TRAIN.pixel_loss_init": Option(
        "mse", one_of("mse", "mae"), "pixel loss of the warm-up: mse (paper); mae: learns more from a teacher"
    ),
    "TRAIN.features_init": Option(
        0.0, at_least(0.0), "weight in the warm-up of the distance of VGG19's features at five depths (paper: 0)"
    ),
    "TRAIN.teacher": Option(
        "", PATH_OR_NONE, "ONNX network, lr to sr in 0..255, whose pictures replace HR in the warm-up; empty: none"
    ),
    "TRAIN.teacher_part": Option(0.85, between(0.0, 1.0), "first fraction of the warm-up, which uses the teacher"),
    "TRAIN.teacher_ensemble": Option(False, YES_OR_NO, "average over the eight flips and turns"),
    "TRAIN.n_updates": Option(100_000, at_least(0), "updates of stage 2; the learning rate falls halfway (paper: 2e5)"),
    "TRAIN.fixed_statistics": Option(
        0.2,
        between(0.0, 1.0),
        "last fraction of the warm-up, and if not 0 all of stage 2, with fixed batch-norm statistics (paper: 0)",
    ),
    "TRAIN.lr_decay": Option(0.1, between(0.0, 1.0), "factor on the rate halfway through stage 2 (paper, TensorLayer)"),
    "TRAIN.schedule": Option(
        "step",
        one_of("step", "stable"),
        "learning rate in stage 2: step, by lr_decay halfway (paper); stable: falls to 0 in the last decay_part",
    ),
    "TRAIN.muon_lr_ratio": Option(
        0.0,
        at_least(0.0),
        "in stage 2 Muon trains the generator's kernels, at this multiple of learning_rate; 0: Adam does (paper)",
    ),
    "TRAIN.d_lr_ratio": Option(1.0, at_least(0.0), "the discriminator's fraction of TRAIN.learning_rate"),
    "TRAIN.d_head_start": Option(0, at_least(0), "updates of stage 2 in which the discriminator learns alone"),
    "TRAIN.label_smoothing": Option(0.0, between(0.0, 0.5), "how far below 1 the discriminator's label for HR is"),
    "TRAIN.content_loss": Option(
        "tensorlayer",
        one_of("tensorlayer", "paper", "vgg22", "mse", "johnson", "features"),
        "MSE + 2e-6 VGG pool4 (slides) | VGG54 / 12.75^2 (paper) | VGG22 | only MSE | VGG22 without a discriminator | "
        "MSE + 0.1 of five depths",
    ),
    "TRAIN.adversarial_weight": Option(1e-3, at_least(0.0), "weight of the GAN loss (paper, eq. 3; slides)"),
    "TRAIN.initial_generator": Option(
        "", PATH_OR_NONE, "weights file to start from, which replaces the warm-up in --mode=srgan; empty: none"
    ),
    "TRAIN.ema": Option(0.999, between(0.0, 0.99999), "decay per update of the generator's running average; 0: none"),
    "TRAIN.precision": Option(
        "float32",
        one_of("float32", "mixed_bfloat16", "mixed_float16", "auto"),
        "arithmetic of the networks; weights stay float32; auto: mixed_bfloat16 if it is faster here",
    ),
    "TRAIN.seed": Option(0, between(0, 2**32 - 1), "seed of the initial weights and of the order of crops"),
    "TRAIN.report_every": Option(1000, at_least(1), "updates between log line, grid, validation and checkpoint"),
    "TRAIN.keep_states": Option(2, at_least(1), "number of states to resume from that are kept of each stage"),
    "TRAIN.devices": Option("1", one_of("1", "all"), "'all' splits each batch among all devices and processes"),
    "TRAIN.workers": Option(2, at_least(1), "number of threads that read and crop pictures"),
    "TRAIN.checkpoint_dir": Option("checkpoints", PATH, "folder of weights, states, logs and configuration"),
    "TRAIN.samples_dir": Option("samples", PATH, "folder of grids and evaluated pictures"),
    "VALID.hr_img_path": Option("data/valid", PATHS, "HR pictures for the validation PSNR and the grids"),
    "VALID.count": Option(8, at_least(1), "number of pictures used, the first ones by name"),
    "VALID.crop": Option(384, at_least(32), "side of their centre crop in pixels (TensorLayer: 384)"),
    "EVALUATE.benchmark_dir": Option("data/benchmark", PATH, "one folder per set, each with a folder HR/"),
    "EVALUATE.methods": Option("main", one_of("main", "all"), "rows of the table; all: the whole table 2 of the paper"),
    "EVALUATE.srresnet": Option(
        "", PATH_OR_NONE, "weights of the SRResNet rows; empty: checkpoint_dir, else the shipped ones"
    ),
    "EVALUATE.srgan": Option(
        "", PATH_OR_NONE, "weights of the SRGAN rows; empty: checkpoint_dir, else the shipped ones"
    ),
    "EVALUATE.distances": Option(
        True, YES_OR_NO, "columns of distances in features (VGG19, LPIPS), which take most of the time"
    ),
    "EVALUATE.trust_pickle": Option(
        False,
        YES_OR_NO,
        "read the pickle in g_srgan.npz of TensorLayer 1 or 2; it can contain code, but only arrays are loaded",
    ),
    "EVALUATE.self_ensemble": Option(
        False, YES_OR_NO, "average the networks' pictures over the eight flips and turns of LR"
    ),
    "VGG.weights": Option(
        "imagenet",
        Allowed(lambda value: value != "", "imagenet, none or a path"),
        "of VGG19; imagenet: Keras downloads them once; a path: of a vgg19 *_notop.h5 file",
    ),
    "VGG.reduce": Option(1.0, between(0.05, 1.0), "factor that reduces pictures before VGG19 (TensorLayer: 224/384)"),
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "TRAIN.n_updates_init": 1_000_000,
        "TRAIN.n_updates": 200_000,
        "TRAIN.content_loss": "paper",
        "TRAIN.fixed_statistics": 0.0,
    },
    "quick": {  # both stages on the shipped pictures, in minutes on two cores, without VGG19
        "MODEL.blocks": 4,
        "MODEL.filters": 32,
        "MODEL.discriminator_filters": 16,
        "TRAIN.batch_size": 8,
        "TRAIN.optimizer": "muon",
        "TRAIN.learning_rate_init": 3e-3,
        "TRAIN.schedule_init": "stable",
        "TRAIN.decay_part": 0.4,
        "TRAIN.fixed_statistics": 0.3,
        "TRAIN.n_updates_init": 600,
        "TRAIN.n_updates": 150,
        "TRAIN.content_loss": "mse",
        "VGG.weights": "none",  # so that it is not downloaded for a column of the table either
        "TRAIN.ema": 0.98,
        "TRAIN.report_every": 100,
        "TRAIN.checkpoint_dir": "checkpoints/quick",
        "TRAIN.samples_dir": "samples/quick",
        "VALID.crop": 256,
    },
    "texture": {  # what the game does: from the shipped SRResNet, with the slides' loss, five minutes on two cores
        "TRAIN.initial_generator": "checkpoints/pretrained/srresnet.weights.h5",
        "MODEL.discriminator_filters": 32,
        "TRAIN.batch_size": 8,
        "TRAIN.crop": 64,
        "TRAIN.learning_rate": 2e-4,
        "TRAIN.lr_decay": 1.0,
        "TRAIN.n_updates": 300,
        "TRAIN.d_head_start": 30,
        "TRAIN.label_smoothing": 0.1,
        "VGG.reduce": 0.75,
        "TRAIN.ema": 0.98,
        "TRAIN.report_every": 100,
        "TRAIN.checkpoint_dir": "checkpoints/texture",
        "TRAIN.samples_dir": "samples/texture",
        "VALID.count": 4,
        "VALID.crop": 256,
        "EVALUATE.distances": False,
    },
    "shipped": {  # the recipe of the shipped weights in one run (checkpoints/pretrained/README.md)
        "TRAIN.precision": "auto",
        "TRAIN.batch_size": 8,
        "TRAIN.optimizer": "muon",
        "TRAIN.learning_rate_init": 6e-4,
        "TRAIN.schedule_init": "stable",
        "TRAIN.pixel_loss_init": "mae",
        "TRAIN.teacher": "teacher.onnx",
        "TRAIN.teacher_part": 1.0,
        "TRAIN.n_updates_init": 40_000,
        "TRAIN.n_updates": 5_000,
        "TRAIN.schedule": "stable",
        "TRAIN.decay_part": 0.7,
        "TRAIN.muon_lr_ratio": 5.0,
        "TRAIN.d_head_start": 200,
        "TRAIN.label_smoothing": 0.1,
        "VGG.reduce": 0.75,
        "TRAIN.report_every": 250,
        "TRAIN.checkpoint_dir": "checkpoints/shipped",
        "TRAIN.samples_dir": "samples/shipped",
    },
}


def configuration(preset: str = "default", overrides: Iterable[str] = (), training: bool = True) -> EasyDict:
    """Return the resolved configuration as an EasyDict of sections, such as config.TRAIN.batch_size.

    overrides: strings of the form SECTION.name=value. training: also check options that depend on one another. Raises
    ValueError with one line that names the key, the value and what is allowed.
    """
    values = {key: option.default for key, option in OPTIONS.items()} | PRESETS[preset]
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


def parse(key: str, written: str) -> Any:
    """Return the value of option `key` that is `written` on the command line, with ~ expanded in paths.

    Raises ValueError if the value is not allowed.
    """
    default, allowed, _ = OPTIONS[key]
    if allowed is YES_OR_NO and written in ("yes", "no"):
        return written == "yes"
    kinds = allowed.kinds or (type(default),)
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError):  # TypeError: {[]: 1}
        value = written
    if float in kinds and type(value) is int:
        value = float(value)
    if str in kinds and not isinstance(value, kinds):
        value = written  # a folder may be called 2024
    finite = not isinstance(value, float) or math.isfinite(value)
    right_kind = isinstance(value, kinds) and type(value) is not bool  # Python's bool is an int
    if not (right_kind and finite and allowed.holds(value)):
        kind = {int: "a whole number, ", float: "a number, "}.get(type(default), "")
        raise ValueError(f"--set {key}={written}: must be {kind}{allowed.description}")
    return os.path.expanduser(value) if isinstance(value, str) else value


def check_together(values: dict[str, Any]) -> None:
    """Raise ValueError if two options contradict each other. values: {key: value} of all options."""
    crop, scale, variant = values["TRAIN.crop"], values["MODEL.scale"], values["MODEL.variant"]
    if crop % 16:  # the discriminator halves it four times
        raise ValueError(f"--set TRAIN.crop={crop}: must be a multiple of 16")
    if values["VALID.crop"] % scale:
        raise ValueError(f"--set VALID.crop={values['VALID.crop']}: must be a multiple of MODEL.scale={scale}")
    if variant == "tensorlayer" and crop % 64:
        raise ValueError(f"--set TRAIN.crop={crop}: the tensorlayer discriminator needs a multiple of 64, such as 384")
