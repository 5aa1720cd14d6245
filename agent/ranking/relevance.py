"""The surrogate with relevances: how much each position, and each option around it, has to do with the score.

The kernel of two codes with features u and v is ``Σ a_d u_d v_d + m exp(-½ Σ t_d (u_d - v_d)²)``: an additive part, in
which every option has an effect of its own, and a product part, in which all options act together. ``log a`` and
``log t`` are a position's plus an option's, with normal priors, and m and the noise have one each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.ranking.surrogates import Floats, Surrogate, inverse_with

_STEPS = (64,) * 10 + (128,) * 6
"""Trials that each step of the ascent looks at, the newest. More steps fit better and predict worse: where the ascent
stops is part of the prior (docs/dead-ends.md)."""
_RATE = 0.092
_ADDITIVE, _PRODUCT, _MIX, _NOISE = 0.8, 3.2, 1.35, 0.1
"""Where the ascent starts: the additive part's variance, the product's inverse squared lengths, both divided among the
positions; the product's and the noise's variance."""
_ADDITIVE_SD, _PRODUCT_SD, _MIX_SD, _NOISE_SD, _OPTION_SD = 3.1, 0.28, 0.53, 0.71, 1.16
"""Widths of the priors of their logarithms, and of an option's. All of these were chosen on validation tables."""


def fit_relevance(features: Floats, scores: Floats, group: NDArray[np.intp]) -> Surrogate:
    """Fit to trials of shapes ``(n, D)`` and ``(n,)``, where column d belongs to position ``group[d]``."""
    layout = _Layout(group)
    kernel = layout.unpack(_ascend(layout, features, scores))
    return Surrogate(kernel, kernel.noise, features, scores, scale=1.0)


@dataclass(frozen=True)
class RelevanceKernel:
    """Parameters of the kernel; D columns."""

    additive: Floats
    product: Floats
    mix: float
    noise: float

    def parts(self, a: Floats, b: Floats) -> tuple[Floats, Floats]:
        """The additive and the product part, each of shape ``(n, m)``."""
        weighted = a * self.product
        log_product = (
            weighted @ b.T - 0.5 * np.einsum("ij,ij->i", weighted, a)[:, np.newaxis] - 0.5 * b**2 @ self.product
        )
        return (a * self.additive) @ b.T, self.mix * np.exp(log_product)

    def __call__(self, a: Floats, b: Floats) -> Floats:
        additive, product = self.parts(a, b)
        return additive + product

    def prior(self, features: Floats) -> Floats:
        """The kernel of each code with itself, shape ``(m,)``."""
        variance: Floats = features**2 @ self.additive + self.mix
        return variance


class _Layout:
    """Where in the vector of logarithms each parameter is: positions' additive and product, mix, noise, options'."""

    def __init__(self, group: NDArray[np.intp]) -> None:
        self.group = group
        self.positions = int(group[-1]) + 1
        self.columns = len(group)
        start = np.concatenate([
            np.full(self.positions, np.log(_ADDITIVE / self.positions)),
            np.full(self.positions, np.log(_PRODUCT / self.positions)),
            [np.log(_MIX), np.log(_NOISE)],
            np.zeros(2 * self.columns),
        ])  # fmt: skip
        self.start = start
        self.sd = np.repeat(
            [_ADDITIVE_SD, _PRODUCT_SD, _MIX_SD, _NOISE_SD, _OPTION_SD],
            [self.positions, self.positions, 1, 1, 2 * self.columns],
        )

    def unpack(self, parameters: Floats) -> RelevanceKernel:
        additive, product, (mix, noise), options = np.split(
            parameters, [self.positions, 2 * self.positions, 2 * self.positions + 2]
        )
        return RelevanceKernel(
            np.exp(additive[self.group] + options[: self.columns]),
            np.exp(product[self.group] + options[self.columns :]),
            float(np.exp(mix)),
            float(np.exp(noise)),
        )

    def pack(self, additive: Floats, product: Floats, mix: float, noise: float) -> Floats:
        """Gradients a column, of mix and of noise, as one of all parameters."""
        sums = [np.bincount(self.group, part, self.positions) for part in (additive, product)]
        return np.concatenate([*sums, [mix, noise], additive, product])


def _ascend(layout: _Layout, features: Floats, scores: Floats) -> Floats:
    """Adam (Kingma and Ba, arXiv 1412.6980) on the log posterior."""
    parameters = layout.start.copy()
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    for step, seen in enumerate(_STEPS, 1):
        gradient = _gradient(layout, layout.unpack(parameters), features[-seen:], scores[-seen:])
        gradient -= (parameters - layout.start) / layout.sd**2
        first = 0.8 * first + 0.2 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        parameters += _RATE * (first / (1 - 0.8**step)) / (np.sqrt(second / (1 - 0.9**step)) + 1e-6)
    return parameters  # type: ignore[no-any-return]


def _gradient(layout: _Layout, kernel: RelevanceKernel, features: Floats, scores: Floats) -> Floats:
    """Of the log marginal likelihood, by the logarithm of each parameter (Rasmussen and Williams, eq. 5.9)."""
    additive, product = kernel.parts(features, features)
    inverse = inverse_with(additive + product, kernel.noise)
    weights = inverse @ scores
    outer = 0.5 * (np.outer(weights, weights) - inverse)
    through_product = outer * product
    by_additive = np.einsum("ij,ij->j", features, outer @ features) * kernel.additive
    by_product = np.einsum("ij,ij->j", features, through_product @ features) - through_product.sum(axis=1) @ features**2
    return layout.pack(
        by_additive, by_product * kernel.product, float(through_product.sum()), float(np.trace(outer)) * kernel.noise
    )
