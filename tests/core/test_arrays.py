"""What is refused as a batch of codes, and in which words; test_functions.py shows that all functions refuse it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ncode_search import _core

SPACE = _core.Space([3, 12, 64])
SUBSPACE = _core.Subspace([3, 12, 64], [[0, 1, 2], [*range(12)], [*range(64)]])
CANONICAL = _core.Canonical(SPACE, [(0, 1, [2, 3])], [([(2, 0, 1)], 0, 1)])
CODES = SPACE.random(50, 3)
Method = Callable[[NDArray[np.uint8]], Any]
METHODS: dict[str, Method] = {
    "hash64": _core.hash64,
    "hash128": _core.hash128,
    "to_text": SPACE.to_text,
    "to_index": SPACE.to_index,
    "validate": SPACE.validate,
    "mutate": lambda codes: SPACE.mutate(codes, 1),
    "crossover": lambda codes: SPACE.crossover(codes, codes, 1),
    "contains": SUBSPACE.contains,
    "prune": SUBSPACE.prune,
    "restore": SUBSPACE.restore,
    "subspace.to_index": SUBSPACE.to_index,
    "canonical.apply": CANONICAL.apply,
    "canonical.active": CANONICAL.active,
    "set.insert": lambda codes: _core.CodeSet(SPACE).insert(codes),
    "set.contains": lambda codes: _core.CodeSet(SPACE).contains(codes),
    "set.remove": lambda codes: _core.CodeSet(SPACE).remove(codes),
}
CHECKED = {name: method for name, method in METHODS.items() if not name.startswith("hash")}


@pytest.mark.parametrize("name", METHODS)
def test_broadcast_rows(name: str) -> None:
    rows = np.broadcast_to(CODES[0], (4, 3))
    np.testing.assert_array_equal(METHODS[name](rows), METHODS[name](rows.copy()))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("codes", [[[0, 0, 0]], CODES.astype(np.int64), CODES.astype(np.int8), CODES > 0, None, b"000"])
def test_wrong_type(name: str, codes: Any) -> None:
    with pytest.raises(TypeError, match="must be a NumPy array of uint8, not"):
        METHODS[name](codes)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("codes", [CODES[0], CODES[None], np.array(3, np.uint8)])
def test_wrong_dimensions(name: str, codes: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(n, positions\), not \("):
        METHODS[name](codes)


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("codes", [CODES[:, :2], np.zeros((0, 4), np.uint8), np.zeros((5, 0), np.uint8)])
def test_wrong_number_of_positions(name: str, codes: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"codes have \d positions, the space has 3"):
        CHECKED[name](codes)


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize(("row", "position", "digit"), [(0, 0, 3), (37, 1, 12), (49, 2, 64), (49, 2, 255)])
def test_wrong_digit(name: str, row: int, position: int, digit: int) -> None:
    codes = CODES.copy()
    codes[row, position] = digit
    allowed = SPACE.sizes[position] - 1
    with pytest.raises(ValueError, match=f"^row {row}, position {position}: digit {digit} is not in 0..{allowed}$"):
        CHECKED[name](codes)


def test_wrong_digit_far_into_a_batch() -> None:
    codes = SPACE.random(10_000, 1)
    codes[9_876, 1] = 12
    with pytest.raises(ValueError, match="^row 9876, position 1: digit 12 "):
        SPACE.validate(codes)


def test_a_wrong_code_inserts_nothing() -> None:
    codes = CODES.copy()
    codes[-1, 0] = 3
    seen = _core.CodeSet(SPACE)
    with pytest.raises(ValueError, match="row 49"):
        seen.insert(codes)
    assert len(seen) == 0


def test_arguments_stay_as_they_are() -> None:
    before = CODES.copy()
    for method in METHODS.values():
        method(CODES)
    np.testing.assert_array_equal(CODES, before)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_have_64_bits(seed: int) -> None:
    for draw in (lambda: SPACE.random(1, seed), lambda: SPACE.sample(1, seed), lambda: SPACE.mutate(CODES, seed)):
        with pytest.raises(ValueError, match=r"^seed must be in 0..2\*\*64-1, not "):
            draw()


@pytest.mark.parametrize("count", [-1, 2**63, 2**100])
def test_wrong_counts(count: int) -> None:
    for call in (lambda: SPACE.random(count, 1), lambda: SPACE.sample(count, 1), lambda: SPACE.enumerate(0, count)):
        with pytest.raises(ValueError, match=r"^count must be in 0..2\*\*63-1, not "):
            call()
    with pytest.raises(ValueError, match="^start must not be negative"):
        SPACE.enumerate(-1, 1)


def test_a_batch_beyond_all_memory() -> None:
    with pytest.raises(MemoryError):
        SPACE.random(2**62, 1)


@pytest.mark.parametrize("number", [1.0, "1", None])
def test_numbers_that_are_no_integers(number: Any) -> None:
    for call in (lambda: SPACE.random(number, 1), lambda: SPACE.random(1, number), lambda: SPACE.enumerate(number, 1)):
        with pytest.raises(TypeError, match="must be an integer, not"):
            call()


def test_one_code_for_neighbours() -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(positions,\), not \(50, 3\)"):
        SPACE.neighbours(CODES)
    with pytest.raises(ValueError, match="codes have 2 positions, the space has 3"):
        SPACE.neighbours(CODES[0, :2])
    with pytest.raises(ValueError, match="position 1: digit 12"):
        SPACE.neighbours(np.array([0, 12, 0], np.uint8))


def test_crossover_of_batches_of_different_length() -> None:
    with pytest.raises(ValueError, match="first has 50 codes, second has 49"):
        SPACE.crossover(CODES, CODES[1:], 1)
