"""A ranker whose model is a file, which may be gone or damaged for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError, RankerGoneError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.base import Ranker, RankerInfo, Ranking, ranking_of


class AwaitedRanker:
    """The ranker that `make` makes; while that or its `load` fails, every decision tries it again."""

    def __init__(self, name: str, make: Callable[[], Ranker]) -> None:
        self.stop = threading.Event()
        """Set by another thread, see `Ranker`."""
        self._make = make
        self._info = RankerInfo(name, None)
        self._ranker: Ranker | None = None

    @property
    def info(self) -> RankerInfo:
        """Who ranks."""
        return self._info if self._ranker is None else self._ranker.info

    def load(self) -> None:
        """Make and load it. Raises `RankerGoneError` where its file cannot be used."""
        self._loaded()

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
        """See `Ranker`."""
        return self.rank(known, pool, rng).scores

    def rank(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> Ranking:
        """See `Ranker`."""
        return ranking_of(self._loaded(), known, pool, rng)

    def close(self) -> None:
        """Free the model. May be called twice."""
        if self._ranker is not None:
            self._ranker.close()
        self._ranker = None

    def _loaded(self) -> Ranker:
        if self._ranker is None:
            try:
                self._ranker = self._new()
            except (InputError, OSError) as error:
                raise RankerGoneError(str(error)) from error
        return self._ranker

    def _new(self) -> Ranker:
        ranker = self._make()
        if hasattr(ranker, "stop"):
            ranker.stop = self.stop
        ranker.load()
        return ranker
