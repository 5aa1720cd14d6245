"""A trial that was asked for, in the hands of whoever evaluates it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ncode_search.agent.errors import IllegalTransitionError
from ncode_search.agent.history import History
from ncode_search.agent.space import Config


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
        was taken back; its result is still welcome as long as nobody else was given it.
        """
        with History.attach(self.history) as history:
            if not history.renew(self.id, self.attempt, self.lease):
                raise IllegalTransitionError(f"trial {self.id}, attempt {self.attempt}, was taken back")
