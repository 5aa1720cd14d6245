"""What users of such tools complain about. Each has a test named after it, ``test_complaint_NN_...``, here or where its
like are: ``pytest -k complaint_05``. docs/testing.md says what was broken on purpose to see each of them fail.

1. The same configuration is proposed again and again, in parallel (optuna#2021, #3055, #1547).
2. The sampler ignores trials that are still running (optuna#892, #6738).
3. "database is locked"; a reader crashes the search; a heartbeat dies of it (optuna#820, #4994).
4. Two workers claim the same queued trial (optuna#4002, #4621).
5. Trials stay running for ever after a kill -9, also under ask and tell (optuna#3215, #485).
6. Retries cover stale trials only, not exceptions, and lose the intermediate values (optuna#6085, #6474, #2993).
7. A late heartbeat fails a live trial (optuna#5470, #3198).
8. A hung trial cannot be killed (ray#47475, optuna#1484, openevolve#79, #399, #409).
9. One stalled call to the language model blocks the search (ShinkaEvolve#143).
10. Resume counts numbers and not completions; the searcher's state is lost (ShinkaEvolve#98, ray#30861, SMAC3#1081).
11. A resume with the same seed replays the same random trials (optuna#3255).
12. Memory is not freed; one out-of-memory configuration ends the run (optuna#5931, ray#23971, syne-tune#773).
13. Novelty is checked only after the expensive evaluation (openevolve#439).
14. The model's answer cannot be parsed and the search silently stands still (openevolve#241, #427).
15. One model object freezes or crashes under concurrent calls (llama-cpp-python#1995, #1529).
16. The sampler slows down as trials accumulate (optuna#2172, #763, #3053).
17. No way to place trials on GPUs (optuna#1365).
18. The result is lost when the evaluation crashes at its end (autoresearch#7).
"""

import contextlib
import re
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ncode_search import Search, SearchSpace
from ncode_search.agent import devices
from ncode_search.agent.observations import ObservationLog
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.ranking.base import RankerInfo
from ncode_search.agent.ranking.baselines import EvolutionRanker
from ncode_search.agent.ranking.thread import RankerThread
from ncode_search.agent.settings import RankerSettings, SearchSettings
from tests.faults.harness import FaultySearch

TESTS = Path(__file__).parent.parent
SPACE = SearchSpace({"a": [0, 1, 2], "b": [0, 1, 2]})
AT_ONCE = RankerSettings(startup=0)
"""The ranker is asked from the first trial on."""


def test_every_complaint_has_a_test_named_after_it() -> None:
    listed = re.findall(r"^(\d+)\. ", __doc__, re.MULTILINE)
    tested = {
        name
        for file in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def test_complaint_(\d\d)_", file.read_text(), re.MULTILINE)
    }
    assert sorted(tested) == [f"{int(number):02}" for number in listed] == [f"{number:02}" for number in range(1, 19)]


@pytest.mark.parametrize("ranker", ["evolution", "embedded"])
def test_complaint_01_nothing_is_proposed_twice_however_many_are_asked_in_parallel(tmp_path: Path, ranker: str) -> None:
    with Search(SPACE, history=tmp_path / "x.db", ranker=ranker, ranker_settings=AT_ONCE) as search:
        first = [search.ask() for _ in range(4)]
        search.tell(first[0], 1.0)
        rest = [search.ask() for _ in range(5)]
        with search.history() as history:
            assert [trial.proposed_by for trial in history.trials()] == 9 * [ranker]
    assert len({trial.code for trial in [*first, *rest]}) == 9


def test_complaint_02_what_runs_is_known_to_the_ranker_and_not_drawn_again(tmp_path: Path) -> None:
    seen = []

    class Notes(EvolutionRanker):
        def score(self, known, pool, rng):
            seen.append((set(map(tuple, known.pending)), set(map(tuple, pool))))
            return super().score(known, pool, rng)

    with Search(SPACE, history=tmp_path / "x.db", ranker=Notes(), ranker_settings=AT_ONCE) as search:
        asked = [search.ask() for _ in range(6)]
    running = [tuple(SPACE.from_text([trial.code])[0]) for trial in asked]
    assert len(seen) == 6
    for number, (pending, pool) in enumerate(seen):
        assert pending == set(running[:number])
        assert not pending & pool


