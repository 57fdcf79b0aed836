"""Records of what each result was made of, so that it is made again when its source, the model or an option changes.

Each folder of results has a hidden file with one JSON object per line: the name of a result, its fingerprint when it
was written, where its source is, and what it was made of. A record beside the results can be moved along with them,
works for every format and leaves the pictures unchanged. Lines are only ever appended, each in one write, so that two
runs may work in one folder; of two lines about a file the later one counts.
"""

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from utils import UserError, reason

RECORD = ".upscaled.jsonl"


class Records:
    """The records of all folders, each read when it is first needed."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, dict[str, Any]]] = {}  # {folder: {name of a result: its line}}

    def made_of(self, path: Path) -> dict[str, Any] | None:
        """Return what the result at `path` was made of; None if that is unknown or the file has changed since."""
        line = self._folder(path.parent).get(path.name)
        return line["made_of"] if line and is_unchanged(path, line["state"]) else None

    def source(self, path: Path) -> Path | None:
        """Return the file of which the result at `path` was made, or None if it is unknown or no longer there."""
        relative = self._folder(path.parent).get(path.name, {}).get("source_path")
        source = Path(os.path.normpath(path.parent.resolve() / relative)) if isinstance(relative, str) else None
        return source if source and source.exists() else None

    def add(self, path: Path, source: Path, made_of: dict[str, Any]) -> None:
        """Record that the result at `path` was just made from `source`, of `made_of`.

        Raises UserError if that cannot be written.
        """
        source, folder = source.absolute(), path.parent.resolve()
        # A relative path stays right when pictures and results are moved together; between drives there is none.
        relative = os.path.relpath(source, folder) if source.drive == folder.drive else str(source)
        line = {"result": path.name, "state": fingerprint(path), "source_path": relative, "made_of": made_of}
        try:
            self._append(path, line)
        except OSError as error:
            raise UserError(f"{path.with_name(RECORD)}: cannot be written: {reason(error)}") from error

    def correct(self, path: Path, made_of: dict[str, Any]) -> None:
        """Replace what the record says the result at `path` was made of, where the record can be written."""
        with contextlib.suppress(OSError):
            self._append(path, self._folder(path.parent)[path.name] | {"made_of": made_of})

    def _append(self, path: Path, line: dict[str, Any]) -> None:
        with open(path.with_name(RECORD), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._folder(path.parent)[path.name] = line

    def _folder(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Return {name: line} of one folder, without damaged lines."""
        folder = folder.resolve()
        if folder not in self.folders:
            self.folders[folder] = read_record(folder / RECORD)
        return self.folders[folder]


def read_record(path: Path) -> dict[str, dict[str, Any]]:
    """Read a record as {name of a result: its line}, without damaged lines; it is empty if there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        fields = content if isinstance(content, dict) else {}
        if isinstance(fields.get("result"), str) and isinstance(fields.get("made_of"), dict) and "state" in fields:
            found[fields["result"]] = fields
    return found


def stamp(path: Path) -> tuple[int, int] | None:
    """Return (size in bytes, time of the last change in ns) of a file, or None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def fingerprint(path: Path) -> list[int | str] | None:
    """Return [size in bytes, time of the last change in ns, SHA-256] of a file, or None if it cannot be read."""
    found = stamp(path)
    try:
        return [*found, _sha256(path, *found)] if found else None
    except OSError:
        return None


def is_unchanged(path: Path, earlier: Any) -> bool:
    """Return whether the file at `path` has the content that it had when `earlier` was its fingerprint.

    A file is read only if its time is another, as after copying; fingerprints of earlier versions lack the SHA-256.
    """
    found = stamp(path)
    if not found or not isinstance(earlier, list) or earlier[:1] != [found[0]]:
        return False
    if earlier[1:2] == [found[1]]:
        return True
    return len(earlier) == 3 and fingerprint(path) == [*found, earlier[2]]


@functools.cache
def _sha256(path: Path, size: int, time: int) -> str:
    """Return the SHA-256 of a file; its size and time are for the cache."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
