"""Candidate pools: half mutated or crossed from the best trials, half uniform; all distinct, none seen, none in flight.

Where codes are equal to others, only canonical codes are proposed, each for all of its class. Where a space has
constraints, only feasible codes are drawn, bred and listed; one whose canonical code is not feasible is dropped.
`CandidatePool` holds the set of all codes that were ever proposed, so making a pool costs the same after a hundred
thousand trials as after ten. Where a space runs out, the pool is what is left of it.

With a `Focus`, pools keep to the options that did best in the first trials, as far as there are new codes of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ncode_search import _core
from ncode_search.agent.observations import Codes, Observations
from ncode_search.agent.pruned_space import focused
from ncode_search.agent.space import SearchSpace

logger = logging.getLogger(__name__)

PARENTS = 10
"""How many of the best trials are bred from."""

_TRIES = 16
"""Draws per missing candidate before the rest of a nearly used-up space is listed instead."""
_LISTED_AT_ONCE = 1 << 16
_MOST_LISTED = 1 << 28
"""Codes of the largest set that is listed. No search uses up a larger one, but where the canonical codes of nearly all
feasible ones are not feasible, draws may find none.
"""

_Proposer = Callable[[int], Codes]
Canonical = Callable[[Codes], Codes]
"""From codes to the canonical codes of their classes, both of shape ``(n, L)``."""


@dataclass(frozen=True)
class Focus:
    """After so many completed trials, pools keep to the best options of every position."""

    after: int
    """Trials that tell which options those are."""
    keep: int | float
    """How many options, or what share of them, see `prune`."""


class CandidatePool:
    """Makes pools of new codes for one search.

    Args:
        space: What is searched.
        canonical: Which codes are equal; None: those that the space says.
        focus: When to keep to the options that did best; None: never.
    """

    def __init__(self, space: SearchSpace, canonical: Canonical | None = None, focus: Focus | None = None) -> None:
        self._whole = space
        self._space = space.core
        self._own_canonical = canonical is not None
        self._look_at(space)
        self._focus = focus
        self._part: SearchSpace | None = None
        self._canonical: Canonical = canonical or space.canonical
        self._seen = _core.CodeSet(space.core)
        self._none: Codes = np.empty((0, len(space)), dtype=np.uint8)

    def mark_seen(self, codes: Codes) -> None:
        """These codes, shape ``(n, L)``, and their equals are never to be proposed again."""
        self._seen.insert(self._canonical(codes))

    def unseen(self, codes: Codes) -> Codes:
        """Those of `codes` that may still be proposed."""
        return codes[~self._seen.contains(self._canonical(codes))]

    def draw(self, known: Observations, size: int, rng: np.random.Generator) -> Codes:
        """A pool of up to `size` new codes, shape ``(m, L)``, in random order; fewer only where fewer are left."""
        if self._focus is None or len(known) < self._focus.after:
            return self._draw(known, size, rng)
        self._look_at(self._part_after(known, self._focus))
        pool = self._draw(known, size, rng)
        self._look_at(self._whole)
        return pool if len(pool) else self._draw(known, size, rng)

    def _look_at(self, space: SearchSpace) -> None:
        self._draws = space.draws
        # Draws of feasible codes stay so, unless they are replaced by their canonical codes.
        self._fits = space.fits if space.is_constrained and (self._own_canonical or space.has_twins) else None

    def _part_after(self, known: Observations, focus: Focus) -> SearchSpace:
        """The same for the rest of the search, also after it was resumed: from its first trials alone."""
        if self._part is None:
            nothing = known.codes[:0]
            first = Observations(known.codes[: focus.after], known.values[: focus.after], nothing, nothing)
            self._part = focused(self._whole, first, focus.keep)
            if self._part is self._whole:
                logger.warning(
                    "no code of the best options keeps to the space's bounds; the whole space is searched on"
                )
        return self._part

    def _draw(self, known: Observations, size: int, rng: np.random.Generator) -> Codes:
        chosen = _core.CodeSet(self._space)
        bred = self._collect(chosen, size // 2, lambda count: self._breed(known, count, rng)) if len(known) else []
        missing = size - sum(map(len, bred))
        fresh = self._collect(chosen, missing, lambda count: self._draws.random(count, _seed(rng)))
        missing -= sum(map(len, fresh))
        rest = [self._unused(chosen, missing, rng)] if missing and self._draws.size <= _MOST_LISTED else []
        return rng.permutation(np.concatenate([self._none, *bred, *fresh, *rest]))

    def _collect(self, chosen: _core.CodeSet, wanted: int, propose: _Proposer) -> list[Codes]:
        """Up to `wanted` codes that are neither seen nor chosen, from as many proposals as it takes, within reason."""
        collected: list[Codes] = []
        for _ in range(_TRIES):
            if wanted <= 0:
                break
            new = self._new(chosen, propose(2 * wanted))[:wanted]
            chosen.insert(new)
            collected.append(new)
            wanted -= len(new)
        return collected

    def _new(self, chosen: _core.CodeSet, codes: Codes) -> Codes:
        codes = self._canonical(codes)
        if self._fits is not None:
            codes = codes[self._fits(codes)]
        fresh = ~self._seen.contains(codes) & ~chosen.contains(codes)
        codes = codes[fresh]
        return codes[_core.CodeSet(self._space).insert(codes)]

    def _breed(self, known: Observations, count: int, rng: np.random.Generator) -> Codes:
        """Half of them mutated in one or two positions, half crossed and mutated in one."""
        parents = known.codes[known.best(PARENTS)]
        first, second = parents[rng.integers(len(parents), size=(2, count))]
        half = count // 2
        crossed = self._draws.crossover(first[half:], second[half:], _seed(rng))
        children = [
            self._draws.mutate(first[: half // 2], _seed(rng), 1),
            self._draws.mutate(first[half // 2 : half], _seed(rng), 2),
            self._draws.mutate(crossed, _seed(rng), 1),
        ]
        # In random order, because only the first of them are taken.
        return rng.permutation(np.concatenate(children))

    def _unused(self, chosen: _core.CodeSet, wanted: int, rng: np.random.Generator) -> Codes:
        """Up to `wanted` of the codes that are left, uniformly, by listing the space.

        Only a space that is nearly used up comes here, or one of few classes of equal codes.
        """
        left = [self._none]
        for start in range(0, self._draws.size, _LISTED_AT_ONCE):
            new = self._new(chosen, self._draws.enumerate(start, _LISTED_AT_ONCE))
            # A class of equal codes comes up again in later parts.
            chosen.insert(new)
            left.append(new)
        unused = np.concatenate(left)
        return unused[rng.permutation(len(unused))[:wanted]]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 63))
