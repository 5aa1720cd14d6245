"""Rows out of a damaged SQLite file: everything that SQLite can still read, around what it cannot.

The file is never opened itself: a copy is, with its write-ahead log, in a folder that goes afterwards. The copy's
header gets back what all histories have in common. Where the page with the names of the tables is unreadable, it gets
that of a new history, whose tables begin on the same pages as in one that was never migrated.

A table is read in ranges of its first key, halved around what cannot be read down to single numbers; one whose key is
text is read from both of its ends.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from ncode_search.agent.schema import MIGRATIONS

PAGE = 4096
"""Bytes of a page, unless the file's header names another size."""
_SMALLEST_ROW = 24
"""Bytes; numbers of rows that the file is too small for are damage."""
_MAGIC = b"SQLite format 3\x00"

Row = tuple[Any, ...]


class Salvage:
    """A damaged history, open for reading what is left; see the module's text."""

    def __init__(self, connection: sqlite3.Connection, size: int) -> None:
        self._db = connection
        self._most = size // _SMALLEST_ROW + 1000

    def columns(self, table: str) -> list[str]:
        """The columns of a table; none where its declaration is unreadable."""
        try:
            return [row[1] for row in self._db.execute(f"PRAGMA table_info({table})")]
        except sqlite3.Error:
            return []

    def applied(self) -> set[str]:
        """The migrations that made the file; all of them where that cannot be read."""
        names = self._read(f"SELECT name FROM {MIGRATIONS.migrations_table}", ())
        return {name for (name,) in names or []} or {migration.name for migration in MIGRATIONS._migrations}

    def rows(self, table: str, columns: list[str], key: str, *, is_number: bool) -> Iterator[Row]:
        """All rows that can be read, each once for every way that leads to it."""
        if columns:
            what = f"SELECT {', '.join(columns)} FROM {table}"
            yield from self._by_number(what, key, 0, self._end(table, key)) if is_number else self._from_ends(what, key)

    def highest(self, table: str, key: str) -> int:
        """The highest number that can be read; 0 where none can."""
        found = self._read(f"SELECT max({key}) FROM {table}", ())
        number = found[0][0] if found else None
        return number if isinstance(number, int) and number <= self._most else 0

    def _end(self, table: str, key: str) -> int:
        """Beyond the highest number; of a table whose end is unreadable, beyond all that the file has room for."""
        return (self.highest(table, key) or self._most) + 1

    def _by_number(self, what: str, key: str, first: int, end: int) -> Iterator[Row]:
        ranges = [(first, end)]
        while ranges:
            first, end = ranges.pop()
            found = self._read(f"{what} WHERE {key} >= ? AND {key} < ?", (first, end))
            if found is not None:
                yield from found
            elif end - first > 1:
                middle = (first + end) // 2
                ranges += [(middle, end), (first, middle)]

    def _from_ends(self, what: str, key: str) -> Iterator[Row]:
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error):
                yield from self._db.execute(f"{what} ORDER BY {key} {order}")

    def _read(self, query: str, parameters: tuple[int, ...]) -> list[Row] | None:
        try:
            return self._db.execute(query, parameters).fetchall()
        except (sqlite3.Error, OverflowError):
            return None


@contextlib.contextmanager
def opened(path: Path, folder: Path) -> Iterator[Salvage]:
    """What is left of the file at `path`; the copy is made in `folder`."""
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=folder) as name:
        copy = _copied(path, Path(name))
        connection = _connected(copy)
        try:
            if not _has_tables(connection):
                connection.close()
                _graft_schema(copy, Path(name))
                connection = _connected(copy)
            yield Salvage(connection, copy.stat().st_size)
        finally:
            connection.close()


def _copied(path: Path, folder: Path) -> Path:
    copy = folder / "copy.db"
    shutil.copyfile(path, copy)
    log = path.with_name(path.name + "-wal")
    if log.is_file():
        shutil.copyfile(log, folder / "copy.db-wal")
    with copy.open("r+b") as file:
        header = file.read(100).ljust(100, b"\0")
        file.seek(0)
        file.write(_mended(header))
    return copy


def _mended(header: bytes) -> bytes:
    """The header with what all histories have in common: in the file format's order, from its documentation."""
    size = int.from_bytes(header[16:18], "big")
    size = size if size == 1 or (512 <= size <= 32768 and size & (size - 1) == 0) else PAGE
    start = _MAGIC + size.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32])
    schema_format, encoding = (4).to_bytes(4, "big"), (1).to_bytes(4, "big")
    return start + header[24:44] + schema_format + header[48:56] + encoding + header[60:]


def _connected(copy: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(copy, isolation_level=None)
    with contextlib.suppress(sqlite3.Error):
        # Has SQLite go on where the file is shorter than its header says, and pass over tables that are damaged.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    try:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False
    return {"trials", "meta"} <= names


def _graft_schema(copy: Path, folder: Path) -> None:
    """Put the first page of a new history in the place of the copy's, but for its header."""
    new = folder / "new.db"
    database = Database(sqlite3.connect(new, isolation_level=None))
    database.enable_wal()
    MIGRATIONS.apply(database)
    database.close()
    page = new.read_bytes()[:PAGE]
    with copy.open("r+b") as file:
        header = file.read(100)
        if int.from_bytes(header[16:18], "big") == PAGE:
            file.seek(0)
            file.write(header + page[100:])
