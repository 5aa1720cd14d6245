"""Classical surrogates of a score, cheap enough to fit anew for every decision: what they predict is what the language
model starts from.

All three are Gaussian processes over the same features of a code, in NumPy, and differ in their kernel. With ``S_p``
the similarity of two codes at position p (1 where they agree, less where they do not; of ordered ones also where they
are near), they are

- `fit_ridge`: ``Σ S_p``, ridge regression on one-hot codes; the penalty by leave-one-out error (Allen's PRESS);
- `fit_isotropic`: ``exp((Σ S_p − L) / length)``, a kernel of the Hamming distance; length and noise by
  marginal likelihood;
- `fit_relevance`: an additive and a product part with a relevance for every position and, around it, for every option;
  maximum a posteriori by gradient ascent (Rasmussen and Williams, Gaussian Processes for Machine Learning, ch. 5).

Scores are normal scores, so a prior mean of zero is right. Leave-one-out predictions are in closed form (ibid., 5.4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_FITTED = 96
"""Trials that penalties, lengths and noises are fitted on; predictions use all of them."""
_NEARNESS = 0.7
"""Share of an ordered position's similarity that depends on how near two options are."""
_PENALTIES = 10.0 ** np.linspace(-2, 3, 11)
_LENGTHS = (1.0, 2.0, 4.0, 8.0)
_LEAST_SCALE = 0.05
"""Variance where all scores are equal."""
_NOISES = np.array([1e-3, 1e-2, 0.05, 0.1, 0.3, 0.6, 1.0])


class Features:
    """Codes of a space as vectors whose products are the similarities S_p: one-hot, and blurred where ordered.

    Args:
        sizes: Options a position, shape ``(L,)``.
        ordered: How many of a position's options, the first ones, are in an order; 0 for none; shape ``(L,)``.
    """

    def __init__(self, sizes: Sequence[int], ordered: Sequence[int]) -> None:
        ends = np.cumsum(sizes).tolist()
        self._columns = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.group = np.repeat(np.arange(len(sizes)), sizes)
        """The position of each column, shape ``(D,)``."""
        self._blur = np.eye(len(self.group))
        for columns, count in zip(self._columns, ordered, strict=True):
            if count > 2:
                near = slice(columns.start, columns.start + count)
                self._blur[near, near] = _root_of_nearness(count)

    def __call__(self, codes: NDArray[np.uint8]) -> Floats:
        """Shape ``(n, D)`` for codes of shape ``(n, L)``."""
        # One row of the blur a position; they have disjoint columns, so their sum is their concatenation.
        rows: Floats = np.zeros((len(codes), len(self.group)))
        for position, columns in enumerate(self._columns):
            rows[:, columns] = self._blur[columns, columns][codes[:, position]]
        return rows


@dataclass(frozen=True)
class Predictions:
    """A normal distribution a code."""

    mean: Floats
    sd: Floats


Kernel = Callable[[Floats, Floats], Floats]


class Surrogate:
    """A Gaussian process given its kernel: ``scale · (kernel + noise · 1)``.

    Args:
        kernel: From features ``(n, D)`` and ``(m, D)`` to ``(n, m)``.
        noise: Variance of the noise, in units of `scale`.
        features, scores: The trials, shapes ``(n, D)`` and ``(n,)``.
        scale: Variance; None: the one of highest likelihood.
    """

    def __init__(self, kernel: Kernel, noise: float, features: Floats, scores: Floats, scale: float | None = None):
        self.kernel, self._noise = kernel, noise
        self._features, self._scores = features, scores
        matrix = kernel(features, features)
        matrix[np.diag_indices_from(matrix)] += noise
        self._inverse = np.linalg.inv(matrix)
        self._weights = self._inverse @ scores
        self._scale = max(float(scores @ self._weights) / len(scores), _LEAST_SCALE) if scale is None else scale

    def predict(self, features: Floats, prior: Floats) -> Predictions:
        """Of observations at `features`, shape ``(m, D)``; `prior` has the kernel of each with itself."""
        cross = self.kernel(features, self._features)
        variance = prior + self._noise - np.einsum("ij,ij->i", cross @ self._inverse, cross)
        return Predictions(cross @ self._weights, np.sqrt(self._scale * np.maximum(variance, 1e-6)))

    def leave_one_out(self) -> Predictions:
        """What the other trials predict for each."""
        diagonal = np.diag(self._inverse)
        return Predictions(self._scores - self._weights / diagonal, np.sqrt(self._scale / diagonal))


def fit_ridge(features: Floats, scores: Floats) -> Surrogate:
    """Ridge regression; the features are scaled by the number of positions, so that a code's kernel is about 1."""
    some = _newest(features, scores)
    values, vectors = np.linalg.eigh(some[0] @ some[0].T)
    rotated = vectors.T @ some[1]

    def press(penalty: float) -> float:
        diagonal = vectors**2 @ (1 / (values + penalty))
        return float(np.sum((vectors @ (rotated / (values + penalty)) / diagonal) ** 2))

    penalty = min(_PENALTIES, key=press)
    return Surrogate(_linear, float(penalty), features, scores)


def fit_isotropic(features: Floats, scores: Floats, positions: int) -> Surrogate:
    """One length for all positions."""
    some = _newest(features, scores)
    similarity = some[0] @ some[0].T - positions
    found = max(_profile(similarity / length, some[1], length) for length in _LENGTHS)
    length, noise = found[1:]
    return Surrogate(lambda a, b: np.exp((a @ b.T - positions) / length), noise, features, scores)


def _profile(log_kernel: Floats, scores: Floats, length: float) -> tuple[float, float, float]:
    """The highest marginal likelihood over noise and scale, with the length and the noise that have it."""
    values, vectors = np.linalg.eigh(np.exp(log_kernel))
    spectrum = np.maximum(values, 0)[:, np.newaxis] + _NOISES
    scale = np.mean((vectors.T @ scores)[:, np.newaxis] ** 2 / spectrum, axis=0)
    likelihood = -0.5 * (len(scores) * np.log(np.maximum(scale, 1e-12)) + np.log(spectrum).sum(axis=0))
    best = int(np.argmax(likelihood))
    return float(likelihood[best]), length, float(_NOISES[best])


def _linear(a: Floats, b: Floats) -> Floats:
    product: Floats = a @ b.T
    return product


def _newest(features: Floats, scores: Floats) -> tuple[Floats, Floats]:
    return features[-_MOST_FITTED:], scores[-_MOST_FITTED:]


def _root_of_nearness(size: int) -> Floats:
    at = np.arange(size)
    nearness = 1 - np.abs(at[:, np.newaxis] - at) / (size - 1)
    root: Floats = np.linalg.cholesky(_NEARNESS * nearness + (1 - _NEARNESS) * np.eye(size))
    return root
