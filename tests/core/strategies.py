"""Spaces and codes for Hypothesis, and the way between arrays and the reference's tuples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from .reference import Code

seeds = st.integers(0, 2**64 - 1)
any_sizes = st.one_of(
    st.lists(st.integers(1, 64), min_size=1, max_size=24),
    st.lists(st.integers(1, 64), min_size=250, max_size=256),
    st.builds(lambda options, length: [options] * length, st.integers(1, 64), st.integers(1, 40)),
)
indexed_sizes = any_sizes.filter(lambda sizes: np.log2(np.array(sizes, float)).sum() < 127)
small_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@st.composite
def spaces_and_codes(
    draw: st.DrawFn, sizes: st.SearchStrategy[list[int]] = any_sizes, rows: int = 40
) -> tuple[list[int], NDArray[np.uint8]]:
    """A space's sizes and valid codes ``(n, L)``, extreme digits and repeated rows included."""
    chosen = draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = rng.integers(0, chosen, (draw(st.integers(0, rows)), len(chosen)), np.uint8)
    extreme = rng.random(len(codes)) < 0.2
    codes[extreme] = np.where(rng.random((int(extreme.sum()), len(chosen))) < 0.5, 0, np.array(chosen) - 1)
    if len(codes):
        codes = codes[rng.integers(0, len(codes), len(codes))]
    return chosen, codes


def tuples(codes: NDArray[np.uint8]) -> list[Code]:
    assert codes.dtype == np.uint8
    return [tuple(row) for row in codes.tolist()]


def array(codes: Sequence[Code], length: int) -> NDArray[np.uint8]:
    return np.array(codes, np.uint8).reshape(len(codes), length)
