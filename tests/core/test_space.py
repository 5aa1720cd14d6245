"""Spaces, texts and indices."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncode_search import _core

from . import reference
from .strategies import any_sizes, array, indexed_sizes, small_sizes, spaces_and_codes, tuples


@given(any_sizes)
def test_space_knows_its_sizes(sizes: list[int]) -> None:
    space = _core.Space(sizes)
    assert (space.sizes, space.length, space.size) == (sizes, len(sizes), reference.size(sizes))
    assert repr(space) == f"Space({sizes})"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "1 to 256 positions, not 0"),
        ([2] * 257, "1 to 256 positions, not 257"),
        ([3, 0], "position 1: a position has 1 to 64 options, not 0"),
        ([65], "position 0: a position has 1 to 64 options, not 65"),
        ([-1], "position 0: a position has 1 to 64 options, not -1"),
        ([2**70], "position 0: a position has 1 to 64 options"),
    ],
)
def test_wrong_sizes(sizes: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _core.Space(sizes)


@pytest.mark.parametrize("sizes", [3, [2.0], ["2"], None])
def test_sizes_that_are_no_integers(sizes: object) -> None:
    with pytest.raises(TypeError):
        _core.Space(sizes)  # type: ignore[arg-type]


@given(spaces_and_codes())
def test_text_round_trip(case: tuple[list[int], np.ndarray]) -> None:
    sizes, codes = case
    space = _core.Space(sizes)
    texts = space.to_text(codes)
    assert texts == [reference.text(code) for code in tuples(codes)]
    np.testing.assert_array_equal(space.from_text(texts), codes)


def test_alphabet() -> None:
    assert _core.ALPHABET == reference.ALPHABET
    assert len(set(_core.ALPHABET)) == _core.MAX_OPTIONS == 64
    assert _core.MAX_POSITIONS == 256


@given(st.lists(st.text(max_size=4), max_size=3), small_sizes)
def test_any_text_is_read_or_refused(texts: list[str], sizes: list[int]) -> None:
    valid = {reference.text(code): code for code in reference.all_codes(sizes)}
    if all(text in valid for text in texts):
        assert tuples(_core.Space(sizes).from_text(texts)) == [valid[text] for text in texts]
    else:
        with pytest.raises(ValueError, match="text "):
            _core.Space(sizes).from_text(texts)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["00", "0"], "text 1 has 1 characters, the space has 2 positions"),
        (["00", "0c"], "text 1, position 1: 'c' is not one of '0123456789ab'"),
        (["40"], "text 0, position 0: '4' is not one of '0123'"),
        (["0\0"], "text 0, position 1: '\\x00' is not one of"),
        (["\ud8000"], "text 0, position 0: '\\ud800' is not one of"),
        (["0𝟘"], "text 0, position 1: '𝟘' is not one of"),
    ],
)
def test_wrong_texts(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _core.Space([4, 12]).from_text(texts)


@pytest.mark.parametrize("texts", ["00", [b"00"], [1], 3])
def test_texts_of_another_type(texts: object) -> None:
    with pytest.raises(TypeError):
        _core.Space([4, 12]).from_text(texts)  # type: ignore[arg-type]


@given(spaces_and_codes(indexed_sizes))
def test_index_round_trip(case: tuple[list[int], np.ndarray]) -> None:
    sizes, codes = case
    space = _core.Space(sizes)
    indices = space.to_index(codes)
    assert indices == [reference.index(sizes, code) for code in tuples(codes)]
    np.testing.assert_array_equal(space.from_index(indices), codes)


@pytest.mark.parametrize("sizes", [[2] * 128, [16] * 32, [64] * 21 + [4], [4] + [64] * 21, [63] + [64] * 20 + [4]])
def test_indices_up_to_2_to_the_128(sizes: list[int]) -> None:
    space = _core.Space(sizes)
    size = reference.size(sizes)
    indices = [i for i in (0, 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 2**127, size - 2, size - 1) if i < size]
    codes = space.from_index(indices)
    assert tuples(codes) == [reference.code_at(sizes, i) for i in indices]
    assert space.to_index(codes) == indices
    with pytest.raises(ValueError, match=f"index {size} \\(number 1\\) is not in 0..{size - 1}"):
        space.from_index([0, size])


@pytest.mark.parametrize(
    "sizes",
    [
        *([1], [64], [5] * 6, [5] * 20, [2] * 64, [64] * 10 + [16], [1, 7, 1, 64, 3] * 3, [1] * 30 + [3] + [1] * 30),
        # one to four groups of positions, and up to 2**52 codes, have loops of their own
        *([64, 64], [8] * 12, [8] * 15 + [7], [8] * 16, [8] * 17, [2] * 51, [2] * 52, [64] * 8 + [15]),
        *([64] * 8 + [16], [64] * 8 + [16, 2]),
    ],
)
@pytest.mark.parametrize("count", [1, 3, 256, 257, 3000])
def test_arrays_of_indices(sizes: list[int], count: int) -> None:
    """Arrays go another way than lists, and many indices another than few."""
    space = _core.Space(sizes)
    size = reference.size(sizes)
    indices = np.random.default_rng(count).integers(0, size - 1, count, np.uint64, endpoint=True)
    indices[[0, -1]] = size - 1
    expected = [reference.code_at(sizes, int(index)) for index in indices]
    assert tuples(space.from_index(indices)) == expected
    assert tuples(space.from_index(np.repeat(indices, 2)[::2])) == expected
    assert tuples(space.from_index(indices.astype(">u8"))) == expected
    unaligned = np.empty(8 * count + 1, np.uint8)[1:].view(np.uint64)
    unaligned[:] = indices
    unaligned.flags.writeable = False
    assert tuples(space.from_index(unaligned)) == expected


def test_arrays_of_wrong_indices() -> None:
    space = _core.Space([5] * 6)
    with pytest.raises(ValueError, match=r"index 15625 \(number 1\) is not in 0..15624"):
        space.from_index(np.array([0, 15625]))
    with pytest.raises(ValueError, match="index must not be negative, but is -1"):
        space.from_index(np.array([0, -1]))
    with pytest.raises(ValueError, match="must not be negative"):
        _core.Space([2] * 64).from_index(np.array([0, -1]))
    with pytest.raises(TypeError, match="index must be an integer, not"):
        space.from_index(np.array([0.0, 1.0]))


@pytest.mark.parametrize("sizes", [[5] * 6, [5] * 20, [2] * 60])
@pytest.mark.parametrize("place", [0, 1500, 2999])
def test_a_wrong_index_among_many(sizes: list[int], place: int) -> None:
    space = _core.Space(sizes)
    indices = np.arange(3000)
    indices[place] = reference.size(sizes)
    with pytest.raises(ValueError, match=rf"index {reference.size(sizes)} \(number {place}\) is not in"):
        space.from_index(indices)


@pytest.mark.parametrize("sizes", [[2] * 129, [3] * 81, [64] * 256])
def test_no_index_beyond_2_to_the_128(sizes: list[int]) -> None:
    space = _core.Space(sizes)
    calls = [
        lambda: space.to_index(space.random(1, 0)),
        lambda: space.from_index([0]),
        lambda: space.enumerate(0, 1),
        lambda: space.sample(1, 0),
    ]
    for call in calls:
        with pytest.raises(OverflowError, match="more than 2\\*\\*128 codes"):
            call()


@pytest.mark.parametrize(
    ("index", "error"), [(-1, ValueError), (12, ValueError), (2**200, ValueError), (1.0, TypeError)]
)
def test_wrong_indices(index: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="index"):
        _core.Space([3, 4]).from_index([index])  # type: ignore[list-item]


def test_indices_may_be_numpy_integers() -> None:
    assert tuples(_core.Space([3, 4]).from_index(np.arange(3))) == [(0, 0), (0, 1), (0, 2)]


@given(small_sizes, st.integers(0, 8000), st.integers(0, 8000))
def test_enumeration_of_small_spaces(sizes: list[int], start: int, count: int) -> None:
    expected = reference.all_codes(sizes)[start : start + count]
    np.testing.assert_array_equal(_core.Space(sizes).enumerate(start, count), array(expected, len(sizes)))


@given(indexed_sizes, st.data())
def test_enumeration_from_any_index(sizes: list[int], data: st.DataObject) -> None:
    size = reference.size(sizes)
    start = data.draw(st.integers(0, size - 1) | st.integers(max(0, size - 50), size + 1))
    codes = _core.Space(sizes).enumerate(start, 60)
    assert tuples(codes) == [reference.code_at(sizes, i) for i in range(start, min(size, start + 60))]


@pytest.mark.parametrize("sizes", [[5] * 8, [64] * 3, [7, 1, 3, 64, 64], [2] * 18, [1] * 256, [1] * 250 + [40] * 3])
def test_enumeration_across_many_tiles(sizes: list[int]) -> None:
    space = _core.Space(sizes)
    size = min(reference.size(sizes), 300_000)
    whole = space.enumerate(0, size)
    digits = np.stack(np.unravel_index(np.arange(size), [s for s in sizes if s > 1] or [1]), axis=1)
    np.testing.assert_array_equal(whole[:, [s > 1 for s in sizes]], digits if max(sizes) > 1 else whole[:, :0])
    assert not whole[:, [s == 1 for s in sizes]].any()
    for start in (1, 4999, size // 2):
        np.testing.assert_array_equal(space.enumerate(start, 20_000), whole[start : start + 20_000])


def test_enumeration_at_the_end_of_2_to_the_128() -> None:
    space = _core.Space([2] * 128)
    assert tuples(space.enumerate(2**128 - 2, 10)) == [(1,) * 127 + (0,), (1,) * 128]
    assert space.enumerate(2**128, 10).shape == (0, 128)
    assert space.enumerate(2**300, 10).shape == (0, 128)
