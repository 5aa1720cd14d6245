"""The history of a search: one SQLite file, the only state.

Any number of processes may have the same file open: the agent adds trials and starts them, workers write their
results, people read. Every write is one transaction. Trials move by `_move` alone, which names the state that the
trial must be in and the attempt that the caller speaks for; a late writer of an older attempt changes nothing.

A `History` belongs to one thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from ncode_search.agent import database
from ncode_search.agent.errors import IllegalTransitionError
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.states import PREDECESSORS, TrialState

LEASE = 60.0
"""Seconds that a running trial is taken to be alive after its worker last said so."""


@dataclass(frozen=True)
class Trial:
    """One row of the table `trials`; times are seconds since 1970."""

    id: int
    code: str
    """As it was proposed, and is evaluated."""
    canonical: str
    """The canonical code of its class: no other trial that did not fail has the same."""
    state: TrialState
    value: float | None
    metrics: dict[str, Any] | None
    attempt: int
    worker: str | None
    device: str | None
    error: str | None
    proposed_by: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    lease_until: float | None
    seconds: float | None
    """What its attempts cost together."""
    peak_memory: int | None
    """Bytes; the most of any attempt."""
    budget: int | None
    """Epochs after which the search looks whether it may go on; None: it may go to its end."""


@dataclass(frozen=True)
class Spent:
    """What an attempt cost."""

    seconds: float
    peak_memory: int = 0
    """Bytes of device memory; 0: not known."""


@dataclass(frozen=True)
class Decision:
    """Why a trial's code was chosen: one row of the table `decisions`."""

    ranker: str
    model: str | None
    model_sha256: str | None
    pool: int
    """Candidates in the pool."""
    rank: int
    """The chosen candidate's rank by the ranker's scores; 1 is the best."""
    seconds: float
    fallback: bool
    """Whether another ranker than the search's own decided."""
    reason: str | None
    """Why it was a fallback."""
    predicted: Mapping[str, float] | None = None
    """The value that each forecaster predicted for the chosen candidate."""
    trust: Mapping[str, float] | None = None
    """The say that each of them had."""


@dataclass(frozen=True)
class Narrowing:
    """The options that a search keeps to: one row of the table `narrowings`."""

    after: int
    """Completed trials that told which options did best."""
    keep: int | float
    """How many options of every position, or what share of them."""
    trial: int
    """The first that was proposed so."""
    kept: Mapping[str, list[Any]]
    """Position to its kept options."""


@dataclass(frozen=True)
class Objective:
    """What a history's values mean; a history holds one space and one objective for good."""

    goal: str = "maximize"
    """``maximize`` or ``minimize``."""
    evaluator: Mapping[str, Any] | None = None
    """The evaluator's table of the search file; None under ask and tell."""

    @property
    def sign(self) -> float:
        """What to multiply a value with so that higher is better."""
        return 1.0 if self.goal == "maximize" else -1.0


