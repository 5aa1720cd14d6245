"""Rows out of a damaged SQLite file: everything that SQLite can still read, around what it cannot.

The file is never opened itself: a copy is, with its write-ahead log, in a folder that goes afterwards. The copy's
header gets back what all histories have in common. Where the tables are not declared as usual, further copies are
made, in which they are: see `declarations`.

A table is read in ranges of its first key, halved around what cannot be read down to single numbers; one whose key is
text is read from both of its ends.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncode_search.agent import declarations
from ncode_search.agent.declarations import PAGE, Places, declared, graft
from ncode_search.agent.schema import MIGRATIONS

_SMALLEST_ROW = 24
"""Bytes; numbers of rows that the file is too small for are damage."""
_MAGIC = b"SQLite format 3\x00"

Row = tuple[Any, ...]


class Salvage:
    """A damaged history, open for reading what is left; see the module's text."""

    def __init__(self, connection: sqlite3.Connection, size: int) -> None:
        self.connection = self._db = connection
        self._most = size // _SMALLEST_ROW + 1000

    def columns(self, table: str) -> list[str]:
        """The columns of a table; none where its declaration is unreadable."""
        try:
            return [row[1] for row in self._db.execute(f"PRAGMA table_info({table})")]
        except sqlite3.Error:
            return []

    def applied(self) -> set[str]:
        """The migrations that made the file; all of them where that cannot be read."""
        found = self._read(f"SELECT name FROM {MIGRATIONS.migrations_table}", ()) or []
        names = [migration.name for migration in MIGRATIONS._migrations]
        count = max((number for number, name in enumerate(names, 1) if (name,) in found), default=len(names))
        return set(names[:count])

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


def ways(path: Path, folder: Path) -> Iterator[Salvage]:
    """What is left of the file at `path`, in every way to read it that is worth a try, each one closed before the next;
    the last one is the file as it is. Copies are made in `folder`.
    """
    copy, new = folder / "copy.db", folder / "new.db"
    with _opened(path, copy) as left:
        found, applied = declared(left.connection), left.applied()
    for places in declarations.ways_to_mend(path, found, declarations.usual(new, applied)):
        with _opened(path, copy, new, places) as left:
            yield left
    with _opened(path, copy) as left:
        yield left


@contextlib.contextmanager
def _opened(path: Path, copy: Path, new: Path | None = None, places: Places | None = None) -> Iterator[Salvage]:
    """A new copy, open; with the declarations of the history `new`, if there is one."""
    _copy(path, copy)
    if new is not None:
        graft(copy, new, places or {})
    with contextlib.closing(_connected(copy)) as connection:
        yield Salvage(connection, copy.stat().st_size)


def _copy(path: Path, copy: Path) -> None:
    shutil.copyfile(path, copy)
    for suffix in ("-wal", "-shm"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    log = path.with_name(path.name + "-wal")
    if log.is_file():
        shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
    with copy.open("r+b") as file:
        header = file.read(100).ljust(100, b"\0")
        file.seek(0)
        file.write(_mended(header))


def _mended(header: bytes) -> bytes:
    """The header with what all histories have in common: in the file format's order, from its documentation."""
    size = int.from_bytes(header[16:18], "big")
    size = size if size == 1 or (512 <= size <= 32768 and size & (size - 1) == 0) else PAGE
    start = _MAGIC + size.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32])
    schema_format, encoding = (4).to_bytes(4, "big"), (1).to_bytes(4, "big")
    no_size = bytes(4)  # has SQLite ask the file's own
    return start + header[24:28] + no_size + header[32:44] + schema_format + header[48:56] + encoding + header[60:]


def _connected(copy: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(copy, isolation_level=None)
    with contextlib.suppress(sqlite3.Error):
        # Has SQLite go on where the file is shorter than its header says, and pass over tables that are damaged.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("PRAGMA cell_size_check = ON")
    return connection
