"""A decision of the packaged ranker: 200 trials, 128 candidates; all of it, and llama.cpp's part."""

from __future__ import annotations

import resource
import time
from statistics import median
from unittest import mock

import numpy as np

from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.embedded import EmbeddedRanker
from ncode_search.agent.ranking.vector_session import Vectors, VectorSession
from ncode_search.agent.space import SearchSpace

REPETITIONS = 60


def main() -> None:
    """Print the medians."""
    whole, inside = measure()
    ratio = median(all_ / part for all_, part in zip(whole, inside, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"a decision {1e3 * median(whole):.1f} ms, llama.cpp in it {1e3 * median(inside):.1f} ms, ratio {ratio:.2f}")
    print(f"memory of the process at most {memory:.0f} MB")


def measure() -> tuple[list[float], list[float]]:
    """Seconds of each decision, and of llama.cpp in it."""
    space = SearchSpace({str(position): list(range(4)) for position in range(8)})
    codes = space.core.sample(328, 0)
    known = Observations(codes[:200], codes[:200].sum(axis=1).astype(np.float64), codes[:0], codes[:0])
    ranker = EmbeddedRanker(space)
    ranker.load()
    whole: list[float] = []
    inside: list[float] = []
    outputs = VectorSession.outputs

    def timed(session: VectorSession, history: Vectors, candidates: Vectors) -> Vectors:
        begun = time.perf_counter()
        found = outputs(session, history, candidates)
        inside.append(time.perf_counter() - begun)
        return found

    with mock.patch.object(VectorSession, "outputs", timed):
        for _ in range(REPETITIONS):
            begun = time.perf_counter()
            ranker.score(known, codes[200:], np.random.default_rng(0))
            whole.append(time.perf_counter() - begun)
    ranker.close()
    return whole, inside


if __name__ == "__main__":
    main()
