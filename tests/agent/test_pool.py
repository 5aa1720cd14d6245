"""Pools: new, distinct, half bred from the best; also when a space runs out."""

import weakref
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncode_search.agent.costs import Cost
from ncode_search.agent.observations import ObservationLog
from ncode_search.agent.pool import PARENTS, CandidatePool
from ncode_search.agent.pruned_space import narrowed
from ncode_search.agent.space import SearchSpace


def space_of(*sizes: int) -> SearchSpace:
    return SearchSpace({f"p{number}": list(range(size)) for number, size in enumerate(sizes)})


def observed(space: SearchSpace, count: int, rng: np.random.Generator) -> ObservationLog:
    log = ObservationLog(len(space))
    codes = space.core.sample(count, seed=1)
    log.load(codes, rng.random(len(codes)), codes[:0])
    return log


def rows(codes: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in codes}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 40), st.integers(0, 60), st.integers(0, 99))
@settings(deadline=None)
def test_a_pool_is_new_and_distinct_and_as_large_as_what_is_left_allows(
    sizes: list[int], wanted: int, seen: int, seed: int
) -> None:
    space = space_of(*sizes)
    rng = np.random.default_rng(seed)
    log = observed(space, seen, rng)
    candidates = CandidatePool(space)
    candidates.mark_seen(log.view().codes)
    pool = candidates.draw(log.view(), wanted, rng)
    assert len(pool) == min(wanted, space.size - len(log.view()))
    assert len(rows(pool)) == len(pool)
    assert not rows(pool) & rows(log.view().codes)


def test_a_space_too_large_for_indices_has_pools() -> None:
    space = space_of(*[5] * 60)
    assert space.size > 2**128
    log = ObservationLog(60)
    log.load(space.core.random(3, 1), np.arange(3.0), space.core.random(0, 1))
    pool = CandidatePool(space).draw(log.view(), 20, np.random.default_rng(0))
    assert len(rows(pool)) == 20


def test_a_whole_space_is_proposed_once_and_only_once() -> None:
    space = space_of(3, 3, 3, 3)
    candidates, log, rng = CandidatePool(space), ObservationLog(4), np.random.default_rng(0)
    for trial in range(space.size):
        code = candidates.draw(log.view(), 16, rng)[0]
        candidates.mark_seen(code[np.newaxis])
        log.begin(trial, code)
        log.complete(trial, rng.random())
    assert len(rows(log.view().codes)) == space.size
    assert len(candidates.draw(log.view(), 16, rng)) == 0


def test_equal_codes_are_proposed_once_by_their_canonical_code() -> None:
    space = space_of(3, 3, 3)
    candidates = CandidatePool(space, lambda codes: np.sort(codes, axis=1))
    candidates.mark_seen(np.array([[2, 1, 0]], dtype=np.uint8))
    assert not len(candidates.unseen(np.array([[0, 1, 2], [1, 0, 2]], dtype=np.uint8)))
    pool = candidates.draw(ObservationLog(3).view(), 27, np.random.default_rng(0))
    assert len(pool) == 10 - 1  # multisets of three out of three options, but the seen one
    assert (np.sort(pool, axis=1) == pool).all()


def test_half_of_a_pool_is_bred_from_the_best() -> None:
    space = space_of(*[5] * 12)
    rng = np.random.default_rng(0)
    log = observed(space, 200, rng)
    candidates = CandidatePool(space)
    candidates.mark_seen(log.view().codes)
    pool = candidates.draw(log.view(), 128, rng)
    parents = log.view().codes[log.view().best(PARENTS)]
    nearest = (pool[:, np.newaxis] != parents).sum(axis=2).min(axis=1)
    # A uniform code is about 8 positions away from the nearest of ten others, a mutated one is 1 or 2 away.
    assert 32 <= (nearest <= 2).sum() <= 48
    assert (nearest <= 2)[:64].any()
    assert (nearest <= 2)[64:].any(), "the pool is in random order"


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_pools_work(size: int) -> None:
    space = space_of(4, 4, 4)
    rng = np.random.default_rng(0)
    log = observed(space, 10, rng)
    assert CandidatePool(space).draw(log.view(), size, rng).shape == (size, 3)


