"""Waiting with a limit.

`asyncio.wait_for` of Python < 3.12 swallows a cancellation that arrives together with the result, and a loop that
waits in it then cannot be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float | None, coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. Raises `asyncio.TimeoutError` where it takes longer, and cancels it then; None: no
    limit.
    """
    if seconds is None:
        return await coroutine
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()
