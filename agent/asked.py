"""A trial that was asked for, in the hands of whoever evaluates it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ncode_search.agent.database import translated
from ncode_search.agent.errors import IllegalTransitionError, InputError
from ncode_search.agent.history import History
from ncode_search.agent.space import Config
from ncode_search.evaluators.results import number, plain

Told = Literal["recorded", "duplicate"]
"""What became of a result: it is the trial's; or it came late, when somebody else had been given the trial, and a value
is kept in the table `duplicates` (an error is not).
"""


@dataclass(frozen=True)
class AskedTrial:
    """A trial that the caller evaluates."""

    id: int
    code: str
    config: Config
    attempt: int
    history: Path
    lease: float
    """Seconds that `renew` gives."""

    def renew(self) -> None:
        """Say that the trial is still being evaluated: `ask` gives it to nobody else for `lease` seconds from now.

        From any thread or process that can reach the history's file. Raises `IllegalTransitionError` where the trial
        was taken back; its result is still welcome as long as nobody else was given it. Raises `HistoryError` where
        the history is gone, or cannot be used.
        """
        with translated(self.history), History.attach(self.history) as history:
            if not history.renew(self.id, self.attempt, self.lease):
                raise IllegalTransitionError(f"trial {self.id}, attempt {self.attempt}, was taken back")


def record(
    history: History, trial: AskedTrial, value: float | None, metrics: Mapping[str, float] | None, error: str | None
) -> Told:
    """Write down what an asked trial came to. Raises as `Search.tell` does."""
    if (value is None) == (error is None):
        raise InputError(f"tell trial {trial.id} either a value or an error")
    said = f"trial {trial.id} was told"
    try:
        score = None if value is None else float(number(value, said=said))
        numbers = plain(metrics or {}, said)
    except TypeError as error_in_it:
        raise InputError(str(error_in_it)) from None
    except (AttributeError, OverflowError, ValueError) as error_in_it:  # no mapping, beyond all floats, several values
        raise InputError(f"{said} what is no number ({error_in_it})") from None
    if score is not None and not math.isfinite(score):
        raise InputError(f"trial {trial.id} was told {value}, which is no score; tell it an error instead")
    try:
        if score is None:
            history.fail(trial.id, trial.attempt, error or "", late=True)
        else:
            history.complete(trial.id, trial.attempt, score, numbers)
    except IllegalTransitionError:
        if history.trial(trial.id).attempt == trial.attempt:
            raise
        return "duplicate"
    return "recorded"
