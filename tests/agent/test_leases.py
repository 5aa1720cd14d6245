"""Leases: taken back once, never from the living, and what comes late is not lost."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ncode_search.agent import keeper, leases
from ncode_search.agent.errors import IllegalTransitionError, InputError
from ncode_search.agent.history import History, Objective, Trial
from ncode_search.agent.leases import LeaseWatch
from ncode_search.agent.processes import ProcessId, process_start
from ncode_search.agent.session import MOST_LOST, Session
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.states import TrialState

HERE = Path(__file__).parent
SPACE = SearchSpace({"a": [0, 1, 2], "b": [0, 1, 2]})
ELSEWHERE = "elsewhere:1:x"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.db"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    with History.open(path, SPACE.positions, Objective()) as history:
        yield history


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the clock that leases run out by forward: beside minutes, what the tests themselves take is nothing."""
    passed: list[float] = []
    clock = SimpleNamespace(time=lambda: time.time(), monotonic=lambda: time.monotonic() + sum(passed))
    monkeypatch.setattr(leases, "time", clock)
    return passed.append


# Taking back


def test_complaint_04_of_racing_processes_one_takes_a_trial_back(raced, path: Path, history: History) -> None:
    for trial in range(1, 101):
        history.add(trial, f"code{trial}", "random")
        history.start(trial, ELSEWHERE, "cpu")
    assert raced("race_to_take_back", path, 100, 100, 100) == list(range(1, 101))
    assert history.counts()[TrialState.QUEUED] == 100


def test_complaint_07_a_renewal_in_the_last_moment_wins(history: History) -> None:
    history.add(1, "00", "random")
    attempt = history.start(1, ELSEWHERE, "cpu")
    seen = history.trial(1)
    assert history.renew(1, attempt)
    assert not history.take_back(seen)
    assert history.take_back(history.trial(1))
    assert not history.renew(1, attempt)


def test_a_late_result_counts_if_nobody_else_was_given_the_trial(history: History) -> None:
    for trial, finish in ((1, lambda n: history.complete(1, n, 0.5)), (2, lambda n: history.prune(2, n))):
        history.add(trial, f"0{trial}", "random")
        attempt = history.start(trial, ELSEWHERE, "cpu")
        history.take_back(history.trial(trial))
        finish(attempt)
    assert [trial.state for trial in history.trials()] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert (history.trial(1).value, history.duplicates()) == (0.5, [])


def test_a_late_result_is_kept_as_a_duplicate_if_somebody_was(history: History) -> None:
    history.add(1, "00", "random")
    late = history.start(1, ELSEWHERE, "cpu")
    history.take_back(history.trial(1))
    again = history.start(1, "here:1:x", "cpu")
    with pytest.raises(IllegalTransitionError, match="attempt 1, cannot become complete: it is running, attempt 2"):
        history.complete(1, late, 0.25, {"loss": 1.0})
    history.complete(1, again, 0.5)
    with pytest.raises(IllegalTransitionError):
        history.complete(1, late, 0.25)
    with pytest.raises(IllegalTransitionError):
        history.complete(1, again, 0.5)  # said twice by the same: no duplicate
    (kept,) = history.duplicates()
    assert (kept.trial, kept.attempt, kept.state, kept.value) == (1, 1, TrialState.COMPLETE, 0.25)
    assert (kept.metrics, history.trial(1).value) == ({"loss": 1.0}, 0.5)


def test_a_late_failure_changes_nothing(history: History) -> None:
    history.add(1, "00", "random")
    attempt = history.start(1, ELSEWHERE, "cpu")
    history.take_back(history.trial(1))
    with pytest.raises(IllegalTransitionError):
        history.fail(1, attempt, "boom")
    assert (history.trial(1).state, history.trial(1).failures) == (TrialState.QUEUED, 0)


# Who lives


def running(history: History, worker: str, lease: float | None, device: str = "cpu") -> None:
    history.add(1, "00", "random")
    history.start(1, worker, device, lease)


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
@pytest.mark.parametrize("boot", ["this", "another"])
def test_no_jump_of_the_clock_ends_a_lease_or_lengthens_it(
    history: History, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, jump: float, boot: str
) -> None:
    running(history, ELSEWHERE, 1000.0)
    now, watch, passed = time.time(), LeaseWatch(), 0.0
    monkeypatch.setattr(time, "time", lambda: now + jump)

    def is_over() -> bool:
        trial = history.trial(1)
        return watch.is_over(trial if boot == "this" else replace(trial, lease_boot="another machine's"))

    while not is_over():
        pass_time(60.0)
        passed += 60.0
    assert 1000.0 <= passed < 1200.0


