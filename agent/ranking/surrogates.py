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
_LARGEST_BLOCK = 64
"""Rows of a matrix that is inverted in one piece."""
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
        self._blurs = [_blur(size, count) for size, count in zip(sizes, ordered, strict=True)]

    def __call__(self, codes: NDArray[np.uint8]) -> Floats:
        """Shape ``(n, D)`` for codes of shape ``(n, L)``."""
        rows: Floats = np.zeros((len(codes), len(self.group)))
        for column, columns, blur in zip(codes.T, self._columns, self._blurs, strict=True):
            rows[:, columns] = blur[column]
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
        inverse: Of ``kernel + noise · 1`` between the trials, where it is known already, shape ``(n, n)``.
    """

    def __init__(
        self,
        kernel: Kernel,
        noise: float,
        features: Floats,
        scores: Floats,
        scale: float | None = None,
        inverse: Floats | None = None,
    ) -> None:
        self.kernel, self._noise = kernel, noise
        self._features, self._scores = features, scores
        self._inverse = inverse_with(kernel(features, features), noise) if inverse is None else inverse
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
    seen, known = _newest(features, scores)
    # The hat matrix is H = R diag(1 / (values + penalty)) R', and a left-out residual (y - Hy) / (1 - diag H).
    rotated, values = _rotated(seen)
    shares = 1 / (values[:, np.newaxis] + _PENALTIES)
    fitted = rotated @ (shares * (rotated.T @ known)[:, np.newaxis])
    left_out = (known[:, np.newaxis] - fitted) / (1 - rotated**2 @ shares)
    penalty = _PENALTIES[np.argmin((left_out**2).sum(axis=0))]
    is_tall = features.shape[0] > features.shape[1]
    inverse = _woodbury(features, float(penalty)) if is_tall else None
    return Surrogate(_linear, float(penalty), features, scores, inverse=inverse)


def _rotated(features: Floats) -> tuple[Floats, Floats]:
    """Features with orthogonal columns and the same products, and these columns' squared lengths; by the eigenvectors
    of whichever side is shorter.
    """
    if features.shape[0] > features.shape[1]:
        values, vectors = np.linalg.eigh(features.T @ features)
        return features @ vectors, np.maximum(values, 0)
    values, vectors = np.linalg.eigh(features @ features.T)
    return vectors * np.sqrt(np.maximum(values, 0)), np.maximum(values, 0)


def _woodbury(features: Floats, penalty: float) -> Floats:
    """The inverse of ``F F' + penalty · 1`` by one of as many rows as there are columns, which are fewer."""
    inner = np.linalg.inv(features.T @ features + penalty * np.eye(features.shape[1]))
    inverse: Floats = (np.eye(len(features)) - features @ inner @ features.T) / penalty
    return inverse


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


def inverse_with(matrix: Floats, noise: float) -> Floats:
    """The inverse of a symmetric matrix with so much more on its diagonal, which it gets."""
    matrix[np.diag_indices_from(matrix)] += noise
    return _inverse(matrix)


def _inverse(matrix: Floats) -> Floats:
    """Of a symmetric positive definite matrix, by blocks (Rasmussen and Williams, eq. A.12): half the time of LAPACK's
    for any matrix, since most of it is products.
    """
    if len(matrix) <= _LARGEST_BLOCK:
        return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    half = len(matrix) // 2
    first, across = _inverse(matrix[:half, :half]), matrix[:half, half:]
    through = first @ across
    last = _inverse(matrix[half:, half:] - across.T @ through)
    corner = through @ last
    inverse = np.empty_like(matrix)
    inverse[:half, :half] = first + corner @ through.T
    inverse[:half, half:] = -corner
    inverse[half:, :half] = -corner.T
    inverse[half:, half:] = last
    return inverse


def _linear(a: Floats, b: Floats) -> Floats:
    product: Floats = a @ b.T
    return product


def _newest(features: Floats, scores: Floats) -> tuple[Floats, Floats]:
    return features[-_MOST_FITTED:], scores[-_MOST_FITTED:]


def _blur(size: int, ordered: int) -> Floats:
    """The features of a position's options, shape ``(size, size)``; the first `ordered` of them are in an order."""
    blur = np.eye(size)
    if ordered > 2:
        blur[:ordered, :ordered] = _root_of_nearness(ordered)
    return blur


def _root_of_nearness(size: int) -> Floats:
    at = np.arange(size)
    nearness = 1 - np.abs(at[:, np.newaxis] - at) / (size - 1)
    root: Floats = np.linalg.cholesky(_NEARNESS * nearness + (1 - _NEARNESS) * np.eye(size))
    return root
