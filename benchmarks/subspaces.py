"""Random pruned subspaces, as training samples are made from them: each position keeps a random subset of its options,
renumbered by a random permutation; positions that are left with one option are dropped. One core.

    python benchmarks/subspaces.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from ncode_search import _core
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.tuning.pruning import draw_kept, sample_subspace

CODES = 200
"""Codes of every subspace."""


def of_space(sizes: list[int]) -> Callable[[np.random.Generator], object]:
    """Subspaces of a space: new codes, and what they are in the whole space."""

    def make(rng: np.random.Generator) -> object:
        subspace = _core.Subspace(sizes, draw_kept(sizes, rng, rng.random()))
        return subspace.random(CODES, int(rng.integers(1 << 63)))

    return make


def of_table(table: ScoreTable) -> Callable[[np.random.Generator], object]:
    """Subspaces of a table of scores: new codes with their scores."""

    def make(rng: np.random.Generator) -> object:
        part = sample_subspace(table, rng)
        rows = rng.integers(len(part), size=CODES)
        return part.codes[rows], part.values[rows]

    return make


def show(name: str, make: Callable[[np.random.Generator], object], count: int) -> None:
    """A line: CPU seconds for `count` subspaces, and for one."""
    rng = np.random.default_rng(0)
    started = time.process_time()
    for _ in range(count):
        make(rng)
    seconds = time.process_time() - started
    print(f"{name:<48} {seconds:6.2f} s for {count:,}  {seconds / count * 1e6:6.1f} us each", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="subspaces")
    given = parser.parse_args()
    print(f"{CODES} codes of every subspace; CPU seconds of one thread")
    for sizes in ([5] * 6, [5] * 20):
        show(f"{len(sizes)} positions of 5 options", of_space(sizes), given.count)
    space = SearchSpace({f"p{at}": list(range(5)) for at in range(6)})
    codes = space.core.enumerate(0, space.size)
    values = np.random.default_rng(0).normal(size=len(codes))
    show("table of 15,625 rows", of_table(ScoreTable(space, codes, values, values, np.arange(len(codes)))), given.count)


if __name__ == "__main__":
    main()
