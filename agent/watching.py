"""All that looks after a run beside the loop: the log, backups, the user's own command; each one an `Observer`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ncode_search.agent import run_log
from ncode_search.agent.backup import Backups
from ncode_search.agent.history import Objective
from ncode_search.agent.notify import Notifier
from ncode_search.agent.observer import Observer, Observers
from ncode_search.agent.settings import NotifySettings, SearchSettings
from ncode_search.agent.space import SearchSpace


@contextlib.contextmanager
def watched(
    observer: Observer,
    history: Path,
    space: SearchSpace,
    settings: SearchSettings,
    notify: NotifySettings,
    folder: Path,
) -> Iterator[Observer]:
    """Who is to be told what happens in a run, `observer` first; `folder`: where the user's command is run."""
    with contextlib.ExitStack() as stack:
        observers = [observer, stack.enter_context(run_log.written(history))]
        backups = stack.enter_context(contextlib.closing(Backups(history, settings.backup_every)))
        observers.append(backups)
        if notify.command is not None:
            notifier = Notifier(notify, history, space, Objective(settings.goal), settings.trials, folder)
            observers.append(stack.enter_context(contextlib.closing(notifier)))
        yield Observers(observers)
