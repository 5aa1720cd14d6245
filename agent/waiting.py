"""Waiting with a limit.

A limit counts the seconds in which this process ran. Where it was stopped, or the machine slept, those whom it waits
for were stopped as well, and get the rest of their time afterwards.

`asyncio.wait_for` of Python < 3.12 swallows a cancellation that arrives together with the result, and a loop that
waits in it then cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

HURRY = 2.0
"""Seconds that a thread gets to end of those that somebody gave who waits for the whole process to end."""

STEP = 0.25
"""Seconds between two looks at the clock; of a longer pause, twice as much is counted."""


class AwakeClock:
    """Seconds in which this process ran, if it is asked every `step` seconds."""

    def __init__(self, step: float = STEP) -> None:
        self._most = 2 * step
        self._last = time.monotonic()
        self.missed = 0.0
        """Seconds that the last answer left out."""

    def tick(self) -> float:
        """Seconds since the last tick."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        self.missed = max(passed - self._most, 0.0)
        return passed - self.missed


async def within(
    seconds: float | None,
    coroutine: Coroutine[Any, Any, T],
    *,
    unless: Callable[[], bool] = lambda: False,
    stands: Callable[[], bool] = lambda: False,
) -> T:
    """The coroutine's result. Raises `asyncio.TimeoutError` where it takes longer, and cancels it then; None: no
    limit. From when on `unless` is true, there is none either. While `stands` is true, no time passes.
    """
    if seconds is None:
        return await coroutine
    task, clock, left = asyncio.ensure_future(coroutine), AwakeClock(), seconds
    try:
        while not task.done() and (left > 0 or unless()):
            stood = stands()
            await asyncio.wait([task], timeout=STEP if stood or left <= 0 else min(STEP, left))
            passed = clock.tick()
            if not (stood or stands()):
                left -= passed
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()


async def until_passed(obstacle: type[Exception], step: Callable[[], Awaitable[T]], limit: float) -> T:
    """What `step` comes to; where it raises `obstacle`, it is tried again, for `limit` seconds."""
    give_up = time.monotonic() + limit
    while True:
        try:
            return await step()
        except obstacle:
            if time.monotonic() >= give_up:
                raise
        await asyncio.sleep(STEP)


def wait_for_thread(thread: threading.Thread, limit: float, is_hurried: Callable[[], bool]) -> None:
    """Until the thread has ended, or for `limit` seconds; from when on `is_hurried` is true, for `HURRY` seconds."""
    give_up = time.monotonic() + limit
    while thread.is_alive() and time.monotonic() < give_up:
        thread.join(STEP / 5)
        if is_hurried():
            give_up, is_hurried = min(give_up, time.monotonic() + HURRY), lambda: False
