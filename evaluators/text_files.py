"""Texts of the user's: CSV, JSON Lines or plain text, read into memory. Nothing is downloaded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.options import user_path

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
            self._check_characters(key, value)
            return value
        if key in self.fields:
            raise EvaluatorError(f"[evaluator] {self.where}: {key} is {value!r}; it must be text that is not empty")
        raise EvaluatorError(
            f"[evaluator] {self.where}: there is no {key}, only {', '.join(self.fields)}; name another"
        )

    def _check_characters(self, key: str, text: str) -> None:
        """JSON can write halves of characters, which no tokenizer reads."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(text[error.start]):04x}"
            raise EvaluatorError(
                f"[evaluator] {self.where}: {key} has {half}, half of a character without the other; repair it"
            ) from None

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
    file = user_path(name, folder)
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
        yield from _table(where, "\t" if suffix == ".tsv" else ",", text)


def _table(where: str, delimiter: str, text: str) -> Iterator[Row]:
    usual = csv.field_size_limit(len(text) + 1)  # the module's own takes no longer text than 131,072 characters
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        _check_header(where, reader.fieldnames or ())
        for fields in reader:
            yield Row(f"{where}, line {reader.line_num}", _checked(f"{where}, line {reader.line_num}", fields))
    finally:
        csv.field_size_limit(usual)


def _check_header(where: str, names: Sequence[str]) -> None:
    """Refuse a column's name that is there twice, of which only the last would count; unnamed columns may be many."""
    if repeated := [name for name in names if name and names.count(name) > 1]:
        raise EvaluatorError(
            f"[evaluator] {where}, line 1: the header names {repeated[0]} more than once; rename or remove a column"
        )


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
