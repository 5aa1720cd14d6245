"""Ridge regression and the Gaussian process against direct formulas."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from ncode_search.agent.bench.normal_scores import normal_scores, scores_within
from ncode_search.agent.bench.yardsticks import (
    PENALTIES,
    GpRanker,
    HammingKernel,
    NormalPrediction,
    OneHot,
    RidgeRanker,
    expected_improvement,
)
from ncode_search.agent.observations import Observations
from ncode_search.agent.space import SearchSpace

from .conftest import make_task

Values = NDArray[np.float64]
RNG = np.random.default_rng(0)


@pytest.fixture
def space() -> SearchSpace:
    return make_task(3, 4, 2, 3).table.space


def known_trials(space: SearchSpace, count: int, seed: int = 0) -> Observations:
    table = make_task(3, 4, 2, 3, noise=0.2).table
    rows = np.random.default_rng(seed).permutation(len(table))[:count]
    return Observations(table.codes[rows], np.round(table.values[rows], 1), table.codes[:0], table.codes[:0])


def test_normal_scores_by_hand() -> None:
    values = [3.0, 1.0, 3.0, 9.0, -2.0]
    ranks = [3.5, 2, 3.5, 5, 1]
    expected = [NormalDist().inv_cdf((rank - 3 / 8) / 5.25) for rank in ranks]
    assert normal_scores(np.array(values)) == pytest.approx(expected)


def test_scores_within_a_history_by_counting() -> None:
    history, values = np.array([3.0, 1.0, 3.0, 9.0, -2.0]), np.array([-5.0, 1.0, 2.0, 3.0, 99.0])
    expected = []
    for value in values:
        below, equal = sum(history < value), sum(history == value)
        expected.append(NormalDist().inv_cdf((below + 0.5 * equal + 0.5) / 6))
    assert scores_within(history, values) == pytest.approx(expected)


def test_one_hot(space: SearchSpace) -> None:
    codes = space.core.sample(10, seed=1)
    for row, code in zip(OneHot(space)(codes), codes, strict=True):
        assert row.tolist() == [
            float(code[at] == digit) for at, size in enumerate((3, 4, 2, 3)) for digit in range(size)
        ]


def ridge(features: Values, scores: Values, penalty: float, at: Values) -> Values:
    centre = features.mean(axis=0)
    centred = features - centre
    weights = np.linalg.solve(centred.T @ centred + penalty * np.eye(features.shape[1]), centred.T @ scores)
    answer: Values = scores.mean() + (at - centre) @ weights
    return answer


def test_ridge_is_ridge_with_the_penalty_that_leaves_one_out_best(space: SearchSpace) -> None:
    known, pool = known_trials(space, 20), space.core.sample(30, seed=2)
    features, scores = OneHot(space)(known.codes), normal_scores(known.values)
    errors = []
    for penalty in PENALTIES:
        left = [np.arange(20) != at for at in range(20)]
        errors.append(
            [ridge(features[keep], scores[keep], penalty, features[~keep])[0] - scores[~keep][0] for keep in left]
        )
    best = int(np.argmin(np.square(errors).mean(axis=1)))
    expected = ridge(features, scores, PENALTIES[best], OneHot(space)(pool))
    prediction = RidgeRanker(space).predict(known, pool, RNG)
    assert prediction.mean == pytest.approx(expected)
    assert RidgeRanker(space).score(known, pool, RNG) == pytest.approx(expected)
    assert prediction.deviation == pytest.approx(np.sqrt(np.square(errors[best]).mean()))


def hamming(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Values:
    return np.array([[float(sum(a != b)) for b in other] for a in one])


def test_the_kernel_and_its_gradient(space: SearchSpace) -> None:
    codes, kernel = space.core.sample(8, seed=3), HammingKernel(1.7)
    rows = OneHot(space)(codes)
    value, gradient = kernel(rows, eval_gradient=True)
    assert value == pytest.approx(np.exp(-hamming(codes, codes) / 1.7))
    assert kernel(rows, rows[:3]) == pytest.approx(value[:, :3])
    assert kernel.diag(rows) == pytest.approx(np.diag(value))
    step = 1e-6
    up, down = (HammingKernel(1.7 * np.exp(sign * step))(rows) for sign in (1, -1))
    assert gradient[:, :, 0] == pytest.approx((up - down) / (2 * step), abs=1e-6)


def gaussian_process(known: Observations, pool: NDArray[np.uint8]) -> tuple[Values, Values, float]:
    """Mean, variance without noise and noise at the maximum of the marginal likelihood, written out."""
    scores, distance = normal_scores(known.values), hamming(known.codes, known.codes)

    def covariance(theta: Values) -> Values:
        answer: Values = np.exp(theta[0] - distance / np.exp(theta[1])) + np.exp(theta[2]) * np.eye(len(scores))
        return answer

    def loss(theta: Values) -> float:
        matrix = covariance(theta)
        return float(scores @ np.linalg.solve(matrix, scores) + np.linalg.slogdet(matrix)[1])

    bounds = np.log([(1e-2, 1e2), (1e-1, 1e2), (1e-5, 2.0)])
    theta = minimize(loss, np.log([1.0, 2.0, 0.1]), method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12}).x
    across = np.exp(theta[0] - hamming(pool, known.codes) / np.exp(theta[1]))
    solved = np.linalg.solve(covariance(theta), across.T)
    variance = np.exp(theta[0]) - np.einsum("ij,ji->i", across, solved)
    return across @ np.linalg.solve(covariance(theta), scores), variance, float(np.exp(theta[2]))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gaussian_process_is_one(space: SearchSpace, seed: int) -> None:
    known, pool = known_trials(space, 25, seed), space.core.sample(30, seed=2)
    mean, variance, noise = gaussian_process(known, pool)
    prediction = GpRanker(space).predict(known, pool, RNG)
    assert prediction.mean == pytest.approx(mean, abs=0.01)
    assert prediction.deviation == pytest.approx(np.sqrt(variance + noise), abs=0.01)
    improvement = expected_improvement(mean, np.sqrt(variance), normal_scores(known.values).max())
    assert GpRanker(space).score(known, pool, RNG) == pytest.approx(improvement, abs=0.01)


def test_expected_improvement_is_the_integral() -> None:
    draws = np.random.default_rng(0).normal(size=400_000)
    for mean, deviation, best in [(0.0, 1.0, 0.5), (1.0, 0.3, 0.5), (-1.0, 0.7, 0.5)]:
        integral = np.maximum(mean + deviation * draws - best, 0).mean()
        found = expected_improvement(np.array([mean]), np.array([deviation]), best)
        assert found == pytest.approx([integral], abs=3e-3)


def test_log_density_is_the_normal_one() -> None:
    prediction = NormalPrediction(np.array([0.5, -1.0]), np.array([2.0, 0.1]))
    expected = [np.log(NormalDist(0.5, 2.0).pdf(1.0)), np.log(NormalDist(-1.0, 0.1).pdf(-1.1))]
    assert prediction.log_density(np.array([1.0, -1.1])) == pytest.approx(expected)


@pytest.mark.parametrize("make", [RidgeRanker, GpRanker])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_short_and_level_histories(space: SearchSpace, make: type[RidgeRanker] | type[GpRanker], count: int) -> None:
    known, pool = known_trials(space, count), space.core.sample(4, seed=2)
    level = Observations(known.codes, np.ones(count), known.pending, known.failed)
    for trials in (known, level):
        scores = make(space).score(trials, pool, RNG)
        assert scores.shape == (4,)
        assert np.isfinite(scores).all()
        assert np.isfinite(make(space).predict(trials, pool[:1], RNG).log_density(np.zeros(1))).all()
