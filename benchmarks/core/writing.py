"""Functions that write codes, beside plain writing and copying of as many bytes."""

from __future__ import annotations

import numpy as np

from benchmarks.core.measuring import measure, print_row
from ncode_search import _core


def bench_fill(count: int, positions: int, options: int, repeats: int) -> None:
    """Print the table."""
    space = _core.Space([options] * positions)
    subspace = _core.Subspace([options] * positions, [range(options)[::-1]] * positions)
    source = space.random(count, 1)
    seen = np.empty_like(source)
    indices = np.arange(1, count + 1)
    rows = measure(
        {
            "core: enumerate": lambda: space.enumerate(1, count),
            "core: Subspace.enumerate": lambda: subspace.enumerate(1, count),
            "core: from_index (unranking)": lambda: space.from_index(indices),
            "core: random": lambda: space.random(count, 1),
            "core: sample": lambda: space.sample(count, 1),
            "core: mutate": lambda: space.mutate(source, 1),
            "core: hash64": lambda: _core.hash64(source),
            "core: hash128": lambda: _core.hash128(source),
            "NumPy: copy into a new array": source.copy,
            "NumPy: copyto, memory already in use": lambda: np.copyto(seen, source),
            "NumPy: fill, memory already in use": lambda: seen.fill(1),
            "NumPy: integers": lambda: np.random.default_rng(1).integers(0, options, source.shape, np.uint8),
        },
        repeats,
    )
    print(f"\nWriting codes: {count:,} codes, {positions} positions, {options} options")
    copy = next(row for row in rows if "new array" in row.name)
    for row in rows:
        print_row(row, count, f"{copy.seconds / row.seconds:6.1%} of the speed of a copy into a new array")
