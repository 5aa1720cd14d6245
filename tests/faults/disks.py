"""Small disks, and full ones."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A file system of its own. Raises PermissionError where that is not allowed."""
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        raise PermissionError("only root may mount a small file system here")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@contextlib.contextmanager
def small_disk_or_skip(at: Path, size: str) -> Iterator[Path]:
    try:
        with small_disk(at, size) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    room = os.statvfs(disk)
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        with contextlib.suppress(OSError):  # what others write meanwhile leaves less
            os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_bsize)
        filler.seek(0, os.SEEK_END)
        while True:
            filler.write(b"x" * 512)
    return disk / "filler"
