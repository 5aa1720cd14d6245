"""Rankers without a model: the yardstick, and what decides while a model cannot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.base import RankerInfo


class RandomRanker:
    """Scores at random: the search becomes a random one over whatever the pool offers."""

    info = RankerInfo("random")

    def load(self) -> None:
        """Nothing to load."""

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
        """One uniform number from [0, 1) a candidate."""
        return rng.random(len(pool))

    def close(self) -> None:
        """Nothing to free."""


class EvolutionRanker:
    """Regularized evolution (Real et al., AAAI 2019, arXiv 1802.01548), as a ranking.

    The population is the newest trials: the oldest dies, not the worst. A tournament picks the parent, and the
    candidates nearest to it come first: those one mutation away, then two, and so on. Chance decides among equals.
    """

    info = RankerInfo("evolution")

    def __init__(self, population: int = 10, sample: int = 3) -> None:
        """`population`: how many of the newest trials live; `sample`: how many of them a tournament draws.

        The paper has 100 and 25 for tens of thousands of trials; 10 and 3 reached its published results within 192.
        """
        if population < 1 or sample < 1:
            raise ValueError("population and sample must be at least 1")
        self._population = population
        self._sample = sample

    def load(self) -> None:
        """Nothing to load."""

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
        """Minus the number of positions that differ from the parent, plus a tie break from [0, 1).

        The parent itself, which is no mutation, comes last. Without a history every candidate is as good.
        """
        ties = rng.random(len(pool))
        if len(known) == 0:
            return ties
        distance = np.count_nonzero(pool != self._parent(known, rng), axis=1)
        scores: NDArray[np.float64] = ties - np.where(distance == 0, pool.shape[1] + 1, distance)
        return scores

    def close(self) -> None:
        """Nothing to free."""

    def _parent(self, known: Observations, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The best of `sample` trials drawn from the population, with replacement as in the paper, shape ``(L,)``."""
        oldest = max(len(known) - self._population, 0)
        drawn = rng.integers(oldest, len(known), size=self._sample)
        parent: NDArray[np.uint8] = known.codes[drawn[np.argmax(known.values[drawn])]]
        return parent
