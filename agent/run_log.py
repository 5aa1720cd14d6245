"""The log of a search: ``search.db.log`` beside ``search.db``, an object of JSON a line, rotated.

It has every attempt at a trial with the numbers of the trial, the slot and the worker's process, and all that the
package logs, in whatever way `logging` is set up otherwise. It is for people: nothing is read back from it, and where
it cannot be written, the search goes on without.

Warnings are rate-limited, here and on the console: what is wrong at every trial is said five times in ten minutes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from ncode_search.agent import run_files
from ncode_search.agent.history import Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.wording import last_line

MOST_BYTES = 10_000_000
"""Of one file of the log."""
KEPT = 3
"""Older files that are kept."""
BURST = 5
"""Warnings of one kind that are let through in a period."""
PERIOD = 600.0
"""Seconds."""
_MOST_KINDS = 1000


class RateLimit(logging.Filter):
    """Lets through `BURST` warnings of one kind (logger, level, text before its numbers are filled in) in `PERIOD`, and
    then says how many were left out, in the record's `left_out`.
    """

    @dataclass
    class _Kind:
        since: float
        passed: int = 0
        left_out: int = 0

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, int, str], RateLimit._Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        record.left_out = ""
        if record.levelno < logging.WARNING:
            return True
        if len(self._kinds) > _MOST_KINDS:
            self._kinds.clear()
        now = time.monotonic()
        kind = self._kinds.setdefault((record.name, record.levelno, str(record.msg)), RateLimit._Kind(now))
        if now - kind.since > PERIOD:
            record.left_out = f" ({kind.left_out} more like it were left out)" if kind.left_out else ""
            kind.since, kind.passed, kind.left_out = now, 0, 0
        kind.passed += 1
        kind.left_out += kind.passed > BURST
        return kind.passed <= BURST


class JsonLines(logging.Formatter):
    """One object a record; what was given as ``extra={"fields": {...}}`` is part of it."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() + getattr(record, "left_out", ""),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class LogFile(RotatingFileHandler):
    """A rotated file that is not followed through a link, and whose trouble is nobody else's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MOST_BYTES, backupCount=KEPT, encoding="utf-8", delay=True)
        self.setFormatter(JsonLines())
        self.addFilter(RateLimit())

    def _open(self) -> TextIOWrapper:
        return on_a_new_line(open(self.baseFilename, "a+", encoding="utf-8", opener=run_files.open_no_link))

    def close(self) -> None:
        """What a full disk has not taken is lost."""
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk must not fill the console with tracebacks; the search itself says what is wrong with it."""


def on_a_new_line(file: TextIOWrapper) -> TextIOWrapper:
    """The same file; a run that was killed, or had a full disk, has left a line in its middle."""
    size = os.fstat(file.fileno()).st_size
    if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
        file.write("\n")
    return file


class RunLog(Observer):
    """Logs what happens."""

    def __init__(self, handler: logging.Handler, imported: Sequence[str] = ()) -> None:
        # A logger of its own: the console shows trials in another way.
        self._logger = logging.Logger("ncode_search.trials", logging.INFO)
        self._logger.addHandler(handler)
        self._slots: dict[int, int] = {}
        self._imported = imported

    def opened(self, completed: int, best: Trial | None) -> None:
        """See `Observer`."""
        best_value = None if best is None else best.value
        self._log("run began", completed=completed, best=best_value, imports=list(self._imported))

    def started(self, trial: int, text: str, worker: int) -> None:
        """See `Observer`."""
        self._slots[trial] = worker
        self._log("trial started", trial=trial, code=text, worker=worker)

    def finished(self, trial: Trial) -> None:
        """See `Observer`."""
        about = {
            "trial": trial.id, "code": trial.code, "worker": self._slots.pop(trial.id, None),
            "process": trial.worker, "device": trial.device, "attempt": trial.attempt, "state": trial.state.value,
            "value": trial.value, "seconds": trial.seconds, "proposed_by": trial.proposed_by,
            "error": last_line(trial.error) if trial.error else None,
        }  # fmt: skip
        self._log(f"trial {trial.state.value}", **{name: value for name, value in about.items() if value is not None})

    def ended(self, how: str, reason: str | None) -> None:
        """See `Observer`."""
        self._log(f"run {how}", **({"reason": reason} if reason else {}))

    def _log(self, message: str, **fields: Any) -> None:
        self._logger.info(message, extra={"fields": fields})


@contextlib.contextmanager
def written(history: Path, imported: Sequence[str] = ()) -> Iterator[RunLog]:
    """The log of this history, open; meanwhile it has what the package logs, too. `imported`: the user's code."""
    handler = LogFile(run_files.beside(history, "log"))
    package = logging.getLogger("ncode_search")
    package.addHandler(handler)
    try:
        yield RunLog(handler, imported)
    finally:
        package.removeHandler(handler)
        handler.close()
