"""Opening a history: what a former agent's worker still writes, and what was predicted, is there."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ncode_search import SearchSpace
from ncode_search.agent import rungs
from ncode_search.agent.history import Decision, History, Objective
from ncode_search.agent.processes import ProcessId, process_start
from ncode_search.agent.session import Focus, Session

SPACE = SearchSpace({"a": [0, 1, 2], "b": [0, 1, 2]})


def test_a_trial_that_ends_while_the_history_is_read_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "search.db"
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessId(ProcessId.current().host, worker.pid, process_start(worker.pid))
    with History.open(path, SPACE.positions, Objective()) as history:
        history.add(1, "00", "random")
        history.start(1, str(identity), "cpu")
    read_finished = History.finished

    def finished_then_the_worker_writes(self: History) -> object:
        found = read_finished(self)
        with History.attach(path) as of_worker:
            of_worker.complete(1, 1, 0.5)
        return found

    monkeypatch.setattr(History, "finished", finished_then_the_worker_writes)
    session = Session(path, SPACE, Objective())
    try:
        assert (session.live, session.completed, len(session.orphans)) == (0, 1, 0)
    finally:
        session.close()
        worker.communicate(b"\n")


def test_forecasts_of_finished_queued_and_running_trials_survive(tmp_path: Path) -> None:
    objective = Objective("minimize")
    session = Session(tmp_path / "x.db", SPACE, objective)
    codes = SPACE.from_text(["00", "01", "02", "10"])
    for number, code in enumerate(codes):
        predicted = None if number == 1 else {"model": number + 0.25, "ridge": 2.0, "history": 3.0}
        session.add(code, "embedded", Decision("embedded", None, None, 9, 1, 0.0, False, None, predicted, None))
    for trial in (1, 2):
        session.history.complete(trial, session.history.start(trial, str(ProcessId.current()), "cpu"), 7.0)
        session.settle(trial)
    session.history.start(3, str(ProcessId.current()), "cpu")
    before = session.observations().forecasts
    np.testing.assert_array_equal(before, [[-0.25, -2, -3], [np.nan] * 3])
    session.close()
    session = Session(tmp_path / "x.db", SPACE, objective)
    try:
        np.testing.assert_array_equal(session.observations().forecasts, before)
        for trial in (3, 4):
            session.history.complete(trial, session.history.start(trial, str(ProcessId.current()), "cpu"), 7.0)
            session.settle(trial)
        np.testing.assert_array_equal(session.observations().forecasts[2:, 0], [-2.25, -3.25])
    finally:
        session.close()


def complete(session: Session, trials: dict[str, float]) -> None:
    """Trials of these codes with these values, in this order."""
    for text, value in trials.items():
        chosen = session.add(session.space.from_text([text])[0], "random")
        attempt = session.history.start(chosen.trial, str(ProcessId.current()), "cpu")
        session.history.complete(chosen.trial, attempt, value)
        session.settle(chosen.trial)


def options_drawn(session: Session) -> list[list[int]]:
    """The options of every position in a pool for the next trial."""
    pool = session.draw_pool(session.observations(), 64, np.random.default_rng(0))
    return [sorted(set(column)) for column in pool.T.tolist()]


def test_what_a_search_keeps_to_is_recorded_and_taken_back_with_its_setting(tmp_path: Path) -> None:
    space = SearchSpace({"a": [0, 1, 2, 3], "b": [4, 5, 6, 7], "c": [8, 9]})

    def opened(focus: Focus | None) -> Session:
        return Session(tmp_path / "x.db", space, Objective(), focus)

    first = opened(Focus(after=4, keep=2))
    complete(first, {"000": 1.0, "110": 4.0, "220": 3.0})
    assert options_drawn(first) == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]
    complete(first, {"330": 2.0})
    assert options_drawn(first) == [[1, 2], [1, 2], [0, 1]]
    (recorded,) = first.history.narrowings()
    assert (recorded.after, recorded.keep, recorded.trial) == (4, 2, 5)
    assert recorded.kept == {"a": [1, 2], "b": [5, 6], "c": [8, 9]}
    # As if several workers had finished in another order: what is read back would say something else.
    complete(first, {"121": 0.5})
    with first.history.db.conn as connection:
        connection.execute("UPDATE trials SET finished_at = -value")
    first.close()

    again = opened(Focus(after=4, keep=2))
    assert options_drawn(again) == [[1, 2], [1, 2], [0, 1]]
    assert again.history.narrowings() == [recorded]
    again.close()
    widened = opened(None)
    assert options_drawn(widened) == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]
    assert widened.history.narrowings() == [recorded]
    widened.close()
    other = opened(Focus(after=4, keep=0.75))
    assert options_drawn(other)[0] != [0, 1, 2, 3]
    assert [one.keep for one in other.history.narrowings()] == [2, 0.75]
    other.close()


def test_a_running_trial_s_code_is_as_given_and_its_class_is_known(tmp_path: Path) -> None:
    space = SearchSpace({"op": ["conv", "pool"], "kernel": [3, 5, 7]}, when={"kernel": {"op": ["conv"]}})
    for _ in range(2):
        session = Session(tmp_path / "x.db", space, Objective())
        try:
            if not session.queue:
                session.add(space.encode({"op": "pool", "kernel": 7}), "enqueued")
            (chosen,) = session.queue
            assert (chosen.text, chosen.canonical, chosen.config["kernel"]) == ("12", "10", 7)
            assert chosen.code.tolist() == [1, 0] == session.observations().pending[0].tolist()
            assert not len(session.candidates.unseen(space.from_text(["10", "11", "12"])))
        finally:
            session.close()


def test_what_fails_while_rungs_are_read_is_done_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may fail for a moment; the loop repeats what it was about to do."""

    def fails(*_given: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with contextlib.closing(Session(tmp_path / "x.db", SPACE, Objective(), keeps_pruned=True)) as session:
        history = session.history
        for trial, code in enumerate(SPACE.from_text(["00", "01", "02"]), start=1):
            session.add(code, "random")
            history.start(trial, str(ProcessId.current()), "cpu", budget=1)
            history.report(trial, 1, 1, {}, trial / 10)
        assert session.promote(3) is None
        for trial in (1, 2, 3):
            history.prune(trial, 1, for_good=False)
            with monkeypatch.context() as disk:
                disk.setattr(rungs, "_places", fails)
                with pytest.raises(sqlite3.OperationalError):
                    session.settle(trial)
            session.settle(trial)
        calls = iter([rungs._places, fails])
        with monkeypatch.context() as disk:
            disk.setattr(rungs, "_places", lambda *given: next(calls)(*given))
            with pytest.raises(sqlite3.OperationalError):
                session.promote(3)
        promoted = session.promote(3)
        assert promoted is not None
        assert promoted.trial == 3
