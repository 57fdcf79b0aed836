"""Mistakes of the user as one line, and files that are written whole or not at all."""

import contextlib
import functools
import os
import platform
import sys
from pathlib import Path

import psutil

PARTIAL = f".half-{platform.node()[:30]}-"  # the names of files that are being written begin like this


class UserError(Exception):
    """A mistake of the user: one line that says what, where and what to do."""

    status = 2  # what the process exits with

    def __str__(self):
        """The line, with what no terminal takes, such as a line break in a file's name, written as an escape."""
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())


class Diverged(UserError):
    """Training that cannot go on: a loss or a weight is infinite or NaN."""

    status = 3


def reason(error):
    """What `error` says, in one line: the system's words for an OSError, else the first line of its message.

    An exception without a message gives the name of its class.
    """
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def make_folder(path):
    """Make a folder where there is none. Raises UserError where it cannot be made."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made: {reason(error)}") from error


@functools.cache
def remove_partial_files(folder):
    """Delete the partial files that killed processes of this machine left in `folder`.

    Looks once for each folder, since it may hold many files.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        process_id = path.name.removeprefix(PARTIAL).partition("-")[0]
        if process_id.isdigit() and not psutil.pid_exists(int(process_id)):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def atomic_write(path):
    """Yield a temporary path beside `path`, which replaces `path` only if the block succeeds.

    The name holds the process's number, for another process may write the same file. Raises UserError where it cannot
    be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name[-60:]}")
    make_folder(path.parent)
    remove_partial_files(path.parent)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path, text):
    """Write `text` to `path` as UTF-8, atomically. Raises UserError where it cannot be written."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def preallocate(path, size):
    """Make a file of `size` bytes. Raises OSError where they do not fit.

    HDF5 crashes the process when the disk fills up while it writes; after this it cannot.
    """
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def exit_status(program, work, interrupted="interrupted"):
    """The exit status of `program`: what `work()` returns, or what it raises as one line on stderr.

    2: a mistake of the user. 3: training diverged. 130: Ctrl-C.
    """
    try:
        return work()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.status
    except OSError as error:  # a folder that may not be entered, a name too long
        print(f"{program}: {error.filename or ''}: {reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{program}: {interrupted}", file=sys.stderr)
        return 130
