"""How the latest run of a search stands: when it began, and how and why it ended. A row of the history's table
`meta`, so that whoever looks later knows a search that paused itself from one that died.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from ncode_search.agent.errors import NcodeError
from ncode_search.agent.history import History

_KEY = "run"

DONE, EXHAUSTED, STAGNANT = "done", "exhausted", "stagnant"
STOPPED, INTERRUPTED, PAUSED, FAILED = "stopped", "interrupted", "paused", "failed"
GOOD_ENDS = (DONE, EXHAUSTED, STAGNANT)
"""Ends after which there is nothing left to do."""


@dataclass(frozen=True)
class RunRecord:
    """The latest run; times are seconds since 1970."""

    began: float
    ended: float | None = None
    """None: it is under way, or its agent died."""
    how: str | None = None
    """One of the words above; None as `ended`."""
    reason: str | None = None
    """In words, where `how` does not say it all."""


def begin(history: History) -> None:
    """A run begins."""
    history.remember(_KEY, asdict(RunRecord(time.time())))


def end(history: History, how: str, reason: str | None = None) -> None:
    """The run has ended."""
    record = latest(history.meta()) or RunRecord(time.time())
    history.remember(_KEY, asdict(replace(record, ended=time.time(), how=how, reason=reason)))


def nothing_left(history: History) -> None:
    """A start has found the search done: so it is, though its latest run may have been killed right at its end."""
    record = latest(history.meta())
    if record is not None and record.how not in GOOD_ENDS:
        end(history, DONE)


def of_error(error: BaseException) -> tuple[str, str | None]:
    """How a run ended that ended with an exception: one word of the above, and the reason."""
    is_cut_off = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt))
    # The text of another error may be a number or a name, which says nothing by itself.
    kind = "" if is_cut_off or isinstance(error, NcodeError) else f"{type(error).__name__}: "
    return INTERRUPTED if is_cut_off else FAILED, f"{kind}{error}" or None


def latest(meta: dict[str, Any]) -> RunRecord | None:
    """The latest run by what `History.meta` says; None where there was none, as under ask and tell."""
    stored = meta.get(_KEY)
    return None if stored is None else RunRecord(**stored)
