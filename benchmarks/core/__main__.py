"""All tables of the core. pandas and polars come with the extra `bench`; Abseil and Boost from Debian:
`apt install libabsl-dev libboost1.81-dev`.

    python -m benchmarks.core --repeats 5
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # one core for every way; read when polars is imported

from benchmarks.core.cells import bench_canonical
from benchmarks.core.feasible import bench_feasible
from benchmarks.core.loading import bench_loading
from benchmarks.core.measuring import machine
from benchmarks.core.sets import bench_sets
from benchmarks.core.threads import bench_threads
from benchmarks.core.writing import bench_fill


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slow", action="store_true", help="also the ways that take minutes for ten million codes")
    chosen = parser.parse_args(arguments)
    print(machine())
    bench_sets(chosen.codes, chosen.repeats, slow=chosen.slow)
    bench_sets(20_000, 10 * chosen.repeats, slow=chosen.slow)
    for count in (chosen.codes // 2, 20_000):
        bench_fill(count, 10, 5, chosen.repeats)
    bench_feasible(1_000_000, chosen.repeats)
    for nodes in (4, 5):
        bench_canonical(chosen.codes // 2, nodes, chosen.repeats)
    bench_loading(1_000_000, chosen.repeats)
    bench_threads(chosen.codes // 2, chosen.repeats)


if __name__ == "__main__":
    main()
