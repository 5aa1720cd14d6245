"""Times, sizes and errors as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in words: ``45 s``, ``12 min``, ``5.2 h``, ``3.1 days``."""
    for unit, length in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes in words: ``120 MB``, ``7.5 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def last_line(error: str | None) -> str:
    """Of an error, such as a traceback, the line that tells most."""
    lines = (error or "").strip().splitlines()
    return lines[-1] if lines else "no reason"
