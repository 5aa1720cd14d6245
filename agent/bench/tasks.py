"""What is searched: a table with one of its metrics, and what it says of the codes that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Codes
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.space import SearchSpace

MISSING = -1
"""The row of a code that the table does not have: its trial fails."""


@dataclass(frozen=True)
class Task:
    """One metric of one table. Can be pickled, unlike the space in it, and so be sent to other processes."""

    name: str
    """The metric that is searched on."""
    table: ScoreTable
    minimize: bool = False
    """Whether the table's own numbers are lower for the better; `ScoreTable.values` never are."""
    reported: str | None = None
    """The metric that is reported, where it is another one."""

    def row_of(self, code: NDArray[np.uint8]) -> int:
        """The row of one code, shape ``(L,)``, or `MISSING`."""
        return int(self.table.rows_of(code[np.newaxis])[0])

    def class_of(self, row: int) -> int:
        """The row of the canonical code of `row`."""
        return int(self.table.canon[row])

    def canonical(self, codes: Codes) -> Codes:
        """The canonical code of each, shape ``(n, L)``; a code without a row is its own."""
        rows = self.table.rows_of(codes)
        canonical: Codes = np.where((rows == MISSING)[:, np.newaxis], codes, self.table.codes[self.table.canon[rows]])
        return canonical

    @cached_property
    def optimum(self) -> float:
        """The best value of the table, oriented so that higher is better."""
        return float(self.table.values.max())

    @cached_property
    def worst(self) -> float:
        """The worst value of the table."""
        return float(self.table.values.min())

    @property
    def sign(self) -> int:
        """What turns `ScoreTable.values` into the table's own numbers."""
        return -1 if self.minimize else 1

    def __reduce__(self) -> tuple[Callable[..., Task], tuple[Any, ...]]:
        table = self.table
        arrays = (table.codes, table.values, table.report, table.canon)
        return _rebuilt, (table.space.to_json(), arrays, self.name, self.minimize, self.reported)


def read_tasks(
    table: Path,
    metrics: Sequence[str],
    *,
    minimize: bool,
    reports: Sequence[str] = (),
    canon: Path | None = None,
    ordered: Sequence[int] = (),
) -> list[Task]:
    """A task a metric; `reports` has one column for all of them or one for each.

    `ordered`: positions, counted from 0, whose digits stand for rising numbers, such as widths: a table does not say.

    Raises `InputError` for files, columns and codes that cannot be.
    """
    if not metrics:
        raise InputError("--metric is empty; name a column of the table")
    if twice := [name for at, name in enumerate(metrics) if name in metrics[:at]]:
        raise InputError(f"--metric has {twice[0]!r} twice; name each once")
    if len(reports) not in {0, 1, len(metrics)}:
        raise InputError(f"--report has {len(reports)} columns for {len(metrics)} metrics; give one, or one for each")
    columns = [*reports] if len(reports) == len(metrics) else [*reports, None][:1] * len(metrics)
    tasks = []
    for metric, column in zip(metrics, columns, strict=True):
        scores = ScoreTable.read(table, metric, minimize=minimize, report=column, canon=canon)
        tasks.append(Task(metric, _with_order(scores, ordered), minimize, column))
    return tasks


def _with_order(table: ScoreTable, ordered: Sequence[int]) -> ScoreTable:
    """The same table in a space with numbers for options at the `ordered` positions."""
    if wrong := [at for at in ordered if not 0 <= at < len(table.space)]:
        raise InputError(f"--ordered has {wrong[0]}; the table's positions are 0 to {len(table.space) - 1}")
    positions = {
        name: [int(digit) for digit in digits] if at in ordered else digits
        for at, (name, digits) in enumerate(table.space.positions.items())
    }
    return replace(table, space=SearchSpace(positions))


def _rebuilt(space: str, arrays: tuple[Any, ...], name: str, minimize: bool, reported: str | None) -> Task:
    return Task(name, ScoreTable(SearchSpace.from_json(space), *arrays), minimize, reported)
