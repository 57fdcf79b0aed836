"""The content of a file, by which it is known again after a copy or a new clone."""

import functools
import hashlib
from pathlib import Path
from typing import Any


def stamp(path: Path) -> tuple[int, int] | None:
    """Return (size in bytes, time of the last change in ns) of a file, or None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def fingerprint(path: Path) -> list[int | str] | None:
    """Return [size in bytes, time of the last change in ns, SHA-256] of a file, or None if it cannot be read."""
    now = stamp(path)
    try:
        return [*now, _sha256(path, *now)] if now else None
    except OSError:
        return None


def is_unchanged(path: Path, earlier: Any) -> bool:
    """Return whether the file at `path` has the content that it had when `earlier` was its fingerprint.

    A file is read only if its time is another, as after copying; fingerprints of earlier versions lack the SHA-256.
    """
    now = stamp(path)
    if not now or not isinstance(earlier, list) or earlier[:1] != [now[0]]:
        return False
    return earlier[1:2] == [now[1]] or len(earlier) == 3 and fingerprint(path) == [*now, earlier[2]]


@functools.cache
def _sha256(path: Path, size: int, time: int) -> str:
    """Return the SHA-256 of a file; its size and time are for the cache."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
