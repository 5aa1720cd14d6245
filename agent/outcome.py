"""How a run of a search ended."""

from __future__ import annotations

from dataclasses import dataclass

from ncode_search.agent import run_record
from ncode_search.agent.history import Trial


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    completed: int
    """Completed trials in the history, those of earlier runs included."""
    best: Trial | None
    exhausted: bool = False
    """Every code of the space was tried."""
    nothing_new: bool = False
    """No new code was found, in a space that is too large to be listed."""
    stopped: bool = False
    """Somebody asked it to stop before it was done."""
    interrupted: bool = False
    """Somebody asked twice: trials under way were given up; they are queued again."""

    paused: str | None = None
    """Why it paused by itself, as trial after trial failed; another run goes on."""
    stagnant: bool = False
    """`patience` trials completed without a new best."""

    @property
    def how(self) -> str:
        """In one word of `run_record`."""
        ends = {
            run_record.INTERRUPTED: self.interrupted,
            run_record.PAUSED: self.paused,
            run_record.STOPPED: self.stopped,
            run_record.STAGNANT: self.stagnant,
            run_record.EXHAUSTED: self.exhausted or self.nothing_new,
        }
        return next((how for how, is_so in ends.items() if is_so), run_record.DONE)
