"""``[notify]``: the user's own command is run when something happens that a person wants to know of.

The command is split into words as a shell would, and run without a shell, in the search file's folder. What happened
is in the environment (``NCODE_EVENT``, ``NCODE_MESSAGE`` and more) and, in full, as a JSON object on standard input;
nothing of it is ever part of the command itself.

The loop only leaves an event behind; a thread runs the commands, one after another, each with a time limit. Of every
kind of event at most one is sent in `NotifySettings.every`, and then the newest. A command that fails is a line in the
log and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ncode_search.agent import run_record
from ncode_search.agent.history import Objective, Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.settings import NotifySettings
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.states import TrialState
from ncode_search.agent.waiting import wait_for_thread
from ncode_search.agent.wording import duration

logger = logging.getLogger(__name__)

FINISHED, NEW_BEST, NO_PROGRESS, FAILURE_RATE, PAUSED, FAILED = (
    "finished", "new_best", "no_progress", "failure_rate", "paused", "failed",
)  # fmt: skip
RECENT = 20
"""Finished trials whose failures are counted."""
_MOST_TEXT = 1000
"""Characters of a text in the environment, which the system bounds."""
_LOOK = 0.1
"""Seconds between two looks at whether a command is still waited for."""
_LAST_WAIT = 5 * _LOOK
"""Seconds in which a command that is waited for no longer has been killed."""

Event = Mapping[str, Any]


class Notifier(Observer):
    """Turns what happens into events."""

    def __init__(
        self,
        settings: NotifySettings,
        history: Path,
        space: SearchSpace,
        objective: Objective,
        target: int,
        folder: Path,
    ) -> None:
        self._settings = settings
        self._about = {"history": str(history.absolute()), "target": target}
        self._space = space
        self._sign = objective.sign
        self._commands = CommandThread(settings, folder)
        self._completed = 0
        self._best: Trial | None = None
        self._progressed = time.monotonic()
        self._failed: deque[bool] = deque(maxlen=RECENT)
        self._is_failing = False
        self._did_something = False

    def close(self, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Wait for what is being sent, no longer than one command may take; `is_hurried`: see `wait_for_thread`."""
        self._commands.close(is_hurried)

    def opened(self, completed: int, best: Trial | None) -> None:
        """See `Observer`."""
        self._completed, self._best = completed, best

    def started(self, trial: int, text: str, worker: int) -> None:
        """See `Observer`."""
        self._did_something = True

    def finished(self, trial: Trial) -> None:
        """See `Observer`."""
        self._did_something = True  # also where a worker of a former run has done it
        if trial.state.is_finished:
            self._count(trial)
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            self._completed += 1
            self._progressed = time.monotonic()
            if self._best is None or self._sign * trial.value > self._sign * (self._best.value or 0.0):
                self._best = trial
                self._send(NEW_BEST, f"new best {trial.value:.6g}, trial {trial.id}")

    def beat(self) -> None:
        """See `Observer`."""
        quiet = time.monotonic() - self._progressed
        if quiet > float(self._settings.no_progress):
            self._progressed = time.monotonic()  # and so again after as long
            self._send(NO_PROGRESS, f"no trial has completed for {duration(quiet)}")

    def ended(self, how: str, reason: str | None) -> None:
        """See `Observer`."""
        kind = {run_record.PAUSED: PAUSED, run_record.FAILED: FAILED}.get(how)
        if how in run_record.GOOD_ENDS and self._did_something:  # else the run before has told it
            kind = FINISHED if self._completed else FAILED
        if kind is not None:  # a search that a person stopped is no news
            self._send(kind, f"{how} with {self._completed} trials completed" + (f": {reason}" if reason else ""))

    def _count(self, trial: Trial) -> None:
        self._failed.append(trial.state is TrialState.FAILED)
        is_failing = len(self._failed) == RECENT and sum(self._failed) > self._settings.failure_rate * RECENT
        if is_failing and not self._is_failing:
            self._send(FAILURE_RATE, f"{sum(self._failed)} of the last {RECENT} trials failed")
        self._is_failing = is_failing

    def _send(self, kind: str, message: str) -> None:
        event = {"event": kind, "message": message, "time": time.time(), "completed": self._completed, **self._about}
        if self._best is not None:
            best = self._best
            event["best"] = {
                "trial": best.id, "code": best.code, "value": best.value, "metrics": best.metrics,
                "config": self._space.decode(best.code),
            }  # fmt: skip
        self._commands.send(event)


