"""Many searches on all cores, with the same results on any number of them.

Jobs run in fresh processes of one thread each, even where there is only one: numerical libraries round differently
with more threads. Every job's chance is its own seed's, so neither order nor number matters.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from ncode_search.agent.bench.methods import make_method
from ncode_search.agent.bench.tasks import Task
from ncode_search.agent.bench.trials import BenchSettings, Run, run_search
from ncode_search.agent.errors import NcodeError

Shared = TypeVar("Shared")
Job = TypeVar("Job")
Result = TypeVar("Result")

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True)
class SearchJob:
    """One search of a bench."""

    task: int
    """Which task, by its number."""
    method: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """What all searches of a bench share."""

    tasks: Sequence[Task]
    settings: BenchSettings


def run_searches(plan: Plan, methods: Sequence[str], seeds: int, processes: int) -> list[dict[str, list[Run]]]:
    """For each task, the runs of each method in the order of the seeds 0 to `seeds` - 1."""
    jobs = [
        SearchJob(task, method, seed) for task in range(len(plan.tasks)) for seed in range(seeds) for method in methods
    ]
    runs = run_jobs(_run_search, plan, jobs, processes, "searches")
    results: list[dict[str, list[Run]]] = [{method: [] for method in methods} for _ in plan.tasks]
    for job, run in zip(jobs, runs, strict=True):
        results[job.task][job.method].append(run)
    return results


def _run_search(plan: Plan, job: SearchJob) -> Run:
    task = plan.tasks[job.task]
    method = make_method(job.method, task, plan.settings, job.seed)
    return run_search(job.method, method, task, job.seed, plan.settings.trials)


def run_jobs(
    function: Callable[[Shared, Job], Result], shared: Shared, jobs: Sequence[Job], processes: int, what: str
) -> list[Result]:
    """``function(shared, job)`` for every job, in the order of the jobs; `function` is a module's own.

    Shows on a terminal how many of `what` are done. The first exception ends it all, and so does Ctrl-C: nothing runs
    on. Raises `NcodeError` where a process dies.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    processes = max(min(processes, len(jobs)), 1)
    with _one_thread_each(), _progress(len(jobs), what) as advance:
        executor = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(function, shared))
        try:
            with _interrupts_held():
                futures = [executor.submit(_call, job) for job in jobs]
            _wait(futures, advance)
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise NcodeError("a process died, perhaps for want of memory; try again with fewer --jobs") from None
        except BaseException:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C is heard at the end of the block, lest it tear a queue's lock from its `with`; children that start in it
    never hear it: their parent does, and ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _interrupts_noted():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[None]:
    """The mask is this thread's: where a library's thread takes the signal, the handler still runs in this one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if heard:
        signal.raise_signal(signal.SIGINT)


def _wait(futures: Sequence[Future[Any]], advance: Callable[[], None]) -> None:
    for future in as_completed(futures):
        future.result()
        advance()


_current: list[Any] = []
"""In a child: the function and what all of its jobs share."""


def _begin(function: Callable[[Any, Any], Any], shared: Any) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _current[:] = [function, shared]


def _leave_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _call(job: Any) -> Any:
    function, shared = _current
    return function(shared, job)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Children that start meanwhile compute with one thread each.

    Numerical libraries read the variables once, when a child loads them, so they are set before it starts.
    """
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """A line on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(what, total=total)
        yield lambda: progress.advance(line)
