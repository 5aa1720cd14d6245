"""The folders that trials have beside their history: ``search.db.trials/17`` for trial 17 of ``search.db``.

A folder is empty when its trial begins, lives through all attempts, and goes when the trial is finished, but for what
its evaluator declared to keep.

An evaluator makes its checkpoint before it reports the epoch. Where a search stops trials early by what they report, a
kill between the two must not lose the report: beside the checkpoint stands that of the last report, and a further
attempt goes on from there.

Nothing is written or removed through a link that leads out of the run's folder, whenever it was put there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from ncode_search.agent.run_files import leads_out
from ncode_search.evaluators.base import CHECKPOINT, KEPT

logger = logging.getLogger(__name__)

REPORTED = "reported.safetensors"
"""The checkpoint of the last epoch that was reported: another name of the same file until the next one is made."""


def folder_of(history: Path, trial: int) -> Path:
    """Where the trial's folder is, or would be."""
    return all_of(history) / str(trial)


def all_of(history: Path) -> Path:
    """Where the folders of all trials are."""
    return history.with_name(f"{history.name}.trials")


def numbers(history: Path) -> list[int]:
    """The trials that have a folder."""
    folders = all_of(history)
    if leads_out(folders, history) or not folders.is_dir():
        return []
    return [int(entry.name) for entry in folders.iterdir() if entry.name.isdecimal()]


def remove_links(history: Path, trial: int) -> None:
    """Before the trial's folder is used: links that stand in its way and lead out of the run's folder are removed.

    Raises `OSError` where that is not possible.
    """
    folder = folder_of(history, trial)
    for path in (folder.parent, folder, folder / KEPT):
        if leads_out(path, history):
            logger.warning("%s: is a symbolic link to %s, out of the run's folder; removed", path, os.readlink(path))
            path.unlink(missing_ok=True)


def clear(history: Path, trial: int) -> None:
    """Before the first attempt: a folder of this number is of a history that is gone."""
    remove_links(history, trial)
    folder = folder_of(history, trial)
    if folder.is_symlink():  # what it leads to is somebody else's
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def mark_reported(history: Path, trial: int) -> None:
    """The epoch of the trial's last checkpoint has been reported."""
    remove_links(history, trial)
    folder = folder_of(history, trial)
    if (folder / CHECKPOINT).exists():
        _name_too(folder / CHECKPOINT, folder / REPORTED)


def back_to_report(history: Path, trial: int, *, has_reported: bool) -> None:
    """Before a further attempt: forget a checkpoint whose epoch was not reported."""
    remove_links(history, trial)
    kept, reported = (folder_of(history, trial) / name for name in (CHECKPOINT, REPORTED))
    if reported.exists():
        _name_too(reported, kept)
    elif not has_reported:
        kept.unlink(missing_ok=True)


def _name_too(file: Path, name: Path) -> None:
    """Give a file another name, in place of what has it, at once or not at all; where it can have but one, a copy."""
    if name.exists() and name.samefile(file):
        return
    written = name.with_name(f"{name.name}.tmp")
    written.unlink(missing_ok=True)
    try:
        os.link(file, written)
    except OSError:
        shutil.copyfile(file, written)
    written.replace(name)


def tidy(history: Path, trial: int) -> None:
    """Remove what the trial needs no more, and folders that are empty then."""
    folder = folder_of(history, trial)
    try:
        remove_links(history, trial)
    except OSError as error:
        logger.warning("what trial %d has left is not removed: %s", trial, error)
        return
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            if entry.name != KEPT:
                shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    for empty in (folder / KEPT, folder, folder.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()
