"""Mistakes that a user sees as one line, and files that are written atomically."""

import argparse
import contextlib
import functools
import importlib.util
import io
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import psutil

try:
    import fcntl
except ImportError:  # on Windows two processes may do the same work
    fcntl = None  # type: ignore[assignment]  # a module that may be missing has no other type

VERSION = "1.0.dev0"  # of all programs; CHANGELOG.md's section "Unreleased" is about it
PARTIAL = f".half-{platform.node()[:30]}-"  # prefix of the name of a file that is still being written


def printable(text: str) -> str:
    """Return `text` with unprintable characters escaped, such as a line break in a file name."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UserError(Exception):
    """A mistake that the user can correct; the message is one line that says what, where and what to do."""

    status = 2  # exit status of the process

    def __str__(self) -> str:
        """Return the message with unprintable characters escaped, such as a line break in a file name."""
        return printable(super().__str__())


class Diverged(UserError):
    """Training has diverged: a loss or a weight is infinite or NaN."""

    status = 3


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, which ends the work like Ctrl-C, so that partial files are removed."""


class Parser(argparse.ArgumentParser):
    """An argparse.ArgumentParser with --version that accepts no abbreviations; a mistake is one line and exit 2."""

    def __init__(self, **options: Any) -> None:
        defaults: dict[str, Any] = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(**defaults | options)
        self.add_argument("--version", action="version", version=f"SRGAN {VERSION}")

    def error(self, message: str) -> NoReturn:
        """Print `message` in one line, without the usage, and exit with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def reason(error: BaseException) -> str:
    """Return the reason for an exception in one line.

    This is the operating system's message for an OSError, otherwise the first line of the exception's message, or the
    name of its class if it has none.
    """
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def need(*packages: str, file: str) -> None:
    """Raise UserError if one of `packages` is not installed. file: the requirements that have them."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"needs {', '.join(missing)}; pip install -r {file}")


def make_folder(path: str | os.PathLike) -> None:
    """Create a folder, and its parents, unless it exists. Raises UserError if it cannot be created."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made: {reason(error)}") from error


@functools.cache
def remove_partial_files(folder: Path) -> None:
    """Delete the partial files and folders that killed processes on this machine left in `folder`.

    The cache makes this happen once per folder and process, since listing a large folder takes time.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        process_id = path.name.removeprefix(PARTIAL).partition("-")[0]
        if process_id.isdigit() and not psutil.pid_exists(int(process_id)):
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):  # it is gone now if it was a folder; it may be another user's
                path.unlink()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; the file written there replaces `path` only if the block succeeds.

    The temporary name contains the process ID, because another process may be writing the same file. Raises UserError
    if the file cannot be written.
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


def lock(file: IO) -> bool:
    """Lock an open file until it is closed, and return True; return False if it is locked already.

    The operating system releases the lock when the process ends, however it ends, so no lock can become stale. Where
    there are no locks, as on Windows, every file counts as locked by the caller.
    """
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system does not support locks
        pass
    return True


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8. Raises UserError if the file cannot be written."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def preallocate(path: str | os.PathLike, size: int) -> None:
    """Create a file of `size` bytes. Raises OSError if the disk is too full for it.

    HDF5, which crashes the process if the disk fills up while it writes, overwrites this file at once: what is certain
    is that there was room just before.
    """
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def exit_status(program: str, work: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Run `work` and return the exit status of `program`; print an error that the user can correct as one line.

    The status is what `work` returns, 2 after a user's mistake, 3 if training diverged, 130 after Ctrl-C, 143 after
    Terminated.
    """
    prepare_streams()
    try:
        status = work()
        sys.stdout.flush()  # so that a full disk or a closed pipe is reported here, in one line
        return status
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.status
    except OSError as error:  # for example a folder without permission, or a name that is too long
        place = f"{error.filename}: " if error.filename else ""
        print(printable(f"{program}: {place}{reason(error)}"), file=sys.stderr)
        drop_unwritten_output()
        return 2
    except KeyboardInterrupt as stop:
        start = "\n" if sys.stderr.isatty() else ""  # a terminal shows ^C where the line would begin
        print(f"{start}{program}: {interrupted}", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130


def prepare_streams() -> None:
    """Let standard output print every file name, and open the three streams if the process was started without them."""
    for name in ("stdin", "stdout", "stderr"):  # in the order of their file descriptors, which they then get
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115  # until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def drop_unwritten_output() -> None:
    """Discard output that cannot be written: Python would try again when the process ends, and print an error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Make SIGTERM raise Terminated inside the block, which must run in the main thread."""

    def terminate(number: int, stack: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt the clean-up
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
