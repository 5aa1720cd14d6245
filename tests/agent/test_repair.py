"""``ncode repair`` on files that are really damaged: cut off, with bits flipped, with pages overwritten."""

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ncode_search import SearchSpace
from ncode_search.agent import agent_lock, salvage
from ncode_search.agent.backup import Backup, backups_of
from ncode_search.agent.errors import InputError, NcodeError
from ncode_search.agent.history import Decision, History, Objective
from ncode_search.agent.repair import Repair, repair, report_lines

SPACE = SearchSpace({"a": list(range(30)), "b": list(range(30)), "c": list(range(30))})
TRIALS = 400
PAGE = 4096
STORED = sorted((Path(__file__).parent / "histories").glob("*.sql"))


def fill(path: Path, first: int, last: int) -> None:
    codes = SPACE.to_text(SPACE.core.enumerate(first, last - first + 1))
    with History.open(path, SPACE.positions, Objective(), SPACE.declared) as history:
        history.remember("settings", {"trials": 1000})
        for trial, code in zip(range(first, last + 1), codes, strict=True):
            history.add(trial, code, "x", Decision("x", None, None, 128, 1, 0.1, False, None))
            history.start(trial, "here:1:0", "cpu")
            history.report(trial, 1, 1, {"accuracy": trial / 1000})
            if trial % 10:
                history.complete(trial, 1, trial / 1000, {"notes": "n" * (trial % 200)})
            else:
                history.fail(trial, 1, f"ValueError: {trial}")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "h.db"
    fill(path, 1, TRIALS)
    return path


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path))


def rows(path: Path) -> dict[int, tuple]:
    with History.read(path) as history:
        found = history.db.conn.execute("SELECT id, code, state, value, metrics, error FROM trials")
        return {row[0]: row[1:] for row in found}


def pages(path: Path, table: str) -> list[int]:
    """The pages of a table's leaves, from 1, as SQLite's own page numbers are."""
    content, found = path.read_bytes(), []
    with sqlite3.connect(path) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    stack = [root]
    while stack:
        number = stack.pop()
        page = content[(number - 1) * PAGE : number * PAGE]
        if page[0] in (13, 10):
            found.append(number)
        else:
            cells = int.from_bytes(page[3:5], "big")
            stack.append(int.from_bytes(page[8:12], "big"))
            for cell in range(cells):
                at = int.from_bytes(page[12 + 2 * cell : 14 + 2 * cell], "big")
                stack.append(int.from_bytes(page[at : at + 4], "big"))
    return sorted(found)


def overwrite(path: Path, page: int, content: bytes = b"\xa5" * PAGE) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(content)


def is_sound(done: Repair, original: Path) -> dict[int, tuple]:
    """The recovered trials, all as they were, in a history that a search goes on with."""
    was, now = rows(original), rows(done.out)
    assert {number: row for number, row in now.items() if was[number] != row} == {}
    if done.lost:
        assert set(done.lost) == set(range(1, max(done.lost[-1], *now) + 1)) - set(now)
    with History.open(done.out, SPACE.positions, Objective(), SPACE.declared) as history:
        history.add(TRIALS + 1, "000", "x")
    return now


def test_a_whole_history_loses_nothing(path: Path, original: Path) -> None:
    before = path.read_bytes()
    done = repair(path)
    assert done.out == path.with_name("h.repaired.db")
    assert rows(done.out) == rows(original)
    assert (done.lost, done.tables["decisions"].kept, done.tables["epochs"].kept) == ([], TRIALS, TRIALS)
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} <= {
        "h.db",
        "h.repaired.db",
        "h.repaired.db-shm",
        "h.repaired.db-wal",
    }
    with History.read(done.out) as history:
        assert history.meta()["settings"] == {"trials": 1000}
        assert history.space().positions == SPACE.positions


