"""The raters of a study and their ratings, in SQLite: every acknowledged rating is on disk, exactly once."""

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils import UserError

TABLES = """
CREATE TABLE IF NOT EXISTS raters (
    number INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS ratings (
    rater INTEGER NOT NULL REFERENCES raters (number),
    item TEXT NOT NULL,
    repeat INTEGER NOT NULL CHECK (repeat IN (0, 1)),
    value INTEGER NOT NULL CHECK (value BETWEEN 1 AND 5),
    seconds REAL NOT NULL,
    pixel_ratio REAL NOT NULL,
    screen TEXT NOT NULL,
    room TEXT NOT NULL,
    rated TEXT NOT NULL,
    PRIMARY KEY (rater, item, repeat)
) WITHOUT ROWID;
"""


class Store:
    """The database at `path`, created if it does not exist; several threads and processes may use it at once.

    Every method raises UserError if the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        with self._errors():
            self.connection = sqlite3.connect(path, check_same_thread=False)
            self.connection.execute("PRAGMA journal_mode = WAL")  # so that a report can be made while people rate
            self.connection.execute("PRAGMA synchronous = FULL")  # so that a commit returns only when it is on disk
            self.connection.executescript(TABLES)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: {error}") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block does, or undo all of it after an exception."""
        with self._errors(), self.lock, self.connection:
            yield self.connection

    def close(self) -> None:
        """Close the database."""
        with self._errors(), self.lock:
            self.connection.close()

    def raters(self) -> list[tuple[int, str, int]]:
        """Return [(number, token, number of ratings, examples included)] of all raters, by number."""
        query = "SELECT number, token, COUNT(item) FROM raters LEFT JOIN ratings ON rater = number GROUP BY number"
        with self._transaction() as connection:
            return connection.execute(query).fetchall()

    def add_raters(self, total: int) -> None:
        """Add raters until there are `total`, each with a random token of 128 bits."""
        with self._transaction() as connection:
            connection.execute("BEGIN IMMEDIATE")
            (count,) = connection.execute("SELECT COUNT(*) FROM raters").fetchone()
            new = [(number, secrets.token_urlsafe(16)) for number in range(count + 1, total + 1)]
            connection.executemany("INSERT INTO raters VALUES (?, ?)", new)

    def find_rater(self, token: str) -> int | None:
        """Return the number of the rater with this token, or None."""
        with self._transaction() as connection:
            row = connection.execute("SELECT number FROM raters WHERE token = ?", (token,)).fetchone()
        return row and row[0]

    def count(self, rater: int) -> int:
        """Return the number of ratings that a rater has given, examples included."""
        with self._transaction() as connection:
            return connection.execute("SELECT COUNT(*) FROM ratings WHERE rater = ?", (rater,)).fetchone()[0]

    def add(self, rater: int, item: str, repeat: int, value: int, seen: dict[str, Any]) -> int:
        """Store a rating unless the item has one already; return the stored value once it is on disk.

        seen: {"seconds", "pixel_ratio", "screen", "room"}, as the page reports them.
        """
        conditions = [seen[name] for name in ("seconds", "pixel_ratio", "screen", "room")]
        row = (rater, item, repeat, value, *conditions, datetime.now(UTC).isoformat(timespec="seconds"))
        query = "SELECT value FROM ratings WHERE (rater, item, repeat) = (?, ?, ?)"
        with self._transaction() as connection:
            connection.execute("INSERT INTO ratings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            return connection.execute(query, row[:3]).fetchone()[0]

    def ratings(self) -> list[dict[str, Any]]:
        """Return all ratings as dicts with the table's columns, by rater and time."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT * FROM ratings ORDER BY rater, rated, item, repeat")
            return [dict(zip([column[0] for column in rows.description], row)) for row in rows]
