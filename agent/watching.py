"""All that looks after a run beside the loop: the log, backups, the user's own command; each one an `Observer`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from ncode_search.agent import run_log
from ncode_search.agent.backup import Backups
from ncode_search.agent.history import Objective
from ncode_search.agent.notify import Notifier
from ncode_search.agent.observer import Observer, Observers
from ncode_search.agent.settings import NotifySettings, SearchSettings
from ncode_search.agent.space import SearchSpace


@contextlib.asynccontextmanager
async def watched(
    observer: Observer,
    history: Path,
    space: SearchSpace,
    settings: SearchSettings,
    notify: NotifySettings,
    folder: Path,
    imported: Sequence[str],
    is_hurried: Callable[[], bool],
) -> AsyncIterator[Observer]:
    """Who is to be told what happens in a run, `observer` first; `folder`: where the user's command is run.

    `imported`: the code of the user's that is run;
    `is_hurried`: whether somebody waits for the end, who may be about to kill this process.
    """
    with run_log.written(history, imported) as log:
        threads: list[Backups | Notifier] = [Backups(history, settings.backup_every)]
        if notify.command is not None:
            threads.append(Notifier(notify, history, space, Objective(settings.goal), settings.trials, folder))
        try:
            yield Observers([observer, log, *threads])
        finally:
            # Beside the event loop, in which signals are heard.
            await asyncio.gather(*(asyncio.to_thread(one.close, is_hurried) for one in threads))
