"""Who came to each rung, and who may go on from it: beside plain sorts of everything."""

from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.fidelity import last_step
from ncode_search.agent.history import History, Objective
from ncode_search.agent.rungs import Rungs, standings
from ncode_search.agent.states import TrialState
from tests.agent.reported import run


@pytest.fixture
def history(tmp_path: Path) -> History:
    with History.open(tmp_path / "rungs.db", {"a": [0]}, Objective()) as opened:
        yield opened


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_standings_are_those_of_a_plain_sort(history: History, sign: float) -> None:
    rng = np.random.default_rng(0)
    scores = {trial: rng.integers(0, 8, rng.integers(1, 6)).astype(float).tolist() for trial in range(1, 41)}
    for trial, own in scores.items():
        run(history, trial, own)
    for rung in range(1, 6):
        came = [trial for trial, own in scores.items() if len(own) >= rung]
        expected = sorted(came, key=lambda trial: (-sign * scores[trial][rung - 1], trial))
        assert standings(history, rung, sign) == expected


def test_a_rung_that_no_report_fell_on_counts_by_the_next_and_a_newer_attempt_s_score_counts(history: History) -> None:
    run(history, 1, [])
    for step, score in ((2, 0.3), (4, 0.9)):
        history.report(1, 1, step, {}, score)
    run(history, 2, [0.1, 0.2, 0.4])
    history.requeue(2, 1)
    history.start(2, "w", "cpu")
    history.report(2, 2, 3, {}, 0.95)
    assert standings(history, 3, 1.0) == [2, 1]


def test_promotion_takes_the_highest_rung_and_there_the_best(history: History) -> None:
    def promote(sign: float = 1.0) -> int | None:
        found = Rungs(history, sign, ()).promotable(3, ())
        if found is not None:
            history.promote(*found)
        return None if found is None else found[0]

    for trial, score in enumerate([0.9, 0.8, 0.7, 0.3, 0.2, 0.1], start=1):
        attempt = run(history, trial, [score])
        history.prune(trial, attempt, "stopped", for_good=trial == 1)
    assert promote() == 2, "trial 1 has ended itself"
    assert (history.trial(2).state, history.trial(2).budget) == (TrialState.QUEUED, 3)
    assert promote() is None, "2 of 6 may go on; nobody goes on twice"
    for trial in (7, 8, 9):
        attempt = run(history, trial, [1.0, 1.0, 0.5 + trial / 100], budget=3)
        history.prune(trial, attempt, "stopped", for_good=False)
    assert promote() == 9
    assert history.trial(9).budget == 9
    assert promote(-1.0) == 7, "minimizing, the others are the best"


def plainly(history: History, sign: float, reduction: int) -> tuple[int, int] | None:
    """Which trial may go on, by a look at all of them."""
    stopped = history.db.execute("SELECT id, budget FROM trials WHERE state = 'pruned' AND budget IS NOT NULL")
    waiting = dict(stopped.fetchall())
    for rung in sorted(set(waiting.values()), reverse=True):
        came = standings(history, rung, sign)
        for trial in came[: len(came) // reduction]:
            if waiting.get(trial) == rung:
                return trial, rung * reduction
    return None


def end(history: History, trial: int, attempt: int, how: str) -> None:
    if how == "complete":
        history.complete(trial, attempt, 1.0)
    elif how == "failed":
        history.fail(trial, attempt, "no")
    else:
        history.prune(trial, attempt, for_good=how == "ends itself")


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_of_the_rungs_tells_what_a_look_at_all_trials_does(history: History, seed: int) -> None:
    """Trials that fail, complete, are stopped, go on, are tried again and end themselves, in any order."""
    rng, sign, reduction = np.random.default_rng(seed), (1.0, -1.0)[seed % 2], 2 + seed % 3
    live: dict[int, int] = {}  # by trial, its attempt
    rungs, number, promotions = None, 0, 0
    for _ in range(150):
        if len(live) < 4:
            number += 1
            live[number] = run(history, number, [])
        trial = int(rng.choice(list(live)))
        row = history.trial(trial)
        for _ in range(int(rng.integers(0, 3))):
            step = max(last_step(history, trial) + int(rng.integers(0, 3)), 1)
            history.report(trial, live[trial], step, {}, float(rng.integers(0, 9)))
        what = rng.choice(["goes on", "granted", "retried", "complete", "failed", "ends itself", "stopped", "stopped"])
        if what == "granted":
            history.grant(trial, live[trial], row.budget * reduction)
        elif what == "retried":
            history.requeue(trial, live[trial])
            live[trial] = history.start(trial, "w", "cpu")
        elif what != "goes on":
            end(history, trial, live.pop(trial), what)
            if rungs is not None:
                rungs.finished(history.trial(trial), live)
        if number > 20:
            rungs = rungs or Rungs(history, sign, live)
            found = rungs.promotable(reduction, live)
            assert found == plainly(history, sign, reduction)
            if found is not None and rng.random() < 0.7:
                places = rungs.places(found[0])
                history.promote(*found)
                rungs.promoted(places)
                live[found[0]] = history.start(found[0], "w", "cpu")
                promotions += 1
    assert promotions > 3


def test_a_trial_that_has_stopped_unheard_counts_and_does_not_go_on_yet(history: History) -> None:
    for trial, score in enumerate([0.9, 0.8, 0.7], start=1):
        history.prune(trial, run(history, trial, [score]), for_good=False)
    rungs = Rungs(history, 1.0, [1])
    assert rungs.promotable(3, [1]) is None, "the best of three, of which nobody has told the agent"
    rungs.finished(history.trial(1), [])
    assert rungs.promotable(3, []) == (1, 3)
