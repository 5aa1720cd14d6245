"""One decision: draw a pool, have it ranked within a deadline, fall back where that fails, record what was chosen and
why.

A decision has three steps, so that a coroutine and a plain call can make it alike: `begin` draws the pool and hands
it to the ranker's thread, the caller waits for `Draft.scores` up to the deadline, and `finish` takes whatever is
there. Everything random in it comes from (seed, trial number).
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import RankerGoneError
from ncode_search.agent.history import Decision
from ncode_search.agent.observations import FORECASTERS, Codes, Observations
from ncode_search.agent.ranking.base import Ranker, RankerInfo, Ranking
from ncode_search.agent.ranking.baselines import EvolutionRanker, RandomRanker
from ncode_search.agent.ranking.http_client import ServerError
from ncode_search.agent.ranking.thread import RankerThread
from ncode_search.agent.session import Chosen, Session
from ncode_search.agent.settings import RankerSettings

logger = logging.getLogger(__name__)

CHEAP = 1.0
"""Seconds that a ranker's own failure may cost without its being spared for a while."""
SHORTEST_REST = 0.1
"""Seconds that a ranker is spared which was not there, and not for the first time."""
LONGEST_REST = 600.0
"""Seconds after which a ranker that fails is asked again, at the latest."""

_STREAMS = ("pool", "ranker", "fallback")


@dataclass(frozen=True)
class Draft:
    """A decision under way."""

    trial: int
    known: Observations
    pool: Codes
    ties: NDArray[np.intp]
    """The order among candidates of equal scores."""
    scores: Future[Ranking] | None
    """The ranker's answer to come; None where the ranker is not asked."""
    excuse: str | None
    """Why it is not asked, where that is a failure of its."""
    begun: float


