"""Runs whose standard output goes before they do: nobody reads the pipe, the terminal is closed, its disk is full."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import fill, small_disk_or_skip
from tests.faults.harness import FaultySearch, wait_for

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def writing_to(output: int | Path, search: FaultySearch, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """``ncode run`` with this standard output."""
    command = [sys.executable, "-m", "ncode_search.agent", "run", str(search.file), *options]
    where = output if isinstance(output, int) else os.open(output, os.O_WRONLY)
    errors = (search.folder / "errors.log").open("wb")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=where, stderr=errors, env=search._environment, start_new_session=True
    )
    search._started.append(process)
    os.close(where)
    with errors:
        yield process


def check_done(search: FaultySearch, process: subprocess.Popen[bytes]) -> None:
    """It came to its end, and nobody complains."""
    assert process.wait(60) == 0
    said = (search.folder / "errors.log").read_text()
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    search.check()
    status = [sys.executable, "-m", "ncode_search.agent", "status", "--check", str(search.history)]
    assert "healthy: done" in subprocess.run(status, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_search_outlives_whoever_reads_what_it_prints(tmp_path: Path, is_terminal: bool) -> None:
    """``ncode run | head``; a log collector that dies; a terminal that is closed after `disown`."""
    reader, writer = pty.openpty() if is_terminal else os.pipe()
    with FaultySearch(tmp_path) as search, writing_to(writer, search) as process:
        wait_for(lambda: search.count("end") >= 2)
        os.close(reader)
        check_done(search, process)


@pytest.mark.parametrize("options", [(), ("--quiet",)])
def test_a_search_does_without_room_for_what_it_prints(tmp_path: Path, options: tuple[str, ...]) -> None:
    with FaultySearch(tmp_path) as search, writing_to(Path("/dev/full"), search, *options) as process:
        check_done(search, process)


def test_what_is_printed_when_there_is_room_again_is_there(tmp_path: Path) -> None:
    with (
        small_disk_or_skip(tmp_path / "disk", "1m") as disk,
        FaultySearch(tmp_path / "run", "silent_half_second", workers=1, trials=8) as search,
    ):
        filler, output = fill(disk), disk / "output.log"
        output.touch()
        with writing_to(output, search) as process:
            wait_for(lambda: search.count("end") >= 3)
            assert not output.read_text()
            filler.unlink()
            check_done(search, process)
        assert "Done: 8 trials completed." in output.read_text()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_question_whose_answer_cannot_be_written_says_so_in_one_line(tmp_path: Path, unbuffered: str) -> None:
    with FaultySearch(tmp_path, trials=2) as search:
        search.finish()
        command = [sys.executable, "-m", "ncode_search.agent", "best", str(search.history)]
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "ncode: cannot write: No space left on device\n")


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", ">&- 2>/dev/full"])
def test_wrong_input_has_its_exit_code_where_nothing_can_be_said_of_it(tmp_path: Path, where: str) -> None:
    """A service manager goes by it."""
    command = f"{sys.executable} -m ncode_search.agent run {tmp_path / 'none.toml'} {where}"
    assert subprocess.run(command, shell=True, check=False).returncode == 2
