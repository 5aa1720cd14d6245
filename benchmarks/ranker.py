"""Seconds that the language model takes to rank a pool, beside llama.cpp's own time for as many tokens in one sequence.

    python benchmarks/ranker.py [--model smollm2] [--threads 1 2] [--history 0 10 40 200] [--pool 10 32 128]

`first` is a decision that shares nothing with the one before; `next` follows it with one more trial of middling
value, as in a search; `plain` is llama_decode alone, once over as many tokens as `first` decoded. Medians over
`--repeats`; codes have 10 positions of 5 options.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.gguf_file import resolve_model
from ncode_search.agent.ranking.llama import LlamaRanker
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings
from ncode_search.agent.space import SearchSpace

LENGTH, OPTIONS = 10, 5
Codes = NDArray[np.uint8]


class CountingSession:
    """Counts the tokens that a session decodes."""

    def __init__(self, session: LlamaSession) -> None:
        self.session = session
        self.rows = 0
        self._decode = session._decode
        session._decode = self._count  # type: ignore[method-assign, assignment]

    def _count(self, rows: list[object], *others: object, **more: object) -> None:
        self.rows += len(rows)
        self._decode(rows, *others, **more)  # type: ignore[arg-type]

    def plain(self, tokens: int) -> float:
        """Seconds that llama.cpp takes for `tokens` tokens in one sequence."""
        self.session._forget()
        prompt = np.random.default_rng(0).integers(100, 1000, min(tokens, self.session.context - 1)).tolist()
        return seconds(lambda: self.session.log_likelihoods(prompt, [[100]]))


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of `work`."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def make_pool(known: Observations, count: int, rng: np.random.Generator) -> Codes:
    """Half mutated from the ten best, half uniform, as the search draws them."""
    pool = rng.integers(0, OPTIONS, (count, LENGTH), dtype=np.uint8)
    best = known.codes[known.best(10)]
    for row in range(count // 2 if len(best) else 0):
        pool[row] = best[rng.integers(len(best))]
        pool[row, rng.integers(LENGTH)] = rng.integers(OPTIONS)
    return pool


def make_known(trials: int, rng: np.random.Generator) -> Observations:
    """A random history."""
    none = np.empty((0, LENGTH), dtype=np.uint8)
    return Observations(rng.integers(0, OPTIONS, (trials, LENGTH), dtype=np.uint8), rng.random(trials), none, none)


def one_more(known: Observations) -> Observations:
    """The history with a trial of median value at its end."""
    codes = np.concatenate([known.codes, np.full((1, LENGTH), OPTIONS - 1, dtype=np.uint8)])
    middle = float(np.median(known.values)) if len(known) else 0.5
    return Observations(codes, np.append(known.values, middle), known.pending, known.failed)


def measure(ranker: LlamaRanker, trials: int, count: int, repeats: int) -> str:
    """One line of the table."""
    assert ranker._session is not None
    counting = CountingSession(ranker._session)
    rows, times = [], []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        known = make_known(trials, rng)
        pool, later = make_pool(known, count, rng), make_pool(known, count, rng)
        counting.session._forget()
        counting.rows = 0
        first = seconds(lambda: ranker.score(known, pool, rng))  # noqa: B023
        rows.append(counting.rows)
        following = seconds(lambda: ranker.score(one_more(known), later, rng))  # noqa: B023
        times.append((first, following, counting.plain(rows[-1])))
    ranker._session._decode = counting._decode  # type: ignore[method-assign]
    first, following, plain = np.median(times, axis=0)
    return f"{trials:8} {count:5} {int(np.median(rows)):7} {first:8.2f} {following:8.2f} {plain:8.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--history", type=int, nargs="+", default=[0, 10, 40, 200])
    parser.add_argument("--pool", type=int, nargs="+", default=[10, 32, 128])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    path = resolve_model(arguments.model, Path.cwd())
    space = SearchSpace({f"p{at}": list(range(OPTIONS)) for at in range(LENGTH)})
    for threads in arguments.threads:
        ranker = LlamaRanker(space, model=str(path), settings=SessionSettings(threads=threads))
        ranker.load()
        print(f"\n{path.name}, threads: {threads}\n history  pool  tokens  first s   next s  plain s")
        for trials in arguments.history:
            for count in arguments.pool:
                print(measure(ranker, trials, count, arguments.repeats), flush=True)
        ranker.close()


if __name__ == "__main__":
    main()
