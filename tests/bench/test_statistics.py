"""Statistics against slow references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ncode_search.agent.bench.statistics import (
    best_so_far,
    compare,
    mean_ranks,
    paired,
    reported_at,
    trials_to_optimum,
)
from ncode_search.agent.bench.tasks import MISSING, Task
from ncode_search.agent.bench.trials import BenchSettings, Run

from .conftest import make_run, make_task


@pytest.fixture
def task() -> Task:
    return make_task(4, 4, 4)


def some_runs(task: Task, method: str, seeds: int = 9, trials: int = 30) -> list[Run]:
    rng = np.random.default_rng(len(method))
    return [make_run(rng.integers(-1, len(task.table), trials).tolist(), method, seed) for seed in range(seeds)]


def test_best_so_far_is_the_running_maximum(task: Task) -> None:
    rows = [MISSING, 5, 3, MISSING, 40, 41, 2]
    value = task.table.values
    expected = [value.min()]
    for row in rows[1:]:
        expected.append(expected[-1] if row == MISSING else max(expected[-1], value[row]))
    assert best_so_far(task, make_run(rows), 7).tolist() == expected
    # A run that ended early keeps what it had; one without a trial, the worst.
    assert best_so_far(task, make_run(rows), 9).tolist() == [*expected, expected[-1], expected[-1]]
    assert best_so_far(task, make_run([]), 2).tolist() == [value.min()] * 2


def test_what_is_reported_belongs_to_the_best_by_the_searched_metric(task: Task) -> None:
    for budget in (1, 4, 7):
        rows = [7, MISSING, 3, 40, 41, 40, 2][:budget]
        best = max((row for row in rows if row != MISSING), key=lambda row: task.table.values[row])
        assert reported_at(task, make_run([7, MISSING, 3, 40, 41, 40, 2]), budget) == task.table.report[best]
    assert np.isnan(reported_at(task, make_run([MISSING, 3]), 1))


def test_trials_to_the_optimum(task: Task) -> None:
    best, other = int(task.table.values.argmax()), int(task.table.values.argmin())
    assert trials_to_optimum(task, make_run([MISSING, other, best, best])) == 3
    # The last row is the best one here: a missing code must not be taken for it.
    last = Task("last", make_task(2, 2).table)
    assert trials_to_optimum(last, make_run([MISSING])) == np.inf
    assert trials_to_optimum(task, make_run([MISSING, other])) == np.inf


def test_mean_ranks_by_counting() -> None:
    values = np.random.default_rng(0).integers(0, 4, (5, 7)).astype(float)
    for method in range(5):
        ranks = []
        for seed in range(7):
            better = sum(values[other, seed] > values[method, seed] for other in range(5))
            equal = sum(values[other, seed] == values[method, seed] for other in range(5))
            ranks.append(better + (equal + 1) / 2)
        assert mean_ranks(values)[method] == pytest.approx(np.mean(ranks))


def test_paired_differences_against_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=12), rng.normal(0.5, size=12)
    reference = stats.ttest_rel(one, other)
    low, high = reference.confidence_interval(0.95)
    found = paired(one - other)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx(
        ((one - other).mean(), low, high, reference.pvalue)
    )
    assert found.is_level == (reference.pvalue > 0.05)


def test_paired_differences_without_spread_and_without_pairs() -> None:
    zero = paired(np.zeros(5))
    assert (zero.low, zero.high, zero.p, zero.is_level) == (0, 0, 1, True)
    tenth = paired(np.full(3, 0.1))  # whose rounded mean is not quite 0.1
    assert tenth.low == tenth.high == pytest.approx(0.1)
    assert (tenth.p, tenth.is_level) == (0, False)
    single = paired(np.array([1.0]))
    assert (single.low, single.high, single.is_level) == (-np.inf, np.inf, True)


def test_a_comparison_of_three_methods(task: Task) -> None:
    best = int(task.table.values.argmax())
    runs = {
        "first": some_runs(task, "first"),
        "optimal": [make_run([*[best] * 4, MISSING], "optimal", seed) for seed in range(9)],
        "third": some_runs(task, "third!"),
    }
    comparison = compare(task, runs, BenchSettings(trials=30, startup=2), [1, 30])
    curves = {method: np.stack([best_so_far(task, run, 30) for run in of]) for method, of in runs.items()}
    for summary in comparison.summaries:
        for standing, at in zip(summary.standings, (0, 29), strict=True):
            values = curves[summary.method][:, at]
            assert standing.mean == pytest.approx(values.mean())
            assert standing.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
            assert standing.behind.mean == pytest.approx((curves["first"][:, at] - values).mean())
            assert standing.is_level == paired(curves["optimal"][:, at] - values).is_level
    first, optimal, third = comparison.summaries
    assert first.standings[0].behind.mean == 0
    assert optimal.standings[0].behind.high < 0  # better than the first
    assert (optimal.found, optimal.trials_to_optimum, optimal.standings[0].rank) == (1.0, 1.0, 1.0)
    assert optimal.standings[0].deviation == 0
    assert optimal.failed == pytest.approx(1 / 5)
    assert first.found == np.mean([best in run.rows for run in runs["first"]])
    behind = comparison.behind("third", "optimal", 30)
    assert behind.mean == pytest.approx(task.optimum - third.standings[1].mean)
    assert comparison.behind("optimal", "third", 30).high == pytest.approx(-behind.low)


@pytest.mark.parametrize(("missed", "median"), [(0, 2.0), (1, 2.5), (2, np.inf), (3, np.inf)])
def test_runs_that_never_find_the_optimum_count_as_infinite(task: Task, missed: int, median: float) -> None:
    best, other = int(task.table.values.argmax()), int(task.table.values.argmin())
    rows = [[best], [other, best], [other, other, best], [other, best]]
    runs = [make_run(rows[seed] if seed >= missed else [other]) for seed in range(4)]
    summary = compare(task, {"m": runs}, BenchSettings(trials=3), [3]).summaries[0]
    assert summary.trials_to_optimum == median
    assert summary.found == summary.standings[0].found == 1 - missed / 4


def test_minimised_metrics_are_shown_as_they_are_in_the_table() -> None:
    up = make_task(4, 4)
    down = Task("loss", up.table, minimize=True)
    runs = {"m": [make_run([3, 4]), make_run([5])]}
    one, other = (compare(task, runs, BenchSettings(trials=2), [2]).summaries[0].standings[0] for task in (up, down))
    assert other.mean == -one.mean
    assert other.deviation == one.deviation
