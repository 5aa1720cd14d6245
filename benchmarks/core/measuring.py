"""Ways take turns, so that a machine that slows down slows all of them; a time is the median of its repetitions."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncode_search import _core


@dataclass(frozen=True)
class Row:
    """A line of a table: a way and its median time in seconds."""

    name: str
    seconds: float


def measure(ways: Mapping[str, Callable[[], object]], repeats: int) -> list[Row]:
    """Run all ways in turn, ``repeats`` times."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return medians(times)


def medians(times: Mapping[str, Iterable[float]]) -> list[Row]:
    return [Row(name, statistics.median(seconds)) for name, seconds in times.items()]


def print_row(row: Row, count: int, comparison: str) -> None:
    print(f"  {row.name:50} {row.seconds * 1e3:9.1f} ms {count / row.seconds / 1e6:8.1f} M codes/s {comparison}")


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}; {platform.system()}; Python {platform.python_version()}; NumPy {np.__version__}; {_core.BUILD}"
