"""Backups of a history beside it: ``search.db.backup`` and the one before it, ``search.db.backup.1``.

A backup is made from one snapshot (``VACUUM INTO``) while everybody goes on reading and writing, checked whole
(``PRAGMA integrity_check``), put on disk, and only then given its name: there is never a moment without a good one. A
damaged history gives none, so that the last good one stays.

The agent makes one every so many completed trials, in a thread with a connection of its own. Where that fails, as on a
full disk, it is a warning, and the search goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ncode_search.agent import database, run_files
from ncode_search.agent.errors import HistoryError, one_line
from ncode_search.agent.history import Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.states import TrialState
from ncode_search.agent.waiting import wait_for_thread

logger = logging.getLogger(__name__)

LEAST_PAUSE = 60.0
"""Seconds between two backups, however fast trials complete."""
_CLOSE_LIMIT = 5.0


def backups_of(history: Path) -> list[Path]:
    """Where backups are, or would be, the newest first."""
    return [run_files.beside(history, "backup"), run_files.beside(history, "backup.1")]


class Backup:
    """One backup being made; `run` may be interrupted from another thread."""

    def __init__(self, history: Path) -> None:
        self._history = history
        self._connection: sqlite3.Connection | None = None

    def run(self) -> Path:
        """Make, check and keep the backup. Raises `HistoryError` or `OSError` where that is not possible."""
        temporary = run_files.beside(self._history, "backup.new")
        temporary.unlink(missing_ok=True)
        try:
            with database.translated(self._history):
                self._copy(temporary)
                check(temporary)
            return _keep(temporary, backups_of(self._history))
        finally:
            temporary.unlink(missing_ok=True)

    def interrupt(self) -> None:
        """End `run` soon, with an error."""
        if self._connection is not None:
            self._connection.interrupt()

    def _copy(self, to: Path) -> None:
        os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        self._connection = connection = database.connect(self._history, read_only=True).conn
        try:
            connection.execute("VACUUM INTO ?", [str(to.absolute())])
        finally:
            self._connection = None
            connection.close()


def check(path: Path) -> None:
    """Raises `HistoryError` or `sqlite3.Error` where a file is not there or not sound."""
    with contextlib.closing(database.connect(path, read_only=True).conn) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise HistoryError(f"{path}: is not sound ({one_line(str(found))}); check the disk")


def _keep(temporary: Path, places: list[Path]) -> Path:
    newest, older = places
    sync(temporary)
    if newest.exists():
        os.replace(newest, older)
    os.replace(temporary, newest)
    sync(newest.absolute().parent)
    return newest


def sync(path: Path) -> None:
    """Put a file, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Backups(Observer):
    """Makes a backup every `every` completed trials; 0: none."""

    def __init__(self, history: Path, every: int) -> None:
        self._history = history
        self._every = every
        self._completed = 0
        self._last = -LEAST_PAUSE
        self._backup = Backup(history)
        self._thread: threading.Thread | None = None

    def finished(self, trial: Trial) -> None:
        """See `Observer`."""
        self._completed += trial.state is TrialState.COMPLETE
        if self._every and self._completed >= self._every and self._is_time():
            self._completed, self._last = 0, time.monotonic()
            self._thread = threading.Thread(target=self._run, name="backup", daemon=True)
            self._thread.start()

    def close(self, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Break off the one that is being made: the history is closed next. `is_hurried`: see `wait_for_thread`."""
        if self._thread is not None:
            self._backup.interrupt()
            wait_for_thread(self._thread, _CLOSE_LIMIT, is_hurried)

    def _is_time(self) -> bool:
        is_busy = self._thread is not None and self._thread.is_alive()
        return not is_busy and time.monotonic() - self._last >= LEAST_PAUSE

    def _run(self) -> None:
        try:
            self._backup.run()
        except (HistoryError, OSError, sqlite3.Error) as error:
            if "interrupted" not in str(error):
                logger.warning("no backup of the history was made, the search goes on: %s", error)
