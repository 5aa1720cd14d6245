"""The history's file: a full disk, a lock, a long reader, no permission, damage, an older version."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncode_search.agent.errors import HistoryError
from ncode_search.agent.processes import process_start
from ncode_search.agent.search_file import SearchFile
from tests.faults.disks import fill, small_disk_or_skip
from tests.faults.harness import LONG, FaultySearch, locked, long_reader, stopped, wait_for, workers_of

pytestmark = pytest.mark.slow


def test_a_full_disk_makes_the_search_wait_until_there_is_room(tmp_path: Path) -> None:
    with small_disk_or_skip(tmp_path / "disk", "8m") as disk:
        history = disk / "search.db"
        with FaultySearch(tmp_path / "run", trials=30, workers=2, timeout=1, retries=0, history=history) as search:
            search.watch_moves()
            process = search.start()
            wait_for(lambda: search.count("end") >= 4)
            filler = fill(disk)
            wait_for(lambda: "be written" in search.output.read_text())
            time.sleep(1.5)  # longer than a trial may take
            assert process.poll() is None
            filler.unlink()
            said = search.wait(process)
            search.check()
            assert "free some space on the disk" in said
            assert search.rows("SELECT DISTINCT state, failures FROM trials") == [("complete", 0)]


def test_a_start_on_a_full_disk_is_to_be_tried_again_and_no_reason_to_repair(tmp_path: Path) -> None:
    with small_disk_or_skip(tmp_path / "disk", "8m") as disk:
        with FaultySearch(tmp_path / "run", trials=2, history=disk / "search.db") as search:
            search.finish()
        filler = fill(disk)
        with FaultySearch(tmp_path / "run", trials=3, history=disk / "search.db") as search:
            assert search.start().wait(30) == 1, "a service manager does not start it again after 2"
            said = search.output.read_text().splitlines()[-1]
            assert said.startswith("ncode: ")
            assert "see that the disk has room" in said
            assert "repair" not in said
            filler.unlink()
            search.finish()


def test_complaint_03_a_file_that_another_process_locks_makes_the_search_wait(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "silent", trials=12, workers=2, timeout=1.5, retries=0) as search:
        search.watch_moves()
        process = search.start()
        wait_for(lambda: search.count("end") >= 2)
        with locked(search.history):
            time.sleep(30 if LONG else 4)
            assert process.poll() is None
        search.wait(process)
        search.check()
        assert search.rows("SELECT DISTINCT state, failures FROM trials") == [("complete", 0)]


def test_complaint_03_a_result_that_meets_a_lock_outlasts_its_trial_s_deadline(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "silent_half_second", trials=4, workers=2, timeout=1.5, retries=0) as search:
        search.watch_moves()
        process = search.start()
        wait_for(lambda: search.count("begin") > search.count("end"))
        time.sleep(0.2)  # so that the workers alone have something to write, and the agent looks at its clock
        with locked(search.history):
            time.sleep(4)
        search.wait(process)
        search.check()
        assert search.rows("SELECT DISTINCT state, failures FROM trials") == [("complete", 0)]


def test_a_result_that_waits_outlasts_its_agent_and_its_trial_s_deadline(tmp_path: Path) -> None:
    """The next agent cannot tell that its evaluation is over, and must not end its worker."""
    with FaultySearch(tmp_path, "silent_until_go", trials=2, workers=1, timeout=5, retries=0) as search:
        search.watch_moves()
        process = search.start()
        wait_for(lambda: search.count("begin") == 1)
        with contextlib.ExitStack() as until_later:
            with locked(search.history):
                (tmp_path / "go").touch()
                wait_for(lambda: search.count("end") == 1)
                until_later.enter_context(stopped(*workers_of(process.pid)))
                search.kill(process.pid)
                process.wait()
            process = search.start()
            wait_for(lambda: "is still being trained" in search.output.read_text())
            time.sleep(7)
        search.wait(process)
        search.check()
        assert search.rows("SELECT DISTINCT state, attempt FROM trials") == [("complete", 1)]


def test_a_start_that_waits_for_the_lock_shares_one_write_ahead_log_with_its_workers(tmp_path: Path) -> None:
    """Whoever held the lock closes the file, and must not take itself for the last one and remove the log."""
    with FaultySearch(tmp_path, trials=8) as search:
        search.watch_moves()
        with locked(search.history):
            process = search.start()
            time.sleep(6)
            assert process.poll() is None
        search.wait(process)
        search.check()


@pytest.mark.parametrize("place", ["", "1", "1/kept"])
def test_a_link_that_is_planted_during_a_run_is_written_and_deleted_through_by_nobody(
    tmp_path: Path, place: str
) -> None:
    victim = tmp_path / "victim"
    for folder in ("1/kept", "2", "kept"):
        (victim / folder).mkdir(parents=True)
        (victim / folder / "precious").touch()
    before = sorted(victim.rglob("*"))
    with FaultySearch(tmp_path / "run", "keeps", trials=2, workers=1) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") == 1)
        folders = search.folder / "search.db.trials"
        (folders / place).parent.mkdir(parents=True, exist_ok=True)
        (folders / place).symlink_to(victim)
        (search.folder / "go").touch()
        search.wait(process)
        search.check()
        assert sorted(victim.rglob("*")) == before
        assert sorted(file.name for file in folders.rglob("*") if file.is_file()) == ["adapter", "adapter"]


def terminated(process: subprocess.Popen[bytes]) -> float:
    """Seconds that a process takes to end after SIGTERM."""
    process.terminate()
    began = time.monotonic()
    process.wait(60)
    return time.monotonic() - began


def test_a_signal_is_heard_while_the_file_is_locked(tmp_path: Path) -> None:
    """Both while trials are under way and while the next run wants to begin."""
    with FaultySearch(tmp_path, "second", trials=6, retries=0) as search:
        search.watch_moves()
        process = search.start()
        wait_for(lambda: search.count("end") >= 2)
        with locked(search.history):
            workers = workers_of(process.pid)
            time.sleep(3)
            assert terminated(process) < 10
            search.note_kill(*workers)  # for the witness: they went with their agent
            process = search.start()
            time.sleep(3)
            assert process.poll() is None
            assert terminated(process) < 10
        search.finish()
        search.check()


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_history_that_is_lost_during_a_run_ends_it_in_one_line(tmp_path: Path, how: str) -> None:
    """Also where a worker has to be replaced, which must not make an empty history."""
    with FaultySearch(tmp_path / "run", "second", trials=40, retries=0) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") >= 2)
        take_away(search.history, how, tmp_path)
        search.kill(workers_of(process.pid)[0])
        assert process.wait(20) == 1
        said = search.output.read_text()
        assert "Traceback" not in said
        assert "search.db: was moved, deleted or replaced while the search used it" in said.splitlines()[-1]
        assert search.history.exists() == (how == "replaced")


def test_a_worker_that_has_lost_agent_and_history_leaves(tmp_path: Path) -> None:
    with FaultySearch(tmp_path / "run", "second", trials=40, workers=1) as search:
        process = search.start()
        wait_for(lambda: search.count("begin") >= 1)
        (worker,) = workers_of(process.pid)
        take_away(search.history, "deleted", tmp_path)
        search.kill(process.pid)
        wait_for(lambda: not process_start(worker))


def take_away(history: Path, how: str, to: Path) -> None:
    files = [path for suffix in ("", "-wal", "-shm") if (path := history.with_name(history.name + suffix)).exists()]
    if how == "replaced":
        shutil.copy(history, to / "other.db")
        (to / "other.db").replace(history)
    for path in files if how != "replaced" else []:
        path.unlink() if how == "deleted" else path.rename(to / path.name)


def test_complaint_03_a_reader_that_holds_a_transaction_disturbs_nobody(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, trials=12) as search:
        search.watch_moves()
        with long_reader(search.history):
            search.finish()
        search.check()


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[Path]:
    """A history in a folder that `read_only` can close, for root, too."""
    if os.getuid():
        folder.mkdir()
        yield folder / "search.db"
        return
    with small_disk_or_skip(folder, "4m"):
        yield folder / "search.db"


@contextlib.contextmanager
def read_only(history: Path) -> Iterator[None]:
    """Nobody may write the history or its folder in the block."""

    def allow(write: bool) -> None:
        if os.getuid():
            history.chmod(0o644 if write else 0o444)
            history.parent.chmod(0o755 if write else 0o555)
        else:  # whom permissions do not stop
            mode = "remount,rw" if write else "remount,ro"
            subprocess.run(["mount", "-o", mode, str(history.parent)], check=True)

    allow(False)
    try:
        yield
    finally:
        allow(True)


def test_a_history_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    with unwritable(tmp_path / "disk") as history:
        with FaultySearch(tmp_path / "run", trials=2, history=history) as search:
            search.finish()
        before = history.read_bytes()
        with read_only(history), FaultySearch(tmp_path / "run", trials=3, history=history) as search:
            search.output.unlink()
            assert search.start().wait(30) == 2
            said = search.output.read_text()
            assert "Traceback" not in said
            assert said.splitlines()[-1].startswith("ncode: ")
            assert "check the permissions of the file and its folder" in said.splitlines()[-1]
        assert history.read_bytes() == before


# Damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FaultySearch:
    with FaultySearch(tmp_path_factory.mktemp("whole"), trials=20) as search:
        search.finish()
        return search


def opened(search: FaultySearch) -> None:
    opened = SearchFile.load(search.file).to_search()
    try:
        opened._open()
    finally:
        opened.close()


def test_a_truncated_history_is_refused_with_the_way_out(whole: FaultySearch, tmp_path: Path) -> None:
    content = whole.history.read_bytes()
    with FaultySearch(tmp_path, trials=20) as search:
        for share in (0.9, 0.1, 0.5):
            search.history.write_bytes(content[: int(len(content) * share)])
            before = search.history.read_bytes()
            with pytest.raises(HistoryError, match="`ncode repair` recovers what can be read of it"):
                opened(search)
            assert search.history.read_bytes() == before
        assert search.start().wait(30) == 2
        said = search.output.read_text()
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith("ncode: ")
        assert search.history.read_bytes() == before


def test_flipped_bits_are_refused_or_do_no_harm(whole: FaultySearch, tmp_path: Path) -> None:
    """What SQLite's own check and ours see is refused in one line; a bit in a number of a row is nobody's to see."""
    content, moment, refused = whole.history.read_bytes(), random.Random(0), 0
    with FaultySearch(tmp_path, trials=20) as search:
        for _ in range(400 if LONG else 100):
            damaged = bytearray(content)
            for _ in range(4):
                damaged[moment.randrange(len(damaged))] ^= 1 << moment.randrange(8)
            for name in ("search.db", "search.db-wal", "search.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            search.history.write_bytes(damaged)
            try:
                opened(search)
            except HistoryError as error:
                refused += 1
                assert "\n" not in str(error)
                assert "search.db: " in str(error)
        assert refused > 20