def test_the_same_generator_gives_the_same_pool() -> None:
    space = space_of(*[4] * 10)
    log = observed(space, 50, np.random.default_rng(0))
    pools = [CandidatePool(space).draw(log.view(), 64, np.random.default_rng(7)) for _ in range(2)]
    assert np.array_equal(*pools)


def test_pools_keep_to_a_part_as_far_as_there_are_new_codes_of_it() -> None:
    space = space_of(4, 4, 4, 4)
    rng = np.random.default_rng(0)
    log = observed(space, 200, rng)
    candidates = CandidatePool(space)
    candidates.mark_seen(log.view().codes)
    candidates.keep_to(narrowed(space, {name: [0, 1] for name in space}))
    pool = candidates.draw(log.view(), 16, rng)
    part = space_of(2, 2, 2, 2)
    assert rows(pool) == rows(part.core.enumerate(0, 16)) - rows(log.view().codes)
    candidates.mark_seen(pool)
    assert len(candidates.draw(log.view(), 16, rng)) == 16, "the part is used up, the space is not"


def test_positions_without_a_choice_are_no_trouble() -> None:
    space = space_of(1, 1, 2)
    log = observed(space, 1, np.random.default_rng(0))
    candidates = CandidatePool(space)
    candidates.mark_seen(log.view().codes)
    assert len(candidates.draw(log.view(), 8, np.random.default_rng(0))) == 1


@pytest.mark.parametrize("bounds", [{}, {"least": 10, "most": 30}])
def test_few_classes_of_a_space_too_large_to_be_listed_are_all_found(bounds: dict[str, float]) -> None:
    """41 classes of 2**40 codes, two of which have one code each: no draw ever finds those."""
    names = [f"p{number}" for number in range(40)]
    costs = [Cost("ones", {name: [0, 1] for name in names}, **bounds)]
    space = SearchSpace({name: [0, 1] for name in names}, interchangeable=[[[name] for name in names]], costs=costs)
    candidates, known, rng = CandidatePool(space), ObservationLog(40).view(), np.random.default_rng(0)
    found: set[int] = set()
    while len(pool := candidates.draw(known, 8, rng)):
        assert len(rows(pool)) == len(pool)
        ones = set(pool.sum(axis=1, dtype=int).tolist())
        assert len(ones) == len(pool)
        assert not ones & found
        found |= ones
        candidates.mark_seen(pool)
    assert found == set(range(10, 31) if bounds else range(41))
    assert not candidates.has_listed_all


def test_few_classes_of_a_large_space_are_proposed_once_each_and_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing takes several parts, and a class has codes in all of them."""
    names = [f"p{number}" for number in range(18)]
    space = SearchSpace({name: [0, 1] for name in names}, interchangeable=[[[name] for name in names]])
    candidates, known = CandidatePool(space), ObservationLog(18).view()
    listing = Mock(side_effect=candidates._list)
    monkeypatch.setattr(candidates, "_list", listing)
    for left in range(19, 0, -1):
        pool = candidates.draw(known, 128, np.random.default_rng(left))
        assert len(pool) == len(rows(pool)) == left
        candidates.mark_seen(pool[:1])
    assert not len(candidates.draw(known, 128, np.random.default_rng(0)))
    assert candidates.has_listed_all
    listing.assert_called_once()


def test_a_code_that_was_proposed_does_not_keep_its_pool() -> None:
    """In a space that is too large to be listed, where proposed codes are remembered one by one."""
    candidates = CandidatePool(space_of(*[5] * 12))
    pool = np.zeros((128, 12), np.uint8)
    gone = weakref.ref(pool)
    candidates.mark_seen(pool[3][np.newaxis])
    del pool
    assert gone() is None
