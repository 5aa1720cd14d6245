"""Canonical codes: one for all that are declared to be equal, and different ones for all others."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncode_search import _core

from . import reference_canonical as reference
from .reference import all_codes
from .reference_canonical import Cell, Condition
from .strategies import array, tuples

NASBENCH201 = Cell(((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), 5, none=0, skip=1)
FIVE_NODES = Cell(tuple((a, b) for b in range(1, 5) for a in range(b)), 5, none=0, skip=1)


@st.composite
def cells(draw: st.DrawFn, codes: int = 1000, complete: bool = False) -> Cell:
    """Cells of at most so many codes, with and without *none* and *skip*, and nodes without edges in or out."""
    nodes = draw(st.integers(2, 4))
    pairs = [(a, b) for b in range(1, nodes) for a in range(b)]
    chosen = pairs if complete else draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    if all(a != 0 for a, _ in chosen):
        chosen.append((0, 1))
    options = draw(st.integers(1, 4).filter(lambda count: count ** len(chosen) <= codes))
    none, skip = draw(st.permutations(range(-1, options)))[:2] if options > 1 else (-1, 0)
    return Cell(tuple(draw(st.permutations(chosen))), options, none, skip)


def canonical_of(cell: Cell, **how: Any) -> _core.Canonical:
    rule = ([(position, *edge) for position, edge in enumerate(cell.edges)], cell.none, cell.skip)
    return _core.Canonical(_core.Space([cell.options] * len(cell.edges)), cells=[rule], **how)


def applied(canonical: _core.Canonical, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The canonical codes, which are their own canonical codes."""
    result = canonical.apply(codes)
    np.testing.assert_array_equal(canonical.apply(result), result)
    return result


# Cells


@given(cells())
def test_a_cell_has_the_first_code_with_the_same_expression(cell: Cell) -> None:
    codes = cell.codes()
    canonical = applied(canonical_of(cell), array(codes, len(cell.edges)))
    first = reference.first_of_class(cell)
    assert tuples(canonical) == [first[code] for code in codes]


@given(cells())
def test_rewriting_never_joins_different_expressions(cell: Cell) -> None:
    codes = cell.codes()
    rewritten = tuples(applied(canonical_of(cell, table_codes=0), array(codes, len(cell.edges))))
    for code, result in zip(codes, rewritten, strict=True):
        assert reference.expression(cell, code) == reference.expression(cell, result)


@given(cells(complete=True), st.data())
def test_rewriting_joins_codes_that_differ_in_the_numbering_of_nodes(cell: Cell, data: st.DataObject) -> None:
    codes = list(reference.renumbered(cell, data.draw(st.sampled_from(cell.codes()))))
    rewritten = canonical_of(cell, table_codes=0).apply(array(codes, len(cell.edges)))
    assert len(set(tuples(rewritten))) == 1


@pytest.mark.parametrize("order", [(2, 1, 3), (1, 3, 2), (2, 3, 1), (3, 1, 2), (3, 2, 1)])
def test_rewriting_of_every_code_with_five_nodes_whatever_their_numbers(order: tuple[int, ...]) -> None:
    """All at once, because what depends on an order does so for a few codes in a thousand."""
    cell = Cell(FIVE_NODES.edges, 3, none=0, skip=1)
    canonical, codes = canonical_of(cell, table_codes=0), _core.Space([3] * 10).enumerate(0, 3**10)
    name = (0, *order, 4)
    other, possible = np.zeros_like(codes), np.ones(len(codes), bool)
    for position, (source, target) in enumerate(cell.edges):
        if name[source] < name[target]:
            other[:, cell.edges.index((name[source], name[target]))] = codes[:, position]
        else:
            possible &= codes[:, position] == 0
    np.testing.assert_array_equal(canonical.apply(other[possible]), canonical.apply(codes[possible]))


@pytest.mark.slow
@given(st.integers(0, 2**32), st.sampled_from([0, 2**24]))
def test_five_nodes(seed: int, table_codes: int) -> None:
    canonical = SMALL_AND_LARGE[table_codes]
    code = tuples(_core.Space([5] * 10).random(1, seed))[0]
    same = list(reference.renumbered(FIVE_NODES, code))
    results = tuples(applied(canonical, array(same, 10)))
    assert len(set(results)) == 1
    assert reference.expression(FIVE_NODES, results[0]) == reference.expression(FIVE_NODES, code)


SMALL_AND_LARGE = {codes: canonical_of(FIVE_NODES, table_codes=codes) for codes in (0, 2**24)}


