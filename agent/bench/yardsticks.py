"""Classical surrogates as rankers: what a model must beat on the same pools to have earned its place.

Both look at a history as normal scores by rank. They are made for the hundreds of trials of a bench, and refit at each
decision. Importing this module takes scikit-learn.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    Hyperparameter,
    Kernel,
    StationaryKernelMixin,
    WhiteKernel,
)
from sklearn.linear_model import RidgeCV

from ncode_search.agent.bench.normal_scores import Values, normal_scores
from ncode_search.agent.observations import Codes, Observations
from ncode_search.agent.ranking.base import RankerInfo
from ncode_search.agent.space import SearchSpace

PENALTIES = np.logspace(-2, 3, 11)
"""Among which ridge regression chooses by leaving one out."""
LEAST = 3
"""Trials below which nothing is fitted."""


@dataclass(frozen=True)
class NormalPrediction:
    """A normal distribution for each candidate, in normal scores of the history."""

    mean: Values
    """Shape ``(m,)``."""
    deviation: Values
    """Of a new trial's score, noise and all, shape ``(m,)``."""

    def log_density(self, scores: Values) -> Values:
        """The natural logarithm of the density at each candidate's true score, shape ``(m,)``."""
        density: Values = norm.logpdf(scores, self.mean, self.deviation)
        return density


class RidgeRanker:
    """Ridge regression on one-hot codes; scores are predicted means."""

    info = RankerInfo("ridge")

    def __init__(self, space: SearchSpace) -> None:
        self._encode = OneHot(space)

    def load(self) -> None:
        """Nothing to load."""

    def score(self, known: Observations, pool: Codes, rng: np.random.Generator) -> Values:
        """The predicted mean of each candidate."""
        return self.predict(known, pool, rng).mean

    def predict(self, known: Observations, pool: Codes, rng: np.random.Generator) -> NormalPrediction:
        """The predicted mean, and the deviation that leaving one out shows."""
        if len(known) < LEAST:
            return _prior(len(pool))
        model = RidgeCV(PENALTIES).fit(self._encode(known.codes), normal_scores(known.values))
        deviation = max(float(np.sqrt(-model.best_score_)), 1e-3)
        return NormalPrediction(model.predict(self._encode(pool)), np.full(len(pool), deviation))

    def close(self) -> None:
        """Nothing to free."""


class GpRanker:
    """A Gaussian process with the kernel exp(-(positions that differ) / length), amplitude, length and noise fitted by
    marginal likelihood; scores are expected improvements over the best trial.
    """

    info = RankerInfo("gp")

    def __init__(self, space: SearchSpace) -> None:
        self._encode = OneHot(space)

    def load(self) -> None:
        """Nothing to load."""

    def score(self, known: Observations, pool: Codes, rng: np.random.Generator) -> Values:
        """The expected improvement of each candidate, noise left out."""
        if len(known) < LEAST:
            return np.zeros(len(pool))
        model = self._fit(known)
        mean, deviation = model.predict(self._encode(pool), return_std=True)
        noise = model.kernel_.k2.noise_level
        latent = np.sqrt(np.maximum(deviation**2 - noise, 1e-12))
        return expected_improvement(mean, latent, float(normal_scores(known.values).max()))

    def predict(self, known: Observations, pool: Codes, rng: np.random.Generator) -> NormalPrediction:
        """The predicted distribution of a new trial, with noise."""
        if len(known) < LEAST:
            return _prior(len(pool))
        mean, deviation = self._fit(known).predict(self._encode(pool), return_std=True)
        return NormalPrediction(mean, np.maximum(deviation, 1e-3))

    def close(self) -> None:
        """Nothing to free."""

    def _fit(self, known: Observations) -> GaussianProcessRegressor:
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * HammingKernel(2.0, (1e-1, 1e2)) + WhiteKernel(0.1, (1e-5, 2.0))
        with warnings.catch_warnings():
            # A hyper-parameter at its bound, such as no noise at all, is no fault.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return GaussianProcessRegressor(kernel).fit(self._encode(known.codes), normal_scores(known.values))


def expected_improvement(mean: Values, deviation: Values, best: float) -> Values:
    """How much a normal variable is expected to exceed `best`, shape ``(m,)``."""
    above = (mean - best) / deviation
    improvement: Values = (mean - best) * norm.cdf(above) + deviation * norm.pdf(above)
    return improvement


class HammingKernel(StationaryKernelMixin, Kernel):  # type: ignore[misc]
    """exp(-d / length), d the number of positions that differ between two codes, given as one-hot rows."""

    def __init__(self, length: float = 1.0, length_bounds: tuple[float, float] = (1e-1, 1e2)) -> None:
        # scikit-learn clones kernels by these names.
        self.length = length
        self.length_bounds = length_bounds

    @property
    def hyperparameter_length(self) -> Hyperparameter:
        return Hyperparameter("length", "numeric", self.length_bounds)

    def __call__(self, X: Values, Y: Values | None = None, eval_gradient: bool = False) -> Any:
        scaled = self._distance(X, X if Y is None else Y) / self.length
        kernel = np.exp(-scaled)
        # The gradient is with respect to log(length).
        return (kernel, (kernel * scaled)[:, :, np.newaxis]) if eval_gradient else kernel

    def diag(self, X: Values) -> Values:
        return np.ones(len(X))

    def __repr__(self) -> str:
        return f"HammingKernel(length={self.length:.3g})"

    @staticmethod
    def _distance(one: Values, other: Values) -> Values:
        positions = one[:1].sum()  # one hot digit a position
        distance: Values = positions - one @ other.T
        return distance


class OneHot:
    """Codes as rows of zeros with a one a position, shape ``(n, options of all positions)``."""

    def __init__(self, space: SearchSpace) -> None:
        sizes = np.array(space.core.sizes)
        self._offsets: NDArray[np.intp] = np.cumsum(sizes) - sizes
        self._width = int(sizes.sum())

    def __call__(self, codes: Codes) -> Values:
        rows = np.zeros((len(codes), self._width))
        np.put_along_axis(rows, codes + self._offsets, 1.0, axis=1)
        return rows


def _prior(size: int) -> NormalPrediction:
    return NormalPrediction(np.zeros(size), np.ones(size))
