"""``kind = "table"``: look codes up in a CSV of measured scores. For trying searches out in milliseconds a trial."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ncode_search.evaluators.base import Context, EvaluatorError, Result

CODE, CANON = "code", "canon"
"""The column of codes, and that of canonical codes where the table has equal ones."""
CONFIG = "config."
"""How the columns begin that say what a code stands for."""

_GZIP_MAGIC = b"\x1f\x8b"


class UnknownCodeError(LookupError):
    """The table has no row for the code: the trial fails, the search goes on."""


@dataclass(frozen=True)
class Table:
    """A CSV in memory."""

    rows: Mapping[str, int]
    """The row of each code. Codes are text: leading zeros count."""
    columns: Mapping[str, Sequence[float]]
    """The columns of scores that hold numbers only, by name."""
    canon: Mapping[str, str] = field(default_factory=dict)
    """Code to canonical code, where the table has a column of them."""


@dataclass(frozen=True, kw_only=True)
class TableEvaluator:
    """Scores a code by its row of a table. The fields are the TOML keys."""

    reported_metrics: ClassVar[tuple[str, ...]] = ()

    folder: InitVar[Path]

    path: str
    """The CSV, plain or gzip, with a header and a column ``code``; relative to the search file's folder."""
    metric: str
    """The column that is the score. The others that hold only numbers become metrics, but for ``config.NAME``."""

    _table: Table = field(init=False, repr=False, compare=False)

    def __post_init__(self, folder: Path) -> None:
        try:
            table = read_table(folder / self.path, self.metric)
        except EvaluatorError as error:
            key = "" if str(error).startswith("metric = ") else "path: "
            raise EvaluatorError(f"[evaluator] {key}{error}") from error
        object.__setattr__(self, "_table", table)

    def check_space(self, space: Mapping[str, Sequence[Any]]) -> None:
        """Refuse a space whose codes cannot be those of the table: a code has one character a position."""
        lengths = {len(code) for code in self._table.rows}
        if len(space) not in lengths:
            raise EvaluatorError(
                f"[evaluator] path: the codes of {self.path} have {_listed(map(str, sorted(lengths)))} positions, "
                f"[space] has {len(space)}; name as many positions, in the table's order"
            )

    def __call__(self, config: Mapping[str, Any], context: Context) -> Result:
        """The row of ``context.code``.

        Raises:
            UnknownCodeError: when there is none.
        """
        row = self._table.rows.get(context.code)
        if row is None:
            raise UnknownCodeError(f"code {context.code} is not among the {len(self._table.rows):,} of {self.path}")
        values = {name: column[row] for name, column in self._table.columns.items()}
        return Result(values.pop(self.metric), values)


def read_table(file: Path, metric: str) -> Table:
    """Read and check a table; 60,000 rows take a quarter of a second.

    Raises:
        EvaluatorError: for a file that cannot be read or is no such table, for a missing column, a repeated code or
            a score that is not a number.
    """
    header, rows = _read_csv(file)
    _check_header(file, header, metric)
    texts = dict(zip(header, zip(*rows, strict=True), strict=True))
    codes = texts.pop(CODE)
    scores = {name: column for name, column in texts.items() if _is_score(name)}
    columns = {name: numbers for name, column in scores.items() if (numbers := _numbers(column)) is not None}
    _check_codes(file, codes)
    if metric not in columns:
        _raise_not_a_number(file, metric, codes, texts[metric])
    canon = dict(zip(codes, texts.get(CANON, ()), strict=False))
    return Table({code: row for row, code in enumerate(codes)}, columns, canon)


def read_canon(file: Path) -> dict[str, str]:
    """Code to canonical code, from a CSV with the columns ``code`` and ``canon``.

    Raises:
        EvaluatorError: for a file that cannot be read or lacks a column.
    """
    header, rows = _read_csv(file)
    if not {CODE, CANON} <= set(header):
        raise EvaluatorError(f"{file} needs the columns code and canon; it has {_listed(header)}")
    code, canon = header.index(CODE), header.index(CANON)
    return {row[code]: row[canon] for row in rows}


def _read_csv(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        raw = file.read_bytes()
        data = gzip.decompress(raw) if raw.startswith(_GZIP_MAGIC) else raw
        lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise EvaluatorError(
            f"{file} is not a CSV, plain or gzip ({error}); give one with a header and a column code"
        ) from error
    except OSError as error:
        raise EvaluatorError(f"cannot read {file} ({error.strerror}); correct it") from error
    rows = [line for line in lines if line]
    if len(rows) < 2:
        raise EvaluatorError(f"{file} has no rows; give a CSV with a header and a row a code")
    _check_widths(file, lines)
    return rows[0], rows[1:]


def _check_widths(file: Path, lines: list[list[str]]) -> None:
    width = next(len(line) for line in lines if line)
    for number, line in enumerate(lines, start=1):
        if line and len(line) != width:
            raise EvaluatorError(f"row {number} of {file} has {len(line)} fields, the header {width}; repair it")


def _check_header(file: Path, header: list[str], metric: str) -> None:
    repeated = [name for name, times in Counter(header).items() if times > 1]
    if repeated:
        raise EvaluatorError(f"{file} repeats the column {_listed(repeated)}; rename it")
    if CODE not in header:
        raise EvaluatorError(f"{file} has no column code, only {_listed(header)}; add or rename it")
    scores = [name for name in header if _is_score(name)]
    if metric not in scores:
        raise EvaluatorError(f'metric = "{metric}": {file} has no such column; it has {_listed(scores)}')


def _is_score(column: str) -> bool:
    return column not in (CODE, CANON) and not column.startswith(CONFIG)


def _check_codes(file: Path, codes: Sequence[str]) -> None:
    repeated = [code for code, times in Counter(codes).items() if times > 1]
    if repeated:
        raise EvaluatorError(f"{file} repeats {len(repeated)} codes ({_listed(repeated)}); keep one row a code")


def _numbers(column: Sequence[str]) -> list[float] | None:
    """The column as finite numbers, or None if it holds something else."""
    try:
        numbers = list(map(float, column))
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _raise_not_a_number(file: Path, metric: str, codes: Sequence[str], column: Sequence[str]) -> None:
    code, text = next((code, text) for code, text in zip(codes, column, strict=True) if _numbers([text]) is None)
    raise EvaluatorError(
        f'metric = "{metric}": {file} has {text!r} for code {code}; give a finite number or drop the row'
    )


def _listed(names: Any, most: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
