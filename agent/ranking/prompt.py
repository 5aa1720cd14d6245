"""The published LM-Searcher prompt (arXiv 2509.05657), as pure functions.

``code|score,`` for every past trial, best first, then ``candidate;`` for every candidate, the whole as one system
message. Scores are min-max normalised over the trials that are shown and rounded to four decimals. Unlike the
published program's, a code has one character a position, so options from 10 up stay unambiguous, and equal scores
divide by nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_TRIALS = 200
"""The longest history that the published model was trained on."""
SHUFFLES = 4
"""Orders of the pool's list whose scores are averaged, unless set otherwise."""
EQUAL_SCORE = 1.0
"""The score of trials that are all equal: the best trial always has 1.0, and here every one is the best."""

Message = dict[str, str]


def normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values`, shape ``(n,)``, min-max mapped to [0, 1]; all `EQUAL_SCORE` where they are equal."""
    if len(values) == 0:
        return np.zeros(0)
    halves = values / 2  # the difference of two finite numbers may be infinite, that of their halves is not
    low, span = halves.min(), np.ptp(halves)
    if span == 0:
        return np.full(len(values), EQUAL_SCORE)
    return np.asarray((halves - low) / span, dtype=np.float64)


def history_text(codes: Sequence[str], values: NDArray[np.float64]) -> str:
    """The past trials, in the order given (best first)."""
    scores = normalised(values)
    return "".join(f"{code}|{round(float(score), 4)}," for code, score in zip(codes, scores, strict=True))


def pool_text(codes: Sequence[str]) -> str:
    """The candidates, in the order given."""
    return "".join(f"{code};" for code in codes)


def messages(text: str, role: str = "system") -> list[Message]:
    """The prompt as a conversation of one message."""
    return [{"role": role, "content": text}]


def largest_fit(most: int, fits: Callable[[int], bool]) -> int:
    """The largest count in 0..`most` that fits, if smaller counts than a fitting one fit too; 0 is not asked about."""
    low, high = 0, most
    while low < high:
        # Nearly always everything fits: ask that first.
        middle = most if (low, high) == (0, most) else (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
