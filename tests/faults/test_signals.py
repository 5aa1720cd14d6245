"""Signals at bad moments: the state is clean, soon, and without a traceback."""

import json
import os
import pty
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncode_search.agent import agent_lock
from ncode_search.agent.history import History
from tests.faults.harness import FaultySearch, wait_for, workers_of
from tests.soak.samples import processes_with

pytestmark = pytest.mark.slow

COMMAND = """sh -c 'echo told >> "$NCODE_TEST_LOG"; exec sleep 600'"""
HANGING = f'kind = "evolution"\n[notify]\ncommand = {json.dumps(COMMAND)}\ntimeout = "40s"'


@pytest.fixture(autouse=True)
def hang_ups_are_heard() -> Iterator[None]:
    """Also where the tests run under `nohup`, which all children of theirs inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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


def on_a_terminal(search: FaultySearch, *arguments: str) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
    """An agent on a terminal, and what hangs that up."""
    ours, theirs = pty.openpty()
    process = search.start(None, *arguments, terminal=theirs)
    os.close(theirs)
    over = threading.Event()
    reader = threading.Thread(target=read_until, args=[ours, over], daemon=True)
    reader.start()

    def hang_up() -> None:
        over.set()
        reader.join()
        os.close(ours)

    return process, hang_up


def read_until(descriptor: int, over: threading.Event) -> None:
    while not over.is_set():
        if select.select([descriptor], [], [], 0.05)[0]:
            os.read(descriptor, 1 << 16)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_that_is_asked_to_end_costs_no_attempt(tmp_path: Path, number: int) -> None:
    with FaultySearch(tmp_path, "second", trials=3, workers=1, retries=0) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") == 1)
        (worker,) = workers_of(process.pid)
        search.note_kill(worker)
        os.kill(worker, number)
        search.wait(process)
        search.check()
        assert search.rows("SELECT id, attempt, failures FROM trials ORDER BY id") == [(1, 2, 0), (2, 1, 0), (3, 1, 0)]


def test_a_signal_to_the_agent_and_all_workers_costs_no_attempt(tmp_path: Path) -> None:
    """As systemd's control groups, `scancel` and a shutdown send it; the trials wait for the next start."""
    with FaultySearch(tmp_path, "long", trials=4, retries=0) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") == 2)
        workers = workers_of(process.pid)
        search.note_kill(*workers)
        for pid in (*workers, process.pid):
            os.kill(pid, signal.SIGTERM)
        assert seconds_to_end(search, process) < 8
        assert search.rows("SELECT DISTINCT state, failures FROM trials") == [("queued", 0)]


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_a_terminal_that_hangs_up_ends_the_search_as_sigterm_does(tmp_path: Path, flags: list[str]) -> None:
    with FaultySearch(tmp_path, "second", trials=40) as search:
        process, hang_up = on_a_terminal(search, *flags)
        wait_for(lambda: search.count("end") >= 2)
        hang_up()
        assert seconds_to_end(search, process) < 10
        assert search.rows("SELECT 1 FROM meta WHERE key = 'run' AND value LIKE '%stopped%'")


def test_nohup_keeps_the_search_from_hanging_up(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "second", trials=4) as search:
        process = search.start(under=["nohup"])
        wait_for(lambda: search.count("begin") == 2)
        process.send_signal(signal.SIGHUP)
        search.wait(process)


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


def test_sigterm_is_heard_while_another_machine_is_watched(tmp_path: Path) -> None:
    """A job that was begun again on another machine looks for a minute whether the first one still lives."""
    with FaultySearch(tmp_path, trials=2) as search:
        search.finish()
        with History.attach(search.history) as history:
            elsewhere = {"process": "elsewhere:12:345", "seen": time.time() - 2 * agent_lock.STALE_AFTER}
            history.remember("agent", elsewhere)
        process = search.start()
        wait_for(lambda: "watching for 60 s whether elsewhere:12:345 still runs" in search.output.read_text())
        process.terminate()
        began = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in search.output.read_text()
        with History.attach(search.history) as history:
            assert history.meta()["agent"] == elsewhere
