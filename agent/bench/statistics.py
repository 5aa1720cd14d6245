"""What the runs of several methods on one task say.

The *best so far* of a run is the best value that it has evaluated, on the searched metric; what is reported is the
other column's number for that same trial. Until a trial completes, a run has the worst value of the table; a run that
ended early keeps its last. Methods are compared seed by seed: intervals are Student's t intervals of the mean paired
difference, 95% of the time around the true one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.bench.tasks import MISSING, Task
from ncode_search.agent.bench.trials import BenchSettings, Run

Values = NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences."""

    mean: float
    low: float
    """The interval's lower end; minus infinity where there is one pair only."""
    high: float
    p: float
    """Of the paired t test; NaN where there is one pair only."""

    @property
    def is_level(self) -> bool:
        """No difference is shown."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Standing:
    """How a method stands after `budget` trials. Values are the table's own numbers."""

    budget: int
    mean: float
    """Of the best so far over the seeds."""
    deviation: float
    """Sample standard deviation over the seeds; 0 for one seed."""
    rank: float
    """Mean over the seeds of the method's rank among all methods, 1 is best, equals share the mean of their ranks."""
    reported: float
    """Mean of the reported metric of the best trial."""
    reported_deviation: float
    behind: Difference
    """How far the method is behind the first one; above 0: the first one is better. All 0 for the first one."""
    is_level: bool
    """Best of all by the mean, or not shown to be behind the one that is."""
    found: float
    """Share of the runs that have evaluated a code of the table's best value."""


@dataclass(frozen=True)
class Summary:
    """A method on a task."""

    method: str
    standings: Sequence[Standing]
    trials_to_optimum: float
    """Median over the runs, infinite where half of the runs or more never found it."""
    found: float
    """Share of the runs that found it."""
    repeats: float
    """Share of the trials whose code was evaluated before."""
    twins: float
    """Share of the trials whose class was evaluated before, repeats among them."""
    failed: float
    """Share of the trials that failed."""
    seconds: float
    """Median of a decision after the startup trials."""
    fallbacks: float
    """Share of the trials that another ranker chose, because the method's own failed."""


@dataclass(frozen=True)
class Comparison:
    """All methods on one task."""

    task: Task
    seeds: int
    summaries: Sequence[Summary]
    best: Mapping[str, Values]
    """Of each method: the best so far, higher is better, shape ``(seeds, trials)``."""
    budgets: Sequence[int]

    def behind(self, method: str, other: str, budget: int) -> Difference:
        """How far `method` is behind `other`; above 0: `other` is better."""
        return paired(self.best[other][:, budget - 1] - self.best[method][:, budget - 1])


def compare(
    task: Task, runs: Mapping[str, Sequence[Run]], settings: BenchSettings, budgets: Sequence[int]
) -> Comparison:
    """Summarise the runs of each method; the first method is who the others are compared with."""
    curves = {method: np.stack([best_so_far(task, run, settings.trials) for run in of]) for method, of in runs.items()}
    standings = _standings(task, runs, curves, budgets)
    summaries = [_summary(method, task, runs[method], settings, standings[method]) for method in runs]
    return Comparison(task, len(next(iter(runs.values()))), summaries, curves, budgets)


def best_so_far(task: Task, run: Run, trials: int) -> Values:
    """The best value after each of `trials` trials, shape ``(trials,)``."""
    values = np.where(run.rows == MISSING, task.worst, task.table.values[run.rows])
    curve = np.full(trials, task.worst)
    curve[: len(values)] = np.maximum.accumulate(values)
    if len(values):
        curve[len(values) :] = curve[len(values) - 1]
    return curve


def reported_at(task: Task, run: Run, budget: int) -> float:
    """The reported metric of the best of the first `budget` trials, the oldest one among equals; NaN if all failed."""
    rows = run.rows[:budget]
    rows = rows[rows != MISSING]
    return float(task.table.report[rows[np.argmax(task.table.values[rows])]]) if len(rows) else float("nan")


def trials_to_optimum(task: Task, run: Run) -> float:
    """The number of the first trial that evaluated a best code; infinite where none did."""
    hits = np.flatnonzero((run.rows != MISSING) & (task.table.values[run.rows] == task.optimum))
    return float(hits[0] + 1) if len(hits) else float("inf")


def paired(differences: Values) -> Difference:
    """The mean of paired differences with its t interval."""
    from scipy.special import stdtr, stdtrit

    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Difference(mean, -math.inf, math.inf, math.nan)
    error = _deviation(differences) / math.sqrt(count)
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return Difference(mean, mean - reach, mean + reach, float(2 * stdtr(count - 1, -abs(mean) / error)))


def mean_ranks(values: Values) -> Values:
    """The mean rank of each method, shape ``(k,)``, from values of shape ``(k, seeds)``; the highest has rank 1."""
    from scipy.stats import rankdata

    ranks: Values = rankdata(-values, axis=0).mean(axis=1)
    return ranks


def _standings(
    task: Task, runs: Mapping[str, Sequence[Run]], curves: Mapping[str, Values], budgets: Sequence[int]
) -> dict[str, list[Standing]]:
    standings: dict[str, list[Standing]] = {method: [] for method in runs}
    for budget in budgets:
        values = np.stack([curve[:, budget - 1] for curve in curves.values()])
        best = values[values.mean(axis=1).argmax()]
        for method, own, rank in zip(runs, values, mean_ranks(values), strict=True):
            behind, level = paired(values[0] - own), paired(best - own).is_level
            standings[method].append(_standing(task, runs[method], budget, own, float(rank), behind, level))
    return standings


def _standing(
    task: Task, runs: Sequence[Run], budget: int, values: Values, rank: float, behind: Difference, is_level: bool
) -> Standing:
    reported = np.array([reported_at(task, run, budget) for run in runs])
    return Standing(
        budget=budget,
        mean=task.sign * float(values.mean()),
        deviation=_deviation(values),
        rank=rank,
        reported=float(reported.mean()),
        reported_deviation=_deviation(reported),
        behind=behind,
        is_level=is_level,
        found=_share([trials_to_optimum(task, run) <= budget for run in runs]),
    )


def _summary(
    method: str, task: Task, runs: Sequence[Run], settings: BenchSettings, standings: Sequence[Standing]
) -> Summary:
    optima = np.array([trials_to_optimum(task, run) for run in runs])
    seconds = np.concatenate([run.seconds[settings.startup :] for run in runs])
    trials = max(sum(len(run.rows) for run in runs), 1)
    return Summary(
        method=method,
        standings=standings,
        trials_to_optimum=_median(optima),
        found=_share(np.isfinite(optima)),
        repeats=sum(int(run.repeats.sum()) for run in runs) / trials,
        twins=sum(int(run.twins.sum()) for run in runs) / trials,
        failed=sum(int((run.rows == MISSING).sum()) for run in runs) / trials,
        seconds=float(np.median(seconds)) if len(seconds) else float("nan"),
        fallbacks=sum(run.fallbacks for run in runs) / trials,
    )


def _median(values: Values) -> float:
    """As `np.median`, without the NaN that the mean of two infinities would be."""
    ordered = np.sort(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low if low == high else (low + high) / 2)


def _deviation(values: Values) -> float:
    """Of the sample; exactly 0 for equal values, whose rounded mean may differ from them."""
    return 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1))


def _share(hits: Sequence[bool] | NDArray[np.bool_]) -> float:
    return float(np.mean(hits))
