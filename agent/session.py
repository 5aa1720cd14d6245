"""A search's hold on its history: claimed, taken over from whoever had it before, and mirrored in memory.

The file is the truth; the mirror (what was observed, what was ever proposed) is what decisions look at. The methods
below keep the two in step, in the order in which the agent learns of things. Used by one thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent import agent_lock
from ncode_search.agent.database import translated
from ncode_search.agent.history import Decision, History, Objective, Trial
from ncode_search.agent.observations import FORECASTERS, ObservationLog, Observations
from ncode_search.agent.pool import CandidatePool, Focus
from ncode_search.agent.processes import ProcessId
from ncode_search.agent.space import Config, SearchSpace
from ncode_search.agent.states import TrialState

_REMEMBERED = 256
"""Decisions whose forecasts are read back when a history is opened; older ones matter no more."""
_NOTHING = np.full(len(FORECASTERS), np.nan)


@dataclass(frozen=True)
class Chosen:
    """A trial that waits for a worker."""

    trial: int
    code: NDArray[np.uint8]
    text: str
    config: Config


class Session:
    """An open and claimed history.

    Raises `HistoryError` where the file cannot be used, `HistoryInUseError` where another agent has it.
    """

    def __init__(self, path: Path, space: SearchSpace, objective: Objective, focus: Focus | None = None) -> None:
        self.history = History.open(path, space.positions, objective, space.declared)
        self.space = space
        self.candidates = CandidatePool(space, focus=focus)
        self.queue: deque[Chosen] = deque()
        """Chosen trials without a worker, the oldest first."""
        self.orphans: deque[Trial] = deque()
        """Running trials that the worker of a former agent still trains."""
        self.sign = objective.sign
        """1 where higher values are better, -1 where lower ones are."""
        self._forecasts: dict[str, NDArray[np.float64]] = {}
        self._log = ObservationLog(len(space))
        self._last: Chosen | None = None
        self._renewed = time.monotonic()
        try:
            with translated(path):
                agent_lock.claim(self.history)
                self._load()
        except BaseException:
            self.history.close()
            raise

    def close(self) -> None:
        """Give the history up."""
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

    # What happens

    def add(self, code: NDArray[np.uint8], proposed_by: str, decision: Decision) -> Chosen:
        """A decision was made: record it, and queue its trial."""
        chosen = self._chosen(self.next_trial, self.space.to_text(code[np.newaxis])[0])
        self.history.add(chosen.trial, chosen.text, proposed_by, decision)
        if decision.predicted is not None:
            self._forecasts[chosen.text] = self._forecast(decision.predicted)
        self.candidates.mark_seen(code[np.newaxis])
        self._enqueue(chosen)
        self._last = chosen
        return chosen

    def settle(self, trial: int) -> Trial:
        """A worker says that it has recorded a trial: read what it wrote."""
        row = self.history.trial(trial)
        if row.state.is_finished:
            self._forecasts.pop(row.code, None)
        if row.state is TrialState.COMPLETE:
            assert row.value is not None
            self._log.complete(trial, self.sign * row.value)
        elif row.state.is_finished:
            self._log.fail(trial)
        return row

    def interrupted(self, trial: int, attempt: int) -> None:
        """A running trial was given up through no fault of its own: it waits again, before all others."""
        row = self.history.trial(trial)
        if row.state is TrialState.RUNNING and row.attempt == attempt:
            self.history.requeue(trial, attempt, row.error)
        row = self.settle(trial)
        if row.state is TrialState.QUEUED:
            self.queue.appendleft(self._chosen(trial, row.code))

    # Opening

    def _load(self) -> None:
        """Take over what the file holds: what was interrupted is queued, what a living worker trains is left to it."""
        # One snapshot: a worker of a former agent may finish its trial at any moment, also between two of these reads.
        with self.history.snapshot():
            texts, values = self.history.finished()
            predicted = self.history.predicted(_REMEMBERED)
            running = list(self.history.trials(TrialState.RUNNING))
            queued = list(self.history.trials(TrialState.QUEUED))
            last = self.history.last_trial()
            if last:
                self._last = self._chosen(last, self.history.trial(last).code)
        self._forecasts = {code: self._forecast(numbers) for code, numbers in predicted.items()}
        self._load_finished(texts, values)
        for trial in queued:
            self._enqueue(self._chosen(trial.id, trial.code))
        for trial in reversed(running):
            self._log.begin(trial.id, self._code(trial.code), self._forecasts.get(trial.code))
            if is_being_trained(trial):
                self.orphans.appendleft(trial)
            else:
                self.interrupted(trial.id, trial.attempt)
        self.candidates.mark_seen(self.space.from_text([trial.code for trial in [*running, *queued]]))

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
        self.candidates.mark_seen(codes)

    def _forecast(self, predicted: Mapping[str, float]) -> NDArray[np.float64]:
        return self.sign * np.array([predicted.get(name, np.nan) for name in FORECASTERS])

    def _enqueue(self, chosen: Chosen) -> None:
        self._log.begin(chosen.trial, chosen.code, self._forecasts.get(chosen.text))
        self.queue.append(chosen)

    def _chosen(self, trial: int, text: str) -> Chosen:
        code = self._code(text)
        return Chosen(trial, code, text, self.space.decode(code))

    def _code(self, text: str) -> NDArray[np.uint8]:
        code: NDArray[np.uint8] = self.space.from_text([text])[0]
        return code


def is_being_trained(trial: Trial) -> bool:
    """Whether the process that runs a trial still does; on another machine its lease must tell."""
    if trial.worker is None:
        return False
    process = ProcessId.parse(trial.worker)
    if process == ProcessId.current():
        return False  # asked for by a `Search` of this process that is gone
    return process.is_alive if process.is_local else (trial.lease_until or 0) > time.time()
