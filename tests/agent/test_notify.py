"""The user's own command: what it is told, and that nothing it does reaches the search."""

import json
import logging
import shlex
import sys
import time
from pathlib import Path

import pytest

from ncode_search import SearchSpace
from ncode_search.agent import notify
from ncode_search.agent.errors import InputError
from ncode_search.agent.history import History, Objective, Trial
from ncode_search.agent.notify import CommandThread, Notifier, environment, run_command
from ncode_search.agent.settings import NotifySettings

SPACE = SearchSpace({"a": list(range(9)), "b": list(range(9))})
RECORD = (
    "import json, os, sys; event = [os.environ['NCODE_EVENT'], json.load(sys.stdin)]; "
    "open('told', 'a').write(json.dumps(event) + chr(10))"
)
COMMAND = shlex.join([sys.executable, "-c", RECORD])
EVENT = {"event": "new_best", "message": "new best", "history": "h.db", "completed": 3, "target": 9}


def told(folder: Path) -> list[tuple[str, dict]]:
    path = folder / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def trials(tmp_path: Path) -> list[Trial]:
    """Three completed trials of values 1, 3, 2 and thirty failed ones."""
    with History.open(tmp_path / "h.db", SPACE.positions, Objective()) as history:
        for number in range(1, 34):
            history.add(number, SPACE.to_text(SPACE.core.enumerate(number, 1))[0], "x")
            history.start(number, "w", "cpu")
            if number <= 3:
                history.complete(number, 1, [1.0, 3.0, 2.0][number - 1])
            else:
                history.fail(number, 1, "ValueError: no")
        return list(history.trials())


def notifier(folder: Path, goal: str = "maximize", **settings: object) -> Notifier:
    return Notifier(NotifySettings(COMMAND, **settings), folder / "h.db", SPACE, Objective(goal), 40, folder)


def test_the_command_is_told_of_the_best_and_of_the_end(tmp_path: Path, trials: list[Trial]) -> None:
    one = notifier(tmp_path, every=0.001)
    one.opened(0, None)
    for trial in trials[:3]:
        one.finished(trial)
        time.sleep(0.4)
    one.ended("done", None)
    one.close()
    events = told(tmp_path)
    assert [name for name, _ in events] == ["new_best", "new_best", "finished"]
    _, last = events[-1]
    assert last["message"] == "done with 3 trials completed"
    assert last["history"] == str(tmp_path / "h.db")
    assert last["best"] == {
        "trial": 2, "code": trials[1].code, "value": 3.0, "metrics": {}, "config": SPACE.decode(trials[1].code),
    }  # fmt: skip


def test_a_lower_value_is_the_best_where_that_is_the_goal(tmp_path: Path, trials: list[Trial]) -> None:
    one = notifier(tmp_path, "minimize")
    one.opened(1, trials[1])
    one.finished(trials[2])
    one.finished(trials[1])
    one.close()
    assert [(name, event["best"]["value"]) for name, event in told(tmp_path)] == [("new_best", 2.0)]


@pytest.mark.slow
def test_of_a_burst_the_first_is_sent_and_the_newest_when_its_time_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(notify, "run_command", lambda settings, event, *more: sent.append(event["count"]))
    thread = CommandThread(NotifySettings(COMMAND, every=2.0), tmp_path)

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 20
        while len(sent) < count and time.monotonic() < deadline:
            time.sleep(0.02)

    thread.send({**EVENT, "count": 0})
    wait_for(1)
    for count in range(1, 50):
        thread.send({**EVENT, "count": count})
    wait_for(2)
    thread.send({**EVENT, "count": 99})
    thread.close()  # the last one is not due, and not waited for
    assert sent == [0, 49]


def test_failures_are_told_once_until_it_is_better(tmp_path: Path, trials: list[Trial]) -> None:
    one = notifier(tmp_path)
    for trial in trials:
        one.finished(trial)
    one.ended("paused", "all failed")
    one.close()
    assert [(name, event["message"]) for name, event in told(tmp_path)][1:] == [
        ("failure_rate", "17 of the last 20 trials failed"),
        ("paused", "paused with 3 trials completed: all failed"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "end"), [({"trials": 60, "patience": 2}, "stagnant"), ({"trials": 90}, "exhausted")]
)
def test_the_end_is_told_by_the_run_that_came_to_it(make_search, tmp_path: Path, settings: dict, end: str) -> None:
    """And not at every later start, as of a service at every boot."""
    command = shlex.join(["env", f"--chdir={tmp_path}", *shlex.split(COMMAND)])
    for _ in range(3):
        search = make_search("same", **settings, notify=NotifySettings(command))
        assert search.run().how == end
    ends = [event["message"].split()[0] for name, event in told(tmp_path) if name == "finished"]
    assert ends == [end]


