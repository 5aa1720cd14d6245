"""Memory and speed of the agent as trials accumulate: do-nothing trials by ask and tell, one process a ranker.

    nice -n 19 python benchmarks/memory.py [--rankers evolution,embedded] [--sizes 1000,10000,100000]

At each size: the resident memory of the process after a garbage collection, and the mean time of one proposal (`ask`)
and of one result (`tell`, with its fsync) over the trials before it. The bound: the last size ends with less than
50 MB more than the first. Every line is printed when it is reached, so that a run which is cut off says what it knows.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
from collections import deque
from itertools import pairwise
from pathlib import Path

import numpy as np

from ncode_search import Search, SearchSpace

SPACE = SearchSpace({f"p{number}": list(range(5)) for number in range(12)})
MEASURED = 500
"""Trials before each size whose times are averaged."""
MOST_GROWTH = 50e6
"""Bytes."""


def resident_bytes() -> int:
    """Memory of this process that is in use, after what nobody refers to is gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def one_trial(search: Search, value: float) -> tuple[float, float]:
    """Ask and tell; the seconds that each took."""
    began = time.perf_counter()
    trial = search.ask()
    asked = time.perf_counter()
    search.tell(trial, value)
    return asked - began, time.perf_counter() - asked


def measure(ranker: str, sizes: list[int], folder: Path) -> None:
    """The rows of one ranker."""
    rng = np.random.default_rng(0)
    memory = []
    with Search(SPACE, history=folder / "memory.db", ranker=ranker) as search:
        for begun, size in pairwise([0, *sizes]):
            trials = (one_trial(search, rng.random()) for _ in range(size - begun))
            times = deque(trials, maxlen=MEASURED)
            asked, told = np.mean(times, axis=0) * 1000
            memory.append(resident_bytes())
            print(f"{ranker:<10} {size:>8,} {memory[-1] / 1e6:>9.1f} {asked:>9.2f} {told:>9.2f}", flush=True)
    growth = memory[-1] - memory[0]
    kept = "kept" if growth < MOST_GROWTH else "broken"
    print(f"{ranker:<10} {sizes[-1]:,} trials: {growth / 1e6:+.1f} MB to {sizes[0]:,}; bound {kept}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rankers", default="evolution,embedded")
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    print(f"{'ranker':<10} {'trials':>8} {'MB':>9} {'ms/ask':>9} {'ms/tell':>9}")
    for ranker in options.rankers.split(","):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            child = multiprocessing.get_context("spawn").Process(target=measure, args=(ranker, sizes, Path(folder)))
            child.start()
            child.join()


if __name__ == "__main__":
    main()
