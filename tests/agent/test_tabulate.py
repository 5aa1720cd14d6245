"""``ncode tabulate``: every class trained once, killed and gone on with, and a table that the other commands read."""

import csv
import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ncode_search import SearchSpace
from ncode_search.agent.equality import Cell
from ncode_search.agent.errors import InputError
from ncode_search.agent.history import History
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.tabulate import planned

HERE = Path(__file__).parent
STOP = """stop = "median"
metric = "accuracy"
most_epochs = 9
"""
TOML = """
[search]
history = "search.db"
trials = 3
prune_after = 2
stop = "median"
metric = "accuracy"
most_epochs = 9
[space]
a = [0, 1, 2]
b = [0, 1, 2]
c = {{ options = [0, 1], when = {{ a = [0, 1] }} }}
[evaluator]
kind = "python"
function = "trial_functions:{function}"
"""
CLASSES = 3 * (2 * 2 + 1)


@pytest.fixture
def folder(tmp_path: Path, witness: Path) -> Path:
    shutil.copy(HERE / "trial_functions.py", tmp_path)
    (tmp_path / "search.toml").write_text(TOML.format(function="score"))
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ncode_search.agent", *arguments]


def ncode(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def trained(witness: Path) -> list[str]:
    return [line.split()[1] for line in witness.read_text().splitlines() if line.startswith("end ")]


def test_every_class_is_trained_once_and_every_code_has_a_row(folder: Path, witness: Path) -> None:
    done = ncode(folder, "tabulate", "search.toml", "-o", "all.csv.gz", "--workers", "2")
    assert (done.returncode, done.stderr) == (0, f"imports {folder / 'trial_functions.py'} for trial_functions:score\n")
    assert "all.csv.gz: 15 configurations in 18 rows, 9 columns" in done.stdout
    assert len(set(trained(witness))) == len(trained(witness)) == CLASSES
    rows = rows_of(folder / "all.csv.gz")
    assert len({row["code"] for row in rows}) == len(rows) == 18
    for row in rows:
        a, b, c = (int(row[f"config.{name}"]) for name in "abc")
        assert row["code"] == f"{a}{b}{c}"
        score = (a + b + (c if a < 2 else 0)) / 10
        assert row["canon"] == (row["code"] if a < 2 else f"{a}{b}0")
        assert [float(row[name]) for name in ("value", "twice", "accuracy@1")] == pytest.approx(
            [score, 2 * score, score]
        )
        assert float(row["seconds"]) > 0

    content = (folder / "all.csv.gz").read_bytes()
    assert content[4:8] == bytes(4), "no time in it"
    (folder / "all.csv.gz").unlink()
    assert ncode(folder, "tabulate", "search.toml", "-o", "all.csv.gz").returncode == 0
    assert (folder / "all.csv.gz").read_bytes() == content
    assert len(trained(witness)) == CLASSES


@pytest.mark.slow
def test_searches_read_the_table(folder: Path) -> None:
    assert ncode(folder, "tabulate", "search.toml", "-o", "all.csv.gz").returncode == 0
    options = "--table all.csv.gz --metric value,twice --rankers embedded,random --trials 12 --seeds 2 --jobs 1"
    bench = ncode(folder, "bench", *options.split())
    assert (bench.returncode, bench.stderr) == (0, "")
    assert "18 of 18 codes, optimum 0.4" in bench.stdout
    table = ScoreTable.read(folder / "all.csv.gz", "value")
    assert (
        table.rows_of(table.space.from_text(["210"]))[0]
        == table.canon[table.rows_of(table.space.from_text(["211"]))[0]]
    )

    on_table = TOML[: TOML.index("[evaluator]")].format() + '[evaluator]\nkind = "table"\npath = "all.csv.gz"\n'
    (folder / "again.toml").write_text(
        on_table.replace("trials = 3", "trials = 15").replace(STOP, "") + 'metric = "value"\n'
    )
    assert ncode(folder, "run", "again.toml", "--ranker", "evolution").returncode == 0
    with History.read(folder / "search.db") as history:
        found = history.best()
    assert found is not None
    assert found.value == pytest.approx(0.4)
    assert set(found.metrics) == {"twice", "accuracy@1", "seconds"}


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(folder: Path, witness: Path) -> None:
    (folder / "search.toml").write_text(TOML.format(function="slow"))
    arguments = command("tabulate", "search.toml", "-o", "all.csv.gz", "--sample", "6")
    process = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    while len(trained(witness)) < 2:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "all.csv.gz").exists()

    assert ncode(folder, "tabulate", "search.toml", "-o", "all.csv.gz", "--sample", "6").returncode == 0
    assert Counter(trained(witness)).most_common(1)[0][1] == 1, "what was done is not done again"
    small = {row["canon"] for row in rows_of(folder / "all.csv.gz")}
    assert small == set(trained(witness))
    assert len(small) == 6

    assert ncode(folder, "tabulate", "search.toml", "-o", "all.csv.gz", "--sample", "8").returncode == 0
    assert small < {row["canon"] for row in rows_of(folder / "all.csv.gz")} == set(trained(witness))


def test_a_stopped_run_writes_no_table(folder: Path, witness: Path) -> None:
    (folder / "search.toml").write_text(TOML.format(function="slow"))
    arguments = command("tabulate", "search.toml", "-o", "all.csv.gz")
    process = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while len(trained(witness)) < 1:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, "a `tabulate ... && bench ...` goes on without the table"
    assert "of 15 configurations are trained; all.csv.gz is not written yet" in output
    assert not (folder / "all.csv.gz").exists()


