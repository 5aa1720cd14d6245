"""Files that are written whole or not at all: as a hidden file in the same folder, which then takes the place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ncode_search.agent.errors import InputError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write a file to, which becomes `target` at the end of the ``with``, or is deleted after an error.

    Raises `InputError` where it cannot be written, before the ``with`` begins if that is known then.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder: name a file")
    try:
        new = _hidden_beside(target)
        try:
            yield new
            _publish(new, target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror or error}): name another file") from error


def write_atomically(path: Path, content: bytes) -> None:
    """The whole file or none of it. Raises `InputError` where it cannot be written."""
    with replacing(path) as new:
        new.write_bytes(content)


def _hidden_beside(target: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    return Path(name)


def _publish(new: Path, target: Path) -> None:
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.chmod(0o666 & ~_umask())  # mkstemp's own is for the owner alone
    os.replace(new, target)


def _umask() -> int:
    """There is no way to read it but to set it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
