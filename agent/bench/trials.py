"""One search on a table, in memory: a method asks for codes, the table answers, and all of it is counted.

A code without a row is a failed trial: it costs one, and gives no value. A trial is a *repeat* if its code was
evaluated before, and a *twin* if its class was: a repeat is a twin, too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.bench.tasks import MISSING, Task
from ncode_search.agent.errors import InputError
from ncode_search.agent.score_table import Rows
from ncode_search.agent.settings import check_keep


@dataclass(frozen=True)
class BenchSettings:
    """How the searches of a bench run. Raises `InputError` for a value that cannot be."""

    trials: int = 192
    """Trials of a search."""
    pool: int = 128
    """Candidates a decision of the product's searches."""
    startup: int = 10
    """The product's first trials, which are uniform and the same for all rankers."""
    prune_after: int | None = None
    """Completed trials after which the product keeps to the options that did best in them; None: never."""
    keep: int | float = 0.5
    """With `prune_after`: how many options of every position are kept, or what share of them."""

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("pool", 1), ("startup", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} is {getattr(self, name)}; allowed: whole numbers from {least}")
        if self.prune_after is not None and self.prune_after < 1:
            raise InputError(f"--prune-after is {self.prune_after}; allowed: whole numbers from 1")
        try:
            check_keep(self.keep)
        except InputError as error:
            raise InputError(f"--{error}") from None


class Method(Protocol):
    """A search as a state machine: `ask`, evaluate, `tell`, in turn. Used by one thread; all chance is its seed's."""

    fallbacks: int
    """Decisions that were not the method's own, because it failed at them."""

    def ask(self) -> NDArray[np.uint8] | None:
        """The next code to evaluate, shape ``(L,)``; None where it has no more."""

    def tell(self, code: NDArray[np.uint8], value: float | None) -> None:
        """The value of the code that was asked for last (higher is better); None where its trial failed."""

    def close(self) -> None:
        """Free what the method holds."""


@dataclass(frozen=True)
class Run:
    """One search that was run; t trials, fewer than wanted only where the method had no more codes."""

    method: str
    seed: int
    rows: Rows
    """The row of the table that each trial evaluated, shape ``(t,)``; `MISSING` where it failed."""
    repeats: NDArray[np.bool_]
    """Whether the trial's code was evaluated before, shape ``(t,)``."""
    twins: NDArray[np.bool_]
    """Whether the trial's class was evaluated before, shape ``(t,)``."""
    seconds: NDArray[np.float64]
    """What the method took to choose and to learn, shape ``(t,)``."""
    fallbacks: int = 0
    """Decisions that another ranker made, because the method's own failed."""


def run_search(name: str, method: Method, task: Task, seed: int, trials: int) -> Run:
    """Run `method` for `trials` trials and close it."""
    account = _Account(task)
    try:
        while len(account.rows) < trials and account.run(method):
            pass
    finally:
        method.close()
    return account.to_run(name, seed, method.fallbacks)


class _Account:
    """What a search has evaluated so far."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._codes: set[bytes] = set()
        self._classes: set[int] = set()
        self._repeats: list[bool] = []
        self._twins: list[bool] = []
        self._seconds: list[float] = []
        self.rows: list[int] = []

    def run(self, method: Method) -> bool:
        """Run one trial; False where the method has no more codes."""
        begun = time.perf_counter()
        code = method.ask()
        if code is None:
            return False
        asked = time.perf_counter() - begun
        row = self._task.row_of(code)
        self._count(code, row)
        begun = time.perf_counter()
        method.tell(code, None if row == MISSING else float(self._task.table.values[row]))
        self._seconds.append(asked + time.perf_counter() - begun)
        return True

    def to_run(self, name: str, seed: int, fallbacks: int) -> Run:
        return Run(
            method=name,
            seed=seed,
            rows=np.array(self.rows, dtype=np.intp),
            repeats=np.array(self._repeats, dtype=np.bool_),
            twins=np.array(self._twins, dtype=np.bool_),
            seconds=np.array(self._seconds),
            fallbacks=fallbacks,
        )

    def _count(self, code: NDArray[np.uint8], row: int) -> None:
        """A code without a row is a class of its own."""
        key = code.tobytes()
        repeat = key in self._codes
        twin = repeat if row == MISSING else self._task.class_of(row) in self._classes
        self._codes.add(key)
        if row != MISSING:
            self._classes.add(self._task.class_of(row))
        self._repeats.append(repeat)
        self._twins.append(twin)
        self.rows.append(row)
