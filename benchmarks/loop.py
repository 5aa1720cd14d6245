"""The loop's own cost: trials a second with an evaluator that does nothing, beside Optuna's ask and tell on SQLite.

    python benchmarks/loop.py [--trials 2000] [--sizes 1000,10000,100000] [--optuna-trials 300]

Both record every trial durably in an SQLite file in --folder before the next one is told. Rates are taken over
--trials trials on top of a history of each size; Optuna's over fewer, because it is slower. The time of one fsync on
the same disk stands beside them, for it bounds both. Repetitions are interleaved.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ncode_search import Search, SearchSpace
from ncode_search.agent import database
from ncode_search.agent.history import History, Objective
from ncode_search.agent.session import Session

SPACE = SearchSpace({f"p{number}": list(range(5)) for number in range(12)})
EVALUATOR = {"kind": "python", "function": "do_nothing:evaluate"}


def prefilled(path: Path, trials: int) -> Path:
    """A history with so many completed trials, written at once."""
    codes = SPACE.to_text(SPACE.core.sample(trials, seed=0))
    values = np.random.default_rng(0).random(trials)
    with History.open(path, SPACE.positions, Objective("maximize", EVALUATOR)) as history:
        rows = [
            (n + 1, code, code, float(value), n, n, n)
            for n, (code, value) in enumerate(zip(codes, values, strict=True))
        ]
        with database.immediate(history.db):
            history.db.conn.executemany(
                "INSERT INTO trials (id, code, canonical, state, value, metrics, attempt, proposed_by, "
                "created_at, started_at, finished_at) VALUES (?, ?, ?, 'complete', ?, '{}', 1, 'random', ?, ?, ?)",
                rows,
            )
    return path


def loop_rate(path: Path, done: int, trials: int, workers: int) -> float:
    """Trials a second of the whole loop: proposal, SQLite, worker processes, result; start-up not counted."""
    search = Search(
        SPACE, history=path, evaluator=EVALUATOR, folder=path.parent, ranker="random",
        trials=done + trials, workers=workers,
    )  # fmt: skip
    search.run()
    with search.history() as history:
        first, last = history.db.conn.execute(
            "SELECT min(created_at), max(finished_at) FROM trials WHERE id > ?", [done]
        ).fetchone()
    return trials / float(last - first)


def ask_tell_rate(path: Path, trials: int) -> float:
    """Trials a second of ask and tell, which has no worker processes."""
    with Search(SPACE, history=path, ranker="random", evaluator=EVALUATOR) as search:
        search.tell(search.ask(), 0.0)
        began = time.perf_counter()
        for _ in range(trials):
            search.tell(search.ask(), 0.0)
        return trials / (time.perf_counter() - began)


def optuna_rate(path: Path, trials: int) -> float:
    """Trials a second of Optuna's ask and tell with its random sampler."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{path}", sampler=optuna.samplers.RandomSampler(seed=0))
    began = time.perf_counter()
    for _ in range(trials):
        trial = study.ask()
        for name, options in SPACE.positions.items():
            trial.suggest_categorical(name, options)
        study.tell(trial, 0.0)
    return trials / (time.perf_counter() - began)


def reopening_seconds(path: Path) -> float:
    """Seconds to open a history and know everything in it."""
    began = time.perf_counter()
    session = Session(path, SPACE, Objective("maximize", EVALUATOR))
    seconds = time.perf_counter() - began
    session.close()
    return seconds


def fsync_milliseconds(folder: Path) -> float:
    """Median time of one 4 KiB append with fsync."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


@contextmanager
def working_folder(parent: Path) -> Iterator[Path]:
    """A folder that holds the do-nothing evaluator."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        (folder / "do_nothing.py").write_text("def evaluate(config, context):\n    return 0.0\n")
        yield folder


def median_of(repeat: int, measure: Callable[[Path], float], parent: Path) -> float:
    """The median of repetitions, each in a new folder."""
    results = []
    for _ in range(repeat):
        with working_folder(parent) as folder:
            results.append(measure(folder))
    return statistics.median(results)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--optuna-trials", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    folder = options.folder.absolute()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
          f"one fsync {fsync_milliseconds(folder):.2f} ms")  # fmt: skip
    optuna = median_of(options.repeat, lambda at: optuna_rate(at / "optuna.db", options.optuna_trials), folder)
    print(f"{'history':>8}  {'measured':<34}  {'trials/s':>9}  {'to Optuna':>9}")
    print(f"{0:>8}  {'Optuna ask and tell, SQLite':<34}  {optuna:>9.0f}  {1:>8.1f}x")
    for size in map(int, options.sizes.split(",")):
        print_size(size, options, folder, optuna)
    print(f"one fsync {fsync_milliseconds(folder):.2f} ms")


def print_size(size: int, options: argparse.Namespace, folder: Path, optuna: float) -> None:
    """The rows of one history size."""
    trials = options.trials
    measures: dict[str, Callable[[Path], float]] = {
        "loop, 1 worker process": lambda at: loop_rate(prefilled(at / "h.db", size), size, trials, 1),
        "loop, 2 worker processes": lambda at: loop_rate(prefilled(at / "h.db", size), size, trials, 2),
        "ask and tell": lambda at: ask_tell_rate(prefilled(at / "h.db", size), trials),
    }
    for name, measure in measures.items():
        rate = median_of(options.repeat, measure, folder)
        print(f"{size:>8}  {name:<34}  {rate:>9.0f}  {rate / optuna:>8.1f}x", flush=True)
    seconds = median_of(options.repeat, lambda at: reopening_seconds(prefilled(at / "h.db", size)), folder)
    print(f"{size:>8}  {'reopening':<34}  {seconds:>8.3f}s", flush=True)


if __name__ == "__main__":
    main()