def test_failed_configurations_are_left_out_and_told(folder: Path) -> None:
    fates = '[space]\na = ["fine", "raise"]\nb = [0, 1, 2]\n[evaluator]\nkind = "python"\n'
    (folder / "search.toml").write_text(
        f'[search]\nhistory = "s.db"\nretries = 0\n{fates}function = "trial_functions:hostile"\n'
    )
    done = ncode(folder, "tabulate", "search.toml", "-o", "some.csv")
    assert done.returncode == 0
    assert "some.csv: 3 configurations in 3 rows, 5 columns, 3 of 6 failed and are left out" in done.stdout
    assert (folder / "some.csv").read_text().splitlines()[0] == "code,config.a,config.b,value,seconds"


FATES = """
[search]
history = "s.db"
retries = 0
{more}
[space]
a = ["fine", "raise"]
b = {numbers}
[evaluator]
kind = "python"
function = "trial_functions:hostile"
"""


def test_neither_patience_nor_a_rate_of_failures_cuts_a_table_short(folder: Path) -> None:
    more = "patience = 2\nfirst_failures = 99\nfailure_limit = 0.1\nfailure_window = 3"
    (folder / "search.toml").write_text(FATES.format(more=more, numbers=[*range(12)]))
    done = ncode(folder, "tabulate", "search.toml", "-o", "all.csv")
    assert done.returncode == 0
    assert "all.csv: 12 configurations in 12 rows, 5 columns, 12 of 24 failed and are left out" in done.stdout


def test_a_tabulation_that_pauses_writes_no_table(folder: Path) -> None:
    (folder / "search.toml").write_text(FATES.format(more="first_failures = 1", numbers=[0]).replace('"fine", ', ""))
    done = ncode(folder, "tabulate", "search.toml", "-o", "all.csv")
    assert done.returncode == 3
    assert "0 of 1 configurations are trained; all.csv is not written yet" in done.stdout
    assert not (folder / "all.csv").exists()


def test_a_table_is_of_one_seed(folder: Path) -> None:
    tabulate = ("tabulate", "search.toml", "-o", "all.csv.gz", "--sample")
    assert ncode(folder, *tabulate, "4").returncode == 0
    other = ncode(folder, *tabulate, "9", "--seed", "1")
    said = "all.db: its configurations were trained with seed 0, not 1; give that one as --seed, or another --history"
    assert (other.returncode, other.stderr) == (2, f"ncode: {said}\n")


def test_what_a_search_has_tried_before_is_no_part_of_the_plan_s_count(folder: Path) -> None:
    (folder / "search.toml").write_text((folder / "search.toml").read_text().replace(STOP, ""))
    assert ncode(folder, "run", "search.toml", "--ranker", "random", "--seed", "0").returncode == 0
    arguments = ("tabulate", "search.toml", "-o", "all.csv.gz", "--sample", "6", "--history", "search.db")
    done = ncode(folder, *arguments)
    assert "6 configurations in" in done.stdout
    assert "failed" not in done.stdout
    assert len({row["canon"] for row in rows_of(folder / "all.csv.gz")}) == 6


EDGES = {"a": (0, 1), "b": (0, 2), "c": (1, 2)}
CELL = SearchSpace({name: ["none", "skip", "conv"] for name in EDGES}, cells=[Cell(EDGES, "none", "skip")])


def test_a_plan_has_every_class_once_and_is_as_likely_to_begin_with_any() -> None:
    whole = planned(CELL, None, seed=3)
    assert len(set(CELL.to_text(whole))) == len(whole) == CELL.unique_size()
    assert (CELL.canonical(whole) == whole).all()
    assert (planned(CELL, 4, seed=3) == whole[:4]).all()
    first = Counter(CELL.to_text(planned(CELL, 1, seed))[0] for seed in range(60 * len(whole)))
    counts = np.array(list(first.values()))
    assert len(counts) == len(whole)
    assert 30 < counts.min() <= counts.max() < 95, "classes of ten codes are no likelier than those of one"


def test_a_space_too_large_to_list_is_sampled() -> None:
    space = SearchSpace({f"p{at}": list(range(8)) for at in range(12)}, interchangeable=[[["p0"], ["p1"], ["p2"]]])
    with pytest.raises(InputError, match="the space has 68,719,476,736 codes; say with --sample how many"):
        planned(space, None, seed=0)
    sample = planned(space, 500, seed=0)
    assert len(set(space.to_text(sample))) == 500
    assert (space.canonical(sample) == sample).all()
    assert (planned(space, 90, seed=0) == sample[:90]).all()
    three_alike = (sample[:, :3] == sample[:, :1]).all(axis=1).mean()
    assert 0.03 < three_alike < 0.12, "8 of 120 classes, though 8 of 512 codes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sample", "0"], "--sample is 0; allowed: whole numbers from 1"),
        (["-o", "nowhere/all.csv"], "nowhere/all.csv: there is no folder nowhere; make it first"),
        (["-o", "all.parquet"], "all.parquet: a table is a file; give it a name that ends in .csv or .csv.gz"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(folder: Path, arguments: list[str], message: str) -> None:
    before = set(folder.iterdir())
    done = ncode(folder, "tabulate", "search.toml", *(["-o", "all.csv"] if "-o" not in arguments else []), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ncode: {message}\n"
    assert set(folder.iterdir()) == before


def test_an_evaluator_that_cannot_be_writes_nothing(folder: Path) -> None:
    (folder / "search.toml").write_text(TOML.format(function="no_such_function"))
    before = set(folder.iterdir())
    done = ncode(folder, "tabulate", "search.toml", "-o", "all.csv")
    assert done.returncode == 2
    imports, error = done.stderr.splitlines()
    assert imports.startswith("imports ")
    assert "no_such_function" in error
    assert set(folder.iterdir()) - before <= {folder / "__pycache__"}
