"""The files that a search keeps beside its history, and how they are opened: with the user's umask, and never through
a symbolic link that leads out of the run's folder.

Whoever may write into a folder of runs must not be able to have a search of somebody else overwrite a file of theirs.
All these files have names that begin with the history's.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ncode_search.agent.errors import HistoryError

_MOST_BYTES = 255
"""Of a file's name, in all file systems that matter."""


def beside(history: Path, suffix: str) -> Path:
    """The file ``search.db.suffix`` of ``search.db``."""
    return history.with_name(f"{history.name}.{suffix}")


def check(history: Path) -> None:
    """Raises `HistoryError` where no history can be: what is there is no file, or its name cannot be one."""
    try:
        str(history.absolute()).encode()  # SQLite's names are UTF-8
        is_there, is_file = True, stat.S_ISREG(history.stat().st_mode)
    except FileNotFoundError:
        is_there = is_file = False
    except OSError as error:
        raise HistoryError(
            f"{history}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    except ValueError:  # a NUL, or bytes that are no UTF-8
        raise HistoryError(f"{history}: no history can have this name; choose another history path") from None
    if is_there and not is_file:
        what = "a folder" if history.is_dir() else "no regular file"
        raise HistoryError(f"{history}: is {what}; choose another history path")
    # What is there may be read although a new one of this name would have no backups.
    _check_length(history, "-journal" if is_there else ".backup.new-journal")


def _check_length(history: Path, suffix: str) -> None:
    most = _MOST_BYTES - len(suffix)
    if len(os.fsencode(history.name)) > most:
        raise HistoryError(
            f"{history}: the names of the files beside it would be too long; choose a name of at most {most} bytes"
        )


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
