"""Feasible codes: counted, listed and drawn without a look at the others."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncode_search import _core

from . import reference_feasible as reference
from .reference import all_codes, index
from .reference_canonical import Condition
from .reference_feasible import Constraints, Cost
from .strategies import array, seeds, tuples

amounts = st.one_of(st.integers(-5, 5), st.integers(-(10**15), 10**15))


@st.composite
def costs(draw: st.DrawFn, sizes: list[int]) -> Cost:
    """Small costs whose sums coincide, or large ones whose sums do not; bounds near sums that there are."""
    amount = draw(st.sampled_from([st.integers(-4, 4), st.integers(-(10**15), 10**15)]))
    options = [draw(st.lists(amount, min_size=size, max_size=size)) for size in sizes]
    pairs = {}
    for p in draw(st.sets(st.integers(0, len(sizes) - 2))) if len(sizes) > 1 else ():
        row = st.lists(amount, min_size=sizes[p + 1], max_size=sizes[p + 1])
        pairs[p] = draw(st.lists(row, min_size=sizes[p], max_size=sizes[p]))
    free = Cost(options, pairs, None, None)
    sums = sorted(map(free.of, all_codes(sizes)))
    bound = st.one_of(st.none(), st.builds(lambda at, off: at + off, st.sampled_from(sums), st.integers(-1, 1)))
    return Cost(options, pairs, draw(bound), draw(bound))


@st.composite
def constraints(draw: st.DrawFn) -> Constraints:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    parts = st.dictionaries(
        st.integers(0, len(sizes) - 1), st.lists(st.integers(0, 3), unique=True, max_size=3), min_size=1, max_size=3
    )
    forbidden = [
        {p: [option for option in options if option < sizes[p]] for p, options in one.items()}
        for one in draw(st.lists(parts, max_size=3))
    ]
    return Constraints(
        sizes, draw(st.lists(costs(sizes), max_size=3)), forbidden, draw(conditions(sizes)), draw(st.booleans())
    )


@st.composite
def conditions(draw: st.DrawFn, sizes: list[int]) -> list[Condition]:
    """Conditions on positions before and behind, without a circle."""
    order = draw(st.permutations(range(len(sizes))))
    found = []
    for _ in range(draw(st.integers(0, 4)) if len(sizes) > 1 else 0):
        parent, child = sorted(draw(st.sets(st.integers(0, len(sizes) - 1), min_size=2, max_size=2)))
        options = st.lists(st.integers(0, sizes[order[parent]] - 1), min_size=1, unique=True)
        found.append((order[child], order[parent], draw(options)))
    return found


def core_of(case: Constraints, **how: Any) -> _core.Feasible:
    forbidden = [list(one.items()) for one in case.forbidden]
    costs = [cost.rule() for cost in case.costs]
    return _core.Feasible(_core.Space(case.sizes), costs, forbidden, case.conditions, canonical=case.canonical, **how)


@given(constraints())
def test_the_set_is_that_of_the_reference(case: Constraints) -> None:
    feasible = case.feasible()
    core = core_of(case)
    assert core.size == len(feasible)
    assert (core.conflict is None) == bool(feasible)
    assert tuples(core.enumerate(0, len(feasible) + 1)) == feasible
    every = all_codes(case.sizes)
    codes = array(every, len(case.sizes))
    assert core.contains(codes).tolist() == [code in feasible for code in every]
    assert core.cost(codes).tolist() == [[cost.of(code, case.conditions) for cost in case.costs] for code in every]
    if feasible:
        assert tuples(core.from_index(range(len(feasible)))) == feasible
        assert core.to_index(array(feasible, len(case.sizes))) == list(range(len(feasible)))
        sums = [[cost.of(code, case.conditions) for code in feasible] for cost in case.costs]
        assert core.ranges == [(min(one), max(one)) for one in sums]


@given(constraints(), seeds, st.data())
def test_draws_are_those_of_the_reference(case: Constraints, seed: int, data: st.DataObject) -> None:
    feasible, core = case.feasible(), core_of(case)
    if not feasible:
        return
    assert tuples(core.random(20, seed)) == reference.random(feasible, 20, seed)
    start = data.draw(st.integers(0, len(feasible)))
    assert tuples(core.enumerate(start, 7)) == feasible[start : start + 7]
    assert tuples(core.sample(7, seed, start)) == reference.sample(feasible, start, 7, seed)
    parents = tuples(_core.Space(case.sizes).random(12, seed))
    first, second = parents[:6], [*parents[6:9], *feasible[:3], *parents[9:]][:6]
    changes = data.draw(st.integers(0, 3))
    mutated = core.mutate(array(first, len(case.sizes)), seed, changes)
    assert tuples(mutated) == reference.mutate(case.sizes, feasible, first, seed, changes)
    crossed = core.crossover(array(first, len(case.sizes)), array(second, len(case.sizes)), seed)
    assert tuples(crossed) == reference.crossover(feasible, first, second, seed)
    assert core.contains(mutated).all()
    assert core.contains(crossed).all()


def bits(positions: int, least: int | None, most: int | None) -> tuple[Any, ...]:
    return ([[0, 1]] * positions, [], least, most)


def test_a_million_codes_of_10_to_the_15_are_listed() -> None:
    """Fifteen positions of ten options that cost their square: cheap codes are 1 in 10**9 of all."""
    space = _core.Space([10] * 15)
    costs = [[digit * digit for digit in range(10)]] * 15
    core = _core.Feasible(space, [(costs, [], None, 15)])
    assert 500_000 < core.size < 2_000_000
    assert core.states < 15 * 16
    codes = core.enumerate(0, core.size)
    assert len(codes) == core.size
    assert (core.cost(codes) <= 15).all()
    order = space.to_index(codes[:: len(codes) // 1000])
    assert order == sorted(set(order))


def test_one_in_a_billion_is_drawn_uniformly() -> None:
    """Of 2**40 codes the 780 with two ones."""
    core = _core.Feasible(_core.Space([2] * 40), [bits(40, 2, 2)])
    assert core.size == 780
    codes = core.random(78_000, 1)
    assert (codes.sum(axis=1) == 2).all()
    counts = np.bincount(core.to_index(codes), minlength=780)
    chi_square = float(((counts - 100) ** 2 / 100).sum())
    assert abs(chi_square - 779) < 4 * np.sqrt(2 * 779)
    assert sorted(core.to_index(core.sample(780, 5))) == list(range(780))


def repaired_share(codes: NDArray[np.uint8], parents: NDArray[np.uint8]) -> float:
    return float(((codes != parents).sum(axis=1) != 1).mean())


def test_a_mutation_changes_one_position_where_it_can() -> None:
    core = _core.Feasible(_core.Space([3] * 20), [([[0, 1, 2]] * 20, [], None, 20)])
    parents = core.random(1000, 1)
    assert repaired_share(core.mutate(parents, 2), parents) == 0
    pairs = _core.Feasible(_core.Space([2] * 20), [bits(20, 10, 10)])
    parents = pairs.random(1000, 1)
    children = pairs.mutate(parents, 2)  # one position alone cannot change
    assert repaired_share(children, parents) == 1
    assert (children.sum(axis=1) == 10).all()
    assert (children != parents).sum(axis=1).mean() < 2.1


def test_real_costs_share_states_as_small_numbers_do() -> None:
    """Costs of 15 digits whose sums never coincide."""
    rng = np.random.default_rng(0)
    costs = rng.integers(0, 10**15, (12, 6)).tolist()
    free = _core.Feasible(_core.Space([6] * 12), [(costs, [], None, None)])
    (least, most) = free.ranges[0]
    core = _core.Feasible(_core.Space([6] * 12), [(costs, [], None, least + (most - least) // 5)])
    assert 0 < core.size < 6**12
    assert core.states < 200_000
    codes = core.random(1000, 1)
    assert (core.cost(codes)[:, 0] <= least + (most - least) // 5).all()
    assert core.from_index(core.to_index(codes)).tolist() == codes.tolist()


def test_sizes_up_to_2_to_the_128() -> None:
    core = _core.Feasible(_core.Space([2] * 128), forbidden=[[(0, [0]), (127, [0])]])
    assert core.size == 3 * 2**126
    assert core.to_index(core.from_index([2**126, 3 * 2**126 - 1])) == [2**126, 3 * 2**126 - 1]
    assert abs(core.random(2000, 1)[:, 0].mean() - 2 / 3) < 0.05
    assert len(np.unique(core.sample(100, 1, 2**100), axis=0)) == 100


@pytest.mark.parametrize("length", [128, 200, 256])
def test_more_codes_are_counted_and_drawn_but_have_no_places(length: int) -> None:
    """Of codes of four options a forbidden pair at the ends leaves 15 in 16; a bound, those with few high digits."""
    space = _core.Space([4] * length)
    core = _core.Feasible(space, forbidden=[[(0, [0]), (length - 1, [3])]])
    assert core.size == 15 * 4 ** (length - 2)
    codes = core.random(20_000, 1)
    assert core.contains(codes).all()
    shares = np.bincount(codes[:, 0], minlength=4) / len(codes)
    np.testing.assert_allclose(shares, [3 / 15, 4 / 15, 4 / 15, 4 / 15], atol=0.015)
    ends = np.bincount(codes[codes[:, 0] == 0, -1], minlength=4) / (codes[:, 0] == 0).sum()
    np.testing.assert_allclose(ends, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.035)
    parents = codes[:100]
    for children in (core.mutate(parents, 1, 5), core.crossover(parents, codes[100:200], 1)):
        assert core.contains(children).all()
    for call in (
        lambda: core.to_index(codes),
        lambda: core.from_index([0]),
        lambda: core.enumerate(0, 1),
        lambda: core.sample(1, 1),
    ):
        with pytest.raises(OverflowError, match=r"2\*\*128 codes or more are feasible"):
            call()


def test_rounded_weights_draw_as_exact_ones_do() -> None:
    """Sums of binary digits up to a third: the first position's share follows from exact binomials."""
    length, most = 200, 66
    core = _core.Feasible(_core.Space([2] * length), [([[0, 1]] * length, [], None, most)])
    below = [sum(math.comb(length - 1, k) for k in range(top + 1)) for top in (most, most - 1)]
    assert core.size == sum(below) > 2**128
    codes = core.random(20_000, 1)
    assert (codes.sum(axis=1) <= most).all()
    assert abs(codes.mean(axis=0) - below[1] / sum(below)).max() < 0.02