@pytest.mark.parametrize("which", [0, 1, 3, -1])
def test_one_bad_page_costs_its_own_trials_only(path: Path, original: Path, which: int) -> None:
    leaves = pages(path, "trials")
    assert len(leaves) > 5
    overwrite(path, leaves[which])
    done = repair(path)
    now = is_sound(done, original)
    assert done.lost == [number for number in range(1, TRIALS + 1) if number not in now], "also the last ones"
    assert done.tables["decisions"].orphans == len(done.lost)
    assert TRIALS * (1 - 2.5 / len(leaves)) < len(now) < TRIALS


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_off(path: Path, original: Path, share: float) -> None:
    content, leaves = path.read_bytes(), pages(path, "trials")
    path.write_bytes(content[: int(share * len(content))])
    whole = sum(number * PAGE <= share * len(content) for number in leaves)
    now = is_sound(repair(path), original)
    assert len(now) >= TRIALS * (whole - 1) / len(leaves)


def test_a_lost_first_page_costs_what_stands_in_it_only(path: Path, original: Path) -> None:
    """It has the file's header and the names of all tables."""
    overwrite(path, 1)
    assert rows_are_all(repair(path), original)


def test_a_header_of_another_kind_of_file(path: Path, original: Path) -> None:
    overwrite(path, 1, b"PK\x03\x04 this was an archive once, and has a header of a hundred bytes " + b"\0" * 40)
    assert rows_are_all(repair(path), original)


@pytest.mark.slow
@pytest.mark.parametrize("is_backup", [False, True], ids=["history", "backup"])
@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_of_the_first_page_costs_nothing(
    original: Path, tmp_path: Path, seed: int, *, is_backup: bool
) -> None:
    """It has the header and the declarations of the tables: whatever the bit is of, all of it is known or checked. In a
    backup that was put in the place of its history, the tables begin on other pages.
    """
    path, rng = tmp_path / "h.db", random.Random(seed)
    whole = made_backup(original) if is_backup else original.read_bytes()
    used = int.from_bytes(whole[105:107], "big")  # where the page's content begins, after some free room
    for number in range(6):
        content = bytearray(whole)
        content[rng.choice([rng.randrange(120), rng.randrange(used, PAGE)])] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        done = repair(path, tmp_path / f"{number}.db")
        assert rows(done.out) == rows(original)
        kept = {name: table.kept for name, table in done.tables.items()}
        assert (kept["meta"], kept["decisions"], kept["epochs"]) == (6, TRIALS, TRIALS)


def test_a_backup_that_lost_its_first_page_is_known_by_the_kinds_of_its_pages(original: Path, path: Path) -> None:
    path.write_bytes(bytes(PAGE) + made_backup(original)[PAGE:])
    assert rows_are_all(repair(path), original)
    (path.parent / "ways").mkdir()
    tried = [left.highest("trials", "id") for left in salvage.ways(path, path.parent / "ways")]
    assert tried == [TRIALS, 0], "as a backup, and as it is; not as a history, which takes minutes in a large file"


def made_backup(path: Path) -> bytes:
    made = Backup(path).run()
    content = made.read_bytes()
    made.unlink()
    return content


@pytest.mark.parametrize("flip", [(b"CREATE TABLE trials", 7), (b"    value REAL", 4), (b"canonical", 0)], ids=str)
def test_a_flipped_bit_of_a_declaration_costs_nothing(path: Path, original: Path, flip: tuple[bytes, int]) -> None:
    """It would lose or shift columns, so that no row makes sense, or all lack something."""
    content = bytearray(path.read_bytes())
    content[content[:PAGE].index(flip[0]) + flip[1]] ^= 1
    path.write_bytes(content)
    assert rows_are_all(repair(path), original)