@pytest.mark.slow
def test_complaint_06_exceptions_are_tried_again_and_no_epoch_is_lost(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "raises_once", trials=2, workers=1, retries=1) as search:
        search.finish()
        search.check()
        assert search.rows("SELECT DISTINCT state, attempt, failures FROM trials") == [("complete", 2, 1)]
        epochs = search.rows("SELECT attempt, step FROM epochs WHERE trial = 1 ORDER BY attempt, step")
        assert epochs == [(1, 1), (1, 2), (2, 1)]


def test_complaint_15_a_model_is_never_called_twice_at_once() -> None:
    class Jealous:
        info = RankerInfo("jealous")
        alone = threading.Lock()
        threads: set[int]

        def __init__(self) -> None:
            self.threads = set()

        def load(self) -> None:
            self.threads.add(threading.get_ident())

        def score(self, known, pool, rng):
            assert self.alone.acquire(blocking=False), "somebody else is in here"
            time.sleep(0.02)
            self.alone.release()
            self.threads.add(threading.get_ident())
            return np.zeros(len(pool))

        def close(self) -> None:
            self.threads.add(threading.get_ident())

    ranker = Jealous()
    thread, known, pool = RankerThread(ranker), ObservationLog(2).view(), np.zeros((3, 2), dtype=np.uint8)
    thread.load()
    callers = [threading.Thread(target=lambda: thread.rank(known, pool, np.random.default_rng(0))) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert thread.rank(known, pool, np.random.default_rng(0)).result(10).scores.tolist() == [0, 0, 0]
    thread.close()
    assert len(ranker.threads) == 1


def test_complaint_16_a_decision_costs_as_much_after_20000_trials_as_after_500() -> None:
    space = SearchSpace({f"p{at}": [0, 1, 2, 3] for at in range(20)})

    def seconds(trials: int) -> float:
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 4, size=(trials, 20), dtype=np.uint8)
        log, candidates = ObservationLog(20), CandidatePool(space)
        log.load(codes, rng.random(trials), codes[:0])
        candidates.mark_seen(codes)
        spent = []
        for _ in range(15):
            began = time.thread_time()
            pool = candidates.draw(log.view(), 128, rng)
            EvolutionRanker().score(log.view(), pool, rng)
            spent.append(time.thread_time() - began)
        return min(spent)

    assert seconds(20_000) < 3 * seconds(500) + 0.001


def test_complaint_16_a_search_of_20000_trials_asks_and_tells_as_fast_as_one_of_500(tmp_path: Path) -> None:
    """All of it, the file included: what a decision looks at must not be read from the history every time."""
    space = SearchSpace({f"p{at}": [0, 1, 2, 3] for at in range(20)})

    def seconds(trials: int) -> float:
        settings = {"history": tmp_path / f"{trials}.db", "ranker": "evolution", "ranker_settings": AT_ONCE}
        with Search(space, **settings) as search:
            search.tell(search.ask(), 0.0)
        add_complete(settings["history"], space, trials)
        spent = []
        with Search(space, **settings) as search:
            for value in range(9):
                began = time.process_time()
                search.tell(search.ask(), float(value))
                spent.append(time.process_time() - began)
        return min(spent[1:])  # the first opens the file

    assert seconds(20_000) < 2 * seconds(500) + 0.005


def add_complete(history: Path, space: SearchSpace, trials: int) -> None:
    """So many trials, after the first one, as if they had been evaluated."""
    texts = space.to_text(np.random.default_rng(0).integers(0, 4, size=(trials, len(space)), dtype=np.uint8))
    rows = [(number, text, text, 1 / number) for number, text in enumerate(texts, 2)]
    with contextlib.closing(sqlite3.connect(history)) as db, db:
        db.executemany(
            "INSERT INTO trials (id, code, canonical, state, value, attempt, proposed_by, created_at, finished_at) "
            "VALUES (?, ?, ?, 'complete', ?, 1, 'evolution', 0, 0)",
            rows,
        )


def test_complaint_17_workers_are_spread_over_the_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assigned = devices.assign(SearchSettings(workers=4))
    assert [device.name for device in assigned] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert {device.environment["CUDA_VISIBLE_DEVICES"] for device in assigned} == {"0", "1"}


@pytest.mark.slow
def test_complaint_18_what_crashes_after_its_end_has_its_result(tmp_path: Path) -> None:
    with FaultySearch(tmp_path, "crashes_at_its_end", trials=3, workers=1, retries=0) as search:
        search.finish()
        search.check()
        assert search.rows("SELECT DISTINCT state, failures FROM trials") == [("complete", 0)]
