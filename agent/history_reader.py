"""What a history says: all that is read of its file, by whoever looks at a search."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from ncode_search.agent import database
from ncode_search.agent.errors import HistoryUnavailableError, IllegalTransitionError
from ncode_search.agent.records import Duplicate, Narrowing, Objective, Trial
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.states import TrialState
from ncode_search.agent.wording import last_line


class HistoryReader:
    """The half of `history.History` that changes nothing."""

    def __init__(self, path: Path, db: Database) -> None:
        self.path = path
        self._db = db
        self._place = path.absolute()
        self._identity = database.identity(path)

    def check_place(self) -> None:
        """Raises `HistoryUnavailableError` where the file that was opened is not where it was: it would be lost."""
        if database.identity(self._place) != self._identity:
            raise HistoryUnavailableError(
                f"{self.path}: was moved, deleted or replaced while the search used it; "
                "put it back where it was, and start again"
            )

    @property
    def db(self) -> Database:
        """The connection, for reading."""
        return self._db

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
        """Canonical codes and values of all finished trials in the order in which they finished; NaN: no value. Not
        those that were pruned with a score; see `fidelity.stopped`.
        """
        rows = self._db.conn.execute(
            "SELECT canonical, value FROM trials WHERE state IN ('complete', 'failed') OR state = 'pruned' AND "
            "NOT EXISTS (SELECT 1 FROM epochs WHERE trial = trials.id AND score IS NOT NULL) ORDER BY finished_at, id"
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

    def duplicates(self) -> list[Duplicate]:
        """What was found more than once, by trial."""
        names = ", ".join(Duplicate.__dataclass_fields__)
        rows = self._db.conn.execute(f"SELECT {names} FROM duplicates ORDER BY trial, attempt")
        return [_to_row(Duplicate, row) for row in rows]

    def starts(self) -> list[dict[str, Any]]:
        """With which settings the search was started, each time: ``at``, in seconds since 1970, and ``settings``."""
        rows = self._db.conn.execute("SELECT started_at, settings FROM starts ORDER BY id")
        return [{"at": at, "settings": json.loads(text)} for at, text in rows]

    def failures(self) -> dict[str, int]:
        """Failed trials by the last line of their error, the most frequent first."""
        errors = self._db.conn.execute("SELECT error FROM trials WHERE state = 'failed'")
        return dict(Counter(last_line(error) for (error,) in errors).most_common())

    def was_ranked_by(self, model: str | None) -> bool:
        """Whether an earlier start could use this model, which is named as in the settings."""
        return any(start["settings"]["ranker"]["model"] == model for start in self.starts())

    def _select(self, where: str, parameters: list[Any], order: str = "id") -> Iterator[Trial]:
        cursor = self._db.conn.execute(f"SELECT {_COLUMNS} FROM trials {where} ORDER BY {order}", parameters)
        return (_to_row(Trial, row) for row in cursor)


_Row = TypeVar("_Row", Trial, Duplicate)
_COLUMNS = ", ".join(Trial.__dataclass_fields__)


def _to_row(kind: type[_Row], row: tuple[Any, ...]) -> _Row:
    fields = dict(zip(kind.__dataclass_fields__, row, strict=True))
    fields["state"] = TrialState(fields["state"])
    fields["metrics"] = json.loads(fields["metrics"]) if fields["metrics"] else None
    return kind(**fields)
