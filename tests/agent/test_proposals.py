"""Decisions: whatever the ranker does, a trial is chosen, and the history says by whom and why."""

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from ncode_search import Search, SearchSpace
from ncode_search.agent import proposals
from ncode_search.agent.observations import ObservationLog
from ncode_search.agent.ranking.base import RankerInfo
from ncode_search.agent.ranking.baselines import RandomRanker
from ncode_search.agent.ranking.thread import RankerThread
from ncode_search.agent.settings import RankerSettings

SPACE = SearchSpace({name: [0, 1, 2, 3] for name in "abcd"})


class ScriptedRanker:
    """Does what `behave` does; enters by the same door as a ranker of a user's."""

    info = RankerInfo("scripted", "/models/x.gguf", "cd" * 32)

    def __init__(self, behave) -> None:
        self._behave = behave
        self.threads: set[int] = set()

    def load(self) -> None:
        self.threads.add(threading.get_ident())

    def score(self, known, pool, rng):
        self.threads.add(threading.get_ident())
        return self._behave(known, pool, rng)

    def close(self) -> None:
        pass


def decisions_after(tmp_path, behave, asks: int = 3, deadline: float = 5.0) -> list[dict]:
    ranker = ScriptedRanker(behave)
    settings = RankerSettings(startup=1, pool=16, deadline=deadline)
    with Search(SPACE, history=tmp_path / "x.db", ranker=ranker, ranker_settings=settings) as search:
        for number in range(asks):
            search.tell(search.ask(), float(number))
    assert len(ranker.threads) == 1
    assert threading.get_ident() not in ranker.threads
    with search.history() as history:
        return list(history.db["decisions"].rows)


def test_the_best_scored_candidate_is_chosen_and_recorded(tmp_path) -> None:
    pools = []

    def prefer_many_threes(known, pool, rng):
        pools.append(pool)
        return (pool == 3).sum(axis=1).astype(float)

    rows = decisions_after(tmp_path, prefer_many_threes, asks=2)
    assert [(row["ranker"], row["fallback"]) for row in rows] == [("random", 0), ("scripted", 0)]
    assert (rows[1]["model"], rows[1]["model_sha256"], rows[1]["pool"]) == ("/models/x.gguf", "cd" * 32, 16)
    with Search(SPACE, history=tmp_path / "x.db").history() as history:
        chosen = SPACE.from_text([history.trial(2).code])[0]
        assert history.trial(2).proposed_by == "scripted"
    assert (chosen == 3).sum() == (pools[0] == 3).sum(axis=1).max()


def test_startup_trials_are_uniform(tmp_path) -> None:
    space = SearchSpace({f"p{at}": [0, 1, 2, 3] for at in range(20)})
    settings = RankerSettings(kind="random", startup=40, pool=64)
    with Search(space, history=tmp_path / "x.db", ranker_settings=settings) as search:
        codes = []
        for number in range(40):
            trial = search.ask()
            search.tell(trial, float(number))
            codes.append(space.from_text([trial.code])[0])
    nearest = [min(np.count_nonzero(code != other) for other in codes[:at]) for at, code in enumerate(codes) if at]
    assert min(nearest) > 4, "a code that is bred differs from its parents in a position or two"


def raises(known, pool, rng):
    raise RuntimeError("model on fire")


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (raises, "RuntimeError: model on fire"),
        (lambda known, pool, rng: np.full(len(pool), np.nan), "ValueError: the ranker gave a score that is no finite"),
        (lambda known, pool, rng: np.zeros(len(pool) - 1), "ValueError: the ranker gave scores of shape (15,)"),
        (lambda known, pool, rng: "nonsense", "ValueError: could not convert string to float"),
    ],
)
def test_a_ranker_that_fails_is_replaced_for_that_decision(tmp_path, caplog, behave, reason: str) -> None:
    with caplog.at_level(logging.WARNING):
        rows = decisions_after(tmp_path, behave)
    assert [(row["ranker"], row["fallback"]) for row in rows] == [("random", 0), ("evolution", 1), ("evolution", 1)]
    assert all(row["reason"].startswith(reason) for row in rows[1:])
    assert len(caplog.records) == 1, "the warning is shown once"
    assert reason in caplog.text


def test_every_outage_is_said_once(tmp_path, caplog, monkeypatch) -> None:
    """Days may lie between two of them."""
    monkeypatch.setattr(proposals, "LONGEST_REST", 0.0)
    asked = []

    def fails_twice_in_a_row_twice(known, pool, rng):
        asked.append(len(known))
        if len(asked) in (1, 2, 4, 5):
            raise ConnectionError(f"outage in decision {len(asked)}")
        return np.zeros(len(pool))

    with caplog.at_level(logging.WARNING):
        decisions_after(tmp_path, fails_twice_in_a_row_twice, asks=8)
    said = [record.getMessage() for record in caplog.records]
    assert len(asked) >= 6
    assert [("decision 1" in line, "decision 4" in line) for line in said] == [(True, False), (False, True)]


def test_complaint_09_a_ranker_that_stalls_is_waited_for_until_the_deadline_only(tmp_path) -> None:
    release = threading.Event()

    def stall(known, pool, rng):
        release.wait(30)
        return np.zeros(len(pool))

    began = time.monotonic()
    rows = decisions_after(tmp_path, stall, asks=6, deadline=0.3)
    assert time.monotonic() - began < 2, "only the first decision waits for a ranker that is stuck"
    release.set()
    reasons = [row["reason"] for row in rows]
    assert reasons == [None, "no answer within 0.3 s"] + ["the ranker is still busy with an earlier decision"] * 4