def test_the_lease_of_another_machine_runs_out_by_being_watched(
    history: History, pass_time: Callable[[float], None]
) -> None:
    running(history, ELSEWHERE, 300.0)
    watch = LeaseWatch()

    def seen():
        return replace(history.trial(1), lease_boot="another machine's")

    assert not watch.is_over(seen())
    pass_time(200.0)
    history.renew(1, 1, 300.0)
    for _ in range(2):
        assert not watch.is_over(seen())
        pass_time(200.0)
    assert watch.is_over(seen())


def test_complaint_07_a_lease_that_ran_out_is_looked_at_twice(
    history: History, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that wakes up must have the time to renew."""
    monkeypatch.setattr(leases, "CONFIRM", 200.0)
    running(history, ELSEWHERE, 50.0)
    pass_time(100.0)
    watch = LeaseWatch()
    assert not watch.is_over(history.trial(1))
    assert not watch.is_over(history.trial(1)), "the two looks are apart"
    history.renew(1, 1, 50.0)
    pass_time(250.0)
    assert not watch.is_over(history.trial(1)), "it was renewed between the two looks"
    pass_time(250.0)
    assert watch.is_over(history.trial(1))


def test_a_worker_here_lives_as_long_as_its_process_even_if_that_is_stopped(history: History) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        running(history, str(ProcessId(ProcessId.current().host, process.pid, process_start(process.pid))), 0.01)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        watch = LeaseWatch()
        assert not watch.is_over(history.trial(1))
        assert not watch.is_over(history.trial(1))
    finally:
        process.kill()
        process.communicate()
    assert watch.is_over(history.trial(1))


def test_an_orphan_that_is_renewed_in_the_last_moment_is_watched_on(
    path: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "CONFIRM", 0.01)
    running(history, ELSEWHERE, 0.05)
    take_back = History.take_back

    def renewed_meanwhile(self: History, seen: Trial) -> bool:
        history.renew(1, 1, 0.05)
        return take_back(self, seen)

    session = Session(path, SPACE, Objective())
    try:
        with monkeypatch.context() as patch:
            patch.setattr(History, "take_back", renewed_meanwhile)
            for _ in range(3):
                time.sleep(0.1)
                session._look_after_orphans()
        assert ([trial.id for trial in session.orphans], list(session.queue)) == ([1], [])
        while session.orphans:
            time.sleep(0.1)
            session._look_after_orphans()
        assert [chosen.trial for chosen in session.queue] == [1]
    finally:
        session.close()


def test_a_trial_that_takes_everything_down_with_it_is_not_tried_for_ever(path: Path) -> None:
    """Under a service manager an agent is started again whatever a trial did to it and to the worker."""
    with History.open(path, SPACE.positions, Objective()) as history:
        history.add(1, "00", "random")
    for _ in range(MOST_LOST):
        with History.attach(path) as history:
            history.start(1, str(ProcessId(ProcessId.current().host, 2**22 + 1, "x")), "cpu")
        Session(path, SPACE, Objective()).close()
    with History.read(path) as history:
        assert history.trial(1).state is TrialState.FAILED
        assert "were lost together with whatever ran them" in history.trial(1).error


# Ask and tell


def test_an_asked_trial_is_its_caller_s_while_it_is_renewed(
    make_search, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "CONFIRM", 0.05)
    with make_search(None) as search:
        kept, lost, forever = search.ask(lease=400), search.ask(lease=400), search.ask()
        for _ in range(3):
            pass_time(200.0)
            kept.renew()
        again = search.ask(lease=400)
        assert (again.id, again.attempt) == (lost.id, 2)
        assert search.ask().id not in (kept.id, lost.id, forever.id)
        with pytest.raises(IllegalTransitionError, match="was taken back"):
            lost.renew()
        search.tell(again, 0.5)
        search.tell(kept, 0.25)
        assert search.tell(lost, 0.125) == "duplicate"
    with search.history() as history:
        assert [(one.trial, one.value) for one in history.duplicates()] == [(lost.id, 0.125)]


def test_a_trial_told_late_is_not_given_to_another(
    make_search, pass_time: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "CONFIRM", 0.05)
    with make_search(None) as search:
        late, other = search.ask(lease=100), search.ask(lease=100)
        pass_time(200.0)
        assert search.ask().id == min(late.id, other.id)  # both were taken back, one is given away
        waiting = max(late, other, key=lambda trial: trial.id)
        search.tell(waiting, 0.5)
        assert search.ask().id == 3
    with search.history() as history:
        assert history.trial(waiting.id).value == 0.5


def test_a_lease_must_be_a_time(make_search) -> None:
    with make_search(None) as search, pytest.raises(InputError, match="lease is 0"):
        search.ask(lease=0)


ASKER = """
import sys, time
from ncode_search import Search, SearchSpace
search = Search(SearchSpace({"a": [0, 1, 2, 3], "b": [0, 1, 2, 3], "c": [0, 1, 2, 3]}),
                history=sys.argv[1], ranker="random")
print(search.ask().id, search.ask(lease=100).id, search.ask(lease=3000).id, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_complaint_05_kill_9_of_a_caller_leaves_no_zombies(
    make_search, path: Path, pass_time: Callable[[float], None]
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ASKER, str(path)], stdout=subprocess.PIPE, text=True)
    asked = [int(number) for number in process.stdout.readline().split()]
    process.kill()
    process.communicate()
    pass_time(200.0)
    with make_search(None) as search:
        again = {search.ask().id, search.ask().id}
        assert again == set(asked[:2]), "one without a lease, one whose lease ran out"
        assert search.ask().id == 4, "whoever evaluates the third may outlive the process that asked"


# The keeper inside a worker

Keep = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def keep(path: Path, history: History, tmp_path: Path) -> Iterator[Keep]:
    """Starts `keeper_program`, and waits until its attempt at trial 1 has begun."""
    history.add(1, "00", "random")
    started: list[subprocess.Popen[str]] = []

    def start(what: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "keeper_program.py"), str(path), what]
        with (tmp_path / "output").open("w+b") as output:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        started.append(process)
        assert process.stdout.readline() == "begun\n", (tmp_path / "output").read_text()
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def is_renewed(history: History) -> bool:
    """Whether trial 1 is, soon; its keeper does so every 0.2 s."""
    before, deadline = history.trial(1).lease_until, time.monotonic() + 10
    while history.trial(1).lease_until <= before and time.monotonic() < deadline:
        time.sleep(0.02)
    return history.trial(1).lease_until > before


