"""Training tasks of the embedded ranker: a history as a search leaves it, and codes whose scores are to be predicted.

A task comes from a synthetic landscape or from a pruned subspace of a table. Its history mixes uniform trials with
improving ones, chosen from the product's own candidate pools by a chooser of random skill; half of the queries come
from such a pool, half are uniform, so that the model knows both what it will be asked and the rest of the space. What
is written down is what `ranking.tokens.read` makes of it: training and search see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core
from ncode_search.agent.observations import Codes, ObservationLog, Observations
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.ranking.choices import Choices
from ncode_search.agent.ranking.context import visible
from ncode_search.agent.ranking.surrogates import Features
from ncode_search.agent.ranking.tokens import Reading, Trials, read
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.tuning import landscapes
from ncode_search.agent.tuning.landscapes import Landscape, Noise
from ncode_search.agent.tuning.pruning import sample_subspace

LENGTHS = (1, 2, 4, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200)
"""Lengths of histories; tasks of one length make a batch."""
QUERIES = 128
_TOLD = 0.5
"""Share of the conditional landscapes whose space tells the conditions."""
_BLOCKS = 12
"""An improving history grows in so many steps."""
_LEAST_LEFT = 8
"""Codes that are left to ask for, at least."""


@dataclass(frozen=True)
class Task:
    """One task, with n trials and m queries."""

    trials: Trials
    codes: Codes
    """Trials, then queries, shape ``(n + m, L)``."""
    sizes: tuple[int, ...]
    ordered: tuple[int, ...]
    """How many options of each position are in an order; see `Choices`."""
    reading: Reading
    targets: NDArray[np.float64]
    """Normal scores of the queries by the scale of the history, shape ``(m,)``."""
    random: NDArray[np.bool_]
    """Which queries are uniform, shape ``(m,)``."""


def draw_task(length: int, tables: Sequence[ScoreTable], share: float, rng: np.random.Generator) -> Task:
    """A task of a history of `length` trials, from a table with probability `share`."""
    while True:
        from_table = bool(tables) and rng.random() < share
        landscape = _from_table(tables[int(rng.integers(len(tables)))], rng) if from_table else landscapes.draw(rng)
        task = _try_task(landscape, length, rng)
        if task is not None:
            return task


def _from_table(table: ScoreTable, rng: np.random.Generator) -> Landscape:
    pruned = sample_subspace(table, rng)
    values = np.append(pruned.values, np.nan)
    return Landscape(
        tuple(pruned.sizes), (False,) * len(pruned.sizes), lambda codes: values[pruned.rows_of(codes)], Noise(0.0)
    )


def _try_task(landscape: Landscape, length: int, rng: np.random.Generator) -> Task | None:
    """None where the space is too small, or everything in it scores the same."""
    space = _space(landscape, rng)
    if space.size < 2 * length + _LEAST_LEFT:
        return None
    source = Measured(landscape, space, rng)
    known = _history(source, length, rng)
    pool, random = _queries(source, known, rng)
    if known is None or len(pool) < _LEAST_LEFT or not len(known):
        return None
    return _lay_out(landscape, known, pool, random, source, rng)


def _space(landscape: Landscape, rng: np.random.Generator) -> SearchSpace:
    """Some spaces say what their landscape's conditions are, others leave it to be found out."""
    positions: dict[str, list[int | str]] = {
        f"p{at}": [option if ordered else str(option) for option in range(size)]
        for at, (ordered, size) in enumerate(zip(landscape.ordered, landscape.sizes, strict=True))
    }
    when: dict[str, dict[str, list[int | str]]] = {}
    for one in landscape.conditions if rng.random() < _TOLD else ():
        opens = [positions[f"p{one.gate}"][option] for option in np.flatnonzero(~one.closes)]
        for at in one.gated:
            when.setdefault(f"p{at}", {})[f"p{one.gate}"] = opens
    return SearchSpace(positions, when=when)


