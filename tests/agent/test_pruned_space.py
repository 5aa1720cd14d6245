"""Pruned spaces: what is kept, what they declare, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from ncode_search import Cell, Cost, Search, SearchSpace
from ncode_search.agent.errors import InputError
from ncode_search.agent.history import History
from ncode_search.agent.observations import Observations
from ncode_search.agent.pruned_space import (
    PrunedSpace,
    best_options,
    history_saliency,
    l1_saliency,
    marginal_saliency,
    narrowed,
    prune,
)

POSITIONS: dict[str, list[Any]] = {"op": ["conv", "pool", "skip"], "kernel": [3, 5, 7], "width": [8, 16, 32, 64]}
SALIENCY = {"op": [3, 1, 2], "kernel": [0.1, 0.3, 0.2], "width": [1, 1, 1, 1]}


def kept_of(pruned: PrunedSpace) -> list[list[Any]]:
    return [list(options) for options in pruned.space.positions.values()]


@pytest.mark.parametrize(
    ("keep", "scope", "kept"),
    [
        (1, "position", [["conv"], [5], [8]]),
        (2, "position", [["conv", "skip"], [5, 7], [8, 16]]),
        (9, "position", [["conv", "pool", "skip"], [3, 5, 7], [8, 16, 32, 64]]),
        (0.5, "position", [["conv", "skip"], [5, 7], [8, 16]]),
        (0.1, "position", [["conv"], [5], [8]]),
        (1, "global", [["conv"], [5], [8]]),
        (4, "global", [["conv", "skip"], [5], [8]]),
        (6, "global", [["conv", "pool", "skip"], [5], [8, 16]]),
        (0.7, "global", [["conv", "pool", "skip"], [5], [8, 16, 32]]),
        (1.0, "global", [["conv", "pool", "skip"], [3, 5, 7], [8, 16, 32, 64]]),
    ],
)
def test_the_top_options_are_kept_and_no_position_is_emptied(keep: float, scope: str, kept: list[list[Any]]) -> None:
    assert kept_of(prune(SearchSpace(POSITIONS), SALIENCY, keep, scope)) == kept


def test_positions_without_a_saliency_are_left_whole() -> None:
    pruned = prune(SearchSpace(POSITIONS), {"op": [0, 0, 1]}, 1, "global")
    assert kept_of(pruned) == [["skip"], [3, 5, 7], [8, 16, 32, 64]]


@st.composite
def cases(draw: st.DrawFn) -> tuple[SearchSpace, PrunedSpace]:
    """A space with conditions, costs and forbidden combinations, and a part of it."""
    when = {"kernel": {"op": draw(st.sampled_from([["conv"], ["conv", "pool"], ["skip"]]))}}
    costs = [Cost("params", {"op": [9, 0, 1], "width": [1, 2, 4, 8]}, {("op", "kernel"): [[1, 2, 3]] * 3}, least=2)]
    space = SearchSpace(
        POSITIONS,
        when=when if draw(st.booleans()) else None,
        costs=costs,
        forbidden=[{"op": "pool", "width": [32, 64]}, {"kernel": [5], "width": 8}],
    )
    saliency = {name: draw(st.permutations(range(len(options)))) for name, options in POSITIONS.items()}
    keep, scope = draw(st.sampled_from([(2, "position"), (3, "position"), (0.5, "global"), (7, "global")]))
    try:
        return space, prune(space, saliency, keep, scope)
    except InputError:
        reject()  # no code of the part has the least cost


@given(cases())
@settings(deadline=None)
def test_the_way_there_and_back(case: tuple[SearchSpace, PrunedSpace]) -> None:
    space, pruned = case
    own = np.unique(pruned.space.canonical(pruned.space.core.enumerate(0, pruned.space.size)), axis=0)
    whole = pruned.restore(own)
    np.testing.assert_array_equal(space.canonical(whole), whole)
    assert len(np.unique(whole, axis=0)) == len(own)
    assert pruned.contains(whole).all()
    np.testing.assert_array_equal(pruned.space.fits(own), space.fits(whole))
    np.testing.assert_array_equal(pruned.prune(whole), own)
    for one, other in zip(own, whole, strict=True):
        active = space.active(other[np.newaxis])[0]
        pairs = zip(pruned.space.decode(one).items(), space.decode(other).items(), active, strict=True)
        assert all(small == large for small, large, matters in pairs if matters)
    kept = [set(options) for options in pruned.space.positions.values()]
    every = space.canonical(space.core.enumerate(0, space.size))
    inside = [
        all(option in kept[at] or not matters for at, (option, matters) in enumerate(zip(config, active, strict=True)))
        for config, active in zip((space.decode(code).values() for code in every), space.active(every), strict=True)
    ]
    assert pruned.contains(every).tolist() == inside


def test_what_is_not_kept_is_named() -> None:
    pruned = prune(SearchSpace(POSITIONS), SALIENCY, 2)
    with pytest.raises(InputError, match="row 1, position 0: option 1 is not kept"):
        pruned.prune(np.array([[0, 1, 0], [1, 1, 0]], np.uint8))


def test_a_position_that_can_no_longer_matter_has_one_option() -> None:
    when = {"kernel": {"op": ["pool"]}, "width": {"kernel": [5, 7]}}
    pruned = prune(SearchSpace(POSITIONS, when=when), {"op": [1, 0, 1]}, 2)
    assert kept_of(pruned) == [["conv", "skip"], [3], [8]]
    assert pruned.space.declared == {}


def test_cells_and_interchangeable_positions_keep_the_same_options() -> None:
    options = ["none", "skip", "conv", "pool"]
    edges = {"x": (0, 1), "y": (0, 2), "z": (1, 2)}
    space = SearchSpace(
        {"x": options, "y": options, "z": options, "a": [1, 2, 3], "b": [1, 2, 3]},
        cells=[Cell(edges, none="none", skip="skip")],
        interchangeable=[[["a"], ["b"]]],
    )
    saliency = {"x": [0, 1, 5, 2], "y": [0, 2, 1, 9], "a": [2, 1, 0], "b": [0, 2, 3]}
    pruned = prune(space, saliency, 2)
    assert kept_of(pruned) == [["conv", "pool"]] * 3 + [[2, 3]] * 2
    assert pruned.space.declared["equal"]["cells"] == [{"edges": edges}]
    assert prune(space, saliency, 3).space.declared["equal"]["cells"][0]["skip"] == "skip"
    assert pruned.space.unique_size() == 8 * 3
    # Of 12 + 6 options together: the best of five positions first, 5; then `pool` on three edges, 8, and so on.
    cell = SearchSpace(space.positions, cells=[Cell(edges, none="none", skip="skip")])
    saliency = {"x": [0, 1, 9, 8], "a": [2, 1, 0], "b": [7, 0, 3]}
    kept = [kept_of(prune(cell, saliency, keep, "global")) for keep in (5, 7, 8, 9)]
    assert [[len(options) for options in one] for one in kept] == [
        [1] * 5,
        [1] * 5,
        [2] * 3 + [1] * 2,
        [2] * 3 + [1, 2],
    ]


def test_costs_and_forbidden_combinations_are_those_of_the_kept_options() -> None:
    costs = [Cost("params", {"op": [9, 0, 1]}, {("op", "kernel"): [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}, most=12)]
    forbidden = [{"op": "pool", "kernel": 3}, {"op": ["conv", "pool"], "width": [8, 64]}]
    pruned = prune(SearchSpace(POSITIONS, costs=costs, forbidden=forbidden), SALIENCY, 2)
    expected = [Cost("params", {"op": [9, 1]}, {("op", "kernel"): [[2, 3], [8, 9]]}, most=12)]
    positions = {"op": ["conv", "skip"], "kernel": [5, 7], "width": [8, 16]}
    assert pruned.space == SearchSpace(positions, costs=expected, forbidden=[{"op": "conv", "width": 8}])
    with pytest.raises(InputError, match=r"^the kept options are too few: no code fits: .*; keep more$"):
        prune(SearchSpace(POSITIONS, costs=[Cost("c", {"op": [2, 1, 2]}, most=1)]), SALIENCY, 2)


@pytest.mark.parametrize(
    ("saliency", "keep", "scope", "said"),
    [
        ({"depth": [1]}, 1, "position", "saliency: unknown position 'depth'; allowed: 'op', 'kernel', 'width'"),
        ({"op": [1, 2]}, 1, "position", "saliency of position 'op' is .*; it must be 3 finite numbers, one an option"),
        ({"op": [1, 2, float("nan")]}, 1, "position", "it must be 3 finite numbers"),
        ({"op": [1, 2, float("inf")]}, 1, "position", "it must be 3 finite numbers"),
        ({"op": ["x", "y", "z"]}, 1, "position", "it must be 3 finite numbers"),
        ({"op": [[1], [1, 2], 3]}, 1, "position", "it must be 3 finite numbers"),
        (None, 1, "position", "saliency is None; give a table of positions"),
        (SALIENCY, 0, "position", "keep is 0; allowed: a number of options from 1, or a share above 0.0"),
        (SALIENCY, 1.5, "position", "keep is 1.5; allowed"),
        (SALIENCY, True, "position", "keep is True; allowed"),
        (SALIENCY, 1, "local", "scope is 'local'; allowed: position, global"),
    ],
)
def test_wrong_arguments(saliency: Any, keep: float, scope: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        prune(SearchSpace(POSITIONS), saliency, keep, scope)


def test_l1_norms_of_a_supernet() -> None:
    torch.manual_seed(0)
    supernet = torch.nn.ModuleDict({
        "conv": torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3), torch.nn.BatchNorm2d(2)),
        "convolution": torch.nn.Conv2d(2, 2, 1),
    })  # fmt: skip
    saliency = l1_saliency(supernet.state_dict(), {"op": [["conv"], ["convolution.weight"], []]})
    conv, convolution = (
        [float(weights.detach().abs().sum()) for weights in supernet[name].parameters()]
        for name in ("conv", "convolution")
    )
    np.testing.assert_allclose(saliency["op"], [sum(conv), convolution[0], 0])
    arrays = {name: weights.numpy() for name, weights in supernet.state_dict().items()} | {"conv._extra_state": None}
    assert l1_saliency(arrays, {"op": [["conv"]]})["op"] == pytest.approx([sum(conv)])
    for state_dict, names, said in (
        (supernet.state_dict(), ["con"], "the state dictionary has no weights of 'con'; it has conv.0.weight, "),
        (supernet.state_dict(), "conv", "mapping of position 'op' is 'conv'; it must be a list"),
        (supernet, ["conv"], "a ModuleDict is no state dictionary; give module.state_dict"),
        ({}, ["conv"], "no weights of 'conv'; it has nothing"),
    ):
        with pytest.raises(InputError, match=said):
            l1_saliency(state_dict, {"op": [names]})


def test_marginal_ranks_shrink_to_the_middle() -> None:
    space = SearchSpace({"a": [0, 1, 2], "b": [0, 1]}, when={"b": {"a": [0]}})
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 0]], np.uint8)
    known = Observations(codes, np.array([1.0, 9.0, 0.0, 0.5]), codes[:0], codes[:0])
    ranks = np.array([5, 7, 1, 3]) / 8
    saliency = marginal_saliency(space, known, prior=2)
    np.testing.assert_allclose(saliency["a"], [(ranks[:2].sum() + 1) / 4, (ranks[2:].sum() + 1) / 4, 0.5])
    np.testing.assert_allclose(saliency["b"], [(ranks[0] + 1) / 3, (ranks[1] + 1) / 3])
    assert np.isnan(saliency["a"]).sum() == 0
    np.testing.assert_allclose(marginal_saliency(space, known.forgotten())["a"], [0.5] * 3)


def test_options_that_did_best_are_kept_where_they_leave_a_feasible_code() -> None:
    positions = {"a": [*range(4)], "b": [*range(4)]}
    codes = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [0, 1]], np.uint8)
    known = Observations(codes, np.array([1.0, 2.0, 3.0, 4.0, 99.0]), codes[:0], codes[:0])
    assert best_options(SearchSpace(positions), known, 4, 0.5) == {"a": [2, 3], "b": [2, 3]}
    bounded = SearchSpace(positions, costs=[Cost("c", {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}, most=3)])
    assert best_options(bounded, known, 4, 0.5) == {"a": [*range(4)], "b": [*range(4)]}, "2 + 2 is too much"
    assert narrowed(bounded, {"a": [0, 3], "b": [0, 1]}).feasible == 3
    assert narrowed(bounded, {"a": [*range(4)]}) is bounded


def test_a_history_says_what_to_keep(tmp_path: Path) -> None:
    with Search(SearchSpace(POSITIONS), history=tmp_path / "x.db", ranker="random", goal="minimize") as search:
        for _ in range(30):
            trial = search.ask()
            if trial.config["op"] == "skip":
                search.tell(trial, error="no")
            else:
                search.tell(trial, float(trial.config["width"]))
    with History.read(tmp_path / "x.db") as history:
        space, saliency = history_saliency(history)
    assert space == SearchSpace(POSITIONS)
    assert kept_of(prune(space, saliency, 2))[2] == [8, 16]
    assert saliency["op"][2] == 0.5
