"""`Search`: a search from Python, run with workers, or asked and told by hand.

```python
space = SearchSpace({"width": [8, 16, 32], "kernel": [3, 5]})
Search(space, history="widths.db", evaluator=evaluate, trials=20, workers=2).run()

with Search(space, history="by_hand.db", ranker="evolution") as search:
    trial = search.ask()
    search.tell(trial, score(trial.config))
```
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ncode_search import __version__
from ncode_search.agent import agent_lock, devices, fidelity, run_record
from ncode_search.agent.asked import AskedTrial, Told, record
from ncode_search.agent.database import BUSY_TIMEOUT, exists, usable
from ncode_search.agent.errors import (
    HistoryLockedError,
    IllegalTransitionError,
    InputError,
    NcodeError,
    OwnerUnclearError,
    RankerGoneError,
    SearchFailedError,
)
from ncode_search.agent.functions import evaluator_table, log_imports
from ncode_search.agent.history import History, Objective, Trial
from ncode_search.agent.leases import LEASE
from ncode_search.agent.loop import LAST_PATIENCE, PATIENCE, SearchLoop
from ncode_search.agent.observations import Codes
from ncode_search.agent.observer import Observer
from ncode_search.agent.outcome import Outcome
from ncode_search.agent.proposals import Proposer
from ncode_search.agent.ranking import ranker_of
from ncode_search.agent.ranking.base import Ranker
from ncode_search.agent.session import Focus, Session
from ncode_search.agent.settings import NotifySettings, RankerSettings, SearchSettings, parse_duration
from ncode_search.agent.signals import Interruption, handling_signals
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.waiting import until_passed
from ncode_search.agent.watching import watched
from ncode_search.agent.worker import Setup
from ncode_search.agent.workers import Worker, start_again
from ncode_search.evaluators.python import SCRIPT_NAME

logger = logging.getLogger(__name__)

FIRST_PAUSES = (1.0,)
"""Seconds before a worker that died as the search was started is started once more; what is wrong dies again."""


class SpaceExhaustedError(SearchFailedError):
    """Raised by `Search.ask` when every code of the space has been proposed, as far as can be told."""


class Search:
    """A search of one space for one objective, kept in one history file. Not safe across threads.

    Args:
        space: What is searched.
        history: The SQLite file; made by the first `run` or `ask`, resumed by later ones.
        evaluator: A function ``evaluate(config, context) -> float | Result`` at the top of a module or script, or the
            ``[evaluator]`` table of a search file as a mapping. None: ask and tell only.
        ranker: ``embedded``, ``llama``, ``random`` or ``evolution``, or an object that follows the `Ranker` protocol;
            default: what `ranker_settings` say.
        ranker_settings: Pool size, deadline, model and the like.
        notify: A command to run when something happens during a run.
        folder: Where relative paths of the evaluator and of the ranker's model start, and where the command of `notify`
            runs; default: the current folder.
        observer: Is told what happens during a run.
        plan: Codes to evaluate in this order, shape ``(n, L)``, in place of what would be proposed.
        settings: The fields of `SearchSettings`: trials, workers, seed, goal, timeout, retries, patience and more.

    Raises:
        InputError: for settings that cannot be.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        history: str | Path,
        evaluator: Callable[..., Any] | Mapping[str, Any] | None = None,
        ranker: str | Ranker | None = None,
        ranker_settings: RankerSettings | None = None,
        notify: NotifySettings | None = None,
        folder: str | Path = ".",
        observer: Observer | None = None,
        plan: Codes | None = None,
        **settings: Any,
    ) -> None:
        self.space = space
        self.path = Path(history)
        self.settings = SearchSettings(**settings)
        self._model_folder = self._evaluator_folder = Path(folder).absolute()
        if callable(evaluator):
            evaluator, self._evaluator_folder = evaluator_table(evaluator)
        self._evaluator = evaluator
        self._observer = observer or Observer()
        self._plan = plan
        self._notify = notify or NotifySettings()
        self._ranker_settings = ranker_settings or RankerSettings()
        self._ranker = None if isinstance(ranker, str) else ranker
        if isinstance(ranker, str):
            self._ranker_settings = dataclasses.replace(self._ranker_settings, kind=ranker)
        self._session: Session | None = None
        self._proposer: Proposer | None = None
        self._loop: SearchLoop | None = None
        self._interruption = Interruption()

    # Running with workers

    def run(self) -> Outcome:
        """Start or resume the search, and return when it is done or was asked to stop.

        SIGINT lets the trials under way finish, SIGTERM gives them `signals.TERM_GRACE` seconds; a second one ends
        them.

        Raises `InputError` for wrong settings and files, before a new history is made; `SearchFailedError` where it
        cannot go on. Where there is a history, it says so.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.run_async())
        raise NcodeError("run() cannot be used inside an event loop; use `await search.run_async()`")

    async def run_async(self) -> Outcome:
        """The same inside a running event loop."""
        if SCRIPT_NAME in sys.modules:
            raise NcodeError(
                'a worker imports this script, so start the search under `if __name__ == "__main__":` only'
            )
        if self._evaluator is None:
            raise InputError("a search without an evaluator cannot run by itself; give one, or use ask() and tell()")
        task = asyncio.current_task()
        assert task is not None
        self._interruption = Interruption(lambda: self._cut_off(task))
        with handling_signals(self._interruption.heard):
            return await self._run()

    async def _run(self) -> Outcome:
        workers = self._make_workers()
        try:
            # An existing history is looked at first, so that a wrong one is refused at once, and a finished one is
            # reported at once; a new one is made last, when everything else has been found good.
            if exists(self.path):
                (await self._opened()).end_leftovers()
            if self._session is None or self._session.completed < self.settings.trials:
                return await self._run_with(workers)
            with contextlib.suppress(sqlite3.Error):
                run_record.nothing_left(self._session.history)
            return self._outcome()
        except asyncio.CancelledError:
            if not self._interruption.is_asked:
                raise
            return self._outcome(stopped=True, interrupted=self._loop is not None)
        finally:
            self._loop = None
            self._interruption.over()
            # The history last: the last one to close the file folds the write-ahead log into it.
            await asyncio.gather(*(worker.close() for worker in workers))
            self.close()

    async def _run_with(self, workers: list[Worker]) -> Outcome:
        imported = log_imports(self._evaluator or {}, self._evaluator_folder)
        is_new = self._session is None
        if is_new:
            await self._make_ready(workers)
        session = await self._opened()
        run_record.begin(session.history)
        async with watched(
            self._observer, self.path, self.space, self.settings, self._notify, self._model_folder,
            imported, lambda: self._interruption.is_asked,
        ) as observer:  # fmt: skip
            return await self._recorded(session, workers, observer, is_ready=is_new)

    async def _recorded(self, session: Session, workers: list[Worker], observer: Observer, is_ready: bool) -> Outcome:
        """The run, with its end written down and told, be it before its first trial."""
        try:
            observer.opened(session.completed, session.history.best())
            if not is_ready:
                await self._make_ready(workers)
            loop = self._begin(session, workers, observer)
            await loop.run()
            if session.completed >= self.settings.trials:
                session.sweep(pruned=True)
            outcome = self._ended(session, loop)
            end = outcome.how, outcome.paused
        except BaseException as error:
            end = run_record.of_error(error)
            raise
        finally:
            self._interruption.over()
            # Nobody may be kept from ending by a history that cannot be written, which may be why it ends.
            with contextlib.suppress(sqlite3.Error):
                run_record.end(session.history, *end)
            observer.ended(*end)
        return outcome

    def _begin(self, session: Session, workers: list[Worker], observer: Observer) -> SearchLoop:
        session.history.remember("settings", dataclasses.asdict(self.settings))
        session.history.record_start(self._changeable([worker.device.name for worker in workers]))
        self._loop = SearchLoop(session, self._ready_proposer(), workers, self.settings, observer)
        self._interruption.can_end_by(self._loop.stop)
        return self._loop

    def _ended(self, session: Session, loop: SearchLoop) -> Outcome:
        ended, proven = loop.exhausted, session.candidates.has_listed_all
        return self._outcome(
            exhausted=ended and proven, nothing_new=ended and not proven, stopped=self._interruption.is_asked,
            paused=loop.rules.pause, stagnant=loop.rules.is_stagnant,
        )  # fmt: skip

    def _changeable(self, names: list[str]) -> dict[str, Any]:
        """The settings that may be others at every start; `names`: of the devices."""
        search, ranker = dataclasses.asdict(self.settings), dataclasses.asdict(self._ranker_settings)
        return {"search": search, "ranker": ranker, "devices": names, "version": __version__}

    def _cut_off(self, task: asyncio.Task[Any]) -> None:
        if self._session is not None:
            self._session.history.wait_at_most(LAST_PATIENCE)
        task.cancel()

    async def _make_ready(self, workers: list[Worker]) -> None:
        """Build the evaluator in every worker and load the ranker; all at the same time, for it takes seconds."""
        load = asyncio.wrap_future(self._ready_proposer().load())
        starts = [start_again(worker, FIRST_PAUSES, SearchFailedError) for worker in workers]
        model = self._ranker_settings.model
        for result in await asyncio.gather(load, *starts, return_exceptions=True):
            if isinstance(result, RankerGoneError) and self._session and self._session.history.was_ranked_by(model):
                logger.warning("%s; evolution decides until it is back", result)
            elif isinstance(result, BaseException):
                raise result

    def _make_workers(self) -> list[Worker]:
        assert self._evaluator is not None
        return [
            Worker(device, Setup(
                history=str(self.path.absolute()),
                evaluator=dict(self._evaluator),
                space={name: list(options) for name, options in self.space.positions.items()},
                folder=str(self._evaluator_folder),
                seed=self.settings.seed, goal=self.settings.goal, timeout=self.settings.timeout_seconds,
                device=device.torch_name, threads=device.threads,
                stopping=fidelity.stopping(self.settings),
            ))
            for device in devices.assign(self.settings)
        ]  # fmt: skip

    def _outcome(self, **how: Any) -> Outcome:
        if self._session is None:
            return Outcome(0, None, **how)
        return Outcome(self._session.completed, self._session.history.best(), **how)

    # Asking and telling

    def ask(self, *, lease: str | float | None = None) -> AskedTrial:
        """The next trial to evaluate.

        Without a lease it is the caller's until it is told, or the process ends. With one, written like `timeout`, it
        is the caller's as long as it is renewed (`AskedTrial.renew`), also after a restart of this process; then it is
        given to the next who asks.

        Raises `SpaceExhaustedError` where every code has been proposed, `InputError` as `run` does, also where the
        history is gone by now.
        """
        seconds = None if lease is None else parse_duration("lease", lease)
        if self._proposer is None:
            self._ready_proposer().load().result()
        with self._held() as session:
            session.reclaim()
            if not session.queue:
                self._decide(session)
            chosen = session.queue.popleft()
            try:
                attempt = session.lend(chosen, seconds)
            except IllegalTransitionError:  # told meanwhile by whom it had been taken back from
                session.settle(chosen.trial)
                return self.ask(lease=lease)
        return AskedTrial(chosen.trial, chosen.text, chosen.config, attempt, self.path.absolute(), seconds or LEASE)

    def tell(
        self,
        trial: AskedTrial,
        value: float | None = None,
        *,
        metrics: Mapping[str, float] | None = None,
        error: str | None = None,
    ) -> Told:
        """Record what an asked trial came to: a finite value, or the error that it failed with.

        Returns ``"recorded"``, or ``"duplicate"`` where the trial was taken back and given to somebody else meanwhile;
        its value is kept in the table `duplicates` then.

        Raises `InputError` where neither or no number is given, `IllegalTransitionError` where the trial was told
        before, `HistoryError` where the history is gone, or cannot be used: it may be told again later.
        """
        with self._held() as session:
            told = record(session.history, trial, value, metrics, error)
            if told == "recorded":  # otherwise whoever was given the trial settles it
                session.settle(trial.id)
        return told

    def enqueue(self, config: Mapping[str, Any]) -> Trial:
        """Have a configuration of your own evaluated before those that are yet to be chosen.

        It is recorded and evaluated as given, and told apart by its canonical code. Where the history has a trial of
        its class already, finished or not, that one is returned and nothing is queued: a script may say this at
        every start.

        Raises `InputError` where it is no configuration of the space, or not feasible, and as `ask` does.
        """
        with self._held() as session:
            return session.enqueue(config)

    @contextlib.contextmanager
    def _held(self) -> Iterator[Session]:
        """The session of one that asks and tells; what is wrong with its file is one clear line."""
        with usable(self.path):
            session = self._open()
            session.history.check_place()
            yield session

    def _decide(self, session: Session) -> None:
        proposer = self._ready_proposer()
        draft = proposer.begin(session, session.observations())
        if draft is None:
            if not session.candidates.has_listed_all:
                raise SpaceExhaustedError(f"no new code was found among {self.space.size_text}, too many to be listed")
            raise SpaceExhaustedError(f"the space is exhausted: {self.space.size_text}; all have been proposed")
        if draft.scores is not None:
            concurrent.futures.wait([draft.scores], timeout=proposer.deadline)
        proposer.finish(session, draft)

    # What it holds

    def history(self) -> History:
        """The history, opened for reading. Raises `HistoryError` where the search has not begun."""
        return History.read(self.path)

    def close(self) -> None:
        """Give up the history and the ranker; the next `run` or `ask` takes them again."""
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._proposer is not None:
            self._proposer.close()
            self._proposer = None

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def _opened(self) -> Session:
        """As `_open`; signals are heard while another program holds the file locked, or another host is watched."""
        session = await until_passed(HistoryLockedError, self._open_or_watch, BUSY_TIMEOUT)
        session.history.wait_at_most(BUSY_TIMEOUT)
        return session

    async def _open_or_watch(self) -> Session:
        try:
            return self._open(PATIENCE, waits=False)
        except OwnerUnclearError:
            await agent_lock.watch_out(self.path, PATIENCE)
            return self._open(PATIENCE, waits=False)

    def _open(self, patience: float = BUSY_TIMEOUT, *, waits: bool = True) -> Session:
        if self._session is None:
            settings = self.settings
            focus = None if settings.prune_after is None else Focus(settings.prune_after, settings.keep)
            self._session = Session(
                self.path, self.space, Objective(settings.goal, self._evaluator), focus, self._plan,
                keeps_pruned=settings.stop == "asha", patience=patience, waits=waits,
            )  # fmt: skip
        return self._session

    def _ready_proposer(self) -> Proposer:
        if self._proposer is None:
            settings = self._ranker_settings
            trials = self.settings.trials if self._evaluator is not None else None
            ranker = self._ranker or ranker_of(settings, self.space, self._model_folder)
            self._proposer = Proposer(ranker, settings, self.settings.seed, settings.startup_trials(trials))
        return self._proposer