def test_a_worker_renews_its_lease(keep: Keep, history: History) -> None:
    keep("renews")
    assert is_renewed(history)


@pytest.mark.slow
def test_complaint_03_a_locked_file_does_not_end_the_renewals(keep: Keep, history: History) -> None:
    keep("renews")
    with contextlib.closing(sqlite3.connect(history.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(1.6)  # longer than a renewal waits
        db.execute("ROLLBACK")
    assert is_renewed(history)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "state"), [("sleeps", TrialState.FAILED), ("retries", TrialState.QUEUED)])
def test_complaint_08_a_worker_without_an_agent_is_ended_at_its_deadline_and_says_so(
    keep: Keep, history: History, what: str, state: TrialState
) -> None:
    assert keep(what).wait(20) == -signal.SIGKILL
    assert (history.trial(1).state, history.trial(1).failures) == (state, 1)
    assert "not done within the timeout" in history.trial(1).error


def test_complaint_08_native_code_that_lets_no_thread_run_is_ended_by_the_alarm(keep: Keep) -> None:
    process = keep("holds_the_lock")
    assert 12 < float(process.stdout.readline()) <= 14, "the first alarm only sets a second one"
    process.send_signal(signal.SIGALRM)
    assert process.wait(20) == -signal.SIGALRM


@pytest.mark.slow
def test_a_worker_that_was_stopped_gets_the_rest_of_its_time(keep: Keep, history: History) -> None:
    """Stopped for longer than its timeout and its alarm, which goes off meanwhile."""
    process = keep("stopped")
    process.send_signal(signal.SIGSTOP)
    time.sleep(4.0)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=20)[0] == "evaluated\nrecorded\n"
    assert process.returncode == 0
    assert history.trial(1).state is TrialState.RUNNING


@pytest.mark.slow
def test_what_a_worker_prints_is_bounded_and_its_end_kept(keep: Keep, tmp_path: Path) -> None:
    process = keep("prints")
    largest = 0
    while process.poll() is None:
        largest = max(largest, (tmp_path / "output").stat().st_size)
        time.sleep(0.02)
    assert 0 < largest < 15_000_000 < 200 * 100_000
    assert (tmp_path / "output").read_bytes().endswith(b"last words")


@pytest.mark.parametrize("is_over", [False, True])
def test_a_lock_that_outlasts_an_overdue_trial_costs_the_next_one_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(keeper.Keeper, "_arm", lambda self: None)  # the alarm is the tests' own
    monkeypatch.setattr(keeper, "end_own_tree", lambda: ended.append(True))
    watching, overdue = keeper.Keeper(path, 1.0), keeper.Attempt(1, 1, retry=True)

    class Locked:
        """Until what was overdue has been recorded after all, and another evaluation begun."""

        def requeue(self, *_given: object, **_more: object) -> None:
            if is_over:
                watching.evaluated()
                watching.end()
                watching.begin(keeper.Attempt(2, 1, retry=True))
            raise sqlite3.OperationalError("database is locked")

    watching.begin(overdue)
    watching._give_up(Locked(), overdue)
    assert ended == [True] * (not is_over)
