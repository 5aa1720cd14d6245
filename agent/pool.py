"""Candidate pools: half mutated or crossed from the best trials, half uniform; all distinct, none seen, none in flight.

Where codes are equal to others, only canonical codes are proposed, each for all of its class. Where a space has
constraints, only feasible codes are drawn, bred and listed; one whose canonical code is not feasible is dropped.
`CandidatePool` holds the set of all codes that were ever proposed, so making a pool costs the same after a hundred
thousand trials as after ten. Where a space runs out, the pool is what is left of it. Where draws find nothing new in a
space that is too large to be listed, what lies next to the proposed codes is looked at; `has_listed_all` tells whether
an empty pool proves that there is nothing left.

A pool may be told to keep to a part of its space, as far as there are new codes of it; or to propose what was planned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ncode_search import _core
from ncode_search.agent.observations import Codes, GrowingArray, Observations
from ncode_search.agent.space import SearchSpace

PARENTS = 10
"""How many of the best trials are bred from."""

_TRIES = 16
"""Draws per missing candidate before the rest of a nearly used-up space is listed instead."""
_LISTED_AT_ONCE = 1 << 16
_MOST_LISTED = 1 << 25
"""Codes of the largest set that is listed, which takes 3 to 15 s. No search uses up a larger one; but where nearly all
of its codes are equal to few, or the canonical codes of nearly all feasible ones are not feasible, draws may find none.
"""
_STEPS_AWAY = 3
_MOST_NEAR = 1 << 18
"""Codes next to those of a frontier, see `_near`; of a larger one a random part is looked around."""

_Proposer = Callable[[int], Codes]
Canonical = Callable[[Codes], Codes]
"""From codes to the canonical codes of their classes, both of shape ``(n, L)``."""


class _Source:
    """Where a pool gets codes of one space from.

    Args:
        space: What is drawn from.
        canonical: Which codes are equal.
    """

    def __init__(self, space: SearchSpace, canonical: Canonical) -> None:
        self.draws = space.draws
        # Draws of feasible codes stay so, unless they are replaced by their canonical codes.
        may_change = space.has_twins or canonical != space.canonical
        self.fits = space.fits if space.is_constrained and may_change else None
        self.left: Codes | None = None
        """What was not seen when the space was listed; a search that comes this far asks for it at every decision."""


class CandidatePool:
    """Makes pools of new codes for one search.

    Args:
        space: What is searched.
        canonical: Which codes are equal; None: those that the space says.
    """

    def __init__(self, space: SearchSpace, canonical: Canonical | None = None) -> None:
        self._space = space.core
        self._canonical: Canonical = canonical or space.canonical
        self._source = _Source(space, self._canonical)
        self._part: _Source | None = None
        self._seen = _core.CodeSet(space.core)
        # Copies: a chosen code is a view of its whole pool, and would keep it for good.
        self._marked = GrowingArray(np.empty((0, len(space)), dtype=np.uint8))
        self._none: Codes = np.empty((0, len(space)), dtype=np.uint8)

    def keep_to(self, part: SearchSpace) -> None:
        """Propose codes of `part` first, a space of codes of this one: see `narrowed`."""
        self._part = _Source(part, self._canonical)

    def mark_seen(self, codes: Codes) -> None:
        """These codes, shape ``(n, L)``, and their equals are never to be proposed again."""
        codes = self._canonical(codes)
        self._seen.insert(codes)
        if self._source.draws.size > _MOST_LISTED:
            self._marked.extend(codes)

    @property
    def has_listed_all(self) -> bool:
        """Whether every code was looked at, so that an empty pool means that none is left."""
        return self._source.left is not None

    def unseen(self, codes: Codes) -> Codes:
        """Those of `codes` that may still be proposed."""
        return codes[~self._seen.contains(self._canonical(codes))]

    def draw(self, known: Observations, size: int, rng: np.random.Generator) -> Codes:
        """A pool of up to `size` new codes, shape ``(m, L)``, in random order; fewer only where fewer are left."""
        pool = self._none if self._part is None else self._draw(self._part, known, size, rng)
        return pool if len(pool) else self._draw(self._source, known, size, rng)

    def _draw(self, source: _Source, known: Observations, size: int, rng: np.random.Generator) -> Codes:
        chosen = _core.CodeSet(self._space)
        collect = partial(self._collect, source, chosen)
        bred = collect(size // 2, lambda count: self._breed(source, known, count, rng)) if len(known) else []
        missing = size - sum(map(len, bred))
        fresh = collect(missing, lambda count: source.draws.random(count, _seed(rng)))
        missing -= sum(map(len, fresh))
        rest = []
        if missing:
            find = self._unused if source.draws.size <= _MOST_LISTED else self._near
            rest = [find(source, chosen, missing, rng)]
        return rng.permutation(np.concatenate([self._none, *bred, *fresh, *rest]))

    def _collect(self, source: _Source, chosen: _core.CodeSet, wanted: int, propose: _Proposer) -> list[Codes]:
        """Up to `wanted` codes that are neither seen nor chosen, from as many proposals as it takes, within reason."""
        collected: list[Codes] = []
        for _ in range(_TRIES):
            if wanted <= 0:
                break
            new = self._new(source, chosen, propose(2 * wanted))[:wanted]
            chosen.insert(new)
            collected.append(new)
            wanted -= len(new)
        return collected

    def _new(self, source: _Source, chosen: _core.CodeSet, codes: Codes) -> Codes:
        codes = self._canonical(codes)
        if source.fits is not None:
            codes = codes[source.fits(codes)]
        fresh = ~self._seen.contains(codes) & ~chosen.contains(codes)
        codes = codes[fresh]
        return codes[_core.CodeSet(self._space).insert(codes)]

    def _breed(self, source: _Source, known: Observations, count: int, rng: np.random.Generator) -> Codes:
        """Half of them mutated in one or two positions, half crossed and mutated in one."""
        parents = known.codes[known.best(PARENTS)]
        first, second = parents[rng.integers(len(parents), size=(2, count))]
        half = count // 2
        crossed = source.draws.crossover(first[half:], second[half:], _seed(rng))
        children = [
            source.draws.mutate(first[: half // 2], _seed(rng), 1),
            source.draws.mutate(first[half // 2 : half], _seed(rng), 2),
            source.draws.mutate(crossed, _seed(rng), 1),
        ]
        # In random order, because only the first of them are taken.
        return rng.permutation(np.concatenate(children))

    def _unused(self, source: _Source, chosen: _core.CodeSet, wanted: int, rng: np.random.Generator) -> Codes:
        """Up to `wanted` of the codes that are left, uniformly.

        Only a space that is nearly used up comes here, or one of few classes of equal codes. It is listed once.
        """
        if source.left is None:
            source.left = self._list(source)
        source.left = source.left[~self._seen.contains(source.left)]
        unused = source.left[~chosen.contains(source.left)]
        return unused[rng.permutation(len(unused))[:wanted]]

    def _near(self, source: _Source, chosen: _core.CodeSet, wanted: int, rng: np.random.Generator) -> Codes:
        """Up to `wanted` new codes next to those that were proposed: one change away, else two, else three."""
        frontier: Codes = self._marked.view()
        most = max(_MOST_NEAR // sum(self._space.sizes), 1)
        for _ in range(_STEPS_AWAY):
            some = rng.permutation(frontier)[:most]
            frontier = self._distinct(np.concatenate([self._none, *map(self._space.neighbours, some)]))
            if isinstance(source.draws, _core.Feasible):
                frontier = frontier[source.draws.contains(frontier)]
            if len(new := self._new(source, chosen, frontier)):
                return new[rng.permutation(len(new))[:wanted]]
        return self._none

    def _distinct(self, codes: Codes) -> Codes:
        codes = self._canonical(codes)
        return codes[_core.CodeSet(self._space).insert(codes)]

    def _list(self, source: _Source) -> Codes:
        """All codes that are not seen, by listing the space."""
        # A class of equal codes comes up in many parts of the list.
        listed = _core.CodeSet(self._space)
        left = [self._none]
        for start in range(0, source.draws.size, _LISTED_AT_ONCE):
            new = self._new(source, listed, source.draws.enumerate(start, _LISTED_AT_ONCE))
            listed.insert(new)
            left.append(new)
        return np.concatenate(left)


class PlannedPool(CandidatePool):
    """Proposes given codes, shape ``(n, L)``, one after another, in place of drawn ones."""

    def __init__(self, space: SearchSpace, plan: Codes) -> None:
        super().__init__(space)
        self._plan = space.canonical(plan)
        self._next = 0

    @property
    def has_listed_all(self) -> bool:
        """Whether an empty pool means that nothing is left: always, there is nothing but the plan."""
        return True

    def draw(self, known: Observations, size: int, rng: np.random.Generator) -> Codes:
        """The next code that was not proposed yet, shape ``(1, L)``; none at the end."""
        while self._next < len(self._plan):
            ahead = self._plan[self._next : self._next + 1]
            if len(self.unseen(ahead)):
                return ahead
            self._next += 1
        return self._none


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 63))
