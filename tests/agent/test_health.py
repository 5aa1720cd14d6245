"""Whether a search is healthy: every threshold on histories made for it, and ``ncode status`` on real searches."""

import dataclasses
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncode_search import SearchSpace
from ncode_search.agent import agent_lock, health_report, run_record
from ncode_search.agent.health import LIMITS, Health, Limits, RunningTrial, examine, problems
from ncode_search.agent.history import Decision, History, Objective, Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.run_record import RunRecord
from ncode_search.agent.session import Session
from ncode_search.agent.settings import NotifySettings
from ncode_search.agent.wording import duration, last_line, size

SPACE = {"a": list(range(9)), "b": list(range(9))}
FINE = Health(
    agent="process 7 on here", run=RunRecord(0.0), run_age=9000.0, completed=40, target=100, since_completion=10.0,
    since_finish=10.0, longest=60.0, per_hour=60.0, per_hour_overall=50.0, failures={}, recent=20, recent_failed=0,
    decisions=60, fallbacks=0, running=[], disk_left=10**10, memory_total=10**10, memory_left=5 * 10**9,
)  # fmt: skip
LOST = RunningTrial(4, "11", "cpu", 500.0, 500.0, -440.0, None)
FIRST = RunningTrial(1, "11", "cpu", 3600.0, 5.0, 55.0, None, is_alive=True)
STARTED = {"longest": 0.0, "since_finish": None, "run_age": 3600.0}
ASKED = RunningTrial(4, "11", "caller", 500.0, None, None, None, is_alive=False)


def test_a_running_search_without_trouble_is_healthy() -> None:
    assert problems(FINE) == []
    assert health_report.verdict(FINE) == "healthy: running"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"since_finish": 1801.0}, "no trial has finished for 30 min"),
        ({"since_finish": None}, "no trial has finished for 2.5 h"),
        (STARTED, "no trial has finished for 60 min"),
        ({**STARTED, "running": [dataclasses.replace(FIRST, is_alive=False)]}, "no trial has finished for 60 min"),
        ({**STARTED, "running": [FIRST], "timeout": 3000.0}, "no trial has finished for 60 min"),
        ({**STARTED, "running": [dataclasses.replace(FIRST, seconds=12.1 * 3600)]}, "no trial has finished for 60 min"),
        ({"since_finish": 1801.0, "since_report": 1801.0}, "no trial has finished for 30 min"),
        ({"silence": 181.0},
         "its agent has given no sign of life for 3 min; see whether it is stopped, or hangs"),
        ({"recent_failed": 11}, "11 of the last 20 trials failed"),
        ({"fallbacks": 31}, "the ranker failed in 31 of the last hour's 60 decisions"),
        ({"running": [LOST]}, "the lease of trial 4 ran out 7 min ago"),
        ({"disk_left": 5 * 10**8}, "500 MB left on the disk"),
        ({"memory_left": 10**8}, "100 MB of memory left"),
        ({"agent": None}, "its agent died with 40 of 100 trials completed; start it again with `ncode run`"),
        ({"agent": None, "run": RunRecord(0.0, 1.0, "stopped")}, "stopped with 40 of 100 trials completed"),
        ({"agent": None, "run": RunRecord(0.0, 1.0, "paused", "all fail")},
         "paused with 40 of 100 trials completed: all fail"),
        ({"agent": None, "completed": 0, "run": RunRecord(0.0, 1.0, "exhausted"), "failures": {"ValueError: no": 9}},
         "exhausted with 0 of 100 trials completed: ValueError: no"),
        ({"agent": None, "run": None, "running": [ASKED]},
         "trial 4 is nobody's: the process that asked for it is gone"),
        ({"agent": None, "run": None, "running": [dataclasses.replace(LOST, device="caller")]},
         "trial 4 is nobody's: its lease ran out 7 min ago"),
    ],
)  # fmt: skip
def test_each_trouble_is_said(changed: dict, said: str) -> None:
    assert problems(dataclasses.replace(FINE, **changed)) == [said]


