"""Ask and tell, and which codes a search proposes: classes once, what was kept, and when there are no more."""

import time

import numpy as np
import pytest

from ncode_search import SearchSpace
from ncode_search.agent.errors import HistoryError, HistoryLockedError, IllegalTransitionError, InputError
from ncode_search.agent.report import status_lines, summary
from ncode_search.agent.search import SpaceExhaustedError
from ncode_search.agent.states import TrialState
from tests.faults.harness import locked


def test_ask_and_tell_is_a_search_without_workers(make_search) -> None:
    with make_search(None, ranker="evolution") as search:
        for _ in range(15):
            trial = search.ask()
            search.tell(trial, sum(trial.config.values()), metrics={"cost": 1.0})
        failed = search.ask()
        search.tell(failed, error="out of memory")
        search.tell(search.ask(), np.float32(0.5), metrics={"a": np.float32(2), "b": float("inf")})
    with search.history() as history:
        trials = list(history.trials())
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 15 + [
        TrialState.FAILED,
        TrialState.COMPLETE,
    ]
    assert trials[-2].error == "out of memory"
    assert trials[-1].metrics == {"a": 2.0}
    assert trials[0].metrics == {"cost": 1.0}
    assert len({trial.code for trial in trials}) == 17


def test_several_trials_can_be_asked_for_before_one_is_told(make_search) -> None:
    with make_search(None) as search:
        asked = [search.ask() for _ in range(8)]
        assert len({trial.code for trial in asked}) == 8
        for trial in reversed(asked):
            search.tell(trial, 0.5)
    with search.history() as history:
        assert history.counts()[TrialState.COMPLETE] == 8


def test_an_asked_trial_that_was_never_told_is_asked_again(make_search) -> None:
    with make_search(None) as search:
        lost = search.ask()
    with make_search(None) as search:
        again = search.ask()
        assert (again.id, again.code, again.attempt) == (lost.id, lost.code, 2)
        assert search.tell(lost, 0.1) == search.tell(lost, error="late") == "duplicate"
        assert search.tell(again, 0.2) == "recorded"
        with pytest.raises(IllegalTransitionError, match="it is complete"):
            search.tell(again, 0.3)
        assert search.tell(lost, 0.4) == "duplicate", "the one that is kept is the first"
    with search.history() as history:
        assert [(one.attempt, one.value) for one in history.duplicates()] == [(1, 0.1)]
        assert history.trial(lost.id).value == 0.2


def test_a_late_error_counts_as_long_as_nobody_else_was_given_the_trial(make_search) -> None:
    with make_search(None) as search:
        late = search.ask(lease=0.1)
        time.sleep(0.2)
        search._open().reclaim()
        assert search.tell(late, error="out of memory") == "recorded"
        assert search.ask().id == late.id + 1
    with search.history() as history:
        trial = history.trial(late.id)
    assert (trial.state, trial.error, trial.failures) == (TrialState.FAILED, "out of memory", 1)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_cannot_be_renewed_is_said_in_one_line_and_makes_no_file(make_search, is_replaced: bool) -> None:
    with make_search(None) as search:
        trial = search.ask(lease=60)
    search.path.unlink()
    if is_replaced:
        search.path.write_text("no history")
    with pytest.raises(HistoryError, match="is no history" if is_replaced else "is gone, it was moved or deleted"):
        trial.renew()
    assert search.path.exists() == is_replaced


@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_told_into_a_history_that_was_taken_away(make_search, is_replaced: bool) -> None:
    """What is written to a file without a name is lost."""
    with make_search(None) as search:
        trial = search.ask()
        search.path.rename(search.path.with_name("away.db"))
        if is_replaced:
            search.path.write_bytes(search.path.with_name("away.db").read_bytes())
        for step in (lambda: search.tell(trial, 1.0), search.ask, lambda: search.enqueue({"a": 1, "b": 1, "c": 1})):
            with pytest.raises(HistoryError, match=r"search.db: was moved, deleted or replaced .* put it back"):
                step()
        search.path.with_name("away.db").replace(search.path)
        assert search.tell(trial, 1.0) == "recorded"


def test_a_history_that_is_locked_for_long_is_said_in_one_line_and_told_later(make_search) -> None:
    with make_search(None) as search:
        trial = search.ask()
        search._open().history.wait_at_most(0.1)
        with locked(search.path), pytest.raises(HistoryLockedError, match="another program holds it locked"):
            search.tell(trial, 1.0)
        assert search.tell(trial, 1.0) == "recorded"


