"""A worker's keeper without a worker: ``python keeper_program.py HISTORY WHAT``, with short times.

A process group of its own, because the keeper ends its whole group.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from ncode_search.agent import keeper
from ncode_search.agent.history import History
from ncode_search.agent.processes import ProcessId

keeper.RENEW_EVERY = 0.2  # type: ignore[attr-defined]
keeper.GRACE = 0.5
keeper.OUTPUT_LIMIT = 1 << 20


def watched(history: Path, timeout: float | None, *, retry: bool = False) -> keeper.Keeper:
    """A keeper of an attempt at trial 1 that begins now."""
    with History.attach(history) as opened:
        attempt = opened.start(1, str(ProcessId.current()), "cpu")
    watching = keeper.Keeper(history, timeout)
    watching.start()
    watching.begin(keeper.Attempt(1, attempt, retry))
    print("begun", flush=True)
    return watching


def sleeps(history: Path) -> None:
    """Past its deadline, if it has one."""
    watched(history, 1.0)
    time.sleep(60)


def retries(history: Path) -> None:
    """The same, with another attempt to come."""
    watched(history, 0.3, retry=True)
    time.sleep(60)


def stopped(history: Path) -> None:
    """Done in time, but for being stopped meanwhile."""
    watching = watched(history, 1.5)
    time.sleep(1.0)
    watching.evaluated()
    print("evaluated", flush=True)
    time.sleep(2.0)
    print("recorded", flush=True)


def holds_the_lock(history: Path) -> None:
    """Native code that never lets another thread of the interpreter run; the first alarm comes soon."""
    keeper.TICK = 30.0
    set_alarm = signal.setitimer
    signal.setitimer = lambda which, seconds, interval=0.0: set_alarm(which, min(seconds, 0.5), interval)
    watched(history, 30.0)
    native = ctypes.PyDLL(None)
    native.sleep(60)
    print(signal.getitimer(signal.ITIMER_REAL)[0], flush=True)
    native.sleep(60)


def renews(history: Path) -> None:
    """As long as it lives."""
    watched(history, None)
    time.sleep(60)


def prints(history: Path) -> None:
    """More than the limit, then its last words."""
    watched(history, None)
    for _ in range(200):
        os.write(2, b"x" * 100_000)
        time.sleep(0.005)
    time.sleep(0.5)
    os.write(2, b"last words")


if __name__ == "__main__":
    os.setsid()
    globals()[sys.argv[2]](Path(sys.argv[1]))