@pytest.mark.parametrize(
    ("code", "canonical"),
    [
        ("000000", "000000"),
        ("234000", "000000"),  # nothing comes to the output
        ("004444", "000400"),  # nothing comes to nodes 1 and 2
        ("222300", "000300"),  # nothing leaves nodes 1 and 2
        ("100020", "000200"),  # a skip before an operation
        ("200010", "000200"),  # and after it
        ("230032", "230032"),
        ("320023", "230032"),  # the inner nodes swapped
    ],
)
@pytest.mark.parametrize("table_codes", [0, 10**7])
def test_cells_by_hand(code: str, canonical: str, table_codes: int) -> None:
    space = _core.Space([5] * 6)
    result = canonical_of(NASBENCH201, table_codes=table_codes).apply(space.from_text([code]))
    assert space.to_text(result) == [canonical]


def test_the_whole_of_nas_bench_201() -> None:
    codes = _core.Space([5] * 6).enumerate(0, 5**6)
    assert len(np.unique(canonical_of(NASBENCH201).apply(codes), axis=0)) == 4930
    rewritten = canonical_of(NASBENCH201, table_codes=0).apply(codes)
    np.testing.assert_array_equal(canonical_of(NASBENCH201).apply(rewritten), canonical_of(NASBENCH201).apply(codes))


def test_other_positions_stay_as_they_are() -> None:
    space = _core.Space([7, 5, 5, 2, 5, 5, 5, 5, 64])
    positions = [7, 1, 5, 6, 2, 4]
    rule = ([(p, *edge) for p, edge in zip(positions, NASBENCH201.edges, strict=True)], 0, 1)
    codes = space.random(2000, 1)
    canonical = _core.Canonical(space, cells=[rule])
    np.testing.assert_array_equal(applied(canonical, codes)[:, [0, 3, 8]], codes[:, [0, 3, 8]])
    np.testing.assert_array_equal(
        canonical_of(NASBENCH201).apply(canonical.apply(codes)[:, positions]),
        canonical_of(NASBENCH201).apply(codes[:, positions]),
    )


def test_a_table_is_made_once_for_many_threads() -> None:
    canonical, codes = canonical_of(NASBENCH201), _core.Space([5] * 6).random(1000, 1)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(canonical.apply, [codes] * 16))
    for result in results:
        np.testing.assert_array_equal(result, results[0])


# Conditions and interchangeable groups


@st.composite
def conditions(draw: st.DrawFn, sizes: list[int]) -> list[Condition]:
    """Conditions of positions on ones that come before them in a random order."""
    order = draw(st.permutations(range(len(sizes))))
    links = draw(st.lists(st.tuples(st.integers(0, len(sizes) - 1), st.integers(0, len(sizes) - 1)), max_size=5))
    return [
        (order[max(link)], order[min(link)], draw(st.lists(st.integers(0, sizes[order[min(link)]] - 1), min_size=1)))
        for link in links
        if link[0] != link[1]
    ]


