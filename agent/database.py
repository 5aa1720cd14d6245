"""Opening a history file: what it must be, and what is said when it is not.

A file is looked at through a read-only connection first, so nothing in it changes before it is known to be this
search's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlite_utils import Database

from ncode_search.agent import run_files, snapshots
from ncode_search.agent.errors import (
    HistoryError,
    HistoryLockedError,
    HistoryUnavailableError,
    InputError,
    NcodeError,
    one_line,
)
from ncode_search.agent.schema import MIGRATIONS

BUSY_TIMEOUT = 60.0
"""Seconds that a write waits for another process's transaction before it gives up."""

NOTHING_DECLARED: Mapping[str, Any] = {"equal": {}, "costs": {}, "forbidden": []}
"""What a space may declare beside its positions, as a history keeps it; what older histories lack is as here."""

logger = logging.getLogger(__name__)


def connect(path: Path, *, read_only: bool = False, patience: float = BUSY_TIMEOUT) -> Database:
    """A connection to a file that is there, with foreign keys on and every transaction begun by hand; `patience`: see
    `BUSY_TIMEOUT`.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rw'}"
    if read_only and _is_at_rest(path):
        uri += "&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if identity(path) is None:
            raise HistoryError(f"{path}: is gone, it was moved or deleted; put it back where it was") from None
        raise _refusal(path, "cannot be opened", error) from None
    return Database(connection)


def _is_at_rest(path: Path) -> bool:
    """Whether a history is read where SQLite can make no shared memory for it, and needs none: nobody has it open."""
    return not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()


def identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever its name; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_for_writing(path: Path, meta: Mapping[str, Any], patience: float = BUSY_TIMEOUT) -> Database:
    """The history at `path`, made if there is none, migrated if it is older; `meta` is what it must hold.

    Raises `HistoryError` where the file is no history, another search's, or newer than this program; it is unchanged
    then.
    """
    run_files.check(path)
    if not path.parent.is_dir():
        raise HistoryError(f"{path}: the folder {path.parent} does not exist; make it or choose another history path")
    run_files.refuse_links(path)
    if exists(path):
        _check_existing(path, meta, patience)
    else:
        run_files.create(path)
    db = connect(path, patience=patience)
    with _closed_by_errors(db), translated(path):
        db.enable_wal()
        _migrate(path, db, meta)
    return db


def _migrate(path: Path, db: Database, meta: Mapping[str, Any]) -> None:
    """To the newest schema, from an older one or from nothing; beside what was older, a copy is left."""
    backup = _back_up_before_migrating(path, db)
    try:
        # One transaction from nothing to a whole history: a kill leaves no half-made file.
        with immediate(db):
            MIGRATIONS.apply(db)
            rows = [(key, json.dumps(value)) for key, value in meta.items()]
            db.conn.executemany("INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)", rows)
    except BaseException:
        if backup is not None:
            backup.unlink()  # of what is as it was
        raise


@contextmanager
def _closed_by_errors(db: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()
        raise


def _back_up_before_migrating(path: Path, db: Database) -> Path | None:
    """A whole copy beside a history that is about to be migrated; at its name at once, or not at all."""
    pending = MIGRATIONS.pending(db)
    if not db.table_names() or not pending:
        return None
    backup = path.with_name(f"{path.name}.before-{pending[-1].name}")
    unfinished = path.with_name(f"{backup.name}.unfinished")
    try:
        snapshots.make(db.conn, unfinished)
        snapshots.keep(unfinished, backup)
    except OSError as error:
        raise HistoryUnavailableError(
            f"{path}: cannot be copied to {backup.name} before it is migrated ({error.strerror}); "
            "see that its folder has room and can be written"
        ) from None
    logger.info("%s is of an older version; it was copied to %s and is migrated", path, backup)
    return backup


def _check_existing(path: Path, meta: Mapping[str, Any], patience: float) -> None:
    db = connect(path, read_only=True, patience=patience)
    try:
        with translated(path):
            _check_schema(path, db)
            if (found := db.conn.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                raise damaged(path, one_line(str(found)))
            check_same_search(path, db, meta)
    finally:
        db.close()


def exists(path: Path) -> bool:
    """Whether there is a file with something in it. Raises `HistoryError` where it can be no history.

    SQLite alone opens it. Whoever closes a file loses all locks that his process has on it (POSIX), also those of
    connections to it: the next process that closes the history would take itself for the last one and remove the
    write-ahead log, and what this process writes from then on would be lost.
    """
    run_files.check(path)
    try:
        if not path.stat().st_size:
            return False
    except FileNotFoundError:
        return False
    with contextlib.suppress(HistoryUnavailableError):  # whoever opens it will say so
        connect(path, read_only=True, patience=0.0).close()
    return True


@contextmanager
def readable(path: Path) -> Iterator[Database]:
    """A read-only connection to an existing history of a schema that this program knows."""
    if not exists(path):
        raise HistoryError(f"{path}: there is no history there; check the path, or start a search with `ncode run`")
    db = connect(path, read_only=True)
    try:
        with translated(path):
            _check_schema(path, db)
            if not db.table_names():
                raise HistoryError(f"{path}: there is no history in it yet; start the search with `ncode run`")
            yield db
    finally:
        db.close()


def open_for_reading(path: Path) -> Database:
    """The history at `path`, read-only; one of an older schema as a migrated copy in memory. Raises `HistoryError`."""
    with readable(path) as db:
        if MIGRATIONS.pending(db):
            return _migrated_copy(db)
    return connect(path, read_only=True)


def _migrated_copy(db: Database) -> Database:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    db.conn.backup(copy)
    migrated = Database(copy)
    MIGRATIONS.apply(migrated)
    copy.execute("PRAGMA query_only = ON")
    return migrated


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns errors about the file itself, SQLite's and those of reading what nobody wrote so, into one clear line."""
    try:
        with usable(path):
            yield
    except NcodeError as error:
        if isinstance(error, HistoryError) or not isinstance(error, InputError):
            raise
        raise damaged(path, str(error)) from error  # a space, say, that can be none
    except _MISREAD as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turns SQLite's errors alone."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise _refusal(path, "the history cannot be used", error) from error


