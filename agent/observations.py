"""What is known of the trials, as arrays: what pools and rankers look at.

`Observations` is a view that costs nothing to make. `ObservationLog` is the growing store behind it: neither adding a
trial nor finding the best ones slows down as trials accumulate.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
"""Codes as rows: shape ``(n, L)``, dtype uint8."""

FORECASTERS = ("model", "ridge", "history")
"""Whose predictions a ranker may leave behind: a model's, ridge regression's, and those of the history's middle."""
LEADERS = 256
"""How many of the best trials the log keeps sorted; asking for more sorts the whole history."""


_NO_FORECASTS = np.empty((0, len(FORECASTERS)))
_NO_FORECAST = np.full(len(FORECASTERS), np.nan)


@dataclass(frozen=True)
class Observations:
    """What a decision may look at. Values are oriented so that higher is better, whatever the search's goal."""

    codes: Codes
    """Codes of the completed trials, oldest first, shape ``(n, L)``."""
    values: NDArray[np.float64]
    """Their values, shape ``(n,)``, finite."""
    pending: Codes
    """Codes in flight (queued or running), shape ``(p, L)``."""
    failed: Codes
    """Codes whose trials failed, or were pruned without a score, shape ``(f, L)``."""
    leaders: Sequence[int] = ()
    """Indices of the best trials, best first, as far as they are already known."""
    forecasts: NDArray[np.float64] = field(default_factory=lambda: _NO_FORECASTS)
    """What `FORECASTERS` predicted for each completed trial when it was chosen, shape ``(n, 3)``; NaN where nothing was
    predicted. Shape ``(0, 3)`` where nothing is known of predictions.
    """
    pruned: Codes = field(default_factory=lambda: np.empty((0, 0), dtype=np.uint8))
    """Codes whose trials were stopped early, oldest first, shape ``(s, L)``."""
    partial: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Their last scores, shape ``(s,)``: of fewer epochs than those of completed trials, so no values."""

    def __len__(self) -> int:
        return len(self.values)

    def forgotten(self) -> Observations:
        """The same without the completed trials: what a uniform pool is drawn with."""
        return replace(self, codes=self.codes[:0], values=self.values[:0], leaders=(), forecasts=self.forecasts[:0])

    def best(self, count: int) -> NDArray[np.intp]:
        """Indices of the `count` best trials, best first, the older one first among equals."""
        if count <= len(self.leaders) or len(self.leaders) == len(self):
            return np.array(self.leaders[:count], dtype=np.intp)
        return np.argsort(-self.values, kind="stable")[:count]


class ObservationLog:
    """Completed, failed and pending trials of one search, in memory; filled from the history and kept in step with
    it.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._codes = GrowingArray(np.empty((0, length), dtype=np.uint8))
        self._values = GrowingArray(np.empty(0, dtype=np.float64))
        self._failed = GrowingArray(np.empty((0, length), dtype=np.uint8))
        self._forecasts = GrowingArray(_NO_FORECASTS)
        self._stopped = GrowingArray(np.empty(0, dtype=np.int64))
        """Numbers of the trials of the next two."""
        self._pruned = GrowingArray(np.empty((0, length), dtype=np.uint8))
        self._partial = GrowingArray(np.empty(0, dtype=np.float64))
        self._pending: dict[int, NDArray[np.uint8]] = {}
        self._pending_forecasts: dict[int, NDArray[np.float64]] = {}
        self._leaders: list[tuple[float, int]] = []

    @property
    def completed(self) -> int:
        """How many trials completed."""
        return len(self._values)

    @property
    def live(self) -> int:
        """How many trials are queued or running."""
        return len(self._pending)

    @property
    def in_flight(self) -> Set[int]:
        """The numbers of those trials."""
        return self._pending.keys()

    def load(
        self, codes: Codes, values: NDArray[np.float64], failed: Codes, forecasts: NDArray[np.float64] | None = None
    ) -> None:
        """Take over the finished trials of a history at once, oldest first; `forecasts` as in `Observations`."""
        self._codes.extend(codes)
        self._values.extend(values)
        self._failed.extend(failed)
        self._forecasts.extend(np.full((len(values), len(FORECASTERS)), np.nan) if forecasts is None else forecasts)
        best = np.argsort(-values, kind="stable")[:LEADERS]
        self._leaders = [(-float(values[index]), int(index)) for index in best]

    def load_pruned(self, trials: Sequence[int], codes: Codes, partial: Sequence[float]) -> None:
        """Take over the trials that were stopped early, oldest first, with their last scores."""
        for store, rows in ((self._stopped, trials), (self._pruned, codes), (self._partial, partial)):
            store.extend(np.asarray(rows))

    def begin(self, trial: int, code: NDArray[np.uint8], forecast: NDArray[np.float64] | None = None) -> None:
        """A trial was queued: its code is in flight. `forecast`: what was predicted for it, shape ``(3,)``."""
        self._pending[trial] = code
        if forecast is not None:
            self._pending_forecasts[trial] = forecast

    def complete(self, trial: int, value: float) -> None:
        """A trial in flight completed with `value` (higher is better)."""
        bisect.insort(self._leaders, (-value, self.completed))
        del self._leaders[LEADERS:]
        self._codes.append(self._pending.pop(trial))
        self._values.append(value)
        self._forecasts.append(self._pending_forecasts.pop(trial, _NO_FORECAST))

    def fail(self, trial: int) -> None:
        """A trial in flight ended without a value."""
        self._failed.append(self._pending.pop(trial))
        self._pending_forecasts.pop(trial, None)

    def prune(self, trial: int, partial: float) -> None:
        """A trial in flight was stopped early; its last score was `partial` (higher is better)."""
        for store, row in ((self._stopped, trial), (self._pruned, self._pending.pop(trial)), (self._partial, partial)):
            store.append(row)
        self._pending_forecasts.pop(trial, None)

    def promote(self, trial: int) -> None:
        """A trial that was stopped is in flight again."""
        at = int(np.flatnonzero(self._stopped.view() == trial)[0])
        self._pending[trial] = self._pruned.view()[at].copy()
        for store in (self._stopped, self._pruned, self._partial):
            store.remove(at)

    def view(self) -> Observations:
        """All that is known now."""
        return Observations(
            codes=self._codes.view(),
            values=self._values.view(),
            pending=self._pending_codes(),
            failed=self._failed.view(),
            leaders=[index for _, index in self._leaders],
            forecasts=self._forecasts.view(),
            pruned=self._pruned.view(),
            partial=self._partial.view(),
        )

    def view_without_last(self, code: NDArray[np.uint8]) -> Observations:
        """What was known before the newest trial, the one of `code`, ended: its code counts as in flight."""
        codes, values, failed = self._codes.view(), self._values.view(), self._failed.view()
        pruned, partial = self._pruned.view(), self._partial.view()
        if len(codes) and np.array_equal(codes[-1], code):
            codes, values = codes[:-1], values[:-1]
        elif len(failed) and np.array_equal(failed[-1], code):
            failed = failed[:-1]
        elif len(pruned) and np.array_equal(pruned[-1], code):
            pruned, partial = pruned[:-1], partial[:-1]
        else:
            return self.view()
        leaders = [index for _, index in self._leaders if index < len(codes)]
        pending = np.concatenate([self._pending_codes(), code[np.newaxis]])
        forecasts = self._forecasts.view()[: len(codes)]
        return Observations(codes, values, pending, failed, leaders, forecasts, pruned, partial)

    def _pending_codes(self) -> Codes:
        if not self._pending:
            return np.empty((0, self._length), dtype=np.uint8)
        return np.stack([self._pending[trial] for trial in sorted(self._pending)])


