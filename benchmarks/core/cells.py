"""Canonical codes of cells, beside NumPy with the table of all of them given for nothing."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.core.measuring import measure, print_row
from benchmarks.core.packing import horner
from ncode_search import _core


def cell_rules(nodes: int, options: int, table_codes: int = 10_000_000) -> tuple[_core.Space, _core.Canonical]:
    """A cell with every edge; option 0 is none and option 1 skip."""
    pairs = [(source, target) for target in range(1, nodes) for source in range(target)]
    space = _core.Space([options] * len(pairs))
    return space, _core.Canonical(
        space, cells=[([(at, *pair) for at, pair in enumerate(pairs)], 0, 1)], table_codes=table_codes
    )


def bench_canonical(count: int, nodes: int, repeats: int, options: int = 5) -> None:
    """Print the table of a cell of so many nodes."""
    space, canonical = cell_rules(nodes, options)
    rewriting = cell_rules(nodes, options, table_codes=0)[1]
    codes = space.random(count, 1)
    start = time.perf_counter()
    canonical.apply(codes[:1])
    made = time.perf_counter() - start
    table = canonical.apply(space.enumerate(0, space.size))
    np.testing.assert_array_equal(table[horner(codes, options)], canonical.apply(codes))
    rows = measure(
        {
            "core: Canonical.apply, by table": lambda: canonical.apply(codes),
            "core: Canonical.apply, by rewriting": lambda: rewriting.apply(codes),
            "NumPy: packed int64, taken from a table": lambda: table[horner(codes, options)],
        },
        repeats,
    )
    print(f"\nCanonical codes: {count:,} codes, {space.length} edges, {options} options; table made in {made:.3f} s")
    for row in rows:
        print_row(row, count, f"{rows[-1].seconds / row.seconds:6.2f} x the speed of NumPy")
