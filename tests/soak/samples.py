"""What is seen of a search while it runs, from outside and without a word to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EVERY = 2.0
"""Seconds between two samples."""
GROWN = 10.0
"""Seconds after which an agent has loaded all that it needs."""


@dataclass(frozen=True)
class Sample:
    """One look. Times are seconds since the soak began."""

    at: float
    complete: int
    proposed: int
    """The last trial's number."""
    agent_age: float
    agent_bytes: int
    """Resident; 0 while it starts, or where there is none."""
    faults: int


class Samples:
    """See the module's text."""

    def __init__(self, history: Path) -> None:
        self._history = history
        self.began = time.monotonic()
        self.taken: list[Sample] = []
        self.complete, self._proposed = 0, 0

    @property
    def now(self) -> float:
        """Seconds since the soak began."""
        return time.monotonic() - self.began

    def look(self) -> None:
        """At how far the search is; where it cannot be seen now, as on a full disk, it is as before."""
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(opened(self._history)) as db:
            query = "SELECT count(*) FILTER (WHERE state = 'complete'), coalesce(max(id), 0) FROM trials"
            self.complete, self._proposed = db.execute(query).fetchone()

    def take(self, agent: int, age: float, faults: int) -> None:
        """One more sample, if it is time for it."""
        if not self.taken or self.now - self.taken[-1].at >= EVERY:
            size = resident(agent) if age >= GROWN else 0
            self.taken.append(Sample(self.now, self.complete, self._proposed, age, size, faults))


def opened(history: Path) -> sqlite3.Connection:
    """Read-only, and not waiting for anybody."""
    return sqlite3.connect(f"file:{history}?mode=ro", uri=True, timeout=0)


def resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 for one that is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def processes_with(variable: str, value: Path) -> Iterator[int]:
    """Those that have it in the environment that they were started with."""
    wanted = f"{variable}={value}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