def _lay_out(
    landscape: Landscape,
    known: Observations,
    pool: Codes,
    random: NDArray[np.bool_],
    source: Measured,
    rng: np.random.Generator,
) -> Task:
    choices = Choices(source.space)
    features = Features(choices.sizes, choices.ordered)
    trials, scale = visible(known, choices, features)
    values, fails = source.measure(pool)
    targets = np.where(fails, trials.scores.min() - 0.3, scale(np.where(fails, 0, values)))
    pool = choices(pool)
    codes = np.concatenate([trials.codes, pool])
    return Task(trials, codes, choices.sizes, choices.ordered, read(features, trials, pool), targets, random)


class Measured:
    """A landscape as a search meets it: codes that have scores, and noisy measurements."""

    def __init__(self, landscape: Landscape, space: SearchSpace, rng: np.random.Generator) -> None:
        self._landscape, self._rng = landscape, rng
        self.space = space
        self.pools = CandidatePool(space)

    def random(self, count: int) -> Codes:
        """Up to `count` distinct uniform codes that have scores."""
        drawn = self.space.core.sample(min(4 * count, self.space.size), int(self._rng.integers(1 << 62)))
        codes = self.space.canonical(drawn)
        distinct = codes[_core.CodeSet(self.space.core).insert(codes)]
        return self._scored(distinct)[:count]

    def pool(self, known: Observations, count: int) -> Codes:
        """A pool as the product draws it, of codes that have scores."""
        return self._scored(self.pools.draw(known, count, self._rng))

    def measure(self, codes: Codes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Noisy values, and which trials fail."""
        landscape = self._landscape
        scores = landscape.score(codes)
        values = scores + landscape.noise(scores) * self._rng.normal(size=len(codes))
        fails = np.zeros(len(codes), dtype=bool) if landscape.failing is None else landscape.failing(codes) > 0
        return values, fails

    def _scored(self, codes: Codes) -> Codes:
        return codes[np.isfinite(self._landscape.score(codes))]


def _history(source: Measured, length: int, rng: np.random.Generator) -> Observations:
    log = ObservationLog(len(source.space))
    uniform = length if rng.random() < 0.35 else min(int(rng.integers(3, 20)), length)
    _add(log, source, source.random(uniform))
    skill, blocks = rng.uniform(0.0, 1.0), max(1, (length - uniform) // _BLOCKS)
    while (left := length - log.completed - _failed(log)) > 0:
        candidates = source.pool(log.view(), 32)
        if not len(candidates):
            break
        guess = skill * _ranks(source.measure(candidates)[0]) + (1 - skill) * rng.random(len(candidates))
        _add(log, source, candidates[np.argsort(-guess)[: min(blocks, left)]])
    return _with_pending(log.view(), rng)


def _add(log: ObservationLog, source: Measured, codes: Codes) -> None:
    source.pools.mark_seen(codes)
    for code, value, fails in zip(codes, *source.measure(codes), strict=True):
        log.begin(0, code)
        if fails:
            log.fail(0)
        else:
            log.complete(0, float(value))


def _failed(log: ObservationLog) -> int:
    return len(log.view().failed)


def _with_pending(known: Observations, rng: np.random.Generator) -> Observations:
    """Some searches have many workers: their newest trials have no values yet."""
    pending = int(rng.integers(1, 9)) if rng.random() < 0.3 else 0
    if pending == 0 or len(known) < 4 * pending:
        return known
    return Observations(known.codes[:-pending], known.values[:-pending], known.codes[-pending:], known.failed)


def _queries(source: Measured, known: Observations, rng: np.random.Generator) -> tuple[Codes, NDArray[np.bool_]]:
    """`QUERIES` codes, some of them more than once where few are left."""
    uniform = source.random(QUERIES // 2)
    uniform = source.pools.unseen(uniform)
    bred = source.pool(known, QUERIES)
    codes = np.concatenate([uniform, bred[: QUERIES - len(uniform)]])
    if not len(codes):
        return codes, np.empty(0, dtype=bool)
    again = np.arange(QUERIES) % len(codes)
    return codes[again], again < len(uniform)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.argsort(np.argsort(values)) / max(len(values) - 1, 1)
