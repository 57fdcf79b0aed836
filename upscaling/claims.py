"""Claims, by which two processes at work on the same files do not both make a result."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from utils import lock


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[bool]:
    """Yield whether this process may make the result `target`; False while another one is making it.

    A claim is a locked file beside `target`, which is removed at the end. Where none can be made, each process may.
    """
    with contextlib.ExitStack() as stack:
        ours = True
        with contextlib.suppress(OSError):  # for example a name that is too long
            ours = _claim(target.with_name(f".{target.name}.lock"), stack)
        yield ours


def _claim(path: Path, stack: contextlib.ExitStack) -> bool:
    """Lock the file at `path` until `stack` is closed, which also removes it; return False if another process has."""
    while True:
        file = stack.enter_context(open(path, "a"))  # noqa: SIM115  # the stack closes it
        if not lock(file):
            return False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                stack.callback(_remove, path)
                return True
        # Its last owner has removed it after it was opened here, so another process may lock a new one of that name.


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
