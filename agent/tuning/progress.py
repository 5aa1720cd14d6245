"""A line on the terminal that says how far a long command is; nothing where standard error is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncode_search.agent.tuning.finetune import Step

_EVERY = 0.5
"""Seconds between two looks of the line."""
_LINE_EVERY = 30.0
"""Seconds between two lines of a training where standard error is no terminal."""


class Progress:
    """Used in a ``with``; called with how much is done."""

    def __init__(self, whole: int, unit: str) -> None:
        self._whole, self._unit = whole, unit
        self._shown = sys.stderr.isatty()
        self._start, self._first, self._last = time.monotonic(), -1, 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._shown and self._last:
            print(file=sys.stderr)

    def __call__(self, done: int) -> None:
        """So much is done."""
        now = time.monotonic()
        if self._first < 0:
            self._start, self._first = now, done
        if not self._shown or (now - self._last < _EVERY and done < self._whole):
            return
        self._last = now
        speed = (done - self._first) / max(now - self._start, 1e-9)
        print(
            f"\r{done:,} of {self._whole:,} {self._unit}, {speed:,.0f} a second ", end="", file=sys.stderr, flush=True
        )


class StepLine:
    """How a training goes: a line that changes on a terminal, elsewhere a new line now and then."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._start, self._last, self._first = time.monotonic(), 0.0, 0

    def __enter__(self) -> StepLine:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live and self._last:
            print(file=sys.stderr)

    def __call__(self, step: Step) -> None:
        """This step was made."""
        now = time.monotonic()
        if not self._last:
            self._start, self._first = now - step.seconds, step.number - 1
        if now - self._last < (_EVERY if self._live else _LINE_EVERY) and step.number < step.steps:
            return
        self._last = now
        left = (now - self._start) / (step.number - self._first) * (step.steps - step.number)
        text = f"step {step.number} of {step.steps}  loss {step.loss:.4f}  rate {step.rate:.2e}"
        text += f"  {step.tokens / step.seconds:,.0f} tokens/s  {left / 60:.0f} min left"
        print(f"\r{text} " if self._live else text, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        if self._live and self._last:
            print(file=sys.stderr)
        print(text, flush=True)
