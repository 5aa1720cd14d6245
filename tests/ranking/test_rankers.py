"""What every ranker must do, run on each; then what is special to each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking import RANKERS, Ranker, make_ranker
from ncode_search.agent.ranking.baselines import EvolutionRanker

from .conftest import make_codes, make_known, make_space

MakeRanker = Callable[..., Ranker]
EQUAL = np.full(5, 0.25)


@pytest.fixture(params=RANKERS)
def make(request: pytest.FixtureRequest, tiny_gguf: Path) -> MakeRanker:
    """Makes and loads the ranker that is tested."""

    def make_one(options: int = 4, length: int = 6) -> Ranker:
        space = make_space(options, length)
        ranker = make_ranker(request.param, space, model=tiny_gguf.name, folder=tiny_gguf.parent, threads=1)
        ranker.load()
        request.addfinalizer(ranker.close)
        return ranker

    return make_one


def check(ranker: Ranker, known: Observations, count: int, options: int = 4, length: int = 6) -> None:
    """Scores are finite, of the right shape, and the same for the same arguments."""
    pool = make_codes(count, options, length, seed=3)
    scores = ranker.score(known, pool, np.random.default_rng(7))
    assert scores.shape == (count,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(ranker.score(known, pool, np.random.default_rng(7)), scores)


@pytest.mark.parametrize("trials", [0, 1, 2, 40])
@pytest.mark.parametrize("count", [1, 10])
def test_history_and_pool(make: MakeRanker, trials: int, count: int) -> None:
    check(make(), make_known(trials), count)


def test_equal_values(make: MakeRanker) -> None:
    check(make(), make_known(5, values=EQUAL), 8)


def test_extreme_values(make: MakeRanker) -> None:
    check(make(), make_known(4, values=np.array([1e308, -1e308, 5e-324, 0.0])), 8)


def test_large_pool(make: MakeRanker) -> None:
    check(make(), make_known(40), 128)


def test_history_longer_than_the_context(make: MakeRanker) -> None:
    check(make(), make_known(1000), 16)


def test_64_options(make: MakeRanker) -> None:
    check(make(64, 9), make_known(12, 64, 9), 16, 64, 9)


def test_a_pool_longer_than_the_context(make: MakeRanker) -> None:
    check(make(4, 24), make_known(12, 4, 24), 128, 4, 24)


def test_one_position(make: MakeRanker) -> None:
    check(make(3, 1), make_known(2, 3, 1), 3, 3, 1)


def test_no_memory_between_calls(make: MakeRanker) -> None:
    """A resumed search, whose ranker has seen nothing, decides alike."""
    pool = make_codes(10, seed=3)
    used, fresh = make(), make()
    for trials in (3, 50, 7):
        used.score(make_known(trials), pool, np.random.default_rng(trials))
    expected = fresh.score(make_known(30), pool, np.random.default_rng(1))
    np.testing.assert_array_equal(used.score(make_known(30), pool, np.random.default_rng(1)), expected)


def test_info(make: MakeRanker, tiny_gguf: Path) -> None:
    info = make().info
    assert info.name in RANKERS
    assert (info.model, len(info.digest or "")) == ((str(tiny_gguf), 64) if info.name == "llama" else (None, 0))


def test_unknown_kind() -> None:
    with pytest.raises(InputError, match=r"'oracle': choose one of embedded, llama, evolution, random"):
        make_ranker("oracle", make_space())


def test_llama_cpp_is_imported_late() -> None:
    code = (
        "import sys, ncode_search.agent.ranking as r; r.make_ranker('random', None); print('llama_cpp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_evolution_prefers_one_mutation_of_the_parent() -> None:
    known = make_known(1)
    parent = known.codes[0]
    pool = np.repeat(parent[None], 5, axis=0)
    for changes in range(5):
        pool[changes, :changes] ^= 1
    scores = EvolutionRanker().score(known, pool, np.random.default_rng(0))
    assert np.argsort(-scores).tolist() == [1, 2, 3, 4, 0]


def test_evolution_forgets_the_old() -> None:
    known = make_known(30, values=np.arange(30.0, 0.0, -1.0))
    ranker = EvolutionRanker(population=10, sample=200)
    scores = ranker.score(
        known, np.stack([known.codes[0] ^ 1, known.codes[20] ^ (np.arange(6) == 0)]), np.random.default_rng(0)
    )
    assert scores[1] > scores[0]
    assert -1 <= scores[1] < 0


def test_evolution_breaks_ties_by_chance() -> None:
    known = make_known(1)
    pool = known.codes[0] ^ np.eye(6, dtype=np.uint8)
    firsts = {int(np.argmax(EvolutionRanker().score(known, pool, np.random.default_rng(seed)))) for seed in range(60)}
    assert firsts == set(range(6))


@pytest.mark.parametrize("arguments", [(0, 3), (10, 0)])
def test_evolution_refuses_nonsense(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EvolutionRanker(*arguments)
