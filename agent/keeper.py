"""What watches over an evaluation from inside its worker process, also when no agent is left.

A thread renews the trial's lease, ends a worker whose evaluation passed its deadline, and keeps the file that the
worker prints into from growing. It counts the seconds in which the process ran: one that was stopped, with its
machine or by hand, gets the rest of its time afterwards.

Native code that holds the interpreter's lock keeps the thread from running, so the operating system's alarm stands
behind it. An alarm that went off while the process was stopped must not kill it as it wakes: the first one only sets
a second one, `SECOND_ALARM` seconds later, in which the thread can arm it anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sqlite3
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ncode_search.agent.errors import IllegalTransitionError
from ncode_search.agent.history import History
from ncode_search.agent.leases import RENEW_EVERY
from ncode_search.agent.process_tree import end_own_tree
from ncode_search.agent.waiting import AwakeClock

GRACE = 10.0
"""Seconds past the deadline after which a worker is ended that no agent has ended."""
TICK = 0.2
"""Seconds between two looks."""
SECOND_ALARM = int(signal.SIGALRM)
"""Seconds; the signal's number, because that is what the handler, `alarm` of the C library, is called with."""
OUTPUT_LIMIT = 16 << 20
"""Bytes of output after which all but the end of it is forgotten."""
OUTPUT_TAIL = 4000
"""Bytes of a worker's output that are kept."""
_PATIENCE = 1.0
"""Seconds that a renewal waits for a locked file; the next one is not far."""


@dataclass(frozen=True)
class Attempt:
    """What is being evaluated."""

    trial: int
    number: int
    retry: bool
    """Whether the trial is queued again if this attempt fails."""


class Keeper(threading.Thread):
    """See the module's text. `timeout`: seconds that an evaluation may take."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__(name="keeper", daemon=True)
        self._path = path
        self._timeout = timeout
        self._attempt: Attempt | None = None
        self._left: float | None = None
        self._moment = threading.Lock()
        """Held where `_left` changes, lest a look at the clock bring back the deadline of what has just ended."""
        self.is_lost = False
        """Whether somebody else was given the trial: nothing that this attempt comes to will count."""

    def begin(self, attempt: Attempt) -> None:
        """An evaluation begins."""
        with self._moment:
            self._attempt, self._left, self.is_lost = attempt, self._timeout, False
        self._arm()

    def evaluated(self) -> None:
        """It is over; what is left is to record it, however long that takes."""
        with self._moment:
            self._left = None
        self._arm()

    def end(self) -> None:
        """It is recorded."""
        self._attempt = None

    def run(self) -> None:
        """Until the process ends."""
        clock, renewed = AwakeClock(TICK), time.monotonic()
        with History.attach(self._path, patience=_PATIENCE) as history:
            while True:
                time.sleep(TICK)
                self._watch_deadline(history, clock)
                bound_output()
                if time.monotonic() - renewed >= RENEW_EVERY:
                    renewed = time.monotonic()
                    self._renew(history)

    def _renew(self, history: History) -> None:
        if (attempt := self._attempt) is not None:
            with contextlib.suppress(sqlite3.OperationalError):
                if not history.renew(attempt.trial, attempt.number) and self._attempt is attempt:
                    self.is_lost = history.trial(attempt.trial).attempt > attempt.number

    def _watch_deadline(self, history: History, clock: AwakeClock) -> None:
        passed = clock.tick()
        with self._moment:
            attempt = self._attempt
            if self._left is None or attempt is None:
                return
            self._left = left = self._left - passed
        if clock.missed:
            self._arm()
        if left < -GRACE:
            self._give_up(history, attempt)

    def _give_up(self, history: History, attempt: Attempt) -> None:
        error = f"killed: not done within the timeout of {self._timeout:g} s"
        try:
            if attempt.retry:
                history.requeue(attempt.trial, attempt.number, error, failed=True)
            else:
                history.fail(attempt.trial, attempt.number, error)
        except (sqlite3.OperationalError, IllegalTransitionError):
            if self._left is None or self._attempt is not attempt:
                return  # it has come to its end while this waited for the file, and is recorded
        end_own_tree()

    def _arm(self) -> None:
        left = self._left
        _let_the_first_alarm_pass()
        signal.setitimer(signal.ITIMER_REAL, 0 if left is None else max(left, 0) + 2 * GRACE)


def bound_output(descriptor: int = 2) -> None:
    """Forget all but the end of what was printed, where that is a file that has become too long."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size <= OUTPUT_LIMIT:
        return
    with contextlib.suppress(OSError):  # it is not worth the keeper's life
        tail = os.pread(descriptor, OUTPUT_TAIL, status.st_size - OUTPUT_TAIL)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, tail)


def _let_the_first_alarm_pass() -> None:
    """Where the C library has System V's `signal`: its handlers are good for one time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "sysv_signal"):
        libc.sysv_signal.argtypes, libc.sysv_signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        libc.sysv_signal(int(signal.SIGALRM), ctypes.cast(libc.alarm, ctypes.c_void_p))
