"""Backups of a history beside it: ``search.db.backup`` and the one before it, ``search.db.backup.1``.

A backup is made from one snapshot (``VACUUM INTO``) while everybody goes on reading and writing, checked whole
(``PRAGMA integrity_check``), put on disk, and only then given its name: there is never a moment without a good one. A
damaged history gives none, so that the last good one stays.

The agent makes one every so many completed trials, counted from those that the last one has, and one as a run ends; in
a thread with a connection of its own. Where that fails, as on a full disk, it is a warning, and the search goes on.
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

from ncode_search.agent import database, run_files, run_record, snapshots
from ncode_search.agent.errors import HistoryError
from ncode_search.agent.history import Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.states import TrialState
from ncode_search.agent.waiting import wait_for_thread

logger = logging.getLogger(__name__)

LEAST_PAUSE = 60.0
"""Seconds between two backups, however fast trials complete."""
CLOSE_LIMIT = 5.0
"""Seconds that a run which ends by itself waits for its last backup."""
HURRIED_CLOSE_LIMIT = 1.5
"""The same of one that somebody ends: a service manager is waiting."""
_STOP_LIMIT = 0.5


def backups_of(history: Path) -> list[Path]:
    """Where backups are, or would be, the newest first."""
    return [run_files.beside(history, "backup"), run_files.beside(history, "backup.1")]


class Backup:
    """One backup being made; `run` may be interrupted from another thread."""

    def __init__(self, history: Path) -> None:
        self._history = history
        self._is_broken_off = threading.Event()

    def run(self) -> Path:
        """Make, check and keep the backup. Raises `HistoryError` or `OSError` where that is not possible."""
        temporary = run_files.beside(self._history, "backup.new")
        with database.translated(self._history):
            self._copy(temporary)
        newest, older = backups_of(self._history)
        if newest.exists():
            os.replace(newest, older)
        snapshots.keep(temporary, newest)
        return newest

    def interrupt(self) -> None:
        """End `run` soon, with an error; also one that is yet to begin."""
        self._is_broken_off.set()

    def _copy(self, to: Path) -> None:
        with contextlib.closing(database.connect(self._history, read_only=True).conn) as connection:
            snapshots.make(connection, to, self._is_broken_off)


def completed_in(path: Path) -> int:
    """Completed trials of a backup; 0 where there is none that can be read."""
    try:
        with contextlib.closing(database.connect(path, read_only=True).conn) as connection:
            return int(connection.execute("SELECT count(*) FROM trials WHERE state = 'complete'").fetchone()[0])
    except (HistoryError, sqlite3.Error):
        return 0


class Backups(Observer):
    """Makes a backup every `every` completed trials, and as a run ends; 0: none."""

    def __init__(self, history: Path, every: int) -> None:
        self._history = history
        self._every = every
        self._missing = 0
        """Completed trials that the last backup has not."""
        self._last = -LEAST_PAUSE
        self._limit = HURRIED_CLOSE_LIMIT
        self._backup = Backup(history)
        self._thread: threading.Thread | None = None

    def opened(self, completed: int, best: Trial | None) -> None:
        """See `Observer`."""
        there = completed_in(backups_of(self._history)[0]) if self._every else 0
        self._missing = completed - there if there <= completed else completed  # more: another search's
        self._make_if_due()

    def finished(self, trial: Trial) -> None:
        """See `Observer`."""
        self._missing += trial.state is TrialState.COMPLETE
        self._make_if_due()

    def ended(self, how: str, reason: str | None) -> None:
        """See `Observer`."""
        self._limit = CLOSE_LIMIT if how in (*run_record.GOOD_ENDS, run_record.PAUSED) else HURRIED_CLOSE_LIMIT
        if self._every and self._missing:
            self._make()

    def close(self, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Break off what is not done soon: the history is closed next. `is_hurried`: see `wait_for_thread`."""
        if self._thread is not None:
            wait_for_thread(self._thread, self._limit, is_hurried)
            self._backup.interrupt()
            self._thread.join(_STOP_LIMIT)

    def _make_if_due(self) -> None:
        is_busy = self._thread is not None and self._thread.is_alive()
        is_time = time.monotonic() - self._last >= LEAST_PAUSE
        if self._every and self._missing >= self._every and is_time and not is_busy:
            self._make()

    def _make(self) -> None:
        self._missing, self._last = 0, time.monotonic()
        self._thread = threading.Thread(target=self._run, args=[self._thread], name="backup", daemon=True)
        self._thread.start()

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        try:
            self._backup.run()
        except (HistoryError, OSError, sqlite3.Error) as error:
            if "interrupted" not in str(error):
                logger.warning("no backup of the history was made, the search goes on: %s", error)
