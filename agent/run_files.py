"""The files that a search keeps beside its history, and how they are opened: with the user's umask, and never through
a symbolic link that leads out of the run's folder.

Whoever may write into a folder of runs must not be able to have a search of somebody else overwrite a file of theirs.
All these files have names that begin with the history's.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ncode_search.agent.errors import HistoryError


def beside(history: Path, suffix: str) -> Path:
    """The file ``search.db.suffix`` of ``search.db``."""
    return history.with_name(f"{history.name}.{suffix}")


def refuse_links(history: Path) -> None:
    """Raises `HistoryError` where the history, or what is kept beside it, is a link that leads out of the folder."""
    for path in _files(history):
        if leads_out(path, history):
            raise HistoryError(
                f"{path}: is a symbolic link to {os.readlink(path)}, out of the run's folder; remove it, "
                "or choose the place that it leads to as the history path"
            )


def leads_out(path: Path, history: Path) -> bool:
    """Whether it is a symbolic link to what is not in the history's folder."""
    return path.is_symlink() and not path.resolve().is_relative_to(history.absolute().parent.resolve())


def _files(history: Path) -> Iterator[Path]:
    yield history
    for suffix in ("-wal", "-shm", "-journal"):  # SQLite's own
        yield history.with_name(history.name + suffix)
    yield from history.parent.glob(f"{glob.escape(history.name)}.*")
    yield from beside(history, "trials").glob("*")


def create(path: Path) -> None:
    """An empty file, with the rights that the umask leaves: SQLite's own are never another's to write.

    Raises `HistoryError` where that is not possible.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise HistoryError(f"{path}: cannot be made ({error.strerror}); check the permissions of its folder") from None


def open_no_link(path: str, flags: int) -> int:
    """An `opener` for `open`. Raises `OSError` where the path is a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
