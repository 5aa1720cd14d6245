"""Opening a history while a worker of a former agent is still at work in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from ncode_search import SearchSpace
from ncode_search.agent.history import History, Objective
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