def test_a_ranker_that_is_too_late_is_told_to_stop(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stoppable(ScriptedRanker):
        stop = threading.Event()

    told = []

    def until_stopped(known, pool, rng):
        told.append(Stoppable.stop.wait(10))
        raise TimeoutError("stopped")

    monkeypatch.setattr(proposals, "LONGEST_REST", 0.0)
    settings = RankerSettings(startup=0, pool=16, deadline=0.5)
    with Search(SPACE, history=tmp_path / "x.db", ranker=Stoppable(until_stopped), ranker_settings=settings) as search:
        for _ in range(3):
            search.tell(search.ask(), 0.0)
            while search._proposer._thread.is_busy:
                time.sleep(0.01)
    assert told == [True] * 3
    with search.history() as history:
        assert [row["reason"] for row in history.db["decisions"].rows] == ["no answer within 0.5 s"] * 3


def test_a_ranker_that_comes_back_is_used_again(tmp_path) -> None:
    release, calls = threading.Event(), []

    def slow_once(known, pool, rng):
        calls.append(1)
        if len(calls) == 1:
            release.wait(30)
        return np.zeros(len(pool))

    ranker = ScriptedRanker(slow_once)
    settings = RankerSettings(startup=0, pool=16, deadline=0.2)
    with Search(SPACE, history=tmp_path / "x.db", ranker=ranker, ranker_settings=settings) as search:
        search.tell(search.ask(), 0.0)
        release.set()
        time.sleep(0.2)
        search.tell(search.ask(), 0.0)
    with search.history() as history:
        assert [row["fallback"] for row in history.db["decisions"].rows] == [1, 0]


def test_equal_scores_are_decided_at_random_and_repeatably(tmp_path) -> None:
    def codes(name: str, seed: int) -> list[str]:
        ranker = ScriptedRanker(lambda known, pool, rng: np.zeros(len(pool)))
        settings = RankerSettings(startup=0, pool=16)
        with Search(SPACE, history=tmp_path / name, ranker=ranker, ranker_settings=settings, seed=seed) as search:
            return [search.ask().code for _ in range(10)]

    assert codes("a.db", 1) == codes("b.db", 1)
    assert codes("a.db", 1) != codes("c.db", 2)


def test_minimised_values_are_shown_to_the_ranker_so_that_higher_is_better(tmp_path) -> None:
    seen = []

    def note(known, pool, rng):
        seen.append(known.values.tolist())
        return np.zeros(len(pool))

    settings = RankerSettings(startup=0, pool=16)
    ranker = ScriptedRanker(note)
    with Search(SPACE, history=tmp_path / "x.db", ranker=ranker, ranker_settings=settings, goal="minimize") as search:
        for loss in (2.0, 1.0, 3.0):
            search.tell(search.ask(), loss)
        search.ask()
    assert seen[-1] == [-2.0, -1.0, -3.0]


class Slow(RandomRanker):
    """Takes its time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.is_closed = False

    def score(self, known, pool, rng):
        time.sleep(self._seconds)
        return super().score(known, pool, rng)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(("seconds", "is_closed"), [(0.2, True), (5.0, False)])
def test_a_ranker_is_freed_before_the_interpreter_ends_unless_it_stalls(seconds: float, is_closed: bool) -> None:
    ranker = Slow(seconds)
    thread = RankerThread(ranker)
    thread.rank(ObservationLog(2).view(), np.zeros((3, 2), dtype=np.uint8), np.random.default_rng(0))
    began = time.monotonic()
    thread.close()
    assert ranker.is_closed is is_closed
    assert time.monotonic() - began < 4


def test_a_call_that_was_given_up_before_its_thread_came_to_it_stops() -> None:
    """On a machine so busy that the deadline passes before the thread runs."""

    class Stoppable(ScriptedRanker):
        stop = threading.Event()

    def note(known, pool, rng):
        seen.append(Stoppable.stop.is_set())
        return np.zeros(3)

    free = threading.Event()
    seen: list[bool] = []
    thread = RankerThread(Stoppable(note))
    thread._submit(lambda: free.wait(30))
    answer = thread.rank(ObservationLog(2).view(), np.zeros((3, 2), dtype=np.uint8), np.random.default_rng(0))
    thread.give_up()
    free.set()
    answer.result(30)
    thread.close()
    assert seen == [True]


def test_a_ranker_s_own_failures_leave_a_search_repeatable(tmp_path) -> None:
    """However fast its trials are."""

    def decided_by(pause: float) -> list[str]:
        asked = []

        def fails_at_first(known, pool, rng):
            asked.append(len(known))
            if len(asked) < 5:
                raise ValueError("not yet")
            return pool.sum(axis=1).astype(float)

        path, settings = tmp_path / f"{pause}.db", RankerSettings(startup=1, pool=16)
        with Search(SPACE, history=path, ranker=ScriptedRanker(fails_at_first), ranker_settings=settings) as search:
            for number in range(12):
                search.tell(search.ask(), float(number))
                time.sleep(pause)
            return [trial.proposed_by for trial in search.history().trials()]

    assert decided_by(0.0) == decided_by(0.15)


def test_an_error_that_comes_as_the_deadline_passes_is_a_failure(tmp_path) -> None:
    class JustNow(Future):
        """Done from the second look on."""

        looks = 0

        def done(self) -> bool:
            self.looks += 1
            return self.looks > 1 and super().done()

    with Search(SPACE, history=tmp_path / "x.db", ranker=ScriptedRanker(raises)) as search:
        session, proposer = search._open(), search._ready_proposer()
        draft = proposer.begin(session, session.observations())
        late: Future = JustNow()
        late.set_exception(RuntimeError("model on fire"))
        chosen = proposer.finish(session, replace(draft, trial=99, scores=late))
        assert chosen.trial == 1
