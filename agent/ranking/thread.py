"""The one thread that a ranker lives in, behind a queue.

A model must not be called from two threads, and a call that stalls must not take the search or the interpreter's exit
with it: so a daemon thread of our own and not an executor, whose threads are joined at exit.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from ncode_search.agent.observations import Codes, Observations
from ncode_search.agent.ranking.base import Ranker, RankerInfo, Ranking, ranking_of

CLOSE_LIMIT = 1.0
"""Seconds that `RankerThread.close` waits. llama.cpp tells its log, which is Python's, also while a model is freed: an
interpreter that ends meanwhile ends that thread inside of a destructor, and C++ aborts the process.
"""


class RankerThread:
    """Runs `load`, `rank` and `close` of one ranker, one after another."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._stop: threading.Event = getattr(ranker, "stop", threading.Event())
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._latest: Future[Any] | None = None
        self._thread = threading.Thread(target=self._serve, name="ranker", daemon=True)
        self._thread.start()

    @property
    def info(self) -> RankerInfo:
        """Who ranks."""
        return self._ranker.info

    @property
    def is_busy(self) -> bool:
        """Whether a call is still under way, such as one that its caller no longer waits for."""
        return self._latest is not None and not self._latest.done()

    def load(self) -> Future[None]:
        """Make the ranker ready; the future raises what `Ranker.load` raises."""
        return self._submit(self._ranker.load)

    def rank(self, known: Observations, pool: Codes, rng: np.random.Generator) -> Future[Ranking]:
        """The ranker's answer for the pool; the future raises what `ranking_of` raises."""
        # Here, and not when the thread comes to it: it may by then have been given up.
        self._stop.clear()
        return self._submit(lambda: ranking_of(self._ranker, known, pool, rng))

    def give_up(self) -> None:
        """Nobody waits for the call under way any more: let it end soon, where the ranker can."""
        self._stop.set()

    def close(self) -> None:
        """Free the model as soon as the call under way is over; one that stalls is not waited for."""
        self.give_up()
        self._submit(self._ranker.close)
        self._calls.put(None)
        self._thread.join(CLOSE_LIMIT)

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._latest = future
        self._calls.put((call, future))
        return future

    def _serve(self) -> None:
        while item := self._calls.get():
            call, future = item
            try:
                result = call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