def test_what_was_enqueued_is_asked_for_after_a_lock_too(make_search) -> None:
    with make_search(None) as search:
        search.enqueue({"a": 3, "b": 3, "c": 3})
        search._open().history.wait_at_most(0.1)
        with locked(search.path), pytest.raises(HistoryLockedError):
            search.ask()
        assert search.ask().code == "333"


def test_what_is_told_is_checked(make_search) -> None:
    with make_search(None) as search:
        trial = search.ask()
        wrong = [{}, {"value": 1.0, "error": "both"}, {"value": float("nan")}, {"value": "1.5"}, {"value": [1.0]}]
        wrong += [{"value": 10**400}, {"value": np.zeros(2)}]
        wrong += [{"value": 1.0, "metrics": metrics} for metrics in ({"loss": "low"}, {"x": 10**400}, [1])]
        for told in wrong:
            with pytest.raises(InputError, match=f"trial {trial.id} "):
                search.tell(trial, **told)
        assert search.tell(trial, 1.0) == "recorded"


def test_asking_for_more_than_there_is_says_so(make_search) -> None:
    with make_search(None, space=SearchSpace({"a": [0, 1]})) as search:
        search.ask(), search.ask()
        with pytest.raises(SpaceExhaustedError, match="2 codes; all have"):
            search.ask()


def test_complaint_13_equal_codes_are_one_trial_also_after_a_restart(make_search) -> None:
    """`kernel` and `width` matter for convolutions only: 2 * 3 + 1 networks. The embedded ranker decides."""
    positions = {"op": ["conv", "pool"], "kernel": [3, 5], "width": [8, 16, 32]}
    space = SearchSpace(positions, when={"kernel": {"op": ["conv"]}, "width": {"op": ["conv"]}})
    seen: list[tuple[object, ...]] = []
    for trials in (4, 7):
        with make_search(None, space=space, ranker="embedded", trials=8) as search:
            while len(seen) < trials:
                trial = search.ask()
                seen.append(tuple(trial.config.values()))
                search.tell(trial, float(trial.config["width"]))
    assert len(set(seen)) == 7 == space.unique_size()
    assert [one for one in seen if one[0] == "pool"] == [("pool", 3, 8)]
    with (
        make_search(None, space=space) as search,
        pytest.raises(SpaceExhaustedError, match="12 codes, some of them equal; all have"),
    ):
        search.ask()
    with make_search(None, space=SearchSpace(positions)) as search, pytest.raises(HistoryError, match="another equal"):
        search.ask()


def test_after_so_many_trials_only_the_best_options_are_proposed_also_after_a_restart(make_search) -> None:
    space = SearchSpace({"a": [*range(8)], "b": [*range(8)]})
    late = []
    for _ in range(2):
        settings = {"space": space, "ranker": "evolution", "trials": 60, "prune_after": 40, "keep": 0.5, "seed": 1}
        with make_search(None, **settings) as search:
            for _ in range(24):
                trial = search.ask()
                late += [trial.config["a"]] if trial.id > 41 else []
                search.tell(trial, float(trial.config["a"]))
    assert len(late) == 48 - 41
    assert min(late) >= 3, "chance may keep one that is not among the best half"
    with search.history() as history:
        (kept,) = (line for line in status_lines(history, None) if line.startswith("kept "))
        assert kept.startswith("kept      from trial 41 on (prune_after = 40, keep = 0.5): a ")
        assert len(history.narrowings()[0].kept["a"]) == 4


@pytest.mark.parametrize("wrong", [{"prune_after": 0}, {"keep": 0}, {"keep": 1.5}, {"keep": "half"}])
def test_wrong_pruning_is_refused(make_search, wrong: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        make_search(None, **wrong)


def test_a_space_too_large_to_be_listed_is_not_said_to_be_exhausted(make_search) -> None:
    names = [f"p{number}" for number in range(26)]
    space = SearchSpace({name: [0, 1] for name in names}, interchangeable=[[[name] for name in names]])
    search = make_search(space=space, trials=40)
    outcome = search.run()
    assert (outcome.completed, outcome.exhausted, outcome.nothing_new) == (27, False, True)
    with search.history() as history:
        assert summary(history, outcome, space).startswith(
            "No new code was found: 67,108,864 codes, some of them equal"
        )
    with make_search(None, space=space, history=search.path.with_name("y.db"), ranker="evolution") as asked:
        for _ in range(27):
            asked.tell(asked.ask(), 1.0)
        with pytest.raises(SpaceExhaustedError, match="no new code was found among 67,108,864 codes, some of them"):
            asked.ask()
