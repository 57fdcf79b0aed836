"""Which results were made, and of what: a result is made again when its source, the model or an option changed.

Each folder of results has a hidden file with one JSON object a line: the name of a result, its size and time when it
was written, where its source lies, and what it was made of. A record beside the results survives where they are moved
together, serves every format and leaves the pictures themselves as they are. Lines are only ever appended, in one write
each, so that two runs may work in one folder; of two lines about a file the later one counts.
"""

import json
import os
from pathlib import Path
from typing import Any

from utils import UserError, reason

RECORD = ".upscaled.jsonl"


class Records:
    """The records of all folders, each read when it is first asked for."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, dict[str, Any]]] = {}  # folder: {name of a result: its line}

    def made_of(self, path: Path) -> dict[str, Any] | None:
        """What the result at `path` was made of, a dict; None where it is unknown or was changed since."""
        line = self._folder(path.parent).get(path.name)
        return line["made_of"] if line and line["state"] == state(path) else None

    def source(self, path: Path) -> Path | None:
        """The file of which the result at `path` was made; None where that is unknown, or the file has gone."""
        way = self._folder(path.parent).get(path.name, {}).get("source_path")
        source = Path(os.path.normpath(path.parent.resolve() / way)) if isinstance(way, str) else None
        return source if source and source.exists() else None

    def add(self, path: Path, source: Path, made_of: dict[str, Any]) -> None:
        """Record that the result at `path` has just been made of `source`, by `made_of`, a dict. Raises UserError."""
        source, folder = source.absolute(), path.parent.resolve()
        way = os.path.relpath(source, folder) if source.drive == folder.drive else str(source)
        line = {"result": path.name, "state": state(path), "source_path": way, "made_of": made_of}
        try:
            with open(path.with_name(RECORD), "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"{path.with_name(RECORD)}: cannot be written: {reason(error)}") from error
        self._folder(path.parent)[path.name] = line

    def _folder(self, folder: Path) -> dict[str, dict[str, Any]]:
        """{name: line} of one folder; what is damaged in its record is left out."""
        folder = folder.resolve()
        if folder not in self.folders:
            self.folders[folder] = read_record(folder / RECORD)
        return self.folders[folder]


def read_record(path: Path) -> dict[str, dict[str, Any]]:
    """{name of a result: its line} of a record; empty where there is none."""
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


def state(path: Path) -> list[int] | None:
    """[size in bytes, time of the last change in ns] of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
