"""When a run should end before its trials are done: it fails and fails, and pauses; or finds nothing better, and is
done.

Only trials that finish in this run count as failures: who starts a paused search again has mended what was wrong, and
gets as many trials as before. For `patience` the trials of earlier runs count too.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.history import Trial
from ncode_search.agent.settings import SearchSettings
from ncode_search.agent.states import TrialState
from ncode_search.agent.wording import last_line


class StoppingRules:
    """Looks at each finished trial.

    Args:
        settings: The limits.
        values: Of the trials that completed so far, the oldest first; higher is better.
        sign: What to multiply a trial's value with so that higher is better.
    """

    def __init__(self, settings: SearchSettings, values: NDArray[np.float64], sign: float) -> None:
        self._settings = settings
        self._sign = sign
        self._best = float(values.max()) if len(values) else -np.inf
        self._since_best = len(values) - 1 - int(values.argmax()) if len(values) else 0
        self._finished = 0
        self._failed = 0
        self._recent: deque[str | None] = deque(maxlen=settings.failure_window)
        """Errors of the newest finished trials; None: it did not fail."""
        self.pause: str | None = None
        """Why the search should pause; None: it should not."""

    @property
    def is_stagnant(self) -> bool:
        """Whether so many trials completed without a new best that there is no use in going on."""
        return self._settings.patience is not None and self._since_best >= self._settings.patience

    def finished(self, trial: Trial) -> None:
        """A trial has finished for good."""
        self._finished += 1
        failed = trial.state is TrialState.FAILED
        self._failed += failed
        self._recent.append(last_line(trial.error) if failed else None)
        if trial.value is not None:
            self._completed(self._sign * trial.value)
        self.pause = self.pause or self._storm()

    def _completed(self, value: float) -> None:
        self._since_best = 0 if value > self._best else self._since_best + 1
        self._best = max(self._best, value)

    def _storm(self) -> str | None:
        settings, errors = self._settings, [error for error in self._recent if error is not None]
        if self._failed == self._finished >= settings.first_failures:
            return f"the first {self._failed} trials of this run all failed: {_most_frequent(errors)}"
        if len(self._recent) == settings.failure_window and len(errors) > settings.failure_limit * len(self._recent):
            return f"{len(errors)} of the last {len(self._recent)} trials failed: {_most_frequent(errors)}"
        return None


def _most_frequent(errors: list[str]) -> str:
    """One kind of error as it is, several by their most frequent."""
    kinds = set(errors)
    if len(kinds) == 1:
        return f"in the same way, {errors[0]}"
    common = max(sorted(kinds), key=errors.count)
    return f"in {len(kinds)} ways, most often {common}"
