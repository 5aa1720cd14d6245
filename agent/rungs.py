"""Who came to each rung of successive halving, by their scores there, and who may go on from it.

The history is the truth. `standings` reads a rung from it at once; `Rungs` keeps what finished trials scored, so that
the agent's question costs the same however many trials there are.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping

from ncode_search.agent.history import History, Trial
from ncode_search.agent.states import TrialState

Place = tuple[float, int]
"""Score, negated where higher ones are better, and trial: sorted, the best first, and the older one among equals."""


class Rungs:
    """The rungs at which trials wait, kept in step with the history by `finished` and `promoted`.

    Args:
        history: Of the search.
        sign: 1 where higher scores are better, -1 where lower ones are.
        live: The trials that are queued or running, as far as the caller has heard: it tells when they have finished.
    """

    def __init__(self, history: History, sign: float, live: Collection[int]) -> None:
        self._history, self._sign = history, sign
        self._came: dict[int, list[Place]] = {}
        """Finished trials, the best first."""
        self._waiting: dict[int, list[Place]] = {}
        """Those of them that were stopped there."""
        stopped = "SELECT DISTINCT budget FROM trials WHERE state = 'pruned' AND budget IS NOT NULL"
        for (budget,) in history.db.execute(stopped).fetchall():
            self._load(budget, live)

    def finished(self, trial: Trial, live: Collection[int]) -> None:
        """A trial has finished, and is no longer among the `live` ones. Changes nothing where the history fails."""
        places, waits_at = self.places(trial.id), trial.budget if trial.state is TrialState.PRUNED else None
        if waits_at is not None and waits_at not in self._came:
            self._load(waits_at, live)
        for budget, place in places.items():
            insort(self._came[budget], place)
            if budget == waits_at:
                insort(self._waiting[budget], place)

    def places(self, trial: int) -> dict[int, Place]:
        """Where a trial came to, by the rungs that are kept."""
        found = ((budget, _places(self._history, budget, self._sign, [trial])) for budget in self._came)
        return {budget: places[0] for budget, places in found if places}

    def promoted(self, places: Mapping[int, Place]) -> None:
        """The stopped trial that had these places is queued again."""
        for budget, place in places.items():
            for among in (self._came[budget], self._waiting[budget]):
                _remove(among, place)

    def promotable(self, reduction: int, live: Collection[int]) -> tuple[int, int] | None:
        """The stopped trial that may go on, if one may: of the highest rung, and there the best; and its next budget.

        It is among the best ``1 / reduction`` of all trials that came there, live ones included.
        """
        for budget in sorted(self._waiting, reverse=True):
            if not self._waiting[budget]:
                continue
            best, came = self._waiting[budget][0], self._came[budget]
            others = _places(self._history, budget, self._sign, live)
            place = bisect_left(came, best) + sum(other < best for other in others)
            if place < (len(came) + len(others)) // reduction:
                return best[1], budget * reduction
        return None

    def _load(self, budget: int, live: Collection[int]) -> None:
        stopped = "SELECT id FROM trials WHERE state = 'pruned' AND budget = ?"
        here = {row[0] for row in self._history.db.execute(stopped, [budget])}
        came = [place for place in _places(self._history, budget, self._sign) if place[1] not in live]
        self._came[budget], self._waiting[budget] = came, [place for place in came if place[1] in here]


def standings(history: History, budget: int, sign: float) -> list[int]:
    """The trials that came to a rung, the best first by their score there, the older one among equals."""
    return [trial for _, trial in _places(history, budget, sign)]


def _places(history: History, budget: int, sign: float, trials: Iterable[int] | None = None) -> list[Place]:
    """The places of all trials, or of these, that came to a rung, the best first."""
    among = "" if trials is None else "AND trial IN (SELECT value FROM json_each(?)) "
    given = [] if trials is None else [json.dumps(list(trials))]
    # Beside one max or min, SQLite takes the other columns from the row of the extreme.
    rows = history.db.conn.execute(
        "SELECT trial, score, min(step) FROM ("
        "  SELECT trial, step, score, max(attempt) FROM epochs "
        f"  WHERE step >= ? AND score IS NOT NULL {among}GROUP BY trial, step"
        ") GROUP BY trial",
        [budget, *given],
    )
    return sorted((-sign * score, trial) for trial, score, _ in rows)


def _remove(places: list[Place], place: Place) -> None:
    at = bisect_left(places, place)
    if at < len(places) and places[at] == place:
        del places[at]
