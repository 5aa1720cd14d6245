"""Stopping trials early: which go on, by what they reported so far.

A rule is applied inside the worker when its trial reports an epoch, from what the history holds at that moment, so that
nobody waits for an answer of the agent. What it decides is in the history before it counts: a worker that is killed at
any point of it leaves a trial whose next attempt decides the same. Nothing is kept besides, so any number of workers,
on several machines or not, apply the rule alike.

`MedianRule` ends a trial for good. `AshaRule` stops a trial at a rung; the agent goes on with it, from its checkpoint,
as soon as it is among the best of the trials that came there (`rungs`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from ncode_search.agent.history import History, Objective
from ncode_search.agent.rungs import standings
from ncode_search.agent.settings import SearchSettings
from ncode_search.evaluators.base import DivergedError, Evaluator, EvaluatorError

EPOCHS = "epochs"
"""What evaluators call the number of epochs of all their trials, and spaces that of each."""
MEDIAN_STARTUP = 5
"""Trials that must have completed before the median rule stops any."""


@dataclass(frozen=True)
class Stopping:
    """How a search stops trials early, as the worker is told."""

    rule: str
    """``median`` or ``asha``."""
    sign: float
    """1 where higher values of the metric are better, -1 where lower ones are."""
    metric: str | None
    """The reported metric that is compared; None: the one that the evaluator says is its score."""
    least_epochs: int
    most_epochs: int | None
    """Epochs of a whole trial; None: as the evaluator's `epochs` say."""
    reduction: int


def stopping(settings: SearchSettings) -> dict[str, Any] | None:
    """The fields of a search's `Stopping`; None where it stops no trials."""
    if settings.stop is None:
        return None
    sign, least, most = Objective(settings.goal).sign, settings.least_epochs, settings.most_epochs
    return vars(Stopping(settings.stop, sign, settings.metric, least, most, settings.reduction))


class StopRule(Protocol):
    """Whether a trial may go on."""

    def reason_to_stop(self, history: History, trial: int, attempt: int, step: int) -> str | None:
        """Why the trial, which has reported `step` at last, is to be stopped; None where it goes on."""


class Judge:
    """A search's rule, applied to the trials of one evaluator.

    All trials are as long: a rule compares what they reported after the same epochs, and leaves alone those that have
    come to their end.

    Raises `EvaluatorError` where the rule cannot be applied.
    """

    def __init__(self, given: Stopping, evaluator: Evaluator, space: Mapping[str, Sequence[Any]]) -> None:
        if EPOCHS in space:
            raise EvaluatorError(
                f'[search] stop = "{given.rule}" compares trials of as many epochs, but [space] has a position '
                f"{EPOCHS}; take it out, or leave stop out"
            )
        self._metric, self.most_epochs = _metric(given, evaluator), _most_epochs(given, evaluator)
        """`most_epochs`: reports that a whole trial makes."""
        self._rule: StopRule = (MedianRule if given.rule == "median" else AshaRule)(given, self._metric)

    def score(self, step: int, reported: Mapping[str, Any]) -> float:
        """The metric among what was reported. Raises `LookupError` where it is missing, `DivergedError` where it is no
        finite number.
        """
        if self._metric not in reported:
            raise LookupError(f"{self._metric} is not among the reported {', '.join(reported)}; mend [search] metric")
        score = float(reported[self._metric])
        if not math.isfinite(score):
            raise DivergedError(f"{self._metric} is {score} after epoch {step}")
        return score

    def reason_to_stop(self, history: History, trial: int, attempt: int) -> str | None:
        """Why the trial is to be stopped where it stands now; None where it goes on."""
        step = last_step(history, trial)
        if not 0 < step < self.most_epochs:
            return None
        return self._rule.reason_to_stop(history, trial, attempt, step)


def _metric(given: Stopping, evaluator: Evaluator) -> str:
    metric: str | None = given.metric or getattr(evaluator, "score_metric", None)
    if metric is None:
        raise EvaluatorError("[search] metric is missing; name the reported metric that `stop` is to compare")
    reported: Sequence[str] | None = getattr(evaluator, "reported_metrics", None)
    goals: Mapping[str, str] = getattr(evaluator, "metric_goals", {})
    wanted = "maximize" if given.sign > 0 else "minimize"
    fitting = [name for name in reported or () if goals.get(name, wanted) == wanted]
    mend = f"name {' or '.join(fitting)}" if fitting else "it reports none that fits; leave stop out"
    if reported is not None and metric not in reported:
        raise EvaluatorError(f'[search] metric = "{metric}" is none that the evaluator reports; {mend}')
    if goals.get(metric, wanted) != wanted:
        better, kept = ("lower", "highest") if given.sign > 0 else ("higher", "lowest")
        raise EvaluatorError(
            f'[search] metric = "{metric}" is better the {better} it is, and goal = "{wanted}" would keep the {kept}; '
            f"{mend}"
        )
    return metric


