"""The paper's rating test (section 3.3), for any methods: which pictures do people find better?

python study.py make study                          pictures by --mode=evaluate's methods, under hidden names
python study.py make study ours=a theirs=b HR=c     pictures by any methods, one folder for each
python study.py serve study --raters 5              a page with an address for each of five people
python study.py report study                        means with intervals, ranks and tests: study/report
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from easydict import EasyDict

from config import configuration
from engines import import_keras
from rating.make import Scene, check_new, drawn, make_study, scenes_of_examples, scenes_of_folders
from rating.manifest import KINDS, sha256
from utils import Parser, UserError, exit_status, need

EXAMPLES = Path(__file__).parent / "data/valid"


def commands_parser() -> Parser:
    """Return the parser of the three commands."""
    parser = Parser(prog="study.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="make|serve|report")
    parsers = {
        make: commands.add_parser("make", help="write a new study"),
        serve: commands.add_parser("serve", help="show it to raters, until Ctrl-C"),
        report: commands.add_parser("report", help="write FOLDER/report"),
    }
    for command, of_command in parsers.items():
        of_command.set_defaults(run=command)
        of_command.add_argument("folder", type=Path, help="of the study")
    add = parsers[make].add_argument
    add("methods", nargs="*", default=[], metavar="NAME=FOLDER", help="default: evaluate's")
    kinds = "; ".join(f"{kind}: {question}" for kind, question in KINDS.items())
    add("--kind", choices=KINDS, default="rating", help=f"{kinds} (default: rating)")
    add("--count", type=int, default=0, help="pictures drawn from each set (default: all)")
    add("--examples", default=EXAMPLES, help="HR pictures to learn the scale from")
    add("--seed", type=int, default=0, help="seed of the pictures drawn and of each rater's order")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="as in train.py")
    add = parsers[serve].add_argument
    add("--raters", type=int, default=1, help="number of people with an address (default: 1)")
    add("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    add("--port", type=int, default=8000, help="default: 8000; 0: any that is free")
    parsers[report].add_argument("--everyone", action="store_true", help="nobody is left out")
    parsers[report].add_argument("--json", action="store_true", help="print a JSON object instead of a line")
    return parser


def command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with 2 and one line after a mistake."""
    parser = commands_parser()
    options, more = parser.parse_known_args(argv)
    if more and (options.command != "make" or any(word.startswith("-") for word in more)):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if options.command == "make":
        options.methods += more  # argparse takes positional arguments only before an option
        if options.count < 0:
            parser.error(f"--count {options.count}: must be 0 (all) or more")
        if options.methods and options.set:
            parser.error("--set goes with the methods of --mode=evaluate, not with NAME=FOLDER")
    if options.command == "serve" and not 1 <= options.raters <= 1000:
        parser.error(f"--raters {options.raters}: must be 1 to 1000")
    if options.command == "serve" and not 0 <= options.port < 65536:
        parser.error(f"--port {options.port}: must be 0 to 65535")
    return options


def folders_of_methods(methods: Sequence[str]) -> dict[str, str]:
    """Parse words NAME=FOLDER into {name: folder}. Raises UserError if one has another form or a name comes twice."""
    folders = dict(method.partition("=")[::2] for method in methods)
    if not all(folders.values()) or len(folders) < len(methods):
        raise UserError(f"{' '.join(methods)}: write NAME=FOLDER, each name once")
    return folders


def scenes_of_benchmarks(config: EasyDict) -> tuple[list[Scene], dict[str, str]]:
    """Return the scenes of --mode=evaluate's methods and sets, and {method: where its pictures come from}.

    Raises UserError if weights do not fit or there is no picture.
    """
    import_keras()  # the other commands do not need it, and start at once without it
    from evaluate import MAIN_FILTERS, every_method, load_networks, method_name, weights_of
    from evaluation.benchmark import benchmark_sets
    from training.stages import STAGES

    scale = config.MODEL.scale
    networks, remarks = load_networks(config)
    sources = dict.fromkeys(MAIN_FILTERS, f"MATLAB's imresize, x{scale}")
    for stage in STAGES:
        path = weights_of(stage, config)
        if path:  # without weights, load_networks leaves the method out
            sources[method_name(stage, path)] = f"{path.name}, SHA-256 {sha256(path)}"

    def load(lr: np.ndarray, hr: np.ndarray) -> dict[str, np.ndarray]:
        return every_method(lr, scale, networks) | {"HR": hr}

    scenes = []
    for name, pictures in benchmark_sets(config.EVALUATE.benchmark_dir, scale, remarks):
        scenes += [Scene(name, path.stem, functools.partial(load, lr, hr)) for path, lr, hr in pictures]
    for remark in remarks:
        print(remark)
    return scenes, sources | {"HR": "the original"}


def make(options: argparse.Namespace) -> int:
    """Write a new study; return 0. Raises UserError if methods, pictures or the folder cannot be used."""
    check_new(options.folder)  # before the networks do their work
    examples = scenes_of_examples(options.examples)
    if options.methods:
        sources = folders_of_methods(options.methods)
        scenes = scenes_of_folders(sources)
    else:
        try:
            config = configuration(overrides=options.set, training=False)
        except ValueError as error:
            raise UserError(error) from error
        scenes, sources = scenes_of_benchmarks(config)
    chosen = drawn(scenes, options.count, options.seed)
    count = make_study(options.folder, options.kind, options.seed, chosen, sources, examples)
    print(f"{options.folder}: {count} to judge, of {len(chosen)} pictures by {len(sources)} methods")
    print(f"next: python study.py serve {options.folder} --raters 5")
    return 0


def serve(options: argparse.Namespace) -> int:
    """Show a study to raters until Ctrl-C; return the exit status. Raises UserError if study or port is unusable."""
    need("starlette", "uvicorn", file="requirements-study.txt")
    from rating import server

    return server.serve(options.folder, options.host, options.port, options.raters)


def report(options: argparse.Namespace) -> int:
    """Write the report of a study; return 0. Raises UserError if nobody has rated yet, which --json prints too."""
    began, folder = time.perf_counter(), str(options.folder)
    try:
        need("choix", "matplotlib", "markdown", file="requirements-study.txt")
        from rating.report import write_report

        target, answers, raters = write_report(folder, options.everyone)
    except UserError as error:
        if options.json:
            print(json.dumps({"input": folder, "output": None, "error": str(error)}))
        raise
    facts = {"output": str(target), "answers": answers, "raters": raters}
    if options.json:
        print(json.dumps({"input": folder} | facts | {"seconds": time.perf_counter() - began, "error": None}))
    else:
        print(f"{target}: {answers} answers of {raters} raters")
    return 0


def main(options: argparse.Namespace) -> int:
    """Run the command; return the exit status, 2 after a user's mistake."""
    return exit_status("study.py", lambda: options.run(options))


if __name__ == "__main__":
    sys.exit(main(command_line()))
