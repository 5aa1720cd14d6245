"""How much say each predictor has: it is earned by what it predicted for the trials that were then made.

A decision writes down what the model, ridge regression and the mere middle of the history predicted for its
choice. Later decisions compare these forecasts with what came out, as Bayesian model averaging does: a predictor's
weight is its prior times the likelihood of the results under it. Where neither the model nor
ridge predicts better than the middle of the history, the say that they lose is evolution's, which predicts nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.normal_scores import NormalScores

RECENT = 32
"""Forecasts that count, the newest."""
PRIOR = np.array([0.85, 0.12, 0.03])
"""Of the model, ridge regression and the history alone, before anything is known."""
_DISCOUNT = 0.95
"""Weight of a forecast relative to the next one."""
_VARIANCE = 0.5
"""Of a forecast's error, in squared normal scores: what tells a good predictor from a bad one, after some trials."""
_WORST = 4.0
"""Squared error beyond which a surprise counts no more: one crash must not decide."""


def earned(known: Observations, scale: NormalScores) -> NDArray[np.float64]:
    """Weights of the predictors, shape ``(3,)``, of sum 1."""
    forecasts, values = known.forecasts[-4 * RECENT :], known.values[-4 * RECENT :]
    made = ~np.isnan(forecasts).any(axis=1)
    forecasts, values = forecasts[made][-RECENT:], values[made][-RECENT:]
    errors = np.minimum((scale(forecasts) - scale(values)[:, np.newaxis]) ** 2, _WORST)
    discounts = _DISCOUNT ** np.arange(len(errors) - 1, -1, -1)
    logs = np.log(PRIOR) - discounts @ errors / (2 * _VARIANCE)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())
