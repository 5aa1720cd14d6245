"""The asynchronous loop: keep every worker busy, keep chosen trials waiting for the next free one, until the search
is done.

Two coroutines share the session: `_propose_ahead` fills its queue, `run` hands queued trials to free workers. Both
sleep until something changes. Workers record their results themselves; the loop only reads them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from ncode_search.agent.bounded_pool import BoundedPool
from ncode_search.agent.database import may_pass, mend
from ncode_search.agent.errors import IllegalTransitionError, InputError, SearchFailedError
from ncode_search.agent.history import Spent, Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.proposals import Proposer
from ncode_search.agent.session import Chosen, Session, is_innocent
from ncode_search.agent.settings import SearchSettings
from ncode_search.agent.stopping_rules import StoppingRules
from ncode_search.agent.worker import Task
from ncode_search.agent.workers import Worker, WorkerDied, start_again

T = TypeVar("T")

logger = logging.getLogger(__name__)

RESTART_PAUSES = (1.0, 5.0, 30.0)
"""Seconds before a worker that could not be replaced is started once more."""
ORPHAN_POLL = 0.2
"""Seconds between two looks at a trial that a former agent's worker still trains."""
PATIENCE = 2.0
"""Seconds that the loop may stand still for another process's transaction."""
LAST_PATIENCE = 0.2
"""Seconds that each of the last writes of a run that is cut off waits for one; the next start does without them."""
PERSIST_PAUSES = (0.5, 2.0, 5.0)
"""Seconds between two tries to write the history."""
HEARTBEAT = 5.0
"""Seconds after which the loop wakes up although nothing happened."""


