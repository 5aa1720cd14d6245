"""Many small spaces out of one table of scores: pruning-based subspace sampling.

At random positions some of the options are dropped, and what is left is renumbered in a random order, so that a digit
means something else in every sample. A position that is left with one option says nothing and is dropped whole. The
second form of pruning drops what matters least: each position's options are ranked by a saliency, the L1 norms that a
supernet learned for them or, where there is only a table, their mean scores.

Tables need not be complete: a subspace has the rows of the table that lie in it, however few of its codes these are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Codes
from ncode_search.agent.score_table import Rows, ScoreTable

LEAST_ROWS = 64
"""The fewest rows of a subspace that is worth a search."""

_TRIES = 16
"""Draws of a subspace before the whole space is taken instead."""
_MORE_TRIES = 4096
"""Draws where the whole space is too large to be taken."""
_MOST_INDEXED = 1 << 22
"""Codes of a space that is looked up in an array with an entry a code; larger ones are looked up by hash."""

Kept = list[list[int]]
"""The options that a subspace keeps at every position, in their new order."""
Saliency = Sequence[NDArray[np.float64]]
"""How much every option matters: an array a position."""


@dataclass(frozen=True)
class PrunedTable:
    """A subspace and the n rows of the table that lie in it; L is the number of positions that are left."""

    space: _core.Space
    """The subspace, as a space of its own: options are numbered from 0, positions of one option are gone."""
    codes: Codes
    """Shape ``(n, L)``, in digits of `space`, distinct."""
    values: NDArray[np.float64]
    """Shape ``(n,)``, higher is better."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def sizes(self) -> list[int]:
        """Options of every position."""
        return self.space.sizes

    def rows_of(self, codes: Codes) -> Rows:
        """The row of each code of `space`, shape ``(m,)``; -1 where the table has none."""
        if self._is_indexed:
            return np.asarray(self._row_by_index[codes @ self._strides], dtype=np.intp)
        order, sorted_hashes = self._hashes
        at = np.minimum(np.searchsorted(sorted_hashes, _core.hash64(codes)), len(self) - 1)
        return np.where((self.codes[order[at]] == codes).all(axis=1), order[at], -1)

    @property
    def _is_indexed(self) -> bool:
        return self.space.size <= _MOST_INDEXED

    @cached_property
    def _strides(self) -> NDArray[np.intp]:
        return np.cumprod([1, *self.sizes[:-1]], dtype=np.intp)

    @cached_property
    def _row_by_index(self) -> Rows:
        rows = np.full(self.space.size, -1, dtype=np.intp)
        rows[self.codes @ self._strides] = np.arange(len(self))
        return rows

    @cached_property
    def _hashes(self) -> tuple[Rows, NDArray[np.uint64]]:
        hashes = _core.hash64(self.codes)
        order = np.argsort(hashes)
        return order, hashes[order]


def sample_subspace(
    table: ScoreTable,
    rng: np.random.Generator,
    *,
    share: float | None = None,
    least_rows: int = LEAST_ROWS,
    most_rows: int | None = None,
) -> PrunedTable:
    """A random subspace of `table` with at least `least_rows` rows, or all of a smaller table, and at most `most_rows`.

    `share` is the probability that a position is pruned; by default it is drawn too, so that some subspaces are nearly
    the whole space and some are small. Raises `InputError` where no subspace of `most_rows` is found.
    """
    sizes, least, most = table.space.core.sizes, min(least_rows, len(table)), most_rows or len(table)
    for kept in _draws(sizes, rng, share, _TRIES if most >= len(table) else _MORE_TRIES):
        if found := _fitting(table, kept, least, most):
            return found
    raise InputError(f"no subspace of {least} to {most} rows was found: allow more rows")