class CommandThread:
    """Runs the command for one event after another. `send` never waits."""

    def __init__(self, settings: NotifySettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._waiting: dict[str, Event] = {}
        self._next: dict[str, float] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_given_up = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="notify", daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Have the command run for this event, in place of an older one of its kind that still waits."""
        with self._changed:
            self._waiting[event["event"]] = event
            self._changed.notify()

    def close(self, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """Send what is due, within the time of one command, and end; what takes longer is killed."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        wait_for_thread(self._thread, float(self._settings.timeout) + 1.0, is_hurried)
        self._is_given_up.set()
        self._thread.join(_LAST_WAIT)

    def _serve(self) -> None:
        while not self._is_given_up.is_set() and (event := self._take()) is not None:
            try:
                run_command(self._settings, event, self._folder, self._is_given_up)
            except Exception as error:
                logger.warning("[notify] command failed at %s: %s", event["event"], error)

    def _take(self) -> Event | None:
        """The next event that is due; None: it is time to end."""
        with self._changed:
            while True:
                now = time.monotonic()
                for kind in self._waiting:
                    if self._next.get(kind, now) <= now:
                        self._next[kind] = now + float(self._settings.every)
                        return self._waiting.pop(kind)
                if self._is_closed:
                    return None
                self._changed.wait(min((self._next[kind] - now for kind in self._waiting), default=None))


def run_command(
    settings: NotifySettings, event: Event, folder: Path, is_given_up: threading.Event | None = None
) -> None:
    """Run the command for one event and wait for it.

    Raises `OSError` where it cannot be run, `subprocess.SubprocessError` where it fails, takes too long or is given up;
    what it started is killed then.
    """
    words = shlex.split(settings.command or "")
    text = json.dumps(event, ensure_ascii=False)
    with tempfile.TemporaryFile() as said:
        # Files and no pipes: a child that outlives the command would hold a pipe open.
        process = subprocess.Popen(
            words, cwd=folder, env={**os.environ, **environment(event)}, start_new_session=True,
            stdin=subprocess.PIPE, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            _tell(process, text.encode(), float(settings.timeout), is_given_up or threading.Event())
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            said.seek(0)
            raise subprocess.SubprocessError(_failure(process.returncode, said.read(_MOST_TEXT)))


def _tell(process: subprocess.Popen[bytes], text: bytes, limit: float, is_given_up: threading.Event) -> None:
    """Give it the text, and wait for its end."""
    give_up = time.monotonic() + limit
    rest: bytes | None = text
    while True:
        try:
            process.communicate(rest, timeout=_LOOK)
            return
        except subprocess.TimeoutExpired:
            rest = None  # it keeps what is left of it
        if is_given_up.is_set():
            raise subprocess.SubprocessError("not done when the run had to end; killed")
        if time.monotonic() >= give_up:
            raise subprocess.SubprocessError(f"not done within {limit:g} s; killed")


def environment(event: Event) -> dict[str, str]:
    """What the command finds in its environment."""
    best = event.get("best") or {}
    values = {
        "EVENT": event["event"], "MESSAGE": event["message"], "HISTORY": event["history"],
        "COMPLETED": event["completed"], "TARGET": event["target"],
        "TRIAL": best.get("trial", ""), "CODE": best.get("code", ""), "VALUE": best.get("value", ""),
    }  # fmt: skip
    return {f"NCODE_{name}": str(value).replace("\0", "")[:_MOST_TEXT] for name, value in values.items()}


def _failure(code: int, said: bytes) -> str:
    lines = said.decode("utf-8", errors="replace").strip().splitlines()
    return f"exit code {code}" + (f", {lines[-1]}" if lines else "")