@given(st.data())
def test_conditions(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    rules = data.draw(conditions(sizes))
    codes = array(all_codes(sizes), len(sizes))
    canonical = _core.Canonical(_core.Space(sizes), rules)
    active = [[reference.is_active(rules, code, p) for p in range(len(sizes))] for code in tuples(codes)]
    mask = canonical.active(codes)
    assert mask.dtype == np.bool_
    assert mask.tolist() == active
    np.testing.assert_array_equal(applied(canonical, codes), np.where(active, codes, 0))


def copied(branch: list[Condition], width: int, count: int) -> list[Condition]:
    """The conditions of one branch of so many positions, and the same in all of its copies."""
    return [(child + m * width, parent + m * width, allowed) for m in range(count) for child, parent, allowed in branch]


@given(st.data())
def test_conditional_branches_in_any_order(data: st.DataObject) -> None:
    """Branches with the same conditions within each, and one position beside them on which all may depend."""
    branch = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    count = data.draw(st.integers(2, 6 // len(branch)))
    sizes, beside = branch * count + [2], len(branch) * count
    rules = copied(data.draw(conditions(branch)), len(branch), count)
    if data.draw(st.booleans()):
        rules += [(m * len(branch), beside, [1]) for m in range(count)]
    group = [list(range(m * len(branch), (m + 1) * len(branch))) for m in range(count)]
    codes = all_codes(sizes)
    canonical = tuples(applied(_core.Canonical(_core.Space(sizes), rules, (), [group]), array(codes, len(sizes))))
    component = reference.components(sizes, rules, [group])
    assert all(component[code] == component[result] for code, result in zip(codes, canonical, strict=True))
    assert len(set(canonical)) == len(set(component.values()))


def test_members_are_sorted() -> None:
    space = _core.Space([9] * 6)
    codes = space.random(500, 1)
    canonical = _core.Canonical(space, interchangeable=[[[0], [2], [4]]])
    expected = codes.copy()
    expected[:, ::2] = np.sort(codes[:, ::2], axis=1)
    np.testing.assert_array_equal(applied(canonical, codes), expected)


def test_nothing_declared_changes_nothing() -> None:
    space = _core.Space([3, 12, 64])
    codes = space.random(100, 1)
    np.testing.assert_array_equal(_core.Canonical(space).apply(codes), codes)
    assert _core.Canonical(space).active(codes).all()


# Wrong rules

TRIANGLE = [(0, 0, 1), (1, 0, 2), (2, 1, 2)]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"conditions": [(9, 0, [1])]}, "there is no position 9; the space has 0..5"),
        ({"conditions": [(0, -1, [1])]}, "there is no position -1; the space has 0..5"),
        ({"conditions": [(0, 1, [3])]}, "position 1: option 3 is not in 0..2"),
        ({"conditions": [(0, 1, [])]}, "position 0: its condition on position 1 allows no option"),
        ({"conditions": [(0, 0, [1])]}, "conditions in a circle: position 0 needs position 0"),
        (
            {"conditions": [(5, 0, [1]), (0, 1, [1]), (1, 2, [1]), (2, 0, [1])]},
            "conditions in a circle: position 0 needs position 1 needs position 2 needs position 0",
        ),
        ({"conditions": [(0, 1)]}, "a condition must have 3 items, not 2"),
        ({"cells": [([], 0, 1)]}, "a cell needs an edge"),
        ({"cells": [([(0, 0, 1, 1)], 0, 1)]}, "an edge must have 3 items, not 4"),
        ({"cells": [([(0, 0, 1), (0, 1, 2)], 0, 1)]}, "position 0 is twice in a cell"),
        ({"cells": [([(0, 0, 1), (1, 2, 1)], 0, 1)]}, "position 1: edge (2, 1) does not go forward"),
        ({"cells": [([(0, 0, 1), (1, 1, 1)], 0, 1)]}, "position 1: edge (1, 1) does not go forward"),
        ({"cells": [([(0, -1, 1)], 0, 1)]}, "position 0: edge (-1, 1) does not go forward; nodes count from 0"),
        ({"cells": [([(0, 0, 1), (1, 0, 1)], 0, 1)]}, "position 1: edge (0, 1) is twice in a cell"),
        ({"cells": [([(0, 0, 1), (3, 1, 2)], 0, 1)]}, "position 0 and position 3 are in one cell, but differ in their"),
        ({"cells": [([(0, 1, 2)], 0, 1)]}, "no edge of the cell of position 0 leaves node 0, its input"),
        ({"cells": [(TRIANGLE, 3, 1)]}, "a cell's none option 3 is not in 0..2"),
        ({"cells": [(TRIANGLE, 0, -2)]}, "a cell's skip option -2 is not in 0..2"),
        ({"cells": [(TRIANGLE, 1, 1)]}, "a cell's none and skip are both option 1"),
        ({"cells": [(TRIANGLE, 0, 1), ([(2, 0, 1)], 0, 1)]}, "position 2 is in a cell and again in a cell"),
        ({"cells": [(TRIANGLE, 0, 1)], "conditions": [(3, 2, [0])]}, "position 2 is in a cell and in a condition"),
        (
            {"cells": [(TRIANGLE, 0, 1)], "interchangeable": [[[2], [3]]]},
            "position 2 is in a cell and again in an interchangeable group; it can be in one only",
        ),
        ({"interchangeable": [[[0]]]}, "needs two members or more, each with a position"),
        ({"interchangeable": [[[], []]]}, "needs two members or more, each with a position"),
        ({"interchangeable": [[[0], [0]]]}, "position 0 is in an interchangeable group and again in an inter"),
        ({"interchangeable": [[[0, 1], [2]]]}, "begin with position 0 and position 2 have 2 and 1 positions"),
        ({"interchangeable": [[[0], [3]]]}, "position 0 and position 3 are interchangeable, but differ in their op"),
        (
            {"interchangeable": [[[0], [1]]], "conditions": [(2, 0, [1])]},
            "begin with position 0 and position 1 differ in their conditions, or in what depends on them",
        ),
    ],
)
def test_wrong_rules_name_the_positions(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _core.Canonical(_core.Space([3, 3, 3, 4, 4, 4]), **rules)


def test_rules_of_a_wrong_type() -> None:
    for rules in ({"conditions": [(0, 1.0, [0])]}, {"cells": [([("a", 0, 1)], 0, 1)]}, {"interchangeable": [[0, 1]]}):
        with pytest.raises(TypeError):
            _core.Canonical(_core.Space([3, 3]), **rules)


def test_a_large_cell_with_too_many_nodes() -> None:
    chain = [(p, *edge) for p, edge in enumerate(pairwise(range(12)))]
    _core.Canonical(_core.Space([2] * 11), cells=[(chain, 0, 1)])
    with pytest.raises(ValueError, match="too large for a table has at most 10 nodes, not 12"):
        _core.Canonical(_core.Space([5] * 11), cells=[(chain, 0, 1)])
