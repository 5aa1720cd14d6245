"""What control groups leave to this process: containers, Slurm jobs and systemd services are bound by them on Linux.

Version 2 has one tree of groups; version 1, of which only limits of memory are read, has a tree a controller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
"""A line ``0::/path``, the group of this process in version 2; lines ``4:memory:/path`` in version 1."""


def memory_limit() -> int | None:
    """Bytes that this process and its like may use together; None: no limit is set."""
    texts = [*_texts("", "memory.max"), *_texts("memory", "memory.limit_in_bytes")]
    return min((int(text) for text in texts if text.isdecimal()), default=None)


def core_limit() -> int | None:
    """CPU cores' worth of time that they may use together, rounded up; None: no limit is set."""
    quotas = [text.split() for text in _texts("", "cpu.max")]
    return min((math.ceil(int(most) / int(period)) for most, period in quotas if most.isdecimal()), default=None)


def _texts(controller: str, name: str) -> Iterator[str]:
    """What a file says in the process's group and in those that it is in."""
    top = ROOT / controller
    for own in _own_groups(controller):
        for group in (top / own, *(top / own).parents):
            if group.is_relative_to(top) and (group / name).is_file():
                yield (group / name).read_text(encoding="ascii").strip()


def _own_groups(controller: str) -> list[str]:
    if not OWN.is_file():
        return []
    rows = [line.split(":", 2) for line in OWN.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [path.lstrip("/") for _, controllers, path in rows if controller in controllers.split(",")]
