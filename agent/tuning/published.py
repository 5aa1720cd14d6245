"""Training samples in the published instruction-tuning format: a history, a pool of candidates, the best of them.

A sample is made as a search would have met it, in a random subspace of a table (`pruning`). The history starts with
random trials and goes on with trials that were picked from pools like the product's, half of them bred from the best
ten and half random, by somebody whose judgement is anything between perfect and blind; how many trials of each kind
there are is drawn. Generations of a few picks at a time stand for picks one by one, which makes a sample cost half a
millisecond instead of twenty. Candidates are rows of the table that the history does not have.

A sample is a pure function of (tables, seed, index): nothing depends on the samples before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncode_search.agent.errors import InputError
from ncode_search.agent.pool import PARENTS
from ncode_search.agent.ranking.prompt import MOST_TRIALS, history_text, pool_text
from ncode_search.agent.score_table import Rows, ScoreTable
from ncode_search.agent.tuning.pruning import (
    LEAST_ROWS,
    PrunedTable,
    Saliency,
    mean_scores,
    salient_subspace,
    sample_subspace,
)

POOL = 10
"""Candidates of the published format."""
_GENERATIONS = 8
_TRIES = 8
"""Rounds of proposals after which a pool is filled up at random."""

_Proposer = Callable[[int], Rows]


@dataclass(frozen=True)
class Sample:
    """One training sample as text."""

    history: str
    """``code|score,`` for every past trial, best first."""
    candidates: str
    """``code;`` for every candidate."""
    answer: str
    """The candidate with the best score."""
    description: str = ""
    """A line on the task and its metric that stands before the prompt; empty in the published format."""

    @property
    def prompt(self) -> str:
        """What the model reads."""
        return (f"{self.description}\n" if self.description else "") + self.history + self.candidates


@dataclass(frozen=True)
class SampleSettings:
    """What samples look like."""

    history: int = MOST_TRIALS
    """The most past trials of a sample; how many it has is drawn from `least_history` to this."""
    pool: int = POOL
    """Candidates of a sample."""
    describe: str = ""
    """Text of the description; empty for none."""
    least_history: int = 1
    """The fewest past trials of a sample."""
    most_rows: int | None = None
    """The largest subspace, in rows of the table. The smaller, the more a history says about a candidate."""
    pools: int = 1
    """Samples in succession that have the same history, each with a pool of its own."""
    salient: float = 0.0
    """Share of the histories whose subspace is without the options of the smallest mean scores, not of random ones."""

    def __post_init__(self) -> None:
        if not 1 <= self.history <= MOST_TRIALS:
            raise InputError(f"--history {self.history}: the published format has 1 to {MOST_TRIALS} past trials")
        if not 1 <= self.least_history <= self.history:
            raise InputError(f"--least-history {self.least_history}: give 1 to {self.history}, the most past trials")
        if not 2 <= self.pool <= 1000:
            raise InputError(f"--pool {self.pool}: a pool has 2 to 1000 candidates")
        if self.most_rows is not None and self.most_rows < 2 * self.pool:
            raise InputError(f"--most-rows {self.most_rows}: give {2 * self.pool} or more, twice the pool")
        if self.pools < 1:
            raise InputError(f"--pools {self.pools}: give 1 or more")
        if not 0 <= self.salient <= 1:
            raise InputError(f"--salient {self.salient}: give a share between 0 and 1")
        if "\n" in self.describe:
            raise InputError("--describe: the description is one line")

    @property
    def least_rows(self) -> int:
        """The smallest subspace, in rows of the table, unless the table itself is smaller."""
        wanted = LEAST_ROWS if self.most_rows is None else min(LEAST_ROWS, self.most_rows // 2)
        return max(wanted, 2 * self.pool)


@dataclass(frozen=True)
class Source:
    """A table and the column that is learned."""

    path: Path
    metric: str
    minimize: bool = False

    @classmethod
    def parse(cls, text: str) -> list[Source]:
        """The sources that ``FILE:COLUMN[,COLUMN...]`` names; a minus before a column says that lower is better."""
        path, _, columns = text.rpartition(":")
        names = [name.strip() for name in columns.split(",")]
        if not path or not all(name.lstrip("-") for name in names):
            raise InputError(f"--table {text}: give FILE.csv:COLUMN, FILE.csv:COLUMN,COLUMN or FILE.csv:-COLUMN")
        return [cls(Path(path), name.removeprefix("-"), name.startswith("-")) for name in names]

    def read(self) -> ScoreTable:
        """The table. Raises `InputError` where it cannot be read."""
        return ScoreTable.read(self.path, self.metric, minimize=self.minimize)


class SampleMaker:
    """Makes samples of some tables."""

    def __init__(self, sources: Sequence[Source], settings: SampleSettings, seed: int) -> None:
        """Read the tables. Raises `InputError` for those that cannot be read, or are too small to draw a pool from."""
        self._settings, self._seed = settings, seed
        self._tables: list[tuple[ScoreTable, Saliency, str]] = []
        for source in sources:
            table = source.read()
            if len(table) <= settings.pool:
                raise InputError(f"{source.path}: {len(table)} rows are too few for pools of {settings.pool}")
            self._tables.append((table, mean_scores(table), self._description(source.metric)))

    def __call__(self, index: int) -> Sample:
        """Sample number `index`."""
        own = self._settings
        history, at = divmod(index, own.pools)
        rng = np.random.default_rng([self._seed, history])
        table, saliency, description = self._tables[rng.integers(len(self._tables))]
        subspace = self._subspace(table, saliency, rng)
        pool = min(own.pool, len(subspace) - 1)
        trials = min(int(rng.integers(own.least_history, own.history + 1)), len(subspace) - pool)
        return _written(subspace, *draw_task(subspace, trials, pool, rng, at), description)

    def _subspace(self, table: ScoreTable, saliency: Saliency, rng: np.random.Generator) -> PrunedTable:
        own = self._settings
        if own.salient and rng.random() < own.salient:
            found = salient_subspace(table, saliency, rng, least_rows=own.least_rows, most_rows=own.most_rows)
            if found is not None:
                return found
        return sample_subspace(table, rng, least_rows=own.least_rows, most_rows=own.most_rows)

    def _description(self, metric: str) -> str:
        return f"{self._settings.describe} Metric: {metric}." if self._settings.describe else ""


def draw_task(table: PrunedTable, trials: int, pool: int, rng: np.random.Generator, skip: int = 0) -> tuple[Rows, Rows]:
    """Rows of a history of `trials` trials, oldest first, and of a pool of `pool` candidates for the next one.

    `skip`: draws of the pool that are passed over; the history is the same for any number of them.
    """
    search = _Search(table, rng)
    # Squared: most histories of real searches are mostly improving trials.
    search.add(search.random(max(1, int(trials * rng.random() ** 2))))
    blindness = rng.exponential(0.5)
    generation = -(-trials // _GENERATIONS)
    while missing := trials - len(search.rows):
        search.add(search.picked(min(generation, missing), blindness))
    for _ in range(skip):
        search.pool(pool)
    return search.rows, rng.permutation(search.pool(pool))


class _Search:
    """A search on a table, whose trials are known by their rows."""

    def __init__(self, table: PrunedTable, rng: np.random.Generator) -> None:
        self.rows: Rows = np.zeros(0, dtype=np.intp)
        self._table, self._rng = table, rng
        self._seen = np.zeros(len(table), dtype=np.bool_)
        self._spread = float(table.values.std()) or 1.0

    def add(self, rows: Rows) -> None:
        """These trials were made."""
        self._seen[rows] = True
        self.rows = np.concatenate([self.rows, rows])

    def picked(self, count: int, blindness: float) -> Rows:
        """The `count` best of a pool of four times as many, as they look through noise of `blindness` deviations."""
        pool = self.pool(min(4 * count, len(self._table) - len(self.rows)))
        noise = self._rng.normal(0, blindness * self._spread, len(pool))
        return pool[np.argsort(-(self._table.values[pool] + noise), kind="stable")[:count]]

    def pool(self, count: int) -> Rows:
        """New distinct rows: half bred from the best trials where breeding finds as many, the rest random."""
        bred = self._collect(count // 2, self._bred)
        return np.concatenate([bred, self.random(count - len(bred), bred)])

    def random(self, count: int, besides: Rows | None = None) -> Rows:
        """`count` new distinct rows that are none of `besides`, uniformly."""
        found = self._collect(count, self._drawn, besides)
        if len(found) < count:  # the table is nearly used up: list what is left
            left = self._unused(np.flatnonzero(~self._seen), found if besides is None else np.append(besides, found))
            found = np.append(found, self._rng.permutation(left)[: count - len(found)])
        return found

    def _collect(self, count: int, propose: _Proposer, besides: Rows | None = None) -> Rows:
        taken = np.zeros(0, dtype=np.intp) if besides is None else besides
        skipped = len(taken)
        for _ in range(_TRIES):
            missing = count + skipped - len(taken)
            if missing <= 0:
                break
            taken = np.append(taken, self._unused(propose(2 * missing), taken)[:missing])
        return taken[skipped:]

    def _unused(self, rows: Rows, taken: Rows) -> Rows:
        """Those of `rows` that are new, each once, in their order."""
        rows = rows[~self._seen[rows]]
        _, first = np.unique(np.append(taken, rows), return_index=True)
        return rows[np.sort(first[first >= len(taken)]) - len(taken)]

    def _drawn(self, count: int) -> Rows:
        return self._rng.integers(len(self._table), size=count)

    def _bred(self, count: int) -> Rows:
        """Children of the best trials, as the product breeds them; fewer where the table lacks some."""
        best = np.argsort(-self._table.values[self.rows], kind="stable")[:PARENTS]
        parents = self._table.codes[self.rows[best]]
        first, second = parents[self._rng.integers(len(parents), size=(2, count))]
        space, half = self._table.space, count // 2
        children = [
            space.mutate(first[: half // 2], self._number(), 1),
            space.mutate(first[half // 2 : half], self._number(), 2),
            space.mutate(space.crossover(first[half:], second[half:], self._number()), self._number(), 1),
        ]
        rows = self._table.rows_of(np.concatenate(children))
        return self._rng.permutation(rows[rows >= 0])

    def _number(self) -> int:
        return int(self._rng.integers(1 << 63))


def _written(table: PrunedTable, trials: Rows, pool: Rows, description: str) -> Sample:
    values = table.values[trials]
    best_first = np.argsort(-values, kind="stable")
    candidates = table.space.to_text(table.codes[pool])
    return Sample(
        history_text(table.space.to_text(table.codes[trials[best_first]]), values[best_first]),
        pool_text(candidates),
        candidates[int(table.values[pool].argmax())],
        description,
    )
