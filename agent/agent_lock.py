"""One agent a history: the claim is a row in the file itself, so it holds wherever the file is mounted.

An owner on this machine counts as long as its process lives; one on another machine as long as it keeps renewing its
claim.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ncode_search.agent import database
from ncode_search.agent.errors import HistoryInUseError
from ncode_search.agent.history import History
from ncode_search.agent.processes import ProcessId

STALE_AFTER = 180.0
"""Seconds without a sign of life after which an owner on another machine is taken to be gone."""
RENEW_EVERY = 30.0
"""Seconds between two signs of life."""

_KEY = "agent"


def claim(history: History) -> None:
    """Become the agent of this history.

    Raises `HistoryInUseError` with the process number and host of a living owner.
    """
    me = ProcessId.current()
    with database.immediate(history.db):
        owner = _living_owner(history)
        if owner is not None and owner != me:
            raise HistoryInUseError(
                f"{history.path}: is in use by process {owner.pid} on {owner.host}; "
                "wait for that search, stop it, or choose another history path"
            )
        _write(history, me)


def renew(history: History) -> None:
    """Give a sign of life."""
    with database.immediate(history.db):
        _write(history, ProcessId.current())


def release(history: History) -> None:
    """Give the history up, if it is this process's."""
    with database.immediate(history.db):
        row = _read(history)
        if row and row["process"] == str(ProcessId.current()):
            history.db.execute("DELETE FROM meta WHERE key = ?", [_KEY])


def owner(history: History) -> ProcessId | None:
    """The living agent of this history, if it has one."""
    return _living_owner(history)


def _living_owner(history: History) -> ProcessId | None:
    row = _read(history)
    if row is None:
        return None
    process = ProcessId.parse(row["process"])
    alive = process.is_alive if process.is_local else time.time() - row["seen"] < STALE_AFTER
    return process if alive else None


def _read(history: History) -> dict[str, Any] | None:
    row = history.db.execute("SELECT value FROM meta WHERE key = ?", [_KEY]).fetchone()
    return json.loads(row[0]) if row else None


def _write(history: History, process: ProcessId) -> None:
    value = json.dumps({"process": str(process), "seen": time.time()})
    history.db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [_KEY, value])
