"""Read files of samples: JSON Lines, plain or gzip."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

from ncode_search.agent.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"


def read_lines(path: Path) -> list[str]:
    """The whole lines of `path`; one that is still being written, without its line feed, is none."""
    data = _read(path)
    try:
        text = gzip.decompress(data) if data[:2] == _GZIP_MAGIC else data
        return text[: text.rfind(b"\n") + 1].decode().split("\n")[:-1]
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}): write it again with ncode ranker data") from error


def digest_of(path: Path) -> str:
    """SHA-256 of the file, in hexadecimal."""
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a file of ncode ranker data") from error
