"""The command line: what it prints, its exit codes, and one clear line for every kind of wrong input."""

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.history import History
from ncode_search.agent.search_file import load_space

TOML = """
[search]
history = "table.db"
trials = 12
seed = 3
[space]
op = ["none", "skip", "conv"]
width = [8, 16, 32]
act.kind = ["relu", true, 0.5]
[evaluator]
kind = "table"
path = "scores.csv"
metric = "accuracy"
[ranker]
kind = "evolution"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "search.toml").write_text(TOML)
    rows = [f"{a}{b}{c},{a + b / 10 + c / 100},{a}" for a in range(3) for b in range(3) for c in range(3)]
    (tmp_path / "scores.csv").write_text("\n".join(["code,accuracy,cost", *rows]))
    return tmp_path


def ncode(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ncode_search.agent", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


def test_the_default_ranker_says_what_it_predicted_and_how_far_it_is_trusted(folder: Path) -> None:
    minimized = TOML.replace("seed = 3", 'seed = 3\ngoal = "minimize"').replace('[ranker]\nkind = "evolution"\n', "")
    (folder / "search.toml").write_text(minimized)
    assert "by embedded" in ncode(folder, "run", "search.toml").stdout
    shown = ncode(folder, "status", "table.db").stdout
    assert re.search(r"^trust     model \d+% \(off by [\d.]+\), ridge \d+% .*, history \d+% .*forecasts$", shown, re.M)
    assert "fallback" not in shown
    with History.read(folder / "table.db") as history:
        predicted = history.predicted(100)
        values = {trial.code: trial.value for trial in history.trials()}
    assert set(predicted) == set(list(values)[3:]), "the first three are uniform"
    assert all(min(values.values()) <= one["model"] <= max(values.values()) for one in predicted.values())


@pytest.mark.slow
def test_run_status_best_trials(folder: Path) -> None:
    done = ncode(folder, "run", "search.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[12/12] trial 12" in done.stdout
    assert "Done: 12 trials completed." in done.stdout

    again = ncode(folder, "run", "search.toml")
    assert again.returncode == 0
    assert "trial 12 " not in again.stdout
    assert again.stdout.split("Done")[1] == done.stdout.split("Done")[1]

    status = ncode(folder, "status", "table.db").stdout
    assert "not running" in status
    assert "27 codes" in status
    assert "12 complete" in status

    best = json.loads(ncode(folder, "best", "table.db", "--json").stdout)
    with History.read(folder / "table.db") as history:
        assert best["value"] == max(trial.value for trial in history.trials())
    assert set(best["config"]) == {"op", "width", "act.kind"}
    assert f"Best: {best['value']:.4g}" in ncode(folder, "best", "table.db").stdout

    objects = [json.loads(line) for line in ncode(folder, "trials", "table.db", "--json").stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(ncode(folder, "trials", "table.db", "--csv").stdout)))
    text = ncode(folder, "trials", "table.db").stdout.splitlines()
    assert len(objects) == len(table) == len(text) - 1 == 12
    for trial, row in zip(objects, table, strict=True):
        assert (row["code"], float(row["value"]), row["config.op"]) == (
            trial["code"],
            trial["value"],
            trial["config"]["op"],
        )
        assert float(row["metric.cost"]) == trial["metrics"]["cost"]


def test_options_say_other_than_the_file(folder: Path) -> None:
    options = [
        "--trials",
        "4",
        "--workers",
        "2",
        "--history",
        "other.db",
        "--seed",
        "9",
        "--ranker",
        "random",
        "--quiet",
    ]
    done = ncode(folder, "run", "search.toml", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Done: 4 trials completed.")
    with History.read(folder / "other.db") as history:
        settings = history.meta()["settings"]
        assert (settings["trials"], settings["workers"], settings["seed"]) == (4, 2, 9)
        assert {row["ranker"] for row in history.db["decisions"].rows} == {"random"}


def test_a_code_that_the_table_does_not_have_is_a_failed_trial(folder: Path) -> None:
    lines = (folder / "scores.csv").read_text().splitlines()
    with gzip.open(folder / "scores.csv", "wt") as file:
        file.write("\n".join(lines[:20]))
    done = ncode(folder, "run", "search.toml", "--trials", "27")
    assert done.returncode == 0
    assert "space is exhausted: 27 codes; all were tried, 19 of them completed" in done.stdout
    assert "UnknownCodeError" in ncode(folder, "trials", "table.db").stdout


def test_a_search_without_any_score_says_why(folder: Path) -> None:
    fails = TOML[: TOML.index("[evaluator]")].replace("seed = 3", "first_failures = 99\nretries = 0")
    (folder / "search.toml").write_text(f'{fails}[evaluator]\nkind = "python"\nfunction = "math:sqrt"\n')
    done = ncode(folder, "run", "search.toml", "--quiet")
    assert done.returncode == 1
    assert "27 codes; all were tried, 0 of them completed.\n  27 failed: TypeError: " in done.stdout


@pytest.mark.slow
def test_a_whole_search_that_fails_pauses_and_exits_with_3(folder: Path) -> None:
    (folder / "mine.py").write_text("def evaluate(config, context):\n    raise OSError('no data')\n")
    text = TOML.replace(
        'kind = "table"\npath = "scores.csv"\nmetric = "accuracy"', 'kind = "python"\nfunction = "mine:evaluate"'
    )
    (folder / "search.toml").write_text(text)
    done = ncode(folder, "run", "search.toml")
    assert done.returncode == 3
    assert "the first 10 trials of this run all failed: in the same way, OSError: no data" in done.stdout
    assert "Traceback" not in done.stderr


WRONG = {
    "not TOML": (TOML.replace("trials = 12", "trials = = 12"), ["search.toml", "line 4"]),
    "unknown table": (TOML + "[rankers]\n", ["[rankers] is no table", '"ranker"']),
    "unknown key": (TOML.replace("trials", "trails"), ["[search] trails", 'did you mean "trials"']),
    "wrong type": (TOML.replace("12", '"many"'), ["[search] trials = 'many'", "an integer"]),
    "wrong number": (TOML.replace("12", "-1"), ["[search] trials is -1", "from 1"]),
    "wrong goal": (TOML.replace("seed = 3", 'goal = "up"'), ["[search] goal is 'up'", "'maximize', 'minimize'"]),
    "wrong duration": (TOML.replace("seed = 3", 'timeout = "soon"'), ["[search] timeout is 'soon'", '"10m"']),
    "no history": (TOML.replace('history = "table.db"', ""), ["[search] history is missing"]),
    "no space": (
        TOML.replace("[space]", "[space.inner]").split("[space")[0] + '[evaluator]\nkind = "table"\n',
        ["[space] is missing"],
    ),
    "empty position": (TOML.replace("[8, 16, 32]", "[]"), ["[space] position 'width' has 0 options"]),
    "duplicate option": (TOML.replace("[8, 16, 32]", "[8, 16, 8]"), ["[space] position 'width' has option 8 twice"]),
    "no list": (TOML.replace("[8, 16, 32]", "8"), ["[space] position 'width' needs a list"]),
    "a date": (TOML.replace("[8, 16, 32]", "[2026-01-01]"), ["[space] position 'width'", "no JSON value"]),
    "no evaluator": (TOML.replace('kind = "table"', ""), ["[evaluator] kind is missing"]),
    "unknown evaluator": (TOML.replace('"table"', '"tabel"'), ["[evaluator] kind", "tabel", 'did you mean "table"']),
    "evaluator is a list": (TOML.replace('"table"', '["table"]'), ["[evaluator] kind"]),
    "evaluator with a date": (TOML + "[evaluator.x]\n", ["[evaluator] x"]),
    "unknown evaluator key": (TOML.replace("metric =", "metrics ="), ["[evaluator] metrics", '"metric"']),
    "unknown metric": (TOML.replace('"accuracy"', '"acuracy"'), ["[evaluator] metric", "acuracy", "accuracy, cost"]),
    "missing table": (TOML.replace("scores.csv", "score.csv"), ["[evaluator] path", "score.csv"]),
    "unknown ranker": (TOML.replace('"evolution"', '"evolve"'), ["evolve", "llama, evolution, random"]),
    "no such model": (TOML.replace('"evolution"', '"llama"\nmodel = "none.gguf"'), ["none.gguf", "does not exist"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_line_that_names_the_file_the_key_and_the_mend(folder: Path, name: str) -> None:
    text, said = WRONG[name]
    (folder / "search.toml").write_text(text)
    before = files(folder)
    done = ncode(folder, "run", "search.toml", "--quiet")
    assert_refused(done, ["search.toml", *said])
    assert files(folder) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nothing.toml"], ["nothing.toml", "no such file"]),
        (["run", "scores.csv"], ["scores.csv", "TOML"]),
        (["run", "search.toml", "--trials", "0"], ["--trials is 0"]),
        (["run", "search.toml", "--trials", "many"], ["--trials", "many"]),
        (["run", "search.toml", "--ranker", "missing.gguf"], ["missing.gguf", "does not exist"]),
        (["run", "search.toml", "--ranker", "scores.csv"], ["scores.csv", "GGUF"]),
        (["run", "search.toml", "--history", "nowhere/x.db"], ["nowhere", "does not exist"]),
        (["run", "search.toml", "--history", "scores.csv"], ["scores.csv", "is no history"]),
        (["run"], ["FILE"]),
        (["start"], ["start"]),
        (["status", "scores.csv"], ["scores.csv", "is no history"]),
        (["best", "missing.db"], ["missing.db", "there is no history there"]),
        (["trials", "missing.db", "--json"], ["missing.db"]),
    ],
)
def test_wrong_arguments_are_one_line(folder: Path, arguments: list[str], said: list[str]) -> None:
    before = files(folder)
    assert_refused(ncode(folder, *arguments), said)
    assert files(folder) == before


def assert_refused(done: subprocess.CompletedProcess[str], said: list[str]) -> None:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("ncode: ")
    for words in said:
        assert words in line


@pytest.mark.slow
def test_a_corrupt_history_is_one_line(folder: Path) -> None:
    assert ncode(folder, "run", "search.toml").returncode == 0
    content = bytearray((folder / "table.db").read_bytes())
    content[50:6000] = os.urandom(5950)
    (folder / "table.db").write_bytes(content)
    for arguments in (["run", "search.toml"], ["status", "table.db"], ["trials", "table.db"], ["best", "table.db"]):
        assert_refused(ncode(folder, *arguments), ["table.db"])
    assert (folder / "table.db").read_bytes() == content


@pytest.mark.slow
def test_a_history_that_is_damaged_inside_is_one_line(folder: Path) -> None:
    assert ncode(folder, "run", "search.toml").returncode == 0
    assert not list(folder.glob("table.db-*")), "nothing is left beside a closed history"
    content = bytearray((folder / "table.db").read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    (folder / "table.db").write_bytes(content)
    for arguments in (["run", "search.toml"], ["status", "table.db"], ["trials", "table.db"], ["best", "table.db"]):
        assert_refused(ncode(folder, *arguments), ["table.db"])


def test_best_of_a_search_without_a_completed_trial_says_so(folder: Path) -> None:
    from ncode_search.agent.history import Objective

    History.open(folder / "x.db", {"a": [1]}, Objective()).close()
    done = ncode(folder, "best", "x.db")
    assert (done.returncode, done.stderr) == (1, "ncode: x.db: no trial has completed yet\n")


SPACE = """
[space]
op = ["conv", "pool"]
kernel = { options = [3, 5], when = { op = ["conv"] } }
width = [8, 16, 32]
[costs.params]
options.op = { conv = 9, pool = 0 }
options.width = [1, 2, 4.5]
most = 12
"""


def test_a_space_is_shown_with_what_it_costs(folder: Path) -> None:
    (folder / "space.toml").write_text(SPACE)
    done = ncode(folder, "space", "space.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "space.toml: 3 positions\n"
        "  op      conv, pool\n"
        "  kernel  3, 5   only where op is conv\n"
        "  width   8, 16, 32\n"
        "  codes        12\n"
        "  feasible     7\n"
        "  different    7\n"
        "  cost params  1 to 11, most = 12\n"
        "7 of them:\n"
    )
    assert "\n  102  op pool, width 32; params 4.5\n" in done.stdout
    assert "\n  010  op conv, kernel 5, width 8; params 10\n" in done.stdout
    (folder / "space.toml").write_text("space = 3\n")
    assert_refused(ncode(folder, "space", "space.toml"), ["space.toml: space is 3; it must be a table: write [space]"])
    (folder / "space.toml").write_text(SPACE.replace("most = 12", "most = 0"))
    said = ["space.toml: no code fits: [costs.params] most = 0, but the smallest possible is 1"]
    assert_refused(ncode(folder, "space", "space.toml"), said)


EVERYTHING = """
[space]
"left.op" = ["conv", "pool"]
"left.kernel" = { options = [3, 5], when = { "left.op" = ["conv"] } }
"right.op" = ["conv", "pool"]
"right.kernel" = { options = [3, 5], when = { "right.op" = ["conv"] } }
x = ["none", "skip", "conv"]
y = ["none", "skip", "conv"]
z = ["none", "skip", "conv"]
[equal]
cells = [{ edges = { x = [0, 1], y = [0, 2], z = [1, 2] }, none = "none", skip = "skip" }]
interchangeable = [[["left.op", "left.kernel"], ["right.op", "right.kernel"]]]
[costs.params]
options.x = [0, 0, 9]
options.y = [0, 0, 9]
options.z = [0, 0, 9]
options."left.kernel" = [9, 25]
options."right.kernel" = [9, 25]
least = 9
most = 60
[[forbidden]]
"left.op" = "pool"
"right.op" = "pool"
"""


def test_a_space_of_all_kinds_of_declarations_is_shown_as_counting_its_codes_by_hand_says(folder: Path) -> None:
    (folder / "space.toml").write_text(EVERYTHING)
    done = ncode(folder, "space", "space.toml")
    assert (done.returncode, done.stderr) == (0, "")
    space = load_space(folder / "space.toml")
    unique = np.unique(space.canonical(space.core.enumerate(0, space.size)), axis=0)
    params, matters = np.zeros(len(unique)), space.active(unique)
    for at, name in enumerate(space):
        cost = {"x": [0, 0, 9], "y": [0, 0, 9], "z": [0, 0, 9]}.get(name, [9, 25] if "kernel" in name else [0, 0])
        params += np.where(matters[:, at], np.array(cost)[unique[:, at]], 0)
    pools = (unique[:, [0, 2]] == 1).all(axis=1)
    left = unique[(params >= 9) & (params <= 60) & ~pools]
    shown = done.stdout.splitlines()
    assert shown[4] == "  right.kernel  3, 5   only where right.op is conv"
    assert shown[8:10] == ["  codes        432", f"  feasible     {space.feasible}"]
    assert shown[10:13] == [
        f"  different    {len(left)}",
        "  cost params  9 to 59, least = 9, most = 60",
        "10 of them:",
    ]
    samples = [line.split()[0] for line in shown[13:]]
    assert len(set(samples)) == 10
    assert {code.tobytes() for code in space.from_text(samples)} <= {code.tobytes() for code in left}


@pytest.mark.parametrize(
    ("equal", "said"),
    [
        ("", f"different  {6 * 5**59:,}\n"),
        ('[equal]\ninterchangeable = [[["p1"], ["p2"]]]', "different  not counted: the space has 1,734,"),
    ],
)
def test_a_space_too_large_to_be_listed_is_shown(folder: Path, equal: str, said: str) -> None:
    lines = "\n".join(f"p{at} = [1, 2, 3, 4, 5]" for at in range(60))
    last = "last = { options = [1, 2], when = { p0 = [1] } }"
    (folder / "space.toml").write_text(f"[space]\n{lines}\n{last}\n{equal}")
    done = ncode(folder, "space", "space.toml")
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "\n10 of them:\n" in done.stdout


def test_help_and_version(folder: Path) -> None:
    for arguments in (["--help"], ["run", "--help"], ["trials", "-h"]):
        done = ncode(folder, *arguments)
        assert done.returncode == 0
        assert "Usage: ncode" in done.stdout
    assert ncode(folder, "--version").stdout.startswith("ncode, version ")
    assert ncode(folder).returncode == 2


@pytest.mark.slow
def test_the_output_can_be_cut_short(folder: Path) -> None:
    assert ncode(folder, "run", "search.toml").returncode == 0
    command = f"{sys.executable} -m ncode_search.agent trials table.db | head -1"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