def _most_epochs(given: Stopping, evaluator: Evaluator) -> int:
    trained: int | None = getattr(evaluator, EPOCHS, None)
    most = given.most_epochs or trained
    if most is None:
        raise EvaluatorError("[search] most_epochs is missing; say after how many epochs a trial is complete")
    if trained is not None and most != trained:
        raise EvaluatorError(
            f"[search] most_epochs = {most}: the evaluator trains for epochs = {trained}; leave most_epochs out, or "
            f"set [evaluator] epochs = {most}"
        )
    if given.least_epochs >= most:
        raise EvaluatorError(
            f"[search] least_epochs = {given.least_epochs}: must be less than the {most} of a whole trial"
        )
    return most


class MedianRule:
    """Stops a trial whose best score so far is below the median of the completed trials' mean scores by then.

    Golovin et al. 2017, "Google Vizier".
    """

    def __init__(self, given: Stopping, metric: str) -> None:
        self._sign, self._least, self._metric = given.sign, given.least_epochs, metric

    def reason_to_stop(self, history: History, trial: int, attempt: int, step: int) -> str | None:
        """See `StopRule`."""
        if step < self._least:
            return None
        means = [self._sign * mean for mean in _means(history, step)]
        if len(means) < MEDIAN_STARTUP:
            return None
        best, middle = max(self._sign * score for score in _scores(history, trial)), median(means)
        if best >= middle:
            return None
        return (
            f"stopped after epoch {step}: {self._metric} {self._sign * best:.4g}, "
            f"the median of {len(means)} trials was {self._sign * middle:.4g}"
        )


class AshaRule:
    """Asynchronous successive halving (Li et al. 2020): rungs at ``least_epochs``, and `reduction` times as many each.

    A trial's budget is the rung that it is on its way to. There it goes on at once if it is among the best
    ``1 / reduction`` of all that came there, and is stopped otherwise.
    """

    def __init__(self, given: Stopping, metric: str) -> None:
        self._sign, self._reduction, self._metric = given.sign, given.reduction, metric

    def reason_to_stop(self, history: History, trial: int, attempt: int, step: int) -> str | None:
        """See `StopRule`. A trial that goes on has its next budget after this."""
        budget = history.trial(trial).budget
        while budget is not None and step >= budget:
            came = standings(history, budget, self._sign)
            if trial not in came[: len(came) // self._reduction]:
                share = f"1/{self._reduction} of {len(came)} trials"
                return f"stopped after epoch {step}: {self._metric} was not among the best {share} at epoch {budget}"
            budget *= self._reduction
            history.grant(trial, attempt, budget)
        return None


def last_step(history: History, trial: int) -> int:
    """The last epoch that any attempt at the trial reported a score for; 0 where none did."""
    query = "SELECT coalesce(max(step), 0) FROM epochs WHERE trial = ? AND score IS NOT NULL"
    return int(history.db.conn.execute(query, [trial]).fetchone()[0])


def stopped(history: History) -> list[tuple[int, str, float]]:
    """Number, canonical code and last score of the trials that were pruned with one, the first of them first."""
    rows = history.db.conn.execute(
        f"SELECT id, canonical, {_LAST_SCORE} AS last FROM trials WHERE state = 'pruned' AND last IS NOT NULL "
        "ORDER BY finished_at, id"
    )
    return list(rows)


def last_score(history: History, trial: int) -> float | None:
    """What a trial scored in the last epoch that it reported; None where it reported no score."""
    score: float | None = history.db.conn.execute(f"SELECT {_LAST_SCORE} FROM trials WHERE id = ?", [trial]).fetchone()[
        0
    ]
    return score


_LAST_SCORE = (
    "(SELECT score FROM epochs WHERE trial = trials.id AND score IS NOT NULL ORDER BY step DESC, attempt DESC LIMIT 1)"
)


def _scores(history: History, trial: int) -> list[float]:
    query = "SELECT score FROM epochs WHERE trial = ? AND score IS NOT NULL"
    return [row[0] for row in history.db.conn.execute(query, [trial])]


def _means(history: History, step: int) -> list[float]:
    """The mean score of each completed trial up to an epoch."""
    query = (
        "SELECT avg(score) FROM epochs JOIN trials ON trials.id = epochs.trial "
        "WHERE state = 'complete' AND step <= ? AND score IS NOT NULL GROUP BY trial"
    )
    return [row[0] for row in history.db.conn.execute(query, [step])]
