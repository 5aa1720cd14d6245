"""Where a history is, or should be made: every path that cannot be one is refused in one line, with exit code 2."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ncode_search.agent.history import History, Objective

TOML = """
[search]
history = {history}
trials = 4
[space]
a = [1, 2, 3]
[evaluator]
kind = "table"
path = "scores.csv"
metric = "accuracy"
[ranker]
kind = "random"
"""
NCODE = [sys.executable, "-m", "ncode_search.agent"]
NOBODY = 65534
AS_NOBODY = f"""
import os, sys
from sqlite_utils import Database
from ncode_search.agent import cli, export, health_report, repair, report
Database(memory=True)  # imports more, which nobody may perhaps not read
if os.getuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
sys.argv[0] = "ncode"
cli.main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scores.csv").write_text("code,accuracy\n0,1\n1,2\n2,3\n")
    (tmp_path / "search.toml").write_text(TOML.format(history='"h.db"'))
    return tmp_path


def refused(command: Sequence[str | bytes], folder: Path, limit: Callable[[], None] | None = None) -> str:
    """What a command says that is refused: one line, at once."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limit
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done
    return done.stderr


@pytest.mark.parametrize("command", ["run", "status", "repair"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"folder", "is a folder; choose another history path"),
        (b"pipe", "is no regular file; choose another history path"),
        (b"\xff.db", "no history can have this name"),
        (b"n" * 248, "choose a name of at most 236 bytes"),
        (b"n" * 300, "File name too long"),
        (b"search.toml/h.db", "Not a directory"),
    ],
    ids=lambda given: given[:8] if isinstance(given, bytes) else None,
)
def test_what_can_be_no_history_is_refused(folder: Path, command: str, name: bytes, said: str) -> None:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    before = set(folder.iterdir())
    arguments: list[str | bytes] = ["search.toml", "--history", name] if command == "run" else [name]
    assert said in refused([*NCODE, command, *arguments], folder)
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ('"a\\u0000.db"', "no history can have this name"),
        (f'"{"n" * 237}"', "choose a name of at most 236 bytes"),
        ('"."', "is a folder"),
    ],
)
def test_a_search_file_says_so_of_its_own(folder: Path, history: str, said: str) -> None:
    (folder / "search.toml").write_text(TOML.format(history=history))
    assert said in refused([*NCODE, "run", "search.toml"], folder)


def test_the_longest_name_is_one_that_works(folder: Path) -> None:
    done = subprocess.run([*NCODE, "run", "search.toml", "--history", "n" * 236], cwd=folder, check=False)
    assert done.returncode == 0
    assert (folder / f"{'n' * 236}.backup").exists()


@pytest.mark.parametrize("command", ["run", "space"])
def test_a_search_file_that_is_a_pipe_is_not_waited_for(folder: Path, command: str) -> None:
    os.mkfifo(folder / "pipe.toml")
    assert "is no regular file; give a TOML file" in refused([*NCODE, command, "pipe.toml"], folder)


# Where nothing may be written


def fill(path: Path) -> None:
    with History.open(path, {"a": list(range(9))}, Objective()) as history:
        for trial in range(1, 10):
            history.add(trial, str(trial - 1), "x")
            history.start(trial, "here:1:0", "cpu")
            if trial % 2:
                history.complete(trial, 1, float(trial), {})
            else:
                history.fail(trial, 1, "n" * 40_000)


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A finished history that is read-only, in a folder that is, too; where nobody may go, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "h.db")
        (folder / "h.db").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_repair_says_that_it_may_not_write(unwritable: Path) -> None:
    assert "cannot be made (Permission denied)" in refused(
        [sys.executable, "-c", AS_NOBODY, "repair", "h.db"], unwritable
    )
    assert {path.name for path in unwritable.iterdir()} == {"h.db"}


@pytest.mark.parametrize("share", [0.5, 1.01], ids=["copying", "building"])
def test_a_repair_says_that_the_disk_is_full(tmp_path: Path, share: float) -> None:
    """The limit of a process's file size stops a write as a full disk does, without a disk to be filled."""
    fill(tmp_path / "h.db")
    most = int(share * (tmp_path / "h.db").stat().st_size)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    before = set(tmp_path.iterdir())
    if share > 1:
        with History.attach(tmp_path / "h.db") as history:  # in the write-ahead log is more than the file may have
            history.remember("more", "x" * 200_000)
            assert "cannot be made" in refused([*NCODE, "repair", "h.db"], tmp_path, limited)
    else:
        assert "cannot be made (File too large)" in refused([*NCODE, "repair", "h.db"], tmp_path, limited)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["status", "best", "trials"])
def test_a_history_is_read_where_nothing_may_be_written(unwritable: Path, command: str) -> None:
    reading = [sys.executable, "-c", AS_NOBODY, command, "h.db"]
    done = subprocess.run(reading, cwd=unwritable, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "9" in done.stdout
    assert {path.name for path in unwritable.iterdir()} == {"h.db"}
