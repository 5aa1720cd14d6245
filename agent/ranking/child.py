"""Child processes for what may crash: run to the end, and told why they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

REFUSED = 3
"""Exit status of a child that says on standard output why it cannot do its work."""


@dataclass(frozen=True)
class Child:
    """How a child ended."""

    status: int | None
    """Its exit status, negative for a signal; None if it was killed for taking too long."""
    said: str
    """The last line of its standard output."""
    cause: str | None
    """Why it failed, on one line; None if it did not."""


def python_child(module: str, *arguments: object) -> list[str]:
    """The command that calls `main(arguments)` of `module` in a fresh interpreter.

    It finds modules where this process does; what lies in the current folder is not imported by accident.
    """
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from ncode_search.agent.ranking.child import leave_no_core_dump; "
        f"leave_no_core_dump(); from {module} import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-c", code, *map(str, arguments)]


def run_child(command: Sequence[str], limit: float) -> Child:
    """Run `command`, at most `limit` seconds."""
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}  # else a dying llama.cpp calls a debugger, where there is one
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            text=True,
            errors="replace",
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Child(None, "", f"no answer within {limit:.0f} s")
    said = (done.stdout.strip().splitlines() or [""])[-1]
    return Child(done.returncode, said, _cause(done.returncode, done.stderr) if done.returncode else None)


def leave_no_core_dump() -> None:
    """A crash that is expected needs no file of a gigabyte in the user's folder."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _cause(status: int, stderr: str) -> str:
    """The signal or status, and the last thing that the child wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    asserted = [line for line in lines if "GGML_ASSERT" in line]
    return ": ".join([_name(status), *(asserted or lines)[-1:]])


def _name(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"
