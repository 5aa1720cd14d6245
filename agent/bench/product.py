"""The product's own search with a ranker of one's choice: pools, deduplication, scores, chance among equals.

It decides as `agent.proposals` does, without the history file, threads and deadlines. The first trials come from
uniform pools; they, and the random streams of all later ones, depend on the seed and the trial's number only, so that
all rankers start alike. Where a table says which codes are one class, only canonical codes are proposed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.bench.tasks import Task
from ncode_search.agent.bench.trials import BenchSettings
from ncode_search.agent.observations import Codes, ObservationLog, Observations
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.pruned_space import best_options, narrowed
from ncode_search.agent.ranking.base import Ranker, Ranking, ranking_of
from ncode_search.agent.ranking.baselines import EvolutionRanker, RandomRanker

_STREAMS = ("pool", "ranker", "fallback")


class ProductSearch:
    """A `Method`: `ranker`, loaded already, chooses from the product's pools."""

    def __init__(self, task: Task, ranker: Ranker, settings: BenchSettings, seed: int) -> None:
        self._task = task
        self._ranker = ranker
        self._settings = settings
        self._seed = seed
        self._candidates = CandidatePool(task.table.space, task.canonical)
        self._log = ObservationLog(len(task.table.space))
        self._trial = 0
        self._narrows_after = settings.prune_after
        self.fallbacks = 0

    def ask(self) -> NDArray[np.uint8] | None:
        """The best candidate of a new pool."""
        self._trial += 1
        known = self._log.view().forgotten() if self._is_startup else self._log.view()
        if self._narrows_after is not None and len(known) >= self._narrows_after:
            self._narrow(known, self._narrows_after)
        rng = self._rng("pool")
        pool = self._candidates.draw(known, self._settings.pool, rng)
        if not len(pool):
            return None
        ties = rng.permutation(len(pool))
        ranking = self._rank(known, pool)
        chosen = ranking.choice(ties)
        code: NDArray[np.uint8] = pool[chosen]
        self._log.begin(self._trial, code, None if ranking.forecasts is None else ranking.forecasts[chosen])
        return code

    def tell(self, code: NDArray[np.uint8], value: float | None) -> None:
        """Learn of the trial's end, and never propose its class again."""
        self._candidates.mark_seen(code[np.newaxis])
        if value is None:
            self._log.fail(self._trial)
        else:
            self._log.complete(self._trial, value)

    def close(self) -> None:
        """Let the ranker go."""
        self._ranker.close()

    @property
    def _is_startup(self) -> bool:
        return self._trial <= self._settings.startup

    def _narrow(self, known: Observations, after: int) -> None:
        space = self._task.table.space
        self._candidates.keep_to(narrowed(space, best_options(space, known, after, self._settings.keep)))
        self._narrows_after = None

    def _rank(self, known: Observations, pool: Codes) -> Ranking:
        if self._is_startup:
            return Ranking(RandomRanker().score(known, pool, self._rng("fallback")))
        try:
            return ranking_of(self._ranker, known, pool, self._rng("ranker"))
        except Exception:
            # As in a search: whatever a ranker raises, the trial goes on without it. `fallbacks` tells.
            self.fallbacks += 1
            return Ranking(EvolutionRanker().score(known, pool, self._rng("fallback")))

    def _rng(self, use: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._trial, _STREAMS.index(use)])
