"""Hashes: stored, so pinned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncode_search import _core

from . import reference
from .strategies import spaces_and_codes, tuples


@given(spaces_and_codes())
def test_hashes_equal_the_reference(case: tuple[list[int], np.ndarray]) -> None:
    _, codes = case
    hashes = _core.hash64(codes)
    pairs = _core.hash128(codes)
    assert hashes.dtype == pairs.dtype == np.dtype(np.uint64)
    assert pairs.shape == (len(codes), 2)
    assert hashes.tolist() == [reference.hash64(code) for code in tuples(codes)]
    assert [tuple(pair) for pair in pairs.tolist()] == [reference.hash128(code) for code in tuples(codes)]


@given(st.binary(max_size=40))
def test_any_bytes_have_a_hash(row: bytes) -> None:
    codes = np.frombuffer(row, np.uint8)[None, :]
    assert _core.hash64(codes).tolist() == [reference.hash64(tuple(row))]


@pytest.mark.slow
def test_all_codes_of_a_space_have_different_hashes() -> None:
    codes = _core.Space([4] * 10).enumerate(0, 4**10)
    assert len(np.unique(_core.hash64(codes))) == len(codes)
    assert len(np.unique(_core.hash128(codes)[:, 1])) == len(codes)


def test_every_digit_reaches_every_bit() -> None:
    codes = _core.Space([64] * 20).random(4000, 7)
    for position in range(20):
        changed = codes.copy()
        changed[:, position] ^= 1
        flipped = _core.hash128(codes) ^ _core.hash128(changed)
        bits = np.unpackbits(flipped.view(np.uint8), axis=1).mean(axis=0)
        assert np.abs(bits - 0.5).max() < 0.05


def test_length_matters() -> None:
    hashes = [_core.hash64(np.zeros((1, length), np.uint8))[0] for length in range(30)]
    assert len(set(hashes)) == 30