def rows_are_all(done: Repair, original: Path) -> bool:
    return rows(done.out) == rows(original)


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_cost_little_and_a_backup_heals_them(original: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(original.read_bytes())
    for _ in range(6):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path = tmp_path / "h.db"
    path.write_bytes(content)
    alone = rows(repair(path, tmp_path / "alone.db").out)
    was = rows(original)
    wrong = [number for number, row in alone.items() if was.get(number) != row]
    assert len(wrong) <= 6, "a flipped bit in a number is nobody's to see, but it is one row's"
    assert len(alone) > 0.6 * TRIALS
    Backup(original).run()
    shutil.move(backups_of(original)[0], backups_of(path)[0])
    assert rows(repair(path, tmp_path / "healed.db").out) == was


def test_what_is_newer_than_the_backup_comes_from_the_file(path: Path, original: Path) -> None:
    Backup(path).run()
    fill(path, TRIALS + 1, TRIALS + 40)
    overwrite(path, pages(path, "trials")[0])
    done = repair(path)
    assert sorted(rows(done.out)) == list(range(1, TRIALS + 41))
    assert done.backups == backups_of(path)[:1]
    assert done.tables["trials"].from_backups == TRIALS
    assert done.lost == []


@pytest.mark.slow
def test_a_file_with_nothing_in_it_is_its_backup(path: Path, original: Path) -> None:
    Backup(path).run()
    for content in (b"", b"\0" * 100_000):
        path.write_bytes(content)
        done = repair(path)
        assert rows(done.out) == rows(original)
        done.out.unlink()


def test_the_backup_of_another_search_is_not_used(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    fill(other, 1, 30)
    Backup(other).run()
    shutil.move(backups_of(other)[0], backups_of(path)[0])
    done = repair(path)
    assert done.backups == []
    assert len(rows(done.out)) == TRIALS


def test_the_write_ahead_log_is_part_of_the_file(path: Path) -> None:
    with History.attach(path) as history:
        history.add(TRIALS + 1, "000", "x")
        done = repair(path)
    assert TRIALS + 1 in rows(done.out)


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored.stem)
def test_a_history_of_every_schema_is_migrated(tmp_path: Path, stored: Path) -> None:
    path = tmp_path / "old.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(stored.read_text())
    expected = rows(path)
    assert len(expected) == 6
    assert rows(repair(path).out) == expected


@pytest.mark.slow
def test_wrong_use_is_refused_and_nothing_is_written(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.db"
    with pytest.raises(InputError, match="there is no such file"):
        repair(tmp_path / "none.db")
    with pytest.raises(InputError, match="is there already"):
        repair(path, path)
    with pytest.raises(InputError, match="its folder does not exist"):
        repair(path, tmp_path / "no" / "out.db")
    out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is there already"):
        repair(path, out)
    (tmp_path / "noise.db").write_bytes(random.Random(0).randbytes(50_000))
    with pytest.raises(NcodeError, match="no trial can be read in it or in a backup"):
        repair(tmp_path / "noise.db")
    with History.open(path, SPACE.positions, Objective(), SPACE.declared) as history:
        agent_lock.claim(history)
        with pytest.raises(InputError, match="is in use by process"):
            repair(path, tmp_path / "third.db")
    left = {file.name for file in tmp_path.iterdir()} - {"h.db-wal", "h.db-shm"}
    assert left == {"h.db", "out.db", "noise.db"}


def ncode(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ncode_search.agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_the_command_says_what_was_lost_and_the_errors_of_others_name_it(path: Path) -> None:
    overwrite(path, pages(path, "trials")[2])
    overwrite(path, 1, path.read_bytes()[:16] + b"\xff" * 30)
    failed = ncode("status", str(path))
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "`ncode repair`" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    done = ncode("repair", str(path), "-o", str(path.with_name("new.db")))
    assert (done.returncode, done.stderr) == (0, "")
    assert "rows recovered" in done.stdout
    assert "lost       " in done.stdout
    assert ncode("status", str(path.with_name("new.db"))).returncode == 0
    assert ncode("repair", str(path), "-o", str(path.with_name("new.db"))).returncode == 2


def test_lost_trials_are_said_in_ranges(tmp_path: Path) -> None:
    done = Repair(tmp_path / "x.db", {}, [3, 4, 5, 9], [], True)
    assert "lost       4 trials: 3 to 5, 9" in list(report_lines(tmp_path / "h.db", done))