class BackOff:
    """Spares a ranker that fails again and again, such as a server that is gone: each time twice as long as before.

    The first rest is as long as the failure took, since that is what one more try costs. A ranker that fails at once
    and by itself is asked in every decision: that costs nothing, and a search with one worker stays repeatable.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0
        self._reason = ""

    @property
    def excuse(self) -> str | None:
        """Why the ranker is not to be asked now; None where it is."""
        if time.monotonic() >= self._until:
            return None
        return f"spared after {self._failures} failures in a row, the last: {self._reason}"

    def worked(self) -> None:
        """The ranker answered."""
        self._failures = 0

    def failed(self, seconds: float, reason: str, *, is_gone: bool) -> None:
        """The ranker was waited for in vain for so many seconds; `is_gone`: since what it needs is not there."""
        self._failures, self._reason = self._failures + 1, reason
        if self._failures > 1 and (is_gone or seconds >= CHEAP):  # once may be chance
            rest = max(seconds, SHORTEST_REST) * 2 ** min(self._failures - 2, 30)
            self._until = time.monotonic() + min(rest, LONGEST_REST)


class Proposer:
    """Makes the decisions of one search.

    Args:
        ranker: Who decides; it lives in a thread of its own from here on.
        settings: Pool size and deadline.
        seed: The search's.
        startup: How many of the first trials are chosen uniformly.
    """

    def __init__(self, ranker: Ranker, settings: RankerSettings, seed: int, startup: int) -> None:
        self._thread = RankerThread(ranker)
        self._settings = settings
        self._seed = seed
        self._startup = startup
        self._warned = False
        self._back_off = BackOff()

    @property
    def deadline(self) -> float:
        """Seconds to wait between `begin` and `finish`."""
        return self._settings.deadline_seconds

    def load(self) -> Future[None]:
        """Make the ranker ready; the future raises `InputError` where its files or settings are wrong."""
        return self._thread.load()

    def close(self) -> None:
        """Let the ranker go."""
        self._thread.close()

    def begin(self, session: Session, known: Observations) -> Draft | None:
        """Draw a pool for the next trial and ask the ranker; None where no new code is found."""
        begun = time.monotonic()
        trial = session.next_trial
        rng = self._rng(trial, "pool")
        # While nothing is asked of the ranker, nothing is bred from the best either: these trials are uniform.
        parents = known.forgotten() if self._is_startup(trial) else known
        pool = session.draw_pool(parents, self._settings.pool, rng)
        if not len(pool):
            return None
        ties, excuse = rng.permutation(len(pool)), self._unavailable(trial)
        scores = None if excuse or self._is_startup(trial) else self._ask(trial, known, pool)
        return Draft(trial, known, pool, ties, scores, excuse, begun)

    def finish(self, session: Session, draft: Draft) -> Chosen:
        """Choose by the scores that are there, and record the trial together with the decision."""
        info, ranking, reason = self._judge(draft)
        chosen = ranking.choice(draft.ties)
        decision = Decision(
            ranker=info.name,
            model=info.model,
            model_sha256=info.digest,
            pool=len(draft.pool),
            rank=1,
            seconds=time.monotonic() - draft.begun,
            fallback=reason is not None,
            reason=reason,
            predicted=_forecast(ranking, chosen, session.sign),
            trust=ranking.trust,
        )
        proposed_by = "startup" if self._is_startup(draft.trial) else ranking.decided_by or info.name
        return session.add(draft.pool[chosen], proposed_by, decision)

    def _is_startup(self, trial: int) -> bool:
        return trial <= self._startup

    def _unavailable(self, trial: int) -> str | None:
        """Why a decision of the ranker's is not even asked for; None where it is, or need not be."""
        if self._is_startup(trial):
            return None
        busy = "the ranker is still busy with an earlier decision"
        return busy if self._thread.is_busy else self._back_off.excuse

    def _ask(self, trial: int, known: Observations, pool: Codes) -> Future[Ranking]:
        return self._thread.rank(known, pool, self._rng(trial, "ranker"))

    def _judge(self, draft: Draft) -> tuple[RankerInfo, Ranking, str | None]:
        """Who decides, by which scores, and why it is not the search's ranker where it is not."""
        if self._is_startup(draft.trial):
            return self._score_with(RandomRanker(), draft, None)
        reason = draft.excuse or self._failure(draft)
        if reason is None and draft.scores is not None:
            self._back_off.worked()
            self._warned = False
            return self._thread.info, draft.scores.result(), None
        self._warn(reason)
        return self._score_with(EvolutionRanker(), draft, reason)

    def _failure(self, draft: Draft) -> str | None:
        """Why the ranker's scores cannot be used; None where they can."""
        assert draft.scores is not None
        error = None
        if draft.scores.done():
            error = draft.scores.exception()
            reason = f"{type(error).__name__}: {error}" if error else None
        else:
            self._thread.give_up()
            reason = f"no answer within {self.deadline:g} s"
        if reason is not None:
            is_gone = isinstance(error, (ServerError, RankerGoneError, OSError))
            self._back_off.failed(time.monotonic() - draft.begun, reason, is_gone=is_gone)
        return reason

    def _score_with(self, ranker: Ranker, draft: Draft, reason: str | None) -> tuple[RankerInfo, Ranking, str | None]:
        scores = ranker.score(draft.known, draft.pool, self._rng(draft.trial, "fallback"))
        return ranker.info, Ranking(scores), reason

    def _warn(self, reason: str | None) -> None:
        level = logging.DEBUG if self._warned else logging.WARNING
        logger.log(
            level,
            "the ranker did not decide (%s); evolution did. Shown once until it does again; `ncode status` counts them",
            reason,
        )
        self._warned = True

    def _rng(self, trial: int, use: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, trial, _STREAMS.index(use)])


def _forecast(ranking: Ranking, chosen: int, sign: float) -> dict[str, float] | None:
    """The values that were predicted for the chosen candidate, as the user's metric has them."""
    if ranking.forecasts is None:
        return None
    return dict(zip(FORECASTERS, (sign * ranking.forecasts[chosen]).tolist(), strict=True))
