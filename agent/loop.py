"""The asynchronous loop: keep every worker busy, keep chosen trials waiting for the next free one, until the search
is done.

Two coroutines share the session: `_propose_ahead` fills its queue, `run` hands queued trials to free workers. Both
sleep until something changes. Workers record their results themselves; the loop only reads them back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from ncode_search.agent.bounded_pool import BoundedPool
from ncode_search.agent.errors import IllegalTransitionError, InputError, SearchFailedError
from ncode_search.agent.history import Spent, Trial
from ncode_search.agent.proposals import Proposer
from ncode_search.agent.session import Chosen, Session, is_being_trained
from ncode_search.agent.settings import SearchSettings
from ncode_search.agent.states import TrialState
from ncode_search.agent.worker import Task
from ncode_search.agent.workers import Worker, WorkerDied, kill_orphan

logger = logging.getLogger(__name__)

FIRST_FAILURES = 10
"""A search whose first so many trials all fail with one and the same error is ended: its evaluator must be wrong."""
RESTART_PAUSES = (1.0, 5.0, 30.0)
"""Seconds before a worker that could not be replaced is started once more."""
ORPHAN_POLL = 0.2
"""Seconds between two looks at a trial that a former agent's worker still trains."""
HEARTBEAT = 5.0
"""Seconds after which the loop wakes up although nothing happened."""


class Observer:
    """Is told what happens, for the person who watches; this one does nothing with it."""

    def opened(self, completed: int, best: Trial | None) -> None:
        """The history is open, with so many completed trials of earlier runs and the best of them."""

    def started(self, trial: int, text: str, worker: int) -> None:
        """A worker slot has begun an attempt."""

    def reported(self, trial: int, step: int, metrics: Mapping[str, float]) -> None:
        """A running trial has finished an epoch."""

    def finished(self, trial: Trial) -> None:
        """A trial is complete, failed or pruned, or is queued for another attempt."""


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
        self._failures: list[str] = []
        self.exhausted = False
        """Whether the search ended because no new code was found."""

    def stop(self) -> None:
        """Start nothing new; `run` returns when the trials under way are done."""
        self._stopping = True
        self._wake()

    async def run(self) -> None:
        """Until the search is done or stopped. Raises `SearchFailedError` where it cannot go on."""
        proposing = asyncio.create_task(self._propose_ahead())
        proposing.add_done_callback(lambda _: self._wake())
        beating = asyncio.create_task(self._beat())
        try:
            while not self._is_done():
                self._pool.check()
                if proposing.done():
                    proposing.result()
                self._dispatch()
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
        missing = self._settings.trials - session.completed - session.live
        return missing > 0 and len(session.queue) < len(self._workers)

    async def _propose(self) -> bool:
        """Make one decision; False where no new code is found."""
        # One worker makes a repeatable search: what its running trial finds must not count, however fast it is.
        one_worker = len(self._workers) == 1
        known = self._session.observations_before_last() if one_worker else self._session.observations()
        draft = self._proposer.begin(self._session, known)
        if draft is None:
            return False
        if draft.scores is not None:
            await asyncio.wait([asyncio.wrap_future(draft.scores)], timeout=self._proposer.deadline)
        self._proposer.finish(self._session, draft)
        self._dispatcher_wakes.set()
        return True

    # Training

    def _dispatch(self) -> None:
        session = self._session
        while session.orphans and self._pool.has_room:
            self._pool.spawn(self._await_orphan(session.orphans.popleft(), self._free.pop()))
        while session.queue and self._pool.has_room and not self._stopping:
            if session.completed + len(self._pool) >= self._settings.trials:
                return
            self._pool.spawn(self._train(session.queue.popleft(), self._free.pop()))
            self._proposer_wakes.set()

    async def _train(self, chosen: Chosen, slot: int) -> None:
        """All attempts at a trial, in one worker slot."""
        try:
            for attempt in range(self._settings.retries + 1):
                if await self._attempt(chosen, slot, retry=attempt < self._settings.retries):
                    return
        finally:
            self._free.append(slot)

    async def _attempt(self, chosen: Chosen, slot: int, *, retry: bool) -> bool:
        """One attempt; whether the trial is finished by it."""
        worker, history = self._workers[slot], self._session.history
        await self._restart(worker)
        attempt = history.start(chosen.trial, worker.identity, worker.device.name)
        self._observer.started(chosen.trial, chosen.text, slot)
        began = time.monotonic()
        try:
            task = Task(chosen.trial, attempt, chosen.text, chosen.config, retry)
            await worker.run(task, self._observer.reported)
        except WorkerDied as error:
            self._record_death(chosen.trial, attempt, str(error), Spent(time.monotonic() - began), retry=retry)
        except asyncio.CancelledError:
            await worker.kill()
            self._session.interrupted(chosen.trial, attempt)
            raise
        return self._settle(chosen.trial)

    async def _restart(self, worker: Worker) -> None:
        """Start the worker if it is not running; a moment without memory or device must not end a search of days."""
        for pause in RESTART_PAUSES:
            try:
                return await worker.start()
            except (InputError, SearchFailedError) as error:
                logger.warning("%s; trying again in %g s", error, pause)
                await asyncio.sleep(pause)
        return await worker.start()

    def _record_death(self, trial: int, attempt: int, error: str, spent: Spent, *, retry: bool) -> None:
        history = self._session.history
        try:
            (history.requeue if retry else history.fail)(trial, attempt, error, spent)
        except IllegalTransitionError:
            # It died after it had recorded its result: the result counts.
            logger.debug("trial %d: %s, after it had recorded its result", trial, error)

    def _settle(self, trial: int) -> bool:
        row = self._session.settle(trial)
        self._observer.finished(row)
        if row.state is TrialState.FAILED:
            self._count_failure(row)
        return row.state.is_finished

    def _count_failure(self, row: Trial) -> None:
        self._failures.append((row.error or "no reason").strip().splitlines()[-1])
        alike = len(set(self._failures)) == 1
        if alike and len(self._failures) >= FIRST_FAILURES and not self._session.completed:
            raise SearchFailedError(
                f"the first {len(self._failures)} trials all failed in the same way, so the search stops: "
                f"{self._failures[0]}; `ncode trials {self._session.history.path}` has them all"
            )

    async def _await_orphan(self, trial: Trial, slot: int) -> None:
        """Leave a trial to the living worker of a former agent, then take over what it left."""
        logger.info("trial %d is still being trained by a worker of the former run; waiting for it", trial.id)
        try:
            while self._is_orphan_running(trial):  # noqa: ASYNC110 - another process ends it; no event tells
                await asyncio.sleep(ORPHAN_POLL)
            self._session.interrupted(trial.id, trial.attempt)
            self._observer.finished(self._session.history.trial(trial.id))
        finally:
            self._free.append(slot)

    def _is_orphan_running(self, trial: Trial) -> bool:
        row = self._session.history.trial(trial.id)
        if row.state is not TrialState.RUNNING or row.attempt != trial.attempt or not is_being_trained(row):
            return False
        timeout = self._settings.timeout_seconds
        if timeout is not None and time.time() > (row.started_at or 0) + timeout:
            kill_orphan(row)
        return True

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
            self._session.renew()
            self._wake()

    def _wake(self) -> None:
        self._dispatcher_wakes.set()
        self._proposer_wakes.set()