class GrowingArray:
    """An array with room at its end, doubled when it is full; `view` is a read-only slice without a copy."""

    def __init__(self, empty: NDArray[Any]) -> None:
        """`empty`: no rows, of the right shape and type."""
        self._store = np.empty((64, *empty.shape[1:]), dtype=empty.dtype)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def append(self, row: object) -> None:
        """Add a copy of a row."""
        self._reserve(1)
        self._store[self._used] = row
        self._used += 1

    def extend(self, rows: NDArray[Any]) -> None:
        """Add copies of rows."""
        self._reserve(len(rows))
        self._store[self._used : self._used + len(rows)] = rows
        self._used += len(rows)

    def remove(self, at: int) -> None:
        """Take a row out, by a copy of the others: a ranker's thread may be reading a view."""
        self._store = np.delete(self._store, at, axis=0)
        self._used -= 1

    def view(self) -> NDArray[Any]:
        """All rows so far."""
        rows = self._store[: self._used]
        rows.flags.writeable = False
        return rows

    def _reserve(self, extra: int) -> None:
        if self._used + extra > len(self._store):
            grown = np.empty((max(2 * len(self._store), self._used + extra), *self._store.shape[1:]), self._store.dtype)
            grown[: self._used] = self._store[: self._used]
            self._store = grown
