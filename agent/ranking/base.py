"""The contract of a ranker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core
from ncode_search.agent.observations import Observations


@dataclass(frozen=True)
class RankerInfo:
    """Who ranks, as it is written into every decision."""

    name: str
    """Short name, such as ``llama`` or ``evolution``."""
    model: str | None = None
    """Path of the model file, or address of the server and name of the model there, where there is one."""
    digest: str | None = None
    """SHA-256 of the model file, in hexadecimal."""


class CodeText(Protocol):
    """What a ranker that reads text needs of a search space."""

    def to_text(self, codes: NDArray[np.uint8]) -> list[str]:
        """Codes of shape ``(n, L)`` as text, one character a position."""


class ChoiceSpace(CodeText, Protocol):
    """What a ranker that reads codes as choices needs of a search space."""

    @property
    def core(self) -> _core.Space:
        """Sizes of the positions."""

    @property
    def ordered(self) -> tuple[bool, ...]:
        """Which positions have options in an order."""

    @property
    def conditional(self) -> tuple[bool, ...]:
        """Which positions matter in some codes only."""

    def active(self, codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which positions of codes of shape ``(n, L)`` matter, of the same shape."""


@dataclass(frozen=True)
class Ranking:
    """A ranker's answer for m candidates."""

    scores: NDArray[np.float64]
    """Higher is better, finite, shape ``(m,)``."""
    forecasts: NDArray[np.float64] | None = None
    """What each of `FORECASTERS` predicts, oriented as the history's values are, shape ``(m, 3)``; None: nothing."""
    trust: Mapping[str, float] | None = None
    """The say that each of `FORECASTERS` has earned."""
    decided_by: str | None = None
    """Who decided, where it was not the ranker itself, which chose not to."""

    def choice(self, ties: NDArray[np.intp]) -> int:
        """The candidate with the highest score; `ties`, a permutation of the candidates, decides among equals."""
        return int(np.lexsort((ties, -self.scores))[0])


class Ranker(Protocol):
    """Scores a pool of candidate codes against what is known.

    A ranker is used by one thread at a time, the same thread from `load` to `close`. It keeps no state between calls
    that changes its answer: the same arguments give the same scores, so that a resumed search decides as an
    uninterrupted one.

    A ranker that predicts values may have a method ``rank`` with the arguments of `score`, which gives a `Ranking`;
    it is called instead. What it predicts for the candidate that is chosen comes back in ``known.forecasts``.

    A slow ranker may have an attribute ``stop``, a `threading.Event`: set by another thread, it makes a call of
    `score` that nobody waits for any more end early with an exception. It is cleared before the next call.
    """

    @property
    def info(self) -> RankerInfo:
        """Who ranks. Complete after `load`."""

    def load(self) -> None:
        """Make ready to score; may take seconds.

        Raises `InputError` where the user's settings or files are wrong.
        """

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
        """One finite number a candidate, shape ``(m,)``, higher is better, for a pool of shape ``(m, L)``, m ≥ 1.

        Must accept an empty history, a single trial, equal values and a pool of one. Any random choice comes from
        `rng`. Any exception makes the search decide by another ranker for this trial.
        """

    def close(self) -> None:
        """Free what `load` took."""


def ranking_of(ranker: Ranker, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> Ranking:
    """The ranker's checked answer. Raises whatever the ranker raises, ValueError where the answer is none."""
    rank = getattr(ranker, "rank", None)
    ranking: Ranking = rank(known, pool, rng) if rank else Ranking(ranker.score(known, pool, rng))
    scores = np.asarray(ranking.scores, dtype=np.float64)
    if scores.shape != (len(pool),):
        raise ValueError(f"the ranker gave scores of shape {scores.shape} for a pool of {len(pool)}")
    if not np.isfinite(scores).all():
        raise ValueError("the ranker gave a score that is no finite number")
    return replace(ranking, scores=scores)
