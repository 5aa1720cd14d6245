"""Subspaces: the kept options of every position, renumbered."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncode_search import _core

from . import reference
from .strategies import any_sizes, seeds, small_sizes, tuples

Case = tuple[list[int], list[list[int]]]


@st.composite
def subspaces(draw: st.DrawFn, sizes: st.SearchStrategy[list[int]] = small_sizes) -> Case:
    chosen = draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kept = [rng.permutation(options)[: rng.integers(1, options, endpoint=True)].tolist() for options in chosen]
    return chosen, kept


def restored(kept: list[list[int]], codes: NDArray[np.uint8]) -> list[reference.Code]:
    return [tuple(kept[p][digit] for p, digit in enumerate(code)) for code in tuples(codes)]


@given(subspaces())
def test_small_subspaces(case: Case) -> None:
    sizes, kept = case
    subspace = _core.Subspace(sizes, kept)
    inside = list(product(*kept))
    assert (subspace.kept, subspace.size, subspace.dense.sizes) == (kept, len(inside), [len(k) for k in kept])
    assert tuples(subspace.enumerate(0, len(inside) + 1)) == inside
    assert tuples(subspace.from_index(range(len(inside)))) == inside
    assert subspace.to_index(subspace.enumerate(0, len(inside))) == list(range(len(inside)))


@given(subspaces())
def test_contains_and_prune(case: Case) -> None:
    sizes, kept = case
    subspace = _core.Subspace(sizes, kept)
    every = _core.Space(sizes).enumerate(0, reference.size(sizes))
    mask = subspace.contains(every)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [code in set(product(*kept)) for code in tuples(every)]
    dense = subspace.prune(every[mask])
    np.testing.assert_array_equal(subspace.restore(dense), every[mask])
    assert sorted(tuples(dense)) == reference.all_codes([len(options) for options in kept])
    if not mask.all():
        with pytest.raises(ValueError, match=f"^row {mask.argmin()}, position [0-9]+: option [0-9]+ is not kept$"):
            subspace.prune(every)


@given(subspaces(any_sizes), seeds)
def test_draws_are_those_of_the_dense_space(case: Case, seed: int) -> None:
    sizes, kept = case
    subspace = _core.Subspace(sizes, kept)
    drawn = subspace.random(20, seed)
    assert tuples(drawn) == restored(kept, subspace.dense.random(20, seed))
    assert subspace.contains(drawn).all()
    np.testing.assert_array_equal(subspace.prune(drawn), subspace.dense.random(20, seed))
    if subspace.size <= 2**128:
        sample = subspace.sample(20, seed, 3)
        assert tuples(sample) == restored(kept, subspace.dense.sample(20, seed, 3))
        assert subspace.to_index(sample) == subspace.dense.to_index(subspace.dense.sample(20, seed, 3))


@given(subspaces(any_sizes), st.data())
def test_enumeration_from_any_index(case: Case, data: st.DataObject) -> None:
    sizes, kept = case
    subspace = _core.Subspace(sizes, kept)
    if subspace.size <= 2**128:
        start = data.draw(st.integers(0, subspace.size))
        codes = subspace.enumerate(start, 30)
        assert tuples(codes) == restored(kept, subspace.dense.enumerate(start, 30))


def test_a_small_part_of_a_huge_space() -> None:
    subspace = _core.Subspace([64] * 256, [[63, 0]] * 100 + [[7]] * 156)
    assert subspace.size == 2**100
    assert subspace.to_index(subspace.from_index([2**64, 2**100 - 1])) == [2**64, 2**100 - 1]


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([[0]], "kept options of 1 positions, the space has 2"),
        ([[0], []], "position 1: at least one option must be kept"),
        ([[3], [0]], "position 0: kept option 3 is not in 0..2"),
        ([[-1], [0]], "position 0: kept option -1 is not in 0..2"),
        ([[2**64], [0]], "position 0: kept option "),
        ([[0, 1, 0], [0]], "position 0: option 0 is kept twice"),
    ],
)
def test_wrong_kept_options(kept: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _core.Subspace([3, 4], kept)


def test_dense_digits_are_checked() -> None:
    subspace = _core.Subspace([3, 4], [[2, 1], [0]])
    with pytest.raises(ValueError, match="row 0, position 0: digit 2 is not in 0..1"):
        subspace.restore(np.array([[2, 0]], np.uint8))
    with pytest.raises(ValueError, match="index 2 \\(number 0\\) is not in 0..1"):
        subspace.from_index([2])
