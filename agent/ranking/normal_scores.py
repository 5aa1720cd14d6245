"""Values as normal scores: where each stands among the trials of a history, on the scale of a standard normal.

Ranks, not values, go into every model (a Gaussian copula): a few terrible architectures would otherwise squash the
differences among the good ones. Between two trials the map is linear in the value; above the best trial it goes on
with the slope of the upper quarter, so that a clear improvement is told from a slight one.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REACH = 1.5
"""How far beyond the scores of the best and the worst trial a value may be placed."""


class NormalScores:
    """The map from values (higher is better) to normal scores that a history of n ≥ 0 trials defines."""

    def __init__(self, values: Floats) -> None:
        distinct, counts = np.unique(values, return_counts=True)
        ends = np.cumsum(counts)
        # Equal values share their mean rank; ranks are doubled so that halves stay whole.
        doubled = 2 * ends - counts + 1
        self._values = distinct
        self._scores = _quantiles(len(values))[doubled - 2] if len(values) else distinct

    @property
    def best(self) -> float:
        """The score of the best trial; 0 without a history."""
        return float(self._scores[-1]) if len(self._scores) else 0.0

    def __call__(self, values: Floats) -> Floats:
        """Scores, same shape; 0 everywhere without a history."""
        if len(self._values) == 0:
            return np.zeros(np.shape(values))
        inside = np.interp(values, self._values, self._scores)
        above = np.maximum(values - self._values[-1], 0) * self._slope(self._values, self._scores)
        below = np.maximum(self._values[0] - values, 0) * self._slope(-self._values[::-1], -self._scores[::-1])
        result: Floats = inside + np.minimum(above, REACH) - np.minimum(below, REACH)
        return result

    def inverse(self, scores: Floats) -> Floats:
        """Values of the scores, same shape, within the range of the history; a history of one trial at least."""
        result: Floats = np.interp(scores, self._scores, self._values)
        return result

    @staticmethod
    def _slope(values: Floats, scores: Floats) -> float:
        """Score a unit of value at the upper end: between the best value and that of the upper quartile."""
        quarter = min(int(np.searchsorted(scores, 0.6745)), len(values) - 2)
        if quarter < 0:
            return 0.0
        rise = values[-1] - values[quarter]
        return float((scores[-1] - scores[quarter]) / rise) if rise > 1e-300 else 0.0


@lru_cache(maxsize=64)
def _quantiles(count: int) -> Floats:
    """Blom's normal scores of the doubled ranks 2, 3, ..., 2n of n trials."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((doubled / 2 - 0.375) / (count + 0.25)) for doubled in range(2, 2 * count + 1)])