def test_bounds_cut_a_space_without_an_index() -> None:
    core = _core.Feasible(_core.Space([64] * 256), [([[*range(64)]] * 256, [], None, 2)])
    assert core.size == 1 + 256 + 256 + 256 * 255 // 2
    assert core.enumerate(1, 2)[:, -1].tolist() == [1, 2]


def test_forbidden_pairs_of_neighbours_are_counted() -> None:
    """No two ones in a row: Fibonacci's numbers."""
    rules = [[(p, [1]), (p + 1, [1])] for p in range(49)]
    core = _core.Feasible(_core.Space([2] * 50), forbidden=rules)
    assert (core.size, core.states) == (32951280099, 99)
    assert core.to_index(core.enumerate(10**10, 2)) == [10**10, 10**10 + 1]


def test_networks_of_conditional_blocks_are_counted_in_a_space_without_an_index() -> None:
    """Fifty blocks of a choice and two parameters that matter for one of three options: 2 + 4 * 5 networks each."""
    rules = [(p + after, p, [2]) for p in range(0, 150, 3) for after in (1, 2)]
    core = _core.Feasible(_core.Space([3, 4, 5] * 9), conditions=rules[:18], canonical=True)
    assert (core.size, core.states) == (22**9, 9 * 5)
    cost: Any = ([[0, 1, 2], [0, 1, 2, 3], [5, 0, 0, 0, 1]] * 50, [], None, 3)
    core = _core.Feasible(_core.Space([3, 4, 5] * 50), [cost], conditions=rules, canonical=True)
    codes = core.random(1000, 1)
    assert (core.cost(codes) <= 3).all()
    assert (codes.reshape(-1, 50, 3)[codes.reshape(-1, 50, 3)[..., 0] < 2][:, 1:] == 0).all()


