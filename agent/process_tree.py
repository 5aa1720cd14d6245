"""Ending a process with all that it has started, also what has left its process group or outlived its parent.

A worker gets a mark into its environment, which whatever it starts inherits, however deep, and whether or not it calls
``setsid`` or is adopted by another process; Jenkins finds what a build has left in the same way. A worker of a
search inside an evaluation is marked below the outer one, and goes with it. What has cleared its environment is found
by its process group alone, as everything is where there is no ``/proc``.

A mark names the history that a worker works for: where agent and worker died at once, the next agent finds what they
left.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from ncode_search.agent.processes import ProcessId, process_start

MARK = "NCODE_STARTED_BY"
"""The environment variable that holds the mark."""
_LOOKS = 20
"""Looks for processes to be ended; those that multiply faster must not hold up a search for ever."""


def new_mark(history: Path) -> str:
    """For a process that is about to be started by this one, to work for a history."""
    return f"{_mark_of(os.getpid())}/{_name_of(history)}-{secrets.token_hex(8)}"


def end_tree(process: ProcessId, mark: str | None = None) -> None:
    """SIGKILL to a process of this machine and to all that it started; what is gone already is no error.

    `mark`: the process's; None: as the process itself says, which must be alive then.
    """
    mark = mark or _mark_of(process.pid)
    # When all of a group are gone, its number may be given to another one.
    if process_start(process.pid) in ("", process.started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if mark:
        _end_where(lambda found: _is_below(found, mark))


def end_own_tree() -> None:
    """End this process and all that it started."""
    if mark := _mark_of(os.getpid()):
        _end_where(lambda found: _is_below(found, mark))
    os.kill(0 if os.getpgrp() == os.getpid() else os.getpid(), signal.SIGKILL)


def end_leftovers(history: Path, living: Iterable[ProcessId]) -> None:
    """End what workers have left behind that worked for a history; spares `living` workers and what they started."""
    ours, spared = f"/{_name_of(history)}-", {_mark_of(process.pid) for process in living} - {""}
    _end_where(lambda found: ours in found and not any(_is_below(found, mark) for mark in spared))


def _name_of(history: Path) -> str:
    return hashlib.sha256(os.fsencode(history.resolve())).hexdigest()[:16]


def _end_where(is_meant: Callable[[str], bool]) -> None:
    """All but this process; looked for again until none is new, because they may be starting others meanwhile."""
    ended = {os.getpid()}
    for _ in range(_LOOKS):
        found = {pid for pid, mark in _marks() if is_meant(mark)} - ended
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended |= found


def _is_below(found: str, mark: str) -> bool:
    """Whether a mark is this one, or below it."""
    return f"{found}/".startswith(f"{mark}/")


def _marks() -> list[tuple[int, str]]:
    """The marked processes there are."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()] if os.path.isdir("/proc/self") else []
    return [(pid, mark) for pid in pids if (mark := _mark_of(pid))]


def _mark_of(pid: int) -> str:
    """As it was when the process was started: what a program does to its own environment later changes nothing."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, another user's, or there is no /proc
        return ""
    name = f"{MARK}=".encode()
    return next((one[len(name) :].decode(errors="replace") for one in variables if one.startswith(name)), "")
