"""Searches without a model, as their users run them: nothing of the product's pools in them."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.observations import Codes, ObservationLog
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.space import SearchSpace

Code = NDArray[np.uint8]


class UniformSearch:
    """Uniform codes without repeats."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._fresh = _Fresh(space, np.random.default_rng(seed))
        self.fallbacks = 0

    def ask(self) -> Code | None:
        """A code that was not asked for before."""
        return self._fresh.draw()

    def tell(self, code: Code, value: float | None) -> None:
        """Nothing is learned."""
        self._fresh.mark(code)

    def close(self) -> None:
        """Nothing to free."""


class EvolutionSearch:
    """Regularized evolution (Real et al., AAAI 2019, arXiv 1802.01548), which may propose a code again.

    The population is filled with uniform codes; then each child is its parent with one position changed, the parent
    is the best of `sample` members drawn with replacement, and the oldest member dies. A failed trial joins nothing.
    """

    def __init__(self, space: SearchSpace, seed: int, population: int = 10, sample: int = 3) -> None:
        self._space = space.core
        self._rng = np.random.default_rng(seed)
        self._sample = sample
        self._members: deque[tuple[Code, float]] = deque(maxlen=population)
        self.fallbacks = 0

    def ask(self) -> Code | None:
        """A uniform code while the population fills, then a child."""
        if len(self._members) < (self._members.maxlen or 0):
            return self._one(self._space.random(1, _seed(self._rng)))
        drawn = self._rng.integers(len(self._members), size=self._sample)
        parent, _ = max((self._members[at] for at in drawn), key=lambda member: member[1])
        return self._one(self._space.mutate(parent[np.newaxis], _seed(self._rng), 1))

    def tell(self, code: Code, value: float | None) -> None:
        """The newest member."""
        if value is not None:
            self._members.append((code, value))

    def close(self) -> None:
        """Nothing to free."""

    @staticmethod
    def _one(codes: Codes) -> Code:
        code: Code = codes[0]
        return code


class LocalSearch:
    """Local search: the neighbours of the current code in random order, on to the first that is better.

    Where none is, it starts again from a uniform code. What was evaluated is remembered and not evaluated again.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space.core
        self._rng = np.random.default_rng(seed)
        self._fresh = _Fresh(space, self._rng)
        self._values: dict[bytes, float] = {}
        """What each evaluated code gave; minus infinity for a failed trial."""
        self._current: Code | None = None
        self._untried: list[Code] = []
        self.fallbacks = 0

    def ask(self) -> Code | None:
        """The next neighbour, or a new start."""
        if self._untried:
            return self._untried.pop()
        self._current = None
        return self._fresh.draw()

    def tell(self, code: Code, value: float | None) -> None:
        """Move there if it is better."""
        self._fresh.mark(code)
        self._values[code.tobytes()] = -np.inf if value is None else value
        if value is not None and (self._current is None or value > self._value(self._current)):
            self._move(code)

    def close(self) -> None:
        """Nothing to free."""

    def _move(self, code: Code) -> None:
        """Make `code` the current one; a neighbour that is known to be better already costs no trial."""
        neighbours = self._space.neighbours(code)
        while better := [other for other in neighbours if self._value(other) > self._value(code)]:
            code = max(better, key=self._value)
            neighbours = self._space.neighbours(code)
        untried = [other for other in neighbours if other.tobytes() not in self._values]
        self._current = code
        self._untried = [untried[at] for at in self._rng.permutation(len(untried))]

    def _value(self, code: Code) -> float:
        return self._values.get(code.tobytes(), -np.inf)


class _Fresh:
    """Uniform codes that were not evaluated yet."""

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        self._pool = CandidatePool(space)
        self._nothing = ObservationLog(len(space)).view()
        self._rng = rng

    def draw(self) -> Code | None:
        codes = self._pool.draw(self._nothing, 1, self._rng)
        return codes[0] if len(codes) else None

    def mark(self, code: Code) -> None:
        self._pool.mark_seen(code[np.newaxis])


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 63))
