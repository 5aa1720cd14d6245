"""The history of a search: one SQLite file, the only state.

Any number of processes may have the same file open: the agent adds trials and starts them, workers write their
results, people read. Every write is one transaction. Trials move by `_move` alone, which names the state that the
trial must be in and the attempt that the caller speaks for; a late writer of an older attempt changes nothing.

A `History` belongs to one thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ncode_search.agent import database
from ncode_search.agent.errors import IllegalTransitionError
from ncode_search.agent.history_reader import HistoryReader
from ncode_search.agent.leases import LEASE, lease_columns
from ncode_search.agent.records import Decision, Duplicate, Narrowing, Objective, Spent, Trial
from ncode_search.agent.states import ACCEPTED_LATE, PREDECESSORS, TrialState

__all__ = ["Decision", "Duplicate", "History", "Narrowing", "Objective", "Spent", "Trial"]


class History(HistoryReader):
    """An open history file; see the module's text."""

    @classmethod
    def open(
        cls,
        path: Path,
        space: Mapping[str, Any],
        objective: Objective,
        declared: Mapping[str, Any] | None = None,
        *,
        patience: float = database.BUSY_TIMEOUT,
    ) -> History:
        """The history of this very search, made if there is none.

        `space` maps position names to options; `declared` is what `SearchSpace.declared` says; `patience`: seconds to
        wait for others. Raises `HistoryError` where the file cannot be used; it is unchanged then.
        """
        meta = {
            "space": space,
            **database.NOTHING_DECLARED,
            **({} if declared is None else declared),
            "objective": {"goal": objective.goal, "evaluator": objective.evaluator},
        }
        return cls(path, database.open_for_writing(path, meta, patience))

    @classmethod
    def attach(cls, path: Path, *, patience: float = database.BUSY_TIMEOUT) -> History:
        """An existing history, for those who work with the agent that has opened it; `patience`: seconds that a write
        waits for others.
        """
        return cls(path, database.connect(path, patience=patience))

    def wait_at_most(self, seconds: float) -> None:
        """How long a write waits for another process's transaction before it gives up."""
        self._db.conn.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    @classmethod
    def read(cls, path: Path) -> History:
        """An existing history, read-only. Raises `HistoryError` where there is none."""
        return cls(path, database.open_for_reading(path))

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Settings

    def remember(self, key: str, value: Any) -> None:
        """Record a setting that may change from start to start."""
        with database.immediate(self._db):
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [key, json.dumps(value)])

    def record_start(self, settings: Mapping[str, Any]) -> None:
        """Record with which of the settings that may change the search is started now."""
        row = [time.time(), json.dumps(settings)]
        with database.immediate(self._db):
            self._db.execute("INSERT INTO starts (started_at, settings) VALUES (?, ?)", row)

    # Moves

    def add(
        self,
        trial: int,
        code: str,
        proposed_by: str,
        decision: Decision | None = None,
        *,
        canonical: str | None = None,
    ) -> None:
        """Record a chosen code as a queued trial, and why it was chosen; `canonical`: of its class, if it is not its
        own.

        Raises `IllegalTransitionError` where a trial of this number, or a live or finished one of this class, exists.
        """
        now = time.time()
        columns = "id, code, canonical, state, proposed_by, created_at"
        with database.immediate(self._db):
            added = self._db.execute(
                f"INSERT OR IGNORE INTO trials ({columns}) VALUES (?, ?, ?, 'queued', ?, ?)",
                [trial, code, canonical or code, proposed_by, now],
            )
            if added.rowcount != 1:
                raise IllegalTransitionError(f"trial {trial} or another trial of code {code} is already in {self.path}")
            if decision is not None:
                self._add_decision(trial, decision, now)

    def start(
        self, trial: int, worker: str, device: str, lease: float | None = LEASE, budget: int | None = None
    ) -> int:
        """queued → running, for another attempt; None: without a lease. `budget` is the trial's if it is its first
        attempt. Returns the attempt's number, from 1.
        """
        columns: dict[str, Any] = {"worker": worker, "device": device, **lease_columns(lease)}
        with database.immediate(self._db):
            attempt = self._attempt(trial)
            if attempt == 0:
                columns["budget"] = budget
            self._move(trial, attempt, TrialState.RUNNING, None, attempt=attempt + 1, started_at=time.time(), **columns)
        return attempt + 1

    def renew(self, trial: int, attempt: int, lease: float = LEASE) -> bool:
        """Begin the lease of a running attempt anew. Returns whether it still is the running one."""
        columns = lease_columns(lease)
        sets = ", ".join(f"{name} = ?" for name in columns)
        with database.immediate(self._db):
            renewed = self._db.execute(
                f"UPDATE trials SET {sets} WHERE id = ? AND attempt = ? AND state = 'running'",
                [*columns.values(), trial, attempt],
            )
        return bool(renewed.rowcount)

    def take_back(self, seen: Trial) -> bool:
        """running → queued, in the one case that attempt and lease still are as `seen`; returns whether they were.

        Of any number of processes that try it, one succeeds.
        """
        columns = {"state": "queued", "worker": None, "device": None, **lease_columns(None)}
        sets = ", ".join(f"{name} = ?" for name in columns)
        with database.immediate(self._db):
            taken = self._db.execute(
                f"UPDATE trials SET {sets} WHERE id = ? AND attempt = ? AND state = 'running' AND lease_until IS ?",
                [*columns.values(), seen.id, seen.attempt, seen.lease_until],
            )
        return bool(taken.rowcount)

    def report(
        self, trial: int, attempt: int, step: int, metrics: Mapping[str, float], score: float | None = None
    ) -> None:
        """Record the numbers of one epoch of a running attempt; a late report of an older attempt is dropped."""
        with database.immediate(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO epochs (trial, attempt, step, metrics, score, reported_at) "
                "SELECT id, attempt, ?, ?, ?, ? FROM trials WHERE id = ? AND attempt = ? AND state = 'running'",
                [step, json.dumps(metrics), score, time.time(), trial, attempt],
            )

    def grant(self, trial: int, attempt: int, budget: int) -> None:
        """Let a running attempt go on to `budget` epochs."""
        with database.immediate(self._db):
            self._db.execute(
                "UPDATE trials SET budget = ? WHERE id = ? AND attempt = ? AND state = 'running'",
                [budget, trial, attempt],
            )

    def complete(
        self,
        trial: int,
        attempt: int,
        value: float,
        metrics: Mapping[str, Any] | None = None,
        spent: Spent | None = None,
    ) -> None:
        """running → complete, on disk when this returns.

        An attempt that was taken back still completes its trial if no other was begun, and leaves a duplicate if one
        was; that raises `IllegalTransitionError`, as every move does that cannot be made.
        """
        done: dict[str, Any] = {"value": value, "metrics": json.dumps(metrics or {}), "error": None}
        self._finish(trial, attempt, TrialState.COMPLETE, spent, **done)

    def prune(
        self, trial: int, attempt: int, reason: str | None = None, spent: Spent | None = None, *, for_good: bool = True
    ) -> None:
        """running → pruned; its metrics are those of its last report. Not `for_good`: it keeps its budget, so that it
        may be promoted. Of an attempt that was taken back as with `complete`.
        """
        columns: dict[str, Any] = {"error": reason, "metrics": self._last_report(trial)}
        if for_good:
            columns["budget"] = None
        self._finish(trial, attempt, TrialState.PRUNED, spent, **columns)

    def promote(self, trial: int, budget: int) -> None:
        """pruned → queued, to go on from its checkpoint to `budget` epochs."""
        with database.immediate(self._db):
            self._move(
                trial, self._attempt(trial), TrialState.QUEUED, None, source=TrialState.PRUNED,
                budget=budget, worker=None, device=None, finished_at=None, metrics=None, error=None,
            )  # fmt: skip

    def fail(self, trial: int, attempt: int, error: str, spent: Spent | None = None, *, late: bool = False) -> None:
        """running → failed; `late`: also of an attempt that was taken back, as long as no other was begun."""
        self._finish(trial, attempt, TrialState.FAILED, spent, late=late, error=error)

    def requeue(
        self, trial: int, attempt: int, error: str | None = None, spent: Spent | None = None, *, failed: bool = False
    ) -> None:
        """running → queued, after an attempt that failed with `error`, or one that was interrupted."""
        columns: dict[str, Any] = {"worker": None, "device": None, "error": error, **lease_columns(None)}
        with database.immediate(self._db):
            self._move(trial, attempt, TrialState.QUEUED, spent, source=TrialState.RUNNING, **columns)
            if failed:
                self._count_failure(trial)

    def _finish(
        self, trial: int, attempt: int, state: TrialState, spent: Spent | None, late: bool = True, **columns: Any
    ) -> None:
        refused, columns = None, {"finished_at": time.time(), **lease_columns(None), **columns}
        with database.immediate(self._db):
            try:
                self._move(trial, attempt, state, spent, late=late, **columns)
            except IllegalTransitionError as error:
                refused = error
                self._keep_duplicate(trial, attempt, state, columns)
            if state is TrialState.FAILED and refused is None:
                self._count_failure(trial)
        if refused is not None:
            raise refused
        database.sync(self.path)

    def _count_failure(self, trial: int) -> None:
        self._db.execute("UPDATE trials SET failures = failures + 1 WHERE id = ?", [trial])

    def _keep_duplicate(self, trial: int, attempt: int, state: TrialState, columns: Mapping[str, Any]) -> None:
        """What an attempt found that was taken back and followed by another one; failures are not worth keeping."""
        if state in ACCEPTED_LATE:
            self._db.execute(
                "INSERT OR IGNORE INTO duplicates (trial, attempt, state, value, metrics, recorded_at) "
                "SELECT id, ?, ?, ?, ?, ? FROM trials WHERE id = ? AND attempt > ?",
                [attempt, state.value, columns.get("value"), columns.get("metrics"), time.time(), trial, attempt],
            )

    def _move(
        self,
        trial: int,
        at_attempt: int,
        to: TrialState,
        spent: Spent | None,
        source: TrialState | None = None,
        late: bool = False,
        **columns: Any,
    ) -> None:
        """The one guard of the state machine; call it inside a transaction. `source`: which state to come from, where
        several may; `late`: also from queued, by an attempt that was taken back.
        """
        sets = ", ".join(f"{name} = ?" for name in columns)
        allowed = ", ".join(f"'{state.value}'" for state in PREDECESSORS[to] if source in (None, state))
        moved = self._db.execute(
            f"UPDATE trials SET state = ?, {sets} WHERE id = ? AND attempt = ? "
            f"AND (state IN ({allowed}) OR (? AND state = 'queued' AND attempt > 0))",
            [to.value, *columns.values(), trial, at_attempt, late],
        )
        if moved.rowcount != 1:
            raise IllegalTransitionError(
                f"trial {trial}, attempt {at_attempt}, cannot become {to.value}: {self._standing(trial)}"
            )
        if spent is not None:
            self._db.execute(
                "UPDATE trials SET seconds = coalesce(seconds, 0) + ?, "
                "peak_memory = nullif(max(coalesce(peak_memory, 0), ?), 0) WHERE id = ?",
                [spent.seconds, spent.peak_memory, trial],
            )

    def _last_report(self, trial: int) -> str | None:
        row = self._db.conn.execute(
            "SELECT metrics, step FROM epochs WHERE trial = ? ORDER BY step DESC, attempt DESC LIMIT 1", [trial]
        ).fetchone()
        return None if row is None else json.dumps({**json.loads(row[0]), "epoch": row[1]})

    def _standing(self, trial: int) -> str:
        row = self._db.execute("SELECT state, attempt FROM trials WHERE id = ?", [trial]).fetchone()
        return f"it is {row[0]}, attempt {row[1]}" if row else "there is no such trial"

    def _attempt(self, trial: int) -> int:
        row = self._db.execute("SELECT attempt FROM trials WHERE id = ?", [trial]).fetchone()
        if row is None:
            raise IllegalTransitionError(f"there is no trial {trial} in {self.path}")
        if not isinstance(row[0], int):
            raise database.damaged(self.path, f"trial {trial} has attempt {row[0]!r}")
        return row[0]

    def _add_decision(self, trial: int, decision: Decision, now: float) -> None:
        self._db.execute(
            "INSERT INTO decisions "
            "(trial, ranker, model, model_sha256, pool, rank, seconds, fallback, reason, predicted, trust, decided_at) "
            "VALUES (:trial, :ranker, :model, :model_sha256, :pool, :rank, :seconds, :fallback, :reason, "
            ":predicted, :trust, :decided_at)",
            {
                **vars(decision),
                "trial": trial,
                "predicted": _json(decision.predicted),
                "trust": _json(decision.trust),
                "decided_at": now,
            },
        )

    def narrow(self, narrowing: Narrowing) -> None:
        """Record the options that a search keeps to from now on."""
        row = [narrowing.after, json.dumps(narrowing.keep), narrowing.trial, json.dumps(narrowing.kept), time.time()]
        with database.immediate(self._db):
            self._db.execute(
                "INSERT INTO narrowings (after, keep, trial, kept, decided_at) VALUES (?, ?, ?, ?, ?)", row
            )


def _json(numbers: Mapping[str, float] | None) -> str | None:
    return None if numbers is None else json.dumps(numbers)