def test_conditions_that_are_too_far_apart_are_told() -> None:
    space = _core.Space([2] * 60)
    conditions = [(30 + p, p, [1]) for p in range(30)]
    cost: Any = ([[0, 1]] * 60, [], None, 20)
    with pytest.raises(ValueError, match="constraint 0 needs too much to be remembered between positions"):
        _core.Feasible(space, [cost], conditions=conditions)
    with pytest.raises(ValueError, match="constraint 0 needs more than 1000 states"):
        _core.Feasible(space, conditions=conditions, canonical=True, max_states=1000)


def test_what_is_in_the_way_is_named() -> None:
    space = _core.Space([2] * 4)
    assert _core.Feasible(space, [bits(4, 5, None)]).conflict == (0, (0, 4))
    assert _core.Feasible(space, [bits(4, 4, None), bits(4, None, 1)]).conflict == (0, (0, 1))
    assert _core.Feasible(space, [bits(4, 1, 1)], [[(p, [1])] for p in range(4)]).conflict == (0, (0, 0))
    nothing = _core.Feasible(space, forbidden=[[(0, [0, 1])]])
    assert (nothing.conflict, nothing.size, nothing.states) == ((0, None), 0, 0)
    assert nothing.enumerate(0, 3).shape == nothing.sample(3, 1).shape == (0, 4)
    codes = space.random(2, 1)
    assert not nothing.contains(codes).any()
    for call in (
        lambda: nothing.random(1, 1),
        lambda: nothing.mutate(codes, 1),
        lambda: nothing.crossover(codes, codes, 1),
        lambda: nothing.from_index([0]),
        lambda: nothing.ranges,
    ):
        with pytest.raises(ValueError, match="no code is feasible"):
            call()


