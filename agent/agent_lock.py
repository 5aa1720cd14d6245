"""One agent a history: the claim is a row in the file itself, so it holds wherever the file is mounted.

An owner on this machine counts as long as its process lives; one on another machine as long as it keeps renewing its
claim. The two machines' clocks may differ and jump: an owner that seems to be gone by the time in its claim, or to be
of the future, is watched before it is taken to be gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ncode_search.agent import database
from ncode_search.agent.errors import HistoryInUseElsewhereError, HistoryInUseError, OwnerUnclearError
from ncode_search.agent.history import History
from ncode_search.agent.processes import ProcessId, boot_id

STALE_AFTER = 180.0
"""Seconds without a sign of life after which an owner on another machine is taken to be gone."""
RENEW_EVERY = 30.0
"""Seconds between two signs of life."""
WATCH = 2 * RENEW_EVERY
"""Seconds in which a living owner gives at least one."""

_KEY = "agent"
_LOOKS = 20

logger = logging.getLogger(__name__)


def claim(history: History, *, waits: bool = True) -> None:
    """Become the agent of this history. `waits`: also where that takes the time of `watch_out`.

    Raises `HistoryInUseError` with the process number and host of a living owner, `OwnerUnclearError` where nobody
    waits for what shows whether an owner on another machine is one.
    """
    unclear = _unclear(history)
    if unclear is not None and not waits:
        _complain(history, ProcessId.parse(unclear["process"]), OwnerUnclearError)
    for pause in _looks(history):
        time.sleep(pause)
    me = ProcessId.current()
    with database.immediate(history.db):
        owner = _living_owner(history)
        if owner is not None and owner != me:
            _complain(history, owner)
        _write(history, me)


async def watch_out(path: Path, patience: float) -> None:
    """Wait until it is clear that an owner on another machine is gone: then a claim need not wait. `patience`: seconds
    to stand still for others' locks.

    Raises `HistoryInUseElsewhereError` where it gives a sign of life, `HistoryError` where the file cannot be used.
    """
    with database.translated(path), History.attach(path, patience=patience) as history:
        for pause in _looks(history):
            await asyncio.sleep(pause)


def _looks(history: History) -> Iterator[float]:
    """Seconds to wait between looks at the row of an owner on another machine, which is its last sign of life if none
    follows, and is removed then.
    """
    row = _unclear(history)
    if row is None:
        return
    logger.info("watching for %g s whether %s still runs this search", WATCH, row["process"])
    for _ in range(_LOOKS):
        yield WATCH / _LOOKS
        seen = _read(history)
        if seen is None:
            return
        if seen != row:
            _complain(history, ProcessId.parse(seen["process"]))
    with database.immediate(history.db):
        if _read(history) == row:
            history.db.execute("DELETE FROM meta WHERE key = ?", [_KEY])


def _unclear(history: History) -> dict[str, Any] | None:
    """The row of an owner on another machine that has given no sign of life for long; None where there is no such."""
    row = _read(history)
    return row if row and not ProcessId.parse(row["process"]).is_local and not _is_fresh(row) else None


def _complain(history: History, owner: ProcessId, kind: type[HistoryInUseError] | None = None) -> NoReturn:
    raise (kind or (HistoryInUseError if owner.is_local else HistoryInUseElsewhereError))(
        f"{history.path}: is in use by process {owner.pid} on {owner.host}; "
        "wait for that search, stop it, or choose another history path"
    )


def renew(history: History) -> None:
    """Give a sign of life; who gives one gives more, every `RENEW_EVERY`."""
    with database.immediate(history.db):
        _write(history, ProcessId.current(), boot=boot_id(), clock=time.monotonic())


def release(history: History) -> None:
    """Give the history up, if it is this process's."""
    with database.immediate(history.db):
        row = _read(history)
        if row and row["process"] == str(ProcessId.current()):
            history.db.execute("DELETE FROM meta WHERE key = ?", [_KEY])


def owner(history: History) -> ProcessId | None:
    """The living agent of this history, if it has one."""
    return _living_owner(history)


def silence(history: History) -> float | None:
    """Seconds since the agent, whose process lives on this machine, last gave a sign of life; None where it gives none,
    as under ask and tell.

    By the monotonic clock, which neither jumps nor counts a suspended machine's sleep.
    """
    row = _read(history)
    if row is None or "clock" not in row or not ProcessId.parse(row["process"]).is_local:
        return None
    is_ours = row["boot"] == boot_id() != ""
    return max(0.0, float(time.monotonic() - row["clock"] if is_ours else time.time() - row["seen"]))


def _living_owner(history: History) -> ProcessId | None:
    row = _read(history)
    if row is None:
        return None
    process = ProcessId.parse(row["process"])
    return process if (process.is_alive if process.is_local else _is_fresh(row)) else None


def _is_fresh(row: Mapping[str, Any]) -> bool:
    return bool(0 <= time.time() - row["seen"] < STALE_AFTER)


def _read(history: History) -> dict[str, Any] | None:
    row = history.db.execute("SELECT value FROM meta WHERE key = ?", [_KEY]).fetchone()
    return json.loads(row[0]) if row else None


def _write(history: History, process: ProcessId, **more: Any) -> None:
    value = json.dumps({"process": str(process), "seen": time.time(), **more})
    history.db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [_KEY, value])