class History:
    """An open history file; see the module's text."""

    def __init__(self, path: Path, db: Database) -> None:
        self.path = path
        self._db = db

    @classmethod
    def open(
        cls, path: Path, space: Mapping[str, Any], objective: Objective, declared: Mapping[str, Any] | None = None
    ) -> History:
        """The history of this very search, made if there is none.

        `space` maps position names to options; `declared` is what `SearchSpace.declared` says. Raises `HistoryError`
        where the file cannot be used; it is unchanged then.
        """
        meta = {
            "space": space,
            **database.NOTHING_DECLARED,
            **({} if declared is None else declared),
            "objective": {"goal": objective.goal, "evaluator": objective.evaluator},
        }
        return cls(path, database.open_for_writing(path, meta))

    @classmethod
    def attach(cls, path: Path) -> History:
        """An existing history, for a worker of the agent that has opened it."""
        return cls(path, database.connect(path))

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

    @property
    def db(self) -> Database:
        """The connection, for reading."""
        return self._db

    # Settings

    def space(self) -> SearchSpace:
        """The search space, with all that it declares."""
        meta = self.meta()
        return SearchSpace.restore(meta["space"], meta)

    def objective(self) -> Objective:
        """What the values mean."""
        return Objective(**self.meta()["objective"])

    def meta(self) -> dict[str, Any]:
        """Everything in the table `meta`."""
        return database.get_meta(self._db)

    def remember(self, key: str, value: Any) -> None:
        """Record a setting that may change from start to start."""
        with database.immediate(self._db):
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [key, json.dumps(value)])

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

    def start(self, trial: int, worker: str, device: str, lease: float = LEASE) -> int:
        """queued → running, for another attempt. Returns the attempt's number, from 1."""
        now = time.time()
        with database.immediate(self._db):
            attempt = self._attempt(trial)
            lease_until = now + lease
            self._move(
                trial, attempt, TrialState.RUNNING, None,
                attempt=attempt + 1, worker=worker, device=device, started_at=now, lease_until=lease_until,
            )  # fmt: skip
        return attempt + 1

    def renew(self, trial: int, attempt: int, lease: float = LEASE) -> bool:
        """Lengthen the lease of a running attempt. Returns whether it still is the running one."""
        with database.immediate(self._db):
            renewed = self._db.execute(
                "UPDATE trials SET lease_until = ? WHERE id = ? AND attempt = ? AND state = 'running'",
                [time.time() + lease, trial, attempt],
            )
        return bool(renewed.rowcount)

    def report(self, trial: int, attempt: int, step: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of one epoch of a running attempt; a late report of an older attempt is dropped."""
        with database.immediate(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO epochs (trial, attempt, step, metrics, reported_at) "
                "SELECT id, attempt, ?, ?, ? FROM trials WHERE id = ? AND attempt = ? AND state = 'running'",
                [step, json.dumps(metrics), time.time(), trial, attempt],
            )

    def complete(
        self,
        trial: int,
        attempt: int,
        value: float,
        metrics: Mapping[str, Any] | None = None,
        spent: Spent | None = None,
    ) -> None:
        """running → complete, on disk when this returns."""
        done = {"value": value, "metrics": json.dumps(metrics or {}), "error": None}
        self._finish(trial, attempt, TrialState.COMPLETE, spent, **done)

    def prune(self, trial: int, attempt: int, reason: str | None = None, spent: Spent | None = None) -> None:
        """running → pruned."""
        self._finish(trial, attempt, TrialState.PRUNED, spent, error=reason)

    def fail(self, trial: int, attempt: int, error: str, spent: Spent | None = None) -> None:
        """running → failed."""
        self._finish(trial, attempt, TrialState.FAILED, spent, error=error)

    def requeue(self, trial: int, attempt: int, error: str | None = None, spent: Spent | None = None) -> None:
        """running → queued, after an attempt that failed with `error` or was interrupted."""
        with database.immediate(self._db):
            self._move(
                trial, attempt, TrialState.QUEUED, spent, worker=None, device=None, lease_until=None, error=error
            )

    def _finish(self, trial: int, attempt: int, state: TrialState, spent: Spent | None, **columns: Any) -> None:
        with database.immediate(self._db):
            self._move(trial, attempt, state, spent, finished_at=time.time(), lease_until=None, **columns)
        database.sync(self.path)

    def _move(self, trial: int, at_attempt: int, to: TrialState, spent: Spent | None, **columns: Any) -> None:
        """The one guard of the state machine; call it inside a transaction."""
        sets = ", ".join(f"{name} = ?" for name in columns)
        allowed = ", ".join(f"'{state.value}'" for state in PREDECESSORS[to])
        moved = self._db.execute(
            f"UPDATE trials SET state = ?, {sets} WHERE id = ? AND attempt = ? AND state IN ({allowed})",
            [to.value, *columns.values(), trial, at_attempt],
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

    def _standing(self, trial: int) -> str:
        row = self._db.execute("SELECT state, attempt FROM trials WHERE id = ?", [trial]).fetchone()
        return f"it is {row[0]}, attempt {row[1]}" if row else "there is no such trial"

    def _attempt(self, trial: int) -> int:
        row = self._db.execute("SELECT attempt FROM trials WHERE id = ?", [trial]).fetchone()
        if row is None:
            raise IllegalTransitionError(f"there is no trial {trial} in {self.path}")
        return int(row[0])

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

    # Reading

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads of one and the same moment."""
        self._db.conn.execute("BEGIN")
        try:
            yield
        finally:
            self._db.conn.execute("COMMIT")

    def trial(self, trial: int) -> Trial:
        """One trial. Raises `IllegalTransitionError` where there is none of this number."""
        for found in self._select("WHERE id = ?", [trial]):
            return found
        raise IllegalTransitionError(f"there is no trial {trial} in {self.path}")

    def trial_of(self, canonical: str) -> Trial | None:
        """The newest trial of a class, if there is one."""
        return next(self._select("WHERE canonical = ?", [canonical], "id DESC LIMIT 1"), None)

    def trials(self, *states: TrialState) -> Iterator[Trial]:
        """All trials, or those in one of `states`, by number."""
        if not states:
            return self._select("", [])
        marks = ", ".join("?" * len(states))
        return self._select(f"WHERE state IN ({marks})", [state.value for state in states])

    def best(self) -> Trial | None:
        """The completed trial with the best value, the older one among equals."""
        order = "DESC" if self.objective().goal == "maximize" else "ASC"
        return next(self._select("WHERE state = 'complete'", [], f"value {order}, id LIMIT 1"), None)

    def counts(self) -> dict[TrialState, int]:
        """How many trials are in every state."""
        found = dict(self._db.conn.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall())
        return {state: found.get(state.value, 0) for state in TrialState}

    def last_trial(self) -> int:
        """The highest trial number; 0 where there is none."""
        return int(self._db.conn.execute("SELECT coalesce(max(id), 0) FROM trials").fetchone()[0])

    def codes(self) -> str:
        """The canonical codes of all trials, joined without anything between them, in no order."""
        return str(self._db.conn.execute("SELECT coalesce(group_concat(canonical, ''), '') FROM trials").fetchone()[0])

    def finished(self) -> tuple[list[str], NDArray[np.float64]]:
        """Canonical codes and values of all finished trials in the order in which they finished; NaN: no value."""
        rows = self._db.conn.execute(
            "SELECT canonical, value FROM trials WHERE state IN ('complete', 'failed', 'pruned') "
            "ORDER BY finished_at, id"
        ).fetchall()
        return [row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.float64)

    def predicted(self, most: int) -> dict[str, dict[str, float]]:
        """What was predicted for the trials of the newest `most` decisions that predicted something, by canonical
        code.
        """
        rows = self._db.conn.execute(
            "SELECT canonical, predicted FROM decisions JOIN trials ON trials.id = decisions.trial "
            "WHERE predicted IS NOT NULL ORDER BY trial DESC LIMIT ?",
            [most],
        )
        return {code: json.loads(text) for code, text in rows}

    def narrowings(self) -> list[Narrowing]:
        """What was kept in this search, under every setting that it ran with, by trial."""
        rows = self._db.conn.execute("SELECT after, keep, trial, kept FROM narrowings ORDER BY trial, after")
        return [Narrowing(after, json.loads(keep), trial, json.loads(kept)) for after, keep, trial, kept in rows]

    def _select(self, where: str, parameters: list[Any], order: str = "id") -> Iterator[Trial]:
        cursor = self._db.conn.execute(f"SELECT {_COLUMNS} FROM trials {where} ORDER BY {order}", parameters)
        return map(_to_trial, cursor)


_COLUMNS = ", ".join(Trial.__dataclass_fields__)


def _json(numbers: Mapping[str, float] | None) -> str | None:
    return None if numbers is None else json.dumps(numbers)


def _to_trial(row: tuple[Any, ...]) -> Trial:
    fields = dict(zip(Trial.__dataclass_fields__, row, strict=True))
    fields["state"] = TrialState(fields["state"])
    fields["metrics"] = json.loads(fields["metrics"]) if fields["metrics"] else None
    return Trial(**fields)
