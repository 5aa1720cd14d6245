"""The embedded ranker: the packaged model through the real llama.cpp."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from ncode_search import _core
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import ObservationLog, Observations
from ncode_search.agent.ranking.choices import Choices
from ncode_search.agent.ranking.embedded import PACKAGED, EmbeddedRanker
from ncode_search.agent.ranking.normal_scores import NormalScores
from ncode_search.agent.ranking.tokens import read
from ncode_search.agent.ranking.trust import PRIOR, earned
from ncode_search.agent.space import SearchSpace

SPACE = SearchSpace({f"p{at}": ["a", "b", "c", "d"] for at in range(6)})
EFFECTS = np.random.default_rng(5).normal(size=(6, 4))


def value_of(codes: np.ndarray) -> np.ndarray:
    return EFFECTS[np.arange(6), codes].sum(axis=1)


def known_of(codes: np.ndarray) -> Observations:
    none = np.empty((0, codes.shape[1]), dtype=np.uint8)
    return Observations(codes, value_of(codes), none, none)


def codes_of(count: int, seed: int) -> np.ndarray:
    return SPACE.core.sample(count, seed)


@pytest.fixture(scope="module")
def ranker() -> Iterator[EmbeddedRanker]:
    made = EmbeddedRanker(SPACE)
    made.load()
    yield made
    made.close()


def test_it_predicts_what_depends_on_the_code(ranker: EmbeddedRanker) -> None:
    known, asked = known_of(codes_of(40, 1)), codes_of(200, 2)
    predicted = ranker.predict(known, asked, np.random.default_rng(0)).mean
    assert np.corrcoef(predicted, value_of(asked))[0, 1] > 0.8


@pytest.mark.parametrize("trials", [0, 1, 2, 3, 250])
def test_any_history_gives_finite_scores(ranker: EmbeddedRanker, trials: int) -> None:
    ranking = ranker.rank(known_of(codes_of(trials, 1)), codes_of(300, 2), np.random.default_rng(0))
    assert ranking.scores.shape == (300,)
    assert np.isfinite(ranking.scores).all()


def test_the_largest_space_of_the_core_needs_little_memory() -> None:
    space = SearchSpace({f"p{at}": list(range(_core.MAX_OPTIONS)) for at in range(_core.MAX_POSITIONS)})
    codes = space.core.random(40, 0)
    known = Observations(codes[:24], codes[:24].sum(axis=1, dtype=np.float64), codes[:0], codes[:0])
    tracemalloc.start()
    try:
        ranker = EmbeddedRanker(space)
        ranker.load()
        scores = ranker.score(known, codes[24:], np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        ranker.close()
    assert np.isfinite(scores).all()
    assert peak < 150e6


def test_equal_values_pending_and_failed_trials(ranker: EmbeddedRanker) -> None:
    codes = codes_of(30, 1)
    known = Observations(codes[:10], np.full(10, 0.5), codes[10:20], codes[20:])
    assert np.isfinite(ranker.score(known, codes_of(50, 2), np.random.default_rng(0))).all()


def test_the_last_scores_of_stopped_trials_tell_which_options_are_better(ranker: EmbeddedRanker) -> None:
    codes, asked = codes_of(60, 1), codes_of(200, 2)
    known, stopped = known_of(codes[:10]), codes[10:]
    better, worse = asked[:, 0] == 1, asked[:, 0] == 2

    def gap(partial: np.ndarray) -> float:
        seen = replace(known, pruned=stopped, partial=partial)
        predicted = ranker.predict(seen, asked, np.random.default_rng(0)).mean
        return float(predicted[better].mean() - predicted[worse].mean())

    lowest = known.values.min() - 1
    favoured = lowest + 0.5 * (stopped[:, 0] == 1)
    assert gap(favoured) > gap(lowest + 0.5 * (stopped[:, 0] == 2)) + 0.2
    assert np.isfinite(gap(np.full(len(stopped), lowest)))


def test_what_failed_is_not_expected_to_be_good(ranker: EmbeddedRanker) -> None:
    codes, asked = codes_of(60, 1), codes_of(200, 2)
    failing, asked = codes[codes[:, 0] == 2], asked[asked[:, 0] == 2]
    known = known_of(codes[codes[:, 0] != 2])
    failed = Observations(known.codes, known.values, known.pending, failing)
    before, after = (ranker.predict(one, asked, np.random.default_rng(0)).mean for one in (known, failed))
    assert after.mean() < before.mean() - 0.5


def test_small_matrices_are_left_to_one_thread(ranker: EmbeddedRanker, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them spin for seconds where trainings use the cores."""
    threads: list[int] = []

    def spied(*arguments: object) -> object:
        threads.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
        return read(*arguments)

    monkeypatch.setattr("ncode_search.agent.ranking.embedded.read", spied)
    with threadpool_limits(2, user_api="blas"):
        ranker.score(known_of(codes_of(20, 1)), codes_of(10, 2), np.random.default_rng(0))
    assert threads
    assert set(threads) == {1}


