"""Damage to history files: of their pages, and of what their tables hold."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
from pathlib import Path

from . import mutation

ODD_VALUES: tuple[object, ...] = (
    None, 0, -1, 2**62, 1e308, float("inf"), "", "x", "\0", "{", "[]", "{}", "null", "NaN", "1e999", '"a"', "[" * 5000,
    '{"a": 1}', '{"accuracy": "high"}', '{"accuracy": null}', '{"\\ud800": 1}', "0" * 300, "\u2028", b"\xff\xfe", b"",
    "1" * 5000, "9" * 400, "a\nb", "\x1b[31m",
)  # fmt: skip


def change_page(rng: random.Random, data: bytes) -> bytes:
    """A page of the file in the place of another, zeros, or noise."""
    size = 4096
    if len(data) < 2 * size:
        return data
    to, source = rng.randrange(len(data) // size), rng.randrange(len(data) // size)
    page = rng.choice((data[source * size : (source + 1) * size], bytes(size), rng.randbytes(size)))
    return data[: to * size] + page + data[(to + 1) * size :]


def change_value(rng: random.Random, data: bytes) -> bytes:
    """An odd value in one place of one table, whatever its constraints say."""
    return _through_sqlite(data, lambda db: _set_value(rng, db))


def change_json(rng: random.Random, data: bytes) -> bytes:
    """A token of one of the settings."""
    return _through_sqlite(data, lambda db: _mutate_setting(rng, db))


def change_schema(rng: random.Random, data: bytes) -> bytes:
    """A table, a column, an index or all rows of a table gone."""
    return _through_sqlite(data, lambda db: _drop_something(rng, db))


WAYS: tuple[mutation.Mutation, ...] = (
    *mutation.BYTES, change_page, *[change_value] * 6, *[change_json] * 4, change_schema,
)  # fmt: skip


def _through_sqlite(data: bytes, change: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.db")
        path.write_bytes(data)
        db = sqlite3.connect(path)
        with contextlib.suppress(sqlite3.Error, UnicodeError, IndexError, OverflowError):
            db.execute("PRAGMA ignore_check_constraints = ON")
            change(db)  # type: ignore[operator]
            db.commit()
        db.close()
        return path.read_bytes()


def _names(db: sqlite3.Connection, kind: str) -> list[str]:
    rows = db.execute("SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite_%'", [kind])
    return [name for (name,) in rows]


def _column(rng: random.Random, db: sqlite3.Connection) -> tuple[str, str]:
    table = rng.choice(_names(db, "table"))
    return table, rng.choice([row[1] for row in db.execute(f'PRAGMA table_info("{table}")')])


def _set_value(rng: random.Random, db: sqlite3.Connection) -> None:
    table, column = _column(rng, db)
    key = db.execute(f'PRAGMA table_info("{table}")').fetchone()[1]
    keys = [value for (value,) in db.execute(f'SELECT "{key}" FROM "{table}"')]
    value = rng.choice(ODD_VALUES)
    cast = "CAST(? AS TEXT)" if isinstance(value, bytes) and rng.random() < 0.7 else "?"
    db.execute(f'UPDATE OR REPLACE "{table}" SET "{column}" = {cast} WHERE "{key}" = ?', [value, rng.choice(keys)])


def _mutate_setting(rng: random.Random, db: sqlite3.Connection) -> None:
    key, text = rng.choice(db.execute("SELECT key, value FROM meta").fetchall())
    changed = mutation.mutated(rng, str(text).encode(), (mutation.change_token, mutation.drop, mutation.repeat), 2)
    db.execute("UPDATE meta SET value = ? WHERE key = ?", [changed.decode("utf-8", "replace"), key])


def _drop_something(rng: random.Random, db: sqlite3.Connection) -> None:
    table, column = _column(rng, db)
    statements = [f'DROP TABLE "{table}"', f'ALTER TABLE "{table}" DROP COLUMN "{column}"', f'DELETE FROM "{table}"']
    statements += [f'DROP INDEX "{name}"' for name in _names(db, "index")]
    statements += [f'ALTER TABLE "{table}" RENAME TO other', f'DELETE FROM "{table}" WHERE random() % 2']
    db.execute(rng.choice(statements))
