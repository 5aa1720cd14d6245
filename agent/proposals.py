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

from ncode_search.agent.history import Decision
from ncode_search.agent.observations import FORECASTERS, Codes, Observations
from ncode_search.agent.ranking.base import Ranker, RankerInfo, Ranking
from ncode_search.agent.ranking.baselines import EvolutionRanker, RandomRanker
from ncode_search.agent.ranking.thread import RankerThread
from ncode_search.agent.session import Chosen, Session
from ncode_search.agent.settings import RankerSettings

logger = logging.getLogger(__name__)

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
    """The ranker's answer to come; None where the ranker cannot be asked."""
    begun: float


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
        return Draft(trial, known, pool, rng.permutation(len(pool)), self._ask(trial, known, pool), begun)

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

    def _ask(self, trial: int, known: Observations, pool: Codes) -> Future[Ranking] | None:
        if self._is_startup(trial) or self._thread.is_busy:
            return None
        return self._thread.rank(known, pool, self._rng(trial, "ranker"))

    def _judge(self, draft: Draft) -> tuple[RankerInfo, Ranking, str | None]:
        """Who decides, by which scores, and why it is not the search's ranker where it is not."""
        if self._is_startup(draft.trial):
            return self._score_with(RandomRanker(), draft, None)
        reason = self._excuse(draft)
        if reason is None and draft.scores is not None:
            return self._thread.info, draft.scores.result(), None
        self._warn(reason)
        return self._score_with(EvolutionRanker(), draft, reason)

    def _excuse(self, draft: Draft) -> str | None:
        """Why the ranker's scores cannot be used; None where they can."""
        if draft.scores is None:
            return "the ranker is still busy with an earlier decision"
        if not draft.scores.done():
            self._thread.give_up()
            return f"no answer within {self.deadline:g} s"
        error = draft.scores.exception()
        return f"{type(error).__name__}: {error}" if error else None

    def _score_with(self, ranker: Ranker, draft: Draft, reason: str | None) -> tuple[RankerInfo, Ranking, str | None]:
        scores = ranker.score(draft.known, draft.pool, self._rng(draft.trial, "fallback"))
        return ranker.info, Ranking(scores), reason

    def _warn(self, reason: str | None) -> None:
        level = logging.DEBUG if self._warned else logging.WARNING
        logger.log(
            level, "the ranker did not decide (%s); evolution did. Shown once; `ncode status` counts them", reason
        )
        self._warned = True

    def _rng(self, trial: int, use: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, trial, _STREAMS.index(use)])


def _forecast(ranking: Ranking, chosen: int, sign: float) -> dict[str, float] | None:
    """The values that were predicted for the chosen candidate, as the user's metric has them."""
    if ranking.forecasts is None:
        return None
    return dict(zip(FORECASTERS, (sign * ranking.forecasts[chosen]).tolist(), strict=True))