def test_positions_that_do_not_matter_mean_nothing_and_are_told() -> None:
    """Whatever the digits are where a position does not matter; and not to matter is not the first option."""
    names = list(SPACE.positions)
    space = SearchSpace(SPACE.positions, when={name: {names[0]: ["a", "b"]} for name in names[1:3]})
    codes, asked = codes_of(60, 1), codes_of(100, 2)
    inactive = ~space.active(asked)
    assert inactive.any()
    others = np.where(inactive, (asked + 1) % 4, asked).astype(np.uint8)
    assert np.array_equal(Choices(space)(asked) == 4, inactive)
    made = EmbeddedRanker(space)
    made.load()
    try:
        one, other = (made.predict(known_of(codes), pool, np.random.default_rng(0)).mean for pool in (asked, others))
    finally:
        made.close()
    np.testing.assert_array_equal(one, other)


def test_names_and_order_of_options_and_positions_mean_nothing(ranker: EmbeddedRanker) -> None:
    rng = np.random.default_rng(3)
    codes, asked = codes_of(40, 1), codes_of(100, 2)
    renamed = [rng.permutation(4).astype(np.uint8) for _ in range(6)]
    order = rng.permutation(6)

    def other(them: np.ndarray) -> np.ndarray:
        return np.stack([renamed[at][them[:, at]] for at in order], axis=1)

    none = np.empty((0, 6), dtype=np.uint8)
    plain = ranker.predict(known_of(codes), asked, rng).mean
    moved = ranker.predict(Observations(other(codes), value_of(codes), none, none), other(asked), rng).mean
    np.testing.assert_allclose(moved, plain, atol=0.02)


def test_the_same_question_gets_the_same_answer(ranker: EmbeddedRanker) -> None:
    known, asked = known_of(codes_of(40, 1)), codes_of(100, 2)
    first = ranker.score(known, asked, np.random.default_rng(0))
    ranker.score(known_of(codes_of(90, 7)), asked, np.random.default_rng(1))
    np.testing.assert_array_equal(ranker.score(known, asked, np.random.default_rng(0)), first)


def test_a_file_of_another_kind_or_cut_short_is_one_line(tmp_path: Path, tiny_gguf: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(PACKAGED.read_bytes()[:100_000])
    for path, says in ((cut, "truncated"), (tiny_gguf, "no embedded ranker")):
        with pytest.raises(InputError, match=says) as error:
            EmbeddedRanker(SPACE, model=str(path)).load()
        assert "\n" not in str(error.value)


def trusted(model: float, ridge: float, middle: float) -> np.ndarray:
    """Trust after 20 trials whose forecasts were off by so much, in values."""
    codes, log = codes_of(60, 1), ObservationLog(6)
    for number, code in enumerate(codes):
        value = float(value_of(code[np.newaxis])[0])
        off = np.array([model, ridge, middle]) if number >= 40 else np.full(3, np.nan)
        log.begin(number, code, value + off)
        log.complete(number, value)
    return earned(log.view(), NormalScores(log.view().values))


def test_trust_is_earned_and_lost() -> None:
    np.testing.assert_allclose(earned(known_of(codes_of(9, 1)), NormalScores(np.arange(9.0))), PRIOR)
    assert trusted(0.0, 3.0, 3.0)[0] > 0.98
    assert trusted(3.0, 0.0, 3.0)[1] > 0.9
    assert trusted(3.0, 3.0, 0.0)[2] > 0.9
