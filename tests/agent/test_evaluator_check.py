"""``ncode check-evaluator``: its lines and its exit codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncode_search.agent.processes import process_start

TRAINERS = Path(__file__).parents[1] / "evaluators" / "trainers.py"
TOML = """
[search]
history = "search.db"
[space]
rate = [0.1, 0.2]
[evaluator]
kind = "python"
function = "trainers.py:{function}"
"""


def check(folder: Path, function: str, *arguments: str, search: str = "") -> subprocess.CompletedProcess[str]:
    """`search`: further keys of the table of that name."""
    text = TOML.format(function=function).replace("[space]", f"{search}\n[space]")
    (folder / "search.toml").write_text(text)
    (folder / "trainers.py").write_text(TRAINERS.read_text())
    command = [sys.executable, "-m", "ncode_search.agent", "check-evaluator", "search.toml", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_a_line_a_check_and_exit_code_0_where_all_hold(tmp_path: Path) -> None:
    done = check(tmp_path, "train", "--code", "1")
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first == "search.toml: python, on cpu, code 1 (rate 0.2)"
    assert [line.split()[0] for line in lines] == ["ok"] * 6 + ["note", "ok"]
    assert "ok      resumes                     from report 3 on, to the same result" in lines
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["search.toml", "trainers.py"]


@pytest.mark.slow
def test_exit_code_1_where_one_does_not(tmp_path: Path) -> None:
    done = check(tmp_path, "forgets_the_momentum")
    assert done.returncode == 1
    assert "FAILED  resumes" in done.stdout


ASHA = 'stop = "asha"\nmetric = "loss"\nmost_epochs = 6\n'


@pytest.mark.slow
def test_what_the_search_compares_is_in_every_report(tmp_path: Path) -> None:
    done = check(tmp_path, "train", search=ASHA)
    assert (done.returncode, "FAILED" in done.stdout) == (0, False)
    done = check(tmp_path, "train", search=ASHA.replace("loss", "zzz"))
    assert done.returncode == 1
    assert "FAILED  scores                      raised LookupError: zzz is not among the reported loss;" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("function", "steps"), [("train", "1, 2, 3, 4, 5, 6"), ("reports_nothing", "none")])
def test_a_whole_trial_has_the_epochs_that_the_search_goes_by(tmp_path: Path, function: str, steps: str) -> None:
    done = check(tmp_path, function, search=ASHA.replace("6", "9"))
    assert done.returncode == 1
    assert f"it reported the steps {steps}; they should be 1 to 9, the epochs of a whole trial" in done.stdout


def test_a_search_that_would_be_refused_is_refused(tmp_path: Path) -> None:
    done = check(tmp_path, "train", search='stop = "asha"\nmost_epochs = 6')
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("ncode: search.toml: [search] metric is missing")


GOAL = "[search]\nhistory = 'h.db'\ngoal = 'minimize'\n[space]\nnorm = ['batch', 'group']\n[evaluator]\nkind = 'cnn'\n"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["check-evaluator"], ["run"], ["tabulate", "-o", "t.csv"], ["prune"]])
def test_no_command_looks_for_the_worst(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "search.toml").write_text(GOAL)
    command = [sys.executable, "-m", "ncode_search.agent", *arguments, "search.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith('ncode: search.toml: [search] goal = "minimize" looks for the worst: val_accuracy')
    assert [path.name for path in tmp_path.iterdir()] == ["search.toml"]


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        ("nothing", [], 'ncode: search.toml: [evaluator] function = "trainers.py:nothing"'),
        ("train", ["--code", "7"], "ncode: "),
    ],
)
def test_exit_code_2_and_one_line_for_wrong_input(tmp_path: Path, function: str, arguments, said: str) -> None:
    done = check(tmp_path, function, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(said)


# Evaluators that do not come back

ENDS = """
import ctypes, os, signal, sys, time
from pathlib import Path

Path(__file__).with_name("process.txt").write_text(str(os.getpid()))
if "ends.py:at_import" in Path(__file__).with_name("search.toml").read_text():
    os._exit(5)


def hangs(config, context):
    print("about to hang")
    ctypes.PyDLL(None).sleep(300)  # with the interpreter's lock


def hangs_as_it_goes_on(config, context):
    if context.restore() is not None:
        time.sleep(300)
    context.checkpoint({"epoch": 1})
    context.report(1, loss=1)
    context.report(2, loss=1)
    return 1


def exits(config, context):
    os._exit(7)


def exits_beside_a_child(config, context):
    if os.fork() == 0:
        time.sleep(300)
    os._exit(7)


def is_killed(config, context):
    os.kill(os.getpid(), signal.SIGKILL)
"""
COMMAND = [sys.executable, "-m", "ncode_search.agent", "check-evaluator", "search.toml"]


def write_ends(folder: Path, function: str, search: str = "") -> dict[str, str]:
    """A search file and its evaluator; the environment of a command that looks at them."""
    (folder / "search.toml").write_text(
        TOML.format(function=function).replace("trainers", "ends").replace("[space]", f"{search}\n[space]")
    )
    (folder / "ends.py").write_text(ENDS)
    (folder / "tmp").mkdir()
    return {**os.environ, "TMPDIR": str(folder / "tmp")}


def evaluator_is_gone(folder: Path) -> bool:
    deadline = time.monotonic() + 20
    while (alive := process_start(int((folder / "process.txt").read_text()))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "search", "line"),
    [
        ("hangs", 'timeout = "2s"', "scores                      killed: not done within the timeout of 2 s; raise it"),
        ("hangs_as_it_goes_on", 'timeout = "2s"', "resumes                     killed: not done within the timeout"),
        ("at_import", "", "is built                    its process exited with code 5"),
        ("exits", "", "scores                      its process exited with code 7"),
        ("exits_beside_a_child", "", "scores                      its process exited with code 7"),
        ("is_killed", "", "scores                      its process died of SIGKILL"),
    ],
)
def test_what_does_not_come_back_is_a_line_and_exit_code_1(
    tmp_path: Path, function: str, search: str, line: str
) -> None:
    environment = write_ends(tmp_path, function, search)
    done = subprocess.run(
        COMMAND, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(f"FAILED  {line}")
    assert done.stderr == ("about to hang\n" if function == "hangs" else "")
    assert evaluator_is_gone(tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_lines_come_one_by_one_and_the_evaluator_ends_with_the_command(tmp_path: Path, number) -> None:
    environment = write_ends(tmp_path, "hangs_as_it_goes_on")
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as command:
        lines = [command.stdout.readline() for _ in range(6)]
        assert lines[-1].startswith("ok      stops at a report")
        assert process_start(int((tmp_path / "process.txt").read_text()))
        command.send_signal(number)
        said = command.stderr.read()
    assert evaluator_is_gone(tmp_path)
    if number == signal.SIGINT:
        assert (command.returncode, said) == (1, "\nncode: stopped\n")
        assert list((tmp_path / "tmp").iterdir()) == []
