"""The contract of a ranker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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


class Ranker(Protocol):
    """Scores a pool of candidate codes against what is known.

    A ranker is used by one thread at a time, the same thread from `load` to `close`. It keeps no state between calls
    that changes its answer: the same arguments give the same scores, so that a resumed search decides as an
    uninterrupted one.

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
