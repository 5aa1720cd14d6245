"""Values as normal scores by rank: what the yardsticks learn, and the unit in which predictions are judged.

A few terrible trials do not squash the differences among the good ones, as they would with means and deviations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def normal_scores(values: Values) -> Values:
    """Blom's scores of a history, shape ``(n,)``: the normal quantile of (rank - 3/8) / (n + 1/4), the mean rank for
    ties.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Values = ndtri((rankdata(values) - 0.375) / (len(values) + 0.25))
    return scores


def scores_within(history: Values, values: Values) -> Values:
    """Where `values`, shape ``(m,)``, fall among those of `history`, shape ``(n,)``, as normal scores.

    The quantile is (how many of the history are below + half of the equal ones + 1/2) / (n + 1).
    """
    from scipy.special import ndtri

    ordered = np.sort(history)
    below, up_to = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    scores: Values = ndtri(((below + up_to) / 2 + 0.5) / (len(history) + 1))
    return scores
