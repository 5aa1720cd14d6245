"""What evaluations answer, as plain numbers that SQLite and JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ncode_search.evaluators.base import Result

_SAID = "the evaluator returned"


def checked(answer: Any) -> Result:
    """A result with plain numbers. Raises `TypeError` or `ValueError` where the score is no finite number."""
    result = answer if isinstance(answer, Result) else Result(answer)
    value = number(result.value)
    if not math.isfinite(value):
        raise ValueError(f"the evaluator returned {value}, which is no score")
    seconds, memory = result.seconds, result.peak_memory
    if not all(cost is None or 0 <= number(cost, " as a cost") < math.inf for cost in (seconds, memory)):
        raise ValueError(f"the evaluator returned a cost of {seconds} s and {memory} bytes; a cost is zero or more")
    return Result(
        float(value),
        plain(result.metrics),
        None if seconds is None else float(seconds),
        None if memory is None else int(memory),
    )


def plain(metrics: Mapping[str, Any], said: str = _SAID) -> dict[str, float]:
    """The finite ones among the metrics: JSON has no infinity, and a metric beside a score may well be infinite.

    Raises `TypeError` for one that is no number, in a sentence that begins with `said`.
    """
    numbers = {name: number(metric, f" as {name}", said) for name, metric in metrics.items()}
    return {name: found for name, found in numbers.items() if math.isfinite(found)}


def number(value: Any, where: str = "", said: str = _SAID) -> float | int:
    """A plain number of Python's, also from one of NumPy's or torch's. Raises `TypeError` as `plain` does."""
    found = value.item() if hasattr(value, "item") else value
    if isinstance(found, (int, float)):
        return found
    raise TypeError(f"{said} {value!r}{where}, which is no number")
