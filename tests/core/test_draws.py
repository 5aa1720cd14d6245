"""Seeded draws: equal to the reference on any platform, and as random as they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncode_search import _core

from . import reference
from .strategies import any_sizes, indexed_sizes, seeds, small_sizes, spaces_and_codes, tuples


def uniform_p_value(counts: NDArray[np.int64]) -> float:
    """The chance of counts at least this uneven, by the normal approximation of chi-square for many counts."""
    expected = counts.sum() / counts.size
    chi = float(((counts - expected) ** 2).sum() / expected)
    freedom = counts.size - 1
    z = ((chi / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    return 0.5 * float(1 - np.tanh(0.8 * z))


@pytest.mark.slow
@given(any_sizes, st.integers(0, 60), seeds)
def test_random_equals_the_reference(sizes: list[int], count: int, seed: int) -> None:
    assert tuples(_core.Space(sizes).random(count, seed)) == reference.random(sizes, count, seed)


@pytest.mark.parametrize("sizes", [[5] * 10, [63, 64, 1, 33], [47] * 256])
def test_random_across_many_blocks(sizes: list[int]) -> None:
    codes = _core.Space(sizes).random(6000, 5)
    assert tuples(codes[-200:]) == reference.random(sizes, 6000, 5)[-200:]
    np.testing.assert_array_equal(_core.Space(sizes).random(1234, 5), codes[:1234])


def test_random_is_uniform() -> None:
    space = _core.Space([3, 1, 5, 7])
    counts = np.bincount(np.array(space.to_index(space.random(200_000, 11))), minlength=space.size)
    assert counts.size == 105
    assert uniform_p_value(counts) > 0.001


@given(small_sizes, seeds)
def test_sample_visits_every_code_once(sizes: list[int], seed: int) -> None:
    space = _core.Space(sizes)
    order = space.to_index(space.sample(space.size + 3, seed))
    assert sorted(order) == list(range(space.size))
    assert order == [reference.permuted(space.size, seed, i) for i in range(space.size)]


@pytest.mark.slow
@given(indexed_sizes, seeds, st.data())
def test_sample_from_anywhere(sizes: list[int], seed: int, data: st.DataObject) -> None:
    size = reference.size(sizes)
    start = data.draw(st.integers(0, size - 1) | st.integers(max(0, size - 10), size + 1))
    order = _core.Space(sizes).to_index(_core.Space(sizes).sample(20, seed, start))
    assert order == [reference.permuted(size, seed, i) for i in range(start, min(size, start + 20))]


def test_sample_in_parts_is_the_sample() -> None:
    space = _core.Space([5] * 10)
    whole = space.sample(100_000, 9)
    parts = [space.sample(30_000, 9, start) for start in range(0, 100_000, 30_000)]
    np.testing.assert_array_equal(np.concatenate(parts)[:100_000], whole)
    assert len(np.unique(whole, axis=0)) == 100_000


def test_sample_of_2_to_the_128() -> None:
    space = _core.Space([2] * 128)
    order = space.to_index(space.sample(50, 1, 2**128 - 50))
    assert order == [reference.permuted(2**128, 1, 2**128 - 50 + i) for i in range(50)]
    assert len(set(order)) == 50
    assert space.sample(5, 1, 2**128).shape == (0, 128)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_of_a_small_space_are_equally_likely(size: int) -> None:
    space = _core.Space([size])
    orders = [tuple(space.sample(size, seed)[:, 0].tolist()) for seed in range(12_000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == np.prod(range(1, size + 1))
    assert uniform_p_value(counts) > 0.001


def test_neighbouring_places_of_a_sample_are_unrelated() -> None:
    space = _core.Space([10] * 6)
    places = np.array(space.to_index(space.sample(100_000, 4)), float)
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.015
    assert uniform_p_value(np.bincount((places // 10_000).astype(np.int64), minlength=100)) > 0.001


@pytest.mark.slow
@given(spaces_and_codes(), seeds, st.integers(0, 260))
def test_mutate_equals_the_reference(case: tuple[list[int], NDArray[np.uint8]], seed: int, changes: int) -> None:
    sizes, parents = case
    children = _core.Space(sizes).mutate(parents, seed, changes)
    assert tuples(children) == reference.mutate(sizes, tuples(parents), seed, changes)
    free = sum(options > 1 for options in sizes)
    assert set((children != parents).sum(axis=1).tolist()) <= {min(changes, free)}
    _core.Space(sizes).validate(children)


def test_mutate_is_uniform() -> None:
    space = _core.Space([4, 1, 2, 3])
    parent = np.array([[2, 0, 1, 0]], np.uint8)
    children = space.mutate(np.repeat(parent, 60_000, axis=0), 3)
    shares = [(children[:, 0] == option).mean() for option in (0, 1, 3)]
    np.testing.assert_allclose(shares, 1 / 9, atol=0.006)
    np.testing.assert_allclose((children != parent).mean(axis=0), [1 / 3, 0, 1 / 3, 1 / 3], atol=0.01)
    np.testing.assert_allclose((children[:, 3] == 2).mean(), 1 / 6, atol=0.01)


@given(spaces_and_codes(), seeds)
def test_crossover_equals_the_reference(case: tuple[list[int], NDArray[np.uint8]], seed: int) -> None:
    sizes, first = case
    second = first[::-1]
    children = _core.Space(sizes).crossover(first, second, seed)
    assert tuples(children) == reference.crossover(tuples(first), tuples(second), seed)


def test_crossover_takes_half_of_each() -> None:
    space = _core.Space([2] * 130)
    children = space.crossover(np.zeros((20_000, 130), np.uint8), np.ones((20_000, 130), np.uint8), 8)
    np.testing.assert_allclose(children.mean(axis=0), 0.5, atol=0.02)
    assert abs(np.corrcoef(children[:, 0], children[:, 64])[0, 1]) < 0.04


@pytest.mark.slow
@given(spaces_and_codes(rows=1))
def test_neighbours_equal_the_reference(case: tuple[list[int], NDArray[np.uint8]]) -> None:
    sizes, codes = case
    for code in codes:
        around = _core.Space(sizes).neighbours(code)
        assert around.shape == (sum(sizes) - len(sizes), len(sizes))
        assert tuples(around) == reference.neighbours(sizes, tuple(code.tolist()))


def test_kinds_of_draws_are_unrelated() -> None:
    space = _core.Space([64] * 8)
    assert not (space.random(100, 1) == space.sample(100, 1)).all(axis=1).any()
    assert not (space.random(100, 1) == space.random(100, 2)).all(axis=1).any()
