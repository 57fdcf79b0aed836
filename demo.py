"""A page in the browser: drop pictures, see them four times as large, compare two methods.

python demo.py                   http://127.0.0.1:7860, for this machine only; needs requirements-demo.txt
"""

import contextlib
import sys
from argparse import Namespace
from collections.abc import Sequence

from upscaling.models import load
from upscaling.upscaler import Upscaler
from utils import Parser, exit_status, need, sigterm_interrupts
from weights import PRETRAINED


def command_line(argv: Sequence[str] | None = None) -> Namespace:
    """Return the parsed options. Exits with 2 and one line after a mistake."""
    parser = Parser(prog="demo.py", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only; 0.0.0.0: all")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860; 0: any that is free")
    parser.add_argument("--jobs", type=int, default=8, help="pictures accepted at once; more are refused (default: 8)")
    options = parser.parse_args(argv)
    if not 0 <= options.port < 65536:
        parser.error(f"--port {options.port}: must be 0 to 65535")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: must be 1 or more")
    return options


def load_methods() -> dict[str, Upscaler]:
    """Return {method: its Upscaler} of bicubic and of the networks whose weights are shipped."""
    shipped = [name for name in ("srresnet", "srgan") if (PRETRAINED / f"{name}.weights.h5").is_file()]
    return {name: load(name) for name in ("bicubic", *shipped)}


def run(options: Namespace) -> int:
    """Serve the page until Ctrl-C or SIGTERM, then return 0. Raises UserError if it cannot be served."""
    need("starlette", "uvicorn", file="requirements-demo.txt")
    from page.server import serve

    with contextlib.suppress(KeyboardInterrupt), sigterm_interrupts():
        serve(load_methods(), options.host, options.port, options.jobs)
    return 0


def main(options: Namespace) -> int:
    """Serve the page, print an error as one line, and return the exit status, 2 after a user's mistake."""
    return exit_status("demo.py", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main(command_line()))
