"""``python -m tests.soak --minutes 120``: prints the report, and exits with 1 where an invariant is violated.

SIGINT or SIGTERM ends it early: it is judged all the same. A second one ends it at once.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.soak.report import report
from tests.soak.soak import Soak
from tests.soak.subject import Plan

REPORT_EVERY = 60.0
"""Seconds between two reports into the file: a soak that is lost leaves the last one."""


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Hurt one search for hours.")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="a file to write the report into, every minute and at the end")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ncode-soak-"))
    try:
        sys.exit(run(Plan(arguments.minutes, arguments.seed), folder, arguments.report))
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        sys.exit("ended at once; nothing was judged")


def run(plan: Plan, folder: Path, file: Path | None = None) -> int:
    """The exit code; the report is printed. `folder` is removed unless something is wrong."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # workers crash by the hundred
    with Soak(plan, folder) as soak, ended_by_signals(soak.end):
        written = 0.0
        for _ in soak.hurt():
            if file is not None and soak.now - written >= REPORT_EVERY:
                written = soak.now
                with contextlib.suppress(sqlite3.OperationalError):  # as on a full disk
                    write(file, report(soak, is_done=False))
        soak.finish()
        said = report(soak, is_done=True)
        print(said, flush=True)
        if file is not None:
            write(file, said)
        if soak.problems:
            soak.keep()
    if soak.problems:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    return int(bool(soak.problems))


@contextlib.contextmanager
def ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM of the block calls `end`, a second one raises KeyboardInterrupt."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def first(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
        print("a few trials more, and it is judged; once more, and it ends at once", file=sys.stderr)
        end()

    before = [signal.signal(number, first) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def write(file: Path, text: str) -> None:
    """Whole, or not at all."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(text + "\n")
    unfinished.replace(file)


if __name__ == "__main__":
    main()
