"""Spaces with all that the core can be told of them, small and at its limits, in the terms of the slow reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core

from . import reference
from .reference import Code

SEED = 2**64 - 3
ROWS = (0, 1, 2, 63, 64, 65, 300)
"""Of batches: beside the sizes of words and of blocks."""


@dataclass(frozen=True)
class World:
    """A space and one of everything that is made of it."""

    sizes: list[int]

    @property
    def length(self) -> int:
        return len(self.sizes)

    @property
    def size(self) -> int:
        return reference.size(self.sizes)

    @property
    def has_index(self) -> bool:
        return self.size <= 2**128

    @cached_property
    def space(self) -> _core.Space:
        return _core.Space(self.sizes)

    @cached_property
    def kept(self) -> list[list[int]]:
        """The odd options of every position, the largest first; where there is none, the only one."""
        return [[*range(1, size, 2)][::-1] or [0] for size in self.sizes]

    @cached_property
    def subspace(self) -> _core.Subspace:
        return _core.Subspace(self.sizes, self.kept)

    @property
    def dense(self) -> list[int]:
        return [len(options) for options in self.kept]

    @cached_property
    def conditions(self) -> list[tuple[int, int, list[int]]]:
        """The second half of the positions matters where the first has its last option."""
        return [(p, 0, [self.sizes[0] - 1]) for p in range((self.length + 1) // 2, self.length)]

    @cached_property
    def canonical(self) -> _core.Canonical:
        return _core.Canonical(self.space, self.conditions)

    def matters(self, code: Code) -> list[bool]:
        off = {p for p, parent, allowed in self.conditions if code[parent] not in allowed}
        return [p not in off for p in range(self.length)]

    @cached_property
    def costs(self) -> list[list[int]]:
        """Every option but the first costs one."""
        return [[0] + [1] * (size - 1) for size in self.sizes]

    @cached_property
    def feasible(self) -> _core.Feasible:
        """Codes with at most one digit that is not 0."""
        return _core.Feasible(self.space, [(self.costs, [], None, 1)])

    @cached_property
    def feasible_codes(self) -> list[Code]:
        zero = (0,) * self.length
        return sorted([zero, *reference.neighbours(self.sizes, zero)])

    def codes(self, rows: int) -> NDArray[np.uint8]:
        """Valid codes with the last one of the space and repeats among them."""
        codes = np.random.default_rng(rows).integers(0, self.sizes, (rows, self.length), np.uint8)
        codes[: rows // 3] = np.array(self.sizes) - 1
        return codes

    def some_feasible(self, rows: int) -> list[Code]:
        return [self.feasible_codes[7 * row % len(self.feasible_codes)] for row in range(rows)]


def indices(size: int, rows: int) -> list[int]:
    """The first and the last, and those around the sizes of words."""
    found = [0, size - 1, *(2**bits + off for bits in (8, 32, 64, 127) for off in (-1, 0, 1))]
    return [found[row % len(found)] % size for row in range(rows)]


def last(size: int, rows: int) -> int:
    """A start from which a little less than `rows` elements are left."""
    return max(0, size - rows + 1)
