"""Evaluator processes seen from the agent: start, task, deadline, kill, replace.

A worker is a fresh interpreter (`worker.py`) in a session of its own, so that Ctrl-C at the terminal reaches the
agent alone; a kill takes all that the worker has started, see `process_tree`. Its output goes to an unnamed file whose
end explains a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncode_search.agent.database import mend
from ncode_search.agent.devices import Device
from ncode_search.agent.errors import InputError, NcodeError, SearchFailedError
from ncode_search.agent.keeper import OUTPUT_TAIL
from ncode_search.agent.process_tree import MARK, end_tree, new_mark
from ncode_search.agent.processes import ProcessId, is_stopped, process_start
from ncode_search.agent.waiting import within
from ncode_search.agent.worker import Setup, Task

logger = logging.getLogger(__name__)

START_LIMIT = 600.0
"""Seconds that a process may take to import and build its evaluator."""
EXIT_LIMIT = 2.0
"""Seconds that a process which has closed its pipe may take to exit by itself and say with which code."""
EXIT_POLL = 0.5
"""Seconds between two looks at whether a process still lives."""

SAFE_PATH = ["-P"] if sys.version_info >= (3, 11) else []
"""Keeps the current folder out of the worker's imports: a `random.py` there must not shadow the library's."""

OnReport = Callable[[int, int, Mapping[str, float]], None]
"""Called with trial, step and metrics."""


ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals by which a person, a service manager or a batch system asks a process to end."""
MOST_EXCUSED = 3
"""How often in a row a process may die before it has begun its task, without the trial being to blame."""


class WorkerDied(Exception):
    """The process ended, or was ended, before it recorded its trial. The text says how, with the end of its output."""

    is_excused = False
    """Whether it died before it began the trial, as an idle one may be killed, for which no trial is to blame."""
    is_interrupted = False
    """Whether a signal ended it that asks processes to end, as a shutdown sends to all."""


