"""Opening a history: what a former agent's worker still writes, and what was predicted, is there."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ncode_search import SearchSpace
from ncode_search.agent.history import Decision, History, Objective
from ncode_search.agent.processes import ProcessId, process_start
from ncode_search.agent.session import Session

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
        assert session.live == 1
        (orphan,) = session.orphans
        session.interrupted(orphan.id, orphan.attempt)
        assert (session.live, session.completed) == (0, 1)
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
