"""A search's hold on its history: claimed, taken over from whoever had it before, and mirrored in memory.

The file is the truth; the mirror (what was observed, what was ever proposed) is what decisions look at. The methods
below keep the two in step, in the order in which the agent learns of things. Used by one thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent import agent_lock, fidelity, leases, trial_folders
from ncode_search.agent.database import BUSY_TIMEOUT, translated
from ncode_search.agent.errors import IllegalTransitionError, InputError
from ncode_search.agent.history import Decision, History, Narrowing, Objective, Trial
from ncode_search.agent.leases import CALLER, LeaseWatch, is_suspect
from ncode_search.agent.observations import FORECASTERS, Codes, ObservationLog, Observations
from ncode_search.agent.pool import CandidatePool, PlannedPool
from ncode_search.agent.process_tree import end_leftovers
from ncode_search.agent.processes import ProcessId
from ncode_search.agent.pruned_space import best_options, narrowed
from ncode_search.agent.rungs import Rungs
from ncode_search.agent.space import Config, SearchSpace
from ncode_search.agent.states import TrialState

logger = logging.getLogger(__name__)

_REMEMBERED = 256
"""Decisions whose forecasts are read back when a history is opened; older ones matter no more."""
MOST_LOST = 20
"""Attempts at a trial that may be lost together with the agent or the machine before it is taken to be the reason."""
_NOTHING = np.full(len(FORECASTERS), np.nan)


@dataclass(frozen=True)
class Chosen:
    """A trial that waits for a worker."""

    trial: int
    text: str
    """The code as it was proposed; `config` is what it says."""
    config: Config
    canonical: str
    code: NDArray[np.uint8]
    """The vector of `canonical`."""
    is_new: bool
    """Whether it never ran: what was interrupted goes first."""


@dataclass(frozen=True)
class Focus:
    """After so many completed trials, pools keep to the options that did best in them."""

    after: int
    keep: int | float
    """How many options of every position, or what share of them, see `prune`."""


def is_innocent(trial: Trial) -> bool:
    """Whether its attempts that were lost, and not failed, are so few that it need not be the reason."""
    return trial.attempt - trial.failures < MOST_LOST


class Session:
    """An open and claimed history. `keeps_pruned`: whether trials that were stopped early may be gone on with.

    `plan`: codes to propose in place of drawn ones, shape ``(n, L)``; `patience`: seconds to wait for others' locks;
    `waits`: see `agent_lock.claim`.

    Raises `HistoryError` where the file cannot be used, `HistoryInUseError` where another agent has it.
    """

    def __init__(
        self,
        path: Path,
        space: SearchSpace,
        objective: Objective,
        focus: Focus | None = None,
        plan: Codes | None = None,
        *,
        keeps_pruned: bool = False,
        patience: float = BUSY_TIMEOUT,
        waits: bool = True,
    ) -> None:
        self.history = History.open(path, space.positions, objective, space.declared, patience=patience)
        self.space = space
        self.candidates = CandidatePool(space) if plan is None else PlannedPool(space, plan)
        self._focus = focus
        self._keeps_pruned = keeps_pruned
        self.queue: deque[Chosen] = deque()
        """Chosen trials without a worker, the oldest first."""
        self.orphans: deque[Trial] = deque()
        """Running trials that the worker of a former agent still trains, or that a caller has a lease of."""
        self._watches: dict[int, LeaseWatch] = {}
        self._asked: set[int] = set()
        self.sign = objective.sign
        """1 where higher values are better, -1 where lower ones are."""
        self._forecasts: dict[str, NDArray[np.float64]] = {}
        self._log = ObservationLog(len(space))
        self._rungs: Rungs | None = None
        """From the first question for a promotion on."""
        self._last: Chosen | None = None
        self._renewed = time.monotonic()
        try:
            with translated(path):
                agent_lock.claim(self.history, waits=waits)
                self._load()
        except BaseException:
            self.history.close()
            raise

    def close(self) -> None:
        """Give the history up."""
        # Where it cannot be written now, the claim goes with this process.
        with contextlib.suppress(sqlite3.OperationalError):
            agent_lock.release(self.history)
        self.history.close()

    def renew(self) -> None:
        """Give a sign of life, if it is time for one; call this every few seconds."""
        if time.monotonic() - self._renewed > agent_lock.RENEW_EVERY:
            agent_lock.renew(self.history)
            self._renewed = time.monotonic()

    # What is known

    @property
    def completed(self) -> int:
        """Trials that completed."""
        return self._log.completed

    @property
    def live(self) -> int:
        """Trials that are queued or running."""
        return self._log.live

    @property
    def next_trial(self) -> int:
        """The number of the next trial."""
        return (self._last.trial if self._last else 0) + 1

    def observations(self) -> Observations:
        """All that is known now."""
        return self._log.view()

    def observations_before_last(self) -> Observations:
        """What was known before the newest trial ended, whether it has ended or not."""
        return self._log.view_without_last(self._last.code) if self._last else self._log.view()

    def draw_pool(self, known: Observations, size: int, rng: np.random.Generator) -> Codes:
        """A pool for the next trial; see `CandidatePool.draw`."""
        if self._focus is not None and len(known) >= self._focus.after:
            self._narrow(known, self._focus)
            self._focus = None
        return self.candidates.draw(known, size, rng)

    # What happens

    def add(self, code: NDArray[np.uint8], proposed_by: str, decision: Decision | None = None) -> Chosen:
        """A decision was made, or needed none: record it, and queue its trial."""
        chosen = self._chosen(self.next_trial, self.space.to_text(code[np.newaxis])[0])
        self.history.add(chosen.trial, chosen.text, proposed_by, decision, canonical=chosen.canonical)
        if decision is not None and decision.predicted is not None:
            self._forecasts[chosen.canonical] = self._forecast(decision.predicted)
        self.candidates.mark_seen(code[np.newaxis])
        self._enqueue(chosen)
        self._last = chosen
        return chosen

    def enqueue(self, config: Mapping[str, Any]) -> Trial:
        """Queue a configuration that nobody chose, unless there is a trial of its class: that trial then."""
        given = self.space.encode(config)[np.newaxis]
        canonical = self.space.canonical(given)
        if not self.space.fits(canonical)[0]:
            costs = zip(self.space.cost_names, self.space.cost(canonical)[0], strict=True)
            said = "".join(f"; it costs {cost:g} {name}" for name, cost in costs)
            raise InputError(f"the configuration breaks a bound or is forbidden{said}: {json.dumps(dict(config))}")
        known = self.history.trial_of(self.space.to_text(canonical)[0])
        return known or self.history.trial(self.add(given[0], "enqueued").trial)

    def settle(self, trial: int) -> Trial:
        """A worker says that it has recorded a trial: read what it wrote."""
        row = self.history.trial(trial)
        if not row.state.is_finished:
            return row
        partial = fidelity.last_score(self.history, trial) if row.state is TrialState.PRUNED else None
        self._forecasts.pop(row.canonical, None)
        if not (row.state is TrialState.PRUNED and self._keeps_pruned):
            trial_folders.tidy(self.history.path, trial)
        self._watches.pop(trial, None)
        self._asked.discard(trial)
        self._forget(trial)
        if self._rungs is not None:
            # Before the log changes: what fails, be it here, is done once more, and all of it.
            self._rungs.finished(row, self._log.in_flight - {trial})
        if row.state is TrialState.COMPLETE:
            assert row.value is not None
            self._log.complete(trial, self.sign * row.value)
        elif partial is not None:
            self._log.prune(trial, self.sign * partial)
        else:
            self._log.fail(trial)
        return row

    def promote(self, reduction: int) -> Chosen | None:
        """Take the stopped trial that may go on, if there is one; see `Rungs.promotable`."""
        if self._rungs is None:
            self._rungs = Rungs(self.history, self.sign, self._log.in_flight)
        found = self._rungs.promotable(reduction, self._log.in_flight)
        if found is None:
            return None
        trial, budget = found
        chosen, places = self._chosen(trial, self.history.trial(trial).code, is_new=False), self._rungs.places(trial)
        self.history.promote(trial, budget)
        self._rungs.promoted(places)
        self._log.promote(trial)
        return chosen

    def sweep(self, *, pruned: bool) -> None:
        """Remove what finished trials have left in their folders; `pruned`: also stopped ones, which start anew if they
        are promoted after all.
        """
        for trial in trial_folders.numbers(self.history.path):
            state = self.history.trial(trial).state if trial <= self.history.last_trial() else None
            if state is not None and state.is_finished and (pruned or state is not TrialState.PRUNED):
                trial_folders.tidy(self.history.path, trial)

    def interrupted(self, trial: int, attempt: int) -> None:
        """A running trial was given up through no fault of its own: it waits again, before all others."""
        row = self.history.trial(trial)
        is_under_way = row.state is TrialState.RUNNING and row.attempt == attempt
        if not (is_under_way and self.take_back(row)):
            self._settle_or_queue(trial)

    def take_back(self, seen: Trial) -> bool:
        """The attempt is nobody's any more: its trial waits again. False where it was renewed or finished meanwhile."""
        if is_innocent(seen):
            taken = self.history.take_back(seen)
        else:
            lost = seen.attempt - seen.failures
            taken = self._give_up(seen, f"{lost} attempts were lost together with whatever ran them")
        if taken:
            self._settle_or_queue(seen.id)
        return taken

    def _give_up(self, seen: Trial, error: str) -> bool:
        try:
            self.history.fail(seen.id, seen.attempt, error)
        except IllegalTransitionError:
            return False
        return True

    def _settle_or_queue(self, trial: int) -> None:
        row = self.settle(trial)
        if row.state is TrialState.QUEUED:
            self.queue.appendleft(self._chosen(trial, row.code, is_new=False))

    # Trials that others run

    def still_running(self, trial: Trial) -> Trial | None:
        """The row of a trial whose attempt, run by somebody else, is still under way; None where it is over, and what
        it left has been taken over.
        """
        row = self.history.trial(trial.id)
        if row.state is not TrialState.RUNNING or row.attempt != trial.attempt:
            self._settle_or_queue(trial.id)
            return None
        if row.lease_seconds is None and row.id in self._asked:
            return row  # this process's own until it is told
        if not self._watches.setdefault(row.id, LeaseWatch()).is_over(row):
            return row
        return None if self.take_back(row) else self.still_running(row)

    def end_leftovers(self) -> None:
        """End what former workers have started, where they died together with their agent; before any are started."""
        end_leftovers(self.history.path, [ProcessId.parse(row.worker) for row in self.orphans if row.worker])

    def lend(self, chosen: Chosen, lease: float | None) -> int:
        """Start a trial, the first of the queue by now, for a caller of this process; returns the attempt."""
        try:
            attempt = self.history.start(chosen.trial, str(ProcessId.current()), CALLER, lease)
        except sqlite3.OperationalError:
            self.queue.appendleft(chosen)  # for whoever asks once more
            raise
        self._asked.add(chosen.trial)
        self.orphans.append(self.history.trial(chosen.trial))
        return attempt

    def reclaim(self) -> None:
        """Take back what callers were given and did not renew; takes `leases.CONFIRM` seconds where there is any."""
        self._look_after_orphans()
        while any(row.device == CALLER and is_suspect(row) for row in self.orphans):
            time.sleep(leases.CONFIRM)
            self._look_after_orphans()

    def _look_after_orphans(self) -> None:
        # The last first: each of those that are nobody's any more goes to the head of the queue.
        rows = [row for trial in reversed(self.orphans.copy()) if (row := self.still_running(trial))]
        self.orphans = deque(rows[::-1])

    def _forget(self, trial: int) -> None:
        """A caller's trial was told, or a late worker has finished one that waits for another attempt."""
        if any(row.id == trial for row in self.orphans):
            self.orphans = deque(row for row in self.orphans if row.id != trial)
        if any(chosen.trial == trial for chosen in self.queue):
            self.queue = deque(chosen for chosen in self.queue if chosen.trial != trial)

    def _narrow(self, known: Observations, focus: Focus) -> None:
        """Keep to what was kept with this setting before; the first time, to what the first trials say.

        Recorded, because several workers' trials may be in another order after a restart.
        """
        settings = (focus.after, repr(focus.keep))
        before = [one.kept for one in self.history.narrowings() if (one.after, repr(one.keep)) == settings]
        part = narrowed(self.space, before[0] if before else self._kept(known, focus))
        if part is self.space:
            logger.warning("no code of the best options keeps to the space's bounds; the whole space is searched on")
        self.candidates.keep_to(part)

    def _kept(self, known: Observations, focus: Focus) -> Mapping[str, list[Any]]:
        """The best options now, put down in the history."""
        kept = best_options(self.space, known, focus.after, focus.keep)
        self.history.narrow(Narrowing(focus.after, focus.keep, self.next_trial, kept))
        return kept

    # Opening

    def _load(self) -> None:
        """Take over what the file holds: what was interrupted is queued, what a living worker trains is left to it."""
        # One snapshot: a worker of a former agent may finish its trial at any moment, also between two of these reads.
        with self.history.snapshot():
            seen = self.history.codes()
            texts, values = self.history.finished()
            predicted = self.history.predicted(_REMEMBERED)
            running = list(self.history.trials(TrialState.RUNNING))
            queued = list(self.history.trials(TrialState.QUEUED))
            stopped = fidelity.stopped(self.history)
            last = self.history.last_trial()
            if last:
                self._last = self._chosen(last, self.history.trial(last).code)
        self._forecasts = {code: self._forecast(numbers) for code, numbers in predicted.items()}
        self.candidates.mark_seen(self.space.from_joined(seen))
        self._load_finished(texts, values)
        self._load_stopped(stopped)
        self.sweep(pruned=not self._keeps_pruned)
        for trial in queued:
            self._enqueue(self._chosen(trial.id, trial.code, is_new=trial.attempt == 0))
        for trial in running:
            self._log.begin(trial.id, self._code(trial.canonical), self._forecasts.get(trial.canonical))
        self.orphans = deque(running)
        self._look_after_orphans()

    def _load_finished(self, texts: list[str], values: NDArray[np.float64]) -> None:
        codes = self.space.from_text(texts)
        complete = ~np.isnan(values)
        forecasts = [
            self._forecasts.get(text, _NOTHING)
            for text, is_complete in zip(texts, complete, strict=True)
            if is_complete
        ]
        self._log.load(
            codes[complete],
            self.sign * values[complete],
            codes[~complete],
            np.array(forecasts).reshape(-1, len(_NOTHING)),
        )

    def _load_stopped(self, trials: list[tuple[int, str, float]]) -> None:
        codes = self.space.from_text([code for _, code, _ in trials])
        partial = [self.sign * score for *_, score in trials]
        self._log.load_pruned([trial for trial, *_ in trials], codes, partial)

    def _forecast(self, predicted: Mapping[str, float]) -> NDArray[np.float64]:
        return self.sign * np.array([predicted.get(name, np.nan) for name in FORECASTERS])

    def _enqueue(self, chosen: Chosen) -> None:
        self._log.begin(chosen.trial, chosen.code, self._forecasts.get(chosen.canonical))
        self.queue.append(chosen)

    def _chosen(self, trial: int, text: str, *, is_new: bool = True) -> Chosen:
        given = self._code(text)
        code = self.space.canonical(given[np.newaxis])[0]
        return Chosen(trial, text, self.space.decode(given), self.space.to_text(code[np.newaxis])[0], code, is_new)

    def _code(self, text: str) -> NDArray[np.uint8]:
        code: NDArray[np.uint8] = self.space.from_text([text])[0]
        return code
