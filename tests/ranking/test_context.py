"""What the embedded ranker sees of a history: the same trials as by sorting all of it, whatever its length."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from ncode_search.agent.observations import ObservationLog, Observations
from ncode_search.agent.ranking.choices import Choices
from ncode_search.agent.ranking.context import ROOM, chosen_rows, visible
from ncode_search.agent.ranking.surrogates import Features
from ncode_search.agent.space import SearchSpace

POSITIONS = {f"p{at}": list(range(5)) for at in range(12)}
SPACE = SearchSpace(POSITIONS, when={"p3": {"p0": [0, 1]}, "p4": {"p0": [0, 1]}})


def chosen_slowly(known: Observations, room: int) -> NDArray[np.intp]:
    """A quarter of the room for the newest, one for the best, the rest spread over all others."""
    count = len(known)
    if count <= room:
        return np.arange(count)
    newest, best = np.arange(count - room // 4, count), known.best(room // 4)
    rest = np.setdiff1d(np.arange(count), np.concatenate([newest, best]))
    spread = rest[np.linspace(0, len(rest) - 1, room - len(np.union1d(newest, best))).astype(np.intp)]
    return np.unique(np.concatenate([newest, best, spread]))


def log_of(count: int, rng: np.random.Generator, distinct: int = 1 << 30) -> ObservationLog:
    """Many trials of each state; `distinct`: how many values there are."""
    codes = rng.integers(5, size=(3 * count, len(SPACE))).astype(np.uint8)
    completed, failed, stopped = np.split(codes, 3)
    log = ObservationLog(len(SPACE))
    log.load(completed, rng.integers(distinct, size=count).astype(float), failed)
    log.load_pruned(range(count), stopped, rng.random(count).tolist())
    return log


@pytest.mark.parametrize("room", [4, 7, 50, ROOM])
def test_the_chosen_trials_are_those_of_sorting_the_whole_history(room: int) -> None:
    rng = np.random.default_rng(room)
    for count in (0, 1, room - 1, room, room + 1, room + 2, 2 * room, *rng.integers(room, 3000, size=60).tolist()):
        known = log_of(count, rng, distinct=int(rng.integers(1, 5000))).view()
        assert np.array_equal(chosen_rows(known, room), chosen_slowly(known, room)), (count, room)


def looked_at(log: ObservationLog, choices: Choices, features: Features) -> float:
    """Seconds of processor time that a look takes, the quickest of ten."""
    times = []
    for _ in range(10):
        began = time.process_time()
        visible(log.view(), choices, features)
        times.append(time.process_time() - began)
    return min(times)


def test_a_look_at_a_history_of_200_000_trials_takes_as_long_as_at_one_of_2000() -> None:
    """In a space with conditions, and with as many failed and stopped trials."""
    choices = Choices(SPACE)
    features = Features(choices.sizes, choices.ordered)
    short, long = (log_of(count, np.random.default_rng(0)) for count in (2000, 200_000))
    assert looked_at(long, choices, features) < 3 * looked_at(short, choices, features) + 1e-3
