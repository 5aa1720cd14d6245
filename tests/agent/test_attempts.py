"""What an attempt leaves to the next one, and what trials cost."""

import json
import os
import signal
from pathlib import Path

import pytest

from ncode_search import Context, Search, SearchSpace
from ncode_search.agent import session
from ncode_search.agent.devices import available_cores
from ncode_search.agent.observer import Observer
from ncode_search.agent.states import TrialState
from ncode_search.evaluators.cnn import CnnEvaluator

HERE = Path(__file__).parent
SPACE = SearchSpace({"cell.0-1": ["conv3x3"], "head.dropout": [0.3]})
CNN = {"kind": "cnn", "epochs": 4, "batch_size": 32}


class KillsOnce(Observer):
    """Ends the worker, as the system's memory killer would, when a trial has reported an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self.search: Search | None = None

    def reported(self, trial: int, step: int, metrics) -> None:
        if step != self._epoch or self.search is None:
            return
        with self.search.history() as history:
            os.kill(int(history.trial(trial).worker.rsplit(":", 2)[1]), signal.SIGKILL)
        self.search = None


def test_a_trial_that_always_ends_its_worker_politely_is_given_up(make_search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_LOST", 3)
    search = make_search("ends_its_process", trials=1, retries=0, first_failures=1)
    assert search.run().paused
    with search.history() as history:
        trial = history.trial(1)
    assert (trial.state, trial.attempt, trial.failures) == (TrialState.FAILED, 3, 1)
    assert "died of SIGTERM" in trial.error


def epochs_of(search: Search) -> list[tuple[int, int, str]]:
    with search.history() as history:
        return history.db.execute("SELECT attempt, step, metrics FROM epochs ORDER BY attempt, step").fetchall()


@pytest.mark.slow
@pytest.mark.timeout(300)  # two processes import torch
def test_a_killed_training_goes_on_from_its_last_epoch_to_the_same_result(tmp_path: Path) -> None:
    steps: dict[int, str] = {}
    context = Context(
        1, "00", 0, "cpu", available_cores(), tmp_path,
        lambda step, **metrics: steps.update({step: json.dumps(metrics)}), tmp_path / "whole",
    )  # fmt: skip
    evaluator = CnnEvaluator(epochs=4, batch_size=32, folder=tmp_path)
    expected = evaluator({"cell.0-1": "conv3x3", "head.dropout": 0.3}, context)
    observer = KillsOnce(2)
    killed = Search(SPACE, history=tmp_path / "killed.db", evaluator=CNN, ranker="random", trials=1, observer=observer)
    observer.search = killed
    best = killed.run().best
    assert (best.attempt, best.value, best.metrics) == (2, expected.value, expected.metrics)
    done = {attempt: [step for one, step, _ in epochs_of(killed) if one == attempt] for attempt in (1, 2)}
    assert done[1] + done[2] in ([1, 2, 3, 4], [1, 2, 3, 3, 4]), "the kill may come an epoch late"
    latest = {step: metrics for _, step, metrics in epochs_of(killed)}
    assert latest == steps
    assert not (tmp_path / "killed.db.trials").exists(), "nothing is left of the trial but its row"


def test_a_trials_directory_lives_through_its_attempts_and_keeps_what_was_declared(make_search, tmp_path) -> None:
    leftover = tmp_path / "search.db.trials" / "1" / "of an older history"
    leftover.mkdir(parents=True)
    search = make_search("leaves_files", trials=2)
    outcome = search.run()
    assert outcome.completed == 2
    files = sorted(str(file.relative_to(tmp_path / "search.db.trials")) for file in tmp_path.rglob("*.db.trials/**/*"))
    assert files == ["1", "1/kept", "1/kept/adapter.bin"]
    with search.history() as history:
        assert [trial.attempt for trial in history.trials()] == [2, 2]


def test_every_trial_has_its_cost(make_search, witness: Path) -> None:
    search = make_search("costly", space=SearchSpace({"a": ["big", "own", "prune", "raise", "exit"]}), trials=9)
    search.run()
    with search.history() as history:
        trials = {search.space.decode(trial.code)["a"]: trial for trial in history.trials()}
    big, own = trials["big"], trials["own"]
    ends = {fate: (trial.state.value, trial.attempt) for fate, trial in trials.items()}
    expected = {"big": ("complete", 1), "own": ("complete", 1), "prune": ("pruned", 1)}
    assert ends == expected | {"raise": ("failed", 2), "exit": ("failed", 2)}, [
        trial.error for trial in trials.values()
    ]
    assert big.seconds >= 0.05
    assert big.peak_memory > 200e6
    assert (own.seconds, own.peak_memory) == (123.5, 7)
    for fate in ("prune", "raise", "exit"):
        assert trials[fate].seconds >= 0.05 * trials[fate].attempt
    assert trials["exit"].peak_memory is None, "a process that is gone cannot say"
    assert trials["prune"].peak_memory < big.peak_memory, "the peak is of one trial, not of all before it"
    assert trials["prune"].state is TrialState.PRUNED


@pytest.mark.parametrize("cost", [{"seconds": -1.0}, {"peak_memory": float("nan")}])
def test_a_cost_that_is_none_fails_the_trial(cost) -> None:
    from ncode_search import Result
    from ncode_search.evaluators.results import checked

    with pytest.raises(ValueError, match="a cost is zero or more"):
        checked(Result(0.5, **cost))


def test_a_training_that_diverged_fails_at_once_for_it_would_diverge_again(make_search, witness: Path) -> None:
    search = make_search("diverges_at_once", space=SearchSpace({"a": [0, 1, 2]}), trials=3, retries=3)
    search.run()
    with search.history() as history:
        trials = {search.space.decode(trial.code)["a"]: trial for trial in history.trials()}
    assert (trials[0].state, trials[0].attempt) == (TrialState.FAILED, 1)
    assert trials[0].error.endswith("DivergedError: training loss is nan in epoch 1; a lower learning_rate may help\n")
    processes = [line.split()[2] for line in witness.read_text().splitlines()]
    assert len(processes) == 3
    assert len(set(processes)) == 1, "the process goes on: nothing is wrong with it"
