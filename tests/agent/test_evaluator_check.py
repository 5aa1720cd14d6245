"""``ncode check-evaluator``: its lines and its exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def check(folder: Path, function: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "search.toml").write_text(TOML.format(function=function))
    (folder / "trainers.py").write_text(TRAINERS.read_text())
    command = [sys.executable, "-m", "ncode_search.agent", "check-evaluator", "search.toml", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_a_line_a_check_and_exit_code_0_where_all_hold(tmp_path: Path) -> None:
    done = check(tmp_path, "train", "--code", "1")
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first == "search.toml: python, on cpu, code 1 (rate 0.2)"
    assert [line.split()[0] for line in lines] == ["ok"] * 6 + ["note", "ok"]
    assert "ok      resumes                     from report 3 on, to the same result" in lines
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["search.toml", "trainers.py"]


def test_exit_code_1_where_one_does_not(tmp_path: Path) -> None:
    done = check(tmp_path, "forgets_the_momentum")
    assert done.returncode == 1
    assert "FAILED  resumes" in done.stdout


GOAL = "[search]\nhistory = 'h.db'\ngoal = 'minimize'\n[space]\nnorm = ['batch', 'group']\n[evaluator]\nkind = 'cnn'\n"


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
