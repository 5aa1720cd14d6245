"""The rules by which trials are stopped early and gone on with, alone; searches: see `test_early_stopping.py`."""

from pathlib import Path
from statistics import mean, median
from typing import ClassVar

import numpy as np
import pytest

from ncode_search.agent.fidelity import AshaRule, Judge, MedianRule, Stopping
from ncode_search.agent.history import History, Objective
from ncode_search.evaluators.base import DivergedError, EvaluatorError
from tests.agent.reported import run


@pytest.fixture
def history(tmp_path: Path) -> History:
    with History.open(tmp_path / "rules.db", {"a": [0]}, Objective()) as opened:
        yield opened


def stopping(**changes) -> Stopping:
    usual = {"rule": "asha", "sign": 1.0, "metric": "m", "least_epochs": 1, "most_epochs": 9, "reduction": 3}
    return Stopping(**{**usual, **changes})


def test_asha_stops_all_but_the_best_third_of_those_that_came(history: History) -> None:
    rule = AshaRule(stopping(), "m")
    said = {}
    for trial, score in enumerate([0.5, 0.4, 0.6, 0.3, 0.2, 0.55, 0.1], start=1):
        run(history, trial, [score])
        said[trial] = rule.reason_to_stop(history, trial, 1, 1)
    assert [trial for trial, reason in said.items() if reason is None] == [3, 6]
    assert said[1] == "stopped after epoch 1: m was not among the best 1/3 of 1 trials at epoch 1"
    assert [history.trial(trial).budget for trial in (3, 4)] == [3, 1]


def test_a_trial_between_rungs_goes_on_and_one_that_reports_seldom_passes_several_at_once(history: History) -> None:
    rule = AshaRule(stopping(), "m")
    for trial in (1, 2, 3):
        run(history, trial, [0.1 * trial] * 3)
    assert rule.reason_to_stop(history, 3, 1, 3) is None
    assert history.trial(3).budget == 9
    assert rule.reason_to_stop(history, 3, 1, 4) is None
    assert rule.reason_to_stop(history, 2, 1, 3) is not None


def test_the_median_rule_is_that_of_plain_statistics(history: History) -> None:
    rng = np.random.default_rng(1)
    rule = MedianRule(stopping(rule="median", least_epochs=2), "m")
    done: list[list[float]] = []
    for trial in range(1, 30):
        scores = rng.random(4).round(2).tolist()
        run(history, trial, scores)
        for step in range(1, 5):
            means = [mean(own[:step]) for own in done]
            stops = step >= 2 and len(means) >= 5 and max(scores) < median(means)
            assert (rule.reason_to_stop(history, trial, 1, step) is not None) == stops
        history.complete(trial, 1, 0.0)
        done.append(scores)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": None}, r"\[search\] metric is missing"),
        ({"most_epochs": None}, r"\[search\] most_epochs is missing"),
        ({"least_epochs": 9}, r"\[search\] least_epochs = 9: must be less than the 9 of a whole trial"),
    ],
)
def test_what_a_rule_lacks_is_named(changes, said: str) -> None:
    with pytest.raises(EvaluatorError, match=said):
        Judge(stopping(**changes), lambda config, context: 0.0, {})


class FourEpochs:
    score_metric, reported_metrics, epochs = "loss", ("loss", "other"), 4

    def __call__(self, config, context) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("changes", "space", "said"),
    [
        ({}, {}, r"\[search\] most_epochs = 9: the evaluator trains for epochs = 4; leave most_epochs out, or set"),
        ({"most_epochs": None}, {"epochs": [2, 4]}, r'stop = "asha" compares .*\[space\] has a position epochs; take'),
        ({"metric": "nope"}, {}, r'metric = "nope" is none that the evaluator reports; name loss or other'),
    ],
)
def test_what_does_not_fit_the_evaluator_is_refused(changes, space, said: str) -> None:
    with pytest.raises(EvaluatorError, match=said):
        Judge(stopping(**{"metric": None, **changes}), FourEpochs(), space)


class Directed(FourEpochs):
    metric_goals: ClassVar = {"loss": "minimize"}


def test_a_metric_of_the_other_direction_is_refused() -> None:
    said = r'metric = "loss" is better the lower it is, and goal = "maximize" would keep the highest; name other$'
    with pytest.raises(EvaluatorError, match=said):
        Judge(stopping(metric="loss", most_epochs=None), Directed(), {})
    with pytest.raises(EvaluatorError, match='"nope" is none that the evaluator reports; name other$'):
        Judge(stopping(metric="nope", most_epochs=None), Directed(), {})
    Judge(stopping(metric="loss", most_epochs=None, sign=-1.0), Directed(), {})
    Judge(stopping(metric="other", most_epochs=None), Directed(), {})


def test_a_rule_takes_what_the_evaluator_says(history: History) -> None:
    judge = Judge(stopping(metric=None, most_epochs=None), FourEpochs(), {})
    assert judge.score(1, {"loss": 2, "other": 1}) == 2.0
    with pytest.raises(LookupError, match="loss is not among the reported a, b; mend"):
        judge.score(1, {"a": 1, "b": 1})
    with pytest.raises(DivergedError, match="loss is nan after epoch 3"):
        judge.score(3, {"loss": float("nan")})
    run(history, 1, [0.1, 0.1, 0.1])
    assert judge.reason_to_stop(history, 1, 1) is not None
    history.report(1, 1, 4, {}, 0.1)
    assert judge.reason_to_stop(history, 1, 1) is None, "a trial that has come to its end is not stopped"
