"""``ncode run``: a search file run in front of a person."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from ncode_search.agent import report
from ncode_search.agent.database import exists, mend, translated
from ncode_search.agent.errors import HistoryError, InputError, SearchFailedError
from ncode_search.agent.history import History, Objective
from ncode_search.agent.lasting_output import lasting_output
from ncode_search.agent.observations import Codes
from ncode_search.agent.outcome import Outcome
from ncode_search.agent.run_log import RateLimit
from ncode_search.agent.search_file import Overrides, SearchFile

PAUSED = 3
"""Exit code of a search that paused by itself: a service manager should not start it again before somebody looked."""


def run_file(path: Path, overrides: Overrides, *, quiet: bool) -> int:
    """Start or resume a search; returns the exit code. Raises `NcodeError` for what stands in its way."""
    with lasting_output():
        console = _console(quiet=quiet)  # before the file is read, which may import code to measure costs
        file = SearchFile.load(path, overrides)
        outcome = run_search(file, quiet=quiet, console=console)
        if exists(file.history):
            # Not read-only: the last one to close the file removes its write-ahead log, if it may write.
            with translated(file.history), History.attach(file.history) as history:
                print(report.summary(history, outcome, file.space))
        else:
            print("Stopped before anything was started.")
    return exit_code(outcome)


def exit_code(outcome: Outcome) -> int:
    """0 for a search that is done, or was stopped so that it can go on."""
    if outcome.paused:
        return PAUSED
    return 1 if outcome.interrupted or (outcome.best is None and not outcome.stopped) else 0


def run_search(file: SearchFile, *, quiet: bool, plan: Codes | None = None, console: Console | None = None) -> Outcome:
    """Start or resume a checked search, and show how it goes. `plan` as in `Search`."""
    console = console or _console(quiet=quiet)
    objective = Objective(file.settings.goal, file.evaluator)
    progress = report.Progress(console, objective, file.settings.trials, quiet=quiet)
    if not quiet:
        console.print(f"{file.path}: {file.space.size:,} codes, history {file.history}", markup=False, highlight=False)
    return _run(file, progress, plan)


def _run(file: SearchFile, progress: report.Progress, plan: Codes | None) -> Outcome:
    try:
        with progress.shown():
            return file.to_search(progress, plan).run()
    except HistoryError:
        raise
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from None
    except sqlite3.Error as error:
        text = str(error)
        raise SearchFailedError(f"{file.history}: the history cannot be written ({text}); {mend(text)}") from None


def _console(*, quiet: bool) -> Console:
    """Where progress is shown; what is logged is shown there on a terminal, and on standard error elsewhere."""
    console = Console()
    handler = _terminal_handler(console) if console.is_terminal else logging.StreamHandler()
    handler.addFilter(RateLimit())
    level = logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s%(left_out)s", handlers=[handler])
    return console


def _terminal_handler(console: Console) -> logging.Handler:
    return RichHandler(console=console, show_path=False, show_time=False, markup=False)
