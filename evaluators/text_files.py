"""Texts of the user's: CSV, JSON Lines or plain text, read into memory. Nothing is downloaded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncode_search.evaluators.base import EvaluatorError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt")


@dataclass(frozen=True)
class Row:
    """A row of a file."""

    where: str
    """The file and the line, for errors."""
    fields: dict[str, Any]

    def text(self, key: str) -> str:
        """A field that is text and not empty; raises `EvaluatorError` for another."""
        value = self.fields.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if key in self.fields:
            raise EvaluatorError(f"[evaluator] {self.where}: {key} is {value!r}; it must be text that is not empty")
        raise EvaluatorError(
            f"[evaluator] {self.where}: there is no {key}, only {', '.join(self.fields)}; name another"
        )

    def label(self, key: str) -> str:
        """A field that names a class: text, or a whole number; raises `EvaluatorError` for another."""
        value = self.fields.get(key)
        name = str(value) if type(value) in (int, bool) else self.text(key)
        if name.strip().lower() == "nan":
            raise EvaluatorError(f"[evaluator] {self.where}: {key} is {name}, no class; correct or remove the row")
        return name


def read_parts(folder: Path, **files: str) -> dict[str, list[Row]]:
    """The rows of several files by the keys of ``[evaluator]`` that name them, but for a ``test`` left empty; see
    `read_rows`.
    """
    return {key: read_rows(key, name, folder) for key, name in files.items() if name or key != "test"}


def read_rows(key: str, name: str, folder: Path) -> list[Row]:
    """Read a file.

    Args:
        key: The key of ``[evaluator]`` that names it.
        name: The file, relative to `folder`. A ``.txt`` becomes one row whose field ``text`` is all of it.

    Raises:
        EvaluatorError: for a file that is missing, empty, or not what its name says.
    """
    if not name:
        raise EvaluatorError(f'[evaluator] {key} = "" names no file; name one that ends in {", ".join(SUFFIXES)}')
    file = folder / Path(name).expanduser()
    if file.suffix not in SUFFIXES:
        raise EvaluatorError(f'[evaluator] {key} = "{name}": its name must end in {", ".join(SUFFIXES)}')
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = list(_parse(f"{key} = {name}", file.suffix, text))
    except OSError as error:
        raise EvaluatorError(
            f'[evaluator] {key} = "{name}": cannot read {file} ({error.strerror}); correct it'
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluatorError(f'[evaluator] {key} = "{name}": {file} cannot be read ({error}); repair it') from error
    if not rows:
        raise EvaluatorError(f'[evaluator] {key} = "{name}": {file} has no rows; give some')
    return rows


def _parse(where: str, suffix: str, text: str) -> Iterator[Row]:
    if suffix == ".txt":
        if text.strip():
            yield Row(where, {"text": text})
    elif suffix == ".jsonl":
        yield from _json_lines(where, text)
    else:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",", strict=True)
        for fields in reader:
            yield Row(f"{where}, line {reader.line_num}", _checked(f"{where}, line {reader.line_num}", fields))


def _checked(where: str, fields: dict[Any, Any]) -> dict[str, Any]:
    """The fields, unless there are more or less than the header names."""
    if None in fields or None in fields.values():
        raise EvaluatorError(f"[evaluator] {where}: not as many fields as the header; repair it")
    return fields


def _json_lines(where: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise EvaluatorError(f"[evaluator] {where}, line {number}: no JSON ({error}); repair it") from error
        if not isinstance(fields, dict):
            raise EvaluatorError(f"[evaluator] {where}, line {number}: no JSON object; give one a line")
        yield Row(f"{where}, line {number}", fields)
