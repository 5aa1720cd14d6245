"""Memory and speed of the agent as trials accumulate: do-nothing trials by ask and tell, one process a ranker.

    nice -n 19 python benchmarks/memory.py [--rankers evolution,embedded] [--sizes 1000,10000,100000] [--every-trial]
    nice -n 19 python benchmarks/memory.py --loop [--workers 2]

At each size: the resident memory of the process after a garbage collection, and the mean processor time (all threads)
of one proposal (`ask`) and of one result (`tell`) over the last trials before it; unlike the time of a clock, it is
nearly the same on a busy machine. Rankers that take long make only these last
trials, and evolution the others before them, in the same process and history, unless `--every-trial` is given.

With `--loop` it is one search from its first trial to its last, as `ncode run` makes it: the loop, worker processes,
log and backups; in place of an ask stands the median time of a decision, by the clock.

The bound: the last size ends with less than 50 MB more than the first. Every line is printed when it is reached, so
that a run which is cut off says what it knows.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
from collections import deque
from pathlib import Path
from statistics import median

import numpy as np

from ncode_search import Search, SearchSpace
from ncode_search.agent.history import History, Trial
from ncode_search.agent.observer import Observer

SPACE = SearchSpace({f"p{number}": list(range(5)) for number in range(12)})
MEASURED = 300
"""Trials before each size whose times are averaged."""
MOST_GROWTH = 50e6
"""Bytes."""


def resident_bytes() -> int:
    """Memory of this process that is in use, after what nobody refers to is gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def one_trial(search: Search, value: float) -> tuple[float, float]:
    """Ask and tell; the processor seconds that each took."""
    began = time.process_time()
    trial = search.ask()
    asked = time.process_time()
    search.tell(trial, value)
    return asked - began, time.process_time() - asked


def run(history: Path, ranker: str, trials: int, rng: np.random.Generator) -> tuple[int, float, float]:
    """So many trials; resident bytes at their end, milliseconds of an ask and a tell over the last of them."""
    with Search(SPACE, history=history, ranker=ranker) as search:
        times = deque((one_trial(search, rng.random()) for _ in range(trials)), maxlen=MEASURED)
        asked, told = np.mean(times, axis=0) * 1000
        return resident_bytes(), float(asked), float(told)


def measure(ranker: str, filler: str, sizes: list[int], folder: Path) -> None:
    """The rows of one ranker."""
    rng, history, done, memory = np.random.default_rng(0), folder / "memory.db", 0, []
    for size in sizes:
        if filler != ranker:
            run(history, filler, size - MEASURED - done, rng)
            done = size - MEASURED
        held, asked, told = run(history, ranker, size - done, rng)
        memory.append(held)
        done = size
        print(f"{ranker:<10} {size:>8,} {held / 1e6:>9.1f} {asked:>9.2f} {told:>9.2f}", flush=True)
    print_growth(ranker, memory, sizes)


class Notes(Observer):
    """Memory, and the time of decisions, when a search has come to each of the sizes."""

    def __init__(self, history: Path, sizes: list[int]) -> None:
        self._history, self._sizes, self._finished = history, sizes, 0
        self.memory: list[int] = []

    def finished(self, trial: Trial) -> None:
        self._finished += 1
        if self._finished in self._sizes:
            self.memory.append(resident_bytes())
            row = f"{'the loop':<10} {self._finished:>8,} {self.memory[-1] / 1e6:>9.1f} {self._decision():>9.2f}"
            print(row, flush=True)

    def _decision(self) -> float:
        """Milliseconds."""
        query = "SELECT seconds FROM decisions ORDER BY trial DESC LIMIT ?"
        with History.read(self._history) as history:
            return 1000.0 * float(median(row[0] for row in history.db.conn.execute(query, [MEASURED])))


def measure_loop(ranker: str, workers: int, sizes: list[int], folder: Path) -> None:
    """The rows of one search."""
    (folder / "do_nothing.py").write_text("def evaluate(config, context):\n    return int(context.code) % 1000\n")
    notes = Notes(folder / "memory.db", sizes)
    search = Search(
        SPACE, history=folder / "memory.db", folder=folder, ranker=ranker, trials=sizes[-1], workers=workers,
        evaluator={"kind": "python", "function": "do_nothing:evaluate"}, observer=notes,
    )  # fmt: skip
    search.run()
    print_growth("the loop", notes.memory, sizes)


def print_growth(name: str, memory: list[int], sizes: list[int]) -> None:
    """The last line of a table."""
    growth = memory[-1] - memory[0]
    kept = "kept" if growth < MOST_GROWTH else "broken"
    print(f"{name:<10} {sizes[-1]:,} trials: {growth / 1e6:+.1f} MB to {sizes[0]:,}; bound {kept}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rankers", default="evolution,embedded")
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--every-trial", action="store_true", help="have slow rankers make all trials")
    parser.add_argument("--loop", action="store_true", help="a whole search, with worker processes, log and backups")
    parser.add_argument("--workers", type=int, default=2, help="of --loop")
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    print(f"{'ranker':<10} {'trials':>8} {'MB':>9} {'ms/ask':>9} {'ms/tell':>9}", flush=True)
    if options.loop:
        with tempfile.TemporaryDirectory(dir=options.folder.absolute()) as folder:
            measure_loop("evolution", options.workers, sizes, Path(folder))
        return
    for ranker in options.rankers.split(","):
        filler = ranker if options.every_trial else "evolution"
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            arguments = (ranker, filler, sizes, Path(folder))
            child = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
            child.start()
            child.join()


if __name__ == "__main__":
    main()
