"""Costs that evaluators tell: measured in a process of their own, kept in the history, and refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ncode_search.agent.errors import HistoryError, InputError
from ncode_search.agent.history import History
from ncode_search.agent.search_file import Overrides, SearchFile
from ncode_search.agent.space_report import space_lines
from ncode_search.evaluators.cnn import CnnEvaluator

Load = Callable[[str], SearchFile]

TOML = """
[search]
history = "x.db"
trials = 2
[space]
op = ["conv", "pool"]
kernel = { options = [3, 5], when = { op = ["conv"] } }
width = [8, 16, 32]
[costs.params]
measured = true
most = 60
[costs.ms]
measured = true
tolerance = 0.01
[evaluator]
kind = "python"
function = "mine.py:evaluate"
cost_function = "mine.py:cost"
[ranker]
kind = "random"
"""
MINE = """
import os, pathlib
starts = pathlib.Path(__file__).with_name("starts.txt")
starts.write_text((starts.read_text() if starts.exists() else "") + f"{os.getppid()}\\n")
print("said while importing")
def evaluate(config, context):
    return float(config["width"])
def cost(config):
    print("said while measuring")
    own = config["kernel"] ** 2 if config["op"] == "conv" else 1
    params = own + 2 * config["width"]
    return {"params": params, "ms": params * (1 + 1e-4 * len(starts.read_text().split()))}
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_what_the_evaluator_tells_bounds_the_space(load_file: Load) -> None:
    space = load_file(TOML).space
    codes = space.canonical(space.core.enumerate(0, space.size))
    told = [
        (config["kernel"] ** 2 if config["op"] == "conv" else 1) + 2 * config["width"]
        for config in map(space.decode, codes)
    ]
    assert space.cost(codes)[:, space.cost_names.index("params")].tolist() == told
    assert space.fits(codes).tolist() == [one <= 60 for one in told]
    assert space.declared["costs"]["params"] == {
        "options": {"op": [25, 17], "kernel": [0, 16], "width": [0, 16, 48]},
        "most": 60,
        "measured": True,
    }


def test_a_search_goes_on_with_what_its_history_holds(load_file: Load, tmp_path: Path) -> None:
    first = load_file(TOML)
    assert first.to_search().run().completed == 2
    starts = (tmp_path / "starts.txt").read_text()
    again = SearchFile.load(first.path)
    assert again.space == first.space
    assert (tmp_path / "starts.txt").read_text() == starts, "nothing was measured"
    with History.read(first.history) as history:
        assert history.space() == first.space
    elsewhere = SearchFile.load(first.path, Overrides(history=tmp_path / "y.db"))
    assert elsewhere.space != first.space, "the times are others"
    first.path.write_text(TOML.replace("most = 60", "most = 70").replace("trials = 2", "trials = 3"))
    with pytest.raises(HistoryError, match="another costs: 'params.most' is 60 in the history and 70 now"):
        SearchFile.load(first.path).to_search().run()
    with pytest.raises(InputError, match="no code fits"):
        load_file(TOML.replace("most = 60", "most = 1"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('cost_function = "mine.py:cost"\n', "", "cost_function is missing; name the function"),
        ("mine.py:cost", "mine.py:costs", r'cost_function = "mine.py:costs": .* has no costs; did you mean "cost"\?'),
        ("[costs.params]", "[costs.param]", 'is measured, but the evaluator\'s cost says did you mean "params"'),
        ("measured = true\nmost", "measured = 1\nmost", "measured is 1; allowed: true, false"),
        ("most = 60", 'options."op" = [1, 2]', "params. is measured and has options; leave one of the two out"),
        ("tolerance = 0.01", "tolerance = 1.5", r"\[costs.ms\] tolerance is 1.5; allowed: a share"),
        ("measured = true\ntolerance", 'options."op" = [1, 2]\ntolerance', "has a tolerance, which is for measured"),
        ("measured = true\nmost", "most", "or let the evaluator tell them: measured = true"),
    ],
)
def test_wrong_declarations_are_one_line(load_file: Load, old: str, new: str, said: str) -> None:
    assert old in TOML
    with pytest.raises(InputError, match=rf"search.toml: .*{said}") as caught:
        load_file(TOML.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('return {"params": config["width"] ** 2 * config["kernel"], "ms": 1}', "cost 'params' does not add up over"),
        ('return {"params": float("inf"), "ms": 1}', "cost 'params' of {.*} is no finite number"),
        ('return {"params": "many"}', r"the cost of {.*} cannot be told \(ValueError: could not convert"),
        (
            'raise RuntimeError("two\\nlines")',
            r"the cost of {.*} cannot be told \(RuntimeError: two lines\); repair it",
        ),
        ("os.abort()", r"the process that measures costs ended with -6: "),
    ],
)
def test_costs_that_cannot_be_told_are_one_line(load_file: Load, mine: Path, body: str, said: str) -> None:
    mine.write_text(MINE.replace('return {"params": params', f'{body}\n    return {{"params": params'))
    with pytest.raises(InputError, match=said) as caught:
        load_file(TOML)
    assert "\n" not in str(caught.value)


def test_a_table_tells_no_costs(load_file: Load, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("code,score\n000,1\n")
    table = 'kind = "table"\npath = "t.csv"\nmetric = "score"\n'
    evaluator = TOML[TOML.index("kind = ") : TOML.index("[ranker]")]
    with pytest.raises(InputError, match='kind = "table" does not tell costs; give those of the options'):
        load_file(TOML.replace(evaluator, table))


CNN = """
[search]
history = "cnn.db"
trials = 1
[space]
"stem.width" = [8]
"cell.0-1" = ["none", "skip", "conv1x1", "conv3x3", "sepconv3x3"]
"cell.0-2" = ["none", "skip", "conv1x1", "conv3x3", "sepconv3x3"]
"cell.1-2" = ["none", "skip", "conv1x1", "conv3x3", "sepconv3x3"]
"stage2.cells" = [1]
"head.pool" = ["avg", "max"]
[equal]
cells = [{ edges = { "cell.0-1" = [0, 1], "cell.0-2" = [0, 2], "cell.1-2" = [1, 2] }, none = "none", skip = "skip" }]
[costs.params]
measured = true
most = 6000
[costs.flops]
measured = true
[evaluator]
kind = "cnn"
epochs = 1
[ranker]
kind = "random"
"""


@pytest.mark.slow
def test_a_cnn_s_parameters_and_operations_are_counted(load_file: Load, tmp_path: Path) -> None:
    file = load_file(CNN)
    space, evaluator = file.space, CnnEvaluator(folder=tmp_path)
    codes = space.canonical(space.draws.sample(20, seed=0))
    told = [evaluator.cost(space.decode(code)) for code in codes]
    assert space.cost(codes).tolist() == [[one["flops"], one["params"]] for one in told]
    assert space.fits(codes).tolist() == [one["params"] <= 6000 for one in told]
    assert 0 < space.feasible < space.size
    assert file.to_search().run().completed == 1
    with History.read(file.history) as history:
        for trial in history.trials():
            assert trial.metrics is not None
            params = space.cost(space.from_text([trial.canonical]))[0, 1]
            assert trial.metrics["parameters"] == params <= 6000
    assert any(line.split()[:2] == ["cost", "params"] and "most = 6,000" in line for line in space_lines(file.path))
