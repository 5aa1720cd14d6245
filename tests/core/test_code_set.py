"""The set of codes, against a Python set."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncode_search import _core

from . import reference
from .strategies import any_sizes, tuples

Operation = tuple[str, int]
operations = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "contains", "remove", "clear"]), st.integers(0, 60)), max_size=12
)


def expected_mask(seen: set[reference.Code], operation: str, codes: list[reference.Code]) -> list[bool]:
    mask = []
    for code in codes:
        inside = code in seen
        mask.append(not inside if operation == "insert" else inside)
        if operation == "insert":
            seen.add(code)
        elif operation == "remove":
            seen.discard(code)
    return mask


def check(core: _core.CodeSet, seen: set[reference.Code], operation: str, codes: NDArray[np.uint8]) -> None:
    if operation == "clear":
        core.clear()
        seen.clear()
    else:
        mask = getattr(core, operation)(codes)
        assert mask.dtype == np.bool_
        assert mask.tolist() == expected_mask(seen, operation, tuples(codes))
    assert len(core) == len(seen)


@given(any_sizes, operations, st.integers(0, 2**32))
def test_any_operations(sizes: list[int], steps: list[Operation], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, sizes, (80, len(sizes)), np.uint8)
    pool[0] = 0
    pool[1] = np.array(sizes) - 1
    core, seen = _core.CodeSet(_core.Space(sizes)), set[reference.Code]()
    for operation, count in steps:
        check(core, seen, operation, pool[rng.integers(0, len(pool), count)])


# Keys of 1, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65 and 192 bytes, and spaces that get a bit a code sooner or later.
WIDTHS = [[64] * 2, [2] * 32, [32] * 8, [2] * 64, [2] * 65, [4] * 64, [2] * 129, [2] * 256, [9] * 65]
WIDTHS += [[4] * 256, [5] * 173, [64] * 256, [5] * 10, [3, 7, 1, 20, 64, 11], [1] * 9, [1] * 10 + [64] * 11]


@pytest.mark.parametrize("sizes", WIDTHS, ids=lambda sizes: f"{len(sizes)}x{sizes[0]}")
def test_large_batches_of_every_key_width(sizes: list[int]) -> None:
    space = _core.Space(sizes)
    rng = np.random.default_rng(1)
    core, seen = _core.CodeSet(space), set[reference.Code]()
    pool = space.random(12_000, 2)
    for operation, count in [
        ("insert", 9000),
        ("contains", 3000),
        ("remove", 9000),
        ("insert", 9000),
        ("remove", 9000),
    ]:
        check(core, seen, operation, pool[rng.integers(0, len(pool), count)])
    check(core, seen, "contains", pool)
    check(core, seen, "remove", pool)
    assert len(core) == 0


@given(any_sizes, st.integers(0, 2**32))
def test_every_single_digit_counts(sizes: list[int], seed: int) -> None:
    """A key that lost bits, at the edge of a word for example, would take two of these for the same code."""
    space = _core.Space(sizes)
    code = space.random(1, seed)
    around = np.concatenate([code, space.neighbours(code[0])])
    core = _core.CodeSet(space)
    assert core.insert(around).all()
    assert len(core) == len(around)
    assert core.remove(around[1:]).all()
    assert core.contains(around).tolist() == [True] + [False] * (len(around) - 1)


def test_becoming_dense_keeps_every_code() -> None:
    space = _core.Space([5] * 8)
    core = _core.CodeSet(space)
    order = space.sample(space.size, 3)
    sizes = []
    for start in range(0, space.size, 10_000):
        assert core.insert(order[start : start + 10_000]).all()
        sizes.append(core.nbytes)
        assert core.contains(order).sum() == len(core) == min(space.size, start + 10_000)
    assert max(sizes) <= space.size / 8 + 8
    assert core.remove(order[::2]).all()
    np.testing.assert_array_equal(core.contains(order), np.arange(space.size) % 2 == 1)


@pytest.mark.parametrize("sizes", [[2] * 64, [5] * 20, [64] * 21, [5] * 100], ids=len)
def test_memory_is_close_to_the_packed_codes(sizes: list[int]) -> None:
    space = _core.Space(sizes)
    core = _core.CodeSet(space)
    bits = sum((options - 1).bit_length() for options in sizes)
    codes = space.random(400_000, 1)
    for part in np.array_split(codes, 40):
        core.insert(part)
        assert core.nbytes <= 1.5 * len(core) * bits / 8 + 20_000
    core.clear()
    assert core.nbytes < 20_000
    assert not core.contains(codes[:5]).any()


def test_memory_for_codes_that_do_not_come_is_given_back() -> None:
    """A batch that begins with new codes only lets the set expect more of them than there are."""
    space = _core.Space([5] * 20)
    codes = space.random(2_000, 1)
    batch = np.concatenate([codes, np.repeat(codes[:1], 500_000, axis=0)])
    core = _core.CodeSet(space)
    assert core.insert(batch).sum() == len(core) == len(codes)
    assert core.nbytes < 80_000
    assert core.contains(codes).all()


def test_removal_from_crowded_tables() -> None:
    """Holes must be closed wherever codes went past full buckets: remove and insert for long, at the highest fill."""
    space = _core.Space([2] * 60)
    core, codes = _core.CodeSet(space), space.random(60_000, 5)
    inside = np.zeros(len(codes), bool)
    rng = np.random.default_rng(0)
    for _ in range(60):
        chosen = rng.permutation(len(codes))[:4000]
        np.testing.assert_array_equal(core.insert(codes[chosen]), ~inside[chosen])
        inside[chosen] = True
        chosen = rng.permutation(len(codes))[:3000]
        np.testing.assert_array_equal(core.remove(codes[chosen]), inside[chosen])
        inside[chosen] = False
        assert len(core) == inside.sum()
    np.testing.assert_array_equal(core.contains(codes), inside)


@pytest.mark.parametrize("sizes", [[5] * 20, [5] * 7], ids=["sparse", "dense"])
def test_two_threads_insert_at_once(sizes: list[int]) -> None:
    space = _core.Space(sizes)
    core = _core.CodeSet(space)
    codes = space.random(200_000, 1)
    new = [0] * 4

    def work(number: int) -> None:
        order = np.random.default_rng(number).permutation(len(codes))
        for part in np.array_split(codes[order], 50):
            new[number] += int(core.insert(part).sum())
            assert core.contains(part).all()
            assert len(core) > 0

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == len(core) == len(np.unique(codes, axis=0))


@pytest.mark.slow
def test_codes_written_to_meanwhile_do_no_harm() -> None:
    """Digits that change after they were checked may give any answer, but never touch memory that is not theirs."""
    sizes = [17] * 5 + [8]  # held as bits, and digits of 255 would be many megabytes behind them
    space = _core.Space(sizes)
    codes = space.random(500_000, 1)  # so many that another thread gets its turn within a call
    stop = threading.Event()

    def scribble() -> None:
        while not stop.is_set():
            codes[-1] = 255  # the last row, which is used longest after it was checked
            codes[-1] = 0

    core = _core.CodeSet(space)

    def call_all() -> None:
        for call in calls_on_batches(space, core) * 12:
            with contextlib.suppress(ValueError):
                call(codes)

    scribbler = threading.Thread(target=scribble)
    scribbler.start()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(call_all) for _ in range(2)]:
            done.result()
    stop.set()
    scribbler.join()
    codes[-1] = 0
    core.insert(codes)
    assert core.contains(codes).all()
    assert len(np.unique(codes, axis=0)) <= len(core) <= space.size  # digits of 255 may have been other codes
    assert core.contains(space.enumerate(0, space.size)).sum() == len(core)


def calls_on_batches(space: _core.Space, core: _core.CodeSet) -> list[Callable[[NDArray[np.uint8]], object]]:
    """All that takes a batch; what takes milliseconds a thousand codes gets the last ones only."""
    subspace = _core.Subspace(space.sizes, [[0, 1]] * space.length)
    canonical = _core.Canonical(space, [(1, 0, [1])], (), [[[2], [3]]])
    feasible = _core.Feasible(space, [([[*range(size)] for size in space.sizes], [], None, 40)])
    calls: list[Callable[[NDArray[np.uint8]], object]] = [core.insert, core.contains, core.remove, core.insert]
    calls += [_core.hash64, subspace.contains, canonical.apply, feasible.contains, lambda codes: space.mutate(codes, 1)]
    few: list[Callable[[NDArray[np.uint8]], object]] = [
        subspace.prune,
        subspace.restore,
        subspace.to_index,
        space.to_text,
        space.to_index,
        canonical.active,
    ]
    few += [feasible.cost, feasible.to_index, lambda codes: feasible.mutate(codes, 1)]
    few += [lambda codes: space.crossover(codes, codes, 1), lambda codes: feasible.crossover(codes, codes, 1)]
    return calls + [lambda codes, one=one: one(codes[-1000:]) for one in few]  # type: ignore[misc]


def test_set_needs_a_space() -> None:
    with pytest.raises(TypeError):
        _core.CodeSet(None)  # type: ignore[arg-type]
