"""What runs inside a worker process: ``python -m ncode_search.agent.worker``.

The agent speaks in JSON lines on standard input: first the set-up, then a task at a time. The worker answers on what
was its standard output; prints of the evaluator go to standard error instead. The worker writes results into the
history itself, so a finished evaluation outlives the agent; when the agent is gone, the worker finishes its trial,
writes the result, and leaves.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ncode_search.agent import trial_folders
from ncode_search.agent.database import may_pass
from ncode_search.agent.errors import IllegalTransitionError
from ncode_search.agent.fidelity import Judge, Stopping, last_step
from ncode_search.agent.history import History, Spent
from ncode_search.agent.keeper import Attempt, Keeper
from ncode_search.agent.process_tree import end_own_tree
from ncode_search.evaluators.base import Context, DivergedError, Evaluator, EvaluatorError, Pruned, Result
from ncode_search.evaluators.memory import PeakMemory, is_out_of_memory
from ncode_search.evaluators.registry import build
from ncode_search.evaluators.results import checked, plain

NICENESS = 10
"""How far training stands back behind the ranker and everything else on the machine."""

PATIENCE = 2.0
"""Seconds that a training stands still for another process's transaction; results are insisted on."""

_ERROR_LIMIT, _LINE_LIMIT = 20_000, 300


@dataclass(frozen=True)
class Setup:
    """The first line that a worker reads."""

    history: str
    evaluator: dict[str, Any]
    space: dict[str, list[Any]]
    folder: str
    seed: int
    goal: str
    device: str
    threads: int
    timeout: float | None
    stopping: dict[str, Any] | None = None
    """The fields of `Stopping`, where the search stops trials early."""


@dataclass(frozen=True)
class Task:
    """One attempt at a trial."""

    trial: int
    attempt: int
    code: str
    config: dict[str, Any]
    retry: bool
    """Whether the trial is queued again if this attempt fails."""


class Channel:
    """Lines to and from the agent."""

    def __init__(self) -> None:
        self._input: TextIO = os.fdopen(os.dup(0), encoding="utf-8")
        self._output: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        # Whatever the evaluator or its libraries print or read must not touch the agent's lines.
        os.dup2(2, 1)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(json.loads, self._input)

    def send(self, **message: Any) -> None:
        """Tell the agent, if there is one."""
        with contextlib.suppress(BrokenPipeError):
            self._output.write(json.dumps(message) + "\n")
            self._output.flush()