@pytest.mark.parametrize(
    "changed",
    [
        {"since_finish": 1799.0},
        {"since_finish": 5000.0, "longest": 1700.0},  # trials of half an hour are no silence
        {"since_finish": 5000.0, "run_age": 60.0},  # it was resumed a minute ago
        {"since_finish": 9e6, "run": None, "run_age": None},  # ask and tell
        {**STARTED, "running": [FIRST]},
        {**STARTED, "running": [FIRST], "timeout": 7200.0},
        {"since_finish": 9000.0, "since_report": 1799.0},  # a long one goes on
        {"silence": 179.0},
        {"agent": None, "run": None, "running": [dataclasses.replace(ASKED, is_alive=True)]},
        {"agent": None, "run": None, "running": [dataclasses.replace(ASKED, is_alive=None)]},  # on another machine
        {"agent": None, "run": None, "running": [dataclasses.replace(ASKED, lease_left=-59.0)]},
        {"recent": 9, "recent_failed": 9},
        {"recent_failed": 10},
        {"decisions": 9, "fallbacks": 9},
        {"running": [dataclasses.replace(LOST, lease_left=-LIMITS.lease_overdue)]},
        {"running": [dataclasses.replace(LOST, device="caller")]},
        {"memory_total": None, "memory_left": None},
        {"agent": None, "run": RunRecord(0.0, 1.0, "exhausted")},
        {"agent": None, "run": None},
    ],
)
def test_no_false_alarm(changed: dict) -> None:
    assert problems(dataclasses.replace(FINE, **changed)) == []


def test_everything_is_read_from_the_history(tmp_path: Path) -> None:
    with History.open(tmp_path / "h.db", SPACE, Objective()) as history:
        agent_lock.claim(history)
        history.remember("settings", {"trials": 50})
        for trial in range(1, 7):
            reason = "no answer" if trial == 2 else None
            history.add(trial, f"0{trial}", "x", Decision("x", None, None, 5, 1, 0.1, reason is not None, reason))
            history.start(trial, agent_lock.owner(history).__str__(), "cpu")
        history.complete(1, 1, 0.5)
        history.complete(2, 1, 0.6)
        history.fail(3, 1, "Traceback\n  line 7\nMemoryError: layer 3\n")
        history.fail(4, 1, "Traceback\n  line 9\nMemoryError: layer 3")
        history.fail(5, 1, "ValueError: no")
        found = examine(history, time.time() + 30)
        later = examine(history, time.time() + 2 * 3600)
        before = examine(history, time.time() - 500)  # the clock was set back
    assert (found.completed, found.target, found.recent, found.recent_failed) == (2, 50, 5, 3)
    assert found.failures == {"MemoryError: layer 3": 2, "ValueError: no": 1}
    assert (found.decisions, found.fallbacks, later.decisions, later.per_hour) == (6, 1, 0, 0)
    assert 29 < found.since_completion < 32
    assert found.per_hour == pytest.approx(2)
    [running] = found.running
    assert (running.trial, running.code) == (6, "06")
    assert 0 <= running.lease_age < 5
    assert 55 < running.lease_left <= 60
    assert running.memory is None or running.memory > 10**6  # None where this test leads no process group
    assert found.disk_left > 0
    assert (before.since_completion, before.running[0].seconds) == (0, 0)
    lines = "\n".join(health_report.health_lines(found))
    assert "2 x MemoryError: layer 3" in lines
    assert "1 of the last hour's 6 decisions fell back" in lines


@pytest.mark.parametrize(
    ("error", "how", "reason"),
    [
        (OSError("the disk went away"), "failed", "OSError: the disk went away"),
        (SystemExit(1), "failed", "SystemExit: 1"),
        (KeyboardInterrupt(), "interrupted", None),
    ],
)
def test_a_run_that_breaks_says_so(make_search, tmp_path: Path, error, how: str, reason: str | None) -> None:
    class Broken(Observer):
        def finished(self, trial: Trial) -> None:
            raise error

    with pytest.raises(type(error)):
        make_search(trials=4, observer=Broken()).run()
    with History.read(tmp_path / "search.db") as history:
        record = run_record.latest(history.meta())
    assert (record.how, record.reason) == (how, reason)


