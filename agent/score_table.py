"""Tables of measured scores: what rankers are judged on, and what they may learn from.

A table is a CSV, plain or gzip, with a column ``code`` and a column a metric; see `evaluators.table`. A second CSV with
the columns ``code`` and ``canon``, or a column ``canon`` of the table itself, may say which codes are the same
architecture: then every code of such a class has the score of its canonical code, also where the table lists the
canonical one only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Codes
from ncode_search.agent.space import SearchSpace
from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.table import read_canon, read_table

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class ScoreTable:
    """A table in memory; n rows of L positions."""

    space: SearchSpace
    """As many options a position as the table has digits there, named by their numbers."""
    codes: Codes
    """Shape ``(n, L)``."""
    values: NDArray[np.float64]
    """What is searched on, shape ``(n,)``, oriented so that higher is better."""
    report: NDArray[np.float64]
    """What is reported, shape ``(n,)``, as it is in the table."""
    canon: Rows
    """The row of each row's canonical code, shape ``(n,)``; its own row where nothing else is known."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_complete(self) -> bool:
        """Every code of the space has a row."""
        return len(self) == self.space.size

    def rows_of(self, codes: Codes) -> Rows:
        """The row of each code, shape ``(m,)``; -1 where the table has none."""
        keys = _keys(codes, self.space)
        at = np.minimum(np.searchsorted(self._sorted_keys, keys), len(self) - 1)
        return np.where(self._sorted_keys[at] == keys, self._order[at], -1)

    @classmethod
    def read(
        cls,
        path: str | Path,
        metric: str,
        *,
        minimize: bool = False,
        report: str | None = None,
        canon: str | Path | None = None,
    ) -> ScoreTable:
        """Read `metric` (and `report`, by default the same column) of a CSV.

        Raises `InputError` for files, columns and codes that cannot be.
        """
        try:
            table = read_table(Path(path), metric)
            if report is not None and report not in table.columns:
                raise EvaluatorError(f"{path} has no column {report!r} of numbers; it has {', '.join(table.columns)}")
            canonical = read_canon(Path(canon)) if canon is not None else table.canon
        except EvaluatorError as error:
            raise InputError(str(error)) from None
        # Some tables list canonical codes only: the others of a class get rows of their own.
        unlisted = [code for code, first in canonical.items() if code not in table.rows and first in table.rows]
        texts = [*table.rows, *unlisted]
        space, codes = _space_of(path, texts)
        rows = np.array([table.rows.get(canonical.get(code, code), at) for at, code in enumerate(texts)], dtype=np.intp)
        values = np.asarray(table.columns[metric], dtype=np.float64)[rows]
        reported = np.asarray(table.columns[report or metric], dtype=np.float64)[rows]
        return cls(space, codes, -values if minimize else values, reported, rows)

    @cached_property
    def _order(self) -> Rows:
        return np.argsort(_keys(self.codes, self.space))

    @cached_property
    def _sorted_keys(self) -> NDArray[np.bytes_]:
        keys: NDArray[np.bytes_] = _keys(self.codes, self.space)[self._order]
        return keys


def _keys(codes: Codes, space: SearchSpace) -> NDArray[np.bytes_]:
    # One up, because NumPy drops zero bytes at the end of a text.
    return np.ascontiguousarray(codes + np.uint8(1)).view(f"S{len(space)}")[:, 0]


def _space_of(path: str | Path, texts: list[str]) -> tuple[SearchSpace, Codes]:
    from ncode_search import _core

    if len({len(text) for text in texts}) != 1:
        raise InputError(f"{path}: its codes differ in length; a table is of one space")
    try:
        codes = _core.Space([_core.MAX_OPTIONS] * len(texts[0])).from_text(texts)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    sizes = codes.max(axis=0).astype(int) + 1
    return SearchSpace({f"p{at}": [str(digit) for digit in range(size)] for at, size in enumerate(sizes)}), codes
