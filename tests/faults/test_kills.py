"""Kill -9 at random moments of the agent, of a worker, of both: nothing is lost, nothing is done twice, and what one
worker searches is what it would have searched undisturbed.
"""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.harness import HERE, LONG, FaultySearch, kill_at_random, wait_for, workers_of
from tests.faults.invariants import completed_evaluations

KILLS = 200 if LONG else 20
pytestmark = pytest.mark.slow


@pytest.mark.timeout(3600 if LONG else 120)
def test_complaint_10_a_search_killed_at_random_points_is_the_one_it_would_have_been(tmp_path: Path) -> None:
    """One worker, a deterministic evaluator, the same seed: the same set of (trial number, code)."""
    settings = {"trials": 4 * KILLS, "workers": 1, "seed": 7}
    with FaultySearch(tmp_path / "whole", **settings) as whole, FaultySearch(tmp_path / "killed", **settings) as killed:
        whole.finish(600)
        killed.watch_moves()
        assert kill_at_random(killed, KILLS, random.Random(1)) == KILLS, "it was over before it was killed often enough"
        killed.check()
        assert killed.codes() == whole.codes()
        order = "SELECT id, value, proposed_by FROM trials ORDER BY id"
        assert killed.rows(order) == whole.rows(order)


@pytest.mark.timeout(3600 if LONG else 240)
def test_a_search_that_stops_trials_early_is_the_one_it_would_have_been(tmp_path: Path) -> None:
    """So are its stops and promotions, and no epoch is trained twice but the one that a kill fell into."""
    asha = 'stop = "asha"\nmetric = "accuracy"\nmost_epochs = 9'
    kills = KILLS // 2
    settings = {"function": "trained", "trials": 2 + kills // 3, "workers": 1, "seed": 3, "more": asha}
    with FaultySearch(tmp_path / "whole", **settings) as whole, FaultySearch(tmp_path / "killed", **settings) as killed:
        whole.finish(600)
        killed.watch_moves()
        kill_at_random(killed, kills, random.Random(3))
        killed.check()
        assert killed.count("kill") >= kills, "the search was over before it was killed often enough"
        order = "SELECT id, code, state, value, budget, error, proposed_by FROM trials WHERE attempt > 0 ORDER BY id"
        assert killed.rows(order) == whole.rows(order)
        epochs = "SELECT trial, step, score FROM epochs GROUP BY trial, step ORDER BY trial, step"
        assert killed.rows(epochs) == whole.rows(epochs)
        assert whole.rows("SELECT 1 FROM trials WHERE state = 'complete' AND attempt > 1"), "none was promoted"
        assert killed.count("epoch") <= whole.count("epoch") + kills


def test_no_report_is_lost_to_a_kill_after_its_checkpoint(tmp_path: Path) -> None:
    """Neither at a rung nor before the first one: the epoch is trained again, with its rung's score."""
    settings = {"trials": 3, "workers": 1, "seed": 3, "more": 'stop = "asha"\nmetric = "accuracy"\nmost_epochs = 9'}
    with (
        FaultySearch(tmp_path / "whole", "trained", **settings) as whole,
        FaultySearch(tmp_path / "killed", "dies_before_a_report", **settings) as killed,
    ):
        whole.finish()
        killed.finish()
        epochs = "SELECT trial, step, score FROM epochs GROUP BY trial, step ORDER BY trial, step"
        assert killed.rows(epochs) == whole.rows(epochs)
        order = "SELECT id, code, state, value, budget FROM trials WHERE attempt > 0 ORDER BY id"
        assert killed.rows(order) == whole.rows(order)
        assert killed.rows("SELECT sum(failures) FROM trials")[0][0] > 3


@pytest.mark.timeout(3600 if LONG else 120)
def test_complaint_05_two_workers_survive_kills_of_whatever_there_is(tmp_path: Path) -> None:
    kills = KILLS // 4
    with FaultySearch(tmp_path, "second", trials=4 * kills) as search:
        search.watch_moves()
        assert kill_at_random(search, kills, random.Random(2)) == kills
        search.check()


def test_a_worker_that_dies_as_the_search_starts_is_replaced(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, trials=4, environment={"NCODE_TEST_SLOW_IMPORT": "1"}) as search:
        process = search.start()
        wait_for(lambda: workers_of(process.pid))
        search.kill(workers_of(process.pid)[0])
        (tmp_path / "go").touch()
        assert "trying again" in search.wait(process)
        search.check()


def test_complaint_10_resume_counts_completions_and_not_numbers(tmp_path: Path) -> None:
    """Failed trials do not count towards the target, before and after a restart."""
    space = 'fate = ["exit", "fine"]\nx = [0, 1, 2, 3, 4, 5]'
    with FaultySearch(tmp_path, "hostile", trials=5, workers=1, retries=0, space=space) as search:
        process = search.start()
        wait_for(lambda: search.count("end") >= 2)
        search.kill(process.pid)
        process.wait()
        search.finish()
        search.check()
        assert search.rows("SELECT count(*) FROM trials")[0][0] > 5


# The judge


def judged(search: FaultySearch) -> str:
    command = [sys.executable, str(HERE / "invariants.py"), str(search.history), str(search.witness), "--target", "3"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> FaultySearch:
    with FaultySearch(tmp_path_factory.mktemp("sound"), trials=3, workers=1) as search:
        search.watch_moves()
        search.finish()
        search.check()
        return search


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        ("UPDATE trials SET value = 9 WHERE id = 1", "", "is recorded with 9.0"),
        ("UPDATE trials SET state = 'running', value = NULL WHERE id = 2", "", "trial 2 was left running"),
        ("UPDATE trials SET attempt = 5, state = state WHERE id = 2", "", "in attempt 5 of 1"),
        ("DELETE FROM decisions WHERE trial = 3", "", "nobody decided on trial 3"),
        ("DELETE FROM trials WHERE id = 2", "", "2 trials, and the last is number 3"),
        ("UPDATE trials SET lease_until = 1 WHERE id = 1", "", "does not look like it"),
        ("", "end 9999 1 0.5", "code 9999 was completed and is not recorded"),
        ("", "end {code} 1 {value}", "2 times to completion"),
    ],
)
def test_the_judge_sees_what_is_wrong(sound: FaultySearch, tmp_path: Path, change: str, line: str, said: str) -> None:
    with FaultySearch(tmp_path, trials=3) as search:
        search.history.write_bytes(sound.history.read_bytes())
        code, value = sound.rows("SELECT code, value FROM trials WHERE id = 1")[0]
        search.witness.write_text(sound.witness.read_text() + line.format(code=code, value=value))
        assert "all invariants hold" in judged(search) or line
        with sqlite3.connect(search.history) as db:
            db.execute(change)
        db.close()
        assert said in judged(search)


