"""``ncode repair``: a new history of what is left of a damaged one and of its backups; the damaged file is not touched.

A finished trial never changes, so where a backup has it, the backup's row is taken: in the damaged file a bit of its
value may have flipped, which nobody could see. All else comes from the damaged file as far as it can be read and makes
sense, and then from the backups. What makes sense is strict: types, JSON, codes of the space with their right
canonical codes, and all that the tables themselves demand.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from ncode_search.agent import backup, database, run_files, salvage, snapshots
from ncode_search.agent.declarations import migrate
from ncode_search.agent.errors import HistoryError, InputError, NcodeError
from ncode_search.agent.processes import ProcessId
from ncode_search.agent.salvage import Row, Salvage
from ncode_search.agent.schema import MIGRATIONS
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.states import TrialState

_FIRST = ("meta", "trials")
"""What the rows of other tables refer to."""
_FIXED = ("space", *database.NOTHING_DECLARED, "objective")
"""What never changes in `meta`."""
_OF_TRIALS = ("decisions", "duplicates", "epochs")
"""Tables whose rows each belong to a trial."""
_JSON = {
    "meta": ("value",),
    "trials": ("metrics",),
    "epochs": ("metrics",),
    "decisions": ("predicted", "trust"),
    "narrowings": ("keep", "kept"),
    "duplicates": ("metrics",),
    "starts": ("settings",),
}
_TYPES: dict[str, tuple[type, ...]] = {"INTEGER": (int,), "REAL": (int, float), "TEXT": (str,)}
_FINISHED = [state.value for state in TrialState if state.is_finished]


@dataclass
class Recovered:
    """What came of one table."""

    kept: int = 0
    from_backups: int = 0
    refused: int = 0
    """Rows that could be read and make no sense."""
    orphans: int = 0
    """Rows that could be read and belong to trials that are lost."""


@dataclass(frozen=True)
class Repair:
    """How a repair went."""

    out: Path
    tables: dict[str, Recovered]
    lost: list[int]
    """Numbers of the trials of which nothing is left."""
    backups: list[Path]
    """Those that were used."""
    has_space: bool
    """Whether the space and the objective are known; `ncode run` puts them back."""

    @property
    def amount(self) -> tuple[int, int]:
        """How much it is: trials, and rows of all tables."""
        return self.tables["trials"].kept, sum(table.kept for table in self.tables.values())


def repair(path: Path, out: Path | None = None) -> Repair:
    """Make a new history at `out` (default: ``NAME.repaired.db``) of what is left of the one at `path`.

    Raises `InputError` where there is nothing to repair, or `out` exists or cannot be made, `NcodeError` where nothing
    is left; nothing is written then.
    """
    out = out or path.with_name(f"{path.stem}.repaired{path.suffix}")
    _check_paths(path, out)
    try:
        with tempfile.TemporaryDirectory(prefix=".repair-", dir=out.absolute().parent) as name:
            done = _best(path, Path(name), out)
            unfinished = Path(name, "best.db")
            snapshots.check(unfinished)
            snapshots.sync(unfinished)
            os.link(unfinished, out)  # which does not overwrite
    except (OSError, sqlite3.OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{out}: cannot be made ({reason}); see that {path} can be read and that the folder has room and can be "
            "written, or choose another one with -o"
        ) from None
    return done


def _best(path: Path, folder: Path, out: Path) -> Repair:
    """What the best way to read the file makes of it, at ``best.db`` in the folder."""
    best = None
    for left in salvage.ways(path, folder):
        done = _rebuilt(path, left, folder / "rebuilt.db", out)
        if best is None or done.amount > best.amount:
            best = done
            os.replace(folder / "rebuilt.db", folder / "best.db")
    if best is None or not best.amount[0]:
        raise NcodeError(f"{path}: no trial can be read in it or in a backup beside it; nothing was written")
    return best


def _check_paths(path: Path, out: Path) -> None:
    run_files.check(path)
    run_files.check(out)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path")
    if os.path.lexists(out):
        raise InputError(f"{out}: is there already; choose another file with -o")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: its folder does not exist; make it or choose another file with -o")


def _rebuilt(path: Path, left: Salvage, to: Path, out: Path) -> Repair:
    to.unlink(missing_ok=True)
    connection = sqlite3.connect(to, isolation_level=None)
    try:
        builder = _Builder(Database(connection), left)
        with contextlib.ExitStack() as stack:
            sources = [(one, stack.enter_context(_readable(one))) for one in backup.backups_of(path)]
            used = builder.build([(one, copy) for one, copy in sources if copy is not None])
        _refuse_in_use(path, builder)
        return Repair(out, builder.tables, builder.lost(), used, builder.space is not None)
    finally:
        connection.close()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[Salvage | None]:
    """A backup, if it is there and whole."""
    try:
        snapshots.check(path)
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except (HistoryError, sqlite3.Error):
        yield None
        return
    try:
        yield Salvage(connection, path.stat().st_size)
    finally:
        connection.close()


def _refuse_in_use(path: Path, builder: _Builder) -> None:
    text = builder.agent
    with contextlib.suppress(ValueError, KeyError, TypeError):
        process = ProcessId.parse(json.loads(text or "{}")["process"])
        if process.is_local and process.is_alive:
            raise InputError(f"{path}: is in use by process {process.pid}; stop that search first")


class _Builder:
    """Fills a new history from several sources, the more trusted ones first."""

    def __init__(self, db: Database, left: Salvage) -> None:
        self._db = db
        self._left = left
        migrate(db, left.applied())
        names = [name for name in db.table_names() if name != MIGRATIONS.migrations_table and name[:7] != "sqlite_"]
        self.tables = {name: Recovered() for name in sorted(names, key=lambda name: (name not in _FIRST, name))}
        self.space: SearchSpace | None = None
        self.agent: str | None = None
        self._highest = 0
        self._numbers: set[int] | None = None

    def build(self, backups: list[tuple[Path, Salvage]]) -> list[Path]:
        """Fill all tables; returns the backups that are of the same search, the newest first."""
        self._db.conn.execute("PRAGMA foreign_keys = ON")
        self._db.conn.execute("BEGIN")
        mine: dict[str, str] = dict(self._left.rows("meta", ["key", "value"], "key", is_number=False))
        self.agent = mine.get("agent")
        same = [(path, source) for path, source in backups if _is_same_search(self._left, source)]
        for table in self.tables:
            for _, source in same:
                self._copy(table, source, only_final=True)
            self._copy(table, self._left)
            for _, source in same:
                self._copy(table, source)
            if table == "meta":
                self._know_space()
        self._db.conn.execute("COMMIT")
        MIGRATIONS.apply(self._db)
        return [path for path, _ in same]

    def lost(self) -> list[int]:
        """Numbers of trials that were given out and are not there."""
        numbers = self._trials()
        return [number for number in range(1, max([self._highest, *numbers]) + 1) if number not in numbers]

    def _copy(self, table: str, source: Salvage, *, only_final: bool = False) -> None:
        declared = self._db.conn.execute(f"PRAGMA table_info({table})").fetchall()
        there = source.columns(table)
        columns = declared[: len(there)]  # migrations add columns at the end
        if [column[1] for column in columns] != there:
            return
        keys = [column for column in declared if column[5] == 1] or declared[:1]
        names, key = [column[1] for column in columns], keys[0][1]
        if table in ("trials", *_OF_TRIALS):
            self._highest = max(self._highest, source.highest(table, key))
        for row in source.rows(table, names, key, is_number=keys[0][2] == "INTEGER"):
            if not only_final or _is_final(table, dict(zip(names, row, strict=True))):
                self._insert(table, columns, row, is_backup=source is not self._left)

    def _insert(self, table: str, columns: list[Row], row: Row, *, is_backup: bool) -> None:
        recovered, names = self.tables[table], [column[1] for column in columns]
        values = dict(zip(names, row, strict=True))
        if table == "meta" and values["key"] == "agent":
            return  # whoever it was is gone
        if not _has_types(columns, row) or not self._makes_sense(table, values):
            recovered.refused += 1
            return
        if table in _OF_TRIALS and values["trial"] not in self._trials():
            recovered.orphans += 1
            self._highest = max(self._highest, values["trial"])
            return
        marks = ", ".join("?" * len(names))
        try:
            query = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})"
            added = self._db.conn.execute(query, row).rowcount
        except sqlite3.Error as error:
            if database.may_pass(error):
                raise  # a full disk is not the row's fault
            recovered.refused += 1
            return
        recovered.kept += added
        recovered.from_backups += added if is_backup else 0

    def _trials(self) -> set[int]:
        """Numbers of the trials that were recovered; asked for when they all are."""
        if self._numbers is None:
            self._numbers = {number for (number,) in self._db.conn.execute("SELECT id FROM trials")}
        return self._numbers

    def _makes_sense(self, table: str, values: dict[str, Any]) -> bool:
        try:
            for name in _JSON.get(table, ()):
                if values.get(name) is not None:
                    json.loads(values[name])
            if table == "trials":
                self._check_trial(values)
        except (ValueError, InputError):
            return False
        return True

    def _check_trial(self, values: dict[str, Any]) -> None:
        """Raises `ValueError` or `InputError` where something of it cannot be."""
        if values.get("worker") is not None:
            ProcessId.parse(values["worker"])
        if values["id"] < 1 or values["attempt"] < 0:
            raise ValueError(values["id"])
        if self.space is not None:
            canonical = self.space.to_text(self.space.canonical(self.space.from_text([values["code"]])))[0]
            # Histories of older schemas were migrated with the codes themselves.
            if values.get("canonical", canonical) not in (canonical, values["code"]):
                raise ValueError(values["code"])

    def _know_space(self) -> None:
        meta = {key: json.loads(value) for key, value in self._db.conn.execute("SELECT key, value FROM meta")}
        if "space" in meta and "objective" in meta:
            with contextlib.suppress(InputError, TypeError, AttributeError, KeyError, ValueError):
                self.space = SearchSpace.restore(meta["space"], meta)


def _is_final(table: str, values: dict[str, Any]) -> bool:
    """Whether a row would be the same in every later copy of its history."""
    if table == "meta":
        return values["key"] in _FIXED
    return table != "trials" or values["state"] in _FINISHED


def _has_types(columns: list[Row], row: Row) -> bool:
    """Whether the values are of the types that their columns are declared with; SQLite would take any."""
    return all(
        (value is None and not column[3]) or isinstance(value, _TYPES.get(column[2], (object,)))
        for column, value in zip(columns, row, strict=True)
    )


def _is_same_search(left: Salvage, copy: Salvage) -> bool:
    """Whether no trial of both was created at another moment, of those that a backup has for certain."""
    mine, theirs = _created(left), _created(copy)
    common = mine.keys() & theirs.keys()
    return not common or 2 * sum(mine[number] == theirs[number] for number in common) > len(common)


def _created(source: Salvage) -> dict[int, float]:
    return dict(source.rows("trials", ["id", "created_at"], "id", is_number=True))


def report_lines(path: Path, done: Repair) -> Iterator[str]:
    """What was recovered and what was lost, in words."""
    for name, table in done.tables.items():
        if table.kept or table.refused or table.orphans:
            yield (
                f"{name:<10} {table.kept} rows recovered"
                + (f", {table.from_backups} of them from a backup" if table.from_backups else "")
                + (f"; {table.orphans} of lost trials" if table.orphans else "")
                + (f"; {table.refused} made no sense" if table.refused else "")
            )
    if done.backups:
        yield f"backups    {', '.join(map(str, done.backups))}"
    yield f"lost       {_lost_text(done.lost)}"
    if not done.has_space:
        yield "lost       the space and the objective; `ncode run FILE.toml` puts them back"
    yield f"{done.out}: look at it with `ncode status`, then put it in the place of {path}, and remove {path}-wal"


def _lost_text(lost: list[int]) -> str:
    """The numbers in ranges."""
    if not lost:
        return "no trial that is known of; the newest may have been written over without a trace"
    ranges: list[list[int]] = []
    for number in lost:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    text = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in ranges)
    return f"{len(lost)} trials: {text}"
