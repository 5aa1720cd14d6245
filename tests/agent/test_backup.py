"""Backups beside a history: sound, atomic, never in the way of the search."""

import contextlib
import logging
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ncode_search.agent import backup, run_files, snapshots
from ncode_search.agent.backup import Backup, Backups, backups_of
from ncode_search.agent.errors import HistoryError
from ncode_search.agent.history import History, Objective, Trial

SPACE = {"a": list(range(30)), "b": list(range(30))}


def fill(path: Path, first: int, last: int) -> list[Trial]:
    with History.open(path, SPACE, Objective()) as history:
        for trial in range(first, last + 1):
            history.add(trial, f"{trial // 30:x}{trial % 30:x}", "x")
            history.start(trial, "w", "cpu")
            history.complete(trial, 1, float(trial), {"notes": "x" * 500})
        return list(history.trials())


def count(path: Path) -> int:
    with History.read(path) as history:
        return sum(history.counts().values())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "h.db", 1, 40)
    return tmp_path / "h.db"


def test_a_backup_is_a_history_of_its_own(path: Path) -> None:
    with History.attach(path) as history:
        history.remember("left", "in the write-ahead log")
        made = Backup(path).run()
        assert made == backups_of(path)[0]
    with History.read(made) as copy:
        assert copy.meta()["left"] == "in the write-ahead log"
        assert copy.db.conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with History.open(made, SPACE, Objective()) as opened:
        opened.add(41, "99", "x")
    assert not run_files.beside(path, "backup.new").exists()


def test_the_last_two_are_kept(path: Path) -> None:
    newest, older = backups_of(path)
    for last in (40, 50, 60):
        fill(path, max(41, last - 9), last)
        Backup(path).run()
    assert (count(newest), count(older)) == (60, 50)


def test_it_is_made_with_the_users_umask(path: Path) -> None:
    before = os.umask(0o027)
    try:
        made = Backup(path).run()
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.stat().st_mode) == 0o640


def test_a_damaged_history_gives_none_and_the_last_good_one_stays(path: Path) -> None:
    newest = Backup(path).run()
    before = newest.read_bytes()
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 3 * 4096)
    with pytest.raises(HistoryError, match="ncode repair"):
        Backup(path).run()
    assert newest.read_bytes() == before
    assert not run_files.beside(path, "backup.new").exists()


def test_writers_do_not_wait_for_it(path: Path) -> None:
    fill(path, 41, 300)
    longest = 0.0
    with History.attach(path) as history:
        thread = threading.Thread(target=lambda: [Backup(path).run() for _ in range(5)])
        thread.start()
        for number in range(400):
            began = time.perf_counter()
            history.remember("number", number)
            longest = max(longest, time.perf_counter() - began)
        thread.join()
    assert count(backups_of(path)[0]) == 300
    assert longest < 2.0, "a write waited"


def is_making(one: Backups) -> bool:
    return one._thread is not None


def test_it_is_made_every_so_many_completed_trials_but_not_all_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = fill(path, 41, 41)[0]
    one = Backups(path, 3)
    for _ in range(2):
        one.finished(done)
    assert not is_making(one)
    one.finished(done)
    one._thread.join()
    assert backups_of(path)[0].exists()
    for _ in range(9):
        one.finished(done)
    assert not one._thread.is_alive()
    assert not backups_of(path)[1].exists(), "less than a minute has passed"
    monkeypatch.setattr(backup, "LEAST_PAUSE", 0.0)
    one.finished(done)
    one._thread.join()
    assert backups_of(path)[1].exists()
    for _ in range(90):
        Backups(path, 0).finished(done)


LIMITED = """
import logging, resource, sys
from pathlib import Path
from ncode_search.agent.backup import Backups
from ncode_search.agent.history import History
path = Path(sys.argv[1])
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
logging.basicConfig(format="%(message)s")
backups = Backups(path, 1)
with History.read(path) as history:
    backups.finished(next(history.trials()))
backups._thread.join()
print("goes on")
"""


def test_a_full_disk_costs_the_backup_and_nothing_else(path: Path) -> None:
    """The limit of a process's file size stops a write as a full disk does, without a disk to be filled."""
    assert resource.RLIMIT_FSIZE
    ran = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "goes on\n", ran
    assert ran.stderr.startswith("no backup of the history was made, the search goes on: ")
    assert len(ran.stderr.splitlines()) == 1
    assert {file.name for file in path.parent.iterdir()} <= {"h.db", "h.db-wal", "h.db-shm"}
    assert count(path) == 40


@pytest.mark.slow
def test_short_runs_have_backups_too(make_search, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each of five runs is shorter than a period, and ends with one: paused by a person, or done."""
    newest, _ = backups_of(tmp_path / "search.db")
    with caplog.at_level(logging.WARNING):
        for target in (4, 8, 12, 16, 20):
            make_search(trials=target, backup_every=50).run()
            assert backup.completed_in(newest) == target
        before = newest.stat().st_mtime_ns
        make_search(trials=20, backup_every=50).run()
    assert newest.stat().st_mtime_ns == before, "nothing has completed since"
    assert not caplog.records
    assert not run_files.beside(tmp_path / "search.db", "backup.new").exists()


def test_none_are_made_where_none_are_wanted(make_search, tmp_path: Path) -> None:
    make_search(trials=4, backup_every=0).run()
    assert not backups_of(tmp_path / "search.db")[0].exists()


def test_what_runs_that_were_killed_have_completed_counts(path: Path) -> None:
    fill(path, 41, 50)
    one = Backups(path, 20)
    one.opened(50, None)
    one._thread.join()
    assert backup.completed_in(backups_of(path)[0]) == 50
    again = Backups(path, 20)
    again.opened(69, None)
    assert not is_making(again), "19 are missing"
    again.opened(70, None)
    again.close()
    other = Backups(path, 20)
    other.opened(30, None)
    other.close()
    assert is_making(other), "a backup with more trials is of another search"


@pytest.mark.slow
@pytest.mark.parametrize(("how", "longest"), [("done", 8.0), ("interrupted", 3.0)])
def test_the_last_one_is_broken_off_where_it_takes_long(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str, longest: float
) -> None:
    slow = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    def check(made: Path, is_broken_off: threading.Event) -> None:
        with contextlib.closing(sqlite3.connect(made)) as connection:
            snapshots._heed(connection, is_broken_off)
            connection.execute(slow).fetchone()

    monkeypatch.setattr(snapshots, "check", check)
    one = Backups(path, 20)
    one.opened(1, None)
    one.ended(how, None)
    began = time.monotonic()
    one.close()
    assert time.monotonic() - began < longest
    assert not one._thread.is_alive()
    assert not backups_of(path)[0].exists()
