"""Who is told what happens during a run: the display, the log, backups, the user's own command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ncode_search.agent.history import Trial


class Observer:
    """Is told what happens; this one does nothing with it. Called by the loop's thread, which must not be held up."""

    def opened(self, completed: int, best: Trial | None) -> None:
        """The history is open, with so many completed trials of earlier runs and the best of them."""

    def started(self, trial: int, text: str, worker: int) -> None:
        """A worker slot has begun an attempt."""

    def reported(self, trial: int, step: int, metrics: Mapping[str, float]) -> None:
        """A running trial has finished an epoch."""

    def finished(self, trial: Trial) -> None:
        """A trial is complete, failed or pruned, or is queued for another attempt."""

    def beat(self) -> None:
        """Some seconds have passed, whether anything happened or not."""

    def ended(self, how: str, reason: str | None) -> None:
        """The run is over, in one word of `run_record`, and in words where that does not say it all."""


class Observers(Observer):
    """Tells several, in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._all = observers

    def opened(self, completed: int, best: Trial | None) -> None:
        """See `Observer`."""
        for one in self._all:
            one.opened(completed, best)

    def started(self, trial: int, text: str, worker: int) -> None:
        """See `Observer`."""
        for one in self._all:
            one.started(trial, text, worker)

    def reported(self, trial: int, step: int, metrics: Mapping[str, float]) -> None:
        """See `Observer`."""
        for one in self._all:
            one.reported(trial, step, metrics)

    def finished(self, trial: Trial) -> None:
        """See `Observer`."""
        for one in self._all:
            one.finished(trial)

    def beat(self) -> None:
        """See `Observer`."""
        for one in self._all:
            one.beat()

    def ended(self, how: str, reason: str | None) -> None:
        """See `Observer`."""
        for one in self._all:
            one.ended(how, reason)
