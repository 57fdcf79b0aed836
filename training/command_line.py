"""The command line of train.py."""

from collections.abc import Sequence

from easydict import EasyDict

from config import OPTIONS, PRESETS, configuration
from engines import prepare_environment
from utils import Parser

MODES = {
    "srgan": "train both stages: MSE warm-up (SRResNet), then the adversarial game",
    "srresnet": "train only the warm-up",
    "evaluate": "measure on data/benchmark and write grids; with --input, upscale pictures",
}


def command_line(argv: Sequence[str] | None = None) -> tuple[str, str | None, EasyDict]:
    """Parse train.py's command line into (mode, input, configuration), and prepare the environment for Keras.

    argv: the arguments, by default those of the process. Exits with 2 and one line after a mistake.
    """
    table = "\n".join(
        f"  {key} = {'no' if option.default is False else repr(option.default)}\n"
        f"      {option.meaning}; {option.allowed.description}"
        for key, option in OPTIONS.items()
    )
    parser = Parser(
        prog="train.py",
        description="SRGAN: photo-realistic 4x super-resolution.",
        epilog=f"values for --set:\n{table}",
    )
    modes = "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items())
    parser.add_argument("--mode", choices=MODES, default="srgan", help=f"{modes} (default: srgan)")
    parser.add_argument("--preset", choices=PRESETS, default="default", help="a group of values")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    parser.add_argument("--input", metavar="PATH", help="like upscale.py PATH -o samples/upscaled (mode evaluate)")
    parser.add_argument("--all", action="store_true", help="same as --set EVALUATE.methods=all (mode evaluate)")
    options = parser.parse_args(argv)
    if options.all and options.mode != "evaluate":
        parser.error("--all needs --mode=evaluate")
    if options.all:
        options.set.append("EVALUATE.methods=all")
    if options.input is not None and options.mode != "evaluate":
        parser.error("--input needs --mode=evaluate")
    if options.input == "":
        parser.error("--input is empty; name a file or a folder")
    try:
        prepare_environment()
        config = configuration(options.preset, options.set, training=options.mode != "evaluate")
        return options.mode, options.input, config
    except ValueError as error:
        parser.error(str(error))
