"""Histories, pools and an answer memory of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.llama import LlamaRanker
from ncode_search.agent.ranking.llama_session import SessionSettings
from ncode_search.agent.space import SearchSpace

Codes = NDArray[np.uint8]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's memory of self-tests; the session's own saves a child process a test."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(folder))
    yield folder
    patch.undo()


def make_space(options: int = 4, length: int = 6) -> SearchSpace:
    """A space of `length` positions with `options` options each."""
    return SearchSpace({f"p{at}": list(range(options)) for at in range(length)})


def make_codes(count: int, options: int = 4, length: int = 6, seed: int = 0) -> Codes:
    """Random codes, shape ``(count, length)``."""
    return np.random.default_rng(seed).integers(0, options, (count, length), dtype=np.uint8)


def make_known(
    count: int, options: int = 4, length: int = 6, values: NDArray[np.float64] | None = None
) -> Observations:
    """A history of `count` random trials."""
    none = np.empty((0, length), dtype=np.uint8)
    if values is None:
        values = np.random.default_rng(1).normal(size=count)
    return Observations(make_codes(count, options, length, seed=2), values, none, none)


@pytest.fixture
def make_llama(tiny_gguf: Path, request: pytest.FixtureRequest) -> Callable[..., LlamaRanker]:
    """Loaded rankers with the tiny model or `model`, freed after the test."""

    def make(model: Path = tiny_gguf, context: int = 4096, history: int = 200, shuffles: int = 1) -> LlamaRanker:
        settings = SessionSettings(threads=1, context=context)
        ranker = LlamaRanker(make_space(), model=str(model), settings=settings, history=history, shuffles=shuffles)
        request.addfinalizer(ranker.close)
        ranker.load()
        return ranker

    return make