OPTIONS = [[0, 1, 2], [0, 1]]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"costs": [([[0, 1, 2]], [], None, 1)]}, "costs of 1 positions, the space has 2"),
        ({"costs": [([[0, 1, 2], [0]], [], None, 1)]}, "position 1 has 2 options, but 1 costs"),
        ({"costs": [(OPTIONS, [(1, [])], None, 1)]}, "there is no position 2; the space has 0..1"),
        ({"costs": [(OPTIONS, [(-1, [])], None, 1)]}, "there is no position -1; the space has 0..1"),
        ({"costs": [(OPTIONS, [(0, [[1, 1]])], None, 1)]}, "position 0 has 3 options, but 1 costs"),
        ({"costs": [(OPTIONS, [(0, [[1, 1], [1], [1, 1]])], None, 1)]}, "position 1 has 2 options, but 1 costs"),
        ({"costs": [(OPTIONS, [(0, [[1, 1]] * 3)] * 2, None, 1)]}, "position 0 and position 1 are a pair twice"),
        ({"costs": [([[0, 1, 2], [0, 2**60]], [], None, 1)]}, "the costs may add up to 2**60 or more"),
        ({"costs": [([[0, 1, -(2**63)], [0, 1]], [], None, 1)]}, "the costs may add up to 2**60 or more"),
        ({"costs": [(OPTIONS, [(0, [[2**63 - 1, 1]] * 3)], None, 1)]}, "the costs may add up to 2**60 or more"),
        ({"costs": [([[0, 1, 2**59], [0, 2**59]], [], None, 1)]}, "the costs may add up to 2**60 or more"),
        ({"costs": [(OPTIONS, [], None)]}, "a cost must have 4 items, not 3"),
        ({"forbidden": [[]]}, "a forbidden combination needs a position"),
        ({"forbidden": [[(0, [1]), (0, [2])]]}, "position 0 is twice in a forbidden combination"),
        ({"forbidden": [[(2, [1])]]}, "there is no position 2; the space has 0..1"),
        ({"forbidden": [[(1, [2])]]}, "position 1: option 2 is not in 0..1"),
        ({"conditions": [(0, 1, [2])]}, "position 1: option 2 is not in 0..1"),
        ({"conditions": [(0, 1, [1]), (1, 0, [1])]}, "conditions in a circle: position 0 needs position 1"),
        ({"costs": [(OPTIONS, [], 1, 1)], "max_states": 1}, "constraint 0 needs more than 1 states"),
        ({"forbidden": [[(0, [1])]], "max_states": 1}, "constraint 0 needs more than 1 states"),
    ],
)
def test_wrong_rules_name_the_positions(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _core.Feasible(_core.Space([3, 2]), **rules)


def test_wrong_codes_and_types() -> None:
    core = _core.Feasible(_core.Space([3, 2]), [(OPTIONS, [], None, 1)])
    wrong = np.array([[0, 0], [3, 0]], np.uint8)
    for call in (core.contains, core.cost, core.to_index, lambda codes: core.mutate(codes, 1)):
        with pytest.raises(ValueError, match="row 1, position 0: digit 3 is not in 0..2"):
            call(wrong)
    with pytest.raises(ValueError, match="row 1 is not feasible"):
        core.to_index(np.array([[0, 0], [2, 1]], np.uint8))
    with pytest.raises(ValueError, match="first has 1 codes, second has 2"):
        core.crossover(wrong[:1], np.zeros((2, 2), np.uint8), 1)
    with pytest.raises(ValueError, match=r"index 3 \(number 0\) is not in 0..2"):
        core.from_index([3])
    wrong_types: list[Any] = [([[0.5, 1, 2], [0, 1]], [], None, 1), (OPTIONS, [], 0.5, 1), 5]
    for cost in wrong_types:
        with pytest.raises(TypeError):
            _core.Feasible(_core.Space([3, 2]), [cost])


def test_indices_are_in_the_order_of_the_space() -> None:
    core = _core.Feasible(_core.Space([3, 4, 2]), [([[0, 1, 2], [3, 2, 1, 0], [0, 1]], [], 2, 4)])
    order = [index([3, 4, 2], code) for code in tuples(core.enumerate(0, 100))]
    assert order == sorted(order)