class Worker:
    """One slot: a device and the process that is bound to it."""

    def __init__(self, device: Device, setup: Setup) -> None:
        self.device = device
        self._setup = setup
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._identity: ProcessId | None = None
        self._mark = ""
        self._has_begun = self._is_evaluated = False
        self._excused = 0

    @property
    def identity(self) -> str:
        """The process, as it is written into the history."""
        return str(self._identity)

    async def start(self) -> None:
        """Start the process and wait until its evaluator is built; nothing to do where it already runs.

        Raises `InputError` where the evaluator refuses its settings, `SearchFailedError` where the process dies.
        """
        if self._process is not None:
            if self._process.returncode is None and self._identity is not None and self._identity.is_alive:
                return
            await self.kill()  # what it started may live on
        self._process = await self._spawn()
        self._watcher = asyncio.create_task(self._close_pipe_at_exit(self._process))
        self._identity = ProcessId(socket.gethostname(), self._process.pid, process_start(self._process.pid))
        self._send(vars(self._setup))
        try:
            answer = await within(START_LIMIT, self._receive())
        except asyncio.TimeoutError:
            await self.kill()
            raise SearchFailedError(f"a worker process did not start within {START_LIMIT:g} s") from None
        except WorkerDied as error:
            raise SearchFailedError(f"a worker process cannot start: {' '.join(str(error).split())}") from None
        if "refused" in answer:
            await self.kill()
            raise InputError(answer["refused"])

    async def run(self, task: Task, on_report: OnReport) -> str:
        """Evaluate one attempt; returns the state that the worker recorded.

        Raises `WorkerDied` where the process crashed or its deadline passed; it is gone then, and `start` makes a new
        one.
        """
        self._forget_output()
        self._has_begun = self._is_evaluated = False
        self._send(vars(task))
        answer = self._answer(on_report)
        try:
            return await within(
                self._setup.timeout, answer, unless=lambda: self._is_evaluated, stands=self._stands_still
            )
        except asyncio.TimeoutError:
            await self.kill()
            raise WorkerDied(
                self._tail() + f"killed: not done within the timeout of {self._setup.timeout:g} s"
            ) from None
        except WorkerDied as error:
            self._excused = 0 if self._has_begun else self._excused + 1
            error.is_excused = 0 < self._excused <= MOST_EXCUSED
            raise

    def _stands_still(self) -> bool:
        return self._process is not None and is_stopped(self._process.pid)

    async def kill(self) -> None:
        """End the process and everything that it started, now."""
        if self._process is None:
            return
        self._end_tree()
        await self._exit_code()

    async def close(self) -> None:
        """Kill the process and let go of its output."""
        await self.kill()
        if self._watcher is not None:
            self._watcher.cancel()
        self._output.close()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._forget_output()
        self._mark = new_mark(Path(self._setup.history))
        return await asyncio.create_subprocess_exec(
            sys.executable, *SAFE_PATH, "-m", "ncode_search.agent.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._output,
            env={**os.environ, **self.device.environment, MARK: self._mark},
            start_new_session=True,
            limit=1 << 20,
        )  # fmt: skip

    def _end_tree(self) -> None:
        if self._identity is not None:
            end_tree(self._identity, self._mark)

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # A pipe that a dying process has closed is noticed by the next `_receive`.
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _answer(self, on_report: OnReport) -> str:
        waits = False
        while "state" not in (message := await self._receive()):
            if "step" in message:
                on_report(message["trial"], message["step"], message["metrics"])
            if "waiting" in message and not waits:
                waits = True
                text = message["waiting"]
                logger.warning("a result cannot be written to the history (%s; %s); it waits", text, mend(text))
            self._has_begun |= "begun" in message
            self._is_evaluated |= "evaluated" in message
        if message["is_worn"]:
            # It ran out of memory: the next trial begins with all that the device has.
            await self.kill()
        return str(message["state"])

    async def _receive(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            with contextlib.suppress(asyncio.TimeoutError):
                await within(EXIT_LIMIT, self._exit_code())
            # What it started may live on and hold the device.
            self._end_tree()
            code = await self._exit_code()
            died = WorkerDied(self._tail() + describe_exit(code))
            died.is_interrupted = -code in ASKING
            raise died
        return dict(json.loads(line))

    async def _close_pipe_at_exit(self, process: asyncio.subprocess.Process) -> None:
        """A child of a dead worker may hold its pipe open for ever: end the stream when the process itself is gone."""
        while process.returncode is None:  # noqa: ASYNC110 - see `_exit_code`
            await asyncio.sleep(EXIT_POLL)
        await asyncio.sleep(EXIT_POLL)  # what it wrote last is still on its way
        if process.stdout is not None and not process.stdout.at_eof():
            process.stdout.feed_eof()

    async def _exit_code(self) -> int:
        # Not `wait`, which waits on some versions of Python until every child has closed the pipes, too.
        assert self._process is not None
        while self._process.returncode is None:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)
        return self._process.returncode

    def _forget_output(self) -> None:
        self._output.truncate(0)
        self._output.seek(0)

    def _tail(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        tail = os.pread(self._output.fileno(), OUTPUT_TAIL, max(0, size - OUTPUT_TAIL))
        text = tail.decode("utf-8", errors="replace").replace("\x00", "").strip()
        return f"{text}\n" if text else ""


async def start_again(worker: Worker, pauses: Sequence[float], *excused: type[NcodeError]) -> None:
    """Start the worker if it is not running, again after each of the pauses where that failed with what is excused: a
    moment without memory or device must not end a search of days.
    """
    for pause in pauses:
        try:
            return await worker.start()
        except excused as error:
            logger.warning("%s; trying again in %g s", error, pause)
            await asyncio.sleep(pause)
    return await worker.start()


def describe_exit(code: int, process: str = "the worker process") -> str:
    """How a process ended, in words; `code` as Python has it, negative for a signal."""
    if code >= 0:
        return f"{process} exited with code {code}"
    name = signal.Signals(-code).name
    hint = " (out of memory, or killed by hand)" if name == "SIGKILL" else ""
    return f"{process} died of {name}{hint}"
