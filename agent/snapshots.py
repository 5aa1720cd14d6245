"""Copies of a history that is in use: of one moment, checked whole, and on disk. Backups are, and so is what is left
beside a history that is migrated.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from threading import Event

from ncode_search.agent.errors import HistoryError, one_line

_OPCODES = 10_000
"""Steps of SQLite's between two looks at whether it is to be broken off; well below a millisecond."""


def make(connection: sqlite3.Connection, to: Path, is_broken_off: Event | None = None) -> None:
    """Copy an open history to the new file `to`, which is gone again after an error.

    Raises `HistoryError` where the copy is not sound, `sqlite3.Error` or `OSError` where it cannot be made, or
    `is_broken_off` was set.
    """
    to.unlink(missing_ok=True)
    try:
        os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        _heed(connection, is_broken_off)
        connection.execute("VACUUM INTO ?", [str(to.absolute())])
        check(to, is_broken_off)
        sync(to)
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def keep(made: Path, path: Path) -> None:
    """Give a copy its name, on disk."""
    os.replace(made, path)
    sync(path.absolute().parent)


def check(path: Path, is_broken_off: Event | None = None) -> None:
    """Raises `HistoryError` or `sqlite3.Error` where a file is not there or not sound."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        _heed(connection, is_broken_off)
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise HistoryError(f"{path}: is not sound ({one_line(str(found))}); check the disk")


def sync(path: Path) -> None:
    """Put a file, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _heed(connection: sqlite3.Connection, is_broken_off: Event | None) -> None:
    if is_broken_off is not None:
        connection.set_progress_handler(is_broken_off.is_set, _OPCODES)
