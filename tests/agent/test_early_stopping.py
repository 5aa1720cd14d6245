"""Searches that stop trials early and go on with them, that train and are killed; the rules: see `test_fidelity.py`."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncode_search import SearchSpace
from ncode_search.agent.errors import InputError
from ncode_search.agent.history import History, Objective, Trial
from ncode_search.agent.observations import Observations
from ncode_search.agent.observer import Observer
from ncode_search.agent.ranking.base import RankerInfo
from ncode_search.agent.running import run_file
from ncode_search.agent.search_file import NOTHING
from ncode_search.agent.session import Session
from ncode_search.agent.settings import RankerSettings
from ncode_search.agent.states import TrialState

ASHA = {"stop": "asha", "metric": "accuracy", "most_epochs": 9, "reduction": 3}
MEDIAN = {**ASHA, "stop": "median"}


def trials_of(search) -> list[Trial]:
    with search.history() as history:
        return list(history.trials())


def steps_of(search) -> dict[int, list[tuple[int, int]]]:
    """Attempt and epoch of every report, by trial."""
    found: dict[int, list[tuple[int, int]]] = {}
    with search.history() as history:
        for trial, attempt, step in history.db.execute("SELECT trial, attempt, step FROM epochs ORDER BY 1, 2, 3"):
            found.setdefault(trial, []).append((attempt, step))
    return found


def story(search) -> list[tuple]:
    """All that a repeatable search has in common with its repetition."""
    steps = {trial: sorted({step for _, step in own}) for trial, own in steps_of(search).items()}
    return [(one.code, one.state, one.value, one.metrics, one.error, steps.get(one.id)) for one in trials_of(search)]


@pytest.mark.parametrize("workers", [1, 2])
def test_asha_completes_the_best_and_stops_the_others_at_rungs(make_search, tmp_path, witness, workers: int) -> None:
    search = make_search("curve", trials=3, workers=workers, **ASHA)
    outcome = search.run()
    trials, steps = trials_of(search), steps_of(search)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert 3 <= len(complete) == outcome.completed < 3 + workers
    assert len(pruned) >= 2 * len(complete)
    for trial in (*complete, *pruned):
        epochs = [step for _, step in steps[trial.id]]
        assert epochs == list(range(1, len(epochs) + 1)), "every epoch was trained once, whatever was stopped between"
        assert sorted({attempt for attempt, _ in steps[trial.id]}) == list(range(1, trial.attempt + 1))
    assert {len(steps[trial.id]) for trial in complete} == {9}
    for trial in pruned:
        epoch = len(steps[trial.id])
        assert trial.budget == epoch in (1, 3)
        assert trial.metrics is not None
        assert trial.metrics["epoch"] == trial.metrics["epoch_again"] == epoch
        assert trial.error.startswith(f"stopped after epoch {epoch}: accuracy was not among")
        assert trial.value is None
    assert any(trial.attempt > 1 for trial in complete), "some were stopped before they were gone on with"
    assert not (tmp_path / "search.db.trials").exists(), "a search that is done needs no checkpoint"


@pytest.mark.slow
def test_checkpoints_of_stopped_trials_stay_until_the_search_is_done(make_search, tmp_path) -> None:
    class Stops(Observer):
        def finished(self, trial: Trial) -> None:
            if trial.id == 4:
                os.kill(os.getpid(), signal.SIGINT)

    search = make_search("curve", trials=3, observer=Stops(), **ASHA)
    assert search.run().stopped
    left = {trial.id for trial in trials_of(search) if trial.state is TrialState.PRUNED}
    assert {int(folder.name) for folder in (tmp_path / "search.db.trials").iterdir()} == left != set()
    assert make_search("curve", trials=3, **ASHA).run().completed == 3
    assert not (tmp_path / "search.db.trials").exists()


@pytest.mark.slow
def test_one_worker_repeats_itself_and_goes_on_after_interruptions_as_if_there_had_been_none(
    make_search, tmp_path
) -> None:
    def search(name: str, trials: int):
        settings = {"ranker": "evolution", "ranker_settings": RankerSettings(startup=5), "seed": 3, **ASHA}
        return make_search("curve", trials=trials, history=tmp_path / name, **settings)

    whole = search("whole.db", 4)
    whole.run()
    for name in ("again.db", "parts.db"):
        other = search(name, 4)
        if name == "parts.db":
            search(name, 1).run()
            search(name, 2).run()
        other.run()
        assert story(other) == story(whole)


class Kills(Observer):
    """Kills the worker at every fifth report, so that each trial in turn is hit at another epoch."""

    def __init__(self, history: Path) -> None:
        self._history, self._reports, self.killed = history, 0, 0

    def reported(self, trial: int, step: int, metrics) -> None:
        self._reports += 1
        if self._reports % 5 == 0:
            with History.read(self._history) as history:
                row = history.trial(trial)
            if row.state is TrialState.RUNNING and row.worker:
                os.kill(int(row.worker.rsplit(":", 2)[1]), signal.SIGKILL)
                self.killed += 1


@pytest.mark.slow
def test_kills_change_nothing_in_what_an_asha_search_comes_to(make_search, tmp_path) -> None:
    settings = {"trials": 3, "seed": 5, "retries": 5, **ASHA}
    whole = make_search("curve", history=tmp_path / "whole.db", **settings)
    whole.run()
    kills = Kills(tmp_path / "killed.db")
    killed = make_search("curve", history=tmp_path / "killed.db", observer=kills, **settings)
    killed.run()
    assert kills.killed >= 3
    assert story(killed) == story(whole)


def test_a_trial_whose_worker_died_before_it_was_told_is_stopped_untrained(make_search, tmp_path, witness) -> None:
    search = make_search("curve", trials=1, **ASHA)
    objective = Objective("maximize", search._evaluator)
    with History.open(tmp_path / "search.db", search.space.positions, objective) as history:
        history.add(1, "000", "random")
        history.start(1, "w", "cpu", budget=1)
        history.report(1, 1, 1, {"accuracy": 0.0}, 0.0)
        history.requeue(1, 1)
    search.run()
    first = trials_of(search)[0]
    assert (first.state, first.attempt) == (TrialState.PRUNED, 2)
    assert "000" not in witness.read_text()


class Records:
    """A ranker that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Observations] = []
        self.info = RankerInfo("records")

    def load(self) -> None: ...

    def close(self) -> None: ...

    def score(self, known: Observations, pool, rng) -> np.ndarray:
        self.seen.append(known)
        return rng.random(len(pool))