_MISREAD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of values of another type, missing keys, and texts that are no JSON or no UTF-8."""


def damaged(path: Path, what: str) -> HistoryError:
    """The error that says so."""
    return HistoryError(f"{path}: the history is damaged ({what}); {mend('')}")


def mend(error: str) -> str:
    """What a person can do about an error of SQLite."""
    if "locked" in error:
        return "another program holds it locked: end that program and start again"
    if "readonly" in error or "unable to open" in error:
        return "check the permissions of the file and its folder"
    if "full" in error:
        return "free some space on the disk and start again"
    if "disk I/O" in error:  # what SQLite says as well where the disk has no room for its shared memory
        return "see that the disk has room and works, and start again"
    return "`ncode repair` recovers what can be read of it; or choose another history path"


_PASSING = ("locked", "busy", "full", "disk i/o")


def _refusal(path: Path, what: str, error: Exception) -> HistoryError:
    text = one_line(str(error))
    if "not a database" in text:
        return HistoryError(
            f"{path}: is no history (not an SQLite file); choose another path, or `ncode repair` if it was one"
        )
    kind = HistoryUnavailableError if any(reason in text.lower() for reason in _PASSING) else HistoryError
    return (HistoryLockedError if "locked" in text else kind)(f"{path}: {what} ({text}); {mend(text)}")


def may_pass(error: Exception) -> bool:
    """Whether what stands in the way of a write, or of a read, may be gone in a while without the history's harm."""
    reasons = (*_PASSING, "readonly", "unable to open")
    return isinstance(error, OSError) or (
        isinstance(error, sqlite3.OperationalError) and any(reason in str(error).lower() for reason in reasons)
    )


@contextmanager
def immediate(db: Database) -> Iterator[None]:
    """A write transaction that owns the write lock from its start, so that what it reads cannot change under it.

    In WAL mode its commit survives the death of the process; for a power cut see `sync`.
    """
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.conn.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def sync(path: Path) -> None:
    """Put on disk what was committed to the history so far, so that it survives a power cut.

    The write-ahead log is synchronised here and not by ``PRAGMA synchronous = FULL``, because SQLite would do it inside
    the write lock, where every other writer waits for the disk. If the log was folded into the file meanwhile, that has
    synchronised both.
    """
    descriptor = os.open(f"{path}-wal", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def get_meta(db: Database) -> dict[str, Any]:
    """All of the table `meta`."""
    return {key: json.loads(value) for key, value in db.conn.execute("SELECT key, value FROM meta")}


def _check_schema(path: Path, db: Database) -> None:
    tables = db.table_names()
    if not tables:
        return
    if MIGRATIONS.migrations_table not in tables or not (applied := MIGRATIONS.applied(db)):
        raise HistoryError(f"{path}: is an SQLite file of another program; choose another history path")
    ours = {migration.name for migration in MIGRATIONS._migrations}
    if newer := sorted({migration.name for migration in applied} - ours):
        raise HistoryError(f"{path}: was written by a newer ncode-search (schema {newer[-1]}); upgrade ncode-search")


def check_same_search(path: Path, db: Database, meta: Mapping[str, Any]) -> None:
    """Raises `HistoryError` with the first difference between what the file holds and `meta`."""
    if "meta" not in db.table_names():
        return
    stored = {**NOTHING_DECLARED, **get_meta(db)}
    for key, value in meta.items():
        difference = _difference(stored.get(key, value), json.loads(json.dumps(value)))
        if difference:
            raise HistoryError(
                f"{path}: holds a search with another {key}: {difference}; "
                "restore that setting, or choose another history path"
            )


def _difference(stored: Any, wanted: Any, where: str = "") -> str:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for name in [*stored, *(name for name in wanted if name not in stored)]:
            place = f"{where}.{name}" if where else str(name)
            if name not in wanted or name not in stored:
                return f"{place!r} is only in the {'history' if name in stored else 'new one'}"
            if found := _difference(stored[name], wanted[name], place):
                return found
        return "" if list(stored) == list(wanted) else "the order differs"
    # Compared as text, because 1, 1.0 and true are equal to Python and different to a search.
    if json.dumps(stored) == json.dumps(wanted):
        return ""
    return f"{where!r} is {json.dumps(stored)} in the history and {json.dumps(wanted)} now"
