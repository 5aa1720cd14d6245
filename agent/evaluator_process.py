"""The process in which ``ncode check-evaluator`` tries an evaluator, and its other end: what is tried may hang, or end
its process.

``python -m ncode_search.agent.evaluator_process`` reads one line of JSON and answers with one for every finding. It
says when it begins something of the user's, and when that is over, so that the command can end it when it takes too
long. It ends itself when the command is gone.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ncode_search.agent.devices import Device
from ncode_search.agent.errors import InputError
from ncode_search.agent.fidelity import Judge, Stopping
from ncode_search.agent.process_tree import MARK, end_own_tree, end_tree, new_mark
from ncode_search.agent.processes import ProcessId, process_start
from ncode_search.agent.waiting import AwakeClock
from ncode_search.agent.worker import Channel
from ncode_search.agent.workers import EXIT_LIMIT, SAFE_PATH, START_LIMIT, describe_exit
from ncode_search.evaluators.base import Evaluator, EvaluatorError
from ncode_search.evaluators.conformance import BUILT, REFUSES, Finding, Subject, Verdict, examine

TICK = 0.1
"""Seconds between two looks at the process."""


def examined(
    subject: Mapping[str, Any], stopping: Mapping[str, Any] | None, device: Device, timeout: float | None
) -> Iterator[Finding]:
    """What `conformance.examine` finds, each as soon as it is known; what the process dies of is a bad finding.

    Args:
        subject: The fields of `Subject` without its judge, as JSON can hold them.
        stopping: The fields of the search's `Stopping`; None: it stops no trials.
        device: What the process is bound to.
        timeout: Seconds that an evaluation may take; None: as long as it likes.

    Raises:
        InputError: where the evaluator cannot be built, or the search cannot stop its trials as it says.
    """
    with tempfile.TemporaryDirectory() as scratch:
        child = _Child({"subject": subject, "stopping": stopping, "scratch": scratch}, device, timeout)
        try:
            yield from child.findings()
        finally:
            child.end()


@dataclass(frozen=True, eq=False)
class _Work:
    """What the process is at."""

    check: str
    limit: float | None = None
    """Seconds that it may take."""


class _Child:
    """The process, and a thread that ends it, and all that it started, when its time is up or it has died."""

    def __init__(self, request: Mapping[str, Any], device: Device, timeout: float | None) -> None:
        self._timeout = timeout
        self._work, self._late = _Work(BUILT), False
        self._mark = new_mark(Path(request["scratch"]))
        # In a session of its own, so that Ctrl-C reaches the command alone, which ends it.
        self._process = subprocess.Popen(
            [sys.executable, *SAFE_PATH, "-m", "ncode_search.agent.evaluator_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **device.environment, MARK: self._mark},
            start_new_session=True,
        )
        self._identity = ProcessId(socket.gethostname(), self._process.pid, process_start(self._process.pid))
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._send(request)

    def findings(self) -> Iterator[Finding]:
        """See `examined`."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "done" in message:
                return
            if "refused" in message:
                raise InputError(message["refused"])
            if "check" in message:
                yield Finding(message["check"], Verdict(message["verdict"]), message["text"])
            else:
                self._begin(message["begun"])
        yield Finding(self._work.check, Verdict.BAD, self._how_it_ended())

    def end(self) -> None:
        """Leave nothing of it behind."""
        end_tree(self._identity, self._mark)
        self._process.wait()
        self._watcher.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _begin(self, check: str | None) -> None:
        if check is None:
            self._work = _Work(self._work.check)
        else:
            self._work = _Work(check, START_LIMIT if check in (BUILT, REFUSES) else self._timeout)

    def _watch(self) -> None:
        clock, work, spent = AwakeClock(TICK), self._work, 0.0
        while self._process.poll() is None and not self._late:
            time.sleep(TICK)
            passed = clock.tick()
            spent = spent + passed if work is self._work else 0.0
            work = self._work
            self._late = work.limit is not None and spent > work.limit
        # Whatever it started may hold its pipe open.
        end_tree(self._identity, self._mark)

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_LIMIT)
        if not self._late:
            return describe_exit(self._process.returncode or 0, "its process")
        limit, mend = self._work.limit, "raise it, or train for less"
        if self._work.check in (BUILT, REFUSES):
            return f"killed: it was not built within {limit:g} s"
        return f"killed: not done within the timeout of {limit:g} s; {mend}"


# In the process


def main() -> None:
    """Answer one request."""
    channel = Channel()
    lines = iter(channel)
    request = next(lines)
    threading.Thread(target=_end_after, args=[lines], daemon=True).start()
    try:
        findings = examine(_subject(**request), partial(_told, channel), Path(request["scratch"]))
        first = next(findings)
        # As in a worker: with transformers loaded, a collection after every evaluation takes a second.
        gc.freeze()
        for finding in itertools.chain([first], findings):
            channel.send(check=finding.check, verdict=finding.verdict.value, text=finding.text)
    except EvaluatorError as error:
        channel.send(refused=str(error))
    channel.send(done=True)


def _subject(subject: dict[str, Any], stopping: dict[str, Any] | None, scratch: str) -> Subject:
    def judge(evaluator: Evaluator) -> Judge:
        assert stopping is not None
        return Judge(Stopping(**stopping), evaluator, subject["space"])

    fields = {**subject, "folder": Path(subject["folder"])}
    return Subject(**fields, judge=None if stopping is None else judge)


@contextlib.contextmanager
def _told(channel: Channel, check: str) -> Iterator[None]:
    channel.send(begun=check)
    try:
        yield
    finally:
        channel.send(begun=None)


def _end_after(lines: Iterator[Any]) -> None:
    """The command holds the other end of the pipe for as long as it lives, and writes no further line."""
    for _ in lines:
        pass
    end_own_tree()


if __name__ == "__main__":
    main()