@pytest.mark.slow
def test_rankers_are_told_of_stopped_trials_and_not_that_they_failed_or_were_scored(make_search, tmp_path) -> None:
    ranker = Records()
    search = make_search("curve", trials=3, ranker=ranker, ranker_settings=RankerSettings(startup=0), **ASHA)
    search.run()
    by_code = {trial.code: trial for trial in trials_of(search)}
    last = ranker.seen[-1]
    assert len(last.pruned) == len(last.partial) > 3
    assert len(last.failed) == 0
    assert all(by_code[code].state is TrialState.COMPLETE for code in search.space.to_text(last.codes))
    with search.history() as history:
        reported = {
            (row[0], round(row[1], 12))
            for row in history.db.execute("SELECT code, score FROM epochs JOIN trials ON trials.id = trial")
        }
    shown = zip(search.space.to_text(last.pruned), last.partial.round(12).tolist(), strict=True)
    assert set(shown) <= reported
    session = Session(tmp_path / "search.db", search.space, Objective("maximize", search._evaluator))
    known = session.observations()
    session.close()
    stopped = [trial for trial in by_code.values() if trial.state is TrialState.PRUNED]
    assert sorted(search.space.to_text(known.pruned)) == sorted(trial.code for trial in stopped)
    assert np.allclose(
        known.partial, [(by_code[code].metrics or {})["accuracy"] for code in search.space.to_text(known.pruned)]
    )


@pytest.mark.slow
def test_the_packaged_ranker_looks_at_stopped_trials(make_search) -> None:
    search = make_search("curve", trials=4, ranker="embedded", **ASHA)
    search.run()
    assert {trial.proposed_by for trial in trials_of(search)} & {"embedded", "evolution"}
    with search.history() as history:
        assert [row["reason"] for row in history.db["decisions"].rows if row["fallback"]] == []


@pytest.mark.slow
def test_the_median_rule_saves_epochs_and_stops_for_good(make_search, tmp_path) -> None:
    search = make_search("curve", trials=12, **MEDIAN)
    search.run()
    trials, steps = trials_of(search), steps_of(search)
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert all(trial.attempt == 1 and trial.budget is None for trial in pruned)
    assert sum(trial.state is TrialState.COMPLETE for trial in trials) == 12
    assert sum(map(len, steps.values())) < 9 * len(trials)
    assert not (tmp_path / "search.db.trials").exists()


