"""Texts are read as they are, and what is wrong with a file is one line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.text_files import read_parts, read_rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, ""two""\nthree",4\n'),
        ("a.tsv", 'text\tlabel\n"one, ""two""\nthree"\t4\n'),
        ("a.jsonl", '\n{"text": "one, \\"two\\"\\nthree", "label": 4}\n\n'),
    ],
)
def test_reads_rows(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    (row,) = read_rows("train", name, tmp_path)
    assert row.text("text") == 'one, "two"\nthree'
    assert row.label("label") == "4"


def test_reads_a_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    (row,) = read_rows("train", "a.txt", tmp_path)
    assert row.fields == {"text": "one\n\ntwo"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": 1', "train = a.jsonl, line 2: no JSON ("),
        ("a.jsonl", b"[1]", "train = a.jsonl, line 1: no JSON object; give one a line"),
        ("a.jsonl", b"\n", "a.jsonl has no rows; give some"),
        ("a.txt", b" \n", "a.txt has no rows; give some"),
        ("a.csv", b"text,label\n", "a.csv has no rows; give some"),
        ("a.csv", b"text,label\na\n", "train = a.csv, line 2: not as many fields as the header; repair it"),
        ("a.csv", b"text,label\na,b,c\n", "train = a.csv, line 2: not as many fields as the header; repair it"),
        ("a.csv", b'text,label\n"a\n', "a.csv cannot be read (unexpected end of data); repair it"),
        (
            "a.csv",
            b"text,label,text\na,b,c\n",
            "train = a.csv, line 1: the header names text more than once; rename or remove a column",
        ),
        ("a.csv", b"text\n\xff\n", "a.csv cannot be read ("),
    ],
)
def test_refuses_a_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvaluatorError) as error:
        read_rows("train", name, tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cell_may_be_a_book_and_columns_may_have_no_name(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f"text,,\n{'a' * (usual + 1)},,\n")
    (row,) = read_rows("train", "a.csv", tmp_path)
    assert len(row.text("text")) == usual + 1
    assert csv.field_size_limit() == usual, "it is the whole process's"


def test_refuses_half_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\ude00"}\n{"text": "a\\ud83d"}\n')
    whole, half = read_rows("train", "a.jsonl", tmp_path)
    assert whole.text("text") == "\U0001f600"
    with pytest.raises(EvaluatorError) as error:
        half.text("text")
    said = r"[evaluator] train = a.jsonl, line 2: text has \ud83d, half of a character without the other; repair it"
    assert str(error.value) == said


@pytest.mark.parametrize("empty", ["train", "val"])
def test_only_a_test_may_be_left_empty(tmp_path: Path, empty: str) -> None:
    (tmp_path / "a.txt").write_text("one")
    files = {"train": "a.txt", "val": "a.txt", "test": ""}
    assert list(read_parts(tmp_path, **files)) == ["train", "val"]
    with pytest.raises(EvaluatorError) as error:
        read_parts(tmp_path, **{**files, empty: ""})
    said = f'[evaluator] {empty} = "" names no file; name one that ends in .csv, .tsv, .jsonl, .txt'
    assert str(error.value) == said
