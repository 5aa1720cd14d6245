"""Who a process is, so that another one can tell whether it is still alive, also when its number was given out
again.
"""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process of one machine: its host, number and moment of start."""

    host: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> ProcessId:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _own_start(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> ProcessId:
        """The process that `str` wrote."""
        host, pid, started = text.rsplit(":", 2)
        return cls(host, int(pid), started)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started}"

    @property
    def is_local(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; only to be asked of a local one."""
        return process_start(self.pid) == self.started


@lru_cache
def _own_start(pid: int) -> str:
    return process_start(pid)


def process_start(pid: int) -> str:
    """A text that differs between processes that had the same number; empty where there is no such process."""
    try:
        fields = _stat(pid)
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _start_from_ps(pid)
    except ProcessLookupError:
        return ""
    state, ticks_since_boot = fields[0], fields[19]
    return "" if state == "Z" else f"{ticks_since_boot}@{boot_id()}"


def is_stopped(pid: int) -> bool:
    """Whether a process stands still, by SIGSTOP or in a debugger; never true on systems without /proc."""
    try:
        return _stat(pid)[0] in ("T", "t")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _stat(pid: int) -> list[str]:
    """The fields of its line in /proc from its state on; before it stands a name, which may be any bytes."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


@lru_cache
def boot_id() -> str:
    """What tells this boot of the machine from others; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:8]
    except OSError:
        return ""


def _start_from_ps(pid: int) -> str:
    """For systems without /proc, such as macOS."""
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip().replace(":", ".").replace(" ", "_")
