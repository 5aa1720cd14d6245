"""Codes within a budget: the time to list a million of them must not depend on how many others there are."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.core.measuring import Row, measure, print_row
from ncode_search import _core

OPTIONS = 10


def with_bound(positions: int, upper: int) -> _core.Feasible:
    """Codes whose digits sum to at most `upper`."""
    space = _core.Space([OPTIONS] * positions)
    return _core.Feasible(space, [([range(OPTIONS)] * positions, [], None, upper)])


def nearest_bound(positions: int, wanted: int) -> int:
    """The bound that leaves about as many codes as wanted."""
    return min(range(1, 100), key=lambda upper: abs(with_bound(positions, upper).size - wanted))


def bench_feasible(wanted: int, repeats: int) -> None:
    """Print the table: about `wanted` feasible codes in spaces of 10^7 to 10^30 codes."""
    print(f"\nFeasible codes: about {wanted:,} with a digit sum of at most a bound, {OPTIONS} options a position")
    for positions in (7, 9, 12, 15, 20, 30):
        upper = nearest_bound(positions, wanted)
        start = time.perf_counter()
        feasible = with_bound(positions, upper)
        made = time.perf_counter() - start
        print_space(feasible, positions, made, repeats)


def print_space(feasible: _core.Feasible, positions: int, made: float, repeats: int) -> None:
    count = feasible.size
    plain = _core.Space([OPTIONS] * positions)
    indices = np.random.default_rng(1).integers(0, count, 100_000).tolist()
    listed, unranked, drawn, unconstrained = measure(
        {
            "core: Feasible.enumerate": lambda: feasible.enumerate(0, count),
            "core: Feasible.from_index, 100,000": lambda: feasible.from_index(indices),
            "core: Feasible.random": lambda: feasible.random(count, 1),
            "core: Space.enumerate, as many": lambda: plain.enumerate(0, count),
        },
        repeats,
    )
    print(
        f" 10^{positions} codes, {count:,} feasible, diagram of {feasible.states:,} states made in {made * 1e3:.1f} ms"
    )
    print_row(listed, count, f"{unconstrained.seconds / listed.seconds:6.1%} of the speed without the constraint")
    print_row(Row(unranked.name, unranked.seconds), len(indices), "")
    print_row(drawn, count, "")
