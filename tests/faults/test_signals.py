"""Signals at bad moments: the state is clean, soon, and without a traceback."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ncode_search.agent import agent_lock
from ncode_search.agent.history import History
from tests.faults.harness import FaultySearch, wait_for
from tests.soak.samples import processes_with

pytestmark = pytest.mark.slow

COMMAND = """sh -c 'echo told >> "$NCODE_TEST_LOG"; exec sleep 600'"""
HANGING = f'kind = "evolution"\n[notify]\ncommand = {json.dumps(COMMAND)}\ntimeout = "40s"'


def seconds_to_end(search: FaultySearch, process: subprocess.Popen[bytes]) -> float:
    """Until the agent is gone, and left all as it should be."""
    began = time.monotonic()
    process.wait(60)
    said = search.output.read_text()
    assert "Traceback" not in said, said[-3000:]
    assert process.returncode in (0, 1), said
    with History.attach(search.history) as history:
        assert agent_lock.owner(history) is None
        assert "agent" not in history.meta()
    assert not search.rows("SELECT id FROM trials WHERE state = 'running'")
    assert not list(processes_with("NCODE_TEST_LOG", search.witness))
    return time.monotonic() - began


def test_a_command_that_hangs_holds_up_no_sigterm(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "second", trials=40, ranker=HANGING) as search:
        process = search.start()
        wait_for(lambda: search.count("end") >= 2 and search.count("told"))
        process.terminate()
        assert seconds_to_end(search, process) < 8


@pytest.mark.parametrize("seconds", [0.03, 1.5])
def test_the_end_of_sigterm_s_time_does_not_fall_into_the_cleaning_up(tmp_path: Path, seconds: float) -> None:
    """The trial ends 4.97 s after the signal; or earlier, and then a command is waited for."""
    with FaultySearch(tmp_path, "long", trials=40, workers=1, ranker=HANGING) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") >= 1)
        time.sleep(seconds)
        process.terminate()
        assert seconds_to_end(search, process) < 10
        assert search.rows("SELECT count(*) FROM trials WHERE state = 'complete'") == [(search.count("end"),)]


def test_a_signal_while_it_cleans_up_changes_nothing(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "second", trials=40, ranker=HANGING) as search:
        process = search.start()
        wait_for(lambda: search.count("end") >= 2)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: search.rows("SELECT value FROM meta WHERE key = 'run' AND value LIKE '%stopped%'"))
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert seconds_to_end(search, process) < 10
        assert process.returncode == 0