def status(history: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ncode_search.agent", "status", str(history), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_check_exits_with_1_where_the_agent_died_and_0_where_the_search_is_done(make_search, tmp_path: Path) -> None:
    make_search(trials=4).run()
    path = tmp_path / "search.db"
    done = status(path, "--check")
    assert (done.returncode, done.stdout) == (0, "healthy: done\n")
    assert status(path).stdout.startswith("healthy: done\nhistory ")
    with History.attach(path) as history:  # as kill -9 leaves it
        history.remember("run", dataclasses.asdict(RunRecord(time.time())))
    died = status(path, "--check")
    assert (died.returncode, died.stdout) == (
        1,
        "not healthy: its agent died with 4 of 4 trials completed; start it again with `ncode run`\n",
    )
    shown = status(path, "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["healthy"] is False
    make_search(trials=4).run()  # as was said
    assert status(path, "--check").stdout == "healthy: done\n"
    assert status(tmp_path / "none.db", "--check").returncode == 2


def test_a_search_in_which_nothing_completed_did_not_end_well(make_search, tmp_path: Path) -> None:
    told = "import os; print(os.environ['NCODE_EVENT'], os.environ['NCODE_MESSAGE'], file=open('told', 'a'))"
    notify = NotifySettings(shlex.join(["env", f"--chdir={tmp_path}", sys.executable, "-c", told]))
    search = make_search("always_fails", SearchSpace({"a": [1, 2]}), trials=9, retries=0, notify=notify)
    assert search.run().how == "exhausted"
    found = status(tmp_path / "search.db", "--check")
    assert (found.returncode, found.stdout) == (
        1, "not healthy: exhausted with 0 of 9 trials completed: ValueError: the data set is missing\n",
    )  # fmt: skip
    assert (tmp_path / "told").read_text() == "failed exhausted with 0 trials completed\n"


ASK = """
import sys
from ncode_search import Search, SearchSpace
search = Search(SearchSpace({"a": [1, 2, 3]}), history=sys.argv[1], ranker="random")
search.ask()
search.ask(lease=600)
print("asked", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_what_a_killed_process_had_asked_for_is_no_healthy_search(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    command = [sys.executable, "-c", ASK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        asking = status(path, "--check")
        process.kill()
    killed = status(path, "--check")
    assert (asking.returncode, asking.stdout) == (0, "healthy: running\n")
    assert (killed.returncode, killed.stdout) == (
        1, "not healthy: trial 1 is nobody's: the process that asked for it is gone\n",
    )  # fmt: skip


BEAT = """
import sys, time
from pathlib import Path
from ncode_search.agent import agent_lock
from ncode_search.agent.history import History
history = History.attach(Path(sys.argv[1]))
agent_lock.claim(history)
while True:
    agent_lock.renew(history)
    print("beat", flush=True)
    time.sleep(0.1)
"""


@pytest.mark.slow
def test_an_agent_that_was_stopped_gives_no_sign_of_life(tmp_path: Path) -> None:
    """By the clock of this boot: a jump of the wall clock is no silence."""
    path = tmp_path / "h.db"
    with (
        History.open(path, SPACE, Objective()) as history,
        subprocess.Popen([sys.executable, "-c", BEAT, str(path)], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "beat\n"
        beating = examine(history, time.time() + 7200)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        stopped = examine(history, time.time() - 7200)
        process.kill()
    limits = Limits(silent=2.0)
    assert (beating.silence or 0.0) < 2.0
    assert [line for line in problems(beating, limits) if "sign of life" in line] == []
    assert (stopped.silence or 0.0) > 2.0
    assert [line for line in problems(stopped, limits) if "no sign of life for" in line] != []


def test_a_run_gives_signs_of_life_and_asking_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(tmp_path / "h.db", SearchSpace(SPACE), Objective())
    try:
        assert examine(session.history).silence is None
        monkeypatch.setattr(agent_lock, "RENEW_EVERY", 0.0)
        session.renew()
        assert 0.0 <= (examine(session.history).silence or 0.0) < 5.0
        assert agent_lock.silence(session.history) is not None
    finally:
        session.close()


def test_sizes_and_durations_are_said_as_people_do() -> None:
    assert [duration(seconds) for seconds in (3, 89, 90, 5399, 5400, 200_000)] == [
        "3 s", "89 s", "2 min", "90 min", "1.5 h", "2.3 days",
    ]  # fmt: skip
    assert [size(count) for count in (7e6, 1.25e9)] == ["7 MB", "1.2 GB"]
    assert [last_line(error) for error in ("a\nb: c\n", "", None)] == ["b: c", "no reason", "no reason"]