def salient_subspace(
    table: ScoreTable,
    saliency: Saliency,
    rng: np.random.Generator,
    *,
    least_rows: int = LEAST_ROWS,
    most_rows: int | None = None,
) -> PrunedTable | None:
    """A subspace without the options of the smallest saliency: as many a position as a draw says, or the most below
    that which leave `least_rows` rows. None where no number leaves so many and at most `most_rows`.
    """
    least, most = min(least_rows, len(table)), most_rows or len(table)
    for drop in range(int(rng.integers(1, max(2, *table.space.core.sizes))), 0, -1):
        if found := _fitting(table, kept_by_saliency(saliency, drop, rng), least, most):
            return found
    return None


def _fitting(table: ScoreTable, kept: Kept, least: int, most: int) -> PrunedTable | None:
    """The subspace of these options, if it has `least` to `most` rows and a choice."""
    if math.prod(map(len, kept)) < least:
        return None  # the rows of a large table need not be looked through
    rows = np.flatnonzero(_core.Subspace(table.space.core.sizes, kept).contains(table.codes))
    return _pruned(table, kept, rows) if least <= len(rows) <= most and max(map(len, kept)) > 1 else None


def pruned(table: ScoreTable, kept: Kept) -> PrunedTable:
    """The subspace that keeps these options, numbered in the order given.

    Raises `InputError` where no row or no position with a choice is left.
    """
    rows = np.flatnonzero(_core.Subspace(table.space.core.sizes, kept).contains(table.codes))
    if not len(rows) or max(map(len, kept)) < 2:
        raise InputError("pruning leaves nothing to choose from: drop fewer options")
    return _pruned(table, kept, rows)


def kept_by_saliency(saliency: Saliency, drop: int, rng: np.random.Generator | None = None) -> Kept:
    """Drop the `drop` options of the smallest saliency at every position, but never the last one.

    The rest keep their order, or get a random one from `rng`. Options of equal saliency are dropped from the end.
    """
    kept = []
    for scores in saliency:
        ranked = np.argsort(-np.asarray(scores), kind="stable")[: max(len(scores) - drop, 1)]
        kept.append((np.sort(ranked) if rng is None else rng.permutation(ranked)).tolist())
    return kept


def mean_scores(table: ScoreTable) -> list[NDArray[np.float64]]:
    """The mean score of the rows with each option: the saliency of a table. An option without rows has -infinity."""
    return [_means(table.codes[:, at], table.values, size) for at, size in enumerate(table.space.core.sizes)]


def _means(digits: NDArray[np.uint8], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    counts = np.bincount(digits, minlength=size)
    sums = np.bincount(digits, values, minlength=size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def _draws(sizes: list[int], rng: np.random.Generator, share: float | None, tries: int) -> Iterator[Kept]:
    """Random subspaces, then the whole space, renumbered at random all of them."""
    for _ in range(tries):
        yield draw_kept(sizes, rng, rng.random() if share is None else share)
    yield draw_kept(sizes, rng, 0.0)


def draw_kept(sizes: list[int], rng: np.random.Generator, share: float) -> Kept:
    """The options that a random subspace keeps, at least one of every position, in a random order.

    `share` is the probability that a position loses some, up to all but one.
    """
    chances, parts = rng.random((2, len(sizes)))
    kept = []
    for size, chance, part in zip(sizes, chances, parts, strict=True):
        left = 1 + int(part * (size - 1)) if chance < share else size
        kept.append(rng.permutation(size)[:left].tolist())
    return kept


def _pruned(table: ScoreTable, kept: Kept, rows: Rows) -> PrunedTable:
    positions = [at for at, options in enumerate(kept) if len(options) > 1]
    subspace = _core.Subspace(table.space.core.sizes, kept)
    # `take` is a few times as fast as indexing with arrays, and its result is contiguous.
    codes = subspace.prune(table.codes.take(rows, axis=0))
    if len(positions) < len(kept):
        codes = codes.take(positions, axis=1)
    space = _core.Space([len(kept[at]) for at in positions])
    return PrunedTable(space, codes, table.values.take(rows))
