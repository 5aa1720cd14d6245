"""How the tables of a damaged history are declared: which of it can be known without the file, and how it is put back.

The declarations are in the first page: of every table and index its SQL and the page on which it begins. The SQL is
what the migrations make. Where things begin is known of a history that was never migrated, and of a backup of one;
where a migration put a table only the damaged page can tell.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Set
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from ncode_search.agent.schema import MIGRATIONS

PAGE = 4096
"""Bytes of a page, unless the file's header names another size."""

Declared = dict[str, tuple[Any, str | None]]
"""Of every table and index the page on which it begins, a number unless damaged, and its SQL."""
Places = dict[str, int]
"""On which page what begins."""

_NUMBERED, _OTHERS = (5, 13), (2, 10)
"""What the pages of a table with numbers as keys begin with; those of other tables, and of indexes."""
_WITH_NUMBERS = ("trials", "decisions", "starts", MIGRATIONS.migrations_table)

# What can be read of a damaged page, SQLite need not have understood when it looked for tables.
_QUERY = (
    "SELECT name, rootpage, CASE WHEN type = 'table' AND NOT EXISTS (SELECT 1 FROM pragma_table_info(declared.name)) "
    "THEN NULL ELSE sql END FROM sqlite_master AS declared"
)


def declared(connection: sqlite3.Connection) -> Declared:
    """What a file declares, no SQL for tables that are none to SQLite; empty where it cannot be read."""
    try:
        rows = connection.execute(_QUERY).fetchall()
    except sqlite3.Error:
        return {}
    return {name: (page, sql) for name, page, sql in rows}


def usual(path: Path, applied: Set[str]) -> list[Declared]:
    """What a history that these migrations made declares: at first, as one is made at `path`; and in its backups."""
    with contextlib.closing(Database(sqlite3.connect(path, isolation_level=None))) as database:
        database.enable_wal()
        migrate(database, applied)
        first = declared(database.conn)
        backup = path.with_name(f"{path.name}.backup")
        database.conn.execute("VACUUM INTO ?", [str(backup)])
    with contextlib.closing(sqlite3.connect(backup)) as connection:
        return [first, declared(connection)]


def ways_to_mend(path: Path, found: Declared, usual: list[Declared]) -> list[Places]:
    """Where things may begin in a file whose declarations are damaged; none where they are as usual."""
    if found in usual:
        return []
    read = {name: page for name, (page, _) in found.items() if isinstance(page, int) and page > 1}
    known = _likeliest(path, [{name: page for name, (page, _) in one.items()} for one in usual])
    # One that agrees with all that can be read is the one.
    return [one for one in known if read and read.items() <= one.items()][:1] or ([read] if read else []) + known


def _likeliest(path: Path, known: list[Places]) -> list[Places]:
    """Those by which most pages are of the kind that they should be; a wrong one costs minutes, with a large file."""
    with path.open("rb") as file:

        def kind(page: int) -> int:
            file.seek((page - 1) * PAGE)
            return (file.read(1) or b"\0")[0]

        fitting = [
            sum(kind(page) in (_NUMBERED if name in _WITH_NUMBERS else _OTHERS) for name, page in one.items())
            for one in known
        ]
    return [one for one, count in zip(known, fitting, strict=True) if count == max(fitting)]


def migrate(database: Database, applied: Set[str]) -> None:
    """Apply these migrations only."""
    MIGRATIONS.apply(database, stop_before=[one.name for one in MIGRATIONS._migrations if one.name not in applied])


def graft(path: Path, new: Path, places: Places) -> None:
    """Put the first page of the history `new` in the place of that of `path`, but for its header; what is in `places`
    begins there.
    """
    with path.open("r+b") as file:
        header = file.read(100)
        if int.from_bytes(header[16:18], "big") != PAGE:
            return
        file.seek(0)
        file.write(header + new.read_bytes()[100:PAGE])
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection,
        contextlib.suppress(sqlite3.Error),
    ):
        connection.execute("PRAGMA writable_schema = ON")
        rows = [(page, name) for name, page in places.items()]
        connection.executemany("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", rows)
