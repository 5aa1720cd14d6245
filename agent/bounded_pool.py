"""`asyncio_pool.AioPool` with its sharp edges fenced off.

Its `spawn` swallows cancellation while it waits for room, its callbacks can hang it, and leaving its ``async with``
waits for every sibling even after an error. So: `spawn_n` only, under a bound of our own, results read from the
futures, an explicit `cancel`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from asyncio_pool import AioPool


class BoundedPool:
    """At most `size` coroutines at a time. `changed` is called whenever one ends."""

    def __init__(self, size: int, changed: Callable[[], None]) -> None:
        self._pool = AioPool(size=size)
        self._size = size
        self._futures: set[asyncio.Future[Any]] = set()
        self._changed = changed
        self._error: BaseException | None = None

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._futures)

    @property
    def has_room(self) -> bool:
        """Whether one more may be spawned."""
        return len(self) < self._size

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine at once. Raises `RuntimeError` where there is no room."""
        if not self.has_room:
            coroutine.close()
            raise RuntimeError(f"all {self._size} places are taken")
        future = self._pool.spawn_n(coroutine)
        self._futures.add(future)
        future.add_done_callback(self._done)

    def check(self) -> None:
        """Raises the first exception that one of the coroutines ended with."""
        if self._error is not None:
            raise self._error

    async def cancel(self) -> None:
        """Cancel all that are under way and wait until they have ended."""
        if self._futures:
            await self._pool.cancel()

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._futures.discard(future)
        if not future.cancelled() and self._error is None:
            self._error = future.exception()
        self._changed()
