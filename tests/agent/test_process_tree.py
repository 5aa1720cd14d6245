"""Processes that a worker has started are found wherever they have gone, and nobody else's are."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncode_search.agent.process_tree import MARK, end_leftovers, end_tree, new_mark
from ncode_search.agent.processes import ProcessId, is_stopped, process_start

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")

DAEMON = (
    "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); "
    "print(os.getpid(), flush=True); time.sleep(100)"
)
PARENT = f"""
import subprocess, sys, time
daemon = subprocess.Popen([sys.executable, "-S", "-c", {DAEMON!r}], stdout=subprocess.PIPE, text=True)
print(daemon.stdout.readline().strip(), flush=True)
"""
WAITS = "time.sleep(100)"
ENDS_ITSELF = "sys.path[:] = sys.argv[1:]; from ncode_search.agent.process_tree import end_own_tree; end_own_tree()"

HISTORY = Path("search.db")

Start = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process with a mark, in a group of its own, that has started a daemon; the process and the daemon."""
    started: list[tuple[subprocess.Popen[str], int]] = []

    def run(mark: str, then: str = WAITS) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT + then, *sys.path],
            env={**os.environ, MARK: mark}, start_new_session=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        daemon = int(process.stdout.readline())
        started.append((process, daemon))
        return started[-1]

    yield run
    for process, daemon in started:
        process.kill()
        process.communicate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


def identity_of(process: subprocess.Popen[str]) -> ProcessId:
    return ProcessId(socket.gethostname(), process.pid, process_start(process.pid))


def is_gone(pid: int) -> bool:
    for _ in range(300):
        if not process_start(pid):
            return True
        time.sleep(0.01)
    return False


def test_a_daemon_goes_with_the_process_that_started_it_and_nobody_else_does(start: Start) -> None:
    mark = new_mark(HISTORY)
    process, daemon = start(mark)
    _, bystander = start(new_mark(HISTORY))
    end_tree(identity_of(process), mark)
    assert process.wait(5) == -signal.SIGKILL
    assert is_gone(daemon)
    assert process_start(bystander)


def test_the_mark_of_a_living_process_is_read_from_it(start: Start) -> None:
    process, daemon = start(new_mark(HISTORY))
    end_tree(identity_of(process))
    process.wait(5)
    assert is_gone(daemon)


def test_a_daemon_of_a_process_that_is_long_gone_is_found(start: Start) -> None:
    mark = new_mark(HISTORY)
    process, daemon = start(mark)
    identity = identity_of(process)
    process.kill()
    process.wait(5)
    assert process_start(daemon)
    end_tree(identity, mark)
    assert is_gone(daemon)


def test_a_process_that_was_given_the_number_of_a_dead_one_is_left_alone(start: Start) -> None:
    process, daemon = start(new_mark(HISTORY))
    end_tree(ProcessId(socket.gethostname(), process.pid, "1@former"), new_mark(HISTORY))
    assert process.poll() is None
    assert process_start(daemon)


def test_a_worker_of_a_worker_goes_with_it_and_not_the_other_way_round(start: Start) -> None:
    outer = new_mark(HISTORY)
    inner = f"{outer}/0123456789abcdef"
    (above, _), (below, daemon) = start(outer), start(inner)
    end_tree(identity_of(below), inner)
    assert is_gone(daemon)
    assert above.poll() is None
    below, daemon = start(inner)
    end_tree(identity_of(above), outer)
    assert below.wait(5) == -signal.SIGKILL
    assert is_gone(daemon)


def test_a_process_ends_itself_with_what_it_started(start: Start) -> None:
    process, daemon = start(new_mark(HISTORY), ENDS_ITSELF)
    assert process.wait(20) == -signal.SIGKILL
    assert is_gone(daemon)


def test_without_a_mark_a_process_ends_itself_alone(start: Start) -> None:
    """Such as one that was not started by an agent."""
    process, daemon = start("", ENDS_ITSELF)
    _, bystander = start(new_mark(HISTORY))
    assert process.wait(20) == -signal.SIGKILL
    assert process_start(daemon)
    assert process_start(bystander)


def test_what_the_workers_of_a_history_have_left_is_ended_and_nothing_else(start: Start) -> None:
    (living, its_own), (_, another_s) = start(new_mark(HISTORY)), start(new_mark(Path("another.db")))
    dead, left = start(new_mark(HISTORY))
    dead.kill()
    dead.wait(5)
    end_leftovers(HISTORY, [identity_of(living), identity_of(dead)])
    assert is_gone(left)
    assert all(map(process_start, [living.pid, its_own, another_s]))
    end_leftovers(HISTORY, [])
    assert is_gone(its_own)
    assert process_start(another_s)


def test_a_process_may_have_any_bytes_for_its_name() -> None:
    code = r"open('/proc/self/comm', 'wb').write(b'\xc3) T x'); print('named', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "named\n"
    assert process_start(process.pid)
    assert not is_stopped(process.pid)
    process.communicate("\n")
    assert not process_start(process.pid)
    assert not is_stopped(process.pid)