class SearchLoop:
    """One run of a search over an open session."""

    def __init__(
        self, session: Session, proposer: Proposer, workers: list[Worker], settings: SearchSettings, observer: Observer
    ) -> None:
        self._session = session
        self._proposer = proposer
        self._workers = workers
        self._free = list(range(len(workers)))[::-1]
        self._settings = settings
        self._observer = observer
        self._pool = BoundedPool(len(workers), self._wake)
        self._dispatcher_wakes = asyncio.Event()
        self._proposer_wakes = asyncio.Event()
        self._stopping = False
        # What waits longer waits in `_persist`, where signals are heard.
        session.history.wait_at_most(PATIENCE)
        self.rules = StoppingRules(settings, session.observations().values, session.sign)
        """Whether it should pause, or is stagnant."""
        self.exhausted = False
        """Whether the search ended because no new code was found."""

    def stop(self) -> None:
        """Start nothing new; `run` returns when the trials under way are done."""
        self._stopping = True
        self._wake()

    async def run(self) -> None:
        """Until the search is done, stopped, paused or stagnant. Raises `SearchFailedError` where it cannot go on,
        `HistoryUnavailableError` where its history was taken away.
        """
        self._stopping |= self.rules.is_stagnant
        proposing = asyncio.create_task(self._propose_ahead())
        proposing.add_done_callback(lambda _: self._wake())
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                self._pool.check()
                self._session.history.check_place()
                if proposing.done():
                    proposing.result()
                self._dispatch()
                if self._is_done():
                    break
                await self._dispatcher_wakes.wait()
                self._dispatcher_wakes.clear()
        finally:
            proposing.cancel()
            beating.cancel()
            await asyncio.gather(proposing, beating, return_exceptions=True)
            await self._pool.cancel()
        self._pool.check()

    # Deciding

    async def _propose_ahead(self) -> None:
        while not self._stopping:
            if self._needs_proposal() and not await self._propose():
                self.exhausted = True
                self._wake()
                return
            if not self._needs_proposal():
                await self._proposer_wakes.wait()
                self._proposer_wakes.clear()

    def _needs_proposal(self) -> bool:
        session = self._session
        missing = self._settings.trials - session.completed - self._bound_to_complete(session.live)
        return missing > 0 and len(session.queue) < len(self._workers)

    def _bound_to_complete(self, live: int) -> int:
        """Those of so many trials under way that will complete; where trials are stopped early, nobody knows of any."""
        return live if self._settings.stop is None else 0

    async def _propose(self) -> bool:
        """Make one decision; False where no new code is found."""
        # One worker makes a repeatable search: what its running trial finds must not count, however fast it is.
        one_worker = len(self._workers) == 1
        known = self._session.observations_before_last() if one_worker else self._session.observations()
        draft = await self._persist(lambda: self._proposer.begin(self._session, known))
        if draft is None:
            return False
        if draft.scores is not None:
            scores = asyncio.wrap_future(draft.scores)
            # `finish` looks at what it came to; asyncio must not complain, in the log, that nobody did.
            scores.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait([scores], timeout=self._proposer.deadline)
        await self._persist(lambda: self._proposer.finish(self._session, draft))
        self._dispatcher_wakes.set()
        return True

    # Training

    def _dispatch(self) -> None:
        session = self._session
        while session.orphans and self._pool.has_room:
            self._pool.spawn(self._await_orphan(session.orphans.popleft(), self._free.pop()))
        while self._pool.has_room and not self._stopping:
            if session.completed + self._bound_to_complete(len(self._pool)) >= self._settings.trials:
                return
            chosen = self._next()
            if chosen is None:
                return
            self._pool.spawn(self._train(chosen, self._free.pop()))
            self._proposer_wakes.set()

    def _next(self) -> Chosen | None:
        """What was interrupted goes first, then what may go on, then what is new."""
        session, settings = self._session, self._settings
        goes_first = session.queue and not session.queue[0].is_new
        # One worker makes a repeatable search: a promotion waits until the next trial is chosen, as it does that trial.
        may_promote = len(self._workers) > 1 or session.queue or self.exhausted
        if settings.stop == "asha" and may_promote and not goes_first:
            try:
                promoted = session.promote(settings.reduction)
            except sqlite3.OperationalError as error:
                logger.warning("the history cannot be written (%s); the next trial waits", error)
                return None  # until the next beat
            if promoted is not None:
                return promoted
        return session.queue.popleft() if session.queue else None

    async def _train(self, chosen: Chosen, slot: int) -> None:
        """All attempts at a trial, in one worker slot; one that is to be tried again waits where the run ends."""
        try:
            while not await self._attempt(chosen, slot) and not self._stopping:
                pass
        finally:
            self._free.append(slot)

    async def _attempt(self, chosen: Chosen, slot: int) -> bool:
        """One attempt; whether the trial needs no further one of this run."""
        worker, history = self._workers[slot], self._session.history
        await start_again(worker, RESTART_PAUSES, InputError, SearchFailedError)
        budget = self._settings.least_epochs if self._settings.stop == "asha" else None
        try:
            attempt = await self._persist(
                lambda: history.start(chosen.trial, worker.identity, worker.device.name, budget=budget)
            )
        except IllegalTransitionError:  # finished meanwhile by a late worker
            await self._settle(chosen.trial)
            return True
        self._observer.started(chosen.trial, chosen.text, slot)
        began = time.monotonic()
        try:
            # Counted in the history, so that a restart of the agent gives no trial more attempts.
            retry = (await self._persist(lambda: history.trial(chosen.trial))).failures < self._settings.retries
            task = Task(chosen.trial, attempt, chosen.text, chosen.config, retry)
            await worker.run(task, self._observer.reported)
        except WorkerDied as error:
            await self._record_death(task, error, Spent(time.monotonic() - began))
        except asyncio.CancelledError:
            await worker.kill()
            with contextlib.suppress(sqlite3.OperationalError):  # the next agent finds that nobody runs it
                self._session.interrupted(chosen.trial, attempt)
            raise
        return await self._settle(chosen.trial)

    async def _persist(self, step: Callable[[], T]) -> T:
        """Do what reads or writes the history, however long it is locked or the disk full."""
        for tried in itertools.count():
            try:
                return step()
            except (sqlite3.OperationalError, OSError) as error:
                if not may_pass(error):
                    raise
                level = logging.DEBUG if tried else logging.WARNING
                logger.log(level, "the history cannot be written (%s; %s); the search waits", error, mend(str(error)))
            await asyncio.sleep(PERSIST_PAUSES[min(tried, len(PERSIST_PAUSES) - 1)])
        raise AssertionError("it is tried for ever")

    async def _record_death(self, task: Task, error: WorkerDied, spent: Spent) -> None:
        history, text = self._session.history, str(error)
        try:
            row = await self._persist(lambda: history.trial(task.trial))
            is_excused = error.is_excused or (error.is_interrupted and is_innocent(row))
            if task.retry or is_excused:
                failed = not is_excused
                await self._persist(lambda: history.requeue(task.trial, task.attempt, text, spent, failed=failed))
            else:
                await self._persist(lambda: history.fail(task.trial, task.attempt, text, spent))
        except IllegalTransitionError:
            # It died after it had recorded its result: the result counts.
            logger.debug("trial %d: %s, after it had recorded its result", task.trial, error)

    async def _settle(self, trial: int) -> bool:
        row = await self._persist(lambda: self._session.settle(trial))
        self._observer.finished(row)
        if row.state.is_finished:
            self._heed(row)
        return row.state.is_finished

    def _heed(self, row: Trial) -> None:
        self.rules.finished(row)
        if self.rules.pause and not self._stopping:
            logger.error("the search pauses: %s", self.rules.pause)
        if self.rules.pause or self.rules.is_stagnant:
            self.stop()

    async def _await_orphan(self, trial: Trial, slot: int) -> None:
        """Leave a trial to the living worker of a former agent, then take over what it left.

        Its deadline is for the worker to keep (`keeper`): what looks like a hung one may have a result, and wait for
        the history.
        """
        logger.info("trial %d is still being trained by a worker of the former run; waiting for it", trial.id)
        try:
            while await self._persist(lambda: self._session.still_running(trial)) is not None:  # noqa: ASYNC110
                await asyncio.sleep(ORPHAN_POLL)
            row = await self._persist(lambda: self._session.history.trial(trial.id))
            self._observer.finished(row)
            if row.state.is_finished:
                self._heed(row)
        finally:
            self._free.append(slot)

    # Waiting

    def _is_done(self) -> bool:
        if len(self._pool):
            return False
        enough = self._session.completed >= self._settings.trials
        return self._stopping or enough or (self.exhausted and not self._session.queue)

    async def _beat(self) -> None:
        """Show now and then that the agent lives."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            with contextlib.suppress(sqlite3.OperationalError):  # a later beat will do
                self._session.renew()
            self._observer.beat()
            self._wake()

    def _wake(self) -> None:
        self._dispatcher_wakes.set()
        self._proposer_wakes.set()
