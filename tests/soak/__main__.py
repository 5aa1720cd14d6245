"""``python -m tests.soak --minutes 120``: prints the report, and exits with 1 where an invariant is violated.

SIGINT or SIGTERM ends it early: it is judged all the same.
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
from pathlib import Path

from tests.soak.report import report
from tests.soak.soak import Plan, Soak

REPORT_EVERY = 60.0
"""Seconds between two reports into the file: a soak that is lost leaves the last one."""


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Hurt one search for hours.")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="a file to write the report into, every minute and at the end")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # workers crash by the hundred
    folder = Path(tempfile.mkdtemp(prefix="ncode-soak-"))
    problems = run(Plan(arguments.minutes, arguments.seed), folder, arguments.report)
    if problems:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    return bool(problems)


def run(plan: Plan, folder: Path, file: Path | None) -> list[str]:
    """What went wrong; the report is printed."""
    with Soak(plan, folder) as soak:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(soak, "is_over", True))
        written = 0.0
        for _ in soak.hurt():
            if file is not None and soak.now - written >= REPORT_EVERY:
                written = soak.now
                with contextlib.suppress(sqlite3.OperationalError):  # as on a full disk
                    write(file, report(soak, is_done=False))
        soak.finish()
        said = report(soak, is_done=True)
        if file is not None:
            write(file, said)
        print(said, flush=True)
        return soak.problems


def write(file: Path, text: str) -> None:
    """Whole, or not at all."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(text + "\n")
    unfinished.replace(file)


if __name__ == "__main__":
    sys.exit(main())
