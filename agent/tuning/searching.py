"""How well a network in training searches: whole short searches on tables that it does not learn from.

A lower loss is not always a better search. So the network is written as a GGUF, llama.cpp loads it, and the product's
own ranker chooses with it from the product's own pools. Beside it stand the same searches with a network that adds
nothing to the surrogates, which is what training started from; both begin with the same uniform trials.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ncode_search.agent.bench.product import ProductSearch
from ncode_search.agent.bench.statistics import best_so_far
from ncode_search.agent.bench.tasks import Task
from ncode_search.agent.bench.trials import BenchSettings, Run, run_search
from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.embedded import EmbeddedRanker
from ncode_search.agent.ranking.vector_session import VectorSettings
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.tuning.embedded_gguf import write_gguf
from ncode_search.agent.tuning.network import RankerNetwork


class SearchJudge:
    """A judge for `scratch.train`; called with a network, it gives these figures.

    ``search``: the mean, over tables and seeds, of the common logarithm of the rank in the table of the best trial, 0
    is best; ``search_surrogates``: the same of the surrogates alone; ``search_error``: the standard error of the mean
    of their paired differences; ``search_fallbacks``: decisions at which the network failed.
    """

    def __init__(self, tables: Sequence[ScoreTable], seeds: int = 4, trials: int = 50) -> None:
        """`seeds`: searches a table; `trials`: of each. Raises `InputError` for numbers that cannot be."""
        if seeds < 1 or trials < 1:
            raise InputError(f"{seeds} searches of {trials} trials a table; allowed: whole numbers from 1")
        self._tasks = [Task("validation", table) for table in tables]
        self._seeds, self._settings = seeds, BenchSettings(trials=trials)
        self._alone: NDArray[np.float64] | None = None

    def __call__(self, network: RankerNetwork) -> dict[str, float]:
        if self._alone is None:
            self._alone, _ = self._judged(_untaught(network))
        found, fallbacks = self._judged(network)
        error = (found - self._alone).std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else 0.0
        return {
            "search": round(float(found.mean()), 4),
            "search_surrogates": round(float(self._alone.mean()), 4),
            "search_error": round(float(error), 4),
            "search_fallbacks": fallbacks,
        }

    def _judged(self, network: RankerNetwork) -> tuple[NDArray[np.float64], int]:
        """Logarithms of the ranks, shape ``(tables * seeds,)``, and the fallbacks of all searches."""
        with TemporaryDirectory() as folder:
            model = Path(folder) / "network.gguf"
            write_gguf(network, model, {})
            runs = list(self._runs(model))
        ranks = [log_rank(task, run, self._settings.trials) for task, run in runs]
        return np.array(ranks), sum(run.fallbacks for _, run in runs)

    def _runs(self, model: Path) -> Iterator[tuple[Task, Run]]:
        for task in self._tasks:
            for seed in range(self._seeds):
                # One thread, as in a bench: more of them round differently.
                settings = VectorSettings(threads=1)
                ranker = EmbeddedRanker(task.table.space, model=str(model), settings=settings, trusted=True)
                ranker.load()
                method = ProductSearch(task, ranker, self._settings, seed)
                yield task, run_search("network", method, task, seed, self._settings.trials)


def log_rank(task: Task, run: Run, trials: int) -> float:
    """The common logarithm of how many classes of the table are as good as the run's best trial or better.

    Equals share the best of their ranks: a run that found an optimum has 0.
    """
    best = best_so_far(task, run, trials)[-1]
    classes = task.table.values[np.unique(task.table.canon)]
    return float(np.log10(1 + np.count_nonzero(classes > best)))


def _untaught(network: RankerNetwork) -> RankerNetwork:
    """One of the same shape that says nothing: what is searched with are the surrogates."""
    untaught = copy.deepcopy(network)
    nn.init.zeros_(untaught.head.weight)
    return untaught
