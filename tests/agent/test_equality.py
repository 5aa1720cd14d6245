"""Spaces that declare codes to be equal: what counts as one, what is kept, and what is said of wrong declarations."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncode_search.agent.equality import Cell
from ncode_search.agent.errors import InputError
from ncode_search.agent.space import SearchSpace

OPS = ["none", "skip", "conv1x1", "conv3x3", "pool"]
EDGES = {"e01": (0, 1), "e02": (0, 2), "e12": (1, 2), "e03": (0, 3), "e13": (1, 3), "e23": (2, 3)}
NASBENCH201 = SearchSpace(dict.fromkeys(EDGES, OPS), cells=[Cell(EDGES, none="none", skip="skip")])
BRANCHES: dict[str, Any] = {
    "a.op": ["conv", "pool"],
    "a.width": [8, 16, 32],
    "b.op": ["conv", "pool"],
    "b.width": [8, 16, 32],
}
WHEN = {"a.width": {"a.op": ["conv"]}, "b.width": {"b.op": ["conv"]}}
GROUP = [[["a.op", "a.width"], ["b.op", "b.width"]]]
TABLES = os.environ.get("NCODE_BENCHMARKS")
"""A folder with the published tables."""


class Network(torch.nn.Module):
    """The cell of one code, with the operations that all cells share; without biases, so that nothing gives nothing."""

    def __init__(self, config: dict[str, str], shared: dict[str, torch.nn.Module]) -> None:
        super().__init__()
        self.edges = [(*EDGES[name], shared[op]) for name, op in config.items() if op != "none"]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        nodes = [image] + [torch.zeros_like(image)] * 3
        for source, target, operation in sorted(self.edges, key=lambda edge: edge[1]):
            nodes[target] = nodes[target] + operation(nodes[source])
        return nodes[3]


def shared_operations() -> dict[str, torch.nn.Module]:
    torch.manual_seed(1)
    conv1x1 = torch.nn.Conv2d(3, 3, 1, bias=False, dtype=torch.float64)
    conv3x3 = torch.nn.Conv2d(3, 3, 3, padding=1, bias=False, dtype=torch.float64)
    # Pooling is linear, so pooling a sum is a sum of poolings; with a curve behind it, only the same sums are the same.
    operations = {"conv1x1": conv1x1, "conv3x3": conv3x3, "pool": torch.nn.AvgPool2d(3, 1, 1)}
    curved = {name: torch.nn.Sequential(operation, torch.nn.Tanh()) for name, operation in operations.items()}
    return {"skip": torch.nn.Identity(), **curved}


@torch.inference_mode()
def outputs(codes: np.ndarray) -> np.ndarray:
    shared = shared_operations()
    image = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    networks = (Network(NASBENCH201.decode(code), shared) for code in codes)
    return np.stack([network(image).flatten().numpy() for network in networks])


@pytest.fixture(scope="module")
def every_output() -> np.ndarray:
    return outputs(NASBENCH201.core.enumerate(0, NASBENCH201.size))


def test_cells_are_one_exactly_where_their_networks_compute_the_same(every_output: np.ndarray) -> None:
    """Every code of NAS-Bench-201 against its canonical code, and all canonical codes against each other."""
    codes = NASBENCH201.core.enumerate(0, NASBENCH201.size)
    index = NASBENCH201.core.to_index(NASBENCH201.canonical(codes))
    np.testing.assert_allclose(every_output, every_output[index], rtol=0, atol=1e-9)
    canonical = every_output[np.unique(index)]
    assert len(np.unique(canonical.round(7), axis=0)) == len(canonical) == NASBENCH201.unique_size() == 4930


@pytest.mark.skipif(TABLES is None, reason="NCODE_BENCHMARKS names no folder with the published tables")
def test_published_classes_are_never_split(every_output: np.ndarray) -> None:
    with gzip.open(Path(TABLES) / "nasbench201_canon.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    codes = NASBENCH201.from_text([row["code"] for row in rows])
    published = NASBENCH201.from_text([row["canon"] for row in rows])
    ours = NASBENCH201.canonical(codes)
    np.testing.assert_array_equal(ours, NASBENCH201.canonical(published))
    assert (len(np.unique(published, axis=0)), len(np.unique(ours, axis=0))) == (6466, 4930)
    one, other = (NASBENCH201.core.to_index(which) for which in (published, ours))
    np.testing.assert_allclose(every_output[one], every_output[other], rtol=0, atol=1e-9)


def test_a_space_without_declarations_is_as_it_was() -> None:
    space = SearchSpace(BRANCHES)
    codes = space.core.random(20, 1)
    assert space.canonical(codes) is codes
    assert space.active(codes).all()
    assert (space.has_twins, space.conditional, space.declared) == (False, (False,) * 4, {})
    assert space.unique_size() == space.size == 36
    assert space.to_json() == (
        '{"a.op":["conv","pool"],"a.width":[8,16,32],"b.op":["conv","pool"],"b.width":[8,16,32]}'
    )
    assert SearchSpace({f"p{at}": [0, 1] for at in range(64)}).unique_size() == 2**64


def test_conditions_and_branches() -> None:
    space = SearchSpace(BRANCHES, when=WHEN, interchangeable=GROUP)
    assert (space.has_twins, space.conditional) == (True, (False, True, False, True))
    assert space.unique_size() == 4 * 5 // 2  # unordered pairs of conv 8, conv 16, conv 32 and pool
    code = space.encode({"a.op": "pool", "a.width": 32, "b.op": "conv", "b.width": 16})
    assert space.active(code[np.newaxis]).tolist() == [[True, False, True, True]]
    canonical = space.canonical(code[np.newaxis])[0]
    assert space.decode(canonical) == {"a.op": "conv", "a.width": 16, "b.op": "pool", "b.width": 8}
    assert space.decode(code)["a.width"] == 32


def test_conditions_alone_are_counted_in_a_space_of_any_size() -> None:
    positions = {f"{part}{at}": [0, 1, 2] for at in range(20) for part in ("op", "width", "depth")}
    when = {f"{part}{at}": {f"op{at}": [2]} for at in range(20) for part in ("width", "depth")}
    assert SearchSpace(positions, when=when).unique_size() == 11**20
    far = dict(sorted(positions.items()))
    with pytest.raises(InputError, match="canonical ones are counted up to 10,000,000"):
        SearchSpace(far, when=when).unique_size()


def test_a_large_space_is_not_counted() -> None:
    space = SearchSpace({f"p{at}": [0, 1] for at in range(24)}, interchangeable=[[["p0"], ["p1"]]])
    with pytest.raises(InputError, match="the space has 16,777,216 codes; canonical ones are counted up to 10,000,000"):
        space.unique_size()


@pytest.mark.parametrize(
    "space",
    [
        NASBENCH201,
        SearchSpace(BRANCHES, when=WHEN, interchangeable=GROUP),
        SearchSpace({"positions": ["a"], "equal": ["b", "c"]}),
        SearchSpace({"positions": ["a", "b"], "equal": [1, 2]}, when={"equal": {"positions": ["b"]}}),
    ],
)
def test_declarations_are_kept(space: SearchSpace) -> None:
    for again in (SearchSpace.from_json(space.to_json()), SearchSpace.restore(space.positions, space.declared)):
        assert again == space
        assert hash(again) == hash(space)
        codes = space.core.enumerate(0, space.size)
        np.testing.assert_array_equal(again.canonical(codes), space.canonical(codes))


def test_spaces_differ_by_their_declarations_and_not_by_how_they_are_written() -> None:
    positions = {"a": [1, 2, 3], "b": [1, 2], "c": [1, 2]}
    one = SearchSpace(positions, when={"b": {"a": [1, 2]}, "c": {"b": [1], "a": [3]}})
    assert one == SearchSpace(positions, when={"c": {"a": (3,), "b": [1]}, "b": {"a": [2, 1, 1]}})
    assert one != SearchSpace(positions)
    assert one != SearchSpace(positions, when={"b": {"a": [1, 2]}, "c": {"b": [2], "a": [3]}})


def wrong_pair(nodes: Any) -> tuple[int, int]:
    return nodes


SAME: dict[str, Any] = {name: ["none", "skip", 3] for name in ("x", "y", "z")}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"when": ["x"]}, r"^when is \['x'\]; it must be a table"),
        ({"when": {"w": {"x": [3]}}}, "^when: unknown position 'w'; allowed: 'x', 'y', 'z', 'other'"),
        ({"when": {"x": {"w": [3]}}}, "^when of position 'x': unknown position 'w'"),
        ({"when": {"x": {}}}, "^when of position 'x' is {}; it must be a table"),
        ({"when": {"x": {"y": "none"}}}, "'y' is 'none'; it must be a list of options"),
        ({"when": {"x": {"y": []}}}, r"'y' is \[\]; it must be a list of options"),
        ({"when": {"x": {"y": ["nine"]}}}, "^position 'y' has no option 'nine'; allowed: \"none\", \"skip\", 3"),
        ({"when": {"x": {"y": [3]}, "y": {"x": [3]}}}, "circle: position 'x' needs position 'y' needs position 'x'"),
        ({"cells": [{"edges": {}}]}, "has no edges"),
        ({"cells": [Cell({})]}, "has no edges"),
        ({"cells": [Cell({"w": (0, 1)})]}, "^cells: unknown position 'w'"),
        ({"cells": [Cell({"x": wrong_pair((0, 1, 2))})]}, "^position 'x': edge .* is no pair of nodes"),
        ({"cells": [Cell({"x": wrong_pair((0, "1"))})]}, "^position 'x': edge .* is no pair of nodes"),
        ({"cells": [Cell({"x": (0, 1), "y": (2, 1)})]}, r"^position 'y': edge \(2, 1\) does not go forward"),
        ({"cells": [Cell({"x": (0, 1), "y": (0, 1)})]}, r"^position 'y': edge \(0, 1\) is twice in a cell"),
        ({"cells": [Cell({"y": (1, 2)})]}, "^no edge of the cell of position 'y' leaves node 0"),
        ({"cells": [Cell({"x": (0, 1)}, none="zero")]}, "^position 'x' has no option 'zero'"),
        ({"cells": [Cell({"x": (0, 1)}, none="skip", skip="skip")]}, "none and skip are both"),
        ({"cells": [Cell({"x": (0, 1), "other": (1, 2)})]}, "^position 'x' and position 'other' are in one cell, but"),
        ({"cells": [Cell({"x": (0, 1)}), Cell({"x": (0, 1)})]}, "^position 'x' is in a cell and again in a cell"),
        ({"cells": [Cell({"x": (0, 1)})], "when": {"y": {"x": [3]}}}, "^position 'x' is in a cell and in a condition"),
        ({"interchangeable": "xy"}, "interchangeable is 'xy'; it must be a list"),
        ({"interchangeable": [["x", "y"]]}, "an interchangeable member is 'x'; it must be a list"),
        ({"interchangeable": [[["x"], ["w"]]]}, "^interchangeable: unknown position 'w'"),
        ({"interchangeable": [[["x"], ["other"]]]}, "^position 'x' and position 'other' are interchangeable, but"),
        ({"interchangeable": [[["x", "y"], ["z"]]]}, "begin with position 'x' and position 'z' have 2 and 1 pos"),
        ({"interchangeable": [[["x"], ["x"]]]}, "^position 'x' is in an interchangeable group and again"),
        ({"interchangeable": [[["x"], ["y"]]], "when": {"z": {"x": [3]}}}, "differ in their conditions"),
    ],
)
def test_wrong_declarations_name_the_position(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        SearchSpace({**SAME, "other": ["none", "skip", 4]}, **declared)
    assert "\n" not in str(caught.value)


# Search files

FILE = """
[search]
history = "search.db"
[space]
a.op = ["conv", "pool"]
"a.width" = { options = [8, 16, 32], when = { a.op = ["conv"] } }
b.op = ["conv", "pool"]
b.width = { options = [8, 16, 32], when = { "b.op" = ["conv"] } }
x = ["none", "skip", 3]
y = ["none", "skip", 3]
z = ["none", "skip", 3]
[equal]
cells = [{ edges = { x = [0, 1], y = [0, 2], z = [1, 2] }, none = "none", skip = "skip" }]
interchangeable = [[["a.op", "a.width"], ["b.op", "b.width"]]]
[evaluator]
kind = "python"
function = "some:function"
"""


def test_a_search_file_declares_the_same(load_file) -> None:
    cell = Cell({"x": (0, 1), "y": (0, 2), "z": (1, 2)}, none="none", skip="skip")
    expected = SearchSpace({**BRANCHES, **SAME}, when=WHEN, cells=[cell], interchangeable=GROUP)
    assert load_file(FILE).space == expected


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('when = { "b.op"', 'when = { "b.oq"', r"\[space\] when of position 'b.width': unknown position 'b.oq'"),
        ('{ "b.op" = ["conv"] }', '{ "b.op" = ["cnov"] }', r"\[space\] position 'b.op' has no option 'cnov'"),
        ('{ "b.op" = ["conv"] }', '["conv"]', r"\[space\] when of position 'b.width' is \['conv'\]"),
        ('{ "b.op" = ["conv"] }', '{ "b.width" = [8] }', r"\[space\] conditions in a circle: position 'b.width'"),
        ("b.width = { options", "b.width = { option", r"\[space\] position 'b.width' has the keys option, when"),
        ("[8, 16, 32], when = { a", "8, when = { a", r"\[space\] position 'a.width' needs a list of options, not 8"),
        ("cells = [", "cell = [", r'\[equal\] cell is no key of \[equal\]; did you mean "cells"'),
        ("skip = ", "skp = ", r'\[equal\] skp is no key of a cell; did you mean "skip"'),
        ("edges = {", "edge = {", r"\[equal\] a cell is .*; write { edges = { e01 = \[0, 1\] }"),
        ("cells = [{", "cells = [3, {", r"\[equal\] a cell is 3"),
        ("z = [1, 2] }", "z = [2, 1] }", r"\[equal\] position 'z': edge \(2, 1\) does not go forward"),
        ("z = [1, 2] }", "z = [0, 2] }", r"\[equal\] position 'z': edge \(0, 2\) is twice in a cell"),
        ('none = "none"', 'none = "zero"', r"\[equal\] position 'x' has no option 'zero'"),
        ('["b.op", "b.width"]', '["b.op"]', r"\[equal\] the interchangeable members that begin with position 'a.op'"),
        ('["b.op", "b.width"]', '["b.op", "b.w"]', r"\[equal\] interchangeable: unknown position 'b.w'"),
        ("interchangeable = [", "interchangeable = 1 #", r"\[equal\] interchangeable is 1; it must be a list"),
    ],
)
def test_wrong_search_files_name_the_place(load_file, before: str, after: str, said: str) -> None:
    assert before in FILE
    with pytest.raises(InputError, match=said) as caught:
        load_file(FILE.replace(before, after))
    assert "\n" not in str(caught.value)
