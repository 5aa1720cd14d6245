"""Signals as calls in an event loop, and what they ask of a run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

TERM_GRACE = 5.0
"""Seconds that trials have to finish after SIGTERM or SIGHUP: service managers kill what is not gone soon."""


@contextlib.contextmanager
def handling_signals(interrupt: Callable[[int], None]) -> Iterator[None]:
    """Calls `interrupt` on SIGINT, SIGTERM and SIGHUP, but not where that is ignored, as `nohup` has it; only the main
    thread's event loop can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class Interruption:
    """The first signal lets a run end, or cuts off what comes before its trials; the second cuts it off. What comes
    when it is over is counted only: nothing may tear down the cleaning up.
    """

    def __init__(self, cut_off: Callable[[], None] = lambda: None) -> None:
        self.signals = 0
        """How many were heard, the end of SIGTERM's time among them."""
        self._cut_off = cut_off
        self._let_end: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    @property
    def is_asked(self) -> bool:
        """Whether anything was heard."""
        return self.signals > 0

    def can_end_by(self, let_end: Callable[[], None]) -> None:
        """From now on, the first signal calls this."""
        self._let_end = let_end

    def over(self) -> None:
        """Nothing is left to be cut off."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def heard(self, number: int) -> None:
        """A signal came."""
        self.signals += 1
        if self._is_over or self.signals > 2:
            return
        if self.signals == 2 or self._let_end is None:
            self._cut_off()
        else:
            self._give_time(number)
            self._let_end()

    def _give_time(self, number: int) -> None:
        if number == signal.SIGINT:
            logger.warning("stopping: trials under way are finished first; once more to stop at once")
            return
        logger.warning("stopping: trials under way have %g s to finish, then they wait again", TERM_GRACE)
        self._timer = asyncio.get_running_loop().call_later(TERM_GRACE, self.heard, number)