class Worker:
    """Evaluates tasks one after another."""

    def __init__(self, setup: Setup, evaluator: Evaluator, judge: Judge | None, channel: Channel) -> None:
        self._setup = setup
        self._judge = judge
        self._is_worn = False
        self._stopped: str | None = None
        """Why the search has stopped the running trial, if it has."""
        self._evaluator = evaluator
        self._channel = channel
        self._pid = os.getpid()
        self._history = History.attach(Path(setup.history), patience=PATIENCE)
        self._keeper = Keeper(Path(setup.history), setup.timeout)
        self._keeper.start()

    def run(self, task: Task) -> None:
        """One attempt, from its set-up to its record in the history."""
        if task.attempt == 1:
            trial_folders.clear(self._history.path, task.trial)
        elif self._judge is not None:
            has_reported = last_step(self._history, task.trial) > 0
            trial_folders.back_to_report(self._history.path, task.trial, has_reported=has_reported)
        self._keeper.begin(Attempt(task.trial, task.attempt, task.retry))
        self._channel.send(begun=True)
        try:
            state = self._record(task)
        except IllegalTransitionError as error:  # another process has taken this attempt back
            state = f"lost: {error}"
        finally:
            self._keeper.end()
        self._channel.send(trial=task.trial, state=state, is_worn=self._is_worn)

    def _evaluated(self) -> None:
        """From here on no deadline ends this process: the result is worth the wait for a locked file or a full disk."""
        self._keeper.evaluated()
        self._channel.send(evaluated=True)

    def _record(self, task: Task) -> str:
        state, write = self._outcome(task)
        self._evaluated()
        self._insist(write)
        return state

    def _insist(self, write: Callable[[], None]) -> None:
        """Write a result, however long the file is locked or the disk full: a training must not be lost to that."""
        for pause in itertools.chain((0.5, 2, 5), itertools.repeat(15)):
            try:
                write()
                return
            except (sqlite3.OperationalError, OSError) as error:
                if not may_pass(error):
                    raise
                self._channel.send(waiting=str(error))
            time.sleep(pause)

    def _outcome(self, task: Task) -> tuple[str, Callable[[], None]]:
        """What the evaluation came to, and what writes it down."""
        trial, attempt, history, meter = task.trial, task.attempt, self._history, _Meter()
        try:
            meter.watch(self._setup.device)
            result = self._evaluate(task)
        except Pruned as reason:
            text, spent, for_good = str(reason) or None, meter.spent(), self._stopped is None
            return "pruned", lambda: history.prune(trial, attempt, text, spent, for_good=for_good)
        except (Exception, SystemExit, KeyboardInterrupt) as raised:
            error, spent = self._describe(raised), meter.spent()
            # With the same seed it would come to the same again.
            is_final = self._is_worn or isinstance(raised, DivergedError)
            if task.retry and not is_final:
                return "retry", lambda: history.requeue(trial, attempt, error, spent, failed=True)
            return "failed", lambda: history.fail(trial, attempt, error, spent)
        spent = meter.spent(result)
        return "complete", lambda: history.complete(trial, attempt, result.value, result.metrics, spent)

    def _describe(self, error: BaseException) -> str:
        """What is recorded of an error. Where memory was used up, no attempt would fare better, and this process is not
        used again: what it holds is not known.
        """
        self._is_worn = is_out_of_memory(error)
        if not self._is_worn:
            return "".join(traceback.format_exception(error))[-_ERROR_LIMIT:]
        # The frames hold what the memory is full of.
        traceback.clear_frames(error.__traceback__)
        trace = "".join(traceback.format_exception(error))[-_ERROR_LIMIT:]
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_LINE_LIMIT]
        return f"{trace}\nout of memory: {said}"

    def _evaluate(self, task: Task) -> Result:
        """Raises `Pruned` where the search stops the trial, also if the evaluator has kept that to itself."""
        self._stopped = None
        # An attempt that was killed after its report was not told what comes of it.
        self._stop_if_judged(task)
        try:
            answer = self._evaluator(task.config, self._context(task))
        finally:
            _end_copies(self._pid)
        if self._stopped is not None:  # whatever it answers then does not count, be it nothing
            raise Pruned(self._stopped)
        return checked(answer)

    def _context(self, task: Task) -> Context:
        def report(step: int, **metrics: float) -> None:
            numbers = plain(metrics)
            score = None if self._judge is None else self._judge.score(step, metrics)
            # An epoch's numbers are worth less than the training: where they cannot be written, it goes on.
            with contextlib.suppress(sqlite3.OperationalError):
                self._history.report(task.trial, task.attempt, step, numbers, score)
                self._mark_reported(task)
            self._channel.send(trial=task.trial, step=step, metrics=numbers)
            self._stop_if_judged(task)

        setup, history = self._setup, self._history.path
        return Context(
            task.trial, task.code, setup.seed, setup.device, setup.threads, Path(setup.folder), report,
            trial_folders.folder_of(history, task.trial), self._has_no_use,
            lambda: trial_folders.remove_links(history, task.trial),
        )  # fmt: skip

    def _mark_reported(self, task: Task) -> None:
        """Where it cannot be marked, a further attempt trains the epoch again."""
        if self._judge is not None:
            with contextlib.suppress(OSError):
                trial_folders.mark_reported(self._history.path, task.trial)

    def _stop_if_judged(self, task: Task) -> None:
        if self._judge is None:
            return
        with contextlib.suppress(sqlite3.OperationalError):
            self._stopped = self._judge.reason_to_stop(self._history, task.trial, task.attempt)
        if self._stopped is not None:
            raise Pruned(self._stopped)

    def _has_no_use(self) -> bool:
        return self._keeper.is_lost or self._stopped is not None


class _Meter:
    """What an attempt costs, from now on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._memory: PeakMemory | None = None

    def watch(self, device: str) -> None:
        """Measure memory, too. Raises what the device's library raises."""
        self._memory = PeakMemory(device)

    def spent(self, result: Result | None = None) -> Spent:
        """Until now; what the evaluator itself says of it goes first."""
        seconds, memory = time.perf_counter() - self._began, 0 if self._memory is None else self._memory.bytes
        if result is not None:
            seconds = seconds if result.seconds is None else result.seconds
            memory = memory if result.peak_memory is None else result.peak_memory
        return Spent(seconds, memory)


def _end_copies(pid: int) -> None:
    """A child that the evaluation has forked may come back from it, or raise: it must not speak for the worker."""
    if os.getpid() != pid:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        os._exit(1)


def _die_of_interrupts() -> None:
    """SIGINT ends this process like SIGTERM and SIGHUP: it is for the process and no error of an evaluation's."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Serve the agent at the other end of standard input until it is gone."""
    # The ranker's decisions are what free workers wait for, and the machine's owner comes first as well.
    os.nice(NICENESS)
    _die_of_interrupts()
    channel = Channel()
    lines = iter(channel)
    setup = Setup(**next(lines))
    try:
        options = dict(setup.evaluator)
        folder = Path(setup.folder)
        evaluator = build(options.pop("kind"), options, folder, setup.space, setup.goal, setup.device)
        judge = Judge(Stopping(**setup.stopping), evaluator, setup.space) if setup.stopping else None
    except EvaluatorError as error:
        channel.send(refused=str(error))
        return
    # What stays for good is looked at no more: with transformers loaded, a collection after a trial takes a second.
    gc.freeze()
    channel.send(ready=True)
    worker = None
    for line in lines:
        worker = worker or Worker(setup, evaluator, judge, channel)
        worker.run(Task(**line))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # The agent is gone: what evaluations have left running goes, too.
    end_own_tree()
