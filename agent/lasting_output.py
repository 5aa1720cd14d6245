"""Standard output of commands that run for days: its reader, its terminal, the room on its disk may go before them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Lasting:
    """A stream whose writes never fail: what cannot be written is lost, and the next line is tried again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """No print in the block fails, and none of what it leaves unwritten makes the process fail as it ends."""
    output = sys.stdout
    if output is None:
        yield
        return
    with contextlib.redirect_stdout(_Lasting(output)):
        try:
            yield
        finally:
            finish(output)


def finish(output: TextIO | None) -> None:
    """Write what is left; where that fails, throw it away, or Python fails on it once more as it ends."""
    if output is None:  # Python has it so where the process was started without one
        return
    try:
        output.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), output.fileno())
