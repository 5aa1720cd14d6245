"""A line on the terminal that says how far a long command is; nothing where standard error is no terminal."""

from __future__ import annotations

import os
import sys
import time

_EVERY = 0.5
"""Seconds between two looks of the line."""


class Progress:
    """Used in a ``with``; called with how much is done."""

    def __init__(self, whole: int, unit: str) -> None:
        self._whole, self._unit = whole, unit
        self._shown = sys.stderr.isatty()
        self._start, self._first, self._last = time.monotonic(), -1, 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._shown and self._last:
            print(file=sys.stderr)

    def __call__(self, done: int) -> None:
        """So much is done."""
        now = time.monotonic()
        if self._first < 0:
            self._start, self._first = now, done
        if not self._shown or (now - self._last < _EVERY and done < self._whole):
            return
        self._last = now
        speed = (done - self._first) / max(now - self._start, 1e-9)
        print(
            f"\r{done:,} of {self._whole:,} {self._unit}, {speed:,.0f} a second ", end="", file=sys.stderr, flush=True
        )


def usable_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
