"""Ending a process with all that it has started, also what has left its process group or outlived its parent.

A worker gets a mark into its environment, which whatever it starts inherits, however deep, and whether or not it calls
``setsid`` or is adopted by another process; Jenkins finds what a build has left in the same way. A worker of a
search inside an evaluation is marked below the outer one, and goes with it. What has cleared its environment is found
by its process group alone, as everything is where there is no ``/proc``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path

from ncode_search.agent.processes import ProcessId, process_start

MARK = "NCODE_STARTED_BY"
"""The environment variable that holds the mark."""


def new_mark() -> str:
    """For a process that is about to be started by this one."""
    return f"{_mark_of(os.getpid())}/{secrets.token_hex(8)}"


def end_tree(process: ProcessId, mark: str | None = None) -> None:
    """SIGKILL to a process of this machine and to all that it started; what is gone already is no error.

    `mark`: the process's; None: as the process itself says, which must be alive then.
    """
    mark = mark or _mark_of(process.pid)
    # When all of a group are gone, its number may be given to another one.
    if process_start(process.pid) in ("", process.started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    _end_marked(mark)


def end_own_tree() -> None:
    """End this process and all that it started."""
    _end_marked(_mark_of(os.getpid()))
    os.kill(0 if os.getpgrp() == os.getpid() else os.getpid(), signal.SIGKILL)


def _end_marked(mark: str) -> None:
    """All but this process; looked for again until none is new, because they may be starting others meanwhile."""
    ended = {os.getpid()}
    while mark and (found := _marked(mark) - ended):
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended |= found


def _marked(mark: str) -> set[int]:
    """Processes with this mark, or one below it."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal()) if os.path.isdir("/proc/self") else ()
    return {pid for pid in pids if f"{_mark_of(pid)}/".startswith(f"{mark}/")}


def _mark_of(pid: int) -> str:
    """As it was when the process was started: what a program does to its own environment later changes nothing."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, another user's, or there is no /proc
        return ""
    name = f"{MARK}=".encode()
    return next((one[len(name) :].decode(errors="replace") for one in variables if one.startswith(name)), "")