def test_the_judge_forgives_only_what_was_killed_before_it_could_be_recorded(tmp_path: Path) -> None:
    killed_at_the_end = "begin 00 7\nend 00 7 0.5\nkill 7\nbegin 00 8\nend 00 8 0.5\nkill 8"
    assert completed_evaluations(killed_at_the_end + "\nkill 9") == ([], {"00"})
    ended_as_it_was_killed = "begin 00 7\nkill 7\nend 00 7 0.5\nbegin 00 8\nend 00 8 0.5"
    assert completed_evaluations(ended_as_it_was_killed) == ([("00", 0.5)], {"00"})
    same_number_later = "begin 00 7\nkill 7\nbegin 00 7\nend 00 7 0.5"
    assert completed_evaluations(same_number_later) == ([("00", 0.5)], set())
    went_on = "end 00 7 0.5\nbegin 01 7\nkill 7\nend 00 8 0.5"
    assert completed_evaluations(went_on) == ([("00", 0.5), ("00", 0.5)], set())


def test_what_is_killed_does_nothing_after_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultySearch(tmp_path, "trained", trials=40, workers=1) as search:
        process = search.start()
        wait_for(lambda: search.count("epoch") >= 2)
        (worker,) = workers_of(process.pid)
        note = search.note_kill
        seen: list[int] = []

        def slowly(*pids: int) -> None:
            seen.append(search.count("epoch"))
            time.sleep(0.5)
            seen.append(search.count("epoch"))
            note(*pids)

        monkeypatch.setattr(search, "note_kill", slowly)
        search.kill(worker)
        assert seen[0] == seen[1]
        wait_for(lambda: search.count("epoch") > seen[1])


def test_the_harness_finds_the_workers(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "second", trials=4) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") == 2)
        assert {int(pid) for _, pid in search.lines("begin")} == set(workers_of(process.pid))
