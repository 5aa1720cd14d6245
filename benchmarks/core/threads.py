"""Batch functions called from two Python threads, each with half of the codes, beside one thread with all of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.cells import cell_rules
from benchmarks.core.measuring import measure
from ncode_search import _core

Codes = NDArray[np.uint8]
Batch = Callable[[Codes], object]


def bench_threads(count: int, repeats: int) -> None:
    """Print how much faster two threads are; also for a loop without memory, which says what the machine allows."""
    space, canonical = cell_rules(4, 5)
    rewriting = cell_rules(4, 5, table_codes=0)[1]
    feasible = _core.Feasible(space, [([range(5)] * 6, [], None, 12)])
    known = _core.CodeSet(space)
    known.insert(space.random(1000, 2))
    large = _core.Space([5] * 20)
    known_large = _core.CodeSet(large)
    known_large.insert(large.random(1_000_000, 2))
    functions: dict[str, tuple[Batch, _core.Space]] = {
        "hash128": (_core.hash128, large),
        "Space.to_index": (space.to_index, space),
        "Space.mutate": (lambda codes: large.mutate(codes, 1), large),
        "Canonical.apply, by table": (canonical.apply, space),
        "Canonical.apply, by rewriting": (rewriting.apply, space),
        "Feasible.contains": (feasible.contains, space),
        "CodeSet.contains, a small space": (known.contains, space),
        "CodeSet.contains, a large space": (known_large.contains, large),
        "CodeSet.insert, a set for each thread": (lambda codes: _core.CodeSet(large).insert(codes), large),
    }
    print(f"\nTwo Python threads: {count:,} codes")
    with ThreadPoolExecutor(2) as threads:
        for name, (function, of) in functions.items():
            print_scaling(name, function, of.random(count, 1), threads, repeats)


def print_scaling(name: str, function: Batch, codes: Codes, threads: ThreadPoolExecutor, repeats: int) -> None:
    halves = np.array_split(codes, 2)
    one, two = measure(
        {
            "one": lambda: [function(half) for half in halves],
            "two": lambda: list(threads.map(function, halves)),
        },
        repeats,
    )
    ratio = one.seconds / two.seconds
    print(f"  {name:40} one {one.seconds * 1e3:8.1f} ms, two {two.seconds * 1e3:8.1f} ms: {ratio:.2f} x")
