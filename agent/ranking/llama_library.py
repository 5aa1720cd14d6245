"""llama.cpp, imported late and kept quiet.

Importing llama_cpp takes half a second and brings a logger that prints to the terminal; so it happens here, when a
model is wanted, and the log goes to a short memory instead, for error messages.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

_ERROR_LEVEL = 4
_last_lines: deque[tuple[int, str]] = deque(maxlen=40)
_callbacks: list[Any] = []
"""ctypes does not keep a callback alive by itself."""


@cache
def llama() -> Any:
    """The module `llama_cpp`, its log redirected and its backend ready. Untyped: it is made of ctypes."""
    with _waiting_asleep():
        import llama_cpp

    callback = llama_cpp.llama_log_callback(_remember)
    _callbacks.append(callback)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


def forget_log() -> None:
    """Start a new story: what was logged until now explains nothing that follows."""
    _last_lines.clear()


def last_words() -> str:
    """What llama.cpp said last, on one line: its errors where there are any, else its last line."""
    lines = list(_last_lines)
    errors = [text for level, text in lines if level == _ERROR_LEVEL]
    chosen = errors[-2:] or [text for _, text in lines[-1:]]
    return "; ".join(dict.fromkeys(chosen)) or "llama.cpp did not say why"


def llama_version() -> str:
    """Version of llama-cpp-python, read without importing it."""
    return version("llama-cpp-python")


def physical_cores() -> int:
    """Cores this process may use, hyper-threads of one core counted once; llama.cpp gains nothing from the second."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS
        return max(os.cpu_count() or 1, 1)
    try:
        return len({_core(cpu) for cpu in allowed})
    except OSError:  # no /sys in some containers
        return len(allowed)


@contextmanager
def _waiting_asleep() -> Iterator[None]:
    """Have OpenMP's threads, which read their settings when the library is loaded, wait for each other asleep.

    By default they spin, which on cores that trainings share with the ranker costs both sides: decisions took 1.5 to
    2.5 times as long. The variable is taken back afterwards, since processes started later inherit the environment.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        yield
    finally:
        del os.environ["OMP_WAIT_POLICY"]


def _core(cpu: int) -> tuple[str, str]:
    folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    return (folder / "physical_package_id").read_text(), (folder / "core_id").read_text()


def _remember(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode(errors="replace").strip()
    if line and line != ".":
        _last_lines.append((level, line))