def test_silence_is_told(tmp_path: Path) -> None:
    one = notifier(tmp_path, no_progress=0.3)
    one.beat()
    time.sleep(0.4)
    one.beat()
    one.beat()
    one.ended("stopped", None)  # by a person, who knows
    one.close()
    assert [name for name, _ in told(tmp_path)] == ["no_progress"]


def test_nothing_of_an_event_reaches_a_shell(tmp_path: Path) -> None:
    hostile = {**EVENT, "message": "$(touch hurt) `touch hurt`; touch hurt\0", "best": {"code": "'; touch hurt"}}
    run_command(NotifySettings(f"{COMMAND} '$NCODE_CODE' ; touch hurt"), hostile, tmp_path)
    assert [event for _, event in told(tmp_path)] == [hostile]
    assert not (tmp_path / "hurt").exists()
    assert "\0" not in environment(hostile)["NCODE_MESSAGE"]


@pytest.mark.parametrize(
    ("program", "timeout", "said"),
    [
        ("print('no server'); raise SystemExit(7)", 20.0, "exit code 7, no server"),
        ("import time; time.sleep(60)", 1.5, "not done within 1.5 s; killed"),
        ("import subprocess, sys, time; subprocess.Popen(['sleep', '61']); time.sleep(60)", 1.5, "killed"),
    ],
)
def test_a_command_that_fails_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, program: str, timeout: float, said: str
) -> None:
    began = time.monotonic()
    thread = CommandThread(NotifySettings(shlex.join([sys.executable, "-c", program]), timeout=timeout), tmp_path)
    with caplog.at_level(logging.WARNING):
        thread.send(EVENT)
        assert time.monotonic() - began < 1.0, "sending does not wait"
        thread.close()
    [record] = [record for record in caplog.records if "notify" in record.name]
    assert said in record.getMessage()
    assert "\n" not in record.getMessage()
    assert time.monotonic() - began < 10


def test_a_program_that_is_gone_meanwhile_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thread = CommandThread(NotifySettings("./gone.sh"), tmp_path)
    thread.send(EVENT)
    thread.close()
    assert "No such file" in caplog.text


FILE = """
[search]
history = "h.db"
[space]
a = [1, 2]
[evaluator]
kind = "table"
path = "x.csv"
metric = "m"
[notify]
{line}
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("command = 'no-such-program-here'", r"\[notify\] command: there is no program no-such-program-here"),
        ("command = './mine.sh'", r"\[notify\] command: there is no program ./mine.sh"),
        ("command = '\"x'", r"\[notify\] command is '\"x': No closing quotation"),
        ("command = ''", r"\[notify\] command is empty"),
        ("comand = 'x'", r"\[notify\] comand is no key .* did you mean \"command\""),
        ("no_progress = 'soon'", r"\[notify\] no_progress is 'soon'; allowed"),
        ("failure_rate = 2.0", r"\[notify\] failure_rate is 2.0; allowed"),
    ],
)
def test_wrong_settings_are_refused(load_file, line: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_file(FILE.format(line=line))


def test_a_script_beside_the_search_file_is_found(load_file, tmp_path: Path) -> None:
    script = tmp_path / "mine.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert load_file(FILE.format(line="command = './mine.sh now'")).notify.command == "./mine.sh now"


@pytest.mark.slow
def test_a_search_is_not_held_up_by_its_command(make_search, tmp_path: Path) -> None:
    slow = shlex.join([sys.executable, "-c", "import time; time.sleep(30)"])
    search = make_search("same", trials=12, notify=NotifySettings(slow, timeout=1.0))
    search.run()
    with search.history() as history:
        first, last = history.db.conn.execute("SELECT min(created_at), max(finished_at) FROM trials").fetchone()
    assert last - first < 20, "twelve trials of nothing, beside a command of 30 s"
    log = (tmp_path / "search.db.log").read_text()
    assert "not done within 1 s" in log
