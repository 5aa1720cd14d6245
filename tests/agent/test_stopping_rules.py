"""Searches that end before their trials are done: failure storms pause them, stagnation ends them."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncode_search import SearchSpace
from ncode_search.agent.history import History, Objective, Trial
from ncode_search.agent.run_record import latest
from ncode_search.agent.settings import SearchSettings
from ncode_search.agent.states import TrialState
from ncode_search.agent.stopping_rules import StoppingRules

NOTHING = np.empty(0)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    with History.open(tmp_path / "one.db", {"a": [0, 1]}, Objective()) as history:
        history.add(1, "0", "x")
        return history.trial(1)


def is_stagnant(rules: StoppingRules) -> bool:
    return rules.is_stagnant


def told(rules: StoppingRules, trial: Trial, outcomes: str) -> int | None:
    """Tell the outcomes (f: failed in one way, g: in another, p: pruned, digits: values); after how many it pauses."""
    for count, outcome in enumerate(outcomes, start=1):
        changes: dict[str, Any] = {"state": TrialState.FAILED, "error": f"Traceback\nError: {outcome}"}
        if outcome == "p":
            changes = {"state": TrialState.PRUNED}
        elif outcome.isdigit():
            changes = {"state": TrialState.COMPLETE, "value": float(outcome)}
        rules.finished(dataclasses.replace(trial, **changes))
        if rules.pause:
            return count
    return None


def test_a_run_whose_first_trials_all_fail_pauses(trial: Trial) -> None:
    rules = StoppingRules(SearchSettings(first_failures=4), NOTHING, 1)
    assert told(rules, trial, "ffffff") == 4
    assert rules.pause == "the first 4 trials of this run all failed: in the same way, Error: f"
    rules = StoppingRules(SearchSettings(first_failures=4), np.array([0.5]), 1)  # also one that is resumed
    assert told(rules, trial, "fgff") == 4
    assert rules.pause == "the first 4 trials of this run all failed: in 2 ways, most often Error: f"


def test_one_success_among_the_first_is_enough_to_go_on(trial: Trial) -> None:
    settings = SearchSettings(first_failures=4, failure_window=50)
    for outcomes in ("fff1" + "f" * 40, "p" + "f" * 40):
        assert told(StoppingRules(settings, NOTHING, 1), trial, outcomes) is None


def test_a_failure_rate_above_the_limit_pauses(trial: Trial) -> None:
    settings = SearchSettings(failure_limit=0.8, failure_window=10)
    rules = StoppingRules(settings, NOTHING, 1)
    assert told(rules, trial, "1111111111" + "f1f1f1f1f1" + "f" * 20) == 28  # 8 of 10 are not more than 80%, 9 are
    assert rules.pause.startswith("9 of the last 10 trials failed")
    assert (
        told(StoppingRules(SearchSettings(failure_limit=1.0, failure_window=10), NOTHING, 1), trial, "1" + "f" * 90)
        is None
    )


def test_half_of_all_trials_may_fail_for_ever_with_the_defaults(trial: Trial) -> None:
    fates = np.random.default_rng(0).random(20_000) < 0.5
    outcomes = "".join("f" if fails else "1" for fails in fates)
    assert told(StoppingRules(SearchSettings(), NOTHING, 1), trial, outcomes) is None


@pytest.mark.parametrize(("sign", "worse"), [(1, "1"), (-1, "9")])
def test_patience_counts_completed_trials_without_a_new_best(trial: Trial, sign: int, worse: str) -> None:
    settings = SearchSettings(patience=3)
    rules = StoppingRules(settings, NOTHING, sign)
    told(rules, trial, "55" + worse)
    assert not is_stagnant(rules)
    told(rules, trial, "fp")
    assert not is_stagnant(rules)
    told(rules, trial, "5")  # as good is not better
    assert is_stagnant(rules)
    assert StoppingRules(settings, sign * np.array([float(worse), 5, 5, 5, 5]), sign).is_stagnant
    assert not StoppingRules(settings, sign * np.array([float(worse), 5, 5, 5]), sign).is_stagnant
    assert not StoppingRules(SearchSettings(), sign * np.full(99, 5.0), sign).is_stagnant


TOML = """
[search]
history = "search.db"
trials = 60
[space]
a = [0, 1, 2, 3]
b = [0, 1, 2, 3]
c = [0, 1, 2, 3]
[evaluator]
kind = "python"
function = "mine:evaluate"
[ranker]
kind = "random"
"""


def ncode(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ncode_search.agent", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_a_failure_storm_does_not_burn_the_night(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(TOML)
    (tmp_path / "mine.py").write_text(
        "import pathlib\n"
        "def evaluate(config, context):\n"
        "    return float(pathlib.Path(__file__).with_name('data').read_text())\n"
    )
    paused = ncode(tmp_path, "run", "search.toml")
    assert paused.returncode == 3, paused
    assert (
        "Paused with 0 trials completed: the first 10 trials of this run all failed: in the same way, " in paused.stdout
    )
    assert "No such file or directory" in paused.stdout
    with History.read(tmp_path / "search.db") as history:
        counts = history.counts()
        assert latest(history.meta()).how == "paused"
    assert counts[TrialState.FAILED] == 10
    assert counts[TrialState.RUNNING] == 0
    check = ncode(tmp_path, "status", "search.db", "--check")
    assert check.returncode == 1
    assert check.stdout.startswith("not healthy: paused with 0 of 60 trials completed: the first 10 trials")

    (tmp_path / "data").write_text("0.5")
    done = ncode(tmp_path, "run", "search.toml", "--trials", "12")
    assert done.returncode == 0, done
    assert ncode(tmp_path, "status", "search.db", "--check").stdout == "healthy: done\n"


def test_a_search_that_finds_nothing_better_is_done(make_search) -> None:
    search = make_search("same", space=SearchSpace({"a": list(range(9)), "b": list(range(9))}), trials=60, patience=5)
    outcome = search.run()
    assert (outcome.stagnant, outcome.completed, outcome.how) == (True, 6, "stagnant")
    assert search.run().completed == 6, "it has not become better meanwhile"
    more = make_search("same", space=search.space, trials=60, patience=7).run()
    assert more.completed == 8


def test_which_error_is_most_frequent_does_not_depend_on_chance(trial: Trial) -> None:
    said = set()
    for order in itertools.permutations("fgh"):
        rules = StoppingRules(SearchSettings(first_failures=3), NOTHING, 1)
        told(rules, trial, "".join(order))
        said.add(rules.pause)
    assert said == {"the first 3 trials of this run all failed: in 3 ways, most often Error: f"}