def test_a_trainer_that_keeps_the_stop_to_itself_is_pruned_all_the_same(make_search) -> None:
    search = make_search("keeps_the_stop_to_itself", trials=2, **ASHA)
    search.run()
    trials, steps = trials_of(search), steps_of(search)
    assert {steps[trial.id][-1][1] for trial in trials if trial.state is TrialState.PRUNED} <= {1, 3}
    assert sum(trial.state is TrialState.PRUNED for trial in trials) >= 4
    assert {trial.failures for trial in trials} == {0}, "its answer, nothing, was taken for one"


def test_a_metric_that_is_no_number_fails_the_trial_with_its_reason(make_search) -> None:
    space = SearchSpace({"a": [0, 1, 2]})
    search = make_search("diverges", trials=3, space=space, retries=0, **{**ASHA, "reduction": 2})
    search.run()
    failed = [trial for trial in trials_of(search) if trial.state is TrialState.FAILED]
    assert failed
    assert all(trial.error.endswith("DivergedError: accuracy is nan after epoch 2\n") for trial in failed)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stop": "halving"}, "stop is 'halving'; allowed: 'median', 'asha'"),
        ({"stop": "asha", "reduction": 1}, "reduction is 1; allowed: whole numbers from 2"),
        ({"stop": "asha", "least_epochs": 4, "most_epochs": 4}, "most_epochs is 4; allowed: whole numbers from 5"),
        ({"stop": "asha"}, r"\[search\] metric is missing"),
        ({"stop": "asha", "metric": "accuracy"}, r"\[search\] most_epochs is missing"),
        ({"metric": "accuracy"}, "metric is of no use without stop; say stop = 'asha' or 'median', or leave it out"),
        ({"reduction": 2}, "reduction is of no use without stop"),
        ({"least_epochs": 2}, "least_epochs is of no use without stop"),
        ({"most_epochs": 9}, "most_epochs is of no use without stop"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(make_search: Callable, tmp_path, settings, said) -> None:
    with pytest.raises(InputError, match=said):
        make_search("curve", trials=3, **settings).run()
    assert not (tmp_path / "search.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "space", "message"),
    [
        (
            "most_epochs = 9",
            '"norm" = ["batch", "group"]',
            "most_epochs = 9: the evaluator trains for epochs = 4; leave most_epochs out, or set [evaluator] "
            "epochs = 9",
        ),
        (
            "",
            '"epochs" = [2, 4]',
            'stop = "asha" compares trials of as many epochs, but [space] has a position epochs; take it out, or leave '
            "stop out",
        ),
        (
            'metric = "nope"',
            '"norm" = ["batch", "group"]',
            'metric = "nope" is none that the evaluator reports; name val_accuracy',
        ),
        (
            'metric = "train_loss"',
            '"norm" = ["batch", "group"]',
            'metric = "train_loss" is better the lower it is, and goal = "maximize" would keep the highest; name '
            "val_accuracy",
        ),
    ],
)
def test_a_search_that_would_stop_trials_wrongly_ends_before_it_trains(
    tmp_path: Path, search: str, space: str, message: str
) -> None:
    path = tmp_path / "search.toml"
    path.write_text(
        f'[search]\nhistory = "h.db"\nstop = "asha"\n{search}\n[space]\n{space}\n[evaluator]\nkind = "cnn"\n'
        '[ranker]\nkind = "random"\n'
    )
    with pytest.raises(InputError) as raised:
        run_file(path, NOTHING, quiet=True)
    assert str(raised.value) == f"{path}: [search] {message}"
    assert [file.name for file in tmp_path.iterdir()] == ["search.toml"]


def test_a_stop_that_the_agent_is_yet_to_hear_of_is_not_gone_on_with(tmp_path) -> None:
    """A worker writes it first and says so then; a free worker may ask for a trial in between."""
    space = SearchSpace({"a": list(range(9))})
    session = Session(tmp_path / "search.db", space, Objective(), keeps_pruned=True)
    try:
        for code in range(3):
            chosen = session.add(np.array([code], np.uint8), "x")
            attempt = session.history.start(chosen.trial, "here:1:0", "cpu", budget=1)
            session.history.report(chosen.trial, attempt, 1, {"accuracy": code / 10}, score=code / 10)
            session.history.prune(chosen.trial, attempt, "stopped", for_good=False)
        session.queue.clear()
        assert session.promote(3) is None
        session.settle(3)
        assert session.promote(3).trial == 3
    finally:
        session.close()
