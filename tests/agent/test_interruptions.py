"""Searches that are really interrupted: signals, kill -9, a second agent. The witness file shows what was trained."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncode_search.agent import agent_lock
from ncode_search.agent.errors import HistoryInUseError
from ncode_search.agent.history import History
from ncode_search.agent.processes import process_start
from ncode_search.agent.states import TrialState

HERE = Path(__file__).parent
TOML = """
[search]
history = "{folder}/search.db"
trials = {trials}
workers = {workers}
timeout = "30s"
[space]
a = [0, 1, 2, 3]
b = [0, 1, 2, 3]
c = [0, 1, 2, 3]
[evaluator]
kind = "python"
function = "trial_functions:{function}"
[ranker]
kind = "{ranker}"
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, witness: Path) -> Iterator[Start]:
    """Starts ``ncode run`` in a process; nothing of it outlives the test."""
    shutil.copy(HERE / "trial_functions.py", tmp_path)
    started: list[subprocess.Popen[str]] = []

    def start(
        function: str = "slow", trials: int = 8, workers: int = 2, ranker: str = "evolution"
    ) -> subprocess.Popen[str]:
        file = tmp_path / "search.toml"
        file.write_text(TOML.format(folder=tmp_path, function=function, trials=trials, workers=workers, ranker=ranker))
        command = [sys.executable, "-m", "ncode_search.agent", "run", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    for pid in {int(line.split()[2]) for line in witness.read_text().splitlines()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def count(witness: Path, word: str) -> int:
    return Counter(line.split()[0] for line in witness.read_text().splitlines())[word]


def evaluated(witness: Path) -> list[str]:
    return [line.split()[1] for line in witness.read_text().splitlines() if line.startswith("end ")]


def states(folder: Path) -> Counter[TrialState]:
    with History.read(folder / "search.db") as history:
        return Counter(trial.state for trial in history.trials())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_lets_running_trials_finish(start: Start, witness: Path, tmp_path: Path, number: int) -> None:
    process = start(trials=50)
    wait_for(lambda: count(witness, "begin") >= 3)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert "the same command goes on" in output
    assert count(witness, "begin") == count(witness, "end") < 50
    assert states(tmp_path)[TrialState.RUNNING] == 0
    assert states(tmp_path)[TrialState.COMPLETE] == count(witness, "end")


@pytest.mark.slow
def test_a_second_signal_stops_now_and_queues_the_running_trials_again(
    start: Start, witness: Path, tmp_path: Path
) -> None:
    process = start("until_go", trials=4)
    wait_for(lambda: count(witness, "begin") == 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1, output
    assert "start again next time" in output
    assert count(witness, "end") == 0
    assert set(states(tmp_path)) == {TrialState.QUEUED}
    cut_off = {line.split()[1] for line in witness.read_text().splitlines()}

    assert start("slow", trials=4).wait(30) == 2, "another evaluator is another objective"
    (tmp_path / "go").touch()
    process = start("until_go", trials=4)
    assert process.wait(60) == 0, process.communicate()
    assert states(tmp_path) == {TrialState.COMPLETE: 4}
    assert cut_off < set(evaluated(witness))


@pytest.mark.slow
def test_sigterm_leaves_a_clean_state_within_ten_seconds(start: Start, witness: Path, tmp_path: Path) -> None:
    """Long before a service manager kills what it has asked to end."""
    process = start("endless", workers=2)
    wait_for(lambda: count(witness, "begin") == 2)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=20)
    assert 4 < time.monotonic() - asked < 10, "trials get a few seconds to finish"
    assert process.returncode == 1, output
    with History.read(tmp_path / "search.db") as history:
        assert {trial.state for trial in history.trials()} == {TrialState.QUEUED}
        assert {trial.failures for trial in history.trials()} == {0}
        assert agent_lock.owner(history) is None
    for pid in {int(line.split()[2]) for line in witness.read_text().splitlines()}:
        assert process_start(pid) == "", "its workers are gone"


def test_a_signal_before_the_first_trial_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    process = start()
    time.sleep(0.35)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode in (0, 1, -signal.SIGINT)
    assert not list(tmp_path.glob("*.db*")) or states(tmp_path)[TrialState.RUNNING] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_kill_9_of_the_agent_loses_no_completed_trial_and_repeats_none(
    start: Start, witness: Path, tmp_path: Path, seed: int
) -> None:
    moment = random.Random(seed)
    for _ in range(3):
        process = start(trials=14)
        reached = count(witness, "begin") + 1
        wait_for(lambda reached=reached: count(witness, "begin") >= reached)
        time.sleep(moment.uniform(0, 0.8))
        process.kill()
        process.communicate()
    process = start(trials=14)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert states(tmp_path) == {TrialState.COMPLETE: 14}
    codes = evaluated(witness)
    assert len(codes) == len(set(codes)) == 14, "a completed training was repeated"


@pytest.mark.slow
def test_a_training_that_outlives_its_agent_is_waited_for_and_not_repeated(
    start: Start, witness: Path, tmp_path: Path
) -> None:
    process = start("long", trials=3, workers=1)
    wait_for(lambda: count(witness, "begin") == 1)
    process.kill()
    process.communicate()
    process = start("long", trials=3, workers=1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "still being trained" in output
    assert count(witness, "begin") == count(witness, "end") == 3
    with History.read(tmp_path / "search.db") as history:
        assert {trial.attempt for trial in history.trials()} == {1}


@pytest.mark.slow
def test_kill_9_of_a_worker_costs_one_attempt(start: Start, witness: Path, tmp_path: Path) -> None:
    process = start("long", trials=2, workers=1)
    wait_for(lambda: count(witness, "begin") == 1)
    os.kill(int(witness.read_text().split()[2]), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    with History.read(tmp_path / "search.db") as history:
        assert [trial.attempt for trial in history.trials()] == [2, 1]


def test_a_second_agent_on_one_file_is_refused_with_who_has_it(start: Start, witness: Path) -> None:
    first = start(trials=50)
    wait_for(lambda: count(witness, "begin") >= 1)
    second = start(trials=50)
    output, _ = second.communicate(timeout=20)
    assert second.returncode == 2
    assert f"is in use by process {first.pid} on " in output
    assert first.poll() is None


@pytest.mark.slow
def test_a_resumed_search_has_the_codes_of_an_uninterrupted_one(start: Start, witness: Path, tmp_path: Path) -> None:
    def codes() -> list[str]:
        with History.read(tmp_path / "search.db") as history:
            return [trial.code for trial in history.trials()]

    assert start(trials=12, workers=1).wait(60) == 0
    whole = codes()
    for file in tmp_path.glob("search.db*"):
        file.unlink()
    for _ in range(3):
        process = start(trials=12, workers=1)
        reached = count(witness, "begin") + 2
        wait_for(lambda reached=reached: count(witness, "begin") >= reached)
        process.kill()
        process.communicate()
    assert start(trials=12, workers=1).wait(60) == 0
    assert codes() == whole


def test_the_history_is_not_in_use_after_its_agent_is_gone(start: Start, tmp_path: Path) -> None:
    process = start(trials=1)
    assert process.wait(30) == 0
    with History.attach(tmp_path / "search.db") as history:
        assert agent_lock.owner(history) is None
        try:
            agent_lock.claim(history)
        except HistoryInUseError:
            pytest.fail("the claim was not released")
