"""``ncode bench`` and ``ncode ranker eval``: what they print and write, and one line for wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncode_search.agent import cli

from .conftest import make_task, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    task = make_task(3, 3, 3, twins=True)
    write_table(folder, task)
    texts = task.table.space.to_text(task.table.codes)
    lines = [f"{code},{texts[row]}" for code, row in zip(texts, task.table.canon, strict=True)]
    (folder / "canon.csv").write_text("\n".join(["code,canon", *lines]))
    return folder


@pytest.fixture
def ncode(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    yield
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]  # nothing half written


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ncode", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.slow
@pytest.mark.usefixtures("ncode")
def test_bench_prints_and_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--table table.csv --metric score,other --report other --canon canon.csv --rankers ridge,random,evolution"
    more = "--trials 16 --seeds 3 --budgets 12,16 --pool 8 --jobs 1 --json out.json --plot out.png"
    assert run(monkeypatch, "bench", *options.split(), *more.split()) == 0
    out = capsys.readouterr()
    assert out.err == ""
    assert "score (higher is better): 27 of 27 codes" in out.out
    assert "best after 12 trials" in out.out
    assert "behind ridge" in out.out
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((folder / "out.json").read_text())
    assert [task["metric"] for task in document["tasks"]] == ["score", "other"]
    methods = {one["method"]: one for one in document["tasks"][0]["methods"]}
    assert list(methods) == ["ridge", "random", "evolution"]
    assert methods["ridge"]["twins"] == 0 < methods["random"]["twins"]
    assert methods["random"]["repeats"] == 0 < methods["evolution"]["repeats"]
    for one in methods.values():
        assert [standing["budget"] for standing in one["standings"]] == [12, 16]
        assert one["standings"][1]["mean"] == pytest.approx(sum(one["runs"]["16"]) / 3)
        assert one["curve"][15] == pytest.approx(one["standings"][1]["mean"])
    pairs = document["tasks"][0]["pairs"]
    assert {(pair["budget"], pair["method"], pair["other"]) for pair in pairs} == {
        (budget, a, b) for budget in (12, 16) for a in methods for b in methods if a != b
    }
    assert document["tasks"][0]["optimum"] == max(make_task(3, 3, 3, twins=True).table.values)


@pytest.mark.usefixtures("ncode")
def test_eval_prints_and_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "eval evolution --table table.csv --metric score --minimize --seeds 2 --at 5,8 --jobs 1 --json eval.json"
    assert run(monkeypatch, "ranker", *options.split()) == 0
    assert "log-likelihood, nats a code" in capsys.readouterr().out
    skills = json.loads((folder / "eval.json").read_text())["tasks"][0]["skills"]
    assert [(one["ranker"], one["trials"]) for one in skills] == [
        (ranker, trials) for trials in (5, 8) for ranker in ("evolution", "ridge", "gp")
    ]
    assert all(len(one["spearman"]) == 2 for one in skills)


BENCH = "bench --rankers random --table table.csv --metric score"
EVAL = "ranker eval pick --table table.csv --metric score"


@pytest.mark.usefixtures("ncode")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("bench --metric score", "'--table'"),
        ("bench --table table.csv", "'--metric'"),
        ("bench --rankers random --metric score --table none.csv", "none.csv"),
        ("bench --rankers random --table table.csv --metric nope", "nope"),
        ("bench --rankers random --table table.csv --metric ,", "--metric is empty"),
        (f"{BENCH} --metric score", "--metric has 'score' twice"),
        (f"{BENCH} --report nope", "nope"),
        (f"{BENCH} --report a,b", "--report has 2 columns for 1 metrics"),
        (f"{BENCH} --canon table.csv", "canon"),
        (f"{BENCH} --rankers random,nope", "there is no method 'nope'"),
        (f"{BENCH} --rankers random,random", "'random' twice"),
        (f"{BENCH} --rankers ,", "--rankers is empty"),
        (f"{BENCH} --rankers nope.gguf", "nope.gguf: there is no such file"),
        (f"{BENCH} --trials 0", "--trials is 0"),
        (f"{BENCH} --pool 0", "--pool is 0"),
        (f"{BENCH} --seeds 0", "--seeds is 0"),
        (f"{BENCH} --prune-after 0", "--prune-after is 0"),
        (f"{BENCH} --keep half", "--keep is 'half'"),
        (f"{BENCH} --keep 1.5", "--keep is 1.5; allowed: a number of options from 1, or a share"),
        (f"{BENCH} --jobs 0", "--jobs is 0"),
        (f"{BENCH} --budgets 5,x", "--budgets is '5,x'"),
        (f"{BENCH} --budgets 5,50 --trials 20", "--budgets is '5,50'"),
        (f"{BENCH} --ordered 9", "--ordered has 9"),
        (f"{BENCH} --json none/out.json", "there is no folder none"),
        (f"{BENCH} --json .", "is a folder"),
        (f"{BENCH} --plot out.txt", "must end in one of"),
        (f"{EVAL} --at x", "--at is 'x'"),
        (f"{EVAL} --at 0", "--at needs"),
        (f"{EVAL} --seeds 0", "--seeds is 0"),
        ("ranker eval local --table table.csv --metric score", "local is a whole search"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments.split()) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert text in out.err
    assert out.err.startswith("ncode: ")
    assert out.err.count("\n") == 1


@pytest.mark.usefixtures("ncode")
def test_a_plot_without_matplotlib_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "ncode_search.agent.bench.methods.find_spec", lambda name: None if name == "matplotlib" else True
    )
    assert run(monkeypatch, *BENCH.split(), "--plot", "out.png") == 2
    assert "--plot needs the package matplotlib, which is not installed: pip install 'ncode-search[bench]'" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_ctrl_c_ends_it_and_its_children(folder: Path) -> None:
    command = [sys.executable, "-m", "ncode_search.agent", *BENCH.split(), "--trials", "27", "--seeds", "100000"]
    bench = subprocess.Popen(
        [*command, "--jobs", "2"], cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
    if not children.exists():
        bench.kill()
        pytest.skip("needs /proc")
    deadline = time.monotonic() + 60
    while (
        len(pids := children.read_text().split()) < 3 and time.monotonic() < deadline
    ):  # with multiprocessing's tracker
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(bench.pid, signal.SIGINT)
    _, err = bench.communicate(timeout=60)
    assert (bench.returncode, err.strip()) == (1, "ncode: stopped")
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids)
